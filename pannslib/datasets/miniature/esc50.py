"""The ESC-50 miniature: environmental sounds in the official layout of Piczak (2015), 5 folds, 5 s, 44.1 kHz.

As in ESC-50, a source recording (`src_file`) is cut into one to three clips (takes A, B, C), all in one fold. What a
recording sounds like as a whole (pitch, tempo, material, distance, microphone) is drawn once and shared by its takes.
Sounds that end before the clip does are followed by exact zeros, as 74 of the 400 clips of ESC-10 are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature.synthesis import (
    amplitude,
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
    normalised,
    partials,
    resonate,
    reverberate,
    sawtooth,
    scatter,
    tone,
    wander,
    write_csv,
    write_wav,
)

RATE = 44_100
SECONDS = 5
FOLDS = 5
TAKES = (1, 1, 2, 3)  # clips cut from one recording, each number as likely as the others
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")
HUM_TO_HISS = (-9.0, -2.0)  # tilt of the noise behind a recording, in dB per octave


# --- recipes: (rng, samples, rate) -> waveform, one recording each ----------------------------------------------


def rain(rng, samples, rate):
    """Steady hiss of far drops and a patter of near ones on a surface that rings a little."""
    hiss = noise(rng, samples, rate, tilt=rng.uniform(-4, 0), low=between(rng, 200, 1500))
    drop = noise(rng, int(0.02 * rate), rate, low=between(rng, 800, 3000)) * dying(int(0.02 * rate), rate, 0.015)
    return hiss + amplitude(rng.uniform(0, 18)) * convolve(_specks(rng, samples, rate, between(rng, 15, 150)), drop)


def sea_waves(rng, samples, rate):
    """Noise that swells and breaks every few seconds and grows brighter as it breaks."""
    period = between(rng, 3, 9)
    swell = 0.5 + 0.5 * tone(1 / period, samples, rate, rng.random())
    swell = swell ** rng.uniform(1, 4)
    deep = noise(rng, samples, rate, tilt=rng.uniform(-6, -3))
    spray = noise(rng, samples, rate, tilt=rng.uniform(-3, 0), low=between(rng, 500, 2000))
    return deep * (0.15 + swell) + spray * swell**2 * rng.uniform(0.1, 0.9)


def wind(rng, samples, rate):
    """Low noise in gusts, with now and then a whistle where the gust is strong."""
    gust = np.exp2(wander(rng, samples, rate, between(rng, 0.4, 2), rng.uniform(0.4, 1.5)))
    body = noise(
        rng, samples, rate, tilt=rng.uniform(-8, -3), peaks=((between(rng, 150, 700), 0.5, rng.uniform(0, 12)),)
    )
    pitch = between(rng, 300, 1200) * np.exp2(wander(rng, samples, rate, 1.5, 0.2))
    whistle = tone(pitch, samples, rate) * noise(rng, samples, rate, tilt=-9, high=20)
    return body * gust + rng.uniform(0, 0.5) * whistle * gust**2


def crackling_fire(rng, samples, rate):
    """A soft roar under sharp crackles of all sizes that come in clusters."""
    roar = noise(rng, samples, rate, tilt=rng.uniform(-7, -3)) * (1 + wander(rng, samples, rate, 4, 0.25))
    size = int(between(rng, 0.003, 0.02) * rate)
    crack = noise(rng, size, rate, low=between(rng, 800, 4000)) * dying(size, rate, between(rng, 0.003, 0.015))
    cluster = np.exp2(wander(rng, samples, rate, 3, 1.5))
    cracks = convolve(_specks(rng, samples, rate, between(rng, 8, 70), cluster), crack)
    return roar + amplitude(rng.uniform(12, 26)) * cracks


def clock_tick(rng, samples, rate):
    """Two alternating clicks of a small case at an even tempo."""
    size = int(0.05 * rate)
    case = between(rng, 1200, 5000) * rng.uniform(0.6, 2.2, 4)
    strokes = [
        modes(size, rate, case * rng.uniform(0.8, 1.2), rng.uniform(0.005, 0.04, 4), rng.uniform(0.2, 1, 4))
        + 0.4 * noise(rng, size, rate, low=2000) * dying(size, rate, 0.004)
        for _ in range(2)
    ]
    starts = beats(rng, samples, rate, rng.choice([1.0, 2.0, 2.5, 4.0, 5.0]), 0.002)
    return scatter(samples, starts[::2], strokes[0]) + rng.uniform(0.4, 1) * scatter(samples, starts[1::2], strokes[1])


def footsteps(rng, samples, rate):
    """Heel and sole on gravel, wood or stone: a dull thump and a scrape, two feet that differ."""
    size = int(0.25 * rate)
    tempo = between(rng, 1.2, 3.2)
    feet = []
    for _ in range(2):
        thump = modes(size, rate, between(rng, 70, 220) * np.array([1, 1.6, 2.7]), rng.uniform(0.05, 0.15, 3))
        scrape = noise(rng, size, rate, tilt=-3, low=between(rng, 400, 3000)) * dying(
            size, rate, between(rng, 0.03, 0.2)
        )
        feet.append(thump + rng.uniform(0.1, 1.5) * faded(scrape, rate, 0.01, 0.05))
    starts = beats(rng, samples, rate, tempo, 0.04)
    return sum(scatter(samples, starts[i::2], feet[i], rng.uniform(0.5, 1, len(starts[i::2]))) for i in range(2))


def door_wood_knock(rng, samples, rate):
    """Two to six quick raps on a panel, then a pause; the panel rings low and short."""
    size = int(0.2 * rate)
    panel = between(rng, 90, 400) * np.array([1, 1.7, 2.4, 3.9, 5.3])
    rap = modes(size, rate, panel, between(rng, 0.04, 0.15) * rng.uniform(0.5, 1.2, 5), rng.uniform(0.2, 1, 5))
    rap += 0.5 * noise(rng, size, rate, low=600, high=4000) * dying(size, rate, 0.01)
    starts, now, step = [], rng.uniform(0.05, 0.8), between(rng, 0.12, 0.4)
    while now < samples / rate:
        burst = rng.integers(2, 7)
        starts += [now + step * (i + rng.normal(0, 0.04)) for i in range(burst)]
        now += step * burst + between(rng, 1.0, 4.0)
    return scatter(samples, np.maximum(starts, 0) * rate, rap, rng.uniform(0.5, 1, len(starts)))


def water_drops(rng, samples, rate):
    """Single drops into water: each a short bubble that rises in pitch."""
    size = int(0.1 * rate)
    drops = np.zeros(samples, np.float32)
    starts = beats(rng, samples, rate, between(rng, 0.7, 6), rng.choice([0.02, 0.3]))
    base = between(rng, 400, 1800)
    for group in range(3):
        pitch = base * between(rng, 0.7, 1.5) * contour(size, 1, rng.uniform(1.1, 1.9))
        drop = tone(pitch, size, rate) * dying(size, rate, between(rng, 0.02, 0.1))
        drops += scatter(samples, starts[group::3], drop, rng.uniform(0.3, 1, len(starts[group::3])))
    return drops


def helicopter(rng, samples, rate):
    """Low pulses of blades at 8 to 20 a second over turbine noise that the blades chop."""
    tempo = between(rng, 8, 20)
    chop = np.exp(-rng.uniform(2, 9) * sawtooth(tempo, samples, rate, rng.random()))
    low = noise(rng, samples, rate, tilt=-6, peaks=((between(rng, 60, 200), 0.7, rng.uniform(4, 12)),))
    turbine = noise(rng, samples, rate, tilt=rng.uniform(-5, -2), low=200)
    return low * chop + rng.uniform(0.1, 0.6) * turbine * (0.4 + chop)


def engine(rng, samples, rate):
    """Firing pulses of an idling motor, uneven from cylinder to cylinder, through a body and an exhaust."""
    pitch = between(rng, 7, 28) * np.exp2(wander(rng, samples, rate, 2, 0.06))
    firing = harmonic_tone(pitch, partials(120, rng.uniform(-7, -2)) * rng.uniform(0.2, 1, 120), samples, rate)
    body = resonate(firing, rate, between(rng, 60, 250) * np.array([1, 2.3, 5.1]), [60, 120, 300], [1, 0.7, 0.4])
    chop = np.abs(firing) / np.max(np.abs(firing))
    return normalised(body, rate) + rng.uniform(0.05, 0.5) * noise(rng, samples, rate, tilt=-4) * (0.3 + chop)


def chainsaw(rng, samples, rate):
    """A rasping two-stroke buzz of 60 to 180 Hz that is revved up and down, with its own hiss."""
    revs = np.exp2(wander(rng, samples, rate, between(rng, 0.3, 1.5), rng.uniform(0.1, 0.5)))
    formants = ((between(rng, 700, 1500), 0.6, 12.0), (between(rng, 2500, 5000), 0.5, 12.0))
    pitch = between(rng, 60, 180)
    buzz = harmonic_tone(pitch * revs, partials(150, -4, formants, pitch) * rng.uniform(0.3, 1, 150), samples, rate)
    hiss = noise(rng, samples, rate, tilt=-2, low=500)
    return buzz + rng.uniform(0.1, 0.8) * hiss * (0.5 + 0.5 * np.abs(buzz))


def siren(rng, samples, rate):
    """A wail, a yelp or two tones in turn, heard through a horn."""
    centre, depth = between(rng, 500, 1100), rng.uniform(0.2, 0.6)
    slowest, quickest = ((0.2, 0.6), (2.0, 4.0), (0.6, 2.0))[kind := rng.integers(3)]
    sweep = tone(between(rng, slowest, quickest), samples, rate, rng.random())
    sweep = depth * (np.sign(sweep) if kind == 2 else sweep)
    formants = ((between(rng, 900, 2500), 0.7, 10.0),)
    return harmonic_tone(centre * np.exp2(sweep), partials(20, -6, formants, centre), samples, rate)


def crickets(rng, samples, rate):
    """Chirps of three to five quick pulses of one high tone, from one to three animals."""
    song = np.zeros(samples, np.float32)
    for _ in range(rng.integers(1, 4)):
        pitch, size, step = between(rng, 2500, 6000), int(between(rng, 0.01, 0.025) * rate), between(rng, 0.02, 0.05)
        pulse = faded(tone(pitch, size, rate), rate, 0.005, 0.008)
        chirp = scatter(int(0.3 * rate), np.arange(rng.integers(2, 6)) * step * rate, pulse)
        song += rng.uniform(0.2, 1) * scatter(samples, beats(rng, samples, rate, between(rng, 1, 5), 0.02), chirp)
    return song


def church_bells(rng, samples, rate):
    """Cast bells with hum, prime, minor third, fifth and nominal, two to four of them in turn."""
    ratios = np.array([0.5, 1, 1.2, 1.5, 2, 2.7, 3.0, 4.2])
    starts = beats(rng, samples, rate, between(rng, 0.4, 2), 0.03)
    peal, count = np.zeros(samples, np.float32), int(rng.integers(1, 4))
    size, base = int(3 * rate), between(rng, 180, 700)
    for bell in range(count):
        partial = base * 2 ** (rng.integers(0, 8) / 12) * ratios * rng.uniform(0.995, 1.005, 8)
        sound = modes(size, rate, partial, 8 / ratios**0.8, rng.uniform(0.2, 1, 8), rng)
        own = starts[bell::count]
        peal += scatter(samples, own, faded(sound, rate, 0.002, 0.5), rng.uniform(0.5, 1, len(own)))
    return peal


def vacuum_cleaner(rng, samples, rate):
    """The whine of a motor with its harmonics within a broad rush of air."""
    pitch = between(rng, 90, 350) * np.exp2(wander(rng, samples, rate, 0.7, 0.02))
    rush = noise(
        rng, samples, rate, tilt=rng.uniform(-5, -1), peaks=((between(rng, 300, 3000), 0.6, rng.uniform(3, 12)),)
    )
    return rush + rng.uniform(0.3, 1.2) * harmonic_tone(pitch, partials(40, rng.uniform(-7, -3)), samples, rate)


def hand_saw(rng, samples, rate):
    """Strokes to and fro: noise roughened by teeth, the pull brighter than the push."""
    tempo = between(rng, 0.8, 3)
    stroke = tone(tempo / 2, samples, rate, rng.random())  # its sign is the direction
    speed = np.abs(stroke)
    teeth = tone(between(rng, 60, 250) * (0.3 + speed), samples, rate)
    rasp = noise(rng, samples, rate, tilt=-1, peaks=((between(rng, 800, 4000), 0.8, 10.0),)) * (
        1 + rng.uniform(0.3, 1) * teeth
    )
    return rasp * speed * np.where(stroke > 0, np.float32(1), np.float32(rng.uniform(0.2, 0.8)))


def _specks(rng, samples, rate, density, weight=None):
    """Single impulses of either sign, `density` a second (times `weight`, `(samples,)`), with a few that are strong."""
    moments = rng.integers(0, samples, rng.poisson(density * samples / rate))
    if weight is not None:
        moments = moments[rng.random(len(moments)) < weight[moments] / np.max(weight)]
    specks = np.zeros(samples, np.float32)
    specks[moments] = rng.choice([-1, 1], len(moments)) * rng.lognormal(-1.0, 0.8, len(moments))
    return specks


@dataclass(frozen=True)
class Category:
    """One of ESC-50's categories: its official number, whether ESC-10 has it, and how it is synthesised."""

    target: int
    esc10: bool
    recipe: Callable[..., np.ndarray]
    may_end_early: bool = False

    @property
    def name(self) -> str:
        """The official name, which is the recipe's."""
        return self.recipe.__name__


