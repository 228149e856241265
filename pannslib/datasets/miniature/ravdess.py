"""The RAVDESS miniature: emotional speech of synthetic actors in the layout of Livingstone and Russo (2018).

`Actor_XX/03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}.wav`, 48 kHz, 16 bit, mono, 3 to 4.5 s with
silence before and after; odd actors are male, even ones female; neutral has one intensity. Emotion is in the way of
speaking only, and every actor expresses it in an own measure, so that emotions overlap from one actor to another.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature.synthesis import amplitude, generator, noise, write_wav
from pannslib.datasets.miniature.voice import Manner, draw_speaker, speak

RATE = 48_000
STRONG = 1.7  # factor on an emotion's manner at intensity 02
SILENCE = (0.6, 1.2)  # seconds before and after the sentence

# How each emotion is said at normal intensity, in the order of the official codes 01 to 08; the directions are those
# that studies of vocal emotion agree on (louder, higher, tenser when aroused; softer, slower, breathier when not).
EMOTIONS = {
    "neutral": Manner(),
    "calm": Manner(pitch=-1.0, melody=-0.4, tempo=-0.12, loudness=-3, tension=-0.8, breath=0.08),
    "happy": Manner(pitch=3.5, melody=0.7, slope=1, tempo=0.08, loudness=4, tension=0.8),
    "sad": Manner(pitch=0.5, melody=-0.3, slope=-2, tempo=-0.2, loudness=-4, tension=-1.2, breath=0.2, tremor=0.4),
    "angry": Manner(pitch=3, melody=0.5, slope=-1, tempo=0.05, loudness=8, tension=2.2, roughness=0.3),
    "fearful": Manner(pitch=5, melody=0.1, tempo=0.2, loudness=3, tension=0.6, breath=0.15, tremor=0.6),
    "disgust": Manner(pitch=-0.5, melody=0.3, slope=-3, tempo=-0.25, loudness=1, tension=0.5, roughness=0.5),
    "surprised": Manner(pitch=5, melody=0.9, slope=5, tempo=0.05, loudness=3, tension=0.3, breath=0.05),
}

# What one utterance differs from another of the same kind: the standard deviation of each field of a Manner.
CHANCE = Manner(
    pitch=1.0, melody=0.25, slope=1.2, tempo=0.07, loudness=2.0, tension=0.7, breath=0.04, tremor=0.1, roughness=0.1
).values()

# "Kids are talking by the door", "Dogs are sitting by the door"; with the positions that bear an accent.
STATEMENTS = (
    ("- k i d z a r - t o - k i ng - b ai y th uh - d o r", (2, 9, 21)),
    ("- d o g z a r s i - t i ng - b ai y th uh - d o r", (2, 8, 20)),
)

# files per actor -> (statements, repetitions)
PARTS = {60: (2, 2), 30: (1, 2), 15: (1, 1)}

SIZES = {"actors": (8, (2, 24)), "files_per_actor": (30, frozenset(PARTS))}


def clips(actors: int, files_per_actor: int) -> int:
    """How many clips a miniature of these sizes has."""
    return actors * files_per_actor


def takes(files_per_actor: int) -> list[tuple[int, int, int, int]]:
    """What every actor records: emotion, intensity, statement and repetition, as the official codes from 1."""
    statements, repetitions = PARTS[files_per_actor]
    return [
        (emotion, intensity, statement, repetition)
        for emotion, intensity in product(range(1, len(EMOTIONS) + 1), (1, 2))
        for statement, repetition in product(range(1, statements + 1), range(1, repetitions + 1))
        if not (emotion == 1 and intensity == 2)  # one cannot be neutral strongly
    ]


def write(folder: Path, seed: int, advance: Callable[[], None], actors: int, files_per_actor: int) -> dict[str, int]:
    """Fill `folder` with one folder an actor; returns the number of clips and of actors.

    `advance` is called after every clip.
    """
    for actor in range(1, actors + 1):
        speaker = draw_speaker(generator(seed, "ravdess", actor, 0, 0, 0, 0), female=actor % 2 == 0)
        place = folder / f"Actor_{actor:02d}"
        place.mkdir()
        for take in takes(files_per_actor):
            name = "03-01-" + "-".join(f"{part:02d}" for part in (*take, actor)) + ".wav"
            write_wav(place / name, _utterance(generator(seed, "ravdess", actor, *take), speaker, *take[:3]), RATE)
            advance()
    return {"clips": clips(actors, files_per_actor), "actors": actors}


def _utterance(rng: np.random.Generator, speaker, emotion: int, intensity: int, statement: int) -> np.ndarray:
    """One file: the sentence between two silences that are the noise of the actor's room."""
    meant = list(EMOTIONS.values())[emotion - 1].values() * (STRONG if intensity == 2 else 1.0)
    manner = Manner(*(meant * speaker.expression + rng.normal(0, 1, len(meant)) * CHANCE))
    phones, accents = STATEMENTS[statement - 1]
    sentence = speak(rng, speaker, tuple(phones.split()), accents, manner, RATE)
    before, after = (int(seconds * RATE) for seconds in rng.uniform(*SILENCE, 2))
    wave = noise(rng, before + len(sentence) + after, RATE, tilt=-4) * amplitude(speaker.floor)
    wave[before : before + len(sentence)] += sentence
    return wave
