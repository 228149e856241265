"""The FSDKaggle2018 miniature: sounds of 0.3 s and more, with the long tail and the wrong labels of the real set.

    FSDKaggle2018.audio_train/{8 hex digits}.wav                 44.1 kHz, 16 bit, mono
    FSDKaggle2018.audio_test/{8 hex digits}.wav
    FSDKaggle2018.meta/train_post_competition.csv                fname,label,manually_verified,freesound_id,license
    FSDKaggle2018.meta/test_post_competition_scoring_clips.csv   fname,label,usage,freesound_id,license

Classes of the real set that Mini-AudioSet lacks: instruments that differ in their harmonics and attack, animals, people
and things that break. Training classes differ in size as the real ones do, and labels that were not verified may be
wrong; what is truly heard is in the miniature's own `truth.csv`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature.esc50 import door_wood_knock, record
from pannslib.datasets.miniature.synthesis import (
    beats,
    between,
    contour,
    convolve,
    dying,
    faded,
    generator,
    harmonic_tone,
    modes,
    noise,
    partials,
    resonate,
    scatter,
    tone,
    wander,
    write_csv,
    write_wav,
)

RATE = 44_100
SHORTEST = 0.3  # seconds, as in the real set
TAIL = 3.2  # training clips of the largest class for each one of the smallest, about as in the real set
VERIFIED = 0.4  # part of the training labels that people verified, about as in the real set
WRONG = 0.3  # part of the other labels that are wrong
LICENCES = ("Creative Commons 0", "Attribution", "Attribution-NonCommercial")
SCALE = np.array([0, 2, 4, 5, 7, 9, 11, 12])  # semitones: a major scale


# --- recipes: (rng, samples, rate) -> waveform -----------------------------------------------------------------


def _tune(rng, samples, rate, lowest, highest, strengths, attack, swing=0.0, air=0.0):
    """Notes of one instrument one after the other; `strengths(pitch)` are the amplitudes of a note's harmonics.

    `attack` in seconds, `swing` of the vibrato in semitones, `air` a factor on the noise of breath or bow.
    """
    wave, root = np.zeros(samples, np.float32), between(rng, lowest, highest)
    count = max(1, round(samples / rate * between(rng, 0.7, 4)))
    edges = np.linspace(0, samples, count + 1).astype(int)
    speed, joined = between(rng, 4.5, 6.5), rng.uniform(0.7, 1.0)
    for start, stop in pairwise(edges):
        size = max(int((stop - start) * joined), 64)
        pitch = root * 2 ** (rng.choice(SCALE) / 12)
        late = np.clip(contour(size, -0.5, 1), 0, 1)  # vibrato sets in after a while
        bend = swing * late * tone(speed, size, rate, rng.random()) + wander(rng, size, rate, 8, 0.06)
        note = harmonic_tone(pitch * np.exp2(bend / 12), strengths(pitch), size, rate, rng.random())
        note += air * noise(rng, size, rate, tilt=-3, low=400, peaks=((2 * pitch, 0.4, 8.0),))
        note = faded(note, rate, attack * rng.uniform(0.6, 1.6), 0.06) * rng.uniform(0.6, 1)
        wave[start : start + size] += note[: samples - start]
    return wave


def knock(rng, samples, rate):
    """Raps on a door; the first comes at once."""
    wave = door_wood_knock(rng, samples + rate, rate)
    return wave[np.flatnonzero(wave)[0] :][:samples]


def flute(rng, samples, rate):
    """Few harmonics, much breath, a slow start and a vibrato."""
    slope = rng.uniform(-15, -9)
    return _tune(rng, samples, rate, 260, 900, lambda _: partials(10, slope), 0.07, 0.25, rng.uniform(0.05, 0.3))


def clarinet(rng, samples, rate):
    """Odd harmonics: the even ones are nearly absent."""
    strengths = partials(24, rng.uniform(-9, -5))
    strengths[1::2] *= rng.uniform(0.03, 0.25)
    return _tune(rng, samples, rate, 150, 600, lambda _: strengths, 0.04, 0.05, rng.uniform(0.01, 0.06))


def trumpet(rng, samples, rate):
    """Bright brass: harmonics that hardly fall up to a broad formant."""
    slope, bell = rng.uniform(-7, -3), (between(rng, 900, 1700), 0.9, rng.uniform(4, 10))
    return _tune(rng, samples, rate, 170, 600, lambda pitch: partials(40, slope, (bell,), pitch), 0.03, 0.12, 0.02)


def violin_or_fiddle(rng, samples, rate):
    """A bowed string: all harmonics, the resonances of the body, vibrato and the scrape of the bow."""
    body = tuple((between(rng, low, 1.3 * low), 0.3, rng.uniform(5, 12)) for low in (280, 500, 1100, 2600))
    slope = rng.uniform(-9, -6)
    return _tune(
        rng, samples, rate, 200, 800, lambda pitch: partials(40, slope, body, pitch), 0.06, 0.35, rng.uniform(0.01, 0.1)
    )


def electric_piano(rng, samples, rate):
    """Struck tines: a soft tone that dies away and the short ring of the tine far above."""
    wave, root = np.zeros(samples, np.float32), between(rng, 110, 500)
    ring, length = rng.uniform(0.05, 0.4), between(rng, 1.0, 4)
    for start in beats(rng, samples, rate, between(rng, 1, 4), 0.03):
        pitch = root * 2 ** (rng.choice(SCALE) / 12)
        size = min(int(1.2 * rate), samples - start)
        note = modes(
            size, rate, pitch * np.array([1, 2, 3, 7.1]), length * np.array([1, 0.6, 0.4, 0.1]), [1, 0.4, 0.15, ring]
        )
        wave[start : start + size] += faded(note, rate, 0.002, 0.08) * np.float32(rng.uniform(0.5, 1))
    return wave


def bass_drum(rng, samples, rate):
    """A large skin: a thump below 100 Hz that sinks in pitch, with the knock of the beater."""
    size, pitch = int(0.4 * rate), between(rng, 42, 95)
    thump = tone(pitch * (1 + rng.uniform(0.3, 1.5) * dying(size, rate, 0.12)), size, rate) * dying(
        size, rate, between(rng, 0.15, 0.6)
    )
    thump += rng.uniform(0.05, 0.5) * noise(rng, size, rate, tilt=-4, low=300) * dying(size, rate, 0.02)
    starts = beats(rng, samples, rate, between(rng, 0.8, 4), 0.01)
    return scatter(samples, starts, faded(thump, rate, 0.001, 0.1), rng.uniform(0.4, 1, len(starts)))


def hi_hat(rng, samples, rate):
    """Two cymbals: hiss above 5 kHz, closed or open, in even strokes."""
    size = int(0.5 * rate)
    metal = noise(rng, size, rate, low=between(rng, 4000, 8000), peaks=((between(rng, 6000, 11000), 0.3, 6.0),))
    kinds = [metal * dying(size, rate, seconds) for seconds in (between(rng, 0.04, 0.15), between(rng, 0.3, 1.2))]
    starts = beats(rng, samples, rate, between(rng, 1.5, 9), 0.01)
    opened = rng.random(len(starts)) < rng.uniform(0, 0.4)
    return scatter(samples, starts[~opened], kinds[0], rng.uniform(0.4, 1, (~opened).sum())) + scatter(
        samples, starts[opened], faded(kinds[1], rate, 0.001, 0.1)
    )


def cowbell(rng, samples, rate):
    """A folded sheet of metal: two clanging modes that don't fit one another, soon gone."""
    size, base = int(0.6 * rate), between(rng, 420, 900)
    ratios = np.array([1, rng.uniform(1.42, 1.6), 2.7, 4.1, 5.3])
    clang = modes(size, rate, base * ratios, between(rng, 0.15, 0.7) / ratios**0.5, [1, 0.8, 0.3, 0.2, 0.1], rng)
    starts = beats(rng, samples, rate, between(rng, 1, 6), 0.02)
    return scatter(samples, starts, faded(clang, rate, 0.001, 0.05), rng.uniform(0.4, 1, len(starts)))