# In the order in which `classes` takes them: those that are easily confused first.
CATEGORIES = (
    Category(10, True, rain),
    Category(38, True, clock_tick),
    Category(40, True, helicopter),
    Category(11, True, sea_waves),
    Category(44, False, engine),
    Category(25, False, footsteps, may_end_early=True),
    Category(12, True, crackling_fire),
    Category(30, False, door_wood_knock, may_end_early=True),
    Category(16, False, wind),
    Category(15, False, water_drops, may_end_early=True),
    Category(41, True, chainsaw),
    Category(36, False, vacuum_cleaner),
    Category(42, False, siren),
    Category(49, False, hand_saw),
    Category(13, False, crickets),
    Category(46, False, church_bells, may_end_early=True),
)

SIZES = {"clips_per_class_and_fold": (4, (1, 200)), "classes": (10, (2, len(CATEGORIES)))}


# --- recordings, clips, files ----------------------------------------------------------------------------------


def clips(clips_per_class_and_fold: int, classes: int) -> int:
    """How many clips a miniature of these sizes has."""
    return classes * FOLDS * clips_per_class_and_fold


def write(
    folder: Path, seed: int, advance: Callable[[], None], clips_per_class_and_fold: int, classes: int
) -> dict[str, int]:
    """Fill `folder` with `audio/` and `meta/esc50.csv`; returns the number of clips and of source recordings.

    `advance` is called after every clip.
    """
    (folder / "audio").mkdir()
    (folder / "meta").mkdir()
    rows, recordings = [], 0
    for (number, category), fold in product(enumerate(CATEGORIES[:classes]), range(1, FOLDS + 1)):
        left = clips_per_class_and_fold
        while left > 0:
            rng = generator(seed, "esc50", number, fold, left)
            takes = min(int(rng.choice(TAKES)), left)
            recordings += 1
            for row in _write_takes(folder / "audio", rng, category, fold, 100_000 + 37 * recordings, takes):
                rows.append(row)
                advance()
            left -= takes
    write_csv(folder / "meta" / "esc50.csv", [COLUMNS, *sorted(rows)])
    return {"clips": len(rows), "recordings": recordings}


