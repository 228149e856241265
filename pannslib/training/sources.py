"""What a network is fed with: the clips of a packed data set as its input, log-mels computed once for all runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from pannslib import audio, files, progress
from pannslib.datasets import PackedClips
from pannslib.datasets.disk import reserve, told_of_full_disk
from pannslib.errors import ModelError

BATCH = 64  # clips whose log-mels are computed at once


class ClipSource:
    """The clips of a packed data set as a model's input, on the model's device.

    Where the model takes a log-mel spectrogram alone and all of them fit into ``cache_gib``, they are computed once
    and kept in a file beside the packed data, which all runs with the same front end share through a memory map;
    else the waveforms are read and the model's front end runs each time.
    """

    def __init__(
        self,
        packed: PackedClips,
        model,
        cache_gib: float,
        device: torch.device,
        resampling: str = "resample",
    ):
        """Feed ``model`` with ``packed``.

        Args:
            cache_gib: the most that the log-mels may need, GiB.
            resampling: how clips come to a model's lower sample rate: "resample" (soxr, nothing aliased) or
                "decimate" (every second or fourth sample, as the paper's code does).

        Raises:
            ModelError: the model's sample rate is higher than that of the clips, or "decimate" doesn't divide it.
        """
        self.packed = packed
        self.device = device
        self.rate = model.sample_rate
        self.resampling = resampling
        rest = packed.sample_rate % model.sample_rate if resampling == "decimate" else 0
        if model.sample_rate > packed.sample_rate or rest:
            raise ModelError(
                f"{model.name} hears sound at {model.sample_rate:,} Hz, but the clips are packed at "
                f"{packed.sample_rate:,} Hz"
                + (", which dropping samples can't bring to that." if rest else ".")
                + " Choose an architecture for that rate, such as Cnn14, or resampling: resample."
            )
        self._log_mels = None
        if model.takes_log_mel and self._log_mel_gib(model) <= cache_gib:
            self._log_mels = self._stored(model)
            if device.type != "cpu":
                self._log_mels = torch.from_numpy(np.array(self._log_mels)).to(device)

    @property
    def samples(self) -> int:
        """How long a clip is at the model's rate."""
        return audio.sample_count(self.packed.waveforms.shape[1] / self.packed.sample_rate, self.rate)

    def _log_mel_gib(self, model) -> float:
        return len(self) * math.prod(self._shape(model)) * 4 / 2**30

    def _shape(self, model) -> tuple[int, int, int]:
        """Of a clip's log-mels: (spectrograms, frames, mel_bins)."""
        return model.spectrograms, model.front_end.frames(self.samples), model.front_end.mel_bins

    def _stored(self, model) -> np.ndarray:
        """The log-mels of all clips, float32 (clips, spectrograms, frames, mel_bins), from the file or made into it."""
        key = [self.packed.fingerprint, len(self), self.packed.waveforms.shape[1], self.packed.sample_rate]
        key += [repr(model.front_end), *([model.spectrograms] if model.spectrograms > 1 else [])]
        key += [self.resampling if self.rate != self.packed.sample_rate else ""]
        path = self.packed.path.parent / "log_mels" / f"{self.packed.path.stem}_{files.digest(key)}.npy"
        path.parent.mkdir(exist_ok=True)
        with FileLock(path.parent / f".{path.stem}.lock"):
            if not path.is_file():
                self._make(model, path)
        return np.load(path, mmap_mode="r")

    def _make(self, model, path: Path) -> None:
        """Write the file of the log-mels; the lock on it is held, so what killed processes left of it goes."""
        files.sweep(path)
        needed, kept = len(self) * math.prod(self._shape(model)) * 4, "with cache_gib: 0 no log-mels are kept"
        with told_of_full_disk(path, kept, needed), files.replacing(path) as temporary:
            self._compute(model, temporary)

    @torch.no_grad()
    def _compute(self, model, path: Path) -> None:
        """Write the log-mels of all clips to ``path``, computed by the model's front end on its device."""
        shape = len(self), *self._shape(model)
        with open(path, "wb") as file:
            facts = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, facts | {"shape": shape})
            size = file.tell() + 4 * math.prod(shape)
        reserve(path, size)
        store = np.lib.format.open_memmap(path, "r+")
        bar = progress.bar(len(self), "log-mel", unit="clip")
        for start in range(0, len(self), BATCH):
            rows = np.arange(start, min(start + BATCH, len(self)))
            store[rows] = model.log_mel(self._waveforms(rows)).float().cpu().numpy()
            bar.update(len(rows))
        bar.close()
        store.flush()

    def __len__(self) -> int:
        return len(self.packed.names)

    def _waveforms(self, indices: np.ndarray) -> torch.Tensor:
        if self.rate != self.packed.sample_rate:
            return torch.from_numpy(self._lower_rate(self.packed.read(indices))).to(self.device)
        # half of the bytes travel to the device, and it does the scaling
        return torch.from_numpy(self.packed.read_int16(indices)).to(self.device).float().div_(audio.FULL_SCALE)

    def _lower_rate(self, waveforms: np.ndarray) -> np.ndarray:
        if self.resampling == "decimate":
            return np.ascontiguousarray(waveforms[:, :: self.packed.sample_rate // self.rate])
        return np.stack([audio.resample(clip, self.packed.sample_rate, self.rate) for clip in waveforms])

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """The input of the model for these clips, by the name of its argument (`waveform` or `log_mel`)."""
        if self._log_mels is None:
            return {"waveform": self._waveforms(indices)}
        indices = np.asarray(indices)
        if isinstance(self._log_mels, torch.Tensor):
            return {"log_mel": self._log_mels[torch.from_numpy(indices).to(self.device)]}
        return {"log_mel": torch.from_numpy(self._log_mels[indices])}

    def mean_log_mels(self) -> np.ndarray:
        """The mean over time of each clip's log-mel, float32 (clips, mel_bins), dB; only where they are kept."""
        if self._log_mels is None:
            raise ModelError("the log-mels don't fit into cache_gib; raise it to average them.")
        parts = np.array_split(np.arange(len(self)), math.ceil(len(self) / BATCH))
        return np.concatenate([self.batch(rows)["log_mel"].mean(dim=(1, 2)).cpu().numpy() for rows in parts])
