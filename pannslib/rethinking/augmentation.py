"""Clips that are faster, slower, higher or lower: the paper's augmentation. Log-mels of clips and of such copies."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from pannslib import audio
from pannslib.datasets import PackedClips
from pannslib.errors import AudioError

# the review of the paper names the two kinds; how far they go is chosen here
SPEEDS = (0.8, 1.25)  # times as fast
SEMITONES = (-2.0, 2.0)


def augment(waveform: np.ndarray, sample_rate: int, seed: int) -> np.ndarray:
    """Stretch a clip in time and shift its pitch, both by chance.

    Args:
        waveform: float32 (samples,) in [-1, 1].
        sample_rate: Hz.
        seed: another one gives another speed of `SPEEDS` (even in its logarithm) and pitch of `SEMITONES`.

    Returns:
        float32 (samples,), as long as before: what is too long is cut, what is too short is padded with zeros.

    Raises:
        AudioError: the waveform isn't a row of finite numbers.
    """
    import librosa

    waveform = np.asarray(waveform, np.float32)
    if waveform.ndim != 1 or not waveform.size or not np.isfinite(waveform).all():
        raise AudioError(f"The waveform is {waveform.shape}; (samples,) of finite numbers in [-1, 1] are needed.")
    generator = np.random.default_rng(seed)
    speed = float(np.exp(generator.uniform(*np.log(SPEEDS))))
    semitones = float(generator.uniform(*SEMITONES))
    # a frame of the phase vocoder must not be longer than the clip
    frame = min(2048, 2 ** int(np.log2(max(len(waveform), 32))))
    # shifting the pitch is stretching and resampling: both at once, with one phase vocoder
    ratio = 2 ** (semitones / 12)
    stretched = librosa.effects.time_stretch(waveform, rate=speed / ratio, n_fft=frame)
    shifted = librosa.resample(stretched, orig_sr=sample_rate * ratio, target_sr=sample_rate, res_type="soxr_hq")
    return audio.fit_length(np.clip(shifted, -1, 1).astype(np.float32), len(waveform))


class Images:
    """The log-mels that ImageNet's networks make their images of, each computed once; clips may have altered copies.

    Item ``row + copy * len(packed.names)`` is a clip's ``copy``; copy 0 is the clip itself.

    Attributes:
        items: how many there are, copies included.
    """

    def __init__(
        self,
        packed: PackedClips,
        model,
        device: torch.device,
        cache_gib: float,
        seconds: float | None = None,
        copies: int = 0,
        seed: int = 0,
    ):
        """Make log-mels by ``model.log_mel`` on ``device``.

        Args:
            cache_gib: log-mels are kept up to this size in all, GiB.
            seconds: how much of each clip is seen, from its beginning; all where it isn't given.
            copies: how many altered copies of a clip there are.
            seed: of the copies.
        """
        self.packed, self.device, self.copies, self.seed = packed, device, copies, seed
        self.front_end = model.log_mel
        whole = packed.waveforms.shape[1]
        self.samples = min(whole, audio.sample_count(seconds, packed.sample_rate)) if seconds else whole
        self.rows = len(packed.names)
        self.items = self.rows * (copies + 1)
        frames, bins = model.front_end.frames(self.samples), model.front_end.mel_bins
        self._keeps = self.items * model.spectrograms * frames * bins * 4 / 2**30 <= cache_gib
        self._kept: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return self.items

    def of(self, rows: np.ndarray) -> np.ndarray:
        """The items of some rows: themselves and all their copies."""
        return np.concatenate([np.asarray(rows) + copy * self.rows for copy in range(self.copies + 1)])

    def targets(self) -> np.ndarray:
        """float32 (items, classes): a copy has its clip's."""
        return np.tile(self.packed.targets.astype(np.float32), (self.copies + 1, 1))

    def _waveform(self, item: int) -> np.ndarray:
        copy, row = divmod(int(item), self.rows)
        waveform = self.packed.read([row])[0]
        if copy:
            # a little more than is seen, so that a faster copy needs no silence at its end
            more = waveform[: int(self.samples * SPEEDS[1]) + 1]
            waveform = augment(more, self.packed.sample_rate, seed=zlib.crc32(f"{self.seed}/{item}".encode()))
        return waveform[: self.samples]

    @torch.no_grad()
    def _log_mels(self, items: list[int]) -> torch.Tensor:
        waveforms = torch.from_numpy(np.stack([self._waveform(item) for item in items])).to(self.device)
        return self.front_end(waveforms)

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        """The input of a network for these items: ``log_mel`` (items, spectrograms, frames, mel_bins)."""
        items = [int(index) for index in indices]
        if not self._keeps:
            return {"log_mel": self._log_mels(items)}
        missing = sorted({item for item in items if item not in self._kept})
        if missing:
            self._kept.update(zip(missing, self._log_mels(missing), strict=True))
        return {"log_mel": torch.stack([self._kept[item] for item in items])}
