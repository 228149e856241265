"""Where AudioSet's sound can be had, and getting it from there into the official layout.

    get("data", "hf_confit_audioset_full")              # exactly the authors' clips: zips of a Hugging Face mirror
    get("data", "youtube", splits=("balanced_train",))  # each clip from its source, with yt-dlp
    get("data", path="/media/audioset")                 # a folder that one already has: files, or a mirror's archives
    get("data", path="/media/hdf5s/waveforms")          # the authors' packed HDF5 files, as they are

Google publishes lists of clips, not the sound. Each source leaves `raw/audioset/metadata/` (the lists, the class
labels, the authors' black list) and `audios/<split>_segments/Y<id>.wav` (or .flac, .ogg); the packed files become
`hdf5s/waveforms/`. Every clip's header is decoded before it gets its name. A second call goes on where the first
stopped. `metadata/missing.csv` names the clips that could not be had, with the reason.

Clips on the authors' black list (those of DCASE 2017 Task 4) are left out of the two training splits.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

import pandas as pd

from pannslib import audio, files, reference
from pannslib import progress as progress_bars
from pannslib.datasets import archives, download
from pannslib.datasets.archives import Remote, human
from pannslib.datasets.audioset import NAME, TRAINING, read_black_list, sound_files
from pannslib.datasets.base import read_text, some
from pannslib.errors import AudioError, DataError

SPLITS = ("balanced_train", "unbalanced_train", "eval")
HUB = "https://huggingface.co"
VIDEO = "https://www.youtube.com/watch?v="
LARGEST_CLIP = 64 << 20  # bytes; 10 s at 192 kHz, 8 channels and 32 bit are less
SAMPLE_BYTES = 2  # 16 bit, mono: what the authors' copy has, and what sizes are estimated for
FORMATS = {
    b"RIFF": ".wav",
    b"RF64": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
}  # how files begin -> the loader's suffix
SOUND = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au")  # what libsndfile decodes
SHARDS = (".zip", ".tar", ".parquet")
PACKED = (".h5", ".hdf5")
MISSING_COLUMNS = ("clip", "split", "reason")
SECONDS_PER_VIDEO = 8.0  # assumed for telling the time: yt-dlp's start, the page and ten seconds of sound
HEADERS_PER_SECOND = 500  # assumed for telling the time: sound files whose headers are decoded
VIDEO_TIMEOUT = 300  # seconds for one clip
SAVE_EVERY = 30.0  # seconds between two writings of missing.csv, at least
SAVE_SHARE = 50  # and at least so many times what the last writing took
BLOCKED_IN_A_ROW = 12  # failures of this kind without a success in between: going on would make it worse
BLOCKED = re.compile(r"429|too many requests|not a bot|rate.?limit", re.IGNORECASE)
GONE = re.compile(
    r"video (is )?unavailable|private video|removed|terminated|deleted|copyright|not available|no longer available"
    r"|members-only|confirm your age|age.restricted|does not exist|shorter than",
    re.IGNORECASE,
)  # what yt-dlp says of a video that won't come back, so that it is not asked for again
BLACK_LISTED = "on the authors' black list (DCASE 2017 Task 4)"
# the authors' repository at the commit of reference/README.md; the checksums are those of the files in it
BLACK_LIST_URL = (
    "https://raw.githubusercontent.com/qiuqiangkong/audioset_tagging_cnn/d2f4b8c18eab44737fcc0de1248ae21eb43f6aa4/"
    "metadata/black_list/"
)
BLACK_LISTS = {
    "groundtruth_weak_label_evaluation_set.csv": "126452642315711288bbb607daeef736d477316a49ad0ebb8c3c944550279451",
    "groundtruth_weak_label_testing_set.csv": "d8e309e1a1a745b2d73b04763a9419cf1acf3c091fada6e89e282e0ad425546f",
}


@dataclass(frozen=True)
class Mirror:
    """A Hugging Face repository: which of its files hold which split, and what the clips in it are.

    `shards` maps a split to a regular expression of paths; `sample_rate` (Hz) tells the size of a clip where the
    repository's own isn't published; `revision_of` finds the commit to pin in the facts, None takes the newest one at
    the first call and keeps to it.
    """

    entry: str  # of audio_sources in datasets.yaml
    shards: dict[str, str]
    sample_rate: int | None = None
    revision_of: Callable[[dict], str] | None = None


_ANY = r"(?:\.zip|\.z\d\d+|\.tar|\.parquet)"
MIRRORS = {
    "hf_confit_audioset_full": Mirror(
        "hf_confit_audioset_full",
        {
            "balanced_train": rf"(?:.*/)?balanced/.*{_ANY}",
            "unbalanced_train": rf"(?:.*/)?unbalanced/.*{_ANY}",
            "eval": rf"(?:.*/)?eval/.*{_ANY}",
        },
        sample_rate=32_000,
    ),
    "hf_confit_audioset_16k_wds": Mirror(
        "hf_confit_audioset_16k_wds",
        {
            "balanced_train": rf"(?:.*/)?20k/train/.*{_ANY}",
            "unbalanced_train": rf"(?:.*/)?2m/train/.*{_ANY}",
            "eval": rf"(?:.*/)?20k/test/.*{_ANY}",
        },
        sample_rate=16_000,
        revision_of=lambda entry: entry["revision_seen"],
    ),
    "hf_agkphysics_audioset": Mirror(
        "hf_agkphysics_audioset",
        {
            "balanced_train": r"data/bal_train/.*\.parquet",
            "unbalanced_train": r"data/unbal_train/.*\.parquet",
            "eval": r"data/eval/.*\.parquet",
        },
        revision_of=lambda entry: re.search(r"\b[0-9a-f]{40}\b", entry["form"])[0],
    ),
    "hf_agkphysics_audioset_tar": Mirror(
        "hf_agkphysics_audioset",
        {
            "balanced_train": r"data/bal_train.*\.tar",
            "unbalanced_train": r"data/unbal_train.*\.tar",
            "eval": r"data/eval.*\.tar",
        },
        revision_of=lambda entry: entry["tar_layout_revision"],
    ),
}
SOURCES = (*MIRRORS, "youtube", "folder")  # "folder" also takes archives of a mirror and the authors' HDF5 files


# --- what it costs ---------------------------------------------------------------------------------------------


def plan(
    source: str,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    rate: float = download.RATE,
    workers: int = 4,
    keep_archives: bool = False,
    data_root: str | Path | None = None,
) -> pd.DataFrame:
    """What a source costs, from what is published: a row a split.

    Args:
        source: of `SOURCES`, but "folder", which costs what its files do.
        splits: wanted.
        limit: clips of each split at most.
        rate: bytes a second.
        workers: yt-dlp processes at once.
        keep_archives: a mirror's archives stay beside the clips, as for `get`.
        data_root: folder below which clips may be already, which cost nothing more.

    Returns:
        Columns: split, clips, there (clips that are already), download, disk (bytes: estimated from the clips' length
        and rate where not published), hours. yt-dlp's hours assume `SECONDS_PER_VIDEO` for a clip.
    """
    _check_source(source, splits)
    rows = []
    for split in splits:
        available = _clips_of(source)[split]
        clips = min(available, limit) if limit else available
        there = min(clips, _clips_there(data_root, split))
        size = _clip_bytes(source)
        # a mirror's archives can't be had in part, but those that were taken are not fetched again
        fetched = clips - there if source == "youtube" else available * (clips - there) / clips
        kept = fetched if keep_archives and source != "youtube" else 0
        seconds = fetched * SECONDS_PER_VIDEO / workers if source == "youtube" else fetched * size / rate
        rows.append((split, clips, there, fetched * size, (clips - there + kept) * size, seconds / 3600))
    return pd.DataFrame(rows, columns=["split", "clips", "there", "download", "disk", "hours"])


def _clips_there(data_root: str | Path | None, split: str) -> int:
    """How many sound files of a split lie below a data root."""
    return len(sound_files(Path(data_root) / "raw" / "audioset" / "audios" / f"{split}_segments")) if data_root else 0


def costs(rate: float = download.RATE) -> list[dict]:
    """What each source of the whole data set costs, for `download.listing`: its name, title, bytes and hours."""
    rows = []
    for source in (*MIRRORS, "youtube"):
        table = plan(source, rate=rate)
        rows.append(
            {
                "source": source,
                "title": f"AudioSet, {int(table['clips'].sum()):,} clips",
                "download": table["download"].sum(),
                "approximate": True,
                "disk": table["disk"].sum(),
                "hours": table["hours"].sum(),
            }
        )
    return rows


def _entry(source: str) -> dict:
    """What datasets.yaml says of a source."""
    wanted = MIRRORS[source].entry if source in MIRRORS else source
    return next(entry for entry in download.facts()["audioset"]["audio_sources"] if entry["id"] == wanted)


def _clips_of(source: str) -> dict[str, int]:
    """How many clips of each split a source has."""
    entry, splits = _entry(source), download.facts()["audioset"]["splits"]
    if "configs" in entry:
        balanced, unbalanced = entry["configs"]["balanced"], entry["configs"]["unbalanced"]
        return {
            "balanced_train": balanced["train"],
            "unbalanced_train": unbalanced["train"],
            "eval": balanced["test"],
        }
    clips = entry.get("clips", {})
    if "train_2m" in clips:
        return {"balanced_train": clips["train_20k"], "unbalanced_train": clips["train_2m"], "eval": clips["test"]}
    return {split: clips.get(split, splits[split]["official"]) for split in SPLITS}


def _clip_bytes(source: str) -> float:
    """Bytes of a clip on the disk."""
    entry, facts = _entry(source), download.facts()["audioset"]
    if "configs" in entry:
        balanced = entry["configs"]["balanced"]
        return balanced["download_bytes"] / (balanced["train"] + balanced["test"])
    rate = MIRRORS[source].sample_rate if source in MIRRORS else 32_000
    return facts["clip_seconds"] * rate * SAMPLE_BYTES


def _check_source(source: str, splits: Sequence[str]) -> None:
    if source not in SOURCES:
        raise DataError(f"AudioSet has no source {source!r}; there are {', '.join(SOURCES)}.")
    unknown = [split for split in splits if split not in SPLITS]
    if unknown or not splits:
        raise DataError(f"AudioSet has no split {some(unknown) or 'of none'}; there are {', '.join(SPLITS)}.")


# --- getting it ------------------------------------------------------------------------------------------------


def get(
    data_root: str | Path,
    source: str = "",
    path: str | Path | None = None,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
    repository: str = "",
    revision: str = "",
    link: str = "symlink",
    keep_archives: bool = False,
    workers: int = 4,
    retry: bool = False,
    thorough: bool = False,
    base_url: str = "",
    progress: bool = False,
    wait: float = archives.WAIT,
) -> download.Download:
    """Get AudioSet, or a part of it, into `<data root>/raw/audioset/`.

    Args:
        data_root: folder that has `raw/`, or gets it.
        source: of `SOURCES`; "folder" where `path` is given.
        path: of a folder that one has: with sound files named by id, a mirror's archives, the authors' HDF5 files.
        splits: wanted.
        limit: clips of each split at most, the first of its list.
        repository: another Hugging Face data set than the mirror's own, "owner/name", of the same layout.
        revision: commit, tag or branch of the mirror, in place of the pinned one.
        link: how files of `path` get into the official layout: "symlink", "hardlink" or "copy".
        keep_archives: keep a mirror's archives after their clips were taken out.
        workers: yt-dlp processes at once.
        retry: ask again for clips that were gone at an earlier call.
        thorough: decode every clip, not only its header.
        base_url: address in place of that of Hugging Face, and of a folder with the lists.
        progress: show bars.
        wait: seconds before a failed transfer is tried again; doubled each time.

    Raises:
        DataError: no or an unknown source, split or way to link; no list of clips; yt-dlp isn't there; the disk is too
            small.
    """
    source = source or ("folder" if path else "")
    if not source:
        raise DataError(f"AudioSet can be had from several sources: choose one of {', '.join(SOURCES)}.")
    _check_source(source, splits)
    if (source == "folder") != (path is not None):
        raise DataError("A folder needs its path, and only the source 'folder' has one.")
    if limit is not None and limit < 1:
        raise DataError(f"The limit is {limit} clips of each split, but must be at least 1.")
    if link not in LINKS:
        raise DataError(f"Files can't be linked by {link!r}; there are {', '.join(LINKS)}.")
    given = Path(path).absolute() if path else None
    if given is not None and not given.is_dir():
        raise DataError(f"{given} is no folder. Give the folder that has the clips.")
    data_root = Path(data_root).absolute()
    with archives.exclusive(data_root / "downloads", "audioset"):
        root = data_root / "raw" / "audioset"
        result = download.Download("audioset", root)
        _get_metadata(root, splits, given, base_url, progress, wait, result)
        collection = _Collection(root, splits, limit, retry, thorough)
        try:
            if source == "youtube":
                _from_videos(collection, workers, progress)
            elif source == "folder":
                _from_folder(collection, given, link, progress, result)
            else:
                origin = _Origin(source, repository, revision, base_url, splits, data_root / "downloads" / "audioset")
                _from_mirror(collection, origin, keep_archives, progress, wait, result)
        finally:
            collection.save()
        collection.report(result)
    _look_at(data_root, result)
    return result


def _look_at(data_root: Path, result: download.Download) -> None:
    """Load what there is now, as every other program will."""
    from pannslib import datasets

    try:
        dataset = datasets.load("audioset", result.root)
    except DataError as fault:
        result.notes.append(f"What is there can't be loaded: {fault}")
        return
    result.evidence = dataset.evidence
    result.notes += dataset.notes


# --- lists, class labels, black list ---------------------------------------------------------------------------


def _get_metadata(
    root: Path,
    splits: Sequence[str],
    given: Path | None,
    base_url: str,
    progress: bool,
    wait: float,
    result: download.Download,
) -> None:
    """See that the lists of `splits`, the class labels and the black list are in `metadata/`."""
    metadata = root / "metadata"
    published = {remote.name: remote for remote in download.remotes("audioset", base_url)}
    labels = metadata / "class_labels_indices.csv"
    if not labels.is_file():
        _take_over(given, labels.name, labels) or files.write_text(labels, class_labels_csv())
    for split in splits:
        target = metadata / f"{split}_segments.csv"
        if not target.is_file() and not _take_over(given, target.name, target):
            archives.fetch(published[target.name], metadata, progress, wait)
        if not _read_times(target):
            raise DataError(f"{target} names no clip. Delete it, and download it again.")
    _get_black_list(metadata / "black_list", given, base_url, progress, wait, result)


def _get_black_list(
    folder: Path, given: Path | None, base_url: str, progress: bool, wait: float, result: download.Download
) -> None:
    """See that the authors' black list is in `folder`, or one of another name; what it means where it can't be had."""
    there = {path.name for path in folder.glob("*.csv")}
    if there - BLACK_LISTS.keys() or (not there and _take_over_black_list(given, folder)):
        return
    for name in sorted(BLACK_LISTS.keys() - there):
        url = f"{base_url.rstrip('/')}/{name}" if base_url else BLACK_LIST_URL + name
        try:
            archives.fetch(Remote(name, url, sha256=BLACK_LISTS[name]), folder, progress, wait)
        except DataError as fault:
            result.parts.append(download.Part(name, "failed", str(fault)))
            result.notes.append(
                "Warning: the authors' black list isn't there, so no clip is left out: networks are trained on test "
                "clips of DCASE 2017 Task 4 that the authors' weren't trained on. Call again, or put it into "
                f"{folder}."
            )
            return


def _metadata_folders(given: Path | None) -> list[Path]:
    """Where lists may be in, or beside, a folder that one has."""
    if given is None:
        return []
    return [given, given / "metadata", given.parent / "metadata", *sorted(given.glob("*/metadata"))]


def _take_over(given: Path | None, name: str, target: Path) -> bool:
    """Copy a list from the folder that one has, if it is there."""
    found = next((folder / name for folder in _metadata_folders(given) if (folder / name).is_file()), None)
    if found and found.resolve() != target.resolve():
        with files.replacing(target) as temporary:
            shutil.copyfile(found, temporary)
    return found is not None


def _take_over_black_list(given: Path | None, folder: Path) -> bool:
    for place in _metadata_folders(given):
        found = sorted((place / "black_list").glob("*.csv"))
        for file in found:
            with files.replacing(folder / file.name) as temporary:
                shutil.copyfile(file, temporary)
        if found:
            return True
    return False


def class_labels_csv() -> str:
    """The official class_labels_indices.csv, made from the reference data (byte for byte the published file)."""
    labels = reference.class_labels()
    rows = [
        f'{index},{mid},"{name}"'
        for index, mid, name in zip(labels["index"], labels["mid"], labels["display_name"], strict=True)
    ]
    return "\n".join(["index,mid,display_name", *rows]) + "\n"


def _read_times(path: Path) -> dict[str, tuple[float, float]]:
    """Id -> start and end (s) of the clips in a list; DataError with the line of a row that cannot be right."""
    times: dict[str, tuple[float, float]] = {}
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    for row in reader:
        if not row or row[0].startswith("#"):
            continue
        try:
            start, end = float(row[1]), float(row[2])
            right = bool(re.fullmatch(r"[\w-]{11}", row[0])) and 0 <= start < end < 1e6
        except (IndexError, ValueError):
            right = False
        if not right:
            raise DataError(
                f"{path}, line {reader.line_num}: {','.join(row)[:80]!r} must be an id of 11 characters and two times "
                "in seconds. Delete the file, and download it again."
            )
        times[row[0]] = (start, end)
    return times


# --- the clips -------------------------------------------------------------------------------------------------


class _Collection:
    """The clips that are wanted, those that are there, and why the others are not."""

    def __init__(self, root: Path, splits: Sequence[str], limit: int | None, retry: bool, thorough: bool):
        """Look at what there is below `root`."""
        self.root, self.splits, self.thorough = root, tuple(splits), thorough
        self.metadata = root / "metadata"
        banned = read_black_list(root)
        self.split: dict[str, str] = {}  # of every id in the lists of the splits
        self.times: dict[str, tuple[float, float]] = {}
        self.wanted: dict[str, None] = {}  # ordered
        self.reasons: dict[str, str] = {}
        for split in splits:
            times = _read_times(self.metadata / f"{split}_segments.csv")
            self.times |= times
            self.split |= dict.fromkeys(times, split)
            black = [name for name in times if name in banned] if split in TRAINING else []
            self.reasons |= dict.fromkeys(black, BLACK_LISTED)
            allowed = [name for name in times if name not in self.reasons]
            self.wanted |= dict.fromkeys(allowed[:limit])
        earlier = _read_missing(self.metadata / "missing.csv")
        # what is known of splits that are not wanted now stays known
        self.elsewhere = {row["clip"]: row for row in earlier.values() if row["split"] not in splits}
        self.earlier = {name: row["reason"] for name, row in earlier.items() if name in self.wanted}
        self.retry = retry
        self.there = self._look()
        self.new = 0
        self.unlisted: Counter[str] = Counter()
        self.final_reason = "not in the source"
        self._lock = threading.Lock()
        self._saved, self._save_took = time.monotonic(), 0.0

    def _look(self) -> set[str]:
        there = set()
        for split in self.splits:
            folder = self.folder(split)
            _sweep(folder)
            for name, path in sound_files(folder).items():
                # a link of which the target went away isn't a clip
                if self.split.get(name) == split and (folder / path).exists():
                    there.add(name)
        return there

    def folder(self, split: str) -> Path:
        """Where the clips of a split belong."""
        return self.root / "audios" / f"{split}_segments"

    @property
    def open(self) -> list[str]:
        """The ids that are wanted and not there."""
        return [name for name in self.wanted if name not in self.there]

    def needs(self, name: str) -> bool:
        """Whether a clip is wanted and not there yet."""
        return name in self.wanted and name not in self.there

    def identify(self, *candidates: str) -> str | None:
        """The id that the first fitting of some file names (without suffix) or ids means; None if no list has it."""
        for candidate in candidates:
            found = NAME.fullmatch(candidate)
            # an id may itself begin with Y
            for name in (candidate, candidate[1:] if candidate.startswith("Y") else "", found[1] if found else ""):
                if name in self.split:
                    return name
        return None

    def take(self, name: str, content: bytes | Path, link: str = "copy") -> None:
        """Put a clip, given as bytes or as a file, into its place if it can be decoded; else note why not."""
        folder = self.folder(self.split[name])
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".Y{name}.part"
        try:
            if isinstance(content, Path):
                LINKS[link](content, temporary)
            else:
                temporary.write_bytes(content)
            suffix = self._verify(temporary)
            if suffix:
                os.replace(temporary, folder / f"Y{name}{suffix}")
            else:
                self._convert(temporary, folder / f"Y{name}.flac")
        except AudioError as fault:
            self.fail(name, str(fault).replace(str(temporary), "the file"))
        else:
            with self._lock:
                self.there.add(name)
                self.reasons.pop(name, None)
                self.new += 1
        finally:
            temporary.unlink(missing_ok=True)

    def _verify(self, path: Path) -> str | None:
        """The suffix of a sound file that can be decoded; None for a format that the loader doesn't look for."""
        with open(path, "rb") as file:
            suffix = FORMATS.get(file.read(4))
        about = audio.decode(path)[1] if self.thorough else audio.info(path)
        if not about.frames:
            raise AudioError(f"{path} holds no samples.")
        check = audio.CONTAINER_CHECKS.get(about.format)
        shortfall = check(path, "") if check and about.format != "AU" else None
        if shortfall:
            raise AudioError(f"{path} is truncated: {shortfall}.")
        return suffix

    @staticmethod
    def _convert(path: Path, target: Path) -> None:
        """Write a sound file of another format as FLAC, which loses nothing of what was decoded."""
        import soundfile

        try:
            samples, rate = soundfile.read(
                path, dtype="int16" if soundfile.info(path).subtype == "PCM_16" else "float32"
            )
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{path} can't be decoded: {error.error_string}") from error
        with files.replacing(target) as temporary:
            soundfile.write(temporary, samples, rate, subtype="PCM_16", format="FLAC")

    def fail(self, name: str, reason: str) -> None:
        """Note why a clip could not be had."""
        with self._lock:
            self.reasons[name] = " ".join(reason.split())

    def save(self, every: float = 0.0) -> None:
        """Write missing.csv, unless that was done less than `every` seconds ago."""
        began = time.monotonic()
        if every and began - self._saved < max(every, SAVE_SHARE * self._save_took):
            return
        with self._lock:
            known = {name: reason for name, reason in self.reasons.items() if name not in self.there}
            lines = [(row["clip"], row["split"], row["reason"]) for row in self.elsewhere.values()]
            for name in (*self.open, *(name for name in known if name not in self.wanted)):
                reason = known.get(name) or self.earlier.get(name) or self.final_reason
                lines.append((name, self.split[name], reason))
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(MISSING_COLUMNS)
        writer.writerows(lines)
        files.write_text(self.metadata / "missing.csv", text.getvalue())
        self._saved = time.monotonic()
        self._save_took = self._saved - began

    def report(self, result: download.Download) -> None:
        """Tell how many clips of each split are there, and why the others are not."""
        for split in self.splits:
            names = [name for name in self.wanted if self.split[name] == split]
            there = sum(name in self.there for name in names)
            result.parts.append(download.Part(split, "there" if there else "missing", f"{there:,} of {len(names):,}"))
        causes = Counter(
            _gist(self.reasons.get(name) or self.earlier.get(name) or self.final_reason) for name in self.open
        )
        causes.update(BLACK_LISTED for name in self.reasons if self.reasons[name] == BLACK_LISTED)
        if causes:
            texts = [f"{count:,}: {cause}" for cause, count in causes.most_common(6)]
            result.notes.append(f"Clips that are not there ({self.metadata / 'missing.csv'}): {'; '.join(texts)}.")
        if self.unlisted:
            count = sum(self.unlisted.values())
            result.notes.append(f"{count:,} files that no list names were ignored: {some(sorted(self.unlisted))}.")


