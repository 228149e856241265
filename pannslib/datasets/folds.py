"""Folds for data sets that have none: by chance, every class in equal parts, and no group divided.

Also which files are the same, and so must not be divided either.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from pannslib import files
from pannslib.errors import DataError

START = 65_536  # bytes that are compared before whole files are


def stratified_folds(targets: np.ndarray, groups: Sequence[str], folds: int, seed: int = 0) -> np.ndarray:
    """Deal the clips out to folds: int64 (clips,), from 1.

    The clips of one group go together. Groups are dealt out one by one, those with the rarest classes first and the
    larger before the smaller, each to the fold that lacks most of its classes; clips with several labels are weighed by
    all of them (Sechidis et al. 2011, iterative stratification, made to hold for groups). Chance, where it decides,
    comes from the seed and the names of the groups alone, so that the order of the clips doesn't matter.

    Args:
        targets: bool (clips, classes), one or more classes a clip.
        groups: the group of each clip; a clip of its own has a name of its own.
        folds: how many; no more are filled than there are groups.
        seed: another one gives other folds.

    Raises:
        ValueError: `folds` is below 1.
    """
    if folds < 1:
        raise ValueError(f"folds is {folds}; it must be 1 at least")
    targets = np.asarray(targets, bool)
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    folds = min(folds, max(len(names), 1))
    counts = np.zeros((len(names), targets.shape[1]))  # clips of each class in each group
    np.add.at(counts, member, targets)
    sizes = np.bincount(member, minlength=len(names))
    rarity = 1 / np.maximum(targets.sum(0), 1)  # a rare class weighs as much as a common one
    chance = np.array([np.random.default_rng([seed, zlib.crc32(name.encode())]).random() for name in names])
    rarest = np.where(counts > 0, targets.sum(0), np.inf).min(1, initial=np.inf)
    wanted, room = targets.sum(0) / folds, len(targets) / folds  # of each class, and of clips, in each fold
    have, filled = np.zeros((folds, targets.shape[1])), np.zeros(folds)
    fold = np.zeros(len(names), np.int64)
    for group in np.lexsort((chance, -sizes, rarest)):
        need = ((wanted - have) * rarity * counts[group]).sum(1) / max(counts[group].sum(), 1)
        order = np.random.default_rng([seed, zlib.crc32(names[group].encode()), 1]).permutation(folds)
        # what most of its classes lack; then what lacks most clips; then chance
        best = max(order, key=lambda k: (round(need[k], 9), round(room - filled[k], 9)))
        fold[group] = best + 1
        have[best] += counts[group]
        filled[best] += sizes[group]
    # the folds that have clips are numbered without gaps
    return np.unique(fold, return_inverse=True)[1][member] + 1


def identical_files(paths: dict[str, Path]) -> list[list[str]]:
    """The names of files with the same bytes, each list sorted; whole files are read only where sizes and starts agree.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        alike = _alike(paths, lambda path: path.stat().st_size)
        alike = [part for names in alike for part in _alike({n: paths[n] for n in names}, _start)]
        alike = [part for names in alike for part in _alike({n: paths[n] for n in names}, files.sha256)]
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}. Complete the download.") from error
    return sorted(sorted(names) for names in alike)


def _alike(paths: dict[str, Path], key: Callable) -> list[list[str]]:
    """The names that share a `key` of their file with another one."""
    found = defaultdict(list)
    for name, path in paths.items():
        found[key(path)].append(name)
    return [names for names in found.values() if len(names) > 1]


def _start(path: Path) -> bytes:
    with open(path, "rb") as file:
        return sha256(file.read(START)).digest()
