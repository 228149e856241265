"""Mini-AudioSet: classes of the real ontology in AudioSet's layout (Gemmeke et al. 2017), with its difficulties.

    metadata/class_labels_indices.csv                            the official file, byte for byte
    metadata/{balanced_train,unbalanced_train,eval}_segments.csv official format
    metadata/events.csv                                          what is truly heard, and when
    audios/{split}_segments/Y{YTID}.wav                          32 kHz, 16 bit, mono

A clip is one to three events at random times and levels over a background. In `balanced_train` and `eval` every class
has at least the number of clips asked for; `unbalanced_train` has a long tail, in which the classes follow one another
as they do in AudioSet. Training labels are a little noisy, those of `eval` are true.
"""

from __future__ import annotations

import base64
import csv
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from pannslib.datasets.miniature import instruments, signals, surroundings
from pannslib.datasets.miniature.synthesis import (
    amplitude,
    between,
    generator,
    noise,
    normalised,
    reverberate,
    wander,
    write_csv,
    write_wav,
)

RATE = 32_000
COMPANY = (0.55, 0.3, 0.15)  # how often a clip has no, one and two more classes than the one it was made for
TAIL = 150.0  # clips made for the commonest class for each one made for the rarest, if there are enough
MISSED = 0.06  # part of the training labels that are left out ...
WRONG = 0.03  # ... and of the training clips that get one that isn't heard


@dataclass(frozen=True)
class Sound:
    """One class: its id in the ontology, how an event of it is made, and how long that lasts at least and at most."""

    mid: str
    recipe: Callable[..., np.ndarray]
    shortest: float = 0.8  # seconds
    longest: float = 8.0


SOUNDS = (
    Sound("/m/01v_m0", signals.sine_wave),
    Sound("/m/0hdsk", signals.chirp_tone),
    Sound("/m/015jpf", signals.dial_tone, 1.0),
    Sound("/m/01z47d", signals.busy_signal, 1.5),
    Sound("/m/02c8p", signals.telephone_dialing, 1.0),
    Sound("/m/07pp8cl", signals.telephone_bell, 1.0),
    Sound("/m/01y3hg", signals.smoke_alarm, 1.2),
    Sound("/m/02rhddq", signals.reversing_beeps, 1.6),
    Sound("/m/0dgbq", signals.civil_defense_siren, 1.4),
    Sound("/m/012n7d", signals.ambulance_siren, 1.4),
    Sound("/m/04qvtq", signals.police_siren, 1.0),
    Sound("/m/04fq5q", signals.foghorn),
    Sound("/m/030rvx", signals.buzzer, 0.5, 3.0),
    Sound("/m/06xkwv", signals.mains_hum, 1.0),
    Sound("/m/01w250", signals.human_whistling),
    Sound("/m/02fxyj", instruments.humming, 1.0),
    Sound("/m/0l14jd", instruments.choir, 1.0),
    Sound("/m/013y1f", instruments.organ),
    Sound("/m/0fx80y", instruments.plucked_string),
    Sound("/m/0dwsp", instruments.marimba),
    Sound("/m/07n_g", instruments.tuning_fork, 1.0),
    Sound("/m/0mbct", instruments.gong, 1.2),
    Sound("/m/027m70_", instruments.jingle_bell),
    Sound("/m/06rvn", instruments.snare_drum),
    Sound("/m/02k_mr", instruments.drum_roll),
    Sound("/m/0chx_", surroundings.white_noise),
    Sound("/m/0cj0r", surroundings.pink_noise),
    Sound("/m/07rgkc5", surroundings.static),
    Sound("/m/07rqsjt", surroundings.whoosh, 0.5, 1.5),
    Sound("/m/07p_0gm", surroundings.throbbing, 1.2),
    Sound("/m/0dv3j", surroundings.boiling),
    Sound("/m/01jg02", surroundings.heartbeat, 1.4),
    Sound("/m/0l15bq", surroundings.clapping, 1.0),
    Sound("/m/028ght", surroundings.applause),
    Sound("/m/0316dw", surroundings.typing, 1.0),
    Sound("/m/07rv9rh", surroundings.clip_clop, 1.2),
    Sound("/m/02bm9n", surroundings.ratchet),
    Sound("/m/04zjc", surroundings.machine_gun),
    Sound("/m/07pqn27", surroundings.bouncing, 1.0, 2.5),
    Sound("/m/07pb8fc", surroundings.idling),
    Sound("/m/07q2z82", surroundings.revving, 1.0, 4.0),
    Sound("/m/09f96", surroundings.mosquito),
    Sound("/m/07r_80w", surroundings.hoot, 1.2, 3.0),
    Sound("/m/07pggtn", surroundings.bird_chirp, 1.0),
)

