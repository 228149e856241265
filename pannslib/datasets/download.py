"""Get a data set: fetch its official archives, verify them, unpack them where `datasets.find` looks for them.

    listing()                              # what each data set costs, and its licence
    plan("ravdess", "data")                # a row an archive: bytes, what is there already, disk, time
    download("ravdess", "data")            # data/raw/ravdess/Actor_01/...

Addresses, sizes and checksums are those of `reference/datasets.yaml`; what is null there isn't known, and is found out
and kept at the first download (`archives`). Archives lie in `<data root>/downloads/<task>/`; one that lies there
already, in `raw/<task>/`, in `raw/` or in the data root itself is taken. AudioSet has sources of its own
(`audioset_sources`).
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pandas as pd
import yaml

from pannslib import files, reference
from pannslib.datasets import archives
from pannslib.datasets.archives import Remote, human
from pannslib.datasets.base import some
from pannslib.errors import DataError

RATE = 10e6  # bytes a second that times are told for, unless another is given
FIGSHARE = "https://api.figshare.com"
# what an archive with sound unpacks to, in times of its size, where nothing more is known (RAVDESS is the largest)
SOUND_RATIO = 3
PACKED_RATIO = 1.2  # at least, where the length of all clips is known: wider samples, several channels
# names under which people have an archive whose official name is another, or not known
OTHER_NAMES = {
    "esc50": {"ESC-50-master.zip": ("ESC-50*.zip", "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip")},
    "msos": {"": ("MSoS*.zip", "*Development*.zip", "*Evaluation*.zip", "Logsheet*.csv")},
    "gtzan": {"genres.tar.gz": ("genres*.tar.gz", "genres*.zip", "gtzan*.tar.gz", "gtzan*.zip")},
    "urbansound8k": {"UrbanSound8K.tar.gz": ("UrbanSound8K*.tar.gz", "UrbanSound8K*.zip")},
}


@dataclass
class Part:
    """What became of one archive: "unpacked", "was there", "failed" or "left out"."""

    name: str
    status: str
    remark: str = ""
    bytes: int = 0


@dataclass
class Download:
    """What `download` did, and what there is now.

    Attributes:
        task, root: the data set and its folder, as `datasets.load` takes it.
        parts: a `Part` an archive.
        evidence: "real", "partial", "miniature", or "" if nothing can be loaded.
        notes: sentences about what is missing, ignored or not as published.
    """

    task: str
    root: Path
    parts: list[Part] = field(default_factory=list)
    evidence: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Part]:
        """The parts that could not be had."""
        return [part for part in self.parts if part.status == "failed"]


@cache
def facts() -> dict[str, dict]:
    """What `reference/datasets.yaml` says of each data set."""
    path = reference.FOLDER / "datasets.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["datasets"]


def facts_of(task: str) -> dict:
    """The facts of one data set; DataError for an unknown name."""
    if task not in facts():
        raise DataError(f"There is no data set {task!r}; there are {', '.join(facts())}.")
    return facts()[task]


def licence(task: str) -> str:
    """The licence of a data set in one line."""
    terms = facts_of(task).get("licence")
    if isinstance(terms, dict):
        return "; ".join(f"{part}: {text}" for part, text in terms.items())
    return terms or "not known: read it at the source before you pass anything on"


def remotes(task: str, base_url: str = "") -> list[Remote]:
    """The archives of a data set; those of MSoS are asked for at figshare, which takes a connection.

    Args:
        task: the data set.
        base_url: address of a folder that has the archives under their names, in place of the official ones.

    Raises:
        DataError: an unknown data set; figshare can't be reached.
    """
    about = facts_of(task)
    found = []
    for entry in about["files"]:
        if entry["name"] is None:
            found += _figshare(about["figshare_article"], base_url)
            continue
        url = f"{base_url.rstrip('/')}/{quote(entry['name'])}" if base_url else entry["url"]
        found.append(Remote(entry["name"], url, entry.get("size"), entry.get("md5"), entry.get("sha256")))
    return found


def _figshare(article: int, base_url: str) -> list[Remote]:
    """The files of an article at figshare, which lists their sizes and MD5."""
    content, _ = archives.get_json(f"{(base_url or FIGSHARE).rstrip('/')}/v2/articles/{article}")
    found = []
    for entry in content.get("files", []) if isinstance(content, dict) else []:
        name = str(entry["name"])
        if "/" in name or "\\" in name or name in ("", ".", ".."):
            raise DataError(f"figshare's article {article} names a file {name!r}, which is no name of a file.")
        url = f"{base_url.rstrip('/')}/{quote(name)}" if base_url else entry["download_url"]
        md5 = entry.get("computed_md5") or entry.get("supplied_md5") or None
        found.append(Remote(name, url, entry.get("size"), md5))
    if not found:
        raise DataError(f"figshare lists no file of article {article}. Get the files by hand: doi of datasets.yaml.")
    return found


# --- what it costs ---------------------------------------------------------------------------------------------


def listing(rate: float = RATE) -> pd.DataFrame:
    """What each data set costs: a row a data set (AudioSet: a row a source); from the facts, without a connection.

    Columns: task, source, title, download and disk (bytes; nan where not published), approximate (whether `download`
    is), hours at `rate` bytes a second, licence, homepage. `disk` counts the archives and, as an upper estimate, what
    they unpack to.
    """
    from pannslib.datasets import audioset_sources

    rows = []
    for task, about in facts().items():
        shared = {"task": task, "title": about["title"], "licence": licence(task), "homepage": about["homepage"]}
        if task == "audioset":
            rows += [shared | row for row in audioset_sources.costs(rate)]
            continue
        sizes = [_published_size(entry) for entry in about["files"]]
        size = float("nan") if None in sizes else float(sum(sizes))
        rows.append(
            shared
            | {
                "source": "",
                "download": size,
                "approximate": any(entry.get("size") is None for entry in about["files"]),
                "disk": disk_estimate(about, size),
                "hours": size / rate / 3600,
            }
        )
    columns = ["task", "source", "title", "download", "approximate", "disk", "hours", "licence", "homepage"]
    return pd.DataFrame(rows)[columns]


def _published_size(entry: dict) -> int | None:
    """Bytes of a file as published, be it rounded."""
    return entry.get("size") or entry.get("size_approx")


def unpacked_estimate(about: dict, size: float) -> float:
    """Bytes that `size` bytes of archives of a data set may unpack to, an upper estimate; nan if nothing is known."""
    seconds, rate, clips = about.get("clip_seconds"), about.get("sample_rate"), about.get("clips")
    if not (isinstance(seconds, float | int) and rate and isinstance(clips, int)):
        return SOUND_RATIO * size
    sound = clips * seconds * rate * 2
    return sound if size != size else max(PACKED_RATIO * size, sound)


def disk_estimate(about: dict, size: float) -> float:
    """As `unpacked_estimate`, with the archives, which are no larger than what they unpack to."""
    unpacked = unpacked_estimate(about, size)
    return unpacked + (unpacked if size != size else size)


def plan(
    task: str, data_root: str | Path, base_url: str = "", rate: float = RATE, parts: str = "*", ask: bool = False
) -> pd.DataFrame:
    """What `download` would fetch: a row an archive.

    Args:
        task, data_root, base_url, parts: as for `download`.
        rate: bytes a second that `minutes` is told for.
        ask: ask the servers for the sizes that were not published.

    Returns:
        Columns: part, bytes (nan: not known), checksum ("md5", "sha256" or "kept at the first download"), there (where
        it lies already, or ""), download and disk (bytes still needed), minutes.
    """
    about, data_root = facts_of(task), Path(data_root)
    rows = []
    for remote in _chosen(remotes(task, base_url), parts, task):
        lying = _lying(task, remote, data_root)
        done = _is_unpacked(task, remote, data_root)
        size = lying.stat().st_size if lying else remote.size
        if size is None and ask and not done:
            size = archives.remote_size(remote.url)
        if size is None:
            size = next((_published_size(entry) for entry in about["files"] if entry["name"] == remote.name), None)
        size = float("nan") if size is None else float(size)
        rows.append(
            {
                "part": remote.name,
                "bytes": size,
                "checksum": "md5" if remote.md5 else "sha256" if remote.sha256 else "kept at the first download",
                "there": "unpacked" if done else str(lying or ""),
                "download": 0.0 if lying or done else size,
                "disk": 0.0 if done else _disk_share(about, size) - (size if lying else 0.0),
            }
        )
    table = pd.DataFrame(rows)
    return table.assign(minutes=table["download"] / rate / 60)


def _disk_share(about: dict, size: float) -> float:
    """As `disk_estimate`, for one of several archives."""
    sizes = [_published_size(entry) for entry in about["files"]]
    if len(sizes) == 1:
        return disk_estimate(about, size)
    if None in sizes:
        return (1 + SOUND_RATIO) * size
    return disk_estimate(about, float(sum(sizes))) * size / sum(sizes)


# --- getting it ------------------------------------------------------------------------------------------------


def download(
    task: str,
    data_root: str | Path,
    base_url: str = "",
    parts: str = "*",
    delete_archives: bool = False,
    progress: bool = False,
    wait: float = archives.WAIT,
    **options,
) -> Download:
    """Fetch, verify and unpack a data set into `<data root>/raw/<task>/`; done work is not done again.

    An archive that can't be had, or isn't what was published, is reported, and the others are used.

    Args:
        task: "esc50", "dcase2019_task1a", "dcase2018_task2", "msos", "gtzan", "ravdess", "urbansound8k", "audioset".
        data_root: folder that has `raw/`, or gets it.
        base_url: address of a folder that has the archives under their names, in place of the official ones.
        parts: patterns of the archives that are wanted, with commas: "*meta*,*audio.1.zip".
        delete_archives: delete an archive that was downloaded once it is unpacked.
        progress: show bars.
        wait: seconds before a failed transfer is tried again; doubled each time.
        options: for AudioSet, as `audioset_sources.get` takes them.

    Returns:
        What was done and what there is; `.failed` are the parts that could not be had.

    Raises:
        DataError: an unknown data set or pattern, an option that doesn't belong to the data set.
    """
    data_root = Path(data_root)
    if task == "audioset":
        from pannslib.datasets import audioset_sources

        return audioset_sources.get(data_root, base_url=base_url, progress=progress, wait=wait, **options)
    if options:
        raise DataError(f"{', '.join(options)} can be given for audioset alone, not for {task}.")
    facts_of(task)
    result = Download(task, data_root / "raw" / task)
    if parts == "*" and (there := _complete(task, data_root)):
        return there
    try:
        wanted = _chosen(remotes(task, base_url), parts, task)
    except DataError as fault:
        wanted = _unlisted(task, data_root)
        if not wanted:
            raise
        result.notes.append(f"The list of archives can't be had, so those that lie there are taken. {fault}")
    with archives.exclusive(data_root / "downloads", task):
        for remote in wanted:
            result.parts.append(_get(task, remote, data_root, result, delete_archives, progress, wait))
    _look_at(task, data_root, result)
    return result


def _chosen(found: list[Remote], parts: str, task: str) -> list[Remote]:
    """The archives that one of the patterns `parts` names; DataError for a pattern that names none."""
    patterns = [pattern.strip() for pattern in parts.split(",") if pattern.strip()]
    for pattern in patterns:
        if not any(fnmatch.fnmatch(remote.name, pattern) for remote in found):
            raise DataError(f"{task} has no part {pattern!r}; it has {', '.join(remote.name for remote in found)}.")
    return [remote for remote in found if any(fnmatch.fnmatch(remote.name, pattern) for pattern in patterns)]


def _unlisted(task: str, data_root: Path) -> list[Remote]:
    """The archives that lie there of a data set whose list can't be had."""
    found = {}
    for folder in _places(task, data_root):
        for pattern in OTHER_NAMES.get(task, {}).get("", ()):
            found |= {path.name: Remote(path.name, "") for path in sorted(folder.glob(pattern)) if path.is_file()}
    return list(found.values())


