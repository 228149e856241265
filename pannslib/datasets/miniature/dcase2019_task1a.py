"""The TAU Urban Acoustic Scenes 2019 miniature: places in cities, each a mixture of textures of its kind of scene.

    audio/{scene}-{city}-{location}-{segment}-a.wav              48 kHz, 24 bit, two channels
    meta.csv, evaluation_setup/fold1_{train,test,evaluate}.csv   tables separated by tabs

The textures (people, steps, engines, rails, birds, ...) are shared by the scenes; what makes a scene is which of them
are likely, how loud, and in what kind of space. A place draws its own space, textures and levels once and keeps them in
all its clips, and no place is in training and test: what is learnt of a place rather than of the scene doesn't help. As
in the real set one city is in the test part alone, and some clips are in neither part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature import instruments, signals, surroundings
from pannslib.datasets.miniature.esc50 import footsteps
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
    root_mean_square,
    scatter,
    tone,
    wander,
    write_csv,
    write_wav,
)

RATE = 48_000
BITS = 24
CITIES = ("barcelona", "helsinki", "lisbon", "london", "lyon", "milan")
TEST_CITY = "milan"
SEGMENTS = 2  # clips of one place; the last place of a scene may have fewer
UNUSED = 1  # clips of each scene that are in neither part


# --- textures: (rng, samples, rate) -> waveform ----------------------------------------------------------------


def people(rng, samples, rate):
    """Many who talk at once: voices at the rhythm of syllables, none to be understood."""
    wave = np.zeros(samples, np.float32)
    for _ in range(rng.integers(3, 5)):
        pitch = between(rng, 95, 260) * np.exp2(wander(rng, samples, rate, 3, 0.15))
        talk = np.clip(wander(rng, samples, rate, 5, 0.7) + 0.2, 0, 1.5)
        mouth = ((between(rng, 400, 800), 0.5, 12.0), (between(rng, 1100, 2200), 0.4, 10.0))
        wave += (
            harmonic_tone(pitch, partials(24, -7, mouth, 150), samples, rate) * talk * np.float32(rng.uniform(0.3, 1))
        )
    return wave + 0.3 * noise(rng, samples, rate, tilt=-4, low=300, high=5000)


def announcement(rng, samples, rate):
    """A gong of two or three notes and a voice from a loudspeaker that has no bass."""
    base, size = between(rng, 350, 700), int(0.9 * rate)
    wave = np.zeros(samples, np.float32)
    for index, ratio in enumerate(rng.permutation([1, 1.26, 1.5])[: rng.integers(2, 4)]):
        chime = modes(size, rate, base * ratio * np.array([1, 2, 3.01]), 1.2, [1, 0.3, 0.1])
        wave += scatter(samples, [index * 0.35 * rate], faded(chime, rate, 0.003, 0.1))
    voice = harmonic_tone(
        between(rng, 150, 240) * np.exp2(wander(rng, samples, rate, 4, 0.12)), partials(30, -4), samples, rate
    )
    talk = np.clip(wander(rng, samples, rate, 6, 0.8), 0, 1.5) * contour(samples, 0, 0.4, 1, 1)
    return wave + resonate(voice * talk, rate, [between(rng, 700, 1100), between(rng, 1800, 2600)], [250, 400])


def trolley(rng, samples, rate):
    """Small hard wheels over joints: a rattle that comes and goes."""
    size = int(0.02 * rate)
    tick = noise(rng, size, rate, low=between(rng, 700, 1800), high=6000) * dying(size, rate, 0.015)
    starts = beats(rng, samples, rate, between(rng, 12, 30), 0.3)
    near = np.exp2(wander(rng, samples, rate, 1, 1.2))
    return scatter(samples, starts, tick, rng.lognormal(-0.5, 0.6, len(starts))) * near


def rails(rng, samples, rate):
    """Wheels on rails: a roar, and the clack of the joints in pairs."""
    roar = noise(
        rng, samples, rate, tilt=rng.uniform(-7, -4), peaks=((between(rng, 150, 600), 0.8, rng.uniform(3, 10)),)
    )
    size = int(0.12 * rate)
    clack = modes(size, rate, between(rng, 120, 350) * np.array([1, 1.9, 3.3]), 0.1) + 0.3 * noise(
        rng, size, rate, low=500
    ) * dying(size, rate, 0.02)
    tempo = between(rng, 0.8, 2.5)
    first = beats(rng, samples, rate, tempo, 0.02)
    pairs = np.concatenate([first, first + int(0.22 / tempo * rate)])
    return roar + rng.uniform(0.5, 3) * scatter(samples, pairs, clack)


def whine(rng, samples, rate):
    """An electric motor under way: a tone with harmonics that climbs or sinks with the speed."""
    speed = np.exp2(contour(samples, *np.sort(rng.uniform(-0.6, 0.6, 2))[:: rng.choice([-1, 1])]))
    return harmonic_tone(between(rng, 250, 700) * speed, partials(12, rng.uniform(-8, -3)), samples, rate)


def squeal(rng, samples, rate):
    """Flanges in a curve: high tones that waver and break off."""
    pitch = between(rng, 1500, 4000) * np.exp2(wander(rng, samples, rate, 6, 0.02))
    return harmonic_tone(pitch, np.array([1, 0.5, 0.3]), samples, rate) * np.clip(
        wander(rng, samples, rate, 2, 1.0), 0, 2
    )


def door_beeps(rng, samples, rate):
    """Warning beeps before a door shuts."""
    size = int(between(rng, 0.06, 0.15) * rate)
    beep = faded(harmonic_tone(between(rng, 900, 2200), partials(5, -9), size, rate), rate, 0.005, 0.01)
    first = rng.integers(0, max(samples // 2, 1))
    return scatter(samples, first + np.arange(rng.integers(3, 8)) * 2 * size, beep)


def cars(rng, samples, rate):
    """Cars that pass: tyres on the road, brighter and louder as they are near."""
    wave = np.zeros(samples, np.float32)
    time = contour(samples, 0, samples / rate)
    for _ in range(rng.integers(1, 4)):
        near = np.exp(-0.5 * ((time - rng.uniform(-0.5, samples / rate + 0.5)) / between(rng, 0.4, 1.5)) ** 2)
        tyres = noise(rng, samples, rate, tilt=-4, peaks=((between(rng, 600, 1300), 0.8, rng.uniform(6, 14)),))
        wave += near * tyres * np.float32(rng.uniform(0.4, 1))
    return wave


def far_traffic(rng, samples, rate):
    """A city at a distance: a low, nearly even rush."""
    return noise(rng, samples, rate, tilt=rng.uniform(-8, -5), low=40) * np.exp2(wander(rng, samples, rate, 0.7, 0.2))


def leaves(rng, samples, rate):
    """Wind in trees: a bright rustle in slow gusts."""
    return noise(rng, samples, rate, tilt=-1, low=between(rng, 800, 2500)) * np.exp2(
        wander(rng, samples, rate, 1.2, 0.8)
    )


def fountain(rng, samples, rate):
    """Falling water: an even bright rush with a patter."""
    specks = np.zeros(samples, np.float32)
    moments = rng.integers(0, samples, int(between(rng, 150, 500) * samples / rate))
    specks[moments] = rng.normal(0, 1, len(moments))
    size = int(0.02 * rate)
    drop = tone(between(rng, 700, 2200) * contour(size, 1, 1.5), size, rate) * dying(size, rate, 0.015)
    return noise(rng, samples, rate, tilt=-2, low=500) + rng.uniform(1, 4) * convolve(specks, drop)


def ventilation(rng, samples, rate):
    """Air through ducts, with the hum of its fans."""
    hum = harmonic_tone(between(rng, 45, 120), partials(10, -6), samples, rate)
    return noise(rng, samples, rate, tilt=rng.uniform(-6, -3), peaks=((between(rng, 200, 900), 0.6, 8.0),)) + 0.4 * hum


PEOPLE, VEHICLES = (people, announcement, trolley), (rails, whine, squeal, door_beeps, cars)
PLACES = (far_traffic, leaves, fountain, ventilation)
SHARED = (  # sounds that a network that was trained on Mini-AudioSet knows, alone or among others
    surroundings.applause,
    surroundings.bird_chirp,
    surroundings.clip_clop,
    surroundings.idling,
    surroundings.mosquito,
    surroundings.revving,
    surroundings.throbbing,
    surroundings.whoosh,
    instruments.choir,
    instruments.jingle_bell,
    instruments.marimba,
    instruments.plucked_string,
    signals.ambulance_siren,
    signals.buzzer,
    signals.human_whistling,
    signals.mains_hum,
    signals.reversing_beeps,
)
TEXTURES = {recipe.__name__: recipe for recipe in (*PEOPLE, *VEHICLES, *PLACES, *SHARED, footsteps)}


@dataclass(frozen=True)
class Scene:
    """A kind of place: the tilt of its background (dB per octave), its reverberation, and its textures.

    `textures` has for each texture how likely a place has it, and its level against the background in dB.
    """

    tilt: tuple[float, float]
    room: tuple[float, float]  # seconds until -60 dB; short out of doors
    textures: dict[str, tuple[float, float]]


# In what kind of space a scene is, and what is heard in it: most sounds are heard in several scenes.
SCENES = {
    "airport": Scene(
        (-6, -3),
        (0.5, 0.9),
        {
            "ventilation": (0.8, 0),
            "people": (0.7, 0),
            "trolley": (0.7, 0),
            "announcement": (0.5, 2),
            "reversing_beeps": (0.35, 2),
            "footsteps": (0.3, -3),
        },
    ),
    "bus": Scene(
        (-7, -4),
        (0.05, 0.15),
        {"idling": (0.8, 6), "revving": (0.5, 5), "people": (0.4, -3), "buzzer": (0.3, 2), "cars": (0.2, -3)},
    ),
    "metro": Scene(
        (-7, -4),
        (0.05, 0.2),
        {
            "rails": (0.8, 5),
            "throbbing": (0.6, 4),
            "mains_hum": (0.5, 3),
            "buzzer": (0.2, 2),
            "people": (0.3, -3),
            "announcement": (0.3, 1),
        },
    ),
    "metro_station": Scene(
        (-6, -3),
        (0.5, 0.9),
        {
            "whoosh": (0.6, 4),
            "footsteps": (0.6, 1),
            "mains_hum": (0.3, 0),
            "people": (0.4, 0),
            "announcement": (0.4, 2),
            "door_beeps": (0.4, 2),
            "rails": (0.3, 1),
            "plucked_string": (0.15, 1),
        },
    ),
    "park": Scene(
        (-7, -3),
        (0.02, 0.1),
        {
            "leaves": (0.7, 0),
            "bird_chirp": (0.8, 3),
            "mosquito": (0.3, 1),
            "far_traffic": (0.5, 0),
            "clip_clop": (0.15, 0),
            "footsteps": (0.3, -2),
        },
    ),
    "public_square": Scene(
        (-7, -4),
        (0.1, 0.6),
        {
            "people": (0.7, 1),
            "applause": (0.4, 2),
            "fountain": (0.4, 0),
            "choir": (0.2, 1),
            "human_whistling": (0.2, 1),
            "far_traffic": (0.6, 2),
            "bird_chirp": (0.2, -2),
        },
    ),
    "shopping_mall": Scene(
        (-6, -3),
        (0.3, 0.7),
        {
            "people": (0.8, 1),
            "ventilation": (0.6, 0),
            "marimba": (0.4, 2),
            "plucked_string": (0.3, 2),
            "choir": (0.3, 1),
            "footsteps": (0.4, -3),
            "trolley": (0.2, -3),
        },
    ),
    "street_pedestrian": Scene(
        (-7, -4),
        (0.1, 0.5),
        {
            "footsteps": (0.9, 3),
            "people": (0.6, 0),
            "human_whistling": (0.3, 2),
            "clip_clop": (0.3, 2),
            "plucked_string": (0.2, 1),
            "far_traffic": (0.5, 1),
        },
    ),
    "street_traffic": Scene(
        (-7, -4),
        (0.05, 0.4),
        {
            "cars": (0.8, 4),
            "revving": (0.5, 4),
            "ambulance_siren": (0.4, 3),
            "idling": (0.3, 2),
            "reversing_beeps": (0.15, 1),
            "far_traffic": (0.7, 2),
        },
    ),
    "tram": Scene(
        (-7, -4),
        (0.05, 0.2),
        {
            "whine": (0.8, 3),
            "rails": (0.6, 2),
            "jingle_bell": (0.5, 3),
            "squeal": (0.4, 1),
            "people": (0.4, -2),
            "door_beeps": (0.2, 1),
        },
    ),
}

SIZES = {
    "seconds": (2.0, (1.0, 10.0)),
    "training_per_scene": (20, (1, 1000)),
    "test_per_scene": (10, (1, 1000)),
}


@dataclass(frozen=True)
class Place:
    """What all clips of one place share: its number, city, background, room and textures with their levels in dB."""

    number: int
    city: str
    tilt: float
    peaks: tuple[tuple[float, float, float], ...]
    room: float
    wet: float
    textures: dict[str, float]


# --- clips, files ----------------------------------------------------------------------------------------------


def clips(seconds: float, training_per_scene: int, test_per_scene: int) -> int:
    """How many clips a miniature of these sizes has, however long they are."""
    return len(SCENES) * (training_per_scene + test_per_scene + UNUSED)


def write(
    folder: Path, seed: int, advance: Callable[[], None], seconds: float, training_per_scene: int, test_per_scene: int
) -> dict[str, int]:
    """Fill `folder` with `audio/`, `meta.csv` and `evaluation_setup/`; returns the number of clips of each part.

    `advance` is called after every clip.
    """
    (folder / "audio").mkdir()
    (folder / "evaluation_setup").mkdir()
    rows: dict[str, list[tuple]] = {"train": [], "test": [], "unused": []}
    wanted = {"train": training_per_scene, "test": test_per_scene, "unused": UNUSED}
    places = 0
    for index, (label, scene) in enumerate(SCENES.items()):
        for part, (split, count) in enumerate(wanted.items()):
            for clip in range(count):
                if clip % SEGMENTS == 0:
                    rng = generator(seed, "dcase2019_task1a", index, part, clip, 0)
                    place, places = draw_place(rng, scene, places, _city(split, clip // SEGMENTS)), places + 1
                rng = generator(seed, "dcase2019_task1a", index, part, clip, 1)
                segment = len(rows["train"]) + len(rows["test"]) + len(rows["unused"])
                name = f"audio/{label}-{place.city}-{place.number}-{segment}-a.wav"
                write_wav(folder / name, listen(rng, place, round(seconds * RATE)), RATE, BITS)
                rows[split].append((name, label, f"{place.city}-{place.number}", "a"))
                advance()
    meta = sorted(row for part in rows.values() for row in part)
    _write_table(folder / "meta.csv", [("filename", "scene_label", "identifier", "source_label"), *meta])
    setup = folder / "evaluation_setup"
    for name, split, columns in (("train", "train", 2), ("test", "test", 1), ("evaluate", "test", 2)):
        lines = [row[:columns] for row in sorted(rows[split])]
        _write_table(setup / f"fold1_{name}.csv", [("filename", "scene_label")[:columns], *lines])
    return {split: len(part) for split, part in rows.items()} | {"places": places}


def _city(split: str, number: int) -> str:
    """The city of a scene's place: the last is for the test part alone."""
    return CITIES[number % (len(CITIES) if split == "test" else len(CITIES) - 1)]