def _write_takes(audio: Path, rng, category: Category, fold: int, source: int, takes: int) -> Iterator[tuple]:
    """Make one source recording and write its `takes` clips, one a step; yields their rows of the metadata."""
    samples = SECONDS * RATE
    recording = record(rng, category.recipe, takes * samples, RATE)
    for index in range(takes):
        clip = recording[index * samples : (index + 1) * samples]
        if category.may_end_early and rng.random() < 0.4:
            length = int(rng.uniform(1.0, 4.5) * RATE)
            clip = np.concatenate([faded(clip[:length], RATE, 0.0, 0.1), np.zeros(samples - length, np.float32)])
        take = "ABC"[index]
        name = f"{fold}-{source}-{take}-{category.target}.wav"
        write_wav(audio / name, clip, RATE)
        yield name, fold, category.target, category.name, category.esc10, source, take


def record(rng: np.random.Generator, recipe: Callable[..., np.ndarray], samples: int, rate: int) -> np.ndarray:
    """One recording of what `recipe` makes: at some distance, in some place, through some microphone."""
    sound = normalised(recipe(rng, samples, rate), rate)
    if rng.random() < 0.5:
        sound = reverberate(rng, sound, rate, between(rng, 0.1, 0.8), rng.uniform(0.1, 0.6))
    place = noise(rng, samples, rate, tilt=rng.uniform(*HUM_TO_HISS), high=between(rng, 3000, 20000))
    mixed = sound + amplitude(rng.uniform(-45, -14)) * place
    mixed[1:] += rng.uniform(-0.5, 0.6) * mixed[:-1]  # a microphone's tilt towards treble or bass
    return mixed * amplitude(rng.uniform(-36, -10))
