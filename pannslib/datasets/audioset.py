"""AudioSet: 10 s clips of YouTube videos with 527 classes (Gemmeke et al. 2017; section V-A of the paper).

    metadata/class_labels_indices.csv                              index,mid,display_name
    metadata/{balanced_train,unbalanced_train,eval}_segments.csv   YTID, start_seconds, end_seconds, "mid,mid"
    audios/{split}_segments/**/Y{YTID}.wav                         or .flac, .ogg

or, without any sound file, the authors' packed files as they are, whose layout `packed` tells:

    hdf5s/waveforms/{balanced_train,eval}.h5                       10 s clips at 32 kHz
    hdf5s/waveforms/unbalanced_train/unbalanced_train_part{00..40}.h5

Officially 22,160, 2,041,789 and 20,371 clips; videos vanish, so that no copy has them all: the authors obtained
20,550, 1,913,637 and 18,887 (README of their code). A copy with at least as many counts as the real data set, one with
fewer as a part. Labels CC BY 4.0. Source: https://research.google.com/audioset/.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pannslib.datasets.base import Clip, Dataset, assemble, is_miniature, read_rows, read_text, some
from pannslib.datasets.packed import AUTHORS_SPLITS, PackedClips
from pannslib.errors import DataError

TITLE = "AudioSet"
OFFICIAL = {"balanced_train": 22_160, "unbalanced_train": 2_041_789, "eval": 20_371}
AUTHORS_COPY = {"balanced_train": 20_550, "unbalanced_train": 1_913_637, "eval": 18_887}
SIGNS = (
    "metadata/*_segments.csv",
    "audios/*_segments",
    "hdf5s/waveforms/*.h5",
)  # what tells that a folder is meant to be this data set
SEGMENT_COLUMNS = ("YTID", "start_seconds", "end_seconds", "positive_labels")
SUFFIXES = (".wav", ".flac", ".ogg")
TRAINING = ("balanced_train", "unbalanced_train")  # where the black list counts
NAME = re.compile(r"Y?([\w-]{11})(?:_[\d.]+(?:_[\d.]+)?)?")  # Y<id>, <id>, <id>_30.000_40.000
NO_FOLD = 0  # AudioSet has splits instead
TAKE_AGAIN = "Take the file from the official site again."


def load(root: Path) -> Dataset:
    """Read the lists of segments below `root` and find the file of each clip; the notes count those without one.

    Where there are no sound files but the authors' packed ones, those are the data set.

    Raises:
        DataError: a split with sound but no list, no list at all, a list that contradicts itself or the class labels
            (with its line), no clip; a packed file that can't be read or has no clip, or a clip that is packed twice.
    """
    if (packed := packed_files(root)) and not any(root.glob("audios/*_segments")):
        return _load_packed(root, packed)
    mids, names = read_class_labels(root / "metadata" / "class_labels_indices.csv")
    clips: list[Clip] = []
    notes: list[str] = []
    places: dict[str, tuple[Path, int]] = {}
    barred, spared = read_black_list(root), []
    for split in OFFICIAL:
        table, folder = root / "metadata" / f"{split}_segments.csv", root / "audios" / f"{split}_segments"
        if not table.is_file():
            if folder.is_dir():
                raise DataError(f"{folder} has sound, but its list {table} is not there. Download that file.")
            notes.append(f"{split} is not there.")
            continue
        segments = read_segments(table, mids, places)
        paths, prefix = sound_files(folder), f"audios/{folder.name}/"
        for identifier, targets in segments.items():
            if path := paths.get(identifier):
                name = path.rpartition("/")[2]
                clips.append(Clip(name, prefix + path, targets, NO_FOLD, identifier, split))
        notes += _notes(split, segments, paths)
        if split in TRAINING:
            spared += [split for identifier in barred if identifier in segments and identifier not in paths]
    if not places:
        raise DataError(f"{root / 'metadata'} has no list of clips. Download eval_segments.csv and its like.")
    if spared:
        notes.append(f"{len(spared):,} of the clips that are not there are on the black list, so they aren't needed.")
    complete = _is_complete([*(clip.split for clip in clips), *spared])
    return assemble("audioset", TITLE, root, clips, names, sum(OFFICIAL.values()), notes, complete)


def _is_complete(splits: Iterable[str]) -> bool:
    """Whether clips of these splits are as many as the authors had."""
    sizes = Counter(splits)
    return all(sizes[split] >= count for split, count in AUTHORS_COPY.items())


def read_black_list(root: str | Path) -> set[str]:
    """The ids that the files in `metadata/black_list/` below `root` name; none where there are no files.

    A line begins with an id or with a file's name that does; so do the authors' files, which are lists of DCASE 2017
    Task 4 with tabs (`-5QrBL6MzLg_60.000_70.000.wav`), and what their `create_black_list.py` makes of them.
    """
    names: set[str] = set()
    for path in sorted((Path(root) / "metadata" / "black_list").glob("*.csv")):
        for line in read_text(path).splitlines():
            found = NAME.fullmatch(re.split(r"[\t,]", line.strip())[0].removesuffix(".wav"))
            if found:
                names.add(found[1])
    return names


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


def read_segments(
    path: Path, numbers: dict[str, int], places: dict[str, tuple[Path, int]]
) -> dict[str, tuple[int, ...]]:
    """The clips that a list of segments names: YouTube id -> the numbers of its classes.

    Args:
        path: of the CSV file; lines that begin with `#` are remarks, the last of which names the columns.
        numbers: of every label id.
        places: id -> file and line where it was read, of all lists so far; the ids of this list are added.

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
    segments: dict[str, tuple[int, ...]] = {}
    known: dict[str, tuple[int, ...]] = {}  # of two million clips many have the same labels
    for row in reader:
        if not row or row[0].startswith("#"):
            continue
        place = path, reader.line_num
        if len(row) != len(SEGMENT_COLUMNS):
            raise DataError(
                f"{path}, line {reader.line_num}: {len(row)} values, but {len(SEGMENT_COLUMNS)} belong there. "
                f"{TAKE_AGAIN}"
            )
        identifier, labels = row[0], row[3]
        if labels not in known:
            known[labels] = _numbers_of(labels, numbers, place)
        if identifier in places:
            first, line = places[identifier]
            raise DataError(
                f"{path}, line {reader.line_num}: the clip {identifier} is there already: {first}, line {line}. "
                f"{TAKE_AGAIN}"
            )
        places[identifier] = place
        segments[identifier] = known[labels]
    return segments