def shatter(rng, samples, rate):
    """A blow and then splinters of glass: a hundred small high rings that thin out."""
    wave = np.zeros(samples, np.float32)
    blow = noise(rng, int(0.15 * rate), rate, low=800) * dying(int(0.15 * rate), rate, between(rng, 0.05, 0.2))
    fall = between(rng, 0.2, 0.9)
    for start in beats(rng, samples, rate, between(rng, 0.2, 0.8), 0.1):
        wave += scatter(samples, [start], blow, [rng.uniform(0.5, 1.5)])
        for _ in range(6):
            size = int(0.15 * rate)
            splinter = modes(size, rate, between(rng, 2500, 9000) * np.array([1, 1.7, 2.3]), between(rng, 0.03, 0.2))
            own = start + rng.exponential(fall, rng.integers(4, 14)) * rate
            wave += scatter(samples, own, splinter, rng.lognormal(-1.2, 0.7, len(own)))
    return wave


def tearing(rng, samples, rate):
    """Paper or cloth that is torn: dry crackles as dense as noise, in one or several pulls."""
    pull = np.clip(np.abs(tone(between(rng, 0.4, 2), samples, rate, rng.uniform(0.1, 0.4))) * 1.5 - 0.4, 0, 1)
    specks = np.zeros(samples, np.float32)
    moments = rng.integers(0, samples, int(between(rng, 300, 3000) * samples / rate) + 1)
    specks[moments] = rng.normal(0, 1, len(moments))
    size = int(0.006 * rate)
    fibre = noise(rng, size, rate, low=between(rng, 1000, 3500)) * dying(size, rate, 0.006)
    return convolve(specks, fibre) * pull * np.exp2(wander(rng, samples, rate, 20, 0.7))


