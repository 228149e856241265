"""The UrbanSound8K miniature: sounds of the city in the official layout of Salamon, Jacoby and Bello (2014).

    metadata/UrbanSound8K.csv     slice_file_name,fsID,start,end,salience,fold,classID,class
    audio/fold{1 to 10}/{fsID}-{classID}-{occurrenceID}-{sliceID}.wav

As in UrbanSound8K, slices of at most 4 s are cut from recordings (`fsID`), all slices of one in one fold. A recording
has its street, distance, microphone, sample rate and channels. The sound is in the foreground (salience 1) or in the
background (salience 2), where the street is nearly as loud. Engines and sirens are in Mini-AudioSet too, and are made
in another way there; the other eight classes are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature.synthesis import (
    amplitude,
    beats,
    between,
    contour,
    dying,
    faded,
    generator,
    harmonic_tone,
    modes,
    noise,
    normalised,
    partials,
    reverberate,
    scatter,
    tone,
    wander,
    write_csv,
    write_wav,
)

RATES = (44_100, 44_100, 44_100, 48_000, 22_050, 16_000)  # Hz, each as likely as the others
FOLDS = 10
SLICES = (1, 1, 2, 3)  # cut from one recording, each number as likely as the others
COLUMNS = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
FOREGROUND, BACKGROUND = (6, 24), (-6, 5)  # dB of the sound above its street


# --- recipes: (rng, samples, rate) -> waveform, one recording each ----------------------------------------------


def air_conditioner(rng, samples, rate):
    """A fan: the rush of air through a grille, the tone of its blades and the hum of its motor, all steady."""
    rush = noise(
        rng, samples, rate, tilt=rng.uniform(-6, -2), peaks=((between(rng, 150, 1500), 0.5, rng.uniform(3, 12)),)
    )
    blades = harmonic_tone(between(rng, 60, 260), partials(8, rng.uniform(-10, -4)), samples, rate)
    beat = 1 + rng.uniform(0, 0.4) * tone(between(rng, 0.5, 6), samples, rate, rng.random())
    return (rush + rng.uniform(0.1, 0.9) * blades) * beat


def car_horn(rng, samples, rate):
    """Two reeds a third apart, pressed once long or a few times short."""
    low = between(rng, 280, 480)
    reeds = harmonic_tone(low, partials(24, -3, ((2200.0, 0.8, 8.0),), low), samples, rate)
    reeds += harmonic_tone(low * rng.uniform(1.18, 1.3), partials(24, -3), samples, rate)
    wave, now = np.zeros(samples, np.float32), rng.uniform(0, 0.3)
    while now < samples / rate:
        length = between(rng, 0.12, 1.5)
        start, stop = int(now * rate), int((now + length) * rate)
        wave[start:stop] = faded(reeds[start:stop], rate, 0.01, 0.03)
        now += length + between(rng, 0.1, 1.5)
    return wave


def children_playing(rng, samples, rate):
    """Several high voices that call, laugh and shriek across a yard."""
    wave = np.zeros(samples, np.float32)
    for _ in range(rng.integers(3, 7)):
        pitch, now = between(rng, 260, 520), rng.uniform(0, 1.5)
        while now < samples / rate:
            length = between(rng, 0.12, 0.8)
            size = int(length * rate)
            glide = pitch * np.exp2(contour(size, *rng.normal(0.1, 0.3, 3)))
            peaks = ((between(rng, 700, 1300), 0.3, 14.0), (between(rng, 1500, 3200), 0.25, 13.0))
            call = harmonic_tone(glide, partials(24, -7, peaks, pitch), size, rate, rng.random())
            wave += scatter(samples, [int(now * rate)], faded(call, rate, 0.03, 0.06), [amplitude(rng.uniform(-14, 0))])
            now += length + between(rng, 0.1, 2.0)
    return reverberate(rng, wave, rate, between(rng, 0.2, 0.8), rng.uniform(0.1, 0.5))


def dog_bark(rng, samples, rate):
    """Barks of one dog: a rough tone that rises and falls within a fifth of a second, in twos and threes."""
    pitch, size = between(rng, 180, 750), int(between(rng, 0.1, 0.3) * rate)
    bend = np.exp2(contour(size, -0.3, 0.2, -0.5))
    peaks = ((pitch * rng.uniform(1.5, 3), 0.5, 12.0),)
    voice = harmonic_tone(pitch * bend, partials(20, -5, peaks, pitch), size, rate)
    rough = 1 + 0.7 * noise(rng, size, rate, high=300)
    bark = faded(voice * rough + rng.uniform(0.2, 0.7) * noise(rng, size, rate, tilt=-4, low=500), rate, 0.012, 0.06)
    starts = beats(rng, samples, rate, between(rng, 0.7, 4), 0.12)
    gains = rng.uniform(0.6, 1, len(starts)) * (rng.random(len(starts)) < 0.8)
    gains[0] = 1  # one bark at least
    return scatter(samples, starts, bark, gains)


def drilling(rng, samples, rate):
    """An electric drill: a whining motor that slows under load, and the hiss or rattle of the bit."""
    load = np.clip(0.5 + wander(rng, samples, rate, 2, 0.4), 0, 1)
    pitch = between(rng, 250, 800) * (1 - 0.25 * load)
    motor = harmonic_tone(pitch, partials(30, rng.uniform(-5, -2)), samples, rate)
    bit = noise(rng, samples, rate, tilt=rng.uniform(-2, 1), low=between(rng, 800, 3000))
    hammer = 1 + rng.uniform(0, 1) * tone(between(rng, 30, 60), samples, rate)
    return motor * (1.2 - 0.5 * load) + rng.uniform(0.3, 1.5) * bit * load * hammer


def engine_idling(rng, samples, rate):
    """A diesel at rest: the knock of each firing on a hum, some cylinders louder than others."""
    size, speed = int(0.06 * rate), between(rng, 16, 36)
    knock = modes(size, rate, between(rng, 90, 1200) * np.array([1, 1.7, 2.9]), between(rng, 0.02, 0.06), [1, 0.6, 0.4])
    knock += 0.4 * noise(rng, size, rate, tilt=-3, low=300) * dying(size, rate, 0.03)
    starts = beats(rng, samples, rate, speed, 0.03)
    cylinders = rng.uniform(0.3, 1, 4)[np.arange(len(starts)) % 4]
    hum = harmonic_tone(speed / 2, partials(40, rng.uniform(-6, -3)), samples, rate)
    return scatter(samples, starts, knock, cylinders) + rng.uniform(0.1, 0.5) * hum


def gun_shot(rng, samples, rate):
    """One to four shots, each a crack and the echoes of the houses."""
    size = int(min(1.2, samples / rate) * rate)
    crack = noise(rng, size, rate, tilt=rng.uniform(-3, 0)) * dying(size, rate, between(rng, 0.05, 0.3))
    shot = crack + 0.5 * modes(size, rate, between(rng, 50, 150), 0.2)
    shot = reverberate(rng, faded(shot, rate, 0.0, 0.1), rate, between(rng, 0.4, 1.5), rng.uniform(0.3, 0.7))
    return scatter(samples, beats(rng, samples, rate, between(rng, 0.3, 1.2), 0.2), shot)


def jackhammer(rng, samples, rate):
    """A pneumatic hammer: 15 to 30 hard blows a second on stone, with the air that it blows out."""
    size, speed = int(0.08 * rate), between(rng, 15, 30)
    blow = modes(size, rate, rng.uniform(300, 5000, 6), rng.uniform(0.01, 0.05, 6), rng.uniform(0.2, 1, 6), rng)
    blow += rng.uniform(0.5, 1.5) * noise(rng, size, rate, tilt=-1) * dying(size, rate, 0.04)
    starts = beats(rng, samples, rate, speed, 0.02)
    air = rng.uniform(0.1, 0.5) * noise(rng, samples, rate, tilt=-3)
    working = np.clip(2 + wander(rng, samples, rate, 0.8, 2), 0.0, 1.0)
    return (scatter(samples, starts, blow, rng.uniform(0.6, 1, len(starts))) + air) * (0.05 + working)


def siren(rng, samples, rate):
    """A car in the traffic: wail, yelp or two tones from a loudspeaker, sinking as it passes."""
    speed = [between(rng, 0.15, 0.35), between(rng, 2.5, 4.5), between(rng, 0.8, 1.4)]
    kind = int(rng.integers(3))
    swing = tone(speed[kind], samples, rate, rng.random())
    octaves = 0.6 * swing if kind < 2 else 0.2 * np.sign(swing)
    pitch = between(rng, 550, 1000) * np.exp2(octaves + contour(samples, 0.03, 0.0, -0.06))
    near = np.exp2(wander(rng, samples, rate, 0.7, 0.6))
    return harmonic_tone(pitch, partials(14, rng.uniform(-9, -4), ((1800.0, 0.7, 6.0),), 700), samples, rate) * near


def street_music(rng, samples, rate):
    """A busker: chords on an accordion or a guitar, a tune over them."""
    root, pace = between(rng, 110, 220), between(rng, 1.5, 4)
    squeezed = rng.random() < 0.5
    wave = np.zeros(samples, np.float32)
    for index, start in enumerate(beats(rng, samples, rate, pace, 0.02)):
        size = int(0.95 * rate / pace)
        chord = (0, 5, 7, 0)[index // 4 % 4]
        notes = [chord + rng.choice([12, 14, 16, 19, 21, 24])] + ([chord, chord + 4] if index % 2 else [chord])
        for note in notes:
            pitch = root * 2 ** (note / 12)
            if squeezed:
                sound = faded(harmonic_tone(pitch, partials(16, -4), size, rate, rng.random()), rate, 0.03, 0.04)
            else:
                number = np.arange(1, 10)
                sound = 4 * faded(modes(size, rate, pitch * number, 0.8 / number**0.5, 1 / number), rate, 0.002, 0.03)
            wave += scatter(samples, [start], sound, [rng.uniform(0.5, 1)])
    return wave


@dataclass(frozen=True)
class Sound:
    """One class: its official name, how a recording of it is made, and how often a slice of it lasts less than 4 s."""

    name: str
    recipe: Callable[..., np.ndarray]
    short: float = 0.05


SOUNDS = (  # in the order of classID
    Sound("air_conditioner", air_conditioner),
    Sound("car_horn", car_horn, 0.6),
    Sound("children_playing", children_playing),
    Sound("dog_bark", dog_bark, 0.4),
    Sound("drilling", drilling, 0.2),
    Sound("engine_idling", engine_idling),
    Sound("gun_shot", gun_shot, 0.9),
    Sound("jackhammer", jackhammer),
    Sound("siren", siren, 0.1),
    Sound("street_music", street_music),
)
SIZES = {"clips_per_class_and_fold": (3, (1, 100)), "seconds": (4.0, (0.5, 4.0))}


def clips(clips_per_class_and_fold: int, seconds: float) -> int:
    """How many clips a miniature of these sizes has, however long they are."""
    return len(SOUNDS) * FOLDS * clips_per_class_and_fold


def write(
    folder: Path, seed: int, advance: Callable[[], None], clips_per_class_and_fold: int, seconds: float
) -> dict[str, int]:
    """Fill `folder` with `audio/` and `metadata/`; returns the number of slices and of recordings.

    `advance` is called after every slice.
    """
    (folder / "metadata").mkdir()
    rows, recordings = [], 0
    for fold in range(1, FOLDS + 1):
        (folder / "audio" / f"fold{fold}").mkdir(parents=True)
    for (number, sound), fold in product(enumerate(SOUNDS), range(1, FOLDS + 1)):
        left = clips_per_class_and_fold
        while left > 0:
            rng = generator(seed, "urbansound8k", number, fold, left)
            slices = min(int(rng.choice(SLICES)), left)
            recordings += 1
            source = 100_000 + 41 * recordings
            place = folder / "audio" / f"fold{fold}"
            for name, start, end, salience in _write_slices(place, rng, number, source, slices, seconds):
                rows.append((name, source, start, end, salience, fold, number, sound.name))
                advance()
            left -= slices
    write_csv(folder / "metadata" / "UrbanSound8K.csv", [COLUMNS, *sorted(rows)])
    return {"clips": len(rows), "recordings": recordings}


def _write_slices(place: Path, rng, number: int, source: int, slices: int, seconds: float):
    """Make one recording and write its slices, one a step; yields name, start, end (s) and salience of each."""
    sound, rate = SOUNDS[number], int(rng.choice(RATES))
    salience = 1 if rng.random() < 0.65 else 2
    hop = seconds / 2  # official slices of one occurrence overlap by half
    length = round((seconds + hop * (slices - 1)) * rate)
    recording = record(rng, sound.recipe, length, rate, salience)
    stereo = rng.random() < 0.5
    other = recording * rng.uniform(0.5, 1) + amplitude(-30) * noise(rng, length, rate, tilt=-4) if stereo else None
    for index in range(slices):
        lasts = rng.uniform(0.3, 1.0) * seconds if rng.random() < sound.short else seconds
        part = slice(round(index * hop * rate), round((index * hop + lasts) * rate))
        wave = recording[part] if other is None else np.stack([recording[part], other[part]], axis=1)
        name = f"{source}-{number}-0-{index}.wav"
        write_wav(place / name, wave, rate)
        yield name, round(index * hop, 6), round(index * hop + lasts, 6), salience


def record(rng: np.random.Generator, recipe: Callable[..., np.ndarray], samples: int, rate: int, salience: int):
    """One recording, float32 `(samples,)`: the sound in its street, in front (salience 1) or behind (2)."""
    sound = normalised(recipe(rng, samples, rate), rate)
    if salience == 2:
        sound = reverberate(rng, sound, rate, between(rng, 0.3, 1.2), rng.uniform(0.3, 0.7))
    above = rng.uniform(*(FOREGROUND if salience == 1 else BACKGROUND))
    mixed = sound + amplitude(-above) * normalised(street(rng, samples, rate), rate)
    mixed[1:] += rng.uniform(-0.5, 0.6) * mixed[:-1]  # a microphone's tilt towards treble or bass
    return mixed * amplitude(rng.uniform(-34, -10))


def street(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """What is heard behind: the rumble of traffic that comes and goes, steps of talk far away, hiss."""
    rumble = noise(rng, samples, rate, tilt=rng.uniform(-8, -4), low=40) * np.exp2(wander(rng, samples, rate, 0.8, 0.7))
    peaks = ((between(rng, 300, 900), 0.5, 9.0), (between(rng, 900, 2500), 0.5, 7.0))
    talk = noise(rng, samples, rate, tilt=-6, low=200, peaks=peaks) * np.exp2(wander(rng, samples, rate, 6, 0.8))
    return rumble + rng.uniform(0, 1) * talk