def _gist(reason: str) -> str:
    """A reason without what is particular to the clip, for counting."""
    text = re.sub(r"\[youtube\] \S+: ", "", reason)
    return re.sub(r"\d[\d,.]*", "n", text)[:90]


def _sweep(folder: Path) -> None:
    """Remove what a killed call left."""
    for leftover in folder.glob(".Y*.part"):
        leftover.unlink(missing_ok=True)


def _read_missing(path: Path) -> dict[str, dict[str, str]]:
    """The rows of missing.csv of an earlier call, by clip; none if there is none that can be read."""
    if not path.is_file():
        return {}
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    if tuple(reader.fieldnames or ()) != MISSING_COLUMNS:
        return {}
    return {row["clip"]: row for row in reader if None not in row and None not in row.values()}


def _symlink(source: Path, target: Path) -> None:
    target.symlink_to(source.resolve())


def _hardlink(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError as error:
        raise DataError(f"{source} can't be linked ({error.strerror}): it is on another disk. Use copies.") from error


LINKS: dict[str, Callable[[Path, Path], object]] = {
    "symlink": _symlink,
    "hardlink": _hardlink,
    "copy": lambda source, target: shutil.copyfile(source, target),
}


# --- archives of a mirror --------------------------------------------------------------------------------------


class _Origin:
    """A Hugging Face repository at one commit."""

    def __init__(self, source: str, repository: str, revision: str, base_url: str, splits: Sequence[str], store: Path):
        """Ask the mirror `source` for its files; archives go to the folder `store`."""
        mirror, entry = MIRRORS[source], _entry(source)
        self.hub = (base_url or HUB).rstrip("/")
        self.repository = repository or urlsplit(entry["url"]).path.removeprefix("/datasets/")
        self.store = store
        pinned = mirror.revision_of(entry) if mirror.revision_of and not repository else ""
        self.revision = self._pin(revision or pinned or "main")
        listed = self._list()
        chosen: dict[str, Remote] = {}
        for split in splits:
            found = {path: remote for path, remote in listed.items() if re.fullmatch(mirror.shards[split], path)}
            if not found:
                raise DataError(
                    f"{self.repository} at {self.revision} has no archives of {split}; it has "
                    f"{some(sorted(listed), 8) or 'nothing'}. Choose another source or revision."
                )
            chosen |= found
        self.shards = chosen

    def _pin(self, revision: str) -> str:
        """The commit that a revision means: the one of the first call, if it is a branch."""
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        path = self.store / "revisions.json"
        known = files.read_json(path) if path.is_file() else {}
        key = f"{self.repository}@{revision}"
        if key not in known:
            address = f"{self.hub}/api/datasets/{self.repository}/revision/{quote(revision, safe='')}"
            content, _ = archives.get_json(address)
            commit = content.get("sha") if isinstance(content, dict) else None
            if not (isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40}", commit)):
                raise DataError(f"{address} tells no commit. Name one as the revision.")
            known[key] = commit
            files.write_json(path, known)
        return known[key]

    def _list(self) -> dict[str, Remote]:
        """Path -> file of all the repository's files."""
        address = f"{self.hub}/api/datasets/{self.repository}/tree/{self.revision}?recursive=true"
        found = {}
        for _ in range(10_000):
            content, links = archives.get_json(address)
            for entry in content if isinstance(content, list) else []:
                if entry.get("type") != "file":
                    continue
                path = str(archives.safe_path(entry["path"], Path(self.repository)))
                large = entry.get("lfs") or {}
                url = f"{self.hub}/datasets/{self.repository}/resolve/{self.revision}/{quote(path)}"
                # the repository's folders go into the name, since several have files of one name
                found[path] = Remote(path.replace("/", "__"), url, entry.get("size"), sha256=large.get("oid"))
            if "next" not in links:
                return found
            address = links["next"]
        raise DataError(f"{self.repository} lists its files without end.")


def _from_mirror(
    collection: _Collection, origin: _Origin, keep: bool, progress: bool, wait: float, result: download.Download
) -> None:
    """Take the wanted clips from the archives of a mirror, one after the other."""
    collection.final_reason = f"not in {origin.repository} at {origin.revision[:12]}"
    index = origin.store / "contents"
    heads = [path for path in origin.shards if not archives.SPLIT.search(path)]
    todo = [path for path in heads if _is_of_use(index / f"{origin.shards[path].name}.json", origin, collection)]
    sizes = [sum(remote.size or 0 for remote in _group(path, origin)) for path in todo]
    if todo:
        all_wanted = len(collection.wanted) >= 0.9 * len(collection.split)
        needed = (sum(sizes) if all_wanted else 0) + (sum(sizes) if keep else max(sizes))
        archives.check_space(collection.root, needed, f"AudioSet from {origin.repository}")
    bar = progress_bars.bar(len(todo), f"{origin.repository}: archives", unit="archive") if progress else None
    for path in todo:
        if not collection.open:
            break
        try:
            group = _group(path, origin)
            local = [archives.fetch(remote, origin.store, progress, wait) for remote in group][-1]
            names, bad = _take_shard(collection, local)
            os.sync()  # what is said to be done must be on the disk
            files.write_json(
                index / f"{local.name}.json", {"revision": origin.revision, "clips": names, "unusable": bad}
            )
        except DataError as fault:
            result.parts.append(download.Part(path, "failed", str(fault)))
        else:
            if not keep:
                for remote in group:
                    (origin.store / remote.name).unlink(missing_ok=True)
        collection.save(SAVE_EVERY)
        if bar is not None:
            bar.update()
    if bar is not None:
        bar.close()


def _group(path: str, origin: _Origin) -> list[Remote]:
    """An archive's files: the parts of a split zip, and the last, which has its list."""
    stem = path.removesuffix(".zip")
    pattern = re.compile(re.escape(stem) + r"\.z\d\d+")
    parts = sorted(other for other in origin.shards if path.endswith(".zip") and pattern.fullmatch(other))
    return [origin.shards[part] for part in (*parts, path)]


def _is_of_use(index: Path, origin: _Origin, collection: _Collection) -> bool:
    """Whether an archive may hold a clip that is still needed, so far as is known from an earlier call."""
    if not index.is_file():
        return True
    known = files.read_json(index)
    if known.get("revision") != origin.revision:
        return True
    for name, reason in known["unusable"].items():
        if name in collection.split:
            collection.reasons.setdefault(name, reason)
    return any(collection.needs(name) and name not in known["unusable"] for name in known["clips"])


def _take_shard(collection: _Collection, shard: Path) -> tuple[list[str], dict[str, str]]:
    """Take the clips out of a zip, tar or parquet file; the ids in it, and what is wrong with unusable ones."""
    names: list[str] = []
    bad: dict[str, str] = {}
    reader = _read_parquet if shard.suffix == ".parquet" else _read_archive
    for name, content in reader(collection, shard):
        names.append(name)
        if not collection.needs(name):
            continue
        data = content()
        if isinstance(data, str):
            collection.fail(name, data)
        else:
            collection.take(name, data)
        if name in collection.reasons:
            bad[name] = collection.reasons[name]
    return names, bad


Content = Callable[[], bytes | str]  # gives a clip's bytes, or what is wrong with it


def _read_archive(collection: _Collection, shard: Path) -> Iterator[tuple[str, Content]]:
    """The clips in a zip or tar; in a WebDataset the JSON beside a clip tells its id."""
    with archives.opened(shard) as contents:
        notes = {member.path.with_suffix(""): member for member in contents.members if member.path.suffix == ".json"}
        for member in contents.members:
            if member.path.suffix.lower() not in SOUND:
                continue
            candidates = [member.path.stem]
            if (note := notes.get(member.path.with_suffix(""))) is not None:
                candidates = [*_ids_in_note(note, shard), *candidates]
            name = collection.identify(*candidates)
            if name is None:
                collection.unlisted[member.path.name] += 1
            else:
                yield name, lambda member=member: _content(member, shard)


def _ids_in_note(note: archives.Member, shard: Path) -> list[str]:
    """The values of a JSON member that may be a clip's id."""
    if note.size > 1 << 20:
        return []
    try:
        fields = json.loads(b"".join(archives.blocks(note, shard)))
    except ValueError:
        return []
    keys = ("id", "video_id", "ytid", "youtube_id", "YTID", "audio_id", "filename")
    values = [fields.get(key) for key in keys] if isinstance(fields, dict) else []
    return [PurePosixPath(value).stem if "." in value else value for value in values if isinstance(value, str)]


def _content(member: archives.Member, shard: Path) -> bytes | str:
    if member.size > LARGEST_CLIP:
        return f"{human(member.size)} in {shard.name}: too large for a clip of 10 s"
    return b"".join(archives.blocks(member, shard))


def _read_parquet(collection: _Collection, shard: Path) -> Iterator[tuple[str, Content]]:
    """The clips in a parquet file with the columns `video_id` and `audio` (bytes, path)."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(shard) as table:
            missing = {"video_id", "audio"} - set(table.schema_arrow.names)
            if missing:
                raise DataError(f"{shard} has no column {some(sorted(missing))}; it isn't one of AudioSet's.")
            for batch in table.iter_batches(batch_size=32, columns=["video_id", "audio"]):
                for row in batch.to_pylist():
                    sound = row["audio"] or {}
                    path = PurePosixPath(sound.get("path") or "")
                    name = collection.identify(str(row["video_id"]), path.stem)
                    if name is None:
                        collection.unlisted[str(row["video_id"])] += 1
                    else:
                        data = sound.get("bytes") or "the row has no sound"
                        yield name, lambda data=data: data
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(f"{shard} is cut off, damaged or no parquet file ({error}). {archives.AGAIN}") from error


# --- a folder that one has -------------------------------------------------------------------------------------


def plan_folder(path: str | Path, link: str = "symlink", rate: float = download.RATE) -> pd.DataFrame:
    """What taking a folder that one has costs: a row a kind of file.

    Columns: kind, files, bytes, disk (bytes), hours, at `rate` bytes a second for what is copied and
    `HEADERS_PER_SECOND` for what is only looked at.
    """
    given = Path(path)
    if not given.is_dir():
        raise DataError(f"{given} is no folder. Give the folder that has the clips.")
    rows = []
    for kind, found in zip(("sound", "archives", "packed"), _found_in(given, None), strict=True):
        size = sum(file.stat().st_size for file in found)
        copied = size if kind == "archives" or link == "copy" else 0
        looked_at = len(found) / HEADERS_PER_SECOND if kind == "sound" else 0
        rows.append((kind, len(found), float(size), float(copied), (copied / rate + looked_at) / 3600))
    return pd.DataFrame(rows, columns=["kind", "files", "bytes", "disk", "hours"])


def _found_in(given: Path, own: Path | None) -> tuple[list[Path], list[Path], list[Path]]:
    """Sound files, archives and packed files at any depth of a folder, but not in `own`."""
    sounds, shards, packed = [], [], []
    kinds = {**dict.fromkeys(SOUND, sounds), **dict.fromkeys(SHARDS, shards), **dict.fromkeys(PACKED, packed)}
    for place, folders, names in os.walk(given):
        # the folder may hold the data root
        folders[:] = sorted(name for name in folders if (Path(place) / name).resolve() != own)
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in kinds and not name.startswith("."):
                kinds[suffix].append(Path(place) / name)
    return sounds, shards, packed


def _from_folder(collection: _Collection, given: Path, link: str, progress: bool, result: download.Download) -> None:
    """Take what a folder has: sound files by id, archives of a mirror, the authors' HDF5 files."""
    collection.final_reason = f"not in {given}"
    own = collection.root.resolve()
    sounds, shards, packed = _found_in(given, own)
    if given.resolve() != own and not (sounds or shards or packed):
        raise DataError(
            f"{given} has no sound files ({', '.join(SOUND)}), archives ({', '.join(SHARDS)}) or packed files "
            f"({', '.join(PACKED)}). Give the folder that has the clips."
        )
    if link == "copy":
        archives.check_space(collection.root, sum(path.stat().st_size for path in sounds + packed), "Copying")
    _take_files(collection, sounds, link, progress)
    for shard in shards:
        try:
            _take_shard(collection, shard)
        except DataError as fault:
            result.parts.append(download.Part(shard.name, "failed", str(fault)))
        collection.save(SAVE_EVERY)
    if packed:
        _register_packed(collection, packed, link, result)


def _take_files(collection: _Collection, sounds: list[Path], link: str, progress: bool) -> None:
    """Link or copy sound files into the official layout."""
    chosen: dict[str, Path] = {}
    for path in sounds:
        name = collection.identify(path.stem)
        if name is None:
            collection.unlisted[path.name] += 1
        elif collection.needs(name) and (name not in chosen or path.suffix.lower() == ".wav"):
            chosen[name] = path
    bar = progress_bars.bar(len(chosen), "checking clips", unit="clip") if progress else None
    with futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda item: collection.take(item[0], item[1], link), chosen.items()):
            if bar is not None:
                bar.update()
    if bar is not None:
        bar.close()


