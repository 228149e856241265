"""The log-mel of a clip as fast as a CPU gives it, on all cores.

PyTorch's own threads wait for their next work by spinning, for milliseconds in which the core isn't there for an
engine's threads, while MobileNetV1 takes three of them for 10 s of sound. Here Python's threads share the frames, which
a compiled kernel computes; and those that PyTorch has from earlier work are sent away.
"""

import ctypes
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch

from pannslib.features import POWER_FLOOR, LogMel, check_waveform
from pannslib.inference import mel_kernel

FRAMES = 2 * mel_kernel.LANES  # that a thread takes at a time


class ParallelLogMel:
    """What a `features.LogMel` gives, but for float32 rounding, on as many threads as PyTorch has.

    Waveform float32 (batch, samples) -> log-mel float32 (batch, 1, frames, mel_bins) in dB, both NumPy.

    Args:
        log_mel: the module; one whose window the kernel doesn't have (`mel_kernel.can_take`) computes itself.
    """

    def __init__(self, log_mel: LogMel):
        self.log_mel, self.front_end, self.tables = log_mel, log_mel.front_end, None
        if mel_kernel.can_take(self.front_end.window):
            self.tables = mel_kernel.tables_of(log_mel.window.numpy(), log_mel.mel.numpy())

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(waveform)
        check_waveform(given, self.front_end.least_samples)
        _send_threads_away()
        if self.tables is None:
            with torch.inference_mode():
                return self.log_mel(given).numpy()
        clips, samples = waveform.shape
        log_mel = np.empty((clips, 1, self.front_end.frames(samples), self.front_end.mel_bins), np.float32)
        parts = [(clip, start) for clip in range(clips) for start in range(0, log_mel.shape[2], FRAMES)]
        threads = torch.get_num_threads()
        others = [_pool(threads).submit(self._work, waveform, log_mel, parts) for _ in parts[1:threads]]
        self._work(waveform, log_mel, parts)
        for other in others:
            # whoever hasn't begun by now finds nothing left, and in a forked process would never begin
            if not other.cancel():
                other.result()
        return log_mel

    def _work(self, waveform: np.ndarray, log_mel: np.ndarray, parts: list[tuple[int, int]]) -> None:
        """Compute parts until none is left."""
        while True:
            try:
                clip, start = parts.pop()  # one thread at a time: a list is safe
            except IndexError:
                return
            stop = min(start + FRAMES, log_mel.shape[2])
            mel_kernel.mel_power(waveform[clip], log_mel[clip, 0], start, stop, self.front_end.hop, self.tables)
            part = log_mel[clip, 0, start:stop]
            np.log10(np.maximum(part, POWER_FLOOR, out=part), out=part)
            part *= 10


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads beside the caller's."""
    return ThreadPoolExecutor(max(1, threads - 1), "log-mel")


# found where PyTorch has loaded OpenMP for all to see, as it does on Linux
_pause = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)


def _send_threads_away() -> None:
    """End the threads that PyTorch has for the caller; OpenMP makes new ones when they are needed (0.1 ms)."""
    if _pause:
        _pause(1)  # softly: what the threads hold is kept