def _places(task: str, data_root: Path) -> list[Path]:
    """Where an archive may lie; the first is where downloads go."""
    return [
        data_root / "downloads" / task,
        data_root / "raw" / task,
        data_root / "raw" / task / "downloads",
        data_root / "downloads",
        data_root / "raw",
        data_root / task,
        data_root,
    ]


def _lying(task: str, remote: Remote, data_root: Path) -> Path | None:
    """The archive if it lies somewhere, under its name or one that people have it under."""
    names = (remote.name, *OTHER_NAMES.get(task, {}).get(remote.name, ()))
    for name in names:
        for folder in _places(task, data_root):
            found = sorted(path for path in folder.glob(name) if path.is_file()) if folder.is_dir() else []
            if found:
                return found[0]
    return None


def _get(
    task: str, remote: Remote, data_root: Path, result: Download, delete: bool, progress: bool, wait: float
) -> Part:
    """Fetch and unpack one archive."""
    store = data_root / "downloads" / task
    if _is_unpacked(task, remote, data_root):
        return Part(remote.name, "was there", "unpacked before")
    try:
        archive = _lying(task, remote, data_root)
        if archive is None:
            archive, own = archives.fetch(remote, store, progress, wait), True
            origin = "downloaded"
        else:
            own, origin = archive.parent == store, f"taken from {archive}"
            # another name may be another packing, which nobody published a checksum of
            same = archive.name == remote.name
            archives.check(remote if same else Remote(archive.name, str(archive)), archive, store)
        if archive.name.lower().endswith(archives.SUFFIXES) or archives.SPLIT.search(archive.name):
            unpacked = archives.unpack(archive, result.root, lambda path: _place(task, path), progress)
        else:
            unpacked = _put(archive, result.root)
        os.sync()  # what is said to be done must be on the disk
        files.write_json(_manifest(task, remote, data_root), unpacked.paths)
        if delete and own:
            archive.unlink()
        return Part(remote.name, "unpacked", f"{origin}; {unpacked}", unpacked.bytes)
    except DataError as fault:
        return Part(remote.name, "failed", str(fault))