def _register_packed(collection: _Collection, packed: list[Path], link: str, result: download.Download) -> None:
    """Link or copy the authors' packed files to `hdf5s/waveforms/`, those that are whole."""
    import h5py

    from pannslib.datasets.packed import PackedClips

    rows = 0
    for path in packed:
        try:
            with h5py.File(path, "r") as store:
                if "waveform" not in store and "index_in_hdf5" in store:
                    result.notes.append(f"{path.name} is an index, which isn't needed; ignored.")
                    continue
        except OSError as error:
            result.parts.append(download.Part(path.name, "failed", f"{path} can't be opened as HDF5: {error}"))
            continue
        try:
            clips = PackedClips(path)
            if not len(clips):
                raise DataError(f"{path} has no clip in it. Get the file again.")
            classes = clips.targets.shape[1]
            official = len(reference.class_labels())
            if classes != official:
                raise DataError(f"{path} has {classes} classes, but AudioSet has {official}.")
            names = [collection.identify(Path(name).stem) for name in clips.names]
        except DataError as fault:
            result.parts.append(download.Part(path.name, "failed", str(fault)))
            continue
        target = collection.root / "hdf5s" / "waveforms" / _packed_place(path)
        if target.resolve() != path.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.part")
            temporary.unlink(missing_ok=True)
            LINKS[link](path, temporary)
            os.replace(temporary, target)
        collection.there |= {name for name in names if name}
        rows += len(names)
        remark = f"{len(names):,} clips, {clips.sample_rate:,} Hz" if hasattr(clips, "sample_rate") else ""
        result.parts.append(download.Part(path.name, "there", remark))
    collection.new += rows


