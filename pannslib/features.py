"""From a waveform to a log-mel spectrogram, and what is done to it in training: SpecAugment and mixup.

Paper, section VI-A (settings), IV-B1 (mixup) and IV-B2 (SpecAugment). What the text leaves open is the authors'
public code's: a periodic Hann window (the text says Hamming), mel filters on Slaney's scale with area
normalisation, 10 log10(max(power, 1e-10)), and the number and widths of SpecAugment's stripes.

Shapes: waveform float32 (batch, samples) in [-1, 1]; log-mel float32 (batch, 1, frames, mel_bins) in dB, with
frames = samples // hop + 1.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.errors import ModelError

POWER_FLOOR = 1e-10  # of full scale squared: silence is -100 dB
METHODS = ("fft", "conv")


@dataclass(frozen=True)
class FrontEnd:
    """The settings of a log-mel spectrogram.

    Raises:
        ModelError: a setting out of range, or a mel bin so narrow that no frequency of the FFT falls into it.
    """

    sample_rate: int = 32_000  # Hz
    window: int = 1024  # samples; also the length of the FFT
    hop: int = 320  # samples between frames
    mel_bins: int = 64
    fmin: float = 50  # Hz, lower edge of the lowest mel bin
    fmax: float = 14_000  # Hz, upper edge of the highest mel bin

    def __post_init__(self):
        for name, least in (("sample_rate", 1), ("window", 2), ("hop", 1), ("mel_bins", 1)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or value < least:
                raise ModelError(f"Front end: {name} is {value!r}; it must be a whole number of {least} or more.")
        if self.window % 2:
            raise ModelError(f"Front end: window is {self.window}; it must be an even number of samples.")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ModelError(
                f"Front end: fmin is {self.fmin} and fmax is {self.fmax} Hz; 0 <= fmin < fmax <= "
                f"{self.sample_rate / 2:g} Hz is allowed, half of the sample rate {self.sample_rate}."
            )

    def frames(self, samples: int) -> int:
        """How many frames a clip of so many samples has; the first and the last are centred on its ends."""
        return samples // self.hop + 1

    @property
    def least_samples(self) -> int:
        """The shortest clip whose ends can be reflected by half a window."""
        return self.window // 2 + 1


# the published settings: window 32 ms, hop 10 ms (section VI-A; 16 and 8 kHz: VI-C8 and the authors' code)
FRONT_ENDS = {
    32_000: FrontEnd(),
    16_000: FrontEnd(sample_rate=16_000, window=512, hop=160, fmax=8_000),
    8_000: FrontEnd(sample_rate=8_000, window=256, hop=80, fmax=4_000),
}


# Slaney's scale: linear up to 1 kHz, logarithmic above
HZ_PER_MEL, CORNER_HZ, LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


def _slaney_mel(hz: np.ndarray) -> np.ndarray:
    """Hz -> mel."""
    above = CORNER_HZ / HZ_PER_MEL + np.log(np.maximum(hz, CORNER_HZ) / CORNER_HZ) / LOG_STEP
    return np.where(hz >= CORNER_HZ, above, hz / HZ_PER_MEL)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    """Mel -> Hz."""
    corner = CORNER_HZ / HZ_PER_MEL
    return np.where(mel >= corner, CORNER_HZ * np.exp(LOG_STEP * (mel - corner)), mel * HZ_PER_MEL)


@lru_cache(maxsize=32)
def mel_matrix(front_end: FrontEnd) -> np.ndarray:
    """The mel filters, float32 (window // 2 + 1, mel_bins): Slaney's scale, each filter of area 1.

    The numbers are librosa's (``filters.mel``), whose import would take a second and 200 MiB in every process.

    Raises:
        ModelError: a filter holds no frequency of the FFT, so that its bin would always be silent.
    """
    settings = front_end
    edges = _slaney_hz(np.linspace(*_slaney_mel(np.array([settings.fmin, settings.fmax])), settings.mel_bins + 2))
    frequencies = np.arange(settings.window // 2 + 1) * (settings.sample_rate / settings.window)
    slopes = np.subtract.outer(edges, frequencies)
    widths = np.diff(edges)[:, None]
    rising, falling = -slopes[:-2] / widths[:-1], slopes[2:] / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    weights = (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32).T
    empty = np.flatnonzero(weights.max(axis=0) == 0)
    if len(empty):
        raise ModelError(
            f"Front end: mel bin {empty[0]} of {settings.mel_bins} is narrower than the spacing of the FFT's "
            f"frequencies, {settings.sample_rate / settings.window:g} Hz. Use fewer mel bins or a longer window."
        )
    return np.ascontiguousarray(weights, dtype=np.float32)


def fourier_kernels(window: int) -> np.ndarray:
    """The windowed cosines and sines of torchlibrosa's STFT, float32 (2, window // 2 + 1, window).

    Entry [0, k, n] is w(n) cos(2 pi k n / N) and [1, k, n] is -w(n) sin(2 pi k n / N), with w the periodic Hann
    window; a released checkpoint holds both as ``spectrogram_extractor.stft.conv_real`` and ``conv_imag``.
    """
    n = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / window)
    # k n is reduced modulo N first: cosines of large angles lose digits
    angle = 2 * np.pi * (np.outer(np.arange(window // 2 + 1), n) % window) / window
    return np.stack([hann * np.cos(angle), -hann * np.sin(angle)]).astype(np.float32)


class LogMel(nn.Module):
    """Waveform float32 (batch, samples) -> log-mel float32 (batch, 1, frames, mel_bins) in dB.

    ``method`` is "fft", or "conv" for the convolution with cosines and sines that torchlibrosa makes, whose cost
    the paper counts in Table XII. Both give the same numbers but for float32 rounding. The buffers follow the
    module to a device and are not part of its state dict, since they are known from the settings.

    Raises:
        ModelError: a waveform of another rank or type, an empty batch, or fewer samples than can be reflected.
    """

    def __init__(self, front_end: FrontEnd, method: str = "fft"):
        super().__init__()
        if method not in METHODS:
            raise ModelError(f"Front end: method is {method!r}; it can be {' or '.join(METHODS)}.")
        self.front_end = front_end
        self.method = method
        self.register_buffer("mel", torch.tensor(mel_matrix(front_end)), persistent=False)
        if method == "fft":
            # made on the CPU: on the meta device the function itself loads torch's compiler, two seconds of it
            window = torch.hann_window(front_end.window, periodic=True, device="cpu").numpy()
            self.register_buffer("window", torch.tensor(window), persistent=False)
        else:
            kernels = torch.tensor(fourier_kernels(front_end.window)).flatten(0, 1)[:, None]
            self.register_buffer("kernels", kernels, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        check_waveform(waveform, self.front_end.least_samples)
        # 1e-10 is below what half precision holds: the front end stays in float32 whatever surrounds it
        with _float32(waveform):
            power = self._power(waveform.float())  # (batch, frames, window // 2 + 1)
            return decibels(power @ self.mel)

    def _power(self, waveform: Tensor) -> Tensor:
        """The power spectrogram (batch, frames, window // 2 + 1), not scaled."""
        window, hop = self.front_end.window, self.front_end.hop
        if self.method == "fft":
            spectrum = torch.stft(
                waveform,
                window,
                hop,
                window=self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            ).transpose(1, 2)
            return spectrum.real.square() + spectrum.imag.square()
        padded = F.pad(waveform[:, None], (window // 2, window // 2), mode="reflect")
        real, imaginary = F.conv1d(padded, self.kernels, stride=hop).chunk(2, dim=1)
        return (real.square() + imaginary.square()).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"{self.front_end}, method={self.method!r}"


def decibels(mel: Tensor) -> Tensor:
    """The power in each mel bin (batch, frames, mel_bins) -> log-mel (batch, 1, frames, mel_bins) in dB."""
    return 10 * torch.log10(mel.clamp(min=POWER_FLOOR))[:, None]


def _float32(waveform: Tensor):
    """A context without autocast on the waveform's device; the meta device has none to switch off."""
    return nullcontext() if waveform.is_meta else torch.autocast(waveform.device.type, enabled=False)


def check_waveform(waveform: Tensor, least_samples: int, sample_rate: int | None = None) -> None:
    """Raise `ModelError` unless ``waveform`` is float32 (batch, samples) with at least so many samples."""
    if not isinstance(waveform, Tensor):
        raise ModelError(
            f"The waveform is a {type(waveform).__name__}; a model takes a torch.Tensor (batch, samples): "
            "torch.from_numpy(array)[None] makes one of a single clip."
        )
    shape = tuple(waveform.shape)
    if waveform.dtype != torch.float32:
        raise ModelError(
            f"The waveform is {waveform.dtype}; float32 in [-1, 1] is needed. Divide int16 samples by 32768, and "
            "call .float()."
        )
    if len(shape) != 2:
        raise ModelError(f"The waveform's shape is {shape}; (batch, samples) is needed, one channel a clip.")
    if shape[0] == 0:
        raise ModelError("The batch holds no clip; at least one is needed.")
    if shape[1] < least_samples:
        seconds = f" ({least_samples / sample_rate:.3g} s)" if sample_rate else ""
        raise ModelError(
            f"The clips have {shape[1]} samples; at least {least_samples}{seconds} are needed. Pad them with zeros."
        )


def check_finite(clips: Tensor) -> None:
    """Raise `ModelError` if a clip of (batch, ...) holds NaN or infinity.

    Nothing is looked at while a model is compiled, exported or only counted: values aren't known then.
    """
    if torch.compiler.is_compiling() or clips.is_meta:
        return
    finite = torch.isfinite(clips).flatten(1).all(dim=1)
    if not finite.all():
        clip = int((~finite).nonzero()[0, 0])
        raise ModelError(f"Clip {clip} of the batch holds NaN or infinity; look for a damaged recording.")


class SpecAugment(nn.Module):
    """Sets random stripes of a spectrogram (batch, channels, frames, bins) to 0, in training mode alone.

    Section IV-B2 of the paper; the authors' code has two stripes of up to 64 frames and two of up to 8 of 64 bins.
    Each clip has its own stripes. A stripe's width is uniform on 0 ... max_width - 1, its start on 0 ... length -
    width - 1, so that as in the authors' code the last frame and bin are never masked. Where the spectrogram is
    narrower than ``max_width`` its own width takes that place.

    Args:
        frames: max_width in time, frames.
        bins: max_width in frequency, mel bins.
        stripes: how many of either kind.
        full_length: frames of the clips that ``frames`` is meant for; shorter ones get narrower stripes in
            proportion. None: all get the same.
    """

    def __init__(self, frames: int = 64, bins: int = 8, stripes: int = 2, full_length: int | None = None):
        super().__init__()
        self.frames, self.bins, self.stripes, self.full_length = frames, bins, stripes, full_length

    def forward(self, spectrogram: Tensor) -> Tensor:
        if not self.training:
            return spectrogram
        length = spectrogram.shape[2]
        share = min(1.0, length / self.full_length) if self.full_length else 1.0
        in_time = self._striped(spectrogram, length, max(1, round(share * self.frames)))[:, None, :, None]
        in_frequency = self._striped(spectrogram, spectrogram.shape[3], self.bins)[:, None, None, :]
        return spectrogram.masked_fill(in_time | in_frequency, 0)

    def _striped(self, spectrogram: Tensor, length: int, max_width: int) -> Tensor:
        """Which positions of an axis are in a stripe, bool (batch, length)."""
        shape = (spectrogram.shape[0], self.stripes, 1)
        width = (torch.rand(shape, device=spectrogram.device) * min(max_width, length)).floor()
        start = (torch.rand(shape, device=spectrogram.device) * (length - width)).floor()
        position = torch.arange(length, device=spectrogram.device)
        return ((position >= start) & (position < start + width)).any(dim=1)

    def extra_repr(self) -> str:
        return f"frames={self.frames}, bins={self.bins}, stripes={self.stripes}"


def mixup(x: Tensor, mixup_lambda: Tensor) -> Tensor:
    """Mix clips 0 and 1, 2 and 3, ...: section IV-B1 of the paper.

    Args:
        x: (2 * batch, ...): waveforms, log-mels or targets.
        mixup_lambda: (2 * batch,), the share of each clip in its pair, in [0, 1].

    Returns:
        (batch, ...).

    Raises:
        ModelError: an odd number of clips, or another number of shares.
    """
    if len(x) % 2 or mixup_lambda.shape != x.shape[:1]:
        raise ModelError(
            f"mixup got {len(x)} clips and {tuple(mixup_lambda.shape)} shares; it takes an even number of clips and "
            "one share for each."
        )
    weighted = x * mixup_lambda.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return weighted[0::2] + weighted[1::2]