def _place(task: str, path: PurePosixPath) -> PurePosixPath | None:
    """Where a file of an archive belongs below `raw/<task>/`."""
    if task == "esc50" and re.fullmatch(r"ESC-50-.+|ESC-50", path.parts[0]) and len(path.parts) > 1:
        return PurePosixPath("ESC-50-master", *path.parts[1:])  # GitHub names the folder by the commit
    return path


def _put(file: Path, folder: Path) -> archives.Unpacked:
    """Copy a file that is no archive, a CSV for instance, into `folder`."""
    size = file.stat().st_size
    with files.replacing(folder / file.name) as temporary:
        shutil.copyfile(file, temporary)
    return archives.Unpacked(files=1, bytes=size, paths={file.name: size})


def _manifest(task: str, remote: Remote, data_root: Path) -> Path:
    """The file that says what an archive was unpacked to."""
    return data_root / "downloads" / task / f"{remote.name}.unpacked.json"


def _is_unpacked(task: str, remote: Remote, data_root: Path) -> bool:
    """Whether all files that the archive was unpacked to are still there, with their sizes."""
    manifest, root = _manifest(task, remote, data_root), data_root / "raw" / task
    if not manifest.is_file():
        return False
    try:
        paths = files.read_json(manifest)
    except ValueError:
        return False
    if not paths:
        return False
    try:
        return all((root / path).stat().st_size == size for path, size in paths.items())
    except OSError:
        return False