def _packed_place(path: Path) -> PurePosixPath:
    """Where a packed file belongs below `hdf5s/waveforms/`: as in the authors' workspace."""
    folders = path.parts[:-1]
    if "waveforms" in folders:
        return PurePosixPath(*path.parts[len(folders) - folders[::-1].index("waveforms") :])
    return PurePosixPath("unbalanced_train" if path.name.startswith("unbalanced_train_") else "", path.name)


# --- each clip from its source ---------------------------------------------------------------------------------


def _from_videos(collection: _Collection, workers: int, progress: bool) -> None:
    """Fetch the clips with yt-dlp, several at once."""
    program = shutil.which("yt-dlp")
    if program is None:
        raise DataError(
            "yt-dlp isn't there, which fetches clips from their source. Install it and ffmpeg, for instance with "
            "pip install yt-dlp, or choose another source."
        )
    collection.final_reason = "not asked for yet"
    settled = {
        name: reason for name, reason in collection.earlier.items() if GONE.search(reason) and not collection.retry
    }
    todo = [name for name in collection.open if name not in settled]
    for name, reason in settled.items():
        collection.fail(name, reason)
    size = _clip_bytes("youtube")
    archives.check_space(collection.root, int(len(todo) * size), f"{len(todo):,} clips of AudioSet")
    bar = progress_bars.bar(len(todo), "clips from their source", unit="clip") if progress else None
    blocked = 0
    running: set = set()
    stop = threading.Event()
    with tempfile.TemporaryDirectory(prefix="clips-", dir=_made(collection.root)) as scratch:
        pool = futures.ThreadPoolExecutor(max(1, workers))
        try:
            queue = iter(todo)
            while True:
                while len(running) < 2 * max(1, workers) and (name := next(queue, None)) is not None:
                    running.add(pool.submit(_fetch_video, collection, program, name, Path(scratch), stop))
                if not running:
                    break
                done, running = futures.wait(running, return_when=futures.FIRST_COMPLETED)
                for future in done:
                    fault = future.result()
                    blocked = blocked + 1 if fault and BLOCKED.search(fault) else 0
                    if bar is not None:
                        bar.update()
                collection.save(SAVE_EVERY)
                if blocked >= BLOCKED_IN_A_ROW:
                    raise DataError(
                        f"The source refuses to answer ({fault}). Wait some hours, use fewer workers, and call again: "
                        "what came is kept."
                    )
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            if bar is not None:
                bar.close()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch_video(collection: _Collection, program: str, name: str, scratch: Path, stop: threading.Event) -> str | None:
    """Fetch one clip with yt-dlp; what went wrong, or None."""
    start, end = collection.times[name]
    # a folder a clip, so that half of one is never taken for another
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        fault = _run(
            [
                *(program, "--quiet", "--no-warnings", "--no-playlist", "--no-progress"),
                *("--format", "bestaudio/best", "--extract-audio", "--audio-format", "wav"),
                *("--postprocessor-args", "ExtractAudio:-ac 1 -ar 32000"),
                *("--download-sections", f"*{start:g}-{end:g}", "--force-keyframes-at-cuts"),
                *("--retries", "3", "--socket-timeout", "30"),
                *("--output", f"{folder}/Y{name}.%(ext)s", "--", VIDEO + name),
            ],
            stop,
        )
        found = [path for path in sorted(Path(folder).glob(f"Y{name}.*")) if path.suffix in SOUND]
        if fault is None and not found:
            fault = "yt-dlp ended without an error, but left no sound file"
        if fault is None:
            collection.reasons.pop(name, None)
            collection.take(name, found[0])
            fault = collection.reasons.get(name)
        else:
            collection.fail(name, fault)
    return fault


def _run(command: list[str], stop: threading.Event) -> str | None:
    """Run a program to its end, or kill it at its time limit or when all is to stop; what it complained of, or None."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as task:
        deadline = time.monotonic() + VIDEO_TIMEOUT
        complaints = b""
        while True:
            try:
                complaints = task.communicate(timeout=0.5)[1]
                break
            except subprocess.TimeoutExpired:
                if stop.is_set() or time.monotonic() > deadline:
                    task.kill()
                    task.communicate()
                    return "stopped" if stop.is_set() else f"no answer within {VIDEO_TIMEOUT} s"
    if task.returncode == 0:
        return None
    lines = [line.strip() for line in complaints.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines
    return errors[-1].removeprefix("ERROR:").strip()[:300] if errors else f"yt-dlp ended with code {task.returncode}"
