"""What every data set is once it is loaded: classes, and a table with a row a clip."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from pannslib.errors import DataError

MINIATURE_MARK = "miniature.json"  # the file that a synthetic data set has in its root


class Clip(NamedTuple):
    """A clip as a loader finds it; `targets` are the data set's own numbers of its classes."""

    clip: str
    path: str
    targets: tuple[int, ...]
    fold: int
    group: str
    split: str = ""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set that was checked: every clip in it is there as a file, though none was decoded yet.

    Attributes:
        name: the task, as in `datasets.TASKS`.
        title: its full name.
        root: the folder that the paths of the clips are relative to.
        evidence: "real", "partial" (real, but not all of it) or "miniature" (synthetic sound).
        classes: display names of the classes that occur, in the order of their official numbers.
        clips: a row a clip: clip (unique name), path (relative to root), labels (tuple of indices into classes), fold
            (from 1; 0 where there are none), group (source recording or actor, never to be divided), split (or "").
        expected_clips: the official number.
        notes: sentences about what is missing, ignored or odd.
        packed: paths, relative to root, of the HDF5 files that hold the clips where they come packed; each clip's path
            is then that of its file.
    """

    name: str
    title: str
    root: Path
    evidence: str
    classes: tuple[str, ...]
    clips: pd.DataFrame
    expected_clips: int
    notes: tuple[str, ...]
    packed: tuple[str, ...] = ()

    @cached_property
    def targets(self) -> np.ndarray:
        """bool (clips, classes): which clip has which class."""
        labels = self.clips["labels"]
        rows = np.repeat(np.arange(len(labels)), labels.map(len))
        targets = np.zeros((len(labels), len(self.classes)), bool)
        targets[rows, np.fromiter(chain.from_iterable(labels), int, len(rows))] = True
        return targets

    @property
    def label(self) -> np.ndarray:
        """int64 (clips,): the class of each clip; ValueError for a data set whose clips have several."""
        if any(len(labels) != 1 for labels in self.clips["labels"]):
            raise ValueError(f"{self.title} has clips with several labels or none: use `targets`")
        return np.array([labels[0] for labels in self.clips["labels"]], np.int64)

    @property
    def folds(self) -> list[int]:
        """The folds that have clips, in ascending order."""
        return sorted({int(fold) for fold in self.clips["fold"]})

    @property
    def is_split(self) -> bool:
        """Whether it has one given training and one given test part (column split), and so no folds."""
        return bool(self.clips["split"].isin(("train", "test")).any())

    def check_splits(self) -> None:
        """DataError unless the clips can be divided into training and test clips without a leak.

        There must be several classes, and several folds or both given parts; no group (source recording, actor,
        place, artist) may be on both sides.
        """
        column, parts = ("split", ["train", "test"]) if self.is_split else ("fold", self.folds)
        if len(self.classes) < 2:
            raise DataError(
                f"{self.root} has clips of {len(self.classes)} class ({some(self.classes)}), but there must be two at "
                "least to tell apart. Complete the download."
            )
        empty = [part for part in parts if not (self.clips[column] == part).any()]
        if self.is_split and empty:
            raise DataError(
                f"{self.root} has no {empty[0]} clips; of its two given parts both are needed, one to train on and one "
                "to test on. Complete the download."
            )
        if not self.is_split and len(parts) < 2:
            raise DataError(
                f"{self.root} has clips of {len(self.classes)} classes in {len(parts)} folds "
                f"({some(map(str, parts))}). Cross-validation needs two classes and two folds at least. Complete the "
                "download."
            )
        sides = self.clips.groupby("group")[column].nunique()
        divided = sides.index[sides > 1]
        if len(divided):
            raise DataError(
                f"{self.root}: clips of one recording, place or person are in several {column}s, so that test clips "
                f"would be known from training: {some(divided)}. Correct the {column}s in the metadata."
            )

    def part(self, start: int, stop: int) -> Dataset:
        """The clips from number `start` to before `stop` as a data set, with the classes of the whole."""
        return replace(self, clips=self.clips.iloc[start:stop].reset_index(drop=True))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hex, over names, sizes, labels, folds and splits of all clips: equal for a copy of the folder."""
        digest = hashlib.sha256()
        sizes = self._states[:, 0].tolist()
        columns = (self.clips[name].tolist() for name in ("clip", "labels", "fold", "group", "split"))
        for clip, labels, fold, group, split, size in zip(*columns, sizes, strict=True):
            names = [self.classes[index] for index in labels]
            digest.update(repr((clip, size, names, int(fold), group, split)).encode())
        return digest.hexdigest()

    @cached_property
    def stamp(self) -> str:
        """SHA-256, hex, of the fingerprint and the files' times: a cheap answer to whether the folder changed."""
        return hashlib.sha256(repr((self.fingerprint, self._states[:, 1].tolist())).encode()).hexdigest()

    def changed(self) -> list[str]:
        """The paths of the clips whose files are others now, or gone, than when `stamp` was first asked for."""
        before, now = self._states, self._look(gone=(-1, -1))
        return list(dict.fromkeys(self.clips["path"][(before != now).any(1)]))

    def written_since(self, time: int) -> list[str]:
        """The clips whose files were written after a time (ns)."""
        return self.clips["clip"][self._states[:, 1] > time].tolist()

    def differences(self, now: Dataset) -> list[str]:
        """What is other in the same data set, loaded again: sentences that name the first few clips."""
        before, after = self._facts(), now._facts()
        kinds = {
            "gone": [name for name in before if name not in after],
            "new": [name for name in after if name not in before],
            "other files": [name for name in before if name in after and before[name][:2] != after[name][:2]],
            "other labels or parts": [name for name in before if name in after and before[name][2:] != after[name][2:]],
        }
        return [f"{len(names):,} {kind} ({some(names)})" for kind, names in kinds.items() if names]

    def _facts(self) -> dict[str, tuple]:
        """Of each clip: size and time of its file, names of its labels, fold, group, split."""
        labels = ([self.classes[index] for index in clip] for clip in self.clips["labels"])
        columns = (self.clips[name].tolist() for name in ("fold", "group", "split"))
        facts = zip(*self._states.T.tolist(), labels, *columns, strict=True)
        return dict(zip(self.clips["clip"], facts, strict=True))

    @cached_property
    def _states(self) -> np.ndarray:
        return self._look()

    def _look(self, gone: tuple[int, int] | None = None) -> np.ndarray:
        """Size and time (ns) of each clip's file, int64 (clips, 2); `gone`, or a DataError, for one that is lost."""
        states = np.empty((len(self.clips), 2), np.int64)
        known: dict[str, tuple[int, int]] = {}  # many clips are of one file where they come packed
        root = os.fspath(self.root)
        for index, path in enumerate(self.clips["path"].tolist()):
            if path not in known:
                try:
                    status = os.stat(os.path.join(root, path))
                    state = status.st_size, status.st_mtime_ns
                except OSError as error:
                    if gone is None:
                        raise DataError(
                            f"{self.root / path} cannot be reached: {error.strerror}. If it is a link, get the file "
                            "that it leads to; else complete the download."
                        ) from error
                    state = gone
                if not self.packed:
                    states[index] = state
                    continue
                known[path] = state
            states[index] = known[path]
        return states


