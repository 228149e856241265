"""All clips of a data set in one HDF5 file, at one sample rate and of one length.

    audio_name  bytes (clips,)           waveform  int16 (clips, samples)      target  bool (clips, classes)
    fold        int64 (clips,)           group     bytes (clips,)

The first three are the layout of the authors' packed files (`utils/dataset.py` of their code), which can be opened
as they are. `waveform` is stored contiguously, so that it is read through a memory map, without the HDF5 lock.
Beside `<stem>.h5` lies `<stem>.clips.csv`, which reports on every clip, the rejected ones too.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from filelock import FileLock

from pannslib import audio, files, reference
from pannslib import progress as progress_bars
from pannslib.datasets.base import Dataset, some
from pannslib.errors import AudioError, DataError

VERSION = 1  # of what is stored; a change of it packs every data set anew
BATCH = 64  # clips decoded at once
SILENCE_DB = -120.0  # the level of digital silence in the report
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


def pack(dataset: Dataset, path: str | Path, sample_rate: int, seconds: float, progress: bool = False) -> PackedClips:
    """Decode all clips of `dataset` into the HDF5 file `path`, or open it if it is there and fits.

    A clip that cannot be used is rejected: it is in the report and not in the file. One process at a time packs to a
    path; others wait for it. All clips are decoded twice, first
    to check them, then to store them, so that the size of the file is known before it is written.

    Args:
        dataset: what to pack.
        path: of the file; its folder is made if need be.
        sample_rate: Hz.
        seconds: that every clip is cut or padded to.
        progress: show a bar.

    Raises:
        DataError: no clip, or none of a class, fold or split, can be used; too little space on the disk.
    """
    path = Path(path)
    request = {
        "version": VERSION,
        "stamp": dataset.stamp,
        "sample_rate": sample_rate,
        "seconds": float(seconds),
    }
    if (finished := _finished(path, request)) is not None:
        return finished
    samples = audio.sample_count(seconds, sample_rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / f".{path.stem}.lock"):
        # another process may have packed it while this one waited
        return _finished(path, request) or _pack(dataset, path, request, samples, progress)


def _pack(dataset: Dataset, path: Path, request: dict, samples: int, progress: bool) -> PackedClips:
    """Pack anew; the lock on `path` is held."""
    sample_rate, seconds = request["sample_rate"], request["seconds"]
    _sweep(path)
    report = _examine(dataset, sample_rate, seconds, progress)
    kept = np.flatnonzero(report["status"] == "ok")
    _check_losses(dataset, report, kept)
    _check_space(path.parent, len(kept) * samples * 2)
    files.write_text(_report_path(path), report.to_csv(index=False, float_format="%.6g"))
    with files.replacing(path) as temporary, h5py.File(temporary, "w") as store:
        _write_facts(store, dataset, kept, {**request, "report": files.sha256(_report_path(path))})
        waveform = store.create_dataset("waveform", (len(kept), samples), np.int16)
        _write_waveforms(waveform, dataset, kept, sample_rate, seconds, progress)
    return PackedClips(path)


class PackedClips:
    """A packed data set, opened for reading.

    It can be sent to worker processes: only its path travels, and each process opens the file for itself.
    """

    def __init__(self, path: str | Path):
        """Open the HDF5 file `path`; DataError if it cannot be read, is truncated or isn't a packed data set."""
        self.path = Path(path)
        try:
            with h5py.File(self.path, "r") as store:
                missing = {"audio_name", "waveform", "target"} - set(store)
                self.attributes = dict(store.attrs)
        except OSError as error:
            raise DataError(f"{self.path} cannot be opened as HDF5: {error}. Delete it and pack again.") from error
        missing |= {"sample_rate"} - set(self.attributes)
        if missing:
            raise DataError(f"{self.path} is no packed data set: it has no {', '.join(sorted(missing))}. Pack again.")

    def __reduce__(self):
        return PackedClips, (self.path,)

    def _column(self, name: str) -> np.ndarray | None:
        with h5py.File(self.path, "r") as store:
            return store[name][:] if name in store else None

    @cached_property
    def names(self) -> list[str]:
        """The name of each clip."""
        return [name.decode() for name in self._column("audio_name")]

    @cached_property
    def targets(self) -> np.ndarray:
        """bool (clips, classes): which clip has which class."""
        return self._column("target").astype(bool)

    @property
    def label(self) -> np.ndarray:
        """int64 (clips,): the class of each clip; ValueError if a clip has several or none."""
        if (self.targets.sum(1) != 1).any():
            raise ValueError(f"{self.path} has clips with several labels or none: use `targets`")
        return self.targets.argmax(1)

    @cached_property
    def folds(self) -> np.ndarray:
        """int64 (clips,): the fold of each clip, from 1; all 0 where there are none."""
        folds = self._column("fold")
        return np.zeros(len(self.names), np.int64) if folds is None else folds

    @cached_property
    def groups(self) -> np.ndarray:
        """str (clips,): the recording or actor that each clip is of; the clip's own name where that isn't stored."""
        groups = self._column("group")
        return np.array(self.names if groups is None else [group.decode() for group in groups], dtype=object)

    @property
    def classes(self) -> tuple[str, ...]:
        """The display name of each column of `targets`."""
        if "classes" in self.attributes:
            return tuple(self.attributes["classes"])
        # the authors' files have AudioSet's classes and don't name them
        return tuple(reference.class_labels()["display_name"])

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, Hz."""
        return int(self.attributes["sample_rate"])

    @property
    def seconds(self) -> float:
        """The length of every clip."""
        return self.waveforms.shape[1] / self.sample_rate

    @property
    def evidence(self) -> str:
        """ "real", "partial" or "miniature", as of the data set."""
        return self.attributes.get("evidence", "real")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hex: the data set's; that of names and targets where it isn't stored."""
        if "fingerprint" in self.attributes:
            return self.attributes["fingerprint"]
        return hashlib.sha256("\n".join(self.names).encode() + self.targets.tobytes()).hexdigest()

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
        return _report_path(self.path)

    @cached_property
    def waveforms(self) -> np.memmap | HDF5Rows:
        """int16 (clips, samples): a memory map of the file, or slower reads where it isn't stored contiguously."""
        with h5py.File(self.path, "r") as store:
            waveform = store["waveform"]
            offset = waveform.id.get_offset()
            if offset is None:
                return HDF5Rows(self.path, waveform.shape, waveform.dtype)
            return np.memmap(self.path, waveform.dtype, "r", offset, waveform.shape)

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """The waveforms of the clips `indices` (n,), float32 (n, samples) in [-1, 1]."""
        return audio.from_int16(self.waveforms[np.asarray(indices, dtype=np.int64)])


