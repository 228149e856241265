"""The log-mel of a clip as fast as a CPU gives it.

PyTorch's own threads wait for their next work by spinning, for milliseconds in which the core isn't there for an
engine's threads, while MobileNetV1 takes three of them for 10 s of sound. Here Python's threads share the frames, in
each of which PyTorch has one thread; and those that PyTorch has from earlier work are sent away.
"""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from pannslib.features import LogMel, check_waveform, decibels

FRAMES = 512  # that are computed together: 2 MB an array; with fewer, threads wait for each other between the steps
BANDS = 4  # of neighbouring mel bins; each needs a part of the spectrum only, a quarter of the products in all


class ParallelLogMel:
    """What a `features.LogMel` gives, but for float32 rounding, on as many threads as PyTorch has.

    Waveform float32 (batch, samples) -> log-mel float32 (batch, 1, frames, mel_bins) in dB.

    Args:
        log_mel: the module, by its method "fft".
    """

    def __init__(self, log_mel: LogMel):
        self.front_end, self.window = log_mel.front_end, log_mel.window
        self.bands = []
        for filters in log_mel.mel.chunk(BANDS, dim=1):
            used = filters.any(dim=1).nonzero()
            low, high = int(used[0]), int(used[-1]) + 1
            # each filter twice, for the squares of real and imaginary part, which need not be added up before
            self.bands.append((slice(2 * low, 2 * high), filters[low:high].repeat_interleave(2, dim=0)))
        self.highest = max(part.stop for part, _ in self.bands)

    @torch.inference_mode()
    def __call__(self, waveform: Tensor) -> Tensor:
        check_waveform(waveform, self.front_end.least_samples)
        threads = torch.get_num_threads()
        _send_threads_away()
        torch.set_num_threads(1)
        try:
            return self._log_mel(waveform, threads)
        finally:
            torch.set_num_threads(threads)

    def _log_mel(self, waveform: Tensor, threads: int) -> Tensor:
        half = self.front_end.window // 2
        ends = waveform[:, 1 : half + 1].flip(1), waveform[:, -half - 1 : -1].flip(1)  # reflected
        frames = torch.cat([ends[0], waveform, ends[1]], dim=1).unfold(1, self.front_end.window, self.front_end.hop)
        log_mel = torch.empty(len(waveform), 1, frames.shape[1], self.front_end.mel_bins)
        spans = [slice(start, start + FRAMES) for start in range(0, frames.shape[1], FRAMES)]
        parts = [(slice(clip, clip + 1), part) for clip in range(len(frames)) for part in spans]
        others = [_pool(threads).submit(self._work, frames, log_mel, parts) for _ in range(1, min(threads, len(parts)))]
        self._work(frames, log_mel, parts)
        for other in others:
            # whoever hasn't begun by now finds nothing left, and in a forked process would never begin
            if not other.cancel():
                other.result()
        return log_mel

    @torch.inference_mode()
    def _work(self, frames: Tensor, log_mel: Tensor, parts: list[tuple[slice, slice]]) -> None:
        """Compute parts until none is left."""
        while True:
            try:
                clip, part = parts.pop()  # one thread at a time: a list is safe
            except IndexError:
                return
            spectrum = torch.fft.rfft(frames[clip, part] * self.window)
            squares = torch.view_as_real(spectrum).flatten(2)[..., : self.highest].square()
            mel = torch.cat([squares[..., bins] @ filters for bins, filters in self.bands], dim=2)
            log_mel[clip, :, part] = decibels(mel)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads beside the caller's, in each of which PyTorch has one."""
    return ThreadPoolExecutor(max(1, threads - 1), "log-mel", initializer=torch.set_num_threads, initargs=(1,))


# found where PyTorch has loaded OpenMP for all to see, as it does on Linux
_pause = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)


def _send_threads_away() -> None:
    """End the threads that PyTorch has for the caller; OpenMP makes new ones when they are needed (0.1 ms)."""
    if _pause:
        _pause(1)  # softly: what the threads hold is kept