def assemble(
    name: str,
    title: str,
    root: Path,
    clips: list[Clip],
    class_names: dict[int, str],
    expected_clips: int,
    notes: Iterable[str] = (),
    complete: bool | None = None,
) -> Dataset:
    """A `Dataset` of the clips that a loader found, its classes being those that occur.

    Args:
        name, title, root, expected_clips, notes: as in `Dataset`.
        clips: what is there.
        class_names: the official number of every class that the data set can have -> its display name.
        complete: whether this counts as the whole data set; None: if there are `expected_clips`.

    Raises:
        DataError: there is no clip.
    """
    if not clips:
        raise DataError(f"{root}: no clip of {title} is there. Complete the download, or choose another data root.")
    # of two million clips many have the same classes
    kinds = {clip.targets for clip in clips}
    present = sorted({number for targets in kinds for number in targets})
    index = {number: position for position, number in enumerate(present)}
    labels = {targets: tuple(sorted(index[number] for number in targets)) for targets in kinds}
    frame = pd.DataFrame(
        {
            "clip": [clip.clip for clip in clips],
            "path": [clip.path for clip in clips],
            "labels": [labels[clip.targets] for clip in clips],
            "fold": np.array([clip.fold for clip in clips], np.int64),
            "group": [clip.group for clip in clips],
            "split": [clip.split for clip in clips],
        }
    )
    complete = len(clips) >= expected_clips if complete is None else complete
    if is_miniature(root):
        evidence, extent = "miniature", ["All sound in it is synthetic."]
    else:
        evidence, extent = ("real", []) if complete else ("partial", [])
        if len(clips) < expected_clips:
            extent.append(f"{len(clips):,} of the official {expected_clips:,} clips are there.")
        if len(present) < len(class_names):
            extent.append(f"{len(present)} of the official {len(class_names)} classes are there.")
    classes = tuple(class_names[number] for number in present)
    return Dataset(name, title, root, evidence, classes, frame, expected_clips, (*extent, *notes))


def is_miniature(root: Path) -> bool:
    """Whether the data set at `root` is synthetic."""
    return (root / MINIATURE_MARK).is_file()


def read_rows(
    path: Path, columns: Iterable[str], delimiter: str = ",", optional: Iterable[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its line number (the header's is 1).

    Windows line ends and a byte order mark are fine, and so is another case of the letters in the header. The
    `optional` columns need not be there.

    Raises:
        DataError: the file is absent, isn't UTF-8, lacks one of `columns`, or has a row of another length.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    columns = tuple(columns)
    spelled = {column.casefold(): column for column in (*columns, *optional)}
    reader.fieldnames = [spelled.get(name.strip().casefold(), name) for name in reader.fieldnames or []]
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        raise DataError(
            f"{path}, line 1: the header lacks {', '.join(missing)}; it has "
            f"{', '.join(reader.fieldnames or ['nothing'])}. Take the file from the official archive again."
        )
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{path}, line {reader.line_num}: the row has another number of values than the header. "
                    "Correct it, or take the file from the official archive again."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: this is no CSV ({error}). Correct the line.") from error


def read_text(path: Path) -> str:
    """A UTF-8 text file, without its byte order mark if it has one; DataError if it cannot be read as that."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 (byte {error.start:,} is 0x{error.object[error.start]:02x}). Save it as UTF-8, or "
            "take the file from the official archive again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. Complete the download.") from error


def some(names: Iterable[str], most: int = 5) -> str:
    """The first few of many names, for a message: "a, b, c and 12 more"."""
    # names of files need not be UTF-8, messages and notebooks must
    names = [name.encode("utf-8", "backslashreplace").decode() for name in names]
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
