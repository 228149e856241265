"""Your own data: a folder of sound files and a CSV that says what is in them.

    file,label[,fold][,group][,split]
    dog/0001.wav,dog,1,garden
    street.flac,dog;car horn,2,street        several labels, separated by ; or |

`file` is relative to the folder, or a name that occurs once anywhere below it. `fold` is a whole number, `group` what
must not be divided (a speaker, a recording, a place), `split` train or test. Where there are neither folds nor a split,
folds are made: stratified, by group, by seed. UTF-8, UTF-16, Windows-1252 and mixtures of them, commas, semicolons and
tabs, any line ends and a byte order mark are understood. Every check is reported in plain words: what can be gone on
without is skipped and listed with its line, what cannot is a `DataError` with the line and the remedy.

    found = examine("recordings", "clips.csv")
    found.checks, found.skipped        # two tables
    found.dataset                      # as of every other data set
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from pannslib.datasets.base import Dataset, is_miniature, some
from pannslib.datasets.folds import identical_files, stratified_folds
from pannslib.errors import DataError

FOLDS = 5
NAMES = {  # column -> what it may be called
    "file": ("file", "filename", "file_name", "path", "clip"),
    "label": ("label", "labels", "class", "classes", "category"),
    "fold": ("fold",),
    "group": ("group", "speaker", "recording"),
    "split": ("split", "subset"),
}
SPLITS = {
    "train": ("train", "training", "dev", "development", "val", "valid", "validation"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
SEPARATORS = re.compile(r"[;|]")  # between the labels of a clip


@dataclass(frozen=True)
class Row:
    """A row of the CSV that can be used."""

    line: int
    file: str  # as written
    path: str  # of the file that is there, relative to the folder
    labels: tuple[str, ...]
    fold: str
    group: str
    split: str


@dataclass(frozen=True, eq=False)
class Examined:
    """What was found in a folder and its CSV.

    Attributes:
        dataset: the clips that can be used.
        checks: a row a check: check, result.
        skipped: a row a line of the CSV that isn't used: line, file, reason.
    """

    dataset: Dataset
    checks: pd.DataFrame
    skipped: pd.DataFrame


def load(folder: str | Path, csv_file: str | Path | None = None, folds: int = FOLDS, seed: int = 0) -> Dataset:
    """Read and check one's own data; `examine` says more about them. Arguments and errors are those of `examine`."""
    return examine(folder, csv_file, folds, seed).dataset


