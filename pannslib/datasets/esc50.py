"""ESC-50: environmental sound classification (Piczak 2015), the task of Table XIII.

    audio/{fold}-{Freesound recording}-{take}-{target}.wav     2,000 clips of 5 s, 44.1 kHz, mono
    meta/esc50.csv                                             filename,fold,target,category,esc10,src_file,take

50 classes with 40 clips each, in five official folds; clips that were cut from one recording (`src_file`) are in one
fold. Licence CC BY-NC 3.0. Source: https://github.com/karolpiczak/ESC-50. ESC-10, a subset with 10 of the classes,
comes in the same layout, some copies of it as OGG.
"""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

from pannslib.datasets.base import Clip, Dataset, assemble, read_rows, some
from pannslib.errors import DataError

TITLE = "ESC-50"
CLIPS, CLASSES, FOLDS = 2000, 50, 5
ARCHIVE_FOLDER = "ESC-50-master"  # what the official archive unpacks to
SIGNS = ("meta/esc50.csv", "audio/[1-5]-*-*-*.*")  # what tells that a folder is meant to be this data set
COLUMNS = ("filename", "fold", "target", "category", "src_file")
CORRECT = "Correct the line, or take meta/esc50.csv from the official archive again."


def load(root: Path, allow_missing: bool = False) -> Dataset:
    """Read `meta/esc50.csv` below `root` and check it against itself and against the files in `audio/`.

    With `allow_missing` the clips that are named but not there are left out, and counted in the notes.

    Raises:
        DataError: no `meta/esc50.csv`, a row that cannot be right (with its line), clips that are not there.
    """
    table = root / "meta" / "esc50.csv"
    if not table.is_file():
        raise DataError(
            f"{root} has no meta/esc50.csv, so it is no whole ESC-50. Unpack the official archive there: audio/ and "
            "meta/ belong into this folder."
        )
    clips, categories = read_table(table)
    files = {file.name for file in (root / "audio").glob("*") if file.is_file()}
    missing = [clip.clip for clip in clips if clip.clip not in files]
    if missing and not allow_missing:
        raise DataError(
            f"{table} names {len(missing):,} clips (of {len(clips):,}) that are not in audio/: {some(missing)}. "
            "Complete the download, or go on with those that are there: make reproduce ALLOW_MISSING=1, panns "
            "reproduce --allow-missing, or allow_missing=True."
        )
    notes = _notes(clips, missing, files)
    there = [clip for clip in clips if clip.clip in files]
    names = {number: categories.get(number, f"class {number}") for number in range(CLASSES)}
    return assemble("esc50", TITLE, root, there, names, CLIPS, notes)


def read_table(path: Path) -> tuple[list[Clip], dict[int, str]]:
    """The clips that `esc50.csv` names, in its order, and the name of each target number; DataError with the line."""
    clips: list[Clip] = []
    lines: dict[str, int] = {}
    categories: dict[int, str] = {}
    for line, row in read_rows(path, COLUMNS):
        name = row["filename"]
        # as a Windows path, because that knows both separators and drives
        if PureWindowsPath(name).name != name or name in ("", ".", ".."):
            raise DataError(
                f"{path}, line {line}: the filename {name!r} is not the name of a file in audio/. {CORRECT}"
            )
        if name in lines:
            raise DataError(f"{path}, line {line}: {name} is in line {lines[name]} already. {CORRECT}")
        lines[name] = line
        fold = _whole_number(path, line, "fold", row["fold"], 1, FOLDS)
        target = _whole_number(path, line, "target", row["target"], 0, CLASSES - 1)
        category = row["category"].replace("_", " ")
        if categories.setdefault(target, category) != category:
            raise DataError(
                f"{path}, line {line}: target {target} is {category!r} here, but {categories[target]!r} above. "
                + CORRECT
            )
        clips.append(Clip(name, f"audio/{name}", (target,), fold, row["src_file"]))
    return clips, categories


def _whole_number(path: Path, line: int, column: str, text: str, lowest: int, highest: int) -> int:
    if not (text.strip().isdecimal() and lowest <= int(text) <= highest):
        raise DataError(
            f"{path}, line {line}: {column} is {text!r}, but must be a whole number from {lowest} to "
            f"{highest}. {CORRECT}"
        )
    return int(text)


def _notes(clips: list[Clip], missing: list[str], files: set[str]) -> list[str]:
    """Sentences about what is missing, ignored or odd."""
    notes = []
    if missing:
        notes.append(f"{len(missing):,} clips that meta/esc50.csv names are not there: {some(missing)}.")
    unnamed = sorted(files - {clip.clip for clip in clips})
    if unnamed:
        notes.append(f"{len(unnamed):,} files in audio/ that meta/esc50.csv doesn't name are ignored: {some(unnamed)}.")
    folds: dict[str, set[int]] = {}
    for clip in clips:
        folds.setdefault(clip.group, set()).add(clip.fold)
    divided = sorted(group for group, found in folds.items() if len(found) > 1)
    if divided:
        notes.append(
            f"{len(divided):,} source recordings have clips in several folds, which the official folds avoid: "
            f"{some(divided)}."
        )
    return notes
