"""A synthetic speaking voice: glottal source and vocal tract filter over a fixed sequence of phones, with prosody.

The source is a train of harmonics with breath; the filter, a set of formants per phone scaled by the length of the
speaker's vocal tract, moves from frame to frame (overlap-add of 1024 samples at 48 kHz, hop 512). Emotion changes the
way of speaking alone: pitch, melody, tempo, loudness, tension, breath, tremor.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy import fft

from pannslib.datasets.miniature.synthesis import (
    amplitude,
    contour,
    faded,
    harmonic_tone,
    noise,
    partials,
    reverberate,
    root_mean_square,
    tone,
    wander,
)

WINDOW = 1024  # samples of a filter frame: 21 ms at 48 kHz
HOP = WINDOW // 2  # the overlap-add below holds for a half only
MELODY_RATE = 200  # points of the pitch contour a second
FORMANT_WIDTHS = (70.0, 100.0, 150.0, 220.0, 300.0)  # Hz, of the five formants
HIGHER_FORMANTS = (3500.0, 4500.0)  # Hz, of a grown man, the same in every phone


@dataclass(frozen=True)
class Phone:
    """One speech sound: how long, which formants (Hz, grown man), how much voice, how much noise around which Hz."""

    seconds: float
    formants: tuple[float, float, float] = (500.0, 1500.0, 2500.0)
    voice: float = 0.0
    noise: float = 0.0
    centre: float = 2000.0


PHONES = {
    "-": Phone(0.05),  # the closure before a stop
    "k": Phone(0.04, noise=0.5, centre=1800),
    "t": Phone(0.04, noise=0.6, centre=4500),
    "b": Phone(0.02, (250, 900, 2300), voice=0.4, noise=0.1, centre=500),
    "d": Phone(0.03, (250, 1700, 2600), voice=0.4, noise=0.3, centre=3500),
    "g": Phone(0.04, (250, 1900, 2300), voice=0.4, noise=0.2, centre=1500),
    "s": Phone(0.11, noise=0.5, centre=6500),
    "z": Phone(0.07, (280, 1700, 2600), voice=0.3, noise=0.3, centre=6000),
    "th": Phone(0.04, (300, 1300, 2500), voice=0.5, noise=0.05, centre=5000),
    "ng": Phone(0.07, (280, 1200, 2200), voice=0.5),
    "r": Phone(0.07, (420, 1300, 1650), voice=0.7),
    "i": Phone(0.08, (400, 2000, 2550), voice=0.9),
    "a": Phone(0.10, (730, 1090, 2440), voice=1.0),
    "o": Phone(0.14, (570, 840, 2410), voice=1.0),
    "ai": Phone(0.09, (660, 1400, 2450), voice=1.0),
    "y": Phone(0.07, (350, 2150, 2700), voice=0.9),
    "uh": Phone(0.05, (520, 1250, 2400), voice=0.8),
}


@dataclass(frozen=True)
class Manner:
    """How something is said, relative to the speaker's neutral voice (all 0)."""

    pitch: float = 0.0  # semitones
    melody: float = 0.0  # octaves by which the pitch accents grow
    slope: float = 0.0  # semitones from the first syllable to the last
    tempo: float = 0.0  # octaves: 1 is twice as fast
    loudness: float = 0.0  # dB
    tension: float = 0.0  # dB per octave by which the harmonics fall less
    breath: float = 0.0  # part of the voice that turns to breath
    tremor: float = 0.0  # semitones, 5 to 7 times a second
    roughness: float = 0.0  # semitones of random change from period to period

    def values(self) -> np.ndarray:
        """The fields in order: `(9,)`."""
        return np.array([getattr(self, field.name) for field in fields(self)])


@dataclass(frozen=True)
class Speaker:
    """A voice: median pitch in Hz, vocal tract (1 for a grown man, shorter is more), tempo, source, room, habits."""

    pitch: float
    tract: float
    tempo: float
    tilt: float  # dB per octave of the glottal source
    accent: float  # semitones of a pitch accent
    breath: float
    level: float  # dB re full scale of a neutral sentence
    floor: float  # dB re full scale of the room's noise
    room: float  # seconds
    expression: np.ndarray  # factor on each field of a Manner, (9,)


def draw_speaker(rng: np.random.Generator, female: bool) -> Speaker:
    """A random speaker of the given sex."""
    return Speaker(
        pitch=float(rng.uniform(165, 235) if female else rng.uniform(90, 145)),
        tract=float(rng.uniform(1.1, 1.24) if female else rng.uniform(0.92, 1.07)),
        tempo=float(rng.uniform(0.88, 1.12)),
        tilt=float(rng.uniform(-9.5, -5.5)),
        accent=float(rng.uniform(1.5, 3.5)),
        breath=float(rng.uniform(0.02, 0.15)),
        level=float(rng.uniform(-36, -26)),
        floor=float(rng.uniform(-78, -66)),
        room=float(rng.uniform(0.05, 0.2)),
        expression=rng.lognormal(0.0, 0.35, len(fields(Manner))),
    )


