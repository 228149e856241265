"""The data sets: find one below a data root, load and check it, pack its clips into one file.

root = find("esc50", "../data")             # None if it isn't there
dataset = load("esc50", root)               # what there is, clip by clip
packed = pack(dataset, "esc50.h5", sample_rate=32_000, seconds=5)
packed.read([0, 1])                         # float32 (2, 160000)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pannslib.datasets import (
    audioset,
    dcase2018_task2,
    dcase2019_task1a,
    esc50,
    gtzan,
    msos,
    own,
    ravdess,
    urbansound8k,
)
from pannslib.datasets.base import Dataset
from pannslib.datasets.packed import PackedClips
from pannslib.datasets.packing import pack, pack_shard
from pannslib.errors import DataError

__all__ = ["TASKS", "Dataset", "PackedClips", "Task", "find", "load", "pack", "pack_shard"]


@dataclass(frozen=True)
class Task:
    """Where one data set may be, and what reads it.

    `load(root)` reads it; `archive_folder` is the folder that its archive unpacks to, if any; `signs` are glob patterns
    of which one at least matches in a folder that is meant to hold it; `lists_clips` says that its metadata promise
    every clip they name, so that `load` takes `allow_missing`.
    """

    load: Callable[..., Dataset]
    signs: tuple[str, ...]
    archive_folder: str | None = None
    lists_clips: bool = False


TASKS = {
    "audioset": Task(audioset.load, audioset.SIGNS),
    "esc50": Task(esc50.load, esc50.SIGNS, esc50.ARCHIVE_FOLDER, lists_clips=True),
    "dcase2019_task1a": Task(dcase2019_task1a.load, dcase2019_task1a.SIGNS, dcase2019_task1a.ARCHIVE_FOLDER),
    "dcase2018_task2": Task(dcase2018_task2.load, dcase2018_task2.SIGNS, dcase2018_task2.ARCHIVE_FOLDER),
    "msos": Task(msos.load, msos.SIGNS),
    "gtzan": Task(gtzan.load, gtzan.SIGNS),
    "ravdess": Task(ravdess.load, ravdess.SIGNS, ravdess.ARCHIVE_FOLDER),
    "urbansound8k": Task(urbansound8k.load, urbansound8k.SIGNS, urbansound8k.ARCHIVE_FOLDER, lists_clips=True),
    "own_data": Task(own.load, ()),
}


def find(task: str, data_root: str | Path) -> Path | None:
    """The root of a real data set below `data_root`, or None.

    It is `raw/<task>`, `<task>`, or `data_root` itself where that looks like the data set; or, in any of them, the
    folder that the official archive unpacks to.

    Raises:
        DataError: an unknown task, or a `data_root` that is no folder.
    """
    facts, data_root = _task(task), Path(data_root)
    if not data_root.is_dir():
        raise DataError(f"The data root {data_root} is no folder. Create it, or correct DATA_ROOT.")
    for folder in (data_root / "raw" / task, data_root / task, data_root):
        if facts.archive_folder and (folder / facts.archive_folder).is_dir():
            return folder / facts.archive_folder
        if folder != data_root and folder.is_dir():
            return folder
    looks_so = data_root.name == facts.archive_folder or any(any(data_root.glob(sign)) for sign in facts.signs)
    return data_root if looks_so else None


def load(task: str, root: str | Path, allow_missing: bool = False) -> Dataset:
    """Read and check the data set of `task` whose own folder is `root`.

    Args:
        task: a name in `TASKS`.
        root: as `find` gives it, or a miniature's folder.
        allow_missing: go on without clips that a data set's metadata promise and that are not there. Data sets without
            such metadata are taken as they are, and their notes say what is missing.

    Raises:
        DataError: an unknown task, no such folder, or what the task's loader finds wrong.
    """
    facts, root = _task(task), Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder, so {task} cannot be read from it. Correct the path.")
    return facts.load(root, allow_missing=allow_missing) if facts.lists_clips else facts.load(root)


def _task(task: str) -> Task:
    if task not in TASKS:
        raise DataError(f"There is no data set {task!r}; there are {', '.join(TASKS)}.")
    return TASKS[task]
