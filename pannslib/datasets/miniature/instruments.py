"""Recipes of Mini-AudioSet, second part: voices without words, instruments, drums.

Each recipe is `(rng, samples, rate) -> waveform` of one event, float32 `(samples,)` at any level.
"""

from __future__ import annotations

import numpy as np

from pannslib.datasets.miniature.synthesis import (
    beats,
    between,
    contour,
    dying,
    faded,
    harmonic_tone,
    modes,
    noise,
    partials,
    scatter,
    tone,
    wander,
)

SCALE = np.array([0, 2, 4, 7, 9, 12, 14, 16])  # semitones: a pentatonic scale, in which any notes go together
# The first three formants in Hz of sung vowels.
VOWELS = ((730.0, 1090.0, 2440.0), (530.0, 1840.0, 2480.0), (300.0, 870.0, 2240.0), (440.0, 1020.0, 2240.0))


def _sung(rng, pitch, formants, vibrato, samples, rate):
    """One voice on a held note with vibrato and the formants of a vowel."""
    speed, depth = between(rng, 4.5, 6.5), vibrato * rng.uniform(0.5, 1.5)
    swing = depth * tone(speed, samples, rate, rng.random()) + wander(rng, samples, rate, 8, 0.1)
    tract = rng.uniform(0.9, 1.15)
    peaks = tuple((centre * tract, 0.25, height) for centre, height in zip(formants, (14, 12, 10), strict=True))
    return harmonic_tone(pitch * np.exp2(swing / 12), partials(40, -8, peaks, pitch), samples, rate, rng.random())


def humming(rng, samples, rate):
    """A tune through closed lips: low harmonics only, notes joined."""
    notes = rng.choice(SCALE, int(samples / rate * between(rng, 1.5, 4)) + 1)
    glide = contour(samples, *np.repeat(notes, 3)) / 12  # a third of a note's length from one note to the next
    pitch = between(rng, 90, 300) * np.exp2(glide + wander(rng, samples, rate, 8, 0.01))
    swell = np.exp2(wander(rng, samples, rate, 4, 0.5))
    return faded(harmonic_tone(pitch, partials(12, rng.uniform(-16, -9)), samples, rate) * swell, rate, 0.08, 0.1)


def choir(rng, samples, rate):
    """Four to six voices on a chord, the same vowel, none quite in tune."""
    root, vowel = between(rng, 110, 260), VOWELS[rng.integers(len(VOWELS))]
    voices = [
        _sung(rng, root * 2 ** ((rng.choice(SCALE[:6]) + rng.normal(0, 0.1)) / 12), vowel, 0.4, samples, rate)
        for _ in range(rng.integers(4, 7))
    ]
    return faded(sum(voices), rate, between(rng, 0.1, 0.4), between(rng, 0.1, 0.4))


def organ(rng, samples, rate):
    """A held chord of pipes: drawbar harmonics without vibrato, all starting at once."""
    stops = np.zeros(16)
    stops[[0, 1, 2, 3, 5, 7, 9, 11, 15]] = rng.random(9)
    root = between(rng, 65, 260)
    notes = root * 2 ** (rng.choice(SCALE, rng.integers(2, 5), replace=False) / 12)
    chord = sum(harmonic_tone(note, stops, samples, rate, rng.random()) for note in notes)
    return faded(chord + 0.02 * noise(rng, samples, rate, tilt=-2), rate, 0.04, 0.06)


def plucked_string(rng, samples, rate):
    """Single notes or strums of a guitar or harp: harmonics that die away, the high ones first."""
    wave, number = np.zeros(samples, np.float32), np.arange(1, 16)
    pluck = np.sin(np.pi * number * rng.uniform(0.1, 0.4)) / number  # where the string is plucked
    length, root = between(rng, 0.8, 4), between(rng, 90, 450)
    for start in beats(rng, samples, rate, between(rng, 2, 7), 0.05):
        pitch = root * 2 ** (rng.choice(SCALE) / 12)
        stretched = pitch * number * np.sqrt(1 + 3e-4 * number**2)
        size = min(int(0.8 * rate), samples - start)
        note = modes(size, rate, stretched, length / number**0.7, pluck * rng.uniform(0.5, 1))
        wave[start : start + size] += faded(note, rate, 0.002, 0.05)
    return wave


