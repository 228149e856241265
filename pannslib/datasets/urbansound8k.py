"""UrbanSound8K: sounds of the city (Salamon, Jacoby and Bello 2014), a task of the second paper.

    metadata/UrbanSound8K.csv     slice_file_name,fsID,start,end,salience,fold,classID,class
    audio/fold{1 to 10}/{Freesound recording}-{class}-{occurrence}-{slice}.wav

8,732 slices of up to 4 s, in the rates, widths and channels in which they were put on Freesound; 10 classes; ten given
folds, over which every result is to be averaged as they are. The slices of one recording (`fsID`) are in one fold.
Licence CC BY-NC 3.0. Source: https://zenodo.org/records/1203745 (UrbanSound8K.tar.gz).
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from pannslib.datasets.base import Clip, Dataset, assemble, read_rows, some
from pannslib.errors import DataError

TITLE = "UrbanSound8K"
CLIPS, FOLDS = 8732, 10
CLASSES = (  # in the order of classID
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)
ARCHIVE_FOLDER = "UrbanSound8K"  # what the official archive unpacks to
TABLE = "metadata/UrbanSound8K.csv"
SIGNS = (TABLE, "audio/fold[0-9]*/*-*-*-*.wav")
COLUMNS = ("slice_file_name", "fsID", "fold", "classID", "class")
CORRECT = f"Correct the line, or take {TABLE} from the official archive again."


def load(root: Path, allow_missing: bool = False) -> Dataset:
    """Read the table below `root` and check it against itself and against the files in `audio/`.

    With `allow_missing` the slices that are named but not there are left out, and counted in the notes.

    Raises:
        DataError: no table, a row that cannot be right (with its line), slices that are not there.
    """
    table = root / TABLE
    if not table.is_file():
        raise DataError(
            f"{root} has no {TABLE}, so it is no whole UrbanSound8K. Unpack the official archive there: audio/ and "
            "metadata/ belong into this folder."
        )
    clips = read_table(table)
    found = {path.relative_to(root).as_posix() for path in (root / "audio").glob("fold*/*") if path.is_file()}
    missing = [clip.path for clip in clips if clip.path not in found]
    if missing and not allow_missing:
        raise DataError(
            f"{table} names {len(missing):,} slices (of {len(clips):,}) that are not there: {some(missing)}. "
            "Complete the download, or go on with those that are there: make reproduce ALLOW_MISSING=1, panns "
            "reproduce --allow-missing, or allow_missing=True."
        )
    there = [clip for clip in clips if clip.path in found]
    names = {number: name.replace("_", " ") for number, name in enumerate(CLASSES)}
    return assemble("urbansound8k", TITLE, root, there, names, CLIPS, _notes(clips, missing, found))


def read_table(path: Path) -> list[Clip]:
    """The slices that `UrbanSound8K.csv` names, in its order; DataError with the line."""
    clips: list[Clip] = []
    lines: dict[str, int] = {}
    for line, row in read_rows(path, COLUMNS):
        name = row["slice_file_name"]
        # as a Windows path, because that knows both separators and drives
        if PureWindowsPath(name).name != name or name in ("", ".", ".."):
            raise DataError(f"{path}, line {line}: slice_file_name {name!r} is not the name of a file. {CORRECT}")
        if name in lines:
            raise DataError(f"{path}, line {line}: {name} is in line {lines[name]} already. {CORRECT}")
        lines[name] = line
        fold = _whole_number(path, line, "fold", row["fold"], 1, FOLDS)
        target = _whole_number(path, line, "classID", row["classID"], 0, len(CLASSES) - 1)
        if row["class"] != CLASSES[target]:
            raise DataError(
                f"{path}, line {line}: classID {target} is {row['class']!r} here, but officially {CLASSES[target]!r}. "
                + CORRECT
            )
        if not row["fsID"].strip():
            raise DataError(f"{path}, line {line}: fsID, the recording of {name}, is empty. {CORRECT}")
        clips.append(Clip(name, f"audio/fold{fold}/{name}", (target,), fold, row["fsID"].strip()))
    return clips


def _whole_number(path: Path, line: int, column: str, text: str, lowest: int, highest: int) -> int:
    if not (text.strip().isdecimal() and lowest <= int(text) <= highest):
        raise DataError(
            f"{path}, line {line}: {column} is {text!r}, but must be a whole number from {lowest} to {highest}. "
            + CORRECT
        )
    return int(text)


def _notes(clips: list[Clip], missing: list[str], found: set[str]) -> list[str]:
    """Sentences about what is missing, ignored or odd."""
    notes = []
    if missing:
        notes.append(f"{len(missing):,} slices that {TABLE} names are not there: {some(missing)}.")
    unnamed = sorted(found - {clip.path for clip in clips})
    if unnamed:
        notes.append(f"{len(unnamed):,} files in audio/ that {TABLE} doesn't name are ignored: {some(unnamed)}.")
    folds: dict[str, set[int]] = {}
    for clip in clips:
        folds.setdefault(clip.group, set()).add(clip.fold)
    divided = sorted(group for group, numbers in folds.items() if len(numbers) > 1)
    if divided:
        notes.append(
            f"{len(divided):,} recordings have slices in several folds, which the official folds avoid: "
            f"{some(divided)}."
        )
    return notes