def squeak(rng, samples, rate):
    """A hinge or a shoe: a thin tone that sticks, slips and slides."""
    slides = max(2, int(samples / rate * between(rng, 2, 10)))
    pitch = between(rng, 700, 3000) * np.exp2(
        contour(samples, *rng.normal(0, 0.25, slides)) + wander(rng, samples, rate, 40, 0.04)
    )
    force = wander(rng, samples, rate, between(rng, 2, 6), 1.0)
    loud = np.clip(force - np.median(force) + 0.3, 0, 1.5)
    return harmonic_tone(pitch, partials(8, rng.uniform(-9, -2)), samples, rate) * loud


def _mouth(rng, wave, rate, tract=1.0):
    """A waveform through the resonances of a throat; `tract` above 1 is a small one."""
    centres = np.array([between(rng, 450, 900), between(rng, 1000, 1800), between(rng, 2300, 3200)]) * tract
    return resonate(wave, rate, centres, [90 * tract, 130 * tract, 200 * tract], [1, 0.7, 0.4])


def bark(rng, samples, rate):
    """A dog: short rough bursts that rise and fall in pitch."""
    size = int(between(rng, 0.12, 0.3) * rate)
    pitch = between(rng, 180, 700) * contour(size, 0.7, 1.25, 0.75) * np.exp2(wander(rng, size, rate, 90, 0.12))
    throat = harmonic_tone(pitch, partials(40, -5), size, rate) + rng.uniform(0.3, 1.2) * noise(
        rng, size, rate, tilt=-3
    )
    sound = faded(_mouth(rng, throat, rate, rng.uniform(0.8, 1.4)), rate, 0.015, 0.1)
    starts = beats(rng, samples, rate, between(rng, 0.7, 3), 0.08)
    return scatter(samples, starts, sound, rng.uniform(0.6, 1, len(starts)))


def meow(rng, samples, rate):
    """A cat: a long glide up and down through an opening and closing mouth."""
    wave = np.zeros(samples, np.float32)
    for start in beats(rng, samples, rate, between(rng, 0.3, 1), 0.1):
        size = min(int(between(rng, 0.4, 1.2) * rate), samples - start)
        if size < 256:
            continue
        pitch = between(rng, 380, 800) * contour(size, 0.8, *rng.uniform(0.9, 1.4, 2), 0.7)
        opening = contour(size, 0, 1, 0.6, 0.1)
        closed, opened = (harmonic_tone(pitch, partials(20, slope), size, rate) for slope in (-14, -4))
        sound = closed * (1 - opening) + _mouth(rng, opened * opening, rate, 1.4) * 3
        wave[start : start + size] += faded(sound, rate, 0.05, 0.12)
    return wave


def cough(rng, samples, rate):
    """One to four blasts of air through an open throat, each with a voiced end."""
    wave, now = np.zeros(samples, np.float32), rng.uniform(0, 0.3) * min(samples, rate)
    tract = rng.uniform(0.85, 1.25)
    while now < samples:
        size = int(between(rng, 0.15, 0.4) * rate)
        blast = noise(rng, size, rate, tilt=-2) * dying(size, rate, between(rng, 0.12, 0.4))
        blast += (
            rng.uniform(0, 0.5)
            * harmonic_tone(between(rng, 110, 300), partials(30, -6), size, rate)
            * contour(size, 0, 1, 0)
        )
        wave += scatter(
            samples, [now], faded(_mouth(rng, blast, rate, tract), rate, 0.004, 0.05), [rng.uniform(0.5, 1)]
        )
        now += size + (between(rng, 0.05, 0.2) if rng.random() < 0.6 else between(rng, 0.5, 2)) * rate
    return wave


