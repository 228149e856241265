"""Which clips come next: an endless stream of indices that can be saved, gone on with and shared by processes.

    sampler = make_sampler("balanced", targets, indices, seed=0)
    sampler.draw(32)                                # int64 (32,)

What comes at a place of the stream depends on the seed and the place alone. So nothing else that draws numbers changes
it; the state of a sampler is where it is, however many clips there are; and of several processes each takes its own
places, the first process the first, so that no clip is drawn twice in an epoch, and all have the same state.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from pannslib.datasets.packed import PackedClips
from pannslib.errors import DataError

KINDS = ("uniform", "balanced", "alternating")
ROUNDS_AT_ONCE = 1 << 15  # places of whole rounds that are worked out together, about
ORDERS_AT_ONCE = 1 << 10  # places of orders that are drawn together where the items are few, about
ROWS_AT_ONCE = 1 << 15  # of a matrix of targets


class Sampler:
    """What all samplers share: the place in the stream, and which places are this process's."""

    def __init__(self, seed: int, rank: int = 0, world: int = 1):
        """The stream of `seed`, of which this is process `rank` of `world`."""
        if not 0 <= rank < world:
            raise ValueError(f"process {rank} of {world} cannot be: they are numbered from 0 to {world - 1}")
        self.seed, self.rank, self.world = int(seed), rank, world
        self._place = 0  # in the stream of all processes together

    def draw(self, count: int) -> np.ndarray:
        """The next ``count`` clip indices of this process, int64 (count,)."""
        places = np.arange(self._place + self.rank, self._place + count * self.world, self.world)
        self._place += count * self.world
        return self._at(places)

    def _at(self, places: np.ndarray) -> np.ndarray:
        """What is at these ascending places of the stream, int64 (n,)."""
        raise NotImplementedError

    def _identity(self) -> dict:
        """What a state must agree with to be of the same stream."""
        return {"kind": type(self).__name__, "seed": self.seed}

    def state(self) -> str:
        """Everything that `restore` needs, as JSON; the same in all processes that drew equally often."""
        return json.dumps(self._identity() | {"place": self._place})

    def restore(self, state: str) -> None:
        """Go on from a `state` of a sampler over the same clips; DataError if it is another's."""
        content = json.loads(state)
        own = self._identity()
        differing = [key for key in own if content.get(key) != own[key]]
        if differing:
            raise DataError(
                f"The state of another sampler can't be gone on from: its {differing[0]} is "
                f"{content.get(differing[0])}, not {own[differing[0]]}. Start the run anew."
            )
        self._place = content["place"]


class ShuffledSampler(Sampler):
    """Every clip once an epoch, in a new order each time ("no-bal" in Table V of the paper)."""

    def __init__(
        self,
        indices: np.ndarray,
        seed: int,
        rank: int = 0,
        world: int = 1,
        black_list: Iterable[int | str] = (),
        names: Sequence[str] | None = None,
    ):
        """Draw from ``indices`` (clips,) but those of the `black_list` (see `allowed`), in an order of ``seed``."""
        super().__init__(seed, rank, world)
        self.indices = allowed(indices, black_list, names)
        if not len(self.indices):
            raise ValueError("there is no clip to draw from")
        self._order = _Shuffle(self.indices, self.seed)
        self._checksum = _checksum([self.indices])

    def _identity(self) -> dict:
        return super()._identity() | {"clips": len(self.indices), "checksum of the clips": self._checksum}

    def _at(self, places: np.ndarray) -> np.ndarray:
        return self._order.at(places)


