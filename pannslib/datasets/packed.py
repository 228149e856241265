"""A packed data set: all clips in one HDF5 file or several shards, at one sample rate and of one length.

    audio_name  bytes (rows,)           waveform  int16 (rows, samples)      target  bool (rows, classes)
    fold        int64 (rows,)           group, split  bytes (rows,)          clip    int64 (rows,), numbers the clips

The first three are the layout of the authors' packed files (`utils/dataset.py` of their code), which can be opened
as they are. A row is a clip, or a piece of one where long clips were cut into segments. `waveform` is stored
contiguously, so that it is read through a memory map, without the HDF5 lock; chunked or compressed files are read
through h5py. Beside `<stem>.h5` lies `<stem>.clips.csv`, which reports on every clip, the rejected ones too.
`packing` writes all this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from pannslib import audio, reference
from pannslib.errors import DataError

ASSUMED_RATE = 32_000  # Hz, of files that don't tell theirs: the authors' (section VI-A)
AUTHORS_SPLITS = ("balanced_train", "unbalanced_train", "eval")  # how the names of the authors' files begin
WEAKEST_FIRST = ("miniature", "partial", "real")
BLOCK_ROWS = 1 << 15  # of targets read at once
REPORT_COLUMNS = {
    "clip": str,
    "status": str,  # ok or rejected
    "reason": str,  # of the rejection
    "seconds": float,  # of the file; so are the next six
    "sample_rate": "Int64",
    "channels": "Int64",
    "subtype": str,
    "peak": float,  # largest absolute sample of the mean of the channels; full scale is 1
    "rms_db": float,  # level, dB relative to full scale
    "clipped_share": float,  # of the samples that are at full scale or beyond
    "trailing_zero_seconds": float,
    "sha256": str,  # of the file's bytes
    "duplicate_of": str,  # the first clip with the same bytes
    "remark": str,
}


class PackedClips:
    """A packed data set, opened for reading.

    It can be sent to worker processes, whether forked or spawned: only its paths travel, and each process opens the
    files for itself.
    """

    def __init__(
        self,
        path: str | Path | Sequence[str | Path],
        name: str | Path | None = None,
        seconds: float | None = None,
        evidence: str | None = None,
    ):
        """Open one HDF5 file, or several that are read as one, in the order given.

        Args:
            path: of the file, or of each shard.
            name: the path that stands for all of them, `<stem>.h5`, beside which the report is; the first one's.
            seconds: cut the clips to this length, or fill them up with silence; None: as they are stored.
            evidence: as of the data set, where the files don't tell it.

        Raises:
            DataError: a file cannot be read, is truncated, isn't a packed data set or doesn't fit the others.
        """
        several = not isinstance(path, str | Path)
        self.paths = tuple(Path(part) for part in (path if several else [path]))
        if not self.paths:
            raise DataError("No packed file was given; give the path of one at least.")
        self.path = Path(name) if name else self.paths[0]
        self._wanted_seconds, self._known_evidence = seconds, evidence
        headers = [_read_header(part) for part in self.paths]
        self.rows = [rows for rows, *_ in headers]  # of each file
        self._stored_samples = headers[0][1]
        self.attributes = headers[0][3]
        self._evidence = {str(attributes.get("evidence", "real")) for *_, attributes in headers}
        for part, (_, *shape, attributes) in zip(self.paths, headers, strict=True):
            rate, classes = (list(map(str, np.ravel(attributes.get(key, [])))) for key in ("sample_rate", "classes"))
            expected = [list(map(str, np.ravel(self.attributes.get(key, [])))) for key in ("sample_rate", "classes")]
            if [*shape, rate, classes] != [*headers[0][1:3], *expected]:
                raise DataError(
                    f"{part} doesn't belong to {self.paths[0]}: they differ in length, sample rate or classes of the "
                    "clips. Pack both again, with the same settings."
                )

    def __reduce__(self):
        return PackedClips, (self.paths, self.path, self._wanted_seconds, self._known_evidence)

    def __len__(self) -> int:
        return sum(self.rows)

    def _column(self, name: str) -> np.ndarray | None:
        """A column of all files, or None where one of them lacks it."""
        parts = []
        for path in self.paths:
            with _told_of_damage(path, f"its {name}"), h5py.File(path, "r") as store:
                if name not in store:
                    return None
                parts.append(store[name][:])
        return np.concatenate(parts)

    def _texts(self, name: str) -> np.ndarray | None:
        column = self._column(name)
        if column is None:
            return None
        try:
            return np.array([text.decode() for text in column], dtype=object)
        except UnicodeDecodeError:
            path, row = self._first_unreadable(column)
            raise DataError(
                f"{path}, row {row:,}: its {name} is no UTF-8. Download the file again, or correct the row."
            ) from None

    def _first_unreadable(self, column: np.ndarray) -> tuple[Path, int]:
        """The file, and the row in it from 0, of the first text that is no UTF-8."""
        row = next(row for row, text in enumerate(column) if "\ufffd" in text.decode(errors="replace"))
        ends = np.cumsum(self.rows)
        part = int(np.searchsorted(ends, row, side="right"))
        return self.paths[part], row - int(ends[part] - self.rows[part])

    @cached_property
    def names(self) -> list[str]:
        """The name of each row: the clip's, with "#0", "#1", ... behind it where the clip has several rows."""
        return self._texts("audio_name").tolist()

    @cached_property
    def clip_of_row(self) -> np.ndarray:
        """int64 (rows,): the number of the clip that each row is of, from 0 in the order of the rows."""
        clips = self._column("clip")
        if clips is None:
            return np.arange(len(self))
        # every file numbers its own clips from 0
        ends = np.cumsum(self.rows)[:-1]
        parts = np.split(clips, ends)
        before = np.cumsum([0, *(part[-1] + 1 if len(part) else 0 for part in parts)])[:-1]
        return np.concatenate([part + first for part, first in zip(parts, before, strict=True)])

    @cached_property
    def clip_names(self) -> list[str]:
        """The name of each clip that `clip_of_row` numbers."""
        first = np.flatnonzero(np.diff(self.clip_of_row, prepend=-1))
        rows = np.diff(first, append=len(self))
        names = self.names
        return [
            names[row].removesuffix("#0") if count > 1 else names[row] for row, count in zip(first, rows, strict=True)
        ]

    @cached_property
    def targets(self) -> np.ndarray:
        """bool (rows, classes): which row has which class."""
        return self._column("target").astype(bool, copy=False)

    def target_blocks(self) -> Iterator[np.ndarray]:
        """The targets, bool (some rows, classes) at a time: AudioSet's as a whole take 1 GB."""
        for path, rows in zip(self.paths, self.rows, strict=True):
            with h5py.File(path, "r") as store:
                for start in range(0, rows, BLOCK_ROWS):
                    with _told_of_damage(path, f"its target from row {start:,} on"):
                        block = store["target"][start : start + BLOCK_ROWS]
                    yield block.astype(bool, copy=False)

    @property
    def label(self) -> np.ndarray:
        """int64 (rows,): the class of each row; ValueError if one has several or none."""
        if (self.targets.sum(1) != 1).any():
            raise ValueError(f"{self.path} has clips with several labels or none: use `targets`")
        return self.targets.argmax(1)

    @cached_property
    def folds(self) -> np.ndarray:
        """int64 (rows,): the fold of each row, from 1; all 0 where there are none."""
        folds = self._column("fold")
        return np.zeros(len(self), np.int64) if folds is None else folds

    @cached_property
    def groups(self) -> np.ndarray:
        """str (rows,): the recording or actor that each row is of; the clip's own name where that isn't stored."""
        groups = self._texts("group")
        return np.array(self.names, dtype=object) if groups is None else groups

    @cached_property
    def splits(self) -> np.ndarray:
        """str (rows,): the split of each row, such as "train" or "eval"; of the authors' files by their names."""
        splits = self._texts("split")
        if splits is not None:
            return splits
        named = [next((s for s in AUTHORS_SPLITS if path.name.startswith(s)), "") for path in self.paths]
        return np.repeat(np.array(named, dtype=object), self.rows)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The display name of each column of `targets`."""
        if "classes" in self.attributes:
            return tuple(self.attributes["classes"])
        # the authors' files have AudioSet's classes and don't name them
        names = tuple(reference.class_labels()["display_name"])
        with h5py.File(self.paths[0], "r") as store:
            count = store["target"].shape[1]
        return names if count == len(names) else tuple(f"class {number}" for number in range(count))

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, Hz; 32,000 where the file doesn't tell (`notes` then does)."""
        return int(np.ravel(self.attributes.get("sample_rate", ASSUMED_RATE))[0])

    @property
    def seconds(self) -> float:
        """The length of every row."""
        return self.waveforms.shape[1] / self.sample_rate

    @property
    def evidence(self) -> str:
        """ "real", "partial" or "miniature", as of the data set; the weakest of the shards."""
        return self._known_evidence or next(kind for kind in WEAKEST_FIRST if kind in self._evidence)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what the files leave open."""
        if "sample_rate" in self.attributes:
            return ()
        seconds = self._stored_samples / ASSUMED_RATE
        return (
            f"{self.paths[0].name} does not tell its sample rate: {ASSUMED_RATE:,} Hz is assumed, at which its clips "
            f"last {seconds:g} s.",
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hex: the data set's; that of the shards', or of names and targets, where it isn't stored."""
        stored = []
        for path in self.paths:
            with h5py.File(path, "r") as store:
                stored.append(store.attrs.get("fingerprint"))
        if all(stored):
            return stored[0] if len(stored) == 1 else hashlib.sha256("\n".join(stored).encode()).hexdigest()
        digest = hashlib.sha256("\n".join(self.names).encode())
        for block in self.target_blocks():
            digest.update(block.tobytes())
        return digest.hexdigest()

    @cached_property
    def clips_report(self) -> pd.DataFrame:
        """A row for every clip of the data set, the rejected ones too; `REPORT_COLUMNS` says what is in it."""
        path = self.report_path
        if not path.is_file():
            raise DataError(f"{path}, the report on the clips, is not there. Delete {self.path} and pack again.")
        return pd.read_csv(path, dtype=REPORT_COLUMNS)

    @property
    def report_path(self) -> Path:
        """The CSV file of `clips_report`."""
        return report_path(self.path)

    @cached_property
    def waveforms(self) -> np.memmap | Rows:
        """int16 (rows, samples): a memory map of the file; something slower where one map can't show them all."""
        parts = [_waveforms(path) for path in self.paths]
        samples = self._stored_samples
        if self._wanted_seconds is not None:
            samples = audio.sample_count(self._wanted_seconds, self.sample_rate)
        if len(parts) == 1 and samples == self._stored_samples:
            return parts[0]
        return JoinedRows(parts, samples)

    def read_int16(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The waveforms of the rows `indices` (n,) as they are stored, int16 (n, samples): 32,767 is full scale."""
        return np.ascontiguousarray(self.waveforms[np.asarray(indices, dtype=np.int64)])

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The waveforms of the rows `indices` (n,), float32 (n, samples) in [-1, 1]."""
        return audio.from_int16(self.read_int16(indices))


def report_path(path: Path) -> Path:
    """The CSV file that reports on the clips of the packed file `path`."""
    return path.with_name(f"{path.stem}.clips.csv")


def _read_header(path: Path) -> tuple[int, int, int, dict]:
    """Rows, samples, classes and attributes of a packed file; DataError if it isn't one."""
    try:
        with h5py.File(path, "r") as store:
            missing = {"audio_name", "waveform", "target"} - set(store)
            if missing:
                raise DataError(f"{path} is no packed data set: it has no {', '.join(sorted(missing))}. Pack again.")
            waveform, target, rows = store["waveform"], store["target"], len(store["audio_name"])
            if waveform.ndim != 2 or waveform.dtype.newbyteorder("=") != np.int16 or target.ndim != 2:
                raise DataError(
                    f"{path} is no packed data set: its waveform is {waveform.dtype} {waveform.shape} and its target "
                    f"{target.shape}, but they must be int16 (clips, samples) and (clips, classes). Pack again."
                )
            if not rows == len(waveform) == len(target):
                raise DataError(
                    f"{path} contradicts itself: {rows:,} names, {len(waveform):,} waveforms, {len(target):,} targets. "
                    "Pack or download it again."
                )
            return rows, waveform.shape[1], target.shape[1], dict(store.attrs)
    except (OSError, RuntimeError, KeyError) as error:
        raise DataError(
            f"{path} cannot be opened as HDF5: {error}. Delete it and pack or download it again."
        ) from error


@contextmanager
def _told_of_damage(path: Path, what: str) -> Iterator[None]:
    """Turn HDF5's errors at reading into a DataError that says what of which file can't be read."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path} is damaged: {what} can't be read ({error}). Delete it and pack or download it again."
        ) from error


# --- rows of waveforms -----------------------------------------------------------------------------------------


class Rows:
    """As much of an int16 array (rows, samples) as reading needs."""

    shape: tuple[int, int]
    dtype = np.dtype(np.int16)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """The rows of the indices (n,), in any order and more than once; one row for one index."""
        if isinstance(indices, slice):
            chosen = np.arange(*indices.indices(len(self)))
        else:
            chosen = np.asarray(indices)
            chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64, casting="safe")
        if chosen.size and not -len(self) <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"rows {chosen.min()} to {chosen.max()} were asked for; there are {len(self)}")
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        rows = self._take(np.atleast_1d(chosen))
        return rows if chosen.ndim else rows[0]

    def _take(self, indices: np.ndarray) -> np.ndarray:
        """The rows of the indices (n,), all of which are there."""
        raise NotImplementedError


class HDF5Rows(Rows):
    """The rows of a chunked or compressed dataset `waveform`, by way of h5py."""

    def __init__(self, path: Path, shape: tuple[int, int]):
        """Rows of `shape` (rows, samples) in the HDF5 file `path`."""
        self.path, self.shape = path, shape

    def _take(self, indices: np.ndarray) -> np.ndarray:
        ascending, inverse = np.unique(indices, return_inverse=True)
        rows = np.empty((len(ascending), self.shape[1]), self.dtype)
        # opened for each read, so that no handle is shared with forked processes
        with h5py.File(self.path, "r") as store:
            for place, index in enumerate(ascending):
                try:
                    store["waveform"].read_direct(rows, index, place)
                except (OSError, RuntimeError) as error:
                    clip = store["audio_name"][index].decode(errors="replace")
                    raise DataError(
                        f"{self.path}, row {index:,} ({clip}): the waveform can't be read ({error}). Delete the file "
                        "and pack or download it again."
                    ) from error
        return rows[inverse]


class JoinedRows(Rows):
    """The rows of several files one after the other, cut or filled up with zeros to one length."""

    def __init__(self, parts: Sequence[np.ndarray | Rows], samples: int):
        """The rows of `parts`, each as `samples`."""
        self.parts = parts
        self.ends = np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), samples)

    def _take(self, indices: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(indices), self.shape[1]), self.dtype)
        owners = np.searchsorted(self.ends, indices, side="right")
        for owner in np.unique(owners):
            part, places = self.parts[owner], np.flatnonzero(owners == owner)
            local, length = indices[places] - (self.ends[owner] - len(part)), min(part.shape[1], self.shape[1])
            if isinstance(part, Rows):
                rows[places, :length] = part[local][:, :length]
            else:
                # straight out of the map, without a copy of them all in between
                for place, index in zip(places, local, strict=True):
                    rows[place, :length] = part[index, :length]
        return rows


def _waveforms(path: Path) -> np.ndarray | Rows:
    """The waveforms of one file: a memory map, or reads by h5py where they aren't stored contiguously."""
    with h5py.File(path, "r") as store:
        waveform = store["waveform"]
        shape, offset = waveform.shape, waveform.id.get_offset()
        native = waveform.dtype.isnative
    if not shape[0]:
        return np.empty(shape, np.int16)
    return HDF5Rows(path, shape) if offset is None or not native else np.memmap(path, np.int16, "r", offset, shape)