SIZES = {
    "seconds": (2.0, (1.0, 10.0)),
    "balanced_per_class": (10, (1, 1000)),
    "unbalanced": (1200, (len(SOUNDS), 1_000_000)),
    "eval_per_class": (10, (1, 1000)),
}


def clips(seconds: float, balanced_per_class: int, unbalanced: int, eval_per_class: int) -> int:
    """How many clips a miniature of these sizes has, however long they are."""
    return unbalanced + len(SOUNDS) * (balanced_per_class + eval_per_class)


def write(
    folder: Path,
    seed: int,
    advance: Callable[[], None],
    seconds: float,
    balanced_per_class: int,
    unbalanced: int,
    eval_per_class: int,
) -> dict[str, int]:
    """Fill `folder` with `metadata/` and `audios/`; returns the number of clips of each split and of classes.

    `advance` is called after every clip.
    """
    labels = _class_labels()
    plans = {
        "balanced_train": _balanced_plan(generator(seed, "audioset", 0, 0, 0), balanced_per_class),
        "unbalanced_train": long_tailed_plan(generator(seed, "audioset", 1, 0, 0), unbalanced, labels),
        "eval": _balanced_plan(generator(seed, "audioset", 2, 0, 0), eval_per_class),
    }
    metadata = folder / "metadata"
    metadata.mkdir()
    _write_class_labels(metadata / "class_labels_indices.csv", labels)
    events = [("split", "YTID", "onset_seconds", "offset_seconds", "mid")]
    for number, (split, plan) in enumerate(plans.items()):
        audios = folder / "audios" / f"{split}_segments"
        audios.mkdir(parents=True)
        rows = []
        for index, classes in enumerate(plan):
            name = _youtube_id(seed, split, index)
            rng = generator(seed, "audioset", number, 1, index)
            wave, heard = mix(rng, classes, seconds)
            write_wav(audios / f"Y{name}.wav", wave, RATE)
            labelled = classes if split == "eval" else _noisy(rng, classes)
            rows.append((name, [SOUNDS[k].mid for k in labelled]))
            events += [(split, name, f"{on:.3f}", f"{off:.3f}", SOUNDS[k].mid) for k, on, off in heard]
            advance()
        _write_segments(metadata / f"{split}_segments.csv", rows, seconds)
    write_csv(metadata / "events.csv", events)
    return {**{split: len(plan) for split, plan in plans.items()}, "classes": len(SOUNDS)}


# --- which classes a clip has ----------------------------------------------------------------------------------


def _balanced_plan(rng: np.random.Generator, per_class: int) -> list[list[int]]:
    """The classes of each clip: every class leads `per_class` clips and joins others by chance."""
    leads = rng.permutation(np.repeat(np.arange(len(SOUNDS)), per_class))
    return [[int(lead), *_company(rng, int(lead), np.ones(len(SOUNDS)))] for lead in leads]


def long_tailed_plan(rng: np.random.Generator, clips: int, labels: list[dict]) -> list[list[int]]:
    """The classes of each clip of a long-tailed split; the order of the classes by size is AudioSet's own."""
    official = {row["mid"]: int(row["training_clips"]) for row in labels}
    order = np.argsort([-official[sound.mid] for sound in SOUNDS], kind="stable")
    share = np.empty(len(SOUNDS))
    share[order] = TAIL ** (-np.arange(len(SOUNDS)) / (len(SOUNDS) - 1))
    share /= share.sum()
    counts = 1 + np.floor(share * (clips - len(SOUNDS))).astype(int)  # no class is absent
    counts[order[0]] += clips - counts.sum()
    leads = rng.permutation(np.repeat(np.arange(len(SOUNDS)), counts))
    return [[int(lead), *_company(rng, int(lead), share)] for lead in leads]