def examine(folder: str | Path, csv_file: str | Path | None = None, folds: int = FOLDS, seed: int = 0) -> Examined:
    """Read and check one's own data.

    Args:
        folder: of the sound files, which may be in folders below it.
        csv_file: the table; None for the one CSV in the folder.
        folds: how many are made where the table has neither folds nor a split.
        seed: of those folds.

    Raises:
        DataError: no such folder or table, no column `file` or `label`, a fold or split that makes no sense, a group on
            both sides of the folds, contradictions about one file, no clip, fewer than two classes.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder. Give the folder that holds the sound files.")
    if folds < 2:
        raise DataError(f"folds is {folds}; two at least are needed to test on clips that were not learnt from.")
    table = _table(folder, csv_file)
    report = _Report()
    records = _read(table, report)
    rows = _rows(table, records, _Files(folder, table), report)
    if not rows:
        reasons = "; ".join(f"line {line}: {reason}" for line, _, reason in sorted(report.skipped)[:3])
        raise DataError(
            f"{table}: no line can be used ({reasons or 'it has a header and nothing else'}). Correct the column file, "
            f"which is relative to {folder}."
        )
    rows = _without_duplicates(table, rows, report)
    classes = _classes(table, rows, report)
    targets = np.array([[name in row.labels for name in classes] for row in rows])
    groups = _groups(folder, rows, report)
    fold, split = _sides(table, rows, targets, classes, groups, folds, seed, report)
    clips = pd.DataFrame(
        {
            "clip": [row.path for row in rows],
            "path": [row.path for row in rows],
            "labels": [tuple(np.flatnonzero(row).tolist()) for row in targets],
            "fold": fold,
            "group": groups,
            "split": split,
        }
    )
    _check_extra(folder, rows, report)
    evidence = "miniature" if is_miniature(folder) else "partial" if report.skipped else "real"
    notes = ("All sound in it is synthetic.",) if evidence == "miniature" else ()
    notes += tuple(report.notes)
    if report.skipped:
        lines = some(f"line {line} ({reason})" for line, _, reason in sorted(report.skipped))
        notes += (f"{len(report.skipped):,} lines of {table.name} are skipped: {lines}.",)
    name = "Spoken digits" if evidence == "miniature" else folder.resolve().name
    dataset = Dataset("own_data", name, folder, evidence, classes, clips, len(records), notes)
    checks = pd.DataFrame(report.checks, columns=["check", "result"])
    return Examined(dataset, checks, pd.DataFrame(sorted(report.skipped), columns=["line", "file", "reason"]))


class _Report:
    """What the checks say."""

    def __init__(self):
        self.checks: list[tuple[str, str]] = []
        self.skipped: list[tuple[int, str, str]] = []
        self.notes: list[str] = []

    def check(self, name: str, result: str, note: bool = False) -> None:
        """Add the result of a check, which is also a note of the data set where it is worth one."""
        self.checks.append((name, result))
        if note:
            self.notes.append(result if result[0].isupper() else f"{name[0].upper()}{name[1:]}: {result}.")

    def skip(self, line: int, file: str, reason: str) -> None:
        """Leave a line out."""
        self.skipped.append((line, file, reason))


# --- the table ----------------------------------------------------------------------------------------------------


def _table(folder: Path, csv_file: str | Path | None) -> Path:
    """The CSV that is meant."""
    if csv_file is not None and str(csv_file):
        given = Path(csv_file).expanduser()
        for path in (given, folder / given):
            if path.is_file():
                return path
        raise DataError(
            f"There is no file {given}, nor {folder / given}. Give the path of the CSV with file and label."
        )
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        there = f"{len(found)} CSV files ({some(path.name for path in found)})" if found else "no CSV file"
        raise DataError(f"{folder} has {there}, so it isn't clear which says what is in the clips. Give its path.")
    return found[0]


def _read(table: Path, report: _Report) -> list[tuple[int, dict[str, str]]]:
    """The lines of the table with their numbers, as column -> text; columns that it doesn't have are empty."""
    text = _decoded(table, report)
    ends = {end: text.count(end) for end in ("\r\n", "\n", "\r")}
    ends["\n"] -= ends["\r\n"]
    ends["\r"] -= ends["\r\n"]
    called = {"\r\n": "Windows", "\n": "Unix", "\r": "old Macintosh"}
    report.check("line ends", " and ".join(called[end] for end in ends if ends[end]) or "none")
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    first = next((line for line in lines.split("\n") if line.strip()), "")
    if not first:
        raise DataError(f"{table} is empty. Write file,label in the first line, and a line for each clip below.")
    header_line = 1 + lines.split("\n").index(first)
    separator = ""
    if match := re.fullmatch(r"sep=(.)\s*", first, re.IGNORECASE):  # what Excel writes and understands
        separator, first = match[1], lines.split("\n")[header_line]
        header_line += 1
    body = "\n".join(lines.split("\n")[header_line - 1 :])
    separator = separator or max(",;\t", key=first.count)
    report.check("separator", {",": "comma", ";": "semicolon", "\t": "tab"}.get(separator, repr(separator)))
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    try:
        header = [name.strip() for name in next(reader)]
        columns = _columns(table, header_line, header, report)
        records = []
        for values in reader:
            line = header_line - 1 + reader.line_num
            if not any(value.strip() for value in values):
                continue
            if len(values) > len(header) and any(value.strip() for value in values[len(header) :]):
                report.skip(
                    line, values[columns["file"]].strip(), f"{len(values)} values where the header has {len(header)}"
                )
                continue
            values += [""] * (len(header) - len(values))
            records.append((line, {name: values[place].strip() for name, place in columns.items()}))
    except csv.Error as error:
        raise DataError(
            f"{table}, line {header_line - 1 + reader.line_num}: this is no CSV ({error}). Correct the line; a quote "
            "that is opened must be closed."
        ) from error
    report.check("lines", f"{len(records) + len(report.skipped):,} below the header")
    return records


