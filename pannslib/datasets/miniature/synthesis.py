"""The building blocks that every miniature's sounds are made of: sources, envelopes, filters, rooms, files.

All waveforms are float32 of shape `(samples,)`, frequencies in Hz, times in seconds, levels in dB. Whatever is drawn
by chance is drawn from the generator `rng` that a function is given, so that a clip depends on its own seed alone.
Nothing here calls BLAS: its results would depend on the number of threads.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from scipy import fft, signal

TABLE = 8192  # samples in the one period that `harmonic_tone` looks up; a power of two
BLOCK = 256  # samples a block in `modes`


# --- chance -----------------------------------------------------------------------------------------------------


def generator(seed: int, task: str, *key: int) -> np.random.Generator:
    """The random stream of one item of a data set, the same whatever was drawn before for others.

    `key` says which item (split, class, clip, ... as numbers from 0); the number of its parts is the task's choice.
    """
    sequence = np.random.SeedSequence(seed, spawn_key=(zlib.crc32(task.encode()), *key))
    return np.random.Generator(np.random.SFC64(sequence))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high], both positive, uniform on a log scale: right for frequencies, rates and lengths."""
    return float(low * (high / low) ** rng.random())


# --- contours: how something slow moves over a sound -----------------------------------------------------------


def contour(samples: int, *values: float) -> np.ndarray:
    """`values`, equally spaced over the sound and joined by straight lines: `(samples,)` float32."""
    return np.interp(np.arange(samples), np.linspace(0, max(samples - 1, 1), len(values)), values).astype(np.float32)


def wander(rng: np.random.Generator, samples: int, rate: int, speed: float, depth: float) -> np.ndarray:
    """A random curve about 0 of standard deviation `depth` that turns about `speed` times a second: `(samples,)`."""
    points = int(samples / rate * speed) + 2
    return contour(samples, *rng.normal(0.0, depth, points))


def amplitude(decibels: float | np.ndarray) -> float | np.ndarray:
    """dB to a factor."""
    return 10.0 ** (decibels / 20.0)


