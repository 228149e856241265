"""The GTZAN miniature: ten genres of synthetic music in the layout of Tzanetakis and Cook (2002).

    genres/{genre}/{genre}.{number:05d}.wav     22,050 Hz, 16 bit, mono

A genre is tempo, swing, drums, bass line, harmony and instruments. Every excerpt is by one of its artists, some of whom
have many and some few, as in GTZAN; an artist has a tempo, key, kit, sound and balance of his own, which no file tells.
Like the real collection it has a file that cannot be decoded (jazz.00054) and an excerpt that is there twice.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature.synthesis import (
    amplitude,
    between,
    convolve,
    dying,
    faded,
    generator,
    harmonic_tone,
    modes,
    noise,
    normalised,
    partials,
    scatter,
    tone,
    wander,
    write_wav,
)

RATE = 22_050
ARTISTS = 12  # of each genre; the first have most excerpts
BORROWED = 0.3  # how often an artist takes something from another genre
LOYALTY = 0.75  # how many excerpts the next artist has for each of the one before
BROKEN = "jazz.00054"

MAJOR, MINOR, SEVENTH, MINOR_SEVENTH, FIFTH = (0, 4, 7), (0, 3, 7), (0, 4, 7, 10), (0, 3, 7, 10), (0, 7, 12)


# --- instruments: (rng, pitch in Hz, samples) -> one note ---------------------------------------------------------


def _piano(rng, pitch, samples):
    number = np.arange(1, 9)
    return modes(samples, RATE, pitch * number, 1.6 / number**0.6, number**-1.2)


def _guitar(rng, pitch, samples):
    number = np.arange(1, 12)
    return modes(samples, RATE, pitch * number, 0.9 / number**0.5, np.abs(np.sin(0.9 * number)) / number)


def _banjo(rng, pitch, samples):
    number = np.arange(1, 14)
    return modes(samples, RATE, pitch * number, 0.3 / number**0.3, number**-0.4)


def _overdriven(rng, pitch, samples):
    wave = harmonic_tone(pitch, partials(24, -3), samples, RATE) + harmonic_tone(
        pitch * 1.004, partials(24, -3), samples, RATE
    )
    return np.tanh(3 * wave)


def _strings(rng, pitch, samples):
    vibrato = np.exp2(0.006 * tone(5.5, samples, RATE, rng.random()))
    return faded(
        harmonic_tone(pitch * vibrato, partials(24, -6, ((2500.0, 0.6, 5.0),), pitch), samples, RATE), RATE, 0.12, 0.1
    )


def _organ(rng, pitch, samples):
    return faded(harmonic_tone(pitch, np.array([1, 0.8, 0.4, 0.5, 0, 0.3, 0, 0.2]), samples, RATE), RATE, 0.01, 0.03)


def _synthesizer(rng, pitch, samples):
    detuned = [
        harmonic_tone(pitch * 2**cents, partials(30, -5), samples, RATE, rng.random()) for cents in (-0.006, 0.006)
    ]
    return faded(sum(detuned), RATE, 0.01, 0.05)


def _brass(rng, pitch, samples):
    bend = np.exp2(-0.08 * dying(samples, RATE, 0.15))
    return faded(
        harmonic_tone(pitch * bend, partials(20, -4, ((1400.0, 0.7, 9.0),), pitch), samples, RATE), RATE, 0.03, 0.06
    )


def _singer(rng, pitch, samples):
    vibrato = np.exp2(0.01 * tone(5.8, samples, RATE, rng.random()) + wander(rng, samples, RATE, 6, 0.006))
    vowel = ((730, 1090), (530, 1840), (440, 1020), (300, 2240))[rng.integers(4)]
    peaks = ((vowel[0], 0.3, 14.0), (vowel[1], 0.25, 12.0), (2800.0, 0.3, 8.0))
    return faded(harmonic_tone(pitch * vibrato, partials(40, -8, peaks, pitch), samples, RATE), RATE, 0.04, 0.06)


def _rapper(rng, pitch, samples):
    peaks = ((rng.uniform(350, 750), 0.3, 15.0), (rng.uniform(900, 2000), 0.3, 13.0))
    voiced = harmonic_tone(
        pitch * np.exp2(-0.2 * (1 - dying(samples, RATE, 0.4))), partials(60, -7, peaks, pitch), samples, RATE
    )
    hiss = noise(rng, samples, RATE, low=3000) * dying(samples, RATE, 0.06)
    return faded(voiced + 0.8 * hiss, RATE, 0.005, 0.03)


def _shouter(rng, pitch, samples):
    return np.tanh(4 * _singer(rng, pitch, samples)) + 0.5 * faded(
        noise(rng, samples, RATE, low=900, high=4000), RATE, 0.02, 0.05
    )


# --- genres -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Genre:
    """How a genre is played. Patterns have a character a sixteenth of a bar: `x` strong, `o` soft, `.` nothing."""

    name: str
    tempo: tuple[float, float]  # beats a minute
    chords: tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]  # progressions: (root in semitones, chord) each bar
    kick: str = ""
    snare: str = ""
    hat: str = ""
    swing: float = 0.5  # when the second of two eighths comes: 0.5 even, 0.67 triplets
    bass: str = ""  # digits: semitones above the root, `a` for 10, `c` for 12
    comp: str = ""  # when the chord is struck
    comp_sound: Callable = _piano
    comp_length: float = 0.3  # seconds
    lead: Callable | None = None
    lead_notes: float = 2.0  # a beat at most
    lead_octave: float = 2.0  # above the root
    scale: tuple[int, ...] = (0, 2, 4, 7, 9)
    bright: float = 0.0  # dB an octave
    balance: tuple[float, float, float, float] = (0, 0, 0, 0)  # dB: drums, bass, chords, lead


TWELVE_BARS = ((0, SEVENTH), (5, SEVENTH), (0, SEVENTH), (7, SEVENTH))
GENRES = (
    Genre("blues", (70, 120), (TWELVE_BARS, ((0, SEVENTH), (5, SEVENTH))), "x.......x.......", "....x.......x...",
          "x.x.x.x.x.x.x.x.", 0.66, "0.4.7.9.a.9.7.4.", "x...x...x...x...", _guitar, 0.35, _overdriven, 1.6, 1.0,
          (0, 3, 5, 6, 7, 10), -1.0, (-6, -3, -4, -2)),
    Genre("classical", (60, 140),
          (((0, MAJOR), (5, MAJOR), (7, SEVENTH), (0, MAJOR)), ((0, MINOR), (8, MAJOR), (3, MAJOR), (7, SEVENTH))),
          comp="x.o.o.o.x.o.o.o.", comp_sound=_strings, comp_length=0.5, lead=_strings, lead_notes=2.5,
          lead_octave=2.0, scale=(0, 2, 4, 5, 7, 9, 11), bright=-2.0, balance=(0, -6, -2, 0)),
    Genre("country", (85, 150), (((0, MAJOR), (5, MAJOR), (7, MAJOR), (0, MAJOR)), ((0, MAJOR), (7, MAJOR))),
          "x.......x.......", "....o.......o...", "x...o...x...o...", 0.54, "0.......7.......", "....x.......x...",
          _banjo, 0.25, _singer, 1.5, 1.6, (0, 2, 4, 7, 9), 0.5, (-8, -3, -1, -1)),
    Genre("disco", (112, 130),
          (((0, MINOR_SEVENTH), (5, SEVENTH)), ((0, MINOR), (10, MAJOR), (8, MAJOR), (10, MAJOR))),
          "x...x...x...x...", "....x.......x...", "..x...x...x...x.", 0.5, "0.c.0.c.0.c.0.c.", "..x.x...x..x....",
          _guitar, 0.12, _strings, 1.0, 3.0, (0, 3, 5, 7, 10), 1.0, (0, -1, -5, -3)),
    Genre("hiphop", (80, 105), (((0, MINOR),), ((0, MINOR_SEVENTH), (8, MAJOR))), "x..x..x...x.....",
          "....x.......x...", "x.x.x.xxx.x.x.x.", 0.56, "0..0......0..3..", "x...............", _synthesizer, 0.8,
          _rapper, 4.0, 0.0, (0, 0, 0, 2, 3), -1.5, (2, 2, -10, 0)),
    Genre("jazz", (110, 210),
          (((2, MINOR_SEVENTH), (7, SEVENTH), (0, SEVENTH), (9, SEVENTH)), ((0, MINOR_SEVENTH), (5, SEVENTH))),
          "o...o...o...o...", "......o.......o.", "x...x.o.x...x.o.", 0.66, "0...4...7...9...", "..x......x......",
          _piano, 0.3, _brass, 2.0, 1.8, (0, 2, 3, 4, 5, 7, 9, 10, 11), -1.0, (-9, 0, -5, -1)),
    Genre("metal", (110, 190),
          (((0, FIFTH), (1, FIFTH), (0, FIFTH), (6, FIFTH)), ((0, FIFTH), (8, FIFTH), (10, FIFTH))),
          "x.xxx.xxx.xxx.xx", "....x.......x...", "x...x...x...x...", 0.5, "0.000.000.000.00", "x.xxx.xxx.xxx.xx",
          _overdriven, 0.1, _shouter, 1.0, 1.5, (0, 1, 3, 5, 6), 1.5, (0, -4, 2, -4)),
    Genre("pop", (95, 130),
          (((0, MAJOR), (7, MAJOR), (9, MINOR), (5, MAJOR)), ((9, MINOR), (5, MAJOR), (0, MAJOR), (7, MAJOR))),
          "x...x.x.x...x...", "....x.......x...", "x.x.x.x.x.x.x.x.", 0.5, "0.0.0.0.0.0.0.0.", "x.....x.....x...",
          _synthesizer, 0.4, _singer, 2.0, 2.0, (0, 2, 4, 7, 9), 1.0, (0, -2, -5, 1)),
    Genre("reggae", (65, 90), (((0, MINOR), (10, MAJOR)), ((0, MAJOR), (5, MAJOR))), "........x.......",
          "........x.......", "x.x.x.x.x.x.x.x.", 0.6, "0...07..3...5...", "....x.......x...", _organ, 0.14, _singer,
          1.2, 1.4, (0, 2, 3, 5, 7, 10), -2.0, (-2, 3, -1, -4)),
    Genre("rock", (100, 150),
          (((0, FIFTH), (10, FIFTH), (5, FIFTH)), ((0, MAJOR), (5, MAJOR), (7, MAJOR), (5, MAJOR))),
          "x.......x.x.....", "....x.......x...", "x.x.x.x.x.x.x.x.", 0.5, "0.0.0.0.0.0.0.0.", "x...x.x.x...x.x.",
          _overdriven, 0.3, _singer, 1.5, 2.0, (0, 2, 4, 5, 7, 9), 0.5, (0, -3, -2, -1)),
)  # fmt: skip
SIZES = {"clips_per_genre": (40, (2, 100)), "seconds": (4.0, (1.0, 30.0))}


def clips(clips_per_genre: int, seconds: float) -> int:
    """How many clips a miniature of these sizes has that can be decoded."""
    return len(GENRES) * clips_per_genre - (clips_per_genre > 54)


def write(folder: Path, seed: int, advance: Callable[[], None], clips_per_genre: int, seconds: float) -> dict[str, int]:
    """Fill `folder` with `genres/`; returns the number of clips, and of those that repeat one or can't be decoded.

    `advance` is called after every clip.
    """
    share = LOYALTY ** np.arange(ARTISTS)
    for number, genre in enumerate(GENRES):
        place = folder / "genres" / genre.name
        place.mkdir(parents=True)
        for index in range(clips_per_genre):
            name = f"{genre.name}.{index:05d}"
            if name == BROKEN:
                continue
            rng = generator(seed, "gtzan", number, 1, index)
            artist = draw_artist(generator(seed, "gtzan", number, 0, int(rng.choice(ARTISTS, p=share / share.sum()))))
            write_wav(place / f"{name}.wav", play(rng, genre, artist, seconds), RATE)
            advance()
    (folder / "genres" / "jazz" / f"{BROKEN}.wav").write_bytes(bytes(4096))
    pop = folder / "genres" / "pop"
    shutil.copyfile(pop / f"pop.{clips_per_genre - 2:05d}.wav", pop / f"pop.{clips_per_genre - 1:05d}.wav")
    return {"clips": clips(clips_per_genre, seconds), "repeated": 1, "broken": 1}


@dataclass(frozen=True)
class Artist:
    """What the excerpts of one artist share."""

    tempo: float  # where in the genre's range, from 0 to 1
    key: float  # Hz of the root two octaves below the middle
    feel: float  # added to the swing
    bright: float  # dB an octave, of the recording
    balance: np.ndarray  # dB, (4,)
    kick: float  # Hz
    snare: float  # Hz
    room: float  # seconds
    lender: int  # a genre ...
    borrowed: tuple[bool, bool, bool]  # ... whose sounds the artist takes for chords and lead, and whose drums


def draw_artist(rng: np.random.Generator) -> Artist:
    """A random artist."""
    return Artist(
        tempo=rng.random(),
        key=between(rng, 55, 110),
        feel=rng.normal(0, 0.015),
        bright=rng.normal(0, 3.0),
        balance=rng.normal(0, 6.0, 4),
        kick=between(rng, 45, 80),
        snare=between(rng, 150, 320),
        room=between(rng, 0.05, 0.5),
        lender=int(rng.integers(len(GENRES))),
        borrowed=tuple(bool(part) for part in rng.random(3) < BORROWED),
    )


# --- playing ------------------------------------------------------------------------------------------------------


def play(rng: np.random.Generator, genre: Genre, artist: Artist, seconds: float) -> np.ndarray:
    """One excerpt that starts anywhere in a piece: float32 `(samples,)`."""
    samples = round(seconds * RATE)
    genre = _arranged(genre, artist)
    tempo = genre.tempo[0] * (genre.tempo[1] / genre.tempo[0]) ** np.clip(artist.tempo + rng.normal(0, 0.15), 0, 1)
    bar = 4 * 60 / tempo
    first = rng.integers(4) + rng.random()  # bars that are over when the excerpt starts
    bars = int(seconds / bar) + 2
    progression = genre.chords[rng.integers(len(genre.chords))]
    chords = [progression[(int(first) + k) % len(progression)] for k in range(bars)]
    begin = -(first % 1) * bar
    key = artist.key * 2 ** (rng.integers(-2, 3) / 12)
    parts = (
        _drums(rng, genre, artist, begin, bar, bars, samples),
        _bass(rng, genre, key, chords, begin, bar, samples),
        _chords(rng, genre, key, chords, begin, bar, samples),
        _lead(rng, genre, key, begin, bar, bars, samples),
    )
    level = amplitude(np.array(genre.balance) + artist.balance + rng.normal(0, 1.5, 4))
    wave = sum(np.float32(gain) * normalised(part, RATE) for gain, part in zip(level, parts, strict=True))
    wave = _recorded(rng, wave, genre.bright + artist.bright + rng.normal(0, 0.7), artist.room)
    return normalised(wave, RATE) * amplitude(rng.uniform(-20, -9))


def _arranged(genre: Genre, artist: Artist) -> Genre:
    """The genre as the artist plays it."""
    lender, (chords, lead, drums) = GENRES[artist.lender], artist.borrowed
    changes = {"swing": genre.swing + artist.feel}
    if chords:
        changes |= {"comp_sound": lender.comp_sound}
    if lead:
        changes |= {"lead": lender.lead}
    if drums:
        changes |= {"kick": lender.kick, "snare": lender.snare, "hat": lender.hat}
    return replace(genre, **changes)


def _steps(genre: Genre, pattern: str, begin: float, bar: float, bars: int) -> list[tuple[int, int, str]]:
    """The strokes of a pattern over all bars: (bar, sample number, character), swung."""
    strokes = []
    for number in range(bars):
        for step, stroke in enumerate(pattern):
            if stroke != ".":
                # the even sixteenths of an eighth stay in its middle, wherever swing puts the eighth
                eighth, half = divmod(step, 2)
                position = eighth // 2 + (genre.swing if eighth % 2 else 0.0)
                length = (1 - genre.swing) if eighth % 2 else genre.swing
                strokes.append(
                    (number, int((begin + bar * (number + (position + half * length / 2) / 4)) * RATE), stroke)
                )
    return strokes


def _drums(rng, genre, artist, begin, bar, bars, samples) -> np.ndarray:
    size = int(0.3 * RATE)
    drop = np.exp2(1.5 * dying(size, RATE, 0.12))
    kick = tone(artist.kick * drop, size, RATE) * dying(size, RATE, 0.28)
    wires = noise(rng, size, RATE, low=1500) * dying(size, RATE, 0.18)
    snare = modes(size, RATE, artist.snare * np.array([1, 1.6]), 0.12) + wires
    hat = noise(rng, size // 3, RATE, low=6000) * dying(size // 3, RATE, 0.05)
    wave = np.zeros(samples, np.float32)
    for pattern, sound, gain in ((genre.kick, kick, 1.6), (genre.snare, snare, 1.0), (genre.hat, hat, 0.35)):
        for _, start, stroke in _steps(genre, pattern, begin, bar, bars):
            loud = gain * (1.0 if stroke == "x" else 0.45) * rng.uniform(0.8, 1.0)
            wave += scatter(samples, [start + int(rng.normal(0, 0.004) * RATE)], sound, [loud])
    return wave


def _bass(rng, genre, key, chords, begin, bar, samples) -> np.ndarray:
    strokes = _steps(genre, genre.bass, begin, bar, len(chords))
    wave = np.zeros(samples, np.float32)
    sounds = {}
    for number, start, degree in strokes:
        semitones = chords[number][0] % 12 + int(degree, 16)
        if semitones not in sounds:
            size = int(min(0.4, bar / 4) * RATE)
            pitch = key * 2 ** (semitones / 12) / (2 if semitones > 9 else 1)
            sounds[semitones] = faded(
                harmonic_tone(pitch, partials(10, -7), size, RATE) * dying(size, RATE, 0.9), RATE, 0.005, 0.03
            )
        wave += scatter(samples, [start], sounds[semitones], [rng.uniform(0.8, 1)])
    return wave


def _chords(rng, genre, key, chords, begin, bar, samples) -> np.ndarray:
    wave, sounds, size = np.zeros(samples, np.float32), {}, int(genre.comp_length * RATE)
    for number, start, stroke in _steps(genre, genre.comp, begin, bar, len(chords)):
        root, chord = chords[number]
        if (root, chord) not in sounds:
            # in the octave from two above the key, so that voices move little
            notes = [2 + ((root + note) % 12) / 12 for note in chord]
            octave = 1 if genre.comp_sound is _overdriven else 0
            sounds[root, chord] = faded(
                sum(genre.comp_sound(rng, key * 2 ** (note - octave), size) for note in notes), RATE, 0.003, 0.05
            )
        wave += scatter(samples, [start], sounds[root, chord], [1.0 if stroke == "x" else 0.5])
    return wave


def _lead(rng, genre, key, begin, bar, bars, samples) -> np.ndarray:
    """A tune on the genre's scale that moves by small steps and rests now and then."""
    wave = np.zeros(samples, np.float32)
    if genre.lead is None:
        return wave
    now, place = begin + bar * rng.random(), int(rng.integers(len(genre.scale)))
    beat = bar / 4
    while now < samples / RATE:
        length = beat / genre.lead_notes * rng.choice([1, 1, 2, 3])
        if rng.random() < 0.8:
            place = int(np.clip(place + rng.integers(-2, 3), 0, 2 * len(genre.scale) - 1))
            octave, degree = divmod(place, len(genre.scale))
            pitch = key * 2 ** (genre.lead_octave + octave + genre.scale[degree] / 12)
            size, start = int(0.92 * length * RATE), int(now * RATE)
            if start >= 0 and size > 64:
                wave += scatter(samples, [start], genre.lead(rng, pitch, size), [rng.uniform(0.6, 1)])
        now += length
    return wave


def _recorded(rng, wave, tilt, room) -> np.ndarray:
    """The studio: a short room, the recording's own brightness (`tilt` dB an octave), hiss."""
    size = int(room * RATE)
    response = rng.standard_normal(size, dtype=np.float32) * dying(size, RATE, room)
    response *= 0.25 / np.sqrt(np.sum(response**2))
    response[0] = 1
    wave = convolve(wave, response)
    spectrum = np.fft.rfft(wave)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(wave), 1 / RATE), 50) / 1000)
    wave = np.fft.irfft(spectrum * amplitude(tilt * octaves), len(wave)).astype(np.float32)
    return wave + amplitude(rng.uniform(-70, -45)) * noise(rng, len(wave), RATE)
