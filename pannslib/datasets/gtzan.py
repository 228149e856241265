"""GTZAN: music genres (Tzanetakis and Cook 2002), the task of Table XVII.

    genres/{genre}/{genre}.{00000 to 00099}.wav     1,000 excerpts of 30 s, 22,050 Hz, mono, 16 bit

10 genres with 100 excerpts each. `genres_original/`, `Data/genres_original/` (as Kaggle has it), the genres' folders
alone, and the AU files of the first archive are read as well. Licence unknown. Source: see `reference/datasets.yaml`.

The collection has no folds and the paper doesn't publish its ten. Ours are stratified and by seed (`SEED`), and hold
together what is known to be of one recording: the repetitions that Sturm catalogued (*The GTZAN dataset: its contents,
its faults, their effects on evaluation, and its future use*, arXiv:1306.1461, 2013; `REPETITIONS`), and what has the
same bytes. Nothing in the collection names the artists, many of whom are in it several times, so they are on both sides
of the folds here as in the paper, and results are better than they would be for new artists.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pannslib import audio
from pannslib.datasets.base import Clip, Dataset, assemble, is_miniature, some
from pannslib.datasets.folds import identical_files, stratified_folds
from pannslib.errors import AudioError, DataError

TITLE = "GTZAN"
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
CLIPS, FOLDS, SEED = 1000, 10, 0
PLACES = ("genres", "genres_original", "Data/genres_original", "")  # where the genres' folders may be below the root
SIGNS = tuple(f"{place}/{genre}/{genre}.[0-9]*".removeprefix("/") for place in PLACES for genre in GENRES)
NAME = re.compile(rf"({'|'.join(GENRES)})\.(\d{{5}})\.(wav|au)")
UNREADABLE = "jazz.00054"  # cannot be decoded in the copies that most people have

# Excerpts of one recording, as listed after Sturm (2013); a wrong entry would only put two clips into one fold.
REPETITIONS = {
    "classical": ((42, 53), (51, 80)),
    "country": ((8, 51), (52, 60)),
    "disco": ((38, 78), (50, 51, 70), (55, 60, 89), (71, 74), (98, 99)),
    "hiphop": ((1, 42), (39, 45), (46, 65), (47, 67), (48, 68), (49, 69), (50, 72), (76, 78)),
    "jazz": (
        *((33, 51), (34, 53), (35, 55), (36, 58), (37, 60), (38, 62), (39, 65)),
        *((40, 67), (42, 68), (43, 69), (44, 70), (45, 71), (46, 72)),
    ),
    "metal": ((4, 13), (34, 94), (40, 61), (41, 62), (42, 63), (43, 64), (44, 65), (45, 66)),
    "pop": (
        *((15, 21, 22, 37), (30, 31), (45, 46), (47, 48, 51, 80), (52, 54, 57, 60)),
        *((56, 59), (67, 71), (68, 73), (87, 90)),
    ),
    "reggae": (
        *((3, 54), (5, 56), (7, 59), (8, 57), (10, 60), (13, 58), (23, 55), (33, 44)),
        *((41, 69), (73, 74), (75, 91, 92), (80, 81, 82), (85, 96)),
    ),
}
ACROSS = (("metal.00058", "rock.00016"),)  # one recording under two genres


def load(root: Path, seed: int = SEED) -> Dataset:
    """Find the excerpts below `root` and assign them to ten folds; what is no excerpt is ignored and noted.

    Args:
        root: the folder that has one of `PLACES`.
        seed: of the folds.

    Raises:
        DataError: none of the folders is there, an excerpt in another genre's folder, no clip.
    """
    place = find_genres(root)
    found, notes = _find(root, place)
    notes += _skip_unreadable(root, found)
    if not found:
        raise DataError(f"{root / place} has no excerpt named like blues/blues.00000.wav. Unpack the archive again.")
    names = sorted(found)
    group, grouping = _groups(root, found, repetitions=not is_miniature(root))
    genres = np.array([GENRES.index(name.split(".")[0]) for name in names])
    targets = genres[:, None] == np.arange(len(GENRES))
    present = targets.any(0)
    folds = stratified_folds(targets[:, present], [group[name] for name in names], FOLDS, seed)
    few = [f"{GENRES[k]} ({n})" for k, n in enumerate(targets.sum(0)) if 0 < n < folds.max()]
    if few:
        notes.append(f"Genres with fewer excerpts than the {folds.max()} folds, absent from some: {some(few, 10)}.")
    clips = [
        Clip(Path(found[name]).name, found[name], (int(genre),), int(fold), group[name])
        for name, genre, fold in zip(names, genres, folds, strict=True)
    ]
    # the excerpt that hardly anyone can read is no reason to call a copy a part
    complete = set(names) >= _official() - {UNREADABLE}
    if not is_miniature(root):
        grouping.append("The collection names no artists, so excerpts of one artist may be in several folds.")
    notes = [*grouping, *notes]
    return assemble("gtzan", TITLE, root, clips, dict(enumerate(GENRES)), CLIPS, notes, complete=complete)


def find_genres(root: Path) -> str:
    """Which of `PLACES` below `root` has the genres' folders; DataError if none has."""
    for place in PLACES:
        if any((root / place / genre).is_dir() for genre in GENRES):
            return place
    raise DataError(
        f"{root} has no folder of a genre ({', '.join(GENRES)}), neither in it nor in genres/, genres_original/ or "
        "Data/genres_original/. Unpack the archive there."
    )