# --- sources ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _octaves(size: int, rate: int) -> np.ndarray:
    """Distance of each bin of a real FFT of `size` from 1 kHz in octaves; the bin at 0 Hz counts as the first."""
    frequency = np.arange(size // 2 + 1) * (rate / size)
    frequency[0] = frequency[1]
    return np.log2(frequency / 1000.0).astype(np.float32)


def noise(
    rng: np.random.Generator,
    samples: int,
    rate: int,
    tilt: float = 0.0,
    low: float | None = None,
    high: float | None = None,
    peaks: tuple[tuple[float, float, float], ...] = (),
    floor: float | None = None,
) -> np.ndarray:
    """Gaussian noise of RMS 1 with a shaped spectrum.

    `tilt` in dB per octave (0 white, -3 pink, -6 brown); below `low` and above `high` it falls by 24 dB an octave;
    `peaks` are resonances `(Hz, width in octaves, dB)`; nowhere is there less than `floor`, in dB relative to what the
    tilt alone leaves at 1 kHz.
    """
    size = fft.next_fast_len(samples + -samples % 2048, real=True)  # few sizes, so that the axis is mostly cached
    octave = _octaves(size, rate)
    gain = np.float32(tilt) * octave
    if low is not None:
        gain -= 24 * np.maximum(np.float32(np.log2(low / 1000)) - octave, 0)
    if high is not None:
        gain -= 24 * np.maximum(octave - np.float32(np.log2(high / 1000)), 0)
    for centre, width, height in peaks:
        distance = (octave - np.float32(np.log2(centre / 1000))) / np.float32(width)
        gain += np.float32(height) * np.exp(-0.5 * distance**2)
    if floor is not None:
        np.maximum(gain, np.float32(floor), out=gain)
    spectrum = rng.standard_normal(2 * len(octave), dtype=np.float32).view(np.complex64)
    spectrum *= np.exp2(gain * np.float32(np.log2(10) / 20))
    spectrum[0] = 0
    wave = fft.irfft(spectrum, size)[:samples]
    return wave / (root_mean_square(wave) + 1e-12)


def cycles(frequency: float | np.ndarray, samples: int, rate: int, start: float = 0.0) -> np.ndarray:
    """The running phase of a tone of constant or changing frequency, in periods: `(samples,)` float64."""
    if np.ndim(frequency) == 0:
        return start + np.arange(samples) * (float(frequency) / rate)
    return start + np.cumsum(frequency, dtype=np.float64) / rate


def sawtooth(frequency: float | np.ndarray, samples: int, rate: int, start: float = 0.0) -> np.ndarray:
    """How much of each period is over, from 0 to 1: `(samples,)`; not band-limited, so for slow movements only."""
    phase = cycles(frequency, samples, rate, start)
    return (phase - np.floor(phase)).astype(np.float32)


def tone(frequency: float | np.ndarray, samples: int, rate: int, start: float = 0.0) -> np.ndarray:
    """A sine of amplitude 1; `frequency` is a number or `(samples,)`, `start` its first phase in periods."""
    return np.sin(np.float32(2 * np.pi) * sawtooth(frequency, samples, rate, start))


def harmonic_tone(
    frequency: float | np.ndarray, amplitudes: np.ndarray, samples: int, rate: int, start: float = 0.0
) -> np.ndarray:
    """Harmonics in cosine phase, of the given `amplitudes` from the fundamental up, on one gliding pitch: RMS 1.

    One period is made once and looked up. Harmonics that would pass 45 % of the rate are left out, so that nothing
    folds back.
    """
    highest = max(int(0.45 * rate / float(np.max(frequency))), 1)
    spectrum = np.zeros(TABLE // 2 + 1, np.complex64)
    kept = np.asarray(amplitudes, np.float32)[: min(highest, TABLE // 2)]
    spectrum[1 : len(kept) + 1] = kept
    period = fft.irfft(spectrum, TABLE)
    period /= root_mean_square(period) + 1e-12
    phase = (cycles(frequency, samples, rate, start) * TABLE).astype(np.int64)
    return period[phase & (TABLE - 1)]


def partials(count: int, slope: float, formants: tuple[tuple[float, float, float], ...] = (), pitch: float = 1.0):
    """Amplitudes of `count` harmonics that fall by `slope` dB per octave, raised at `formants`.

    A formant is `(Hz, width in octaves, dB)`, placed by the `pitch` in Hz that the harmonics belong to: `(count,)`.
    """
    number = np.arange(1, count + 1)
    gain = slope * np.log2(number)
    for centre, width, height in formants:
        gain = gain + height * np.exp(-0.5 * (np.log2(number * pitch / centre) / width) ** 2)
    return amplitude(gain)


def modes(samples: int, rate: int, frequencies, decays, amplitudes=None, rng=None) -> np.ndarray:
    """What is struck: a sum of sines that each die away, `decays` being the seconds until -60 dB.

    `frequencies`, `decays` and `amplitudes` (1 where None) have one value a mode; with `rng` the modes start at
    random phases, without at 0. Frequencies above 45 % of the rate are left out.
    """
    frequencies = np.atleast_1d(np.asarray(frequencies, float))
    decays = np.broadcast_to(np.asarray(decays, float), frequencies.shape)
    amplitudes = np.ones_like(frequencies) if amplitudes is None else np.asarray(amplitudes, float)
    start = np.zeros_like(frequencies) if rng is None else rng.random(len(frequencies))
    heard = frequencies < 0.45 * rate
    pole = (2j * np.pi * frequencies[heard] - np.log(1000.0) / decays[heard]) / rate
    # exp(pole * (block * i + j)) = exp(pole * block * i) * exp(pole * j): two short tables instead of a long one.
    blocks = -(-samples // BLOCK)
    coarse = np.exp(np.outer(pole * BLOCK, np.arange(blocks)))
    coarse *= (amplitudes[heard] * np.exp(2j * np.pi * start[heard]))[:, None]
    fine = np.exp(np.outer(pole, np.arange(BLOCK)))
    wave = np.zeros((blocks, BLOCK), np.float32)
    for a, b in zip(coarse.astype(np.complex64), fine.astype(np.complex64), strict=True):
        wave += np.outer(a.real, b.imag)
        wave += np.outer(a.imag, b.real)
    return wave.reshape(-1)[:samples]


def scatter(samples: int, starts, sound: np.ndarray, gains=None) -> np.ndarray:
    """Copies of `sound` at the sample numbers `starts`, each times its gain (1 where None), cut at the end."""
    wave = np.zeros(samples, np.float32)
    gains = np.ones(len(starts)) if gains is None else gains
    for start, gain in zip(np.asarray(starts, int), gains, strict=True):
        if 0 <= start < samples:
            part = sound[: samples - start]
            wave[start : start + len(part)] += np.float32(gain) * part
    return wave


def beats(rng: np.random.Generator, samples: int, rate: int, tempo, jitter: float = 0.0) -> np.ndarray:
    """Sample numbers at which something that happens `tempo` times a second happens; at least one.

    `tempo` is a number or `(samples,)`; `jitter` is the standard deviation of each moment in parts of a period. The
    first moment is drawn at random, but comes within the first third of the sound.
    """
    period = rate / float(np.mean(tempo))
    phase = cycles(tempo, samples, rate, 1 - rng.random() * min(1.0, 0.3 * samples / period))
    starts = np.flatnonzero(np.diff(np.floor(phase), prepend=0))
    return np.clip(starts + rng.normal(0, jitter * period, len(starts)), 0, samples - 1).astype(int)


# --- envelopes and filters -------------------------------------------------------------------------------------


def faded(wave: np.ndarray, rate: int, attack: float = 0.01, release: float = 0.01) -> np.ndarray:
    """`wave` with a smooth rise of `attack` and fall of `release` seconds (each at most half of it)."""
    wave = wave.copy()
    for seconds, forward in ((attack, True), (release, False)):
        size = min(int(seconds * rate), len(wave) // 2)
        if size > 0:
            ramp = (0.5 - 0.5 * np.cos(np.pi * np.arange(size) / size)).astype(np.float32)
            view = wave if forward else wave[::-1]
            view[:size] *= ramp
    return wave


def gate(samples: int, rate: int, period: float, duty: float, start: float = 0.0, edge: float = 0.003) -> np.ndarray:
    """1 for the first `duty` part of every `period` seconds and 0 for the rest, with edges of `edge` seconds."""
    phase = sawtooth(1 / period, samples, rate, start)
    slope = float(edge / period)
    return np.clip(np.minimum(phase, duty - phase) / slope, 0.0, 1.0)


def dying(samples: int, rate: int, seconds: float) -> np.ndarray:
    """An envelope that falls by 60 dB in `seconds`: `(samples,)`."""
    return np.exp(np.arange(samples, dtype=np.float32) * np.float32(-np.log(1000.0) / (seconds * rate)))


def convolve(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`wave` through a filter given by its impulse `response`; what rings on after the end is cut."""
    size = fft.next_fast_len(len(wave) + len(response) - 1, real=True)
    spectrum = fft.rfft(wave, size) * fft.rfft(response, size)
    return fft.irfft(spectrum, size)[: len(wave)]


def resonate(wave: np.ndarray, rate: int, centres, bandwidths, gains=None) -> np.ndarray:
    """`wave` through resonators side by side; `centres` and `bandwidths` in Hz, `gains` 1 where None."""
    gains = np.ones(len(centres)) if gains is None else gains
    output = np.zeros_like(wave, dtype=np.float32)
    for centre, bandwidth, gain in zip(centres, bandwidths, gains, strict=True):
        radius = np.exp(-np.pi * bandwidth / rate)
        turn = -2 * radius * np.cos(2 * np.pi * centre / rate)
        numerator = np.asarray([gain * (1 - radius), 0, -gain * (1 - radius)], np.float32)
        output += signal.lfilter(numerator, np.asarray([1, turn, radius**2], np.float32), wave)
    return output


def reverberate(rng: np.random.Generator, wave: np.ndarray, rate: int, seconds: float, wet: float) -> np.ndarray:
    """`wave` in a room that dies away in `seconds` (-60 dB), `wet` being the room's part of the energy in [0, 1)."""
    size = max(int(seconds * rate), 32)
    response = rng.standard_normal(size, dtype=np.float32) * dying(size, rate, seconds)
    response[: int(0.003 * rate)] = 0  # the first wall is a metre away
    response *= np.sqrt(wet / (1 - wet)) / (np.sqrt(np.sum(response**2)) + 1e-9)
    response[0] = 1
    return convolve(wave, response)


# --- levels and files ------------------------------------------------------------------------------------------


def root_mean_square(wave: np.ndarray) -> float:
    """The RMS level of a waveform of at least one sample."""
    return float(np.sqrt(np.mean(wave * wave)))


def loudest(wave: np.ndarray, rate: int, seconds: float = 0.05) -> float:
    """The RMS of the loudest stretch of `seconds`: a level that is fair to short and to long sounds."""
    size = max(min(int(seconds * rate), len(wave)), 1)
    parts = wave[: len(wave) // size * size].reshape(-1, size)
    return float(np.sqrt(np.max(np.mean(parts * parts, axis=1))))


def normalised(wave: np.ndarray, rate: int) -> np.ndarray:
    """`wave` scaled so that its loudest 50 ms have an RMS of 1 (silence stays silence)."""
    return wave / np.float32(max(loudest(wave, rate), 1e-9))


def write_wav(path: Path, wave: np.ndarray, rate: int, bits: int = 16) -> None:
    """Write float samples `(samples,)` or `(samples, channels)` as WAV of 16 or 24 bits.

    What lies beyond full scale is turned down, never wrapped or cut.
    """
    peak = float(np.max(np.abs(wave)))
    scaled = np.rint(wave * ((2 ** (bits - 1) - 1) * min(1.0, 0.999 / max(peak, 1e-9))))
    # soundfile takes the upper bits of 32 where it is to write 24
    stored = scaled.astype(np.int16) if bits == 16 else scaled.astype(np.int32) << (32 - bits)
    content = io.BytesIO()  # libsndfile can't say that a disk is full
    soundfile.write(content, stored, rate, subtype=f"PCM_{bits}", format="WAV")
    Path(path).write_bytes(content.getbuffer())


def write_csv(path: Path, rows: Iterable[tuple], delimiter: str = ",") -> None:
    """Write rows, the header first, as CSV in UTF-8 with lines that end in a line feed on every system."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows(rows)
