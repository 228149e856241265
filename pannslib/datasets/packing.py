"""Packing: decode all clips of a data set into HDF5 files in the authors' layout (`packed` says what is in them).

A data set is packed as one file, or as shards: consecutive clips, each shard a file of its own that is written aside
and renamed when it is whole. So shards can be packed by several processes at once, and what is finished stays
finished, whatever happens to the others. Each shard keeps the report on its clips; once all are there they are merged
into `<stem>.clips.csv`, with what only the whole can tell: duplicates, odd sample rates, classes that lost all clips.
"""

from __future__ import annotations

import glob
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from filelock import FileLock

from pannslib import audio, files
from pannslib import progress as progress_bars
from pannslib.datasets.base import Dataset, some
from pannslib.datasets.disk import COPY_BYTES, told_of_full_disk
from pannslib.datasets.packed import REPORT_COLUMNS, PackedClips, report_path
from pannslib.errors import AudioError, DataError

VERSION = 2  # of what is stored; a change of it packs every data set anew
BATCH = 64  # clips decoded at once
SPOOL_BYTES = 1 << 28  # waveforms up to this size wait in memory until their number is known, then on the disk
MEASURED = 1000  # clips that the report measures of a data set that comes packed
SILENCE_DB = -120.0  # the level of digital silence in the report
TOLERANCE = 0.01  # of the wanted length: what a clip may be longer or shorter without a remark or another segment


def pack(
    dataset: Dataset,
    path: str | Path,
    sample_rate: int,
    seconds: float,
    progress: bool = False,
    segments: bool = False,
    shards: int = 1,
) -> PackedClips:
    """Decode all clips of `dataset` into `path`, or its shards, or open what is there and fits.

    A clip that cannot be used is rejected: it is in the report and not in the file. One process at a time packs a
    shard; others wait for it. A data set that comes packed is opened as it is.

    Args:
        dataset: what to pack.
        path: of the file; its folder is made if need be. The shards lie beside it, as `shard_paths` says.
        sample_rate: Hz.
        seconds: that every row is cut or padded to.
        progress: show a bar.
        segments: cut a longer clip into rows of `seconds` each, the last one padded, instead of dropping its end.
        shards: into how many files.

    Raises:
        DataError: no clip, or none of a class, fold or split, can be used; too little space on the disk; the data set
            changed while it was packed.
    """
    path = Path(path)
    _ = dataset.stamp  # of the whole, so that a change after this is noticed
    if dataset.packed:
        return _as_it_comes(dataset, path, sample_rate, seconds, segments)
    for shard in range(shards):
        pack_shard(dataset, path, shard, shards, sample_rate, seconds, progress, segments)
    return _gather(dataset, path, shards)


def shard_paths(path: Path, shards: int) -> list[Path]:
    """The files that stand for `path`: itself if there is one shard, else `<stem>.part00.h5` and so on."""
    if shards == 1:
        return [path]
    return [path.with_name(f"{path.stem}.part{shard:02d}.h5") for shard in range(shards)]


def pack_shard(
    dataset: Dataset,
    path: str | Path,
    shard: int,
    shards: int,
    sample_rate: int,
    seconds: float,
    progress: bool = False,
    segments: bool = False,
    workers: int | None = None,
) -> Path:
    """Pack one of the `shards` of a data set, or leave it if it is there and fits; returns its file.

    Args:
        dataset, path, sample_rate, seconds, progress, segments: as for `pack`.
        shard: which, from 0.
        shards: how many there are.
        workers: clips that are decoded at once; as many as there are processors if None.

    Raises:
        DataError: there is no such shard; the clips come packed; too little space on the disk; files changed meanwhile.
    """
    if dataset.packed:
        raise DataError(f"The clips of {dataset.title} in {dataset.root} come packed, so there is nothing to pack.")
    if not 0 <= shard < shards:
        raise DataError(f"There is no shard {shard} of {dataset.title}: they are numbered from 0 to {shards - 1}.")
    path = Path(path)
    file = shard_paths(path, shards)[shard]
    edges = np.linspace(0, len(dataset.clips), shards + 1).round().astype(int)
    part = dataset if shards == 1 else dataset.part(*edges[shard : shard + 2])
    request = {
        "version": VERSION,
        "stamp": part.stamp,
        "sample_rate": sample_rate,
        "seconds": float(seconds),
        "segments": segments,
    }
    if not _is_finished(file, request):
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.parent / f".{file.stem}.lock"):
            # another process may have packed it while this one waited
            if not _is_finished(file, request):
                _pack(part, file, request, progress, workers)
    return file