def _decoded(table: Path, report: _Report) -> str:
    """The text of the table, in whatever encoding."""
    try:
        content = table.read_bytes()
    except OSError as error:
        raise DataError(f"{table} cannot be read: {error.strerror}. Change its permissions.") from error
    wide = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}.get(content[:2])
    if wide is None and content[:200].count(0) > len(content[:200]) / 4:
        wide = "UTF-16-LE" if content[1::2][:50].count(0) > content[::2][:50].count(0) else "UTF-16-BE"
    if wide:
        try:
            text = content.decode(wide)
        except UnicodeDecodeError as error:
            raise DataError(f"{table} starts as UTF-16 and isn't that throughout. Save it as UTF-8.") from error
        report.check("encoding", "UTF-16")
        return text.removeprefix("\ufeff")
    marked = content.startswith(b"\xef\xbb\xbf")
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
        report.check("encoding", "UTF-8" + (" with a byte order mark" if marked else ""))
        return text
    except UnicodeDecodeError:
        pass
    lines, foreign, others = [], [], 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            lines.append(line.decode("utf-8"))
            others += not line.isascii()
        except UnicodeDecodeError:
            foreign.append(str(number))
            # the five bytes that Windows-1252 leaves open are those of Latin-1
            lines.append("".join(bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in line))
    if others:
        report.check(
            "encoding",
            f"Two encodings are mixed in {table.name}: UTF-8, and in line {some(foreign)} Windows-1252. Check the "
            "accents there, or save the file as UTF-8.",
            note=True,
        )
    else:
        report.check("encoding", "Windows-1252")
    return "".join(lines)


def _columns(table: Path, line: int, header: list[str], report: _Report) -> dict[str, int]:
    """The place of every column that is known and there."""
    lower = [name.lower() for name in header]
    columns: dict[str, int] = {}
    for column, names in NAMES.items():
        places = [place for name in names for place, found in enumerate(lower) if found == name]
        if places:
            columns[column] = places[0]
    missing = [column for column in ("file", "label") if column not in columns]
    if missing:
        raise DataError(
            f"{table}, line {line}: there is no column {' and no column '.join(missing)}; the first line says "
            f"{', '.join(header)}. It must be the names of the columns, such as file,label,fold,group."
        )
    ignored = [name for place, name in enumerate(header) if place not in columns.values()]
    used = ", ".join(
        column if column == lower[place] else f"{column} ({header[place]})" for column, place in columns.items()
    )
    report.check("columns", f"{used} used" + (f"; {some(ignored)} ignored" if ignored else ""))
    return columns


# --- lines and files ----------------------------------------------------------------------------------------------


class _Files:
    """The sound files below a folder, found by what a table calls them."""

    def __init__(self, folder: Path, table: Path):
        self.folder, self.table = folder.resolve(), table

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        """Plain name -> relative paths."""
        names = defaultdict(list)
        for path in self.folder.rglob("*"):
            if path.is_file():
                names[_plain(path.name)].append(path.relative_to(self.folder).as_posix())
        return names

    @cached_property
    def _paths(self) -> dict[str, list[str]]:
        """Plain relative path -> relative paths."""
        paths = defaultdict(list)
        for found in self._names.values():
            for path in found:
                paths[_plain(path)].append(path)
        return paths

    def find(self, line: int, name: str) -> str | None:
        """The path, relative to the folder, of the file that a line calls `name`; None if there is none.

        Raises:
            DataError: the name leads out of the folder.
        """
        for written in dict.fromkeys((name, name.replace("\\", "/"))):
            path = PurePosixPath(written)
            outside = PureWindowsPath(written).drive or ".." in path.parts
            if path.is_absolute() or outside:
                full = Path(written)
                if not outside and full.is_file() and full.resolve().is_relative_to(self.folder):
                    return full.resolve().relative_to(self.folder).as_posix()
                raise DataError(
                    f"{self.table}, line {line}: the file {name!r} is outside of {self.folder}. Write it relative to "
                    "that folder, or give a folder above both."
                )
            # also relative to the table, or to where the folder is, as scripts like to write it
            for base in (self.folder, self.table.resolve().parent, self.folder.parent):
                full = base / path
                if full.is_file() and full.resolve().is_relative_to(self.folder):
                    return full.resolve().relative_to(self.folder).as_posix()
        path = _plain(name.replace("\\", "/"))
        for found in (self._paths.get(path, []), self._names.get(path, []) if "/" not in path else []):
            if len(found) == 1:
                return found[0]
        return None