def _write_table(path: Path, rows: list[tuple]) -> None:
    """The official form: values separated by tabs."""
    write_csv(path, rows, delimiter="\t")


def draw_place(rng: np.random.Generator, scene: Scene, number: int, city: str) -> Place:
    """One place of a kind of scene; it has one texture at least."""
    heard = {name: level for name, (chance, level) in scene.textures.items() if rng.random() < chance}
    if not heard:
        likeliest = max(scene.textures, key=lambda name: scene.textures[name][0])
        heard = {likeliest: scene.textures[likeliest][1]}
    return Place(
        number=number,
        city=city,
        tilt=rng.uniform(*scene.tilt),
        peaks=tuple((between(rng, 100, 6000), rng.uniform(0.4, 1.2), rng.uniform(-5, 5)) for _ in range(3)),
        room=between(rng, *scene.room),
        wet=rng.uniform(0.05, 0.5),
        textures={name: level + rng.normal(0, 2.5) for name, level in heard.items()},
    )


def listen(rng: np.random.Generator, place: Place, samples: int) -> np.ndarray:
    """One clip of a place at two ears: `(samples, 2)` float32."""
    size = int(place.room * RATE)
    rooms = [rng.standard_normal(size, dtype=np.float32) * dying(size, RATE, place.room) for _ in range(2)]
    rooms = [
        room * np.float32(np.sqrt(place.wet / (1 - place.wet)) / (np.sqrt(np.sum(room**2)) + 1e-9)) for room in rooms
    ]
    ears = [np.zeros(samples, np.float32) for _ in range(2)]
    for name, level in place.textures.items():
        sound = normalised(TEXTURES[name](rng, samples, RATE), RATE) * amplitude(level + rng.normal(0, 2))
        late = rng.integers(-30, 31)  # samples of 1/48,000 s by which one ear hears it later
        for side, ear in enumerate(ears):
            shift = max(late, 0) if side else max(-late, 0)
            ear[shift:] += np.float32(0.6 if shift else 1.0) * sound[: samples - shift]
    here, there = (noise(rng, samples, RATE, tilt=place.tilt, low=40, peaks=place.peaks) for _ in range(2))
    for side, background in enumerate((here, 0.5 * here + 0.87 * there)):  # what both ears hear is alike in part
        rooms[side][0] += 1
        ears[side] = convolve(ears[side], rooms[side]) + np.float32(amplitude(-9.0)) * background
    wave = np.stack(ears, axis=1)
    level = root_mean_square(wave.reshape(-1))
    return wave * np.float32(amplitude(rng.uniform(-40, -24)) / (level + 1e-9))