def laughter(rng, samples, rate):
    """Ha-ha: voiced syllables four to six times a second that sink in pitch, with breath between."""
    tempo, voice = between(rng, 3.8, 6.5), between(rng, 130, 420)
    wave, starts = np.zeros(samples, np.float32), beats(rng, samples, rate, tempo, 0.05)
    tract, size = rng.uniform(0.9, 1.3), int(rng.uniform(0.5, 0.8) / tempo * rate)
    fall = 1 - 0.35 * ((np.arange(len(starts)) % rng.integers(4, 10)) / 8)
    for start, height in zip(starts, fall, strict=True):
        pitch = voice * height * contour(size, 1.1, 1, 0.9)
        sound = harmonic_tone(pitch, partials(30, -7), size, rate) + rng.uniform(0.2, 0.7) * noise(
            rng, size, rate, tilt=-3
        )
        wave += scatter(samples, [start], faded(sound, rate, 0.03, 0.06), [height * rng.uniform(0.6, 1)])
    return _mouth(rng, wave, rate, tract)


# In the order in which `classes` takes them: kinds that are easily confused early.
SOUNDS: dict[str, Callable[..., np.ndarray]] = {
    "Flute": flute,
    "Clarinet": clarinet,
    "Violin_or_fiddle": violin_or_fiddle,
    "Bark": bark,
    "Cough": cough,
    "Laughter": laughter,
    "Knock": knock,
    "Bass_drum": bass_drum,
    "Cowbell": cowbell,
    "Tearing": tearing,
    "Trumpet": trumpet,
    "Squeak": squeak,
    "Meow": meow,
    "Shatter": shatter,
    "Electric_piano": electric_piano,
    "Hi-hat": hi_hat,
}

SIZES = {
    "classes": (12, (2, len(SOUNDS))),
    "largest_class": (32, (2, 1000)),
    "test_per_class": (8, (1, 1000)),
    "longest": (8.0, (1.0, 30.0)),
}


# --- clips, files ----------------------------------------------------------------------------------------------


def training_sizes(classes: int, largest_class: int) -> list[int]:
    """How many training clips each class has, the largest first."""
    return [max(1, round(largest_class * TAIL ** (-k / max(classes - 1, 1)))) for k in range(classes)]


def clips(classes: int, largest_class: int, test_per_class: int, longest: float) -> int:
    """How many clips a miniature of these sizes has."""
    return sum(training_sizes(classes, largest_class)) + classes * test_per_class


def write(
    folder: Path,
    seed: int,
    advance: Callable[[], None],
    classes: int,
    largest_class: int,
    test_per_class: int,
    longest: float,
) -> dict[str, int]:
    """Fill `folder` with both audio folders, the tables and `truth.csv`; returns the number of clips of each part.

    `longest` is the length in seconds beyond which no clip goes. `advance` is called after every clip.
    """
    labels = list(SOUNDS)[:classes]
    order = generator(seed, "dcase2018_task2", 2).permutation(classes)  # which class is large is chance
    sizes = np.array(training_sizes(classes, largest_class))[order]
    meta = folder / "FSDKaggle2018.meta"
    meta.mkdir()
    truth = [("fname", "label", "heard")]
    for part, (split, counts) in enumerate({"train": sizes, "test": np.full(classes, test_per_class)}.items()):
        audio = folder / f"FSDKaggle2018.audio_{split}"
        audio.mkdir()
        rows = []
        for heard, index in ((k, i) for k, count in enumerate(counts) for i in range(count)):
            rng = generator(seed, "dcase2018_task2", part, heard, index)
            digest = hashlib.blake2b(f"{seed}/{split}/{heard}/{index}".encode(), digest_size=8).hexdigest()
            name, source = f"{digest[:8]}.wav", 10_000 + int(digest[8:], 16) % 400_000
            samples = int(_length(rng, longest) * RATE)
            write_wav(audio / name, record(rng, SOUNDS[labels[heard]], samples, RATE), RATE)
            verified = split == "test" or rng.random() < VERIFIED
            wrong = not verified and rng.random() < WRONG
            label = (heard + int(rng.integers(1, classes))) % classes if wrong else heard
            kind = ("Public", "Private")[int(rng.random() < 0.8)] if split == "test" else int(verified)
            rows.append((name, labels[label], kind, source, LICENCES[rng.integers(len(LICENCES))]))
            truth.append((name, labels[label], labels[heard]))
            advance()
        table, column = {
            "train": ("train_post_competition.csv", "manually_verified"),
            "test": ("test_post_competition_scoring_clips.csv", "usage"),
        }[split]
        write_csv(meta / table, [("fname", "label", column, "freesound_id", "license"), *sorted(rows)])
    write_csv(folder / "truth.csv", [truth[0], *sorted(truth[1:])])
    return {"train": int(sizes.sum()), "test": classes * test_per_class, "classes": classes}


def _length(rng: np.random.Generator, longest: float) -> float:
    """Seconds of one clip: mostly one to three, a few as short and as long as they may be."""
    return float(np.clip(rng.lognormal(0.5, 0.8), SHORTEST, longest))