def speak(rng, speaker: Speaker, phones: tuple[str, ...], accents: tuple[int, ...], manner: Manner, rate: int):
    """One sentence without the silence around it: float32 `(samples,)` at the level of the speaker and manner.

    `accents` are the positions in `phones` that carry a pitch accent.
    """
    lengths = np.array([PHONES[phone].seconds for phone in phones]) * rng.uniform(0.88, 1.12, len(phones))
    lengths[-2:] *= 1.4  # the last syllable is drawn out
    ends = np.cumsum(lengths) / (speaker.tempo * 2.0**manner.tempo)
    frames = int(ends[-1] * rate) // HOP + 2
    samples = (frames + 1) * HOP

    pitch = speaker.pitch * np.exp2(_melody(rng, speaker, manner, ends, accents, samples, rate) / 12)
    slope = min(speaker.tilt + manner.tension, -2.0)
    breath = min(speaker.breath + max(manner.breath, 0.0), 0.9)
    source = (1 - breath) * harmonic_tone(pitch, partials(120, slope), samples, rate)
    source += breath * noise(rng, samples, rate, tilt=-4)
    air = (0.35 + 0.5 * breath) * noise(rng, samples, rate)

    names = tuple(sorted(set(phones)))
    voice, friction = _filters(names, round(speaker.tract, 3), rate)
    row = np.array([names.index(phone) for phone in phones])
    row = row[_phone_at(np.arange(frames) * HOP / rate, ends)]
    wave = _filtered(source, _smooth(voice[row])) + _filtered(air, _smooth(friction[row]))
    wave *= contour(samples, *_stress(rng, ends, accents))
    wave = faded(wave[: int((ends[-1] + 0.02) * rate)], rate, 0.005, 0.08)
    wave = reverberate(rng, wave, rate, speaker.room, 0.1)
    return wave * (amplitude(speaker.level + manner.loudness) / (root_mean_square(wave) + 1e-9))


def _phone_at(time: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which phone is spoken at each `time`, `ends` being when each is over; the last goes on for ever."""
    return np.searchsorted(ends, time).clip(max=len(ends) - 1)


def _melody(rng, speaker, manner, ends, accents, samples, rate) -> np.ndarray:
    """The pitch in semitones from the speaker's own: slope, drift, accents, tremor and roughness: `(samples,)`."""
    time = np.arange(0, samples / rate, 1 / MELODY_RATE)
    semitones = manner.pitch + (manner.slope - 1.5) * (time / ends[-1] - 0.5)  # every sentence sinks a little
    semitones += wander(rng, len(time), MELODY_RATE, 4, 0.35)
    for accent in accents:
        height = speaker.accent * 2.0**manner.melody * rng.uniform(0.6, 1.4)
        semitones += height * np.exp(-0.5 * ((time - ends[accent] + 0.05) / 0.09) ** 2)
    semitones += max(manner.tremor, 0.0) * tone(rng.uniform(5, 7), len(time), MELODY_RATE, rng.random())
    semitones += rng.normal(0, 0.12 + max(manner.roughness, 0.0), len(time))
    return contour(samples, *semitones)


def _stress(rng, ends, accents) -> np.ndarray:
    """The loudness of the sentence at 40 moments: more on accents, less towards the end."""
    moment = np.linspace(0, 1, 40)
    accented = np.isin(_phone_at(moment * ends[-1], ends), accents)
    return amplitude(3.0 * accented - 4.0 * moment + rng.normal(0, 0.7, len(moment)))


@lru_cache(maxsize=64)
def _filters(names: tuple[str, ...], tract: float, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The frequency responses of the phones for voice and for frication: twice `(phones, bins)` float32."""
    frequency = np.arange(WINDOW // 2 + 1) * (rate / WINDOW)
    voices, frictions = [], []
    for name in names:
        phone = PHONES[name]
        response = np.ones_like(frequency)
        for centre, width in zip((*phone.formants, *HIGHER_FORMANTS), FORMANT_WIDTHS, strict=True):
            centre, width = centre * tract, width * tract
            response *= centre**2 / np.sqrt((frequency**2 - centre**2) ** 2 + (width * frequency) ** 2)
        # A real tract has ever more formants above the fifth: without them the top would fall too steeply.
        response *= 1 + (frequency / 4000) ** 4
        voices.append(phone.voice * np.minimum(response, 30))
        octaves = np.log2(np.maximum(frequency, 50) / (phone.centre * tract))
        frictions.append(phone.noise * np.exp(-0.5 * (octaves / 0.45) ** 2))
    return np.array(voices, np.float32), np.array(frictions, np.float32)


def _smooth(response: np.ndarray) -> np.ndarray:
    """`(frames, bins)` averaged over three frames, so that one phone glides into the next."""
    padded = np.concatenate([response[:1], response, response[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    """The square root of a Hann window, used before and after the filter, so that the frames add up to 1."""
    return np.sin(np.pi * (np.arange(WINDOW) + 0.5) / WINDOW).astype(np.float32)


def _filtered(wave: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`wave` of `(frames + 1) * HOP` samples through the `(frames, bins)` response of each frame."""
    framed = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP] * _window()
    output = fft.irfft(fft.rfft(framed, axis=1) * response, WINDOW, axis=1) * _window()
    total = np.zeros(len(wave), np.float32)
    total[:-HOP] += output[:, :HOP].reshape(-1)
    total[HOP:] += output[:, HOP:].reshape(-1)
    return total
