"""Which clips come next: an endless stream of indices that can be saved and gone on with.

A sampler owns its random generator, so that nothing else that draws numbers changes its order, and gives its
whole state as JSON, so that a resumed run sees the clips that an uninterrupted one would have seen.
"""

import json

import numpy as np


class ShuffledSampler:
    """Every clip once an epoch, in a new order each time ("no-bal" in Table V of the paper)."""

    def __init__(self, indices: np.ndarray, seed: int):
        """Draw from ``indices`` (clips,), in an order that ``seed`` decides."""
        self.indices = np.asarray(indices)
        if not len(self.indices):
            raise ValueError("there is no clip to draw from")
        self._generator = np.random.default_rng(seed)
        self._queue = self._new_queue()

    def _new_queue(self) -> list[int]:
        return self._generator.permutation(self.indices).tolist()

    def draw(self, count: int) -> np.ndarray:
        """The next ``count`` clip indices, int64 (count,)."""
        drawn: list[int] = []
        while len(drawn) < count:
            wanted = count - len(drawn)
            drawn += self._queue[:wanted]
            self._queue = self._queue[wanted:] or self._new_queue()
        return np.array(drawn, dtype=np.int64)

    def state(self) -> str:
        """Everything that `restore` needs, as JSON."""
        return json.dumps({"generator": self._generator.bit_generator.state, "queue": self._queue})

    def restore(self, state: str) -> None:
        """Go on from a `state` of a sampler over the same clips."""
        content = json.loads(state)
        self._generator.bit_generator.state = content["generator"]
        self._queue = content["queue"]


class BalancedSampler:
    """The classes in turn, a clip of each (section IV-A of the paper: "bal" in Table V).

    Every round goes through all classes in a new order; a class gives its clips in an order of its own, each
    once before any comes again. A clip with several labels belongs to each of its classes.
    """

    def __init__(self, targets: np.ndarray, indices: np.ndarray, seed: int):
        """Draw from ``indices`` (clips,) by their ``targets``, bool (all clips, classes)."""
        indices = np.asarray(indices)
        members = [indices[targets[indices, column]] for column in range(targets.shape[1])]
        occupied = [clips for clips in members if len(clips)]
        if not occupied:
            raise ValueError("no clip has a label, so the classes can't be balanced")
        seeds = np.random.SeedSequence(seed).spawn(len(occupied) + 1)
        self._classes = ShuffledSampler(np.arange(len(occupied)), seeds[0])
        self._members = [ShuffledSampler(clips, s) for clips, s in zip(occupied, seeds[1:], strict=True)]

    def draw(self, count: int) -> np.ndarray:
        """The next ``count`` clip indices, int64 (count,)."""
        return np.array([self._members[c].draw(1)[0] for c in self._classes.draw(count)], dtype=np.int64)

    def state(self) -> str:
        """Everything that `restore` needs, as JSON."""
        return json.dumps({"classes": self._classes.state(), "members": [m.state() for m in self._members]})

    def restore(self, state: str) -> None:
        """Go on from a `state` of a sampler over the same clips."""
        content = json.loads(state)
        self._classes.restore(content["classes"])
        for member, inner in zip(self._members, content["members"], strict=True):
            member.restore(inner)
