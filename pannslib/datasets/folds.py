"""Folds for data sets that have none: by chance, every class in equal parts, and no group divided."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np


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
