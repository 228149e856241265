"""What data sets share whose tables name their files: find the files however they were unpacked, check the tables.

files = Files(root)
table = Table(files.find("meta.csv"), root, "take it from the official archive again")
for line, row in table.rows(("filename", "scene_label"), delimiter="\\t"):
    name = table.name(line, "filename", row["filename"])
    number = table.choice(line, "scene_label", row["scene_label"], SCENES)
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from pannslib.datasets.base import Clip, read_rows, some
from pannslib.errors import DataError

DEPTH = 5  # folders below a data set's root that are looked into: each part may be unpacked to a folder of its own
AUDIO = (".wav", ".flac", ".ogg", ".aif", ".aiff", ".mp3")  # other copies of a data set may be in another format


class Files:
    """The files below a data set's root, by name and whatever the case of their letters.

    Hidden files and the `__MACOSX` folders that some archivers add are not looked at.
    """

    def __init__(self, root: Path):
        self.root = root
        self.paths: list[str] = []  # relative to root with slashes, the least deep first
        for folder, folders, names in os.walk(root, followlinks=True):
            place = Path(folder).relative_to(root)
            deep = len(place.parts) >= DEPTH  # ends walks round and round through links, too
            folders[:] = [] if deep else sorted(n for n in folders if not n.startswith(".") and n != "__MACOSX")
            before = f"{place.as_posix()}/" if place.parts else ""
            self.paths += [before + name for name in names if not name.startswith(".")]
        self.paths.sort(key=lambda path: (path.count("/"), path))

    def find(self, *names: str) -> Path | None:
        """The first of the files of these names that is there (the least deep, where there are several), or None."""
        for name in names:
            for path in self.paths:
                if path.rpartition("/")[2].casefold() == name.casefold() and (self.root / path).is_file():
                    return self.root / path
        return None

    def below(self, *folders: str) -> Part:
        """The files in folders of one of these names, or in folders within them."""
        wanted = {name.casefold() for name in folders}
        inside = [path for path in self.paths if not wanted.isdisjoint(path.casefold().split("/")[:-1])]
        return Part([path for path in inside if os.path.isfile(os.path.join(self.root, path))])


class Part:
    """Some of the files of a data set, to be found by the names that a table gives them; `paths` as in `Files`."""

    def __init__(self, paths: Sequence[str]):
        self.paths = paths
        self._found: dict[tuple[str, str], str] = {}  # folder or "", key of the name -> the first such file
        for path in paths:
            place, _, name = path.rpartition("/")
            folder = place.rpartition("/")[2].casefold()
            for key in _keys(name) if os.path.splitext(name)[1].casefold() in AUDIO else _keys(name)[:2]:
                self._found.setdefault((folder, key), path)
                self._found.setdefault(("", key), path)

    def find(self, name: str, folder: str = "") -> str | None:
        """The path (relative to the root) of the file of this name, or None.

        A file in `folder` goes first; letters of another case and another audio format will do.
        """
        for place in dict.fromkeys((folder.casefold(), "")):
            for key in _keys(name):
                if (place, key) in self._found:
                    return self._found[place, key]
        return None


def _keys(name: str) -> tuple[str, str, str]:
    """What a file is found by, best first: its name as it is, in any case, and with any extension."""
    return f"={name}", f"~{name.casefold()}", f"*{name.rpartition('.')[0].casefold()}"


@dataclass
class Table:
    """A metadata file while it is read: what is wrong in it becomes a DataError with the file and the line.

    Attributes:
        path: the file.
        remedy: what to do about a line that can't be right, after "Correct the line, or".
        lines: the clips that were named so far -> their lines.
    """

    path: Path
    remedy: str
    lines: dict[str, int] = field(default_factory=dict)

    def rows(
        self, columns: Iterable[str], optional: Iterable[str] = (), delimiter: str = ","
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and values of each row; an `optional` column that isn't there is "" in every row."""
        optional = tuple(optional)
        for line, row in read_rows(self.path, columns, delimiter, optional):
            yield line, {key: value.strip() for key, value in (dict.fromkeys(optional, "") | row).items()}

    def fault(self, line: int, what: str) -> DataError:
        """The error that says what is wrong in a line."""
        return DataError(f"{self.path}, line {line}: {what}. Correct the line, or {self.remedy}.")

    def name(self, line: int, column: str, text: str, folder: str = "", within: str = "") -> str:
        """The file's name in a value that may have `folder` before it; refuses other paths and repeated names.

        The same name may be there again `within` something else.
        """
        name = text.replace("\\", "/")
        if folder and name.casefold().startswith(f"{folder.casefold()}/"):
            name = name[len(folder) + 1 :]
        # as a Windows path, because that knows both separators and drives
        if PureWindowsPath(name).name != name or name in ("", ".", ".."):
            where = f" in {folder}/" if folder else ""
            raise self.fault(line, f"{column} is {text!r}, which is not the name of a file{where}")
        if within + name in self.lines:
            raise self.fault(line, f"{within}{name} is in line {self.lines[within + name]} already")
        self.lines[within + name] = line
        return name

    def choice(self, line: int, column: str, text: str, allowed: Sequence[str]) -> int:
        """The position of a value in `allowed`, whatever the case of its letters; refuses others and none."""
        folded = [name.casefold().replace(" ", "_") for name in allowed]
        wanted = text.casefold().replace(" ", "_")
        if wanted not in folded:
            found = f"{column} is {text!r}" if text else f"{column} is empty"
            raise self.fault(line, f"{found}, but must be one of {', '.join(allowed)}")
        return folded.index(wanted)


def keep_present(clips: Sequence[tuple[Clip, str | None]], tables: str, folders: str) -> tuple[list[Clip], list[str]]:
    """The clips whose files are there, with their paths, and a sentence about those that aren't.

    These data sets come in parts, of which some may not have been downloaded: what there is is gone on with.

    Args:
        clips: each as its table has it, and the path of its file or None.
        tables, folders: what names the clips and where they belong, for messages.
    """
    missing = [clip for clip, path in clips if path is None]
    present = [clip._replace(path=path) for clip, path in clips if path is not None]
    if not missing:
        return present, []
    total = Counter(clip.split for clip, _ in clips)
    short = Counter(clip.split for clip in missing)
    parts = ", ".join(f"{split} {count:,} of {total[split]:,}" for split, count in short.items())
    names = some(clip.clip for clip in missing)
    return present, [
        f"{len(missing):,} of {len(clips):,} clips that {tables} name are not in {folders} ({parts}): {names}. Were "
        "all parts of the data set downloaded and unpacked?"
    ]


def unnamed(part: Part, used: Iterable[str | None], table: str, folder: str) -> list[str]:
    """A sentence about the files of a part that its table doesn't name, if there are any; `used` are paths, or None."""
    names = {path.rpartition("/")[2] for path in used if path}  # by name: a part may have been unpacked twice
    strange = sorted(path for path in part.paths if path.rpartition("/")[2] not in names)
    if not strange:
        return []
    return [f"{len(strange):,} files in {folder} that {table} doesn't name are ignored: {some(strange)}."]


def divided_groups(clips: Iterable[Clip], what: str) -> list[str]:
    """A sentence about the groups that have training and test clips, if there are any; `what` a group is, in plural."""
    splits: dict[str, set[str]] = {}
    for clip in clips:
        splits.setdefault(clip.group, set()).add(clip.split)
    divided = sorted(group for group, found in splits.items() if len(found) > 1)
    if not divided:
        return []
    return [f"{len(divided):,} {what} have clips in training and in test, which must not be: {some(divided)}."]