def _is_finished(path: Path, request: dict) -> bool:
    """Whether the packed file is whole and of this request."""
    try:
        attributes = PackedClips(path).attributes
    except DataError:  # not there, truncated, or another program's: it is replaced
        return False
    return all(attributes.get(key) == value for key, value in request.items())


def _pack(part: Dataset, path: Path, request: dict, progress: bool, workers: int | None) -> None:
    """Pack the clips of `part` anew into one file; the lock on it is held."""
    sample_rate, seconds, segments = (request[key] for key in ("sample_rate", "seconds", "segments"))
    samples = audio.sample_count(seconds, sample_rate)
    files.sweep(path)  # its lock is held
    _check_space(path, len(part.clips) * samples * 2)

    def read(clip: str) -> tuple[dict, np.ndarray | None]:
        return read_clip(part.root / clip, sample_rate, seconds, segments)

    rows, pieces = [], []
    # how many rows there are is known only when the last clip is decoded, and HDF5 must know it first
    with told_of_full_disk(path), tempfile.SpooledTemporaryFile(SPOOL_BYTES, dir=path.parent) as spool:
        paths = part.clips["path"].tolist()
        for row, waveforms in _in_parallel(read, paths, f"{part.title}: packing", progress, workers):
            rows.append(row)
            pieces.append(0 if waveforms is None else len(waveforms))
            if waveforms is not None:
                spool.write(waveforms.data)
        if changed := part.changed():
            raise DataError(
                f"{part.root} changed while it was packed: {some(changed)}. Let the copy or download there finish, and "
                "start again; the shards that are finished are kept."
            )
        pieces, report = np.array(pieces), _report_of(part, rows)
        with files.replacing(path) as temporary:
            _prove_room(temporary, part, int(pieces.sum()), samples, len(report))
            with h5py.File(temporary, "w") as store:
                _write_facts(store, part, pieces, request, report)
                offset = _reserve(store, int(pieces.sum()), samples)
            with open(temporary, "r+b") as file:
                file.seek(offset)
                spool.seek(0)
                shutil.copyfileobj(spool, file, COPY_BYTES)


# --- reading a clip --------------------------------------------------------------------------------------------


def read_clip(path: Path, sample_rate: int, seconds: float, segments: bool) -> tuple[dict, np.ndarray | None]:
    """What the report says of one sound file, and its waveform as it is packed.

    Returns:
        the row of the report; int16 (rows, samples), one row unless `segments` are wanted and the clip is longer, or
        None if the clip is rejected.
    """
    try:
        waveform, about = audio.decode(path)
    except AudioError as error:
        return {"status": "rejected", "reason": str(error)}, None
    samples = audio.sample_count(seconds, sample_rate)
    resampled = audio.resample(waveform, about.sample_rate, sample_rate)
    pieces = max(1, int(np.ceil(len(resampled) / samples - TOLERANCE))) if segments else 1
    stored = audio.to_int16(audio.fit_length(resampled, pieces * samples)).reshape(pieces, samples)
    remarks = _measure(waveform, about.sample_rate)
    remark = remarks.pop("remark")
    others = {
        f"{about.sample_rate / 1000:g} kHz: nothing above {about.sample_rate / 2000:g} kHz": about.sample_rate
        < sample_rate,
        f"{about.channels} channels: averaged": about.channels > 1,
        f"peak {remarks['peak']:.3f}: saturated when stored": remarks["peak"] > 1,
        f"lasts {about.seconds:.2f} s: cut into {pieces} rows of {seconds:g} s": pieces > 1,
        f"lasts {about.seconds:.2f} s: only the first {seconds:g} s are used": pieces == 1
        and about.seconds > (1 + TOLERANCE) * seconds,
        f"shorter than {seconds:g} s: filled up with silence": about.seconds < (1 - TOLERANCE) * seconds,
    }
    row = {
        "status": "ok",
        "reason": None,
        "seconds": about.seconds,
        "sample_rate": about.sample_rate,
        "channels": about.channels,
        "subtype": about.subtype,
        **remarks,
        "sha256": files.sha256(path),
        "remark": "; ".join(filter(None, [remark, *(text for text, holds in others.items() if holds)])) or None,
    }
    return row, stored