class HDF5Rows:
    """The rows of a chunked or compressed dataset `waveform`, by way of h5py; as much of an array as is needed."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: np.dtype):
        """Rows of `shape` (clips, samples) in the HDF5 file `path`."""
        self.path, self.shape, self.dtype = path, shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """The rows of the indices (n,), in any order and more than once."""
        ascending, inverse = np.unique(np.arange(len(self))[indices], return_inverse=True)
        # opened for each read, so that no handle is shared with forked processes
        with h5py.File(self.path, "r") as store:
            return store["waveform"][ascending][inverse]


# --- is there a finished file? ---------------------------------------------------------------------------------


def _report_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}.clips.csv")


def _finished(path: Path, request: dict) -> PackedClips | None:
    """The packed file if it is whole and of this request and the report beside it is the one written with it."""
    if not path.is_file() or not _report_path(path).is_file():
        return None
    try:
        packed = PackedClips(path)
    except DataError:  # truncated, or another program's: it is replaced
        return None
    wanted = {**request, "report": files.sha256(_report_path(path))}
    return packed if all(packed.attributes.get(key) == value for key, value in wanted.items()) else None


def _sweep(path: Path) -> None:
    """Remove what killed processes left of `path`, which can be very large: while its lock is held, no one writes."""
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.*.part.*"):
        leftover.unlink(missing_ok=True)


# --- checking the clips ----------------------------------------------------------------------------------------


def _examine(dataset: Dataset, sample_rate: int, seconds: float, progress: bool) -> pd.DataFrame:
    """The report: a row a clip, in the order of the data set."""

    def examine(path: str) -> dict:
        return examine_clip(dataset.root / path, sample_rate, seconds)

    clips = dataset.clips
    rows = list(_in_parallel(examine, clips["path"], f"{dataset.title}: checking", progress))
    for row, name, path in zip(rows, clips["clip"], clips["path"], strict=True):
        row["clip"] = name
        # the report holds for every copy of the data set, so it tells no folder
        row["reason"] = row["reason"] and row["reason"].replace(str(dataset.root / path), path)
    _mark_rates(rows, sample_rate)
    _mark_duplicates(rows, list(zip(clips["fold"], clips["split"], strict=True)))
    report = pd.DataFrame(rows, columns=list(REPORT_COLUMNS))
    return report.astype({"sample_rate": "Int64", "channels": "Int64"})


def examine_clip(path: Path, sample_rate: int, seconds: float) -> dict:
    """What the report says of one sound file, given the rate (Hz) and length that it is to be packed at."""
    try:
        waveform, about = audio.decode(path)
    except AudioError as error:
        return {"status": "rejected", "reason": str(error)}
    sounding = np.flatnonzero(waveform)
    tail = len(waveform) - 1 - sounding[-1] if len(sounding) else len(waveform)
    magnitude = np.abs(waveform)
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    peak = float(magnitude.max())
    remarks = {
        "silent: all samples are zero": not len(sounding),
        f"{about.sample_rate / 1000:g} kHz: nothing above {about.sample_rate / 2000:g} kHz": about.sample_rate
        < sample_rate,
        f"{about.channels} channels: averaged": about.channels > 1,
        f"peak {peak:.3f}: saturated when stored": peak > 1,
        f"lasts {about.seconds:.2f} s: only the first {seconds:g} s are used": about.seconds > 1.01 * seconds,
    }
    return {
        "status": "ok",
        "reason": None,
        "seconds": about.seconds,
        "sample_rate": about.sample_rate,
        "channels": about.channels,
        "subtype": about.subtype,
        "peak": peak,
        "rms_db": max(SILENCE_DB, 20 * np.log10(max(rms, 1e-30))),
        "clipped_share": float(np.mean(magnitude >= 1 - 2**-15)),  # 32,767 of 32,768 in 16-bit files
        "trailing_zero_seconds": tail / about.sample_rate,
        "sha256": files.sha256(path),
        "remark": "; ".join(text for text, holds in remarks.items() if holds) or None,
    }


def _mark_rates(rows: list[dict], wanted: int) -> None:
    """Remark the good clips whose sample rate isn't the one that most have; those below `wanted` (Hz) were before."""
    rates = Counter(row["sample_rate"] for row in rows if row["status"] == "ok")
    usual = max(rates, key=rates.get, default=None)
    for row in rows:
        if row["status"] == "ok" and wanted <= row["sample_rate"] != usual:
            _add_remark(row, f"{row['sample_rate'] / 1000:g} kHz, where most clips have {usual / 1000:g} kHz")