# --- what there is now -----------------------------------------------------------------------------------------


def _complete(task: str, data_root: Path) -> Download | None:
    """The data set if all of it is there already, wherever `datasets.find` finds it."""
    from pannslib import datasets

    if task not in datasets.TASKS or not data_root.is_dir():
        return None
    try:
        root = datasets.find(task, data_root)
        dataset = datasets.load(task, root) if root else None
    except DataError:
        return None
    if dataset is None or dataset.evidence != "real":
        return None
    part = Part(str(root), "was there", f"all {len(dataset.clips):,} clips")
    return Download(task, root, [part], dataset.evidence, list(dataset.notes))


def _look_at(task: str, data_root: Path, result: Download) -> None:
    """Check the contents that were published, load the data set, and note what is missing or odd."""
    from pannslib import datasets

    missing = [part.name for part in result.failed]
    if missing:
        result.notes.append(f"{len(missing)} of {len(result.parts)} parts are not there: {some(missing, 30)}.")
    if not result.root.is_dir():
        return
    if task in datasets.TASKS:
        try:
            result.root = datasets.find(task, data_root) or result.root
            dataset = datasets.load(task, result.root, allow_missing=True)
        except DataError as fault:
            result.notes.append(f"What is there can't be loaded: {fault}")
        else:
            result.evidence = "partial" if missing and dataset.evidence == "real" else dataset.evidence
            result.notes += dataset.notes
    if result.evidence != "miniature":
        differing = list(_content_faults(facts_of(task).get("content", []), result.root))
        result.notes += differing
        if differing and result.evidence == "real":
            result.evidence = "partial"


