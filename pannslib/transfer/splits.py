"""Which clips are learnt from and which are tested: folds, or a given split; and few clips of each class."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pannslib.datasets import PackedClips
from pannslib.datasets.base import some
from pannslib.errors import DataError


@dataclass(frozen=True, eq=False)
class Split:
    """One division into clips to learn from and clips to test.

    Attributes:
        name: "1", "2", ... of a fold that is tested, or "test" of a given split.
        training, test: int64 (rows,) of the packed file; all segments of a clip are on one side.
    """

    name: str
    training: np.ndarray
    test: np.ndarray

    def record(self) -> list:
        """The split as JSON."""
        return [self.name, self.training.tolist(), self.test.tolist()]


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips that the rows of a packed file are of: one row a clip, or several segments.

    Attributes:
        names: str (clips,).
        groups: (clips,), the recording, actor or artist of each.
        targets: bool (clips, classes).
        of_row: int64 (rows,), the clip of each row.
        classes: display names.
    """

    names: list[str]
    groups: np.ndarray
    targets: np.ndarray
    of_row: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def of(cls, packed: PackedClips) -> "Clips":
        """The clips of a packed file."""
        of_row, names = packed.clip_of_row, list(packed.clip_names)
        first = np.unique(of_row, return_index=True)[1]
        return cls(names, packed.groups[first], packed.targets[first], of_row, packed.classes)

    @property
    def single_label(self) -> bool:
        """Whether every clip has one class."""
        return bool((self.targets.sum(1) == 1).all())

    @cached_property
    def label(self) -> np.ndarray:
        """int64 (clips,): the class of each, where each has one."""
        return self.targets.argmax(1)

    def mean(self, rows: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The clips (n,) of ``rows`` and the mean of their rows' ``values``: (rows, classes) -> (n, classes)."""
        clips, position = np.unique(self.of_row[rows], return_inverse=True)
        total = np.zeros((len(clips), values.shape[1]), np.float64)
        np.add.at(total, position, values)
        return clips, (total / np.bincount(position)[:, None]).astype(np.float32)

    def rows_of(self, clips: np.ndarray) -> np.ndarray:
        """int64: the rows of some clips, in ascending order."""
        return np.flatnonzero(np.isin(self.of_row, clips))


def splits_of(packed: PackedClips, most: int | None = None) -> tuple[list[Split], list[str]]:
    """The divisions of a packed data set: every fold tested once, or its given split; and sentences about them.

    A clip to learn from whose file is byte for byte that of a test clip is left out of that split.

    Args:
        most: how many folds are tested; all where it isn't given.

    Raises:
        DataError: fewer than two classes, neither folds nor a split, or a recording, actor or artist on both sides.
    """
    folds, sides = packed.folds, packed.splits
    if len(packed.classes) < 2:
        raise DataError(f"{packed.path.stem} has {len(packed.classes)} class; two at least are needed to tell apart.")
    numbers = sorted(set(folds.tolist()) - {0})
    if len(numbers) >= 2:
        made = [
            Split(str(fold), np.flatnonzero((folds != fold) & (folds > 0)), np.flatnonzero(folds == fold))
            for fold in numbers
        ]
    elif {"train", "test"} <= set(sides.tolist()):
        made = [Split("test", np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test"))]
    else:
        raise DataError(
            f"{packed.path.stem} has neither two folds (it has {some(map(str, numbers)) or 'none'}) nor a split into "
            "train and test. Complete the download, or give each clip a fold."
        )
    clips = Clips.of(packed)
    for split in made:
        _check(split, packed, clips)
    made, notes = _without_copies(made, packed, clips)
    return made[:most], [*notes, *_scarce(made, clips), *_not_tested(made, most)]


def _check(split: Split, packed: PackedClips, clips: Clips) -> None:
    """DataError if a group or a clip is on both sides of a split."""
    for what, of in (("recording, actor or artist", packed.groups), ("clip", clips.of_row)):
        both = sorted(set(of[split.training]) & set(of[split.test]))
        if both:
            raise DataError(
                f"{packed.path.stem}: one {what} is on both sides of the split with test {split.name}, so that test "
                f"clips would be known from training: {some(map(str, both))}. Give all its clips one fold."
            )


def _without_copies(splits: list[Split], packed: PackedClips, clips: Clips) -> tuple[list[Split], list[str]]:
    """The splits without training clips that are copies of test clips, and a sentence if there were any."""
    if not packed.report_path.is_file():
        return splits, []
    report = packed.clips_report
    sound = dict(zip(report["clip"], report["sha256"], strict=True))
    key = np.array([sound.get(name, name) for name in clips.names], dtype=object)[clips.of_row]
    if len(set(key[np.unique(clips.of_row, return_index=True)[1]])) == len(clips.names):
        return splits, []
    kept = [Split(s.name, s.training[~np.isin(key[s.training], key[s.test])], s.test) for s in splits]
    lost = {
        clips.names[clip]
        for old, new in zip(splits, kept, strict=True)
        for clip in clips.of_row[np.setdiff1d(old.training, new.training)]
    }
    if not lost:
        return splits, []
    return kept, [f"Not learnt from where a copy of them, byte for byte, is tested: {some(sorted(lost))}."]


def _scarce(splits: list[Split], clips: Clips) -> list[str]:
    """A sentence about the classes that have fewer clips than there are folds, or none to learn from in some split."""
    rare = np.flatnonzero(clips.targets.sum(0) < len(splits))
    unlearnt = [
        split.name for split in splits if not clips.targets[np.unique(clips.of_row[split.training])].any(0).all()
    ]
    notes = []
    if len(rare):
        names = some(f"{clips.classes[index]} ({clips.targets[:, index].sum()})" for index in rare)
        notes.append(f"Classes with fewer clips than the {len(splits)} folds, so that some test none of them: {names}.")
    if unlearnt:
        notes.append(
            f"A class has no clip to learn from where the test fold is {some(unlearnt)}: its test clips there are "
            "lost to every strategy."
        )
    return notes


def _not_tested(splits: list[Split], most: int | None) -> list[str]:
    if most is None or most >= len(splits):
        return []
    return [f"{most} of the {len(splits)} folds are tested, which the profile says (folds: {most})."]


def few_clips(split: Split, clips: Clips, shots: int, seed: int) -> np.ndarray:
    """The training rows of ``shots`` clips of each class, drawn from a split's training clips; all segments of each.

    A class that has fewer gives all that it has. With several labels a clip, a clip that was drawn for one class
    counts for its others too, so that a class may have more.
    """
    generator = np.random.default_rng(seed)
    training = np.unique(clips.of_row[split.training])
    chosen: set[int] = set()
    for column in range(clips.targets.shape[1]):
        members = generator.permutation(training[clips.targets[training, column]])
        # those that are in already come first
        there = [clip for clip in members.tolist() if clip in chosen]
        others = [clip for clip in members.tolist() if clip not in chosen]
        chosen.update((there + others)[: max(shots, 0)])
    return np.intersect1d(clips.rows_of(np.array(sorted(chosen), np.int64)), split.training)


def reachable(splits: list[Split], clips: Clips, shots: int) -> bool:
    """Whether at least half of the classes have ``shots`` training clips and more in every split.

    With exactly so many there would be nothing to draw: that is the point of all clips.
    """
    least = np.min([clips.targets[np.unique(clips.of_row[s.training])].sum(0) for s in splits], axis=0)
    return bool(np.median(least) >= shots and least.max() > shots)


def clips_per_class(split: Split, clips: Clips, rows: np.ndarray) -> float:
    """The mean number of clips a class among some training rows."""
    return float(clips.targets[np.unique(clips.of_row[rows])].sum(0).mean())


def sizes(splits: list[Split], clips: Clips) -> list[dict]:
    """A record a split: how many clips and groups are learnt from and tested."""
    rows = []
    for split in splits:
        training, test = np.unique(clips.of_row[split.training]), np.unique(clips.of_row[split.test])
        classes = Counter(clips.targets[training].sum(0).tolist())
        rows.append(
            {
                "tested fold": split.name,
                "training clips": len(training),
                "training groups": len(set(clips.groups[training])),
                "fewest of a class": min(classes),
                "test clips": len(test),
                "test groups": len(set(clips.groups[test])),
            }
        )
    return rows
