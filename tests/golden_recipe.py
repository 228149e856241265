"""Weights and clips that anyone can make with NumPy alone, as described in tests/golden/README.md."""

import json
import zlib
from functools import cache
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch

from pannslib.features import FrontEnd, fourier_kernels, mel_matrix

GOLDEN = Path(__file__).parent / "golden"
FRONT_END_PREFIXES = ("spectrogram_extractor.", "logmel_extractor.")
DAMPED = ("bn4", "downsample")  # residual branches whose batch norms are weakened


@cache
def manifest() -> dict:
    """Class name -> configuration, and name, shape, type and kind of each state dict entry."""
    return json.loads((GOLDEN / "state_dict_manifest.json").read_text())


def entries(name: str) -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a class's state dict, in order."""
    return [(entry, tuple(shape)) for entry, shape, _, _ in manifest()[name]["entries"]]


def front_end_entries(name: str) -> dict[str, torch.Tensor]:
    """The entries of a class's state dict that are known from its settings; none where it has no log-mel."""
    config = manifest()[name]["config"]
    keys = ("sample_rate", "window_size", "hop_size", "mel_bins", "fmin", "fmax")
    front_end = FrontEnd(*(config[key] for key in keys))
    if all(entry != "logmel_extractor.melW" for entry, _ in entries(name)):
        return {}
    kernels = torch.tensor(fourier_kernels(front_end.window))
    return {
        "spectrogram_extractor.stft.conv_real.weight": kernels[0, :, None],
        "spectrogram_extractor.stft.conv_imag.weight": kernels[1, :, None],
        "logmel_extractor.melW": torch.tensor(mel_matrix(front_end)),
    }


def state_dict(name: str) -> dict[str, torch.Tensor]:
    """A class's complete state dict by the weight recipe, with the front end's entries."""
    fixed = front_end_entries(name)
    return {
        entry: fixed[entry] if entry in fixed else torch.tensor(weight(entry, shape, bool(fixed)))
        for entry, shape in entries(name)
    }


def weight(entry: str, shape: tuple[int, ...], has_log_mel: bool) -> np.ndarray:
    """One entry of a state dict by rules 1 to 3 of the recipe."""
    if entry.endswith("num_batches_tracked"):
        return np.array(0, dtype=np.int64)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(entry.encode())))
    kind = entry.rsplit(".", 1)[-1]
    if kind == "running_var":
        value = generator.uniform(0.5, 1.5, shape)
        return np.float32(400 * value if has_log_mel and entry.startswith("bn0.") else value)
    z = generator.standard_normal(shape)
    if kind == "running_mean":
        return np.float32(-30 + 3 * z if has_log_mel and entry.startswith("bn0.") else 0.1 * z)
    if kind == "bias":
        return np.float32(0.05 * z)
    if len(shape) == 1:
        damped = entry.startswith("resnet.") or any(part in entry for part in DAMPED)
        return np.float32((1 + 0.1 * z) * (0.62 if damped else 1))
    fan_in = prod(shape[1:])
    if len(shape) == 2:
        return np.float32(0.7 * z / sqrt(fan_in))
    return np.float32(z * sqrt(2 / fan_in) * (3 if entry == "att_block.att.weight" else 1))


@cache
def input_a(rate: int) -> torch.Tensor:
    """Input A: two clips of 10 s, float32 (2, 10 * rate)."""
    samples = 10 * rate
    n = np.arange(samples)
    t, duration = n / rate, samples / rate
    clips = []
    for k, amplitude in enumerate((1, 0.25)):
        noise = np.random.Generator(np.random.PCG64(2000 + k)).standard_normal(samples)
        envelope = 0.5 - 0.5 * np.cos(2 * np.pi * (k + 2) * t / duration)
        f0, f1 = 50 * (k + 1), 0.45 * rate / (k + 1)
        sweep = np.sin(2 * np.pi * (f0 * t + (f1 - f0) * t**2 / (2 * duration)))
        pitch = 220 * (k + 1)
        tone = sum(np.sin(2 * np.pi * i * pitch * t) / i for i in (1, 2, 3)) * (n >= samples / 2)
        clip = amplitude * (0.5 * envelope * sweep + 0.2 * tone + (0.002 + 0.1 * (1 - envelope)) * noise)
        if k == 1:
            clip[60 * samples // 100 : 65 * samples // 100] = 0
        clips.append(np.clip(clip, -1, 1).astype(np.float32))
    return torch.from_numpy(np.stack(clips))