def marimba(rng, samples, rate):
    """Wooden bars: a fundamental and its fourth and tenth multiple, soon gone, in quick notes."""
    wave, root, size = np.zeros(samples, np.float32), between(rng, 160, 600), int(0.4 * rate)
    lengths = between(rng, 0.15, 0.7) * np.array([1, 0.4, 0.2])
    starts = beats(rng, samples, rate, between(rng, 2.5, 9), 0.03)
    played = rng.integers(0, 4, len(starts))
    for number, degree in enumerate(rng.choice(SCALE, 4)):
        bar = modes(size, rate, root * 2 ** (degree / 12) * np.array([1, 3.9, 9.7]), lengths, [1, 0.3, 0.1])
        own = starts[played == number]
        wave += scatter(samples, own, faded(bar, rate, 0.001, 0.05), rng.uniform(0.4, 1, len(own)))
    return wave


def tuning_fork(rng, samples, rate):
    """One pure tone that is struck and dies away very slowly, with a click of the overtone at the start."""
    pitch = between(rng, 200, 2000)
    return modes(samples, rate, [pitch, 6.27 * pitch], [between(rng, 2, 8), 0.15], [1, rng.uniform(0.1, 0.8)])


def gong(rng, samples, rate):
    """A crowd of inharmonic partials of a plate that blooms after the stroke and lasts."""
    base = between(rng, 60, 250)
    partial = base * np.sort(rng.uniform(1, 14, 18))
    plate = modes(samples, rate, partial, between(rng, 2, 8) / (partial / base) ** 0.3, rng.uniform(0.2, 1, 18), rng)
    return faded(plate, rate, between(rng, 0.02, 0.4), 0.1)


def jingle_bell(rng, samples, rate):
    """Many tiny bells shaken together at the tempo of a walk."""
    wave, size = np.zeros(samples, np.float32), int(0.12 * rate)
    shakes = beats(rng, samples, rate, between(rng, 2, 7), 0.03)
    base = between(rng, 3000, 6000)
    for _ in range(5):
        bell = modes(size, rate, base * rng.uniform(0.7, 1.6, 3), rng.uniform(0.05, 0.25, 3))
        starts = np.repeat(shakes, 2) + rng.normal(0, 0.02 * rate, 2 * len(shakes))
        wave += scatter(samples, np.maximum(starts, 0), bell, rng.uniform(0.1, 1, len(starts)))
    return wave


def _snare(rng, rate):
    """One stroke on a snare drum: two modes of the skin and the rattle of the wires, 0.25 s."""
    size, skin = int(0.25 * rate), between(rng, 150, 280)
    wires = noise(rng, size, rate, low=between(rng, 800, 2000)) * dying(size, rate, between(rng, 0.1, 0.3))
    return modes(size, rate, skin * np.array([1, 1.6]), 0.15) + rng.uniform(0.3, 1.5) * faded(wires, rate, 0.001, 0.05)


def snare_drum(rng, samples, rate):
    """Single strokes, one to five a second, some of them no more than ghosts."""
    starts = beats(rng, samples, rate, between(rng, 1.5, 5), 0.02)
    return scatter(samples, starts, _snare(rng, rate), rng.uniform(0.1, 1, len(starts)))


def drum_roll(rng, samples, rate):
    """The same drum struck 14 to 28 times a second, swelling or fading."""
    starts = beats(rng, samples, rate, between(rng, 14, 28), 0.08)
    swell = contour(samples, *rng.uniform(0.3, 1, 3))
    return scatter(samples, starts, _snare(rng, rate), swell[starts] * rng.uniform(0.7, 1, len(starts)))