def _measure(waveform: np.ndarray, sample_rate: int) -> dict:
    """Peak, level, clipping and trailing silence of a waveform, float32 (samples,), as the report tells them."""
    sounding = np.flatnonzero(waveform)
    tail = len(waveform) - 1 - sounding[-1] if len(sounding) else len(waveform)
    magnitude = np.abs(waveform)
    rms = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    return {
        "peak": float(magnitude.max()),
        "rms_db": max(SILENCE_DB, 20 * np.log10(max(rms, 1e-30))),
        "clipped_share": float(np.mean(magnitude >= 1 - 2**-15)),  # 32,767 of 32,768 in 16-bit files
        "trailing_zero_seconds": tail / sample_rate,
        "remark": None if len(sounding) else "silent: all samples are zero",
    }


def _in_parallel(function: Callable, items: list, title: str, progress: bool, workers: int | None) -> Iterator:
    """`function` of each item, in order, in `workers` threads: decoding frees Python's lock."""
    bar = progress_bars.bar(len(items), title, unit="clip") if progress else None
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        # in batches, so that results don't pile up when writing is slower than decoding
        for start in range(0, len(items), BATCH):
            batch = items[start : start + BATCH]
            yield from pool.map(function, batch)
            if bar:
                bar.update(len(batch))
    if bar:
        bar.close()


# --- writing a file --------------------------------------------------------------------------------------------