def _numbers_of(labels: str, numbers: dict[str, int], place: tuple[Path, int]) -> tuple[int, ...]:
    """The numbers of label ids "/m/a,/m/b", ascending; DataError if one isn't known."""
    mids = labels.split(",")
    unknown = [mid for mid in mids if mid not in numbers]
    if unknown:
        raise DataError(
            f"{place[0]}, line {place[1]}: the label id {unknown[0]!r} is not in class_labels_indices.csv. {TAKE_AGAIN}"
        )
    return tuple(sorted({numbers[mid] for mid in mids}))


def sound_files(folder: Path) -> dict[str, str]:
    """YouTube id -> path, relative to `folder`, of its file Y<id>.wav (.flac, .ogg); the WAV if there are several."""
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        # text, not Path objects: there may be two million
        relative = os.path.relpath(place, folder).replace(os.sep, "/")
        prefix = "" if relative == "." else f"{relative}/"
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            identifier = stem.removeprefix("Y")
            if suffix in SUFFIXES and stem != identifier and (suffix == ".wav" or identifier not in found):
                found[identifier] = prefix + name
    return found


def _notes(split: str, listed: dict, present: dict) -> list[str]:
    """Sentences about the clips of a split that are not there, and the files that no list names."""
    notes = []
    if missing := sum(identifier not in present for identifier in listed):
        notes.append(f"{split}: {missing:,} of {len(listed):,} clips are not there.")
    if surplus := sorted(identifier for identifier in present if identifier not in listed):
        notes.append(f"{split}: {len(surplus):,} files that the list doesn't name are ignored: {some(surplus)}.")
    return notes


# --- the authors' packed files ---------------------------------------------------------------------------------


def packed_files(root: Path) -> list[Path]:
    """The authors' packed files below `root`, split by split."""
    files = [path for path in (root / "hdf5s" / "waveforms").rglob("*.h5") if not path.name.startswith(".")]
    of_split = [[path for path in sorted(files) if path.name.startswith(split)] for split in AUTHORS_SPLITS]
    return [path for paths in of_split for path in paths]


def _load_packed(root: Path, paths: list[Path]) -> Dataset:
    """The data set that the authors' packed files are; a clip's path is that of its file."""
    packed = PackedClips(paths)
    _check_packed(packed)
    rows, columns = (np.concatenate(parts) for parts in zip(*_positives(packed), strict=True))
    labels = np.split(columns, np.searchsorted(rows, np.arange(1, len(packed))))
    known: dict[tuple, tuple] = {}
    files = [path.relative_to(root).as_posix() for path in paths]
    clips = pd.DataFrame(
        {
            "clip": packed.names,
            "path": np.repeat(np.array(files, dtype=object), packed.rows),
            "labels": [known.setdefault(key, key) for key in map(tuple, (part.tolist() for part in labels))],
            "fold": np.zeros(len(packed), np.int64),
            "group": [os.path.splitext(name)[0].removeprefix("Y") for name in packed.names],
            "split": packed.splits,
        }
    )
    evidence = "real" if _is_complete(packed.splits) else "partial"
    notes = [f"{split} is not there." for split in OFFICIAL if not (packed.splits == split).any()]
    official = sum(OFFICIAL.values())
    return Dataset(
        "audioset",
        TITLE,
        root,
        "miniature" if is_miniature(root) else evidence,
        packed.classes,
        clips,
        official,
        (
            f"The clips come packed, in {len(files)} HDF5 files.",
            f"{len(clips):,} of the official {official:,} clips are there.",
            *packed.notes,
            *notes,
        ),
        tuple(files),
    )


def _check_packed(packed: PackedClips) -> None:
    """DataError for a packed file without a clip, and for clips that are there twice."""
    if empty := [str(path) for path, rows in zip(packed.paths, packed.rows, strict=True) if not rows]:
        raise DataError(f"{empty[0]} has no clip in it. Download it again, or remove it.")
    names = pd.Series(packed.names)
    twice = names[names.duplicated()]
    if len(twice):
        first, row = names[names == twice.iloc[0]].index[0], twice.index[0]
        files = np.repeat(np.array(packed.paths, dtype=object), packed.rows)
        raise DataError(
            f"{files[row]}: the clip {twice.iloc[0]} is there already, in {files[first]}; {len(twice):,} rows repeat a "
            f"clip: {some(twice.unique())}. Download the files again, or remove the one that doesn't belong there."
        )


def _positives(packed: PackedClips) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of the targets that are set, block by block."""
    first = 0
    for block in packed.target_blocks():
        rows, columns = np.divmod(np.flatnonzero(block), block.shape[1])
        yield rows + first, columns
        first += len(block)
