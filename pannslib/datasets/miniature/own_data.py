"""An example of one's own data: spoken digits of synthetic voices, a folder of short recordings and a CSV.

    recordings/{digit}_{speaker}_{take}.wav     8 kHz, 16 bit, mono, 0.3 to 1 s
    clips.csv                                   file,label,group

The names are those of the Free Spoken Digit Dataset. The words are made of the sounds that `voice` has, so they are not
quite English; the speakers differ in pitch, vocal tract, tempo and room, and are what `group` holds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr

from pannslib.datasets.miniature.synthesis import amplitude, generator, noise, write_csv, write_wav
from pannslib.datasets.miniature.voice import Manner, draw_speaker, speak

VOICE_RATE, RATE = 48_000, 8000  # Hz, of the voice's filters and of the files
WORDS = (  # the digits from 0, as phones, with the position of the accent
    ("z i r o", 1),
    ("o uh ng", 0),
    ("- t y o", 3),
    ("th r y", 2),
    ("th o r", 1),
    ("th ai d", 1),
    ("s i - k s", 1),
    ("s a d uh ng", 1),
    ("ai - t", 0),
    ("ng ai ng", 1),
)
NAMES = ("anna", "boris", "clara", "david", "emma", "felix", "greta", "hugo", "irma", "jakob", "klara", "ludwig")
SILENCE = (0.01, 0.08)  # seconds before and after the word
CHANCE = Manner(pitch=1.2, melody=0.3, slope=1.5, tempo=0.12, loudness=2.5, tension=0.8, breath=0.05).values()
SIZES = {"speakers": (6, (2, len(NAMES))), "takes": (5, (1, 100))}


def clips(speakers: int, takes: int) -> int:
    """How many clips an example of these sizes has."""
    return len(WORDS) * speakers * takes


def write(folder: Path, seed: int, advance: Callable[[], None], speakers: int, takes: int) -> dict[str, int]:
    """Fill `folder` with `recordings/` and `clips.csv`; returns the number of clips and of speakers.

    `advance` is called after every clip.
    """
    (folder / "recordings").mkdir()
    rows = []
    for number, name in enumerate(NAMES[:speakers]):
        speaker = draw_speaker(generator(seed, "own_data", number, 0, 0, 0), female=number % 2 == 0)
        for digit in range(len(WORDS)):
            for take in range(takes):
                file = f"{digit}_{name}_{take}.wav"
                rng = generator(seed, "own_data", number, 1, digit, take)
                write_wav(folder / "recordings" / file, say(rng, speaker, digit), RATE)
                rows.append((file, digit, name))
                advance()
    write_csv(folder / "clips.csv", [("file", "label", "group"), *sorted(rows)])
    return {"clips": len(rows), "speakers": speakers}


def say(rng: np.random.Generator, speaker, digit: int) -> np.ndarray:
    """A digit as a speaker says it once: float32 `(samples,)` at 8 kHz."""
    phones, accent = WORDS[digit]
    manner = Manner(*(rng.normal(0, 1, len(CHANCE)) * CHANCE))
    word = speak(rng, speaker, tuple(phones.split()), (accent,), manner, VOICE_RATE)
    before, after = (int(seconds * VOICE_RATE) for seconds in rng.uniform(*SILENCE, 2))
    wave = np.pad(word, (before, after)).astype(np.float32)
    wave += noise(rng, len(wave), VOICE_RATE, tilt=-4) * amplitude(speaker.floor)
    return soxr.resample(wave, VOICE_RATE, RATE).astype(np.float32)