def _plain(name: str) -> str:
    """A file's name without what systems write in different ways: composed accents, upper case, a leading ./"""
    return unicodedata.normalize("NFC", name).casefold().removeprefix("./")


def _rows(table: Path, records: list, files: _Files, report: _Report) -> list[Row]:
    """The lines that have a label and a file that is there."""
    rows, missing, elsewhere, unlabelled, repeated = [], [], 0, 0, 0
    for line, record in records:
        name = record["file"]
        written = [label.strip() for label in SEPARATORS.split(record["label"])]
        labels = tuple(dict.fromkeys(unicodedata.normalize("NFC", label) for label in written if label))
        repeated += len(labels) < len([label for label in written if label])
        if not name:
            report.skip(line, "", "no file is named")
        elif (path := files.find(line, name)) is None:
            missing.append(name)
            report.skip(line, name, "the file isn't there")
        elif not labels:
            unlabelled += 1
            report.skip(line, name, "the label is empty")
        else:
            elsewhere += path != name
            fold, group, split = (record.get(column, "") for column in ("fold", "group", "split"))
            rows.append(Row(line, name, path, labels, fold, group, split))
    report.check("missing files", f"{len(missing):,}: {some(missing)}" if missing else "none")
    report.check("empty labels", f"{unlabelled:,}, skipped" if unlabelled else "none")
    if elsewhere:
        report.check(
            "file names", f"{elsewhere:,} are written otherwise than on the disk (folder, case, accents); found"
        )
    if repeated:
        report.check("repeated labels", f"{repeated:,} clips name a label twice; it counts once")
    return rows


def _without_duplicates(table: Path, rows: list[Row], report: _Report) -> list[Row]:
    """One row a file; DataError where two rows of a file contradict one another."""
    first: dict[str, Row] = {}
    for row in rows:
        known = first.setdefault(row.path, row)
        if known is row:
            continue
        for what in ("labels", "fold", "group", "split"):
            one, other = getattr(known, what), getattr(row, what)
            if (set(one) != set(other)) if what == "labels" else one != other:
                one, other = (";".join(x) if isinstance(x, tuple) else x for x in (one, other))
                raise DataError(
                    f"{table}, lines {known.line} and {row.line}: {row.file} is there twice, with {what.rstrip('s')} "
                    f"{one!r} and {other!r}. Delete one of the lines"
                    + (f', or write both labels in one: "{one};{other}".' if what == "labels" else ".")
                )
        report.skip(row.line, row.file, f"the same as line {known.line}")
    repeated = len(rows) - len(first)
    report.check("lines twice", f"{repeated:,}, used once" if repeated else "none")
    return list(first.values())