def _content_faults(content: Iterable[dict], root: Path) -> Iterable[str]:
    """Sentences about files that are not as published."""
    for entry in content:
        found = sorted(path for path in root.glob(entry["path"]) if path.is_file())
        if "count" in entry and len(found) != entry["count"]:
            yield f"{entry['path']}: {len(found):,} files are there, but {entry['count']:,} belong there."
        if entry.get("md5") and found:
            md5 = hashlib.md5(found[0].read_bytes(), usedforsecurity=False).hexdigest()
            if md5 != entry["md5"]:
                yield f"{entry['path']} isn't the published file: its md5 is {md5}, but {entry['md5']} is expected."


def report(result: Download) -> str:
    """What was done, for people."""
    lines = [f"{part.name}: {part.status}" + (f" ({part.remark})" if part.remark else "") for part in result.parts]
    state = {"": "nothing that can be used", "real": "complete", "partial": "partial"}.get(result.evidence)
    lines.append(f"{result.task} in {result.root}: {state or result.evidence}.")
    return "\n".join(lines + result.notes)


def duration(hours: float) -> str:
    """A time as people read it: "2 min", "35 h", "12 days"; "?" where it isn't known."""
    if hours != hours:
        return "?"
    for unit, length, most in (("s", 1 / 3600, 90), ("min", 1 / 60, 90), ("h", 1, 72)):
        if hours / length < most:
            return (
                f"{hours / length:.0f} {unit}"
                if hours / length >= 10 or unit == "s"
                else f"{hours / length:.2g} {unit}"
            )
    return f"{hours / 24:,.0f} days"


def shown(table: pd.DataFrame) -> str:
    """A listing or plan as a table for the terminal."""
    table = table.copy()
    for column in ("bytes", "download", "disk"):
        if column in table:
            table[column] = table[column].map(human)
    if "approximate" in table:
        rounded = table.pop("approximate") & (table["download"] != "?")
        table["download"] = table["download"].where(~rounded, "~" + table["download"])
    for column, hour in (("hours", 1), ("minutes", 60)):
        if column in table:
            table["time"] = table.pop(column).map(lambda value, hour=hour: duration(value / hour))
    for column in ("clips", "there"):
        if column in table and pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].map("{:,}".format)
    return table.to_markdown(index=False, tablefmt="simple", disable_numparse=True)
