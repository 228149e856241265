"""AudioSet: 10 s clips of YouTube videos with 527 classes (Gemmeke et al. 2017; section V-A of the paper).

    metadata/class_labels_indices.csv                              index,mid,display_name
    metadata/{balanced_train,unbalanced_train,eval}_segments.csv   YTID, start_seconds, end_seconds, "mid,mid"
    audios/{split}_segments/**/Y{YTID}.wav                         or .flac, .ogg

Officially 22,160, 2,041,789 and 20,371 clips; videos vanish, so that no copy has them all: the authors obtained
20,550, 1,913,637 and 18,887 (README of their code). A copy with at least as many counts as the real data set, one with
fewer as a part. Labels CC BY 4.0. Source: https://research.google.com/audioset/.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from pathlib import Path, PurePosixPath

from pannslib.datasets.base import Clip, Dataset, assemble, read_rows, read_text, some
from pannslib.errors import DataError

TITLE = "AudioSet"
OFFICIAL = {"balanced_train": 22_160, "unbalanced_train": 2_041_789, "eval": 20_371}
AUTHORS_COPY = {"balanced_train": 20_550, "unbalanced_train": 1_913_637, "eval": 18_887}
SIGNS = (
    "metadata/*_segments.csv",
    "audios/*_segments",
)  # what tells that a folder is meant to be this data set
SEGMENT_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
SUFFIXES = (".wav", ".flac", ".ogg")
NO_FOLD = 0  # AudioSet has splits instead
TAKE_AGAIN = "Take the file from the official site again."


def load(root: Path) -> Dataset:
    """Read the lists of segments below `root` and find the file of each clip; the notes count those without one.

    Raises:
        DataError: a split with sound but no list, no list at all, a list that contradicts itself or the class labels
            (with its line), no clip.
    """
    mids, names = read_class_labels(root / "metadata" / "class_labels_indices.csv")
    clips: list[Clip] = []
    notes: list[str] = []
    places: dict[str, str] = {}
    for split in OFFICIAL:
        table, folder = root / "metadata" / f"{split}_segments.csv", root / "audios" / f"{split}_segments"
        if not table.is_file():
            if folder.is_dir():
                raise DataError(f"{folder} has sound, but its list {table} is not there. Download that file.")
            notes.append(f"{split} is not there.")
            continue
        segments = read_segments(table, mids, places)
        paths = sound_files(folder)
        for identifier, targets in segments:
            if identifier in paths:
                path = f"audios/{folder.name}/{Path(paths[identifier]).as_posix()}"
                clips.append(Clip(PurePosixPath(path).name, path, targets, NO_FOLD, identifier, split))
        notes += _notes(split, {identifier for identifier, _ in segments}, set(paths))
    if not places:
        raise DataError(f"{root / 'metadata'} has no list of clips. Download eval_segments.csv and its like.")
    sizes = Counter(clip.split for clip in clips)
    complete = all(sizes[split] >= count for split, count in AUTHORS_COPY.items())
    return assemble("audioset", TITLE, root, clips, names, sum(OFFICIAL.values()), notes, complete)


def read_class_labels(path: Path) -> tuple[dict[str, int], dict[int, str]]:
    """The number of each label id ("/m/09x0r"), and the display name of each number; DataError with the line."""
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}
    for line, row in read_rows(path, ("index", "mid", "display_name")):
        if not row["index"].isdecimal() or int(row["index"]) in names or row["mid"] in numbers:
            raise DataError(
                f"{path}, line {line}: index {row['index']!r} and mid {row['mid']!r} must be a whole number and an id, "
                f"each occurring once. {TAKE_AGAIN}"
            )
        numbers[row["mid"]] = int(row["index"])
        names[int(row["index"])] = row["display_name"]
    return numbers, names


def read_segments(path: Path, numbers: dict[str, int], places: dict[str, str]) -> list[tuple[str, tuple[int, ...]]]:
    """The clips that a list of segments names: YouTube id, and the numbers of its classes.

    Args:
        path: of the CSV file; lines that begin with `#` are remarks, the last of which names the columns.
        numbers: of every label id.
        places: id -> where it was read, of all lists so far; the ids of this list are added.

    Raises:
        DataError: another header, a row of another form, an unknown label id, an id for the second time.
    """
    text = read_text(path)
    remarks = [line for line in text.splitlines()[:10] if line.startswith("#")]
    columns = [column.strip() for column in remarks[-1].lstrip("# ").split(",")] if remarks else []
    if columns != list(SEGMENT_COLUMNS):
        raise DataError(
            f"{path}, line {max(len(remarks), 1)}: the remarks at the top must end with "
            f"'# {', '.join(SEGMENT_COLUMNS)}'. {TAKE_AGAIN}"
        )
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    segments = []
    for row in reader:
        if not row or row[0].startswith("#"):
            continue
        place = f"{path}, line {reader.line_num}"
        if len(row) != len(SEGMENT_COLUMNS):
            raise DataError(f"{place}: {len(row)} values, but {len(SEGMENT_COLUMNS)} belong there. {TAKE_AGAIN}")
        identifier, mids = row[0], row[3].split(",")
        unknown = [mid for mid in mids if mid not in numbers]
        if unknown:
            raise DataError(f"{place}: the label id {unknown[0]!r} is not in class_labels_indices.csv. {TAKE_AGAIN}")
        if identifier in places:
            raise DataError(f"{place}: the clip {identifier} is there already: {places[identifier]}. {TAKE_AGAIN}")
        places[identifier] = place
        segments.append((identifier, tuple(sorted({numbers[mid] for mid in mids}))))
    return segments


def sound_files(folder: Path) -> dict[str, str]:
    """YouTube id -> path, relative to `folder`, of its file Y<id>.wav (.flac, .ogg); the WAV if there are several."""
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            identifier = stem.removeprefix("Y")
            if suffix in SUFFIXES and stem != identifier and (suffix == ".wav" or identifier not in found):
                # text, not Path objects: there may be two million
                found[identifier] = os.path.relpath(os.path.join(place, name), folder)
    return found


def _notes(split: str, listed: set[str], present: set[str]) -> list[str]:
    """Sentences about the clips of a split that are not there, and the files that no list names."""
    notes = []
    if missing := listed - present:
        notes.append(f"{split}: {len(missing):,} of {len(listed):,} clips are not there.")
    if surplus := sorted(present - listed):
        notes.append(f"{split}: {len(surplus):,} files that the list doesn't name are ignored: {some(surplus)}.")
    return notes