def _write_facts(store: h5py.File, part: Dataset, pieces: np.ndarray, request: dict, report: str) -> None:
    """Everything but the waveforms, of clips with so many `pieces` (clips,) each, 0 for the rejected ones."""
    clip_of_row = np.repeat(np.arange(len(pieces)), pieces)
    clips = part.clips.iloc[clip_of_row]
    number = np.arange(len(clip_of_row)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    several = pieces[clip_of_row] > 1
    names = zip(clips["clip"], number, several, strict=True)
    _write_texts(store, "audio_name", (f"{name}#{piece}" if of_several else name for name, piece, of_several in names))
    store["target"] = part.targets[clip_of_row]
    store["clip"] = (np.cumsum(pieces > 0) - 1)[clip_of_row]
    store["fold"] = clips["fold"].to_numpy(np.int64)
    _write_texts(store, "group", clips["group"])
    _write_texts(store, "split", clips["split"])
    store.create_dataset("report", data=np.frombuffer(report.encode(), np.uint8), compression="gzip")
    store.attrs.update(request)
    store.attrs["name"] = part.name
    # a clip that can't be used is one that isn't there
    whole = (pieces > 0).all()
    store.attrs["evidence"] = part.evidence if whole or part.evidence != "real" else "partial"
    store.attrs["fingerprint"] = part.fingerprint
    store.attrs["classes"] = np.array(part.classes, dtype=h5py.string_dtype())


def _write_texts(store: h5py.File, name: str, texts: Iterable[str]) -> None:
    """A column of text, as bytes of fixed length: what the authors' files have."""
    values = np.array([text.encode() for text in texts], dtype=bytes)
    store[name] = values.astype("S1") if values.dtype.itemsize == 0 else values


def _reserve(store: h5py.File, rows: int, samples: int) -> int:
    """Make room for `waveform`, int16 (rows, samples), in one piece; returns where in the file it begins."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    space = h5py.h5s.create_simple((rows, samples))
    waveform = h5py.h5d.create(store.id, b"waveform", h5py.h5t.NATIVE_INT16, space, creation)
    return waveform.get_offset() or 0  # a file without rows has no waveforms


# --- the disk --------------------------------------------------------------------------------------------------


def _check_space(path: Path, needed: int) -> None:
    """DataError unless the disk of `path` has room for `needed` bytes of waveforms, and as much where they wait."""
    free = shutil.disk_usage(path.parent).free
    needed *= 2 if needed > SPOOL_BYTES else 1
    if needed > free:
        raise DataError(
            f"{path.parent} has {free / 2**30:.1f} GiB of free space, but {path.name} needs {needed / 2**30:.1f} GiB "
            "while it is packed. Make room, or write to another disk; what is packed already is kept."
        )


def _prove_room(path: Path, part: Dataset, rows: int, samples: int, report: int) -> None:
    """OSError unless a file of that size may be written to `path`, and all of it but the waveforms fits there.

    HDF5 can neither write to a full disk nor close the file then, and takes the process down with it at its end. The
    waveforms are not written by HDF5.
    """
    texts = sum(int(part.clips[name].str.len().max()) for name in ("clip", "group", "split"))
    facts = (1 << 20) + rows * (len(part.classes) + 4 * texts + 32) + report
    with open(path, "wb") as file:
        for _ in range(0, facts, COPY_BYTES):
            file.write(bytes(min(COPY_BYTES, facts)))
        file.flush()
        os.fsync(file.fileno())
        file.truncate(facts + rows * samples * 2)


# --- the report ------------------------------------------------------------------------------------------------


def _report_of(part: Dataset, rows: list[dict]) -> str:
    """The report on the clips of one file, as CSV."""
    clips = part.clips
    for row, name, path in zip(rows, clips["clip"], clips["path"], strict=True):
        row["clip"] = name
        # the report holds for every copy of the data set, so it tells no folder
        row["reason"] = row["reason"] and row["reason"].replace(str(part.root / path), path)
    return _as_csv(pd.DataFrame(rows, columns=list(REPORT_COLUMNS)))


def _as_csv(report: pd.DataFrame) -> str:
    report = report.astype({"sample_rate": "Int64", "channels": "Int64"})
    return report.to_csv(index=False, float_format="%.6g")


def _gather(dataset: Dataset, path: Path, shards: int) -> PackedClips:
    """All finished shards as one, with the merged report beside `path`."""
    paths = shard_paths(path, shards)
    report, mark = report_path(path), path.with_name(f".{path.stem}.report.json")
    with FileLock(path.parent / f".{path.stem}.lock"), told_of_full_disk(report):
        clips = PackedClips(paths, name=path)
        stamps = []
        for shard in paths:
            with h5py.File(shard, "r") as store:
                stamps.append(str(store.attrs["stamp"]))
        state = {"shards": files.digest(stamps), "sha256": files.sha256(report) if report.is_file() else None}
        if not mark.is_file() or files.read_json(mark) != state:
            merged = _merge(dataset, paths)
            try:
                _check_losses(dataset, merged)
            except DataError:
                # of several shards those without the fault are kept
                if shards == 1:
                    path.unlink()
                raise
            files.write_text(report, _as_csv(merged))
            files.write_json(mark, state | {"sha256": files.sha256(report)})
        _remove_others(path, paths)
    return clips


def _remove_others(path: Path, paths: list[Path]) -> None:
    """Remove what the data set was packed to when there were more or fewer shards: it is as large as what is kept."""
    for other in {path, *path.parent.glob(f"{glob.escape(path.stem)}.part[0-9]*.h5")} - set(paths):
        other.unlink(missing_ok=True)


def _merge(dataset: Dataset, paths: list[Path]) -> pd.DataFrame:
    """The report on all clips, with the remarks that need to know them all."""
    parts = []
    for path in paths:
        with h5py.File(path, "r") as store:
            parts.append(pd.read_csv(io.BytesIO(store["report"][:].tobytes()), dtype=REPORT_COLUMNS))
    report = pd.concat(parts, ignore_index=True)
    with h5py.File(paths[0], "r") as store:
        _mark_rates(report, int(store.attrs["sample_rate"]))
    _mark_duplicates(report, dataset.clips)
    return report


def _mark_rates(report: pd.DataFrame, wanted: int) -> None:
    """Remark the good clips whose sample rate isn't the one that most have; those below `wanted` (Hz) were before."""
    good = report["status"] == "ok"
    rates = report.loc[good, "sample_rate"]
    if len(rates):
        usual = rates.value_counts().index[0]
        for rate in sorted(set(rates) - {usual}):
            if rate >= wanted:
                text = f"{rate / 1000:g} kHz, where most clips have {usual / 1000:g} kHz"
                _add_remarks(report, good & (report["sample_rate"] == rate), text)


def _mark_duplicates(report: pd.DataFrame, clips: pd.DataFrame) -> None:
    """Fill in `duplicate_of` of the good clips, with a remark where the two are on different sides of a split."""
    good = report.loc[report["status"] == "ok", "sha256"]
    firsts = good.drop_duplicates()
    original = good.map(pd.Series(firsts.index, index=firsts.to_numpy()))
    copies = original[original != original.index]
    report.loc[copies.index, "duplicate_of"] = report["clip"].loc[copies].to_numpy()
    for copy, first in copies.items():
        if (clips["fold"].iat[copy], clips["split"].iat[copy]) != (clips["fold"].iat[first], clips["split"].iat[first]):
            text = f"the same file as {report['clip'].iat[first]}, which is in another fold or split"
            _add_remarks(report, report.index == copy, text)


def _add_remarks(report: pd.DataFrame, rows: np.ndarray, text: str) -> None:
    before = report.loc[rows, "remark"]
    report.loc[rows, "remark"] = np.where(before.isna(), text, before.astype(str) + f"; {text}")


def _check_losses(dataset: Dataset, report: pd.DataFrame) -> None:
    """DataError if the rejected clips take a whole class, fold or split with them."""
    kept = np.flatnonzero(report["status"] == "ok")
    rejected = report[report["status"] != "ok"]
    clips = dataset.clips
    held = set().union(*clips["labels"].iloc[kept])
    lost = [f"class {name!r}" for index, name in enumerate(dataset.classes) if index not in held]
    for column in ("fold", "split"):
        lost += [f"{column} {value}" for value in sorted(set(clips[column]) - set(clips[column].iloc[kept]))]
    if lost:
        scope = "none of its clips" if not len(kept) else f"no clip of {some(lost)}"
        reasons = " ".join(rejected["reason"].head(3))
        raise DataError(
            f"{dataset.title} in {dataset.root} cannot be packed: {scope} can be used. {len(rejected):,} clips are "
            f"rejected, the first of them: {reasons}"
        )


# --- a data set that comes packed --------------------------------------------------------------------------------


def _as_it_comes(dataset: Dataset, path: Path, sample_rate: int, seconds: float, segments: bool) -> PackedClips:
    """The HDF5 files of the data set, with a report beside `path` for which some of the clips are measured."""
    clips = PackedClips([dataset.root / part for part in dataset.packed], path, seconds, dataset.evidence)
    if clips.sample_rate != sample_rate or segments:
        wanted = f"cut into segments of {seconds:g} s" if segments else f"at {sample_rate:,} Hz"
        raise DataError(
            f"The clips of {dataset.title} in {dataset.root} come packed, at {clips.sample_rate:,} Hz, but are needed "
            f"{wanted}. Give the sound files instead."
        )
    report = report_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    mark = path.with_name(f".{path.stem}.report.json")
    with FileLock(path.parent / f".{path.stem}.lock"):
        state = {"stamp": dataset.stamp, "sha256": files.sha256(report) if report.is_file() else None}
        if not mark.is_file() or files.read_json(mark) != state:
            files.write_text(report, _as_csv(_sampled_report(dataset)))
            files.write_json(mark, state | {"sha256": files.sha256(report)})
    return clips


def _sampled_report(dataset: Dataset) -> pd.DataFrame:
    """The report on packed clips: all are listed, and up to `MEASURED` of them, evenly spread, are measured."""
    clips = PackedClips([dataset.root / part for part in dataset.packed])
    report = pd.DataFrame({"clip": dataset.clips["clip"]}).reindex(columns=list(REPORT_COLUMNS))
    report = report.assign(status="ok", seconds=clips.seconds, sample_rate=clips.sample_rate, channels=1)
    report = report.assign(subtype="PCM_16").astype({"remark": object})
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(MEASURED, len(clips))).round().astype(int))
    measures = [_measure(clips.read([row])[0], clips.sample_rate) for row in chosen]
    for column in ("peak", "rms_db", "clipped_share", "trailing_zero_seconds", "remark"):
        report.loc[chosen, column] = [measure[column] for measure in measures]
    return report