def _add_remark(row: dict, text: str) -> None:
    row["remark"] = f"{row['remark']}; {text}" if row["remark"] else text


def _mark_duplicates(rows: list[dict], sides: list[tuple]) -> None:
    """Fill in `duplicate_of` of the good clips, with a remark where the two are on different `sides` of a split."""
    first: dict[str, int] = {}
    for index, row in enumerate(rows):
        original = first.setdefault(row["sha256"], index) if row["status"] == "ok" else index
        if original != index:
            row["duplicate_of"] = rows[original]["clip"]
            if sides[original] != sides[index]:
                _add_remark(row, f"the same file as {row['duplicate_of']}, which is in another fold or split")


def _check_losses(dataset: Dataset, report: pd.DataFrame, kept: np.ndarray) -> None:
    """DataError if the rejected clips take a whole class, fold or split with them."""
    rejected = report[report["status"] != "ok"]
    clips = dataset.clips
    lost = [f"class {dataset.classes[index]!r}" for index in np.flatnonzero(~dataset.targets[kept].any(0))]
    for column in ("fold", "split"):
        lost += [f"{column} {value}" for value in sorted(set(clips[column]) - set(clips[column].iloc[kept]))]
    if lost:
        scope = "none of its clips" if not len(kept) else f"no clip of {some(lost)}"
        reasons = " ".join(rejected["reason"].head(3))
        raise DataError(
            f"{dataset.title} in {dataset.root} cannot be packed: {scope} can be used. {len(rejected):,} clips are "
            f"rejected, the first of them: {reasons}"
        )


def _check_space(folder: Path, needed: int) -> None:
    """DataError unless `folder`'s disk has room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder} has {free / 2**30:.1f} GiB of free space, but the packed clips need {needed / 2**30:.1f} GiB. "
            "Make room, or write to another disk."
        )


# --- writing ---------------------------------------------------------------------------------------------------


def _write_facts(store: h5py.File, dataset: Dataset, kept: np.ndarray, attributes: dict) -> None:
    """Everything but the waveforms."""
    clips = dataset.clips.iloc[kept]
    store["audio_name"] = np.array([name.encode() for name in clips["clip"]])
    store["target"] = dataset.targets[kept]
    store["fold"] = clips["fold"].to_numpy(np.int64)
    store["group"] = np.array([group.encode() for group in clips["group"]])
    store.attrs.update(attributes)
    store.attrs["name"] = dataset.name
    # a clip that can't be used is one that isn't there
    whole = len(kept) == len(dataset.clips)
    store.attrs["evidence"] = dataset.evidence if whole or dataset.evidence != "real" else "partial"
    store.attrs["fingerprint"] = dataset.fingerprint
    store.attrs["classes"] = np.array(dataset.classes, dtype=h5py.string_dtype())


def _write_waveforms(
    waveform: h5py.Dataset,
    dataset: Dataset,
    kept: np.ndarray,
    sample_rate: int,
    seconds: float,
    progress: bool,
) -> None:
    """Fill `waveform`, int16 (clips kept, samples)."""

    def decode(path: str) -> np.ndarray:
        return audio.to_int16(audio.load(dataset.root / path, sample_rate, seconds))

    paths = dataset.clips["path"].iloc[kept]
    for row, samples in enumerate(_in_parallel(decode, paths, f"{dataset.title}: packing", progress)):
        waveform[row] = samples


def _in_parallel(function: Callable, items: Iterable, title: str, progress: bool) -> Iterator:
    """`function` of each item, in order, in as many threads as there are processors: decoding frees Python's lock."""
    items = list(items)
    bar = progress_bars.bar(len(items), title, unit="clip") if progress else None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # in batches, so that results don't pile up when writing is slower than decoding
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            yield from pool.map(function, batch)
            if bar:
                bar.update(len(batch))
    if bar:
        bar.close()