def _classes(table: Path, rows: list[Row], report: _Report) -> tuple[str, ...]:
    """The classes, numbers in the order of their value; DataError if there are fewer than two."""
    names = {label for row in rows for label in row.labels}
    classes = tuple(sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)))
    if len(classes) < 2:
        raise DataError(
            f"{table}: all clips that can be used have one label, {classes[0]!r}. Two classes at least are needed to "
            "tell apart. Add clips of another, or correct the column label."
        )
    several = sum(len(row.labels) > 1 for row in rows)
    kind = f"{several:,} of {len(rows):,} clips have several" if several else "one a clip"
    report.check("labels", f"{len(classes)} classes, {kind}: {some(classes, 12)}")
    counts = Counter(label for row in rows for label in row.labels)
    report.check("clips a class", f"{min(counts.values()):,} to {max(counts.values()):,}")
    alike = defaultdict(list)
    for name in classes:
        alike[re.sub(r"[\s_-]+", " ", name.casefold())].append(name)
    pairs = [" and ".join(found) for found in alike.values() if len(found) > 1]
    if pairs:
        report.check(
            "labels alike", f"Written in several ways, and so different classes: {some(pairs)}. Mend it?", note=True
        )
    return classes


def _groups(folder: Path, rows: list[Row], report: _Report) -> list[str]:
    """The group of each clip: the table's; else a name of its own, which files with the same bytes share."""
    named = sum(bool(row.group) for row in rows)
    groups = [row.group or row.path for row in rows]
    kinds = len({row.group for row in rows} - {""})
    if named:
        alone = f"; {len(rows) - named:,} clips without one stand alone" if named < len(rows) else ""
        report.check("groups", f"{kinds:,}, none of which is divided{alone}", note=bool(alone))
    else:
        report.check(
            "groups",
            "No groups: clips of one speaker, recording or place may be on both sides of the folds.",
            note=True,
        )
    place = {row.path: index for index, row in enumerate(rows)}
    same = identical_files({row.path: folder / row.path for row in rows})
    if not same:
        report.check("same sound twice", "none, byte for byte")
        return groups
    contrary = [paths for paths in same if len({frozenset(rows[place[path]].labels) for path in paths}) > 1]
    pairs = some(" = ".join(paths) for paths in same)
    text = f"Files that are the same byte for byte: {pairs}; none is tested where its copy is learnt from."
    if contrary:
        text += f" Of these with different labels, one of which must be wrong: {some(' = '.join(p) for p in contrary)}."
    report.check("same sound twice", text, note=True)
    if any(row.fold or row.split for row in rows):
        return groups  # whose sides are given; the experiment leaves out what it would know from training
    for paths in same:
        joined = {groups[place[path]] for path in paths}
        groups = [min(joined) if group in joined else group for group in groups]
    return groups


# --- folds --------------------------------------------------------------------------------------------------------


def _sides(table, rows: list[Row], targets, classes, groups: list[str], folds: int, seed: int, report: _Report):
    """The fold, int64 (clips,), and the split, a list, of every clip."""
    none = np.zeros(len(rows), np.int64)
    if any(row.fold for row in rows):
        fold = _given_folds(table, rows, report)
        _check_divided(table, rows, groups, fold.tolist(), "fold")
        _check_scarce(targets, classes, groups, fold, report)
        return fold, [""] * len(rows)
    if any(row.split for row in rows):
        split = _given_split(table, rows, report)
        _check_divided(table, rows, groups, split, "split")
        return none, split
    possible = min(folds, len(set(groups)))
    if possible < 2:
        raise DataError(
            f"{table}: all clips are of one group, {groups[0]!r}, so none is left to test on. Correct the column "
            "group, or leave it out."
        )
    fold = stratified_folds(targets, groups, possible, seed)
    less = f" (there are no more groups for {folds})" if possible < folds else ""
    sizes = np.bincount(fold)[1:]
    report.check(
        "folds",
        f"{fold.max()} made: stratified, {'by group' if any(row.group for row in rows) else 'by clip'}, by seed "
        f"{seed}; {sizes.min():,} to {sizes.max():,} clips each{less}",
        note=bool(less),
    )
    _check_scarce(targets, classes, groups, fold, report)
    return fold, [""] * len(rows)


