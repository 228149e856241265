"""RAVDESS: emotions in speech (Livingstone and Russo 2018), the task of Table XVIII.

    Actor_01/03-01-06-01-02-01-01.wav
    Actor_{actor}/{modality}-{channel}-{emotion}-{intensity}-{statement}-{repetition}-{actor}.wav

1,440 recordings of 3 to 5 s, 48 kHz, nearly all mono: 24 actors (odd numbers male, even ones female) with 60 each, 8
emotions. Only speech (channel 01) as sound alone (modality 03) is used. Licence CC BY-NC-SA 4.0. Source:
https://zenodo.org/record/1188976 (Audio_Speech_Actors_01-24.zip).

The data set has no official folds and the paper, which has four (section V-F), doesn't publish its own. Ours are by
actor, so that no voice is in training and test: ``((actor - 1) // 2) % 4 + 1``, which gives each fold as many men as
women. Where only some actors are there and this leaves fewer folds than it could (the lesser of 4 and the number of
actors), the actors are dealt out by rank: the first to fold 1, the second to fold 2, and so on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pannslib.datasets.base import Clip, Dataset, assemble, is_miniature, some
from pannslib.errors import DataError

TITLE = "RAVDESS (speech)"
CLIPS, ACTORS, CLIPS_PER_ACTOR, FOLDS = 1440, 24, 60, 4
ARCHIVE_FOLDER = "Audio_Speech_Actors_01-24"  # the official archive's name, which some tools unpack to
SIGNS = ("Actor_[0-9][0-9]",)  # what tells that a folder is meant to be this data set
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # codes 01 to 08
NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-(0[12])-(0[12])-(0[1-9]|1\d|2[0-4])\.(wav|mp4)")
AUDIO_ONLY, SPEECH = "03", "01"


def load(root: Path) -> Dataset:
    """Find the recordings in the `Actor_XX` folders of `root`; what is no speech recording is ignored and noted.

    Raises:
        DataError: a file whose name is another actor's than its folder, fewer than two actors, no clip.
    """
    found: list[tuple[int, int, str]] = []  # actor, emotion, path
    strange, other_kind = sorted(file.name for file in root.glob("*.wav")), []
    for folder in sorted(folder for folder in root.glob(SIGNS[0]) if folder.is_dir()):
        for file in sorted(folder.iterdir()):
            path = f"{folder.name}/{file.name}"
            parts = NAME.fullmatch(file.name)
            if parts is None:
                strange.append(path)
            elif (parts[1], parts[2], parts[8]) != (AUDIO_ONLY, SPEECH, "wav"):
                other_kind.append(path)
            elif parts[7] != folder.name.removeprefix("Actor_"):
                raise DataError(
                    f"{root / path}: the name says actor {parts[7]}, the folder {folder.name}. Move the file to "
                    f"Actor_{parts[7]}, or unpack the official archive again."
                )
            else:
                found.append((int(parts[7]), int(parts[3]), path))
    actors = Counter(actor for actor, _, _ in found)
    if len(actors) < 2:
        raise DataError(
            f"{root} has recordings of {len(actors)} actors, but two at least are needed, to test on a voice that was "
            "not trained on. The archive's folders Actor_01 to Actor_24 belong into this folder."
        )
    fold = assign_folds(actors)
    clips = [
        Clip(Path(path).name, path, (emotion,), fold[actor], f"actor {actor:02d}") for actor, emotion, path in found
    ]
    names = dict(enumerate(EMOTIONS, start=1))
    notes = [*([] if is_miniature(root) else _missing(actors)), *_ignored(strange, other_kind)]
    return assemble("ravdess", TITLE, root, clips, names, CLIPS, notes)


def assign_folds(actors: Iterable[int]) -> dict[int, int]:
    """The fold, from 1, of each of the actors that are there (numbers from 1), by the rule in the module's text."""
    actors = sorted(actors)
    by_pairs = {actor: (actor - 1) // 2 % FOLDS + 1 for actor in actors}
    possible = min(FOLDS, len(actors))
    if len(set(by_pairs.values())) == possible:
        return by_pairs
    return {actor: rank % possible + 1 for rank, actor in enumerate(actors)}


def _missing(actors: Counter) -> list[str]:
    """Sentences about the actors and recordings that are not there."""
    notes = []
    absent = [f"{actor:02d}" for actor in range(1, ACTORS + 1) if actor not in actors]
    if absent:
        notes.append(f"{len(actors)} of {ACTORS} actors are there; without {some(absent)}.")
    short = [f"{actor:02d} ({count})" for actor, count in sorted(actors.items()) if count < CLIPS_PER_ACTOR]
    if short:
        notes.append(f"Actors with fewer than {CLIPS_PER_ACTOR} recordings: {some(short)}.")
    return notes


def _ignored(strange: list[str], other_kind: list[str]) -> list[str]:
    """Sentences about the files that are there and not used."""
    notes = []
    if strange:
        notes.append(f"{len(strange):,} files that are not named as RAVDESS's are ignored: {some(strange)}.")
    if other_kind:
        notes.append(
            f"{len(other_kind):,} recordings that are song or not sound alone are ignored: {some(other_kind)}."
        )
    return notes