def _company(rng: np.random.Generator, lead: int, share: np.ndarray) -> list[int]:
    """The other classes in a clip with `lead`: none, one or two, by their `share`."""
    weight = share.copy()
    weight[lead] = 0
    others = rng.choice([0, 1, 2], p=COMPANY)
    return [int(k) for k in rng.choice(len(share), others, replace=False, p=weight / weight.sum())]


def _noisy(rng: np.random.Generator, classes: list[int]) -> list[int]:
    """The labels that an imperfect listener would give: one may be missing, one may be wrong; never none."""
    kept = [k for k in classes if rng.random() >= MISSED] or classes[:1]
    if rng.random() < WRONG:
        kept = [*kept, int(rng.choice([k for k in range(len(SOUNDS)) if k not in classes]))]
    return kept


# --- how a clip sounds -----------------------------------------------------------------------------------------


def mix(rng: np.random.Generator, classes: list[int], seconds: float) -> tuple[np.ndarray, list[tuple]]:
    """One clip of the given classes (numbers in SOUNDS): `(samples,)`, and (class, onset, offset) in seconds."""
    samples = round(seconds * RATE)
    events, heard = np.zeros(samples, np.float32), []
    for k in classes:
        sound = SOUNDS[k]
        size = round(rng.uniform(min(sound.shortest, seconds), min(sound.longest, seconds)) * RATE)
        start = int(rng.integers(0, samples - size + 1))
        wave = normalised(sound.recipe(rng, size, RATE), RATE)
        events[start : start + size] += wave * amplitude(rng.uniform(-6, 0))
        heard.append((k, start / RATE, (start + size) / RATE))
    if rng.random() < 0.4:
        events = reverberate(rng, events, RATE, between(rng, 0.1, 0.8), rng.uniform(0.05, 0.4))
    wave = events + amplitude(rng.uniform(-42, -20)) * background(rng, samples)
    return wave * amplitude(rng.uniform(-26, -10)), heard


def background(rng: np.random.Generator, samples: int) -> np.ndarray:
    """The place: noise mostly darker than pink, with resonances, the hiss of a microphone and a level that drifts."""
    peaks = tuple((between(rng, 80, 6000), rng.uniform(0.3, 1.5), rng.uniform(-6, 8)) for _ in range(2))
    place = noise(rng, samples, RATE, tilt=rng.uniform(-8, -4), low=60, peaks=peaks, floor=rng.uniform(-20, -6))
    return place * np.exp2(wander(rng, samples, RATE, 2, 0.4))


# --- files -----------------------------------------------------------------------------------------------------


def _class_labels() -> list[dict]:
    """The 527 classes with index, mid, display name and the number of training clips of the real set."""
    table = resources.files("pannslib.reference") / "audioset" / "class_labels.csv"
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_class_labels(path: Path, labels: list[dict]) -> None:
    """The official list: every display name in quotes, lines ending in a line feed."""
    lines = [f'{row["index"]},{row["mid"]},"{row["display_name"]}"\n' for row in labels]
    path.write_text("index,mid,display_name\n" + "".join(lines), encoding="utf-8", newline="\n")


def _write_segments(path: Path, rows: list[tuple[str, list[str]]], seconds: float) -> None:
    """A list of segments as Google publishes them: three lines of remarks, then id, start, end and quoted labels."""
    mids = [mid for _, targets in rows for mid in targets]
    lines = [
        "# Segments csv created by pannslib: a miniature, all sound in it is synthetic",
        f"# num_ytids={len(rows)}, num_segs={len(rows)}, num_unique_labels={len(set(mids))}, "
        f"num_positive_labels={len(mids)}",
        "# YTID, start_seconds, end_seconds, positive_labels",
    ]
    lines += [f'{name}, 0.000, {seconds:.3f}, "{",".join(targets)}"' for name, targets in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _youtube_id(seed: int, split: str, index: int) -> str:
    """Eleven characters as YouTube's ids have, different for every clip."""
    digest = hashlib.blake2b(f"{seed}/{split}/{index}".encode(), digest_size=8).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