def _given_folds(table: Path, rows: list[Row], report: _Report) -> np.ndarray:
    numbers = []
    for row in rows:
        # spreadsheets write whole numbers as 1.0 where a cell of the column is empty
        text = re.fullmatch(r"(?:fold[ _-]?)?(\d{1,6})(?:\.0+)?", row.fold, re.IGNORECASE)
        if text is None:
            raise DataError(
                f"{table}, line {row.line}: fold is {row.fold!r}, but must be a whole number in every line, or the "
                "column is left out and folds are made."
            )
        numbers.append(int(text[1]))
    fold = np.array(numbers, np.int64)
    shifted = fold.min() == 0
    fold += shifted
    if len(set(numbers)) < 2:
        raise DataError(
            f"{table}: all clips are in fold {numbers[0]}, so none is left to learn from. Give two folds at least, or "
            "leave the column out and folds are made."
        )
    ignored = "; the column split isn't used" if any(row.split for row in rows) else ""
    report.check(
        "folds",
        f"{len(set(numbers))} as given" + (", counted from 1 here instead of 0" if shifted else "") + ignored,
        note=bool(ignored),
    )
    return fold


def _given_split(table: Path, rows: list[Row], report: _Report) -> list[str]:
    side = {name: split for split, names in SPLITS.items() for name in names}
    for row in rows:
        if row.split.lower() not in side:
            raise DataError(
                f"{table}, line {row.line}: split is {row.split!r}, but must be train or test in every line, or the "
                "column is left out and folds are made."
            )
    split = [side[row.split.lower()] for row in rows]
    counts = Counter(split)
    if len(counts) < 2:
        raise DataError(
            f"{table}: all clips are in the split {split[0]}. Both train and test are needed; or leave the column out, "
            "and folds are made."
        )
    report.check("folds", f"none; the given split: {counts['train']:,} clips to learn from, {counts['test']:,} to test")
    return split


def _check_divided(table: Path, rows: list[Row], groups: list[str], sides: list, what: str) -> None:
    """DataError if a group of the table is on several sides."""
    first: dict[str, tuple[Row, object]] = {}
    for row, group, side in zip(rows, groups, sides, strict=True):
        if not row.group:
            continue
        known, there = first.setdefault(group, (row, side))
        if there != side and known.group == row.group:
            raise DataError(
                f"{table}, lines {known.line} and {row.line}: group {row.group!r} is in {what} {getattr(known, what)} "
                f"and in {what} {getattr(row, what)}, so that test clips would be known from training. Give the whole "
                f"group one {what}, or leave the column {what} out, and folds are made that divide no group."
            )


def _check_scarce(targets: np.ndarray, classes: tuple[str, ...], groups: list[str], fold, report: _Report) -> None:
    """Say which classes have fewer clips, or are in fewer groups, than there are folds."""
    folds = len(set(fold.tolist()))
    counts = targets.sum(0)
    few = [f"{classes[k]} ({counts[k]})" for k in np.flatnonzero(counts < folds)]
    alone = [classes[k] for k, column in enumerate(targets.T) if len(set(fold[column])) == 1]
    if few:
        report.check(
            "small classes",
            f"Fewer clips than the {folds} folds, so that some test none of it: {some(few)}.",
            note=True,
        )
    if alone:
        kinds = "one group or " if len(set(groups)) < len(groups) else ""
        report.check(
            "classes in one fold",
            f"All clips in one fold, and so never recognised there: {some(alone)}. They are of {kinds}too few clips: "
            "add some, or leave the class out.",
            note=True,
        )
    if not few and not alone:
        report.check("small classes", f"none: every class has a clip for each of the {folds} folds")


def _check_extra(folder: Path, rows: list[Row], report: _Report) -> None:
    """Say which sound files the table doesn't name."""
    used = {row.path for row in rows}
    sounds = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    extra = sorted({path.relative_to(folder).as_posix() for path in sounds} - used)
    extra = [path for path in extra if not PurePosixPath(path).name.startswith("._")]
    text = (
        f"{len(extra):,} sound files that the table doesn't name, or whose line is skipped, are ignored: {some(extra)}."
    )
    report.check("extra files", text if extra else "none", note=bool(extra))