def _official() -> set[str]:
    return {f"{genre}.{number:05d}" for genre in GENRES for number in range(CLIPS // len(GENRES))}


def _find(root: Path, place: str) -> tuple[dict[str, str], list[str]]:
    """Excerpt ("jazz.00001") -> path relative to `root`, and sentences about what is ignored."""
    found: dict[str, str] = {}
    strange, twice = [], []
    for genre in GENRES:
        folder = root / place / genre
        for file in sorted(folder.iterdir(), reverse=True) if folder.is_dir() else ():  # .wav comes before .au
            path = file.relative_to(root).as_posix()
            parts = NAME.fullmatch(file.name)
            if parts is None or not file.is_file():
                strange.append(path)
            elif parts[1] != genre:
                raise DataError(
                    f"{root / path}: the name says {parts[1]}, the folder {genre}. Move the file to {parts[1]}/, or "
                    "unpack the archive again."
                )
            elif file.stem in found:
                twice.append(path)
            else:
                found[file.stem] = path
    notes = []
    if strange:
        notes.append(f"{len(strange):,} files that are not named as GTZAN's are ignored: {some(sorted(strange))}.")
    if twice:
        notes.append(f"{len(twice):,} AU files whose excerpt is there as WAV are ignored: {some(sorted(twice))}.")
    return found, notes


def _skip_unreadable(root: Path, found: dict[str, str]) -> list[str]:
    """Take `UNREADABLE` out of `found` if it is there and cannot be decoded; sentences about it."""
    path = found.get(UNREADABLE)
    if path is None:
        whole = is_miniature(root) or not any(name.startswith("jazz.") for name in found)
        return [] if whole else [f"{UNREADABLE} isn't there; in many copies it cannot be read anyway."]
    try:
        audio.decode(root / path)
    except AudioError as error:
        del found[UNREADABLE]
        reason = str(error).replace(str(root / path), path)
        return [f"{UNREADABLE} is skipped: the file is known to be damaged in many copies, and is here ({reason})"]
    return [f"{UNREADABLE}, which is damaged in many copies, can be read in this one and is used."]


def _groups(root: Path, found: dict[str, str], repetitions: bool) -> tuple[dict[str, str], list[str]]:
    """The group of each excerpt, which is the first excerpt of the same recording, and sentences about them."""
    group = {name: name for name in found}

    def join(members: Iterable[str]) -> None:
        joined = {group[name] for name in members if name in group}
        if len(joined) > 1:
            group.update({name: min(joined) for name in group if group[name] in joined})

    if repetitions:
        for genre, sets in REPETITIONS.items():
            for numbers in sets:
                join(f"{genre}.{number:05d}" for number in numbers)
        for members in ACROSS:
            join(members)
    listed = _repeated(group)
    same = identical_files({name: root / path for name, path in found.items()})
    for members in same:
        join(members)
    notes = []
    if listed:
        notes.append(
            f"{sum(map(len, listed)):,} excerpts are of {len(listed):,} recordings that are in the collection several "
            "times (Sturm 2013); those of one recording are in one fold."
        )
    if same:
        pairs = [" = ".join(members) for members in same]
        notes.append(f"Files that are the same byte for byte, and so in one fold: {some(pairs)}.")
    return group, notes


def _repeated(group: dict[str, str]) -> list[list[str]]:
    """The members of every group that has several."""
    members = defaultdict(list)
    for name, first in group.items():
        members[first].append(name)
    return [sorted(names) for names in members.values() if len(names) > 1]
