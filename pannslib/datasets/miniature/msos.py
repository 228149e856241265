"""The Making Sense of Sounds miniature: five categories, each of many kinds of event.

    MSoS_challenge_2018_Development_v1-00/Development/{Effects,Human,Music,Nature,Urban}/*.wav
    MSoS_challenge_2018_Development_v1-00/Logsheet_Development.csv                 Category,Event,File
    Evaluation/*.wav, Logsheet_EvaluationMaster.csv                                the same columns

44.1 kHz, 16 bit, mono. What is to be learnt is the category, so kinds that sound alike are in different categories (a
synthesiser and a siren, breath and wind, an explosion and thunder), and one kind of each category is in the evaluation
set alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature import dcase2018_task2 as sounds
from pannslib.datasets.miniature import dcase2019_task1a as places
from pannslib.datasets.miniature import esc50
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
    noise,
    partials,
    resonate,
    sawtooth,
    scatter,
    tone,
    wander,
    write_csv,
    write_wav,
)
from pannslib.datasets.miniature.voice import PHONES, Manner, draw_speaker, speak

RATE = 44_100
DEVELOPMENT = "MSoS_challenge_2018_Development_v1-00"
QUIET = 0.12  # part of the clips that end early and are followed by silence


# --- recipes that are in no other miniature: (rng, samples, rate) -> waveform ----------------------------------


def laser(rng, samples, rate):
    """Shots of a toy gun: a tone that falls by octaves within a fraction of a second."""
    size = int(between(rng, 0.1, 0.5) * rate)
    pitch = between(rng, 1500, 6000) * np.exp2(-rng.uniform(2, 5) * contour(size, 0, 1) ** rng.uniform(0.5, 1))
    shot = faded(harmonic_tone(np.maximum(pitch, 40), partials(12, rng.uniform(-9, -3)), size, rate), rate, 0.002, 0.05)
    return scatter(samples, beats(rng, samples, rate, between(rng, 0.8, 4), 0.1), shot)


def explosion(rng, samples, rate):
    """A blast and its rumble, far or near."""
    wave = np.zeros(samples, np.float32)
    for start in beats(rng, samples, rate, between(rng, 0.3, 1.2), 0.2):
        size = samples - start
        blast = noise(rng, size, rate, tilt=rng.uniform(-7, -3)) * dying(size, rate, between(rng, 0.6, 3))
        wave[start:] += faded(np.tanh(rng.uniform(0.5, 3) * blast), rate, 0.003, 0.05)
    return wave


def synthesiser(rng, samples, rate):
    """A machine that powers up or down: a saw-tooth tone with a filter that sweeps and a tremolo."""
    pitch = between(rng, 60, 400) * np.exp2(rng.uniform(-1.5, 1.5) * contour(samples, 0, 1))
    saw = harmonic_tone(pitch, partials(80, -6), samples, rate)
    trembling = 0.6 + 0.4 * tone(between(rng, 3, 18), samples, rate)
    return resonate(saw, rate, [between(rng, 300, 3000)], [between(rng, 80, 400)]) * 4 * trembling + 0.2 * saw


def spring(rng, samples, rate):
    """Boing: a tone that wobbles ever less."""
    size = int(min(samples / rate, between(rng, 0.5, 1.5)) * rate)
    wobble = rng.uniform(0.3, 0.9) * tone(between(rng, 6, 16), size, rate) * dying(size, rate, 2.0)
    note = harmonic_tone(between(rng, 120, 500) * np.exp2(wobble), partials(20, -5), size, rate) * dying(
        size, rate, 1.2
    )
    return scatter(samples, beats(rng, samples, rate, between(rng, 0.5, 1.5), 0.1), faded(note, rate, 0.002, 0.05))


def game_melody(rng, samples, rate):
    """Square waves of an old game in quick steps."""
    step = int(between(rng, 0.05, 0.15) * rate)
    odd = np.zeros(40)
    odd[::2] = 1 / np.arange(1, 41, 2)
    root, wave = between(rng, 250, 900), np.zeros(samples, np.float32)
    for start in range(0, samples, step):
        note = harmonic_tone(root * 2 ** (rng.integers(-12, 13) / 12), odd, step, rate)
        wave += scatter(samples, [start], faded(note, rate, 0.002, 0.01))
    return wave


def speech(rng, samples, rate):
    """Someone who says something: made-up words of a synthetic voice."""
    speaker = draw_speaker(rng, female=bool(rng.random() < 0.5))
    manner = Manner(pitch=rng.normal(0, 2), melody=rng.normal(0, 0.3), tempo=rng.normal(0, 0.15))
    names, wave = tuple(PHONES), np.zeros(samples, np.float32)
    count = max(6, int(samples / rate * 13))
    phones = tuple(names[k] for k in rng.integers(0, len(names), count))
    said = speak(rng, speaker, phones, tuple(range(2, count, 7)), manner, rate)[:samples]
    start = rng.integers(0, samples - len(said) + 1)
    wave[start : start + len(said)] = said
    return wave


def breathing(rng, samples, rate):
    """Air in and out, through a nose or a mouth."""
    swing = np.abs(tone(between(rng, 0.25, 0.8), samples, rate, rng.random())) ** rng.uniform(0.8, 2)
    air = noise(rng, samples, rate, tilt=-2, low=300, peaks=((between(rng, 600, 1800), 0.5, rng.uniform(6, 14)),))
    return air * swing


def snoring(rng, samples, rate):
    """A rattle of 25 to 60 pulses a second that swells with each breath."""
    swell = np.clip(tone(between(rng, 0.3, 0.8), samples, rate, rng.uniform(0, 0.2)), 0, 1)
    pulses = harmonic_tone(
        between(rng, 25, 60) * np.exp2(wander(rng, samples, rate, 8, 0.1)), partials(60, -3), samples, rate
    )
    throat = resonate(pulses, rate, [between(rng, 250, 500), between(rng, 900, 1500)], [120, 200])
    return (throat * 3 + 0.2 * noise(rng, samples, rate, tilt=-3)) * swell


def crying(rng, samples, rate):
    """A baby: long wails of 350 to 600 Hz that rise, hold and break off for a breath."""
    tempo = between(rng, 0.7, 1.4)
    phase = sawtooth(tempo, samples, rate, rng.random())
    arch = np.sin(np.pi * np.clip(phase / 0.8, 0, 1)).astype(np.float32)
    pitch = between(rng, 330, 560) * (0.8 + 0.35 * arch) * np.exp2(wander(rng, samples, rate, 30, 0.03))
    mouth = ((between(rng, 900, 1400), 0.4, 14.0), (between(rng, 2800, 3800), 0.3, 10.0))
    return harmonic_tone(pitch, partials(24, -5, mouth, 450), samples, rate) * arch


def drum_kit(rng, samples, rate):
    """Bass drum, snare and hi-hat in a bar of four."""
    return sounds.bass_drum(rng, samples, rate) + rng.uniform(0.2, 0.6) * sounds.hi_hat(rng, samples, rate)


def ensemble(rng, samples, rate):
    """Two or three instruments at once."""
    pool = (sounds.flute, sounds.clarinet, sounds.violin_or_fiddle, sounds.trumpet, sounds.electric_piano)
    return sum(pool[k](rng, samples, rate) for k in rng.choice(len(pool), rng.integers(2, 4), replace=False))


def thunder(rng, samples, rate):
    """A crack and rolls that follow one another, all of them low."""
    roll = np.exp2(wander(rng, samples, rate, 3, 1.2)) * contour(samples, *rng.uniform(0.1, 1, 3))
    return noise(rng, samples, rate, tilt=rng.uniform(-9, -6), low=30) * roll


def frogs(rng, samples, rate):
    """Croaks: trains of pulses at 30 to 80 a second through a small resonance, from several animals."""
    wave = np.zeros(samples, np.float32)
    for _ in range(rng.integers(1, 4)):
        size = int(between(rng, 0.15, 0.5) * rate)
        croak = resonate(
            harmonic_tone(between(rng, 30, 80), np.ones(60), size, rate), rate, [between(rng, 500, 2200)], [150]
        )
        own = beats(rng, samples, rate, between(rng, 0.7, 2), 0.1)
        wave += rng.uniform(0.3, 1) * scatter(samples, own, faded(croak, rate, 0.02, 0.05))
    return wave


def jackhammer(rng, samples, rate):
    """A chisel at 15 to 30 blows a second on stone, with the hiss of its air."""
    size = int(0.05 * rate)
    blow = noise(rng, size, rate, low=300, peaks=((between(rng, 900, 2500), 0.4, 12.0),)) * dying(size, rate, 0.04)
    starts = beats(rng, samples, rate, between(rng, 15, 30), 0.03)
    working = wander(rng, samples, rate, 0.8, 1.0) > -0.6
    return scatter(samples, starts, blow) * faded(working.astype(np.float32), rate) + 0.1 * noise(rng, samples, rate)


def car_horn(rng, samples, rate):
    """Two harsh tones at once, pressed once or a few times."""
    low = between(rng, 280, 480)
    horn = sum(harmonic_tone(low * ratio, partials(30, -3), samples, rate) for ratio in (1, rng.uniform(1.18, 1.3)))
    force = wander(rng, samples, rate, between(rng, 1, 3), 2.0)
    pressed = np.clip(force - np.median(force) + 0.5, 0, 1)
    return horn * convolve(pressed, np.full(int(0.01 * rate), 1 / int(0.01 * rate), np.float32))


# category -> its kinds of event; the last of each is in the evaluation set alone
EVENTS: dict[str, dict[str, Callable[..., np.ndarray]]] = {
    "Effects": {
        "Laser": laser,
        "Explosion": explosion,
        "Synthesiser": synthesiser,
        "Glass": sounds.shatter,
        "Squeak": sounds.squeak,
        "Computer game": game_melody,
        "Spring": spring,
    },
    "Human": {
        "Speech": speech,
        "Laughing": sounds.laughter,
        "Coughing": sounds.cough,
        "Breathing": breathing,
        "Crying baby": crying,
        "Footsteps": esc50.footsteps,
        "Snoring": snoring,
    },
    "Music": {
        "Violin": sounds.violin_or_fiddle,
        "Trumpet": sounds.trumpet,
        "Electric piano": sounds.electric_piano,
        "Drum kit": drum_kit,
        "Flute": sounds.flute,
        "Ensemble": ensemble,
        "Clarinet": sounds.clarinet,
    },
    "Nature": {
        "Rain": esc50.rain,
        "Sea waves": esc50.sea_waves,
        "Wind": esc50.wind,
        "Dog": sounds.bark,
        "Cat": sounds.meow,
        "Thunder": thunder,
        "Frogs": frogs,
    },
    "Urban": {
        "Traffic": places.cars,
        "Train": places.rails,
        "Siren": esc50.siren,
        "Engine": esc50.engine,
        "Crowd": places.people,
        "Jackhammer": jackhammer,
        "Car horn": car_horn,
    },
}

SIZES = {
    "seconds": (3.0, (1.0, 10.0)),
    "development_per_category": (60, (6, 1000)),
    "evaluation_per_category": (20, (2, 1000)),
}


# --- clips, files ----------------------------------------------------------------------------------------------


def clips(seconds: float, development_per_category: int, evaluation_per_category: int) -> int:
    """How many clips a miniature of these sizes has, however long they are."""
    return len(EVENTS) * (development_per_category + evaluation_per_category)


def write(
    folder: Path,
    seed: int,
    advance: Callable[[], None],
    seconds: float,
    development_per_category: int,
    evaluation_per_category: int,
) -> dict[str, int]:
    """Fill `folder` with both sets and their log sheets; returns the number of clips of each and of kinds of event.

    `advance` is called after every clip.
    """
    development = folder / DEVELOPMENT
    samples = round(seconds * RATE)
    header = ("Category", "Event", "File")
    sheets: dict[str, list[tuple]] = {"development": [], "evaluation": []}
    (folder / "Evaluation").mkdir()
    for number, (category, events) in enumerate(EVENTS.items()):
        place = development / "Development" / category
        place.mkdir(parents=True)
        for part, count in enumerate((development_per_category, evaluation_per_category)):
            known = list(events)[: len(events) - 1 + part]
            for index in range(count):
                rng = generator(seed, "msos", part, number, index)
                event = known[index % len(known)]
                # a number that tells nothing, as the files of the evaluation set must not
                digest = hashlib.blake2b(f"{seed}/{part}/{number}/{index}".encode(), digest_size=6).digest()
                name = f"{int.from_bytes(digest, 'big'):015d}.wav"
                audio = folder / "Evaluation" if part else place
                write_wav(audio / name, _clip(rng, events[event], samples), RATE)
                sheets["evaluation" if part else "development"].append((category, event, name))
                advance()
    write_csv(development / "Logsheet_Development.csv", [header, *sorted(sheets["development"])])
    write_csv(folder / "Logsheet_EvaluationMaster.csv", [header, *sorted(sheets["evaluation"])])
    kinds = sum(len(events) for events in EVENTS.values())
    return {name: len(rows) for name, rows in sheets.items()} | {"events": kinds}


def _clip(rng: np.random.Generator, recipe: Callable[..., np.ndarray], samples: int) -> np.ndarray:
    """One clip of an event; some end early and are followed by exact silence."""
    wave = esc50.record(rng, recipe, samples, RATE) * amplitude(rng.uniform(-6, 0))
    if rng.random() < QUIET:
        size = int(rng.uniform(0.3, 0.9) * samples)
        wave = np.concatenate([faded(wave[:size], RATE, 0.0, 0.05), np.zeros(samples - size, np.float32)])
    return wave
