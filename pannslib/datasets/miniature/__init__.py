"""Miniatures: small synthetic data sets, written to disk in the official layouts of the real ones.

    folder = make("esc50", "data/raw/esc50-miniature", seed=0, clips_per_class_and_fold=4)

A miniature has the folder tree, file names, metadata files, sample rates and oddities of the data set that it
stands for, so that everything that reads it is what reads the real one; only the sound is synthesised. The same
task, seed and sizes give the same bytes on one machine (another processor may round a rare sample the other way).
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from pannslib.datasets.disk import told_of_full_disk
from pannslib.datasets.miniature import (
    audioset,
    dcase2018_task2,
    dcase2019_task1a,
    esc50,
    gtzan,
    msos,
    own_data,
    ravdess,
    urbansound8k,
)
from pannslib.errors import DataError
from pannslib.progress import bar

VERSION = 2  # of the sounds and layouts; a change of either makes every miniature anew
MARK = "miniature.json"  # the last file written: a folder without it is not a finished miniature


@dataclass(frozen=True)
class Miniature:
    """How one task's miniature is made.

    `write(folder, seed, advance, **sizes)` fills an empty folder, calls `advance()` after each of its `clips(**sizes)`
    clips and returns counts by name. `sizes` says what may be asked for: name -> (default, allowed), allowed being
    `(lowest, highest)` or the set of values.
    """

    title: str
    write: Callable[..., dict[str, int]]
    clips: Callable[..., int]
    sizes: dict[str, tuple[float, tuple | frozenset]]


MINIATURES = {
    "audioset": Miniature("Mini-AudioSet", audioset.write, audioset.clips, audioset.SIZES),
    "esc50": Miniature("ESC-50 miniature", esc50.write, esc50.clips, esc50.SIZES),
    "dcase2019_task1a": Miniature(
        "Acoustic scenes miniature", dcase2019_task1a.write, dcase2019_task1a.clips, dcase2019_task1a.SIZES
    ),
    "dcase2018_task2": Miniature(
        "FSDKaggle2018 miniature", dcase2018_task2.write, dcase2018_task2.clips, dcase2018_task2.SIZES
    ),
    "msos": Miniature("MSoS miniature", msos.write, msos.clips, msos.SIZES),
    "gtzan": Miniature("GTZAN miniature", gtzan.write, gtzan.clips, gtzan.SIZES),
    "ravdess": Miniature("RAVDESS miniature", ravdess.write, ravdess.clips, ravdess.SIZES),
    "urbansound8k": Miniature("UrbanSound8K miniature", urbansound8k.write, urbansound8k.clips, urbansound8k.SIZES),
    "own_data": Miniature("Spoken digits, synthetic", own_data.write, own_data.clips, own_data.SIZES),
}


def make(task: str, folder: str | Path, seed: int = 0, progress: bool = False, **sizes) -> Path:
    """Write the miniature of `task` at `folder` (the data set's own root) and return the folder.

    A finished miniature of the same request is left as it is; one of another request is replaced. It is written
    beside `folder` and renamed when it is whole, so an interrupted call leaves nothing half-made. `sizes` differ from
    task to task (`MINIATURES[task].sizes`); `progress` shows a bar. Raises DataError for an unknown task or size, for
    a value out of range, for a full disk, and for a folder that holds anything else than a miniature: that is never
    touched.
    """
    request = _request(task, seed, sizes)
    folder = Path(folder)
    if _is_finished(folder, request):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    partial = folder.parent / f".{folder.name}.{socket.gethostname()}-{os.getpid()}.partial"
    try:
        with told_of_full_disk(folder, "what was there before is kept"):
            partial.mkdir()
            counts = _fill(partial, MINIATURES[task], seed, progress, request["sizes"])
            (partial / MARK).write_text(json.dumps({**request, "counts": counts}, indent=2) + "\n", encoding="utf-8")
        _put_in_place(partial, folder, request)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _fill(folder: Path, miniature: Miniature, seed: int, progress: bool, sizes: dict) -> dict[str, int]:
    """Write all but the mark, with a bar if it is wanted; returns the counts."""
    if not progress:
        return miniature.write(folder, seed, lambda: None, **sizes)
    steps = bar(miniature.clips(**sizes), miniature.title, unit="clip")
    try:
        return miniature.write(folder, seed, steps.update, **sizes)
    finally:
        steps.close()


def _request(task: str, seed: int, sizes: dict) -> dict:
    """What is asked for, with the defaults filled in; DataError names what cannot be."""
    if task not in MINIATURES:
        raise DataError(f"no miniature of {task!r}: choose one of {', '.join(sorted(MINIATURES))}")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DataError(f"miniature of {task}: seed is {seed!r}, but must be a whole number from 0")
    known = MINIATURES[task].sizes
    for name in sizes:
        if name not in known:
            raise DataError(f"miniature of {task}: no size {name!r}; there are {', '.join(known)}")
    complete = {
        name: _checked(task, name, sizes.get(name, default), *known[name]) for name, (default, _) in known.items()
    }
    return {"task": task, "seed": seed, "version": VERSION, "sizes": complete}


def _checked(task: str, name: str, value, default: float, allowed: tuple | frozenset) -> float:
    """`value` in the type of the default, if it is one of the values allowed."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = number and float(value).is_integer()
    if isinstance(allowed, frozenset):
        fits, wanted = number and value in allowed, "one of " + ", ".join(str(v) for v in sorted(allowed))
    else:
        fits, wanted = number and allowed[0] <= value <= allowed[1], f"from {allowed[0]} to {allowed[1]}"
    if isinstance(default, int):
        fits, wanted = fits and whole, f"a whole number, {wanted}"
    if not fits:
        raise DataError(f"miniature of {task}: {name} is {value!r}, but must be {wanted}")
    return type(default)(value)


def _is_finished(folder: Path, request: dict) -> bool:
    """Whether `folder` is this very miniature; DataError if it holds something that is no miniature at all."""
    if not folder.exists():
        return False
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
        return {key: found[key] for key in request} == request
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is there and is not a miniature (no readable {MARK}), so it is left alone: "
            f"choose another folder for the miniature of {request['task']}, or move this one away"
        ) from error


def _put_in_place(partial: Path, folder: Path, request: dict) -> None:
    """Rename the finished `partial` to `folder`, whose former miniature, if any, goes first."""
    if _is_finished(folder, request):  # another process was quicker; ours is the same and is dropped
        return
    if folder.exists() and any(folder.iterdir()):
        former = partial.with_name(partial.name.replace(".partial", ".former.partial"))
        os.replace(folder, former)
        os.replace(partial, folder)
        shutil.rmtree(former)
    else:
        os.replace(partial, folder)


def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left beside `folder`."""
    stem = f".{folder.name}.{socket.gethostname()}-"
    for leftover in folder.parent.glob(f"{glob.escape(stem)}*.partial"):
        process = leftover.name.removeprefix(stem).split(".")[0]
        if process.isdigit() and (int(process) == os.getpid() or not psutil.pid_exists(int(process))):
            shutil.rmtree(leftover)
