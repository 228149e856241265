"""The log-mel of a clip as fast as a CPU gives it, on all cores.

PyTorch's own threads wait for their next work by spinning, for milliseconds in which the core isn't there for an
engine's threads, while MobileNetV1 takes three of them for 10 s of sound. Here Python's threads share the frames, which
a compiled kernel computes; and those that PyTorch has from earlier work are sent away. The kernel takes half a second
to load, and some seconds when it is compiled for a machine, so that it comes with the second call: who tags one clip
has no use for it. It takes 130 MiB and saves 1 ms of 10 s of sound, which a large network wouldn't be noticed to lack.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from pannslib.features import POWER_FLOOR, LogMel, check_waveform
from pannslib.inference.threads import in_parallel

FRAMES = 128  # that a thread takes at a time: two blocks of the kernel


class ParallelLogMel:
    """What a `features.LogMel` gives, but for float32 rounding, on as many threads as PyTorch has.

    Waveform float32 (batch, samples) -> log-mel float32 (batch, 1, frames, mel_bins) in dB, both NumPy.

    Args:
        log_mel: the module, which computes the first call, and all where the kernel doesn't have its window.
        compiled: whether the kernel is to come with the second call.
    """

    def __init__(self, log_mel: LogMel, compiled: bool = True):
        self.log_mel, self.front_end, self.compiled = log_mel, log_mel.front_end, compiled
        self.calls, self.kernel = 0, None

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(waveform)
        check_waveform(given, self.front_end.least_samples)
        self.calls += 1
        if self.calls == 2 and self.compiled:
            self.kernel = self._load_kernel()
        if self.kernel is None:
            with torch.inference_mode():
                log_mel = self.log_mel(given).numpy()
            _send_threads_away()
            return log_mel
        _send_threads_away()
        clips, samples = waveform.shape
        log_mel = np.empty((clips, 1, self.front_end.frames(samples), self.front_end.mel_bins), np.float32)
        parts = [(clip, start) for clip in range(clips) for start in range(0, log_mel.shape[2], FRAMES)]
        in_parallel(partial(self._work, waveform, log_mel), parts, torch.get_num_threads())
        return log_mel

    def _load_kernel(self) -> Callable | None:
        """`mel_kernel.mel_power` with its tables, where it has the window."""
        from pannslib.inference import mel_kernel

        if not mel_kernel.can_take(self.front_end.window):
            return None
        tables = mel_kernel.tables_of(self.log_mel.window.numpy(), self.log_mel.mel.numpy())
        return partial(mel_kernel.mel_power, hop=self.front_end.hop, tables=tables)

    def _work(self, waveform: np.ndarray, log_mel: np.ndarray, clip: int, start: int) -> None:
        """Compute `FRAMES` frames of a clip."""
        stop = min(start + FRAMES, log_mel.shape[2])
        self.kernel(waveform[clip], log_mel[clip, 0], start, stop)
        part = log_mel[clip, 0, start:stop]
        np.log10(np.maximum(part, POWER_FLOOR, out=part), out=part)
        part *= 10


# found where PyTorch has loaded OpenMP for all to see, as it does on Linux
_pause = None if sys.platform == "win32" else getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)


def _send_threads_away() -> None:
    """End the threads that PyTorch has for the caller; OpenMP makes new ones when they are needed (0.1 ms)."""
    if _pause:
        _pause(1)  # softly: what the threads hold is kept