class BalancedSampler(Sampler):
    """The classes in turn, a clip of each (section IV-A of the paper: "bal" in Table V).

    Every round goes through all classes in a new order; a class gives its clips in an order of its own, each
    once before any comes again. A clip with several labels belongs to each of its classes.
    """

    def __init__(
        self,
        targets,
        indices: np.ndarray,
        seed: int,
        rank: int = 0,
        world: int = 1,
        black_list: Iterable[int | str] = (),
        names: Sequence[str] | None = None,
    ):
        """Draw from ``indices`` (clips,) but those of the `black_list`, by ``targets`` as `members` takes them."""
        super().__init__(seed, rank, world)
        clips = [clips for clips in members(targets, allowed(indices, black_list, names)) if len(clips)]
        if not clips:
            raise ValueError("no clip has a label, so the classes can't be balanced")
        self._members = [_Shuffle(clips_of, self.seed, number) for number, clips_of in enumerate(clips)]
        self._checksum = _checksum(clips)
        self._rounds = max(1, ROUNDS_AT_ONCE // len(clips))  # that are worked out together
        self._known = (-1, np.empty(0, np.int64))

    def _identity(self) -> dict:
        sizes = {"classes": len(self._members), "clips": sum(map(len, self._members))}
        return super()._identity() | sizes | {"checksum of the clips": self._checksum}

    def _at(self, places: np.ndarray) -> np.ndarray:
        return _from_blocks(places, self._rounds * len(self._members), self._block)

    def _block(self, number: int) -> np.ndarray:
        """The clips of the rounds from ``number * self._rounds`` on, as many as are worked out together."""
        if self._known[0] != number:
            rounds = np.arange(number * self._rounds, (number + 1) * self._rounds)
            # in each round each class gives one clip, so in round k its clip k
            clips = np.stack([member.at(rounds) for member in self._members], axis=1)  # (rounds, classes)
            self._known = number, _generator(self.seed, "rounds", number).permuted(clips, axis=1).ravel()
        return self._known[1]


class AlternatingSampler(Sampler):
    """A batch of which the classes are balanced and one of any clips, in turn.

    The authors' code has such a sampler beside the two of the paper: rare classes are seen often, and still half of
    what is learned from has the classes as frequent as they are. A batch is what one `draw` gives.
    """

    def __init__(
        self,
        targets,
        indices: np.ndarray,
        seed: int,
        rank: int = 0,
        world: int = 1,
        black_list: Iterable[int | str] = (),
        names: Sequence[str] | None = None,
    ):
        """Arguments as for `BalancedSampler`."""
        super().__init__(seed, rank, world)
        balanced = BalancedSampler(targets, indices, seed, rank, world, black_list, names)
        self._turns = (balanced, ShuffledSampler(indices, seed, rank, world, black_list, names))

    def draw(self, count: int) -> np.ndarray:
        """The next batch of ``count`` clip indices of this process, int64 (count,)."""
        turn = self._turns[self._place % 2]
        self._place += 1
        return turn.draw(count)

    def state(self) -> str:
        """Everything that `restore` needs, as JSON; the same in all processes that drew equally often."""
        return json.dumps(json.loads(super().state()) | {"turns": [json.loads(turn.state()) for turn in self._turns]})

    def restore(self, state: str) -> None:
        """Go on from a `state` of a sampler over the same clips; DataError if it is another's."""
        super().restore(state)
        for turn, inner in zip(self._turns, json.loads(state)["turns"], strict=True):
            turn.restore(json.dumps(inner))


def make_sampler(
    kind: str,
    targets,
    indices: np.ndarray,
    seed: int,
    rank: int = 0,
    world: int = 1,
    black_list: Iterable[int | str] = (),
    names: Sequence[str] | None = None,
) -> Sampler:
    """The sampler of that kind: "uniform", "balanced" or "alternating".

    Args:
        targets: which clip has which class, as `members` takes it; a uniform sampler doesn't look at it.
        indices: int (clips,), of those to draw from.
        seed: of the order.
        rank, world: of several processes, which one this is and how many there are.
        black_list, names: clips never to be drawn, as `allowed` takes them.

    Raises:
        DataError: there is no such kind, or names are on the black list and those of the clips aren't given.
        ValueError: there is nothing to draw from.
    """
    common = (seed, rank, world, black_list, names)
    if kind == "uniform":
        return ShuffledSampler(indices, *common)
    if kind == "balanced":
        return BalancedSampler(targets, indices, *common)
    if kind == "alternating":
        return AlternatingSampler(targets, indices, *common)
    raise DataError(f"There is no sampler {kind!r}; there are {', '.join(KINDS)}.")


# --- what is drawn from ------------------------------------------------------------------------------------------


def allowed(
    indices: np.ndarray, black_list: Iterable[int | str] = (), names: Sequence[str] | None = None
) -> np.ndarray:
    """The indices (clips,) that are not on the black list, int (clips,).

    Args:
        indices: of clips.
        black_list: of indices, or of names: a clip's whole name ("Yabc.wav"), the same without its ending, or the
            YouTube id that AudioSet's lists have ("abc"). What names no clip is passed over.
        names: of all clips, where the black list has names.

    Raises:
        DataError: there are names on the black list, but those of the clips aren't given.
    """
    indices, black_list = np.asarray(indices), list(black_list or ())
    if not black_list:
        return indices
    numbers = [entry for entry in black_list if not isinstance(entry, str)]
    barred = {entry for entry in black_list if isinstance(entry, str)}
    keep = ~np.isin(indices, np.array(numbers, np.int64))
    if barred:
        if names is None:
            raise DataError(f"The black list names clips ({min(barred)}, ...), so the names of all clips are needed.")
        keep &= [barred.isdisjoint(_names_of(names[index])) for index in indices]
    return indices[keep]


def _names_of(name: str) -> tuple[str, str, str]:
    stem = PurePosixPath(name).stem
    return name, stem, stem.removeprefix("Y")


def members(targets, indices: np.ndarray) -> list[np.ndarray]:
    """Of each class, its clips among ``indices`` (clips,), int32 ascending.

    Args:
        targets: bool (all clips, classes), as an array or a scipy sparse matrix; or a list with the class numbers of
            each clip; or a packed data set or the path of one, which is then read in blocks. All but the first need
            much less than the 1 GB that AudioSet's take as an array.
        indices: of the clips that count.
    """
    wanted: np.ndarray | None = None
    clips, classes, count = [], [], 0
    first = 0
    for rows, columns, length, width in _positives(targets):
        if wanted is None:
            wanted = np.zeros(max(int(np.max(indices, initial=-1)) + 1, 1), bool)
            wanted[indices] = True
        rows = rows + first
        known = rows < len(wanted)
        kept = np.flatnonzero(known)[wanted[rows[known]]]
        clips.append(rows[kept].astype(np.int32))
        classes.append(columns[kept].astype(np.int32))
        first, count = first + length, max(count, width)
    if wanted is not None and len(wanted) > first:
        raise ValueError(f"clip {len(wanted) - 1} is to be drawn from, but there are targets for {first} clips")
    if not clips:
        return []
    clips, classes = np.concatenate(clips), np.concatenate(classes)
    order = np.argsort(classes, kind="stable")
    ends = np.searchsorted(classes[order], np.arange(1, count))
    return np.split(clips[order], ends)


def _positives(targets) -> Iterator[tuple[np.ndarray, np.ndarray, int, int]]:
    """Block by block: rows (in the block) and columns of what is positive, rows of the block, classes known so far."""
    if isinstance(targets, str | Path):
        targets = PackedClips(targets)
    if isinstance(targets, PackedClips):
        for block in targets.target_blocks():
            yield *_nonzero(block), *block.shape
    elif hasattr(targets, "tocsr"):
        matrix = targets.tocsr()
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
        held = matrix.data != 0
        yield rows[held], matrix.indices[held], *matrix.shape
    elif isinstance(targets, np.ndarray) and targets.ndim == 2:
        for start in range(0, len(targets), ROWS_AT_ONCE):
            block = targets[start : start + ROWS_AT_ONCE]
            yield *_nonzero(block), *block.shape
    else:
        for start in range(0, len(targets), ROWS_AT_ONCE):
            lists = targets[start : start + ROWS_AT_ONCE]
            sizes = [len(labels) for labels in lists]
            columns = np.fromiter((label for labels in lists for label in labels), np.int32, sum(sizes))
            yield np.repeat(np.arange(len(lists)), sizes), columns, len(lists), int(columns.max(initial=-1)) + 1


def _nonzero(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what isn't zero in (rows, columns); many times faster than numpy's for two dimensions."""
    return np.divmod(np.flatnonzero(block), block.shape[1])


# --- the stream ------------------------------------------------------------------------------------------------


class _Shuffle:
    """Items in an endless stream, each once before any comes again, in a new order each time."""

    def __init__(self, items: np.ndarray, seed: int, *name: int):
        """The stream of ``items`` (n,) that ``seed`` and ``name`` decide."""
        self._items, self._key = items, (seed, *name)
        self._repeats = max(1, ORDERS_AT_ONCE // len(items))  # orders that are drawn together
        self._known = (-1, items)

    def __len__(self) -> int:
        return len(self._items)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The items at these ascending places, int64 (n,)."""
        if len(self._items) == 1:
            return np.full(len(places), self._items[0], np.int64)
        return _from_blocks(places, self._repeats * len(self._items), self._block)

    def _block(self, number: int) -> np.ndarray:
        if self._known[0] != number:
            generator = _generator(*self._key, "order", number)
            if self._repeats == 1:
                order = generator.permutation(self._items)
            else:
                order = generator.permuted(np.tile(self._items, (self._repeats, 1)), axis=1).ravel()
            self._known = number, order
        return self._known[1]


def _from_blocks(places: np.ndarray, length: int, block) -> np.ndarray:
    """What is at ascending places of a stream that comes in blocks of ``length``, int64 (n,)."""
    drawn = np.empty(len(places), np.int64)
    start = 0
    while start < len(places):
        number = int(places[start]) // length
        stop = int(np.searchsorted(places, (number + 1) * length))
        drawn[start:stop] = block(number)[places[start:stop] - number * length]
        start = stop
    return drawn


def _checksum(parts: Iterable[np.ndarray]) -> int:
    """A number that is another one for other clips (n,), or for other parts of them."""
    checksum = 0
    for clips in parts:
        checksum = zlib.crc32(np.ascontiguousarray(clips, np.int64), zlib.crc32(b"part", checksum))
    return checksum


def _generator(*key: int | str) -> np.random.Generator:
    """A generator of its own for each key."""
    numbers = [int.from_bytes(part.encode(), "little") if isinstance(part, str) else part for part in key]
    return np.random.default_rng(numbers)
