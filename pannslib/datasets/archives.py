"""Archives: fetch them so that nothing is lost, and unpack them so that nothing can go wrong.

    archive = fetch(Remote("clips.zip", "https://host/clips.zip", md5="..."), folder)
    unpack(archive, "data/raw/clips")

A file that is fetched has a temporary name until its size and checksum are right; a transfer that was cut off goes on
where it stopped. Where nobody published a checksum, the one computed at the first download is kept in `checksums.json`
beside the file, and the file must have it from then on.

An archive is read through before anything is written: it is refused whole if a path or a link of it leaves the folder,
if it unpacks to implausibly much, or if the disk is too small for it. Zip (also in parts, `.z01` or `.zip.001`) and tar
(also compressed) are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from pannslib import files
from pannslib import progress as progress_bars
from pannslib.datasets.base import some
from pannslib.errors import DataError

LOCK = "checksums.json"  # sizes and checksums of what was fetched into a folder
ATTEMPTS = 5  # without a single new byte in between
WAIT = 1.0  # seconds before the second attempt; doubled before each further one
LONGEST_WAIT = 60.0  # seconds
TIMEOUT = (10, 60)  # seconds to connect, seconds without a byte
BLOCK = 1 << 20  # bytes read from a file at once
CHUNK = 1 << 16  # bytes received at once: what is lost at most where a transfer is cut off
SPARE = 64 << 20  # bytes of the disk that are left free
# an archive may unpack to this many times its own size, and a little more: sound shrinks to a third at best
LARGEST_RATIO, SLACK = 100, 16 << 20
JUNK = re.compile(r"(^|/)(__MACOSX(/|$)|\._|\.DS_Store$|Thumbs\.db$|desktop\.ini$)")  # what systems add to archives
SPLIT = re.compile(r"\.(z\d\d+|zip\.\d\d\d+)$", re.IGNORECASE)
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError)


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched: its name, its address, and what is known of it (size in bytes, checksums in hex)."""

    name: str
    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None


# --- fetching --------------------------------------------------------------------------------------------------


def fetch(remote: Remote, folder: str | Path, progress: bool = False, wait: float = WAIT) -> Path:
    """The file `remote` in `folder`: as it lies there, or downloaded.

    Args:
        remote: what to fetch.
        folder: where to; made if need be.
        progress: show a bar.
        wait: seconds before the second attempt.

    Raises:
        DataError: a file that lies there isn't `remote`; it is not at the address; it can't be had or isn't what was
            published, after some attempts; the disk is too small. What came of it so far is kept for the next call,
            unless it is wrong.
    """
    folder = Path(folder)
    path = folder / remote.name
    with exclusive(folder, remote.name):
        if path.is_file():
            check(remote, path)
            return path
        if path.exists():
            raise DataError(f"{path} is no file, so {remote.name} can't be put there. Move it away.")
        _record(remote, path, folder, _download(remote, path, progress, wait))
    return path


def check(remote: Remote, path: Path, folder: Path | None = None) -> None:
    """Compare the file `path` with what is known of `remote`, and keep its checksum in `folder` (its own if None).

    Raises:
        DataError: another size or checksum than was published, or than it had when it was first fetched.
    """
    folder = folder or path.parent
    known = checksums(folder).get(remote.name, {})
    status = path.stat()
    if known.get("modified") == status.st_mtime_ns and known.get("size") == status.st_size and _agrees(remote, known):
        return  # was checked when it was as it is
    if remote.size is not None and status.st_size != remote.size:
        kind = "cut off" if status.st_size < remote.size else "not the one that was published"
        raise DataError(
            f"{path} is {kind}: it has {status.st_size:,} bytes, but {remote.size:,} belong there. Delete it and "
            "download it again."
        )
    found = _digests(path)
    fault = _mismatch(remote, found) or _mismatch(Remote("", "", sha256=known.get("sha256")), found)
    if fault:
        raise DataError(f"{path} is not what it should be: {fault}. Delete it and download it again.")
    _record(remote, path, folder, found)


def checksums(folder: Path) -> dict[str, dict]:
    """What `checksums.json` of a folder says: name of a file -> address, size, md5, sha256, whether published."""
    path = folder / LOCK
    if not path.is_file():
        return {}
    try:
        content = files.read_json(path)
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}). Delete it; the checksums are computed again.") from error
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def exclusive(folder: Path, name: str) -> Iterator[None]:
    """Let one process at a time work on the file `name` in `folder`; DataError if another one does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"Another process is getting {folder / name}. Wait until it has finished.") from error
    try:
        yield
    finally:
        lock.release()


def human(size: float | None) -> str:
    """A number of bytes as people read it: "1.2 GB"; "?" where it isn't known."""
    if size is None or size != size:
        return "?"
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 99.5 else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB" if size < 999.5 else f"{size:,.0f} TB"


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """DataError unless the disk of `folder` (which may not be there yet) has room for `needed` bytes."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed + SPARE > free:
        raise DataError(
            f"{purpose} needs {human(needed)} in {folder}, but the disk has only {human(free)} left. Make room, or "
            "choose a folder on another disk."
        )


class _Wrong(Exception):
    """What came isn't the file that was asked for: nothing of it may be kept."""


class _Gone(Exception):
    """The server says that there is no such file, or not for us: asking again is no use."""


class _Part:
    """The file of a transfer on its way, as pooch's downloader writes to it."""

    def __init__(self, remote: Remote, path: Path, target: Path, progress: bool):
        """Go on with the file `path`, which is to become `target`."""
        self.remote, self.path, self.target, self.progress = remote, path, target, progress
        self.about = path.with_name(path.name + ".json")
        known = files.read_json(self.about) if path.is_file() and self.about.is_file() else {}
        # half of another file must not be continued
        self.validator = known.get("validator") if known.get("url") == remote.url else None
        if known.get("url") != remote.url:
            path.unlink(missing_ok=True)
        self.start = path.stat().st_size if path.is_file() else 0
        self.file = open(path, "ab")  # noqa: SIM115 closed by close()
        self.total: int | None = remote.size
        self.came = 0
        self.bar = None

    @property
    def headers(self) -> dict[str, str]:
        """What to ask the server for."""
        headers = {"Accept-Encoding": "identity"}
        if self.start:
            headers["Range"] = f"bytes={self.start}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return headers

    def answered(self, response, *_, **__) -> None:
        """See what the server is going to send, before it does."""
        if response.is_redirect:
            return
        code = response.status_code
        if code == 416:  # there is nothing after what is there: it is all of it, or of another file
            total = response.headers.get("Content-Range", "").rpartition("/")[2]
            if not (total.isdecimal() and int(total) == self.start):
                raise _Wrong("what was there of it is longer than the file")
            self.total = self.start
            return
        if code in (400, 401, 403, 404, 405, 410, 451):
            raise _Gone(f"the server answers {code} {response.reason}")
        if code not in (200, 206):
            return  # raised by pooch
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if code == 206 and not (span and int(span[1]) == self.start):
            raise _Wrong("the server sent another part than was asked for")
        if code == 200:  # the whole file, though a part of it was asked for
            self.file.seek(0)
            self.file.truncate()
            self.start = 0
        length = response.headers.get("Content-Length", "")
        total = (int(span[2]) if span[2] != "*" else None) if code == 206 else None
        if total is None and length.isdecimal():
            total = self.start + int(length)
        if self.remote.size is not None and total is not None and total != self.remote.size:
            raise _Wrong(f"the server has {total:,} bytes, but {self.remote.size:,} were published")
        self.total = self.remote.size if total is None else total
        if self.total is not None:
            check_space(self.path.parent, self.total - self.start, self.remote.name)
        etag = response.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
        files.write_json(self.about, {"url": self.remote.url, "validator": validator})
        if self.progress:
            self.bar = progress_bars.bar(self.total or 0, self.remote.name, self.start, unit="B")
            if hasattr(self.bar, "unit_scale"):
                self.bar.unit_scale = True

    def write(self, block: bytes) -> None:
        """Take a block that came."""
        if self.total is not None and self.start + self.came + len(block) > self.total:
            raise _Wrong(f"more than the {self.total:,} bytes came that were announced")
        self.file.write(block)
        self.came += len(block)
        if self.bar is not None:
            self.bar.update(len(block))

    def flush(self) -> None:
        """Leave it to the system when blocks reach the disk: all of them do before the file gets its name."""

    def close(self) -> None:
        """Stop the transfer, whole or not."""
        self.file.close()
        if self.bar is not None:
            self.bar.close()

    def discard(self) -> None:
        """Remove what came."""
        self.path.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def finish(self) -> dict[str, str]:
        """Give the file its name if it is what was published; _Wrong or OSError otherwise. Returns its digests."""
        size = self.path.stat().st_size
        if self.total is not None and size < self.total:
            raise OSError(f"the connection ended after {size:,} of {self.total:,} bytes")
        if self.total is not None and size > self.total:
            raise _Wrong(f"it has {size:,} bytes, but {self.total:,} belong there")
        found = _digests(self.path)
        locked = checksums(self.target.parent).get(self.target.name, {})
        fault = _mismatch(self.remote, found)
        if not fault and (fault := _mismatch(Remote("", "", sha256=locked.get("sha256")), found)):
            fault += f" (so says {LOCK} of the first download; delete its entry if the file is meant to have changed)"
        if fault:
            raise _Wrong(fault)
        with open(self.path, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.path, self.target)
        self.about.unlink(missing_ok=True)
        return found


def _download(remote: Remote, path: Path, progress: bool, wait: float) -> dict[str, str]:
    """Download `remote` to `path`, by way of a part that outlives a transfer that is cut off; returns its digests."""
    import pooch  # what it needs takes a second to import, and only downloads do
    import requests

    temporary = path.with_name(f".{path.name}.part")
    without_progress, wrong, furthest = 0, 0, 0
    while True:
        part = _Part(remote, temporary, path, progress)
        try:
            if remote.size is None or part.start < remote.size:
                _transfer(pooch, part)
            else:
                part.close()
            return part.finish()
        except _Gone as fault:
            part.discard()
            raise DataError(
                f"{remote.name} can't be had from {remote.url}: {fault}. Download it by hand and put it into "
                f"{path.parent}, or try another source."
            ) from None
        except _Wrong as fault:
            part.discard()
            wrong += 1
            if wrong >= 2:  # some hosts send a wrong file once in a while
                raise DataError(
                    f"{remote.name} from {remote.url} is not what was published: {fault}. Nothing of it was kept. Try "
                    "again later, or get the file by hand."
                ) from None
        except (requests.RequestException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None and not _of_the_network(error):
                raise  # of the disk: full, read-only
            reached = temporary.stat().st_size if temporary.is_file() else 0
            without_progress = 1 if reached > furthest else without_progress + 1
            furthest = max(furthest, reached)
            if without_progress >= ATTEMPTS:
                raise DataError(
                    f"{remote.name} can't be had from {remote.url}: {_explanation(error)}. What came so far is kept "
                    f"({human(reached)}): the same call goes on from there. Or download it by hand into {path.parent}."
                ) from None
            time.sleep(min(LONGEST_WAIT, max(wait * 2 ** (without_progress - 1), _asked_to_wait(error))))
        finally:
            part.close()


def _transfer(pooch, part: _Part) -> None:
    """Receive what is missing of a part."""
    download = pooch.HTTPDownloader(
        chunk_size=CHUNK, headers=part.headers, timeout=TIMEOUT, hooks={"response": part.answered}
    )
    try:
        download(part.remote.url, part, None)
    except OSError as error:
        response = getattr(error, "response", None)
        if response is None or response.status_code != 416:
            raise
    finally:
        part.close()


def _of_the_network(error: OSError) -> bool:
    import requests

    return isinstance(error, requests.RequestException | ConnectionError | TimeoutError)


def _asked_to_wait(error: Exception) -> float:
    """How many seconds the server wants us to wait."""
    response = getattr(error, "response", None)
    text = response.headers.get("Retry-After", "") if response is not None else ""
    return float(text) if text.isdecimal() else 0.0


def _explanation(error: Exception) -> str:
    """What a failed transfer means, in one line."""
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code} {response.reason}"
    if isinstance(error, requests.Timeout):
        return "the server doesn't answer in time"
    if isinstance(error, requests.ConnectionError) and "Name" in str(error) + repr(error.args):
        return "there is no connection, or no such host"
    return str(error).strip().rstrip(".") or type(error).__name__


def _digests(path: Path) -> dict[str, str]:
    """MD5 and SHA-256 of a file, in one reading."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return {"md5": md5.hexdigest(), "sha256": sha256.hexdigest()}


def _mismatch(remote: Remote, found: dict[str, str]) -> str | None:
    """How the digests of a file differ from what is known."""
    for kind in ("sha256", "md5"):
        wanted = getattr(remote, kind)
        if wanted and wanted.lower() != found[kind]:
            return f"its {kind} is {found[kind]}, but {wanted} is expected"
    return None


def _agrees(remote: Remote, known: dict) -> bool:
    pairs = [(remote.size, known.get("size")), (remote.md5, known.get("md5")), (remote.sha256, known.get("sha256"))]
    return all(wanted is None or wanted == found for wanted, found in pairs)


def _record(remote: Remote, path: Path, folder: Path, found: dict[str, str]) -> None:
    """Write what is known of the file `path` into the lock file of `folder`."""
    status = path.stat()
    entry = {
        "url": remote.url,
        "size": status.st_size,
        "modified": status.st_mtime_ns,
        **found,
        "published": bool(remote.md5 or remote.sha256),  # or else the checksum is the first download's
    }
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{LOCK}.lock"):
        known = checksums(folder)
        known[remote.name] = entry
        files.write_json(folder / LOCK, known)


def get_json(url: str) -> tuple[object, dict[str, str]]:
    """The JSON that an address gives, and the relations of its `Link` header; DataError if it can't be had."""
    import requests

    for attempt in range(ATTEMPTS):
        try:
            response = requests.get(url, timeout=TIMEOUT)
            if response.status_code < 500 and response.status_code != 429:
                response.raise_for_status()
                links = {name: link["url"] for name, link in response.links.items()}
                return response.json(), links
            fault = f"the server answers {response.status_code} {response.reason}"
        except ValueError as error:  # also no JSON
            raise DataError(f"{url} gives no list of files ({error}).") from error
        except requests.HTTPError as error:
            raise DataError(f"{url} can't be read: {_explanation(error)}.") from error
        except requests.RequestException as error:
            fault = _explanation(error)
        if attempt + 1 < ATTEMPTS:
            time.sleep(min(WAIT * 2**attempt, 4))
    raise DataError(f"{url} can't be read: {fault}. Check the connection, and try again.")


def remote_size(url: str) -> int | None:
    """How many bytes the server says that a file has; None where it doesn't say, or isn't there."""
    import requests

    try:
        response = requests.head(url, timeout=TIMEOUT, allow_redirects=True, headers={"Accept-Encoding": "identity"})
    except requests.RequestException:
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if response.ok and length.isdecimal() else None


def name_of(url: str) -> str:
    """The name of the file at an address."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


# --- what is in an archive -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """A file in an archive: its checked path, its bytes as declared, and how to read it."""

    path: PurePosixPath
    size: int
    open: Callable[[], BinaryIO]


@dataclass
class Contents:
    """What can be taken from an archive, and what is left alone (a sentence each)."""

    members: list[Member] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes of all members, as declared."""
        return sum(member.size for member in self.members)


@contextlib.contextmanager
def opened(archive: str | Path) -> Iterator[Contents]:
    """Read through the list of an archive and check it; its members can be read while the block runs.

    Raises:
        DataError: no archive of a known kind; cut off or damaged; a path or link that leaves the folder; a password;
            more declared than `LARGEST_RATIO` allows; a part of a split archive missing. In the block: a member that
            is damaged or isn't as long as declared.
    """
    path = Path(archive)
    parts = split_parts(path)
    size = sum(part.stat().st_size for part in parts)
    limit = size * LARGEST_RATIO + SLACK
    with contextlib.ExitStack() as stack:
        try:
            with parts[0].open("rb") as file:
                first = file.read(8)
            if not size:
                raise DataError(f"{path} is empty (0 bytes). {AGAIN}")
            if len(parts) > 1 or first.startswith(b"PK") or path.suffix.lower() == ".zip":
                contents = _list_zip(stack, path, parts, limit)
            else:
                contents = _list_tar(stack, path, limit)
        except (*DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DataError(f"{path} is cut off, damaged or no archive ({_short(error)}). {AGAIN}") from error
        yield contents


AGAIN = "Delete it and download it again."


def unpack(
    archive: str | Path,
    folder: str | Path,
    place: Callable[[PurePosixPath], PurePosixPath | None] | None = None,
    progress: bool = False,
) -> Unpacked:
    """Unpack an archive into `folder`; what is there already, with the right size, is left as it is.

    Every file has a temporary name until it is complete. Nothing is made executable, and no link is made: a link to
    another file in the archive becomes a copy of it.

    Args:
        archive: the file; of an archive in parts the last (`.zip`) or the first (`.zip.001`).
        folder: where to; made if need be.
        place: path in the archive -> path in `folder`, or None for what is not wanted; as it is in the archive where
            left out.
        progress: show a bar.

    Raises:
        DataError: as for `opened`; too little space; a file where a folder must be. What was complete by then stays.
    """
    archive, folder = Path(archive), Path(folder)
    result = Unpacked()
    with opened(archive) as contents:
        result.ignored += contents.ignored
        wanted: dict[PurePosixPath, Member] = {}
        for member in contents.members:
            target = place(member.path) if place else member.path
            if target is None:
                result.ignored.append(str(member.path))
            elif target in wanted:
                raise DataError(f"{archive} holds {target} twice, so it isn't to be trusted. {AGAIN}")
            else:
                wanted[target] = member
        new = {}
        for target, member in wanted.items():
            path = folder / Path(*target.parts)
            result.paths[str(target)] = member.size
            if path.is_file() and path.stat().st_size == member.size:
                result.kept += 1
            else:
                new[path] = member
        check_space(folder, sum(member.size for member in new.values()), f"Unpacking {archive.name}")
        bar = progress_bars.bar(len(new), f"unpacking {archive.name}", unit="file") if progress else None
        for path, member in new.items():
            copy(member, archive, path, folder)
            result.files += 1
            result.bytes += member.size
            if bar is not None:
                bar.update()
        if bar is not None:
            bar.close()
    return result


@dataclass
class Unpacked:
    """How many files and bytes were unpacked, how many were there already, and what was ignored."""

    files: int = 0
    bytes: int = 0
    kept: int = 0
    ignored: list[str] = field(default_factory=list)
    paths: dict[str, int] = field(default_factory=dict)  # bytes of every file, old or new, by its place in the folder

    def __str__(self) -> str:
        text = f"{self.files:,} files unpacked ({human(self.bytes)})"
        text += f", {self.kept:,} were there" if self.kept else ""
        return text + (f", {len(self.ignored):,} ignored: {some(self.ignored, 3)}" if self.ignored else "")


def copy(member: Member, archive: Path, path: Path, folder: Path) -> None:
    """Write a member of `archive` to `path`, somewhere in `folder`, all or nothing; DataError if it is damaged."""
    _make_folders(path.parent, folder, archive)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as target:
            for block in blocks(member, archive):
                target.write(block)
        os.replace(temporary, path)
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder, but {archive} has a file of that name. Move the folder away.") from error
    finally:
        temporary.unlink(missing_ok=True)


def blocks(member: Member, archive: Path) -> Iterator[bytes]:
    """The bytes of a member; DataError if they can't be read or are more or fewer than declared."""
    read = 0
    try:
        with member.open() as source:
            while block := source.read(min(BLOCK, member.size - read + 1)):
                read += len(block)
                if read > member.size:
                    break
                yield block
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{archive} is cut off or damaged: {member.path} can't be read ({_short(error)}). {AGAIN}"
        ) from error
    if read != member.size:
        extent = "more" if read > member.size else f"only {read:,}"
        raise DataError(
            f"{archive} is cut off or damaged: {member.path} is declared to have {member.size:,} bytes, but {extent} "
            f"can be read. {AGAIN}"
        )


def split_parts(path: Path) -> list[Path]:
    """The files of an archive in order: the one, or all parts of one that is split; DataError if a part is missing."""
    if not path.is_file():
        raise DataError(f"There is no archive {path}. Check the path, or download it.")
    name = path.name
    if re.search(r"\.zip\.\d{3,}$", name, re.IGNORECASE):  # cut into pieces: clips.zip.001, clips.zip.002
        stem, width = name.rpartition(".")[0], len(name.rpartition(".")[2])
        numbered = {
            int(file.name[len(stem) + 1 :]): file for file in _siblings(path, rf"{re.escape(stem)}\.\d{{{width}}}")
        }
        first = 0 if 0 in numbered else 1
    else:  # made in parts: clips.z01, clips.z02, clips.zip
        stem = path.name[: -len(path.suffix)]
        numbered = {int(file.suffix[2:]): file for file in _siblings(path, rf"{re.escape(stem)}\.[zZ]\d{{2,}}")}
        if path.suffix.lower() != ".zip" or not numbered:
            return [path]
        first = 1
    missing = sorted(set(range(first, max(numbered) + 1)) - set(numbered))
    if missing:
        raise DataError(
            f"{path} is in parts, of which {some(map(str, missing))} are not there (parts {min(numbered)} to "
            f"{max(numbered)} were looked for). Download them too."
        )
    return [numbered[number] for number in sorted(numbered)] + ([path] if path.suffix.lower() == ".zip" else [])


def _siblings(path: Path, pattern: str) -> list[Path]:
    return [file for file in path.parent.iterdir() if re.fullmatch(pattern, file.name) and file.is_file()]


def _list_zip(stack: contextlib.ExitStack, path: Path, parts: list[Path], limit: int) -> Contents:
    joined = stack.enter_context(_Joined(parts)) if len(parts) > 1 else None
    archive = stack.enter_context(zipfile.ZipFile(joined or path))
    if joined:
        _relocate(archive, joined, path)
    elif archive.infolist() and max(getattr(info, "volume", 0) for info in archive.infolist()) > 0:
        raise DataError(
            f"{path} is the last part of a split archive, whose .z01 and so on are not beside it. Get them."
        )
    contents = Contents()
    for info in archive.infolist():
        name = safe_path(info.orig_filename.replace("\\", "/"), path)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.flag_bits & 1:
            raise DataError(f"{path}: {name} is encrypted. Unpack it by hand with its password.")
        if info.is_dir() or kind == stat.S_IFDIR:
            continue
        if kind == stat.S_IFLNK:
            target = archive.read(info).decode("utf-8", "backslashreplace") if info.file_size < 4096 else ""
            _check_link(name, target, name.parent, path)
            contents.ignored.append(f"{name} (a link)")
        elif kind not in (0, stat.S_IFREG):
            contents.ignored.append(f"{name} (no ordinary file)")
        elif JUNK.search(str(name)):
            contents.ignored.append(str(name))
        else:
            contents.members.append(Member(name, info.file_size, lambda info=info: archive.open(info)))
    _check_total(path, contents.size, limit)
    return contents


def _list_tar(stack: contextlib.ExitStack, path: Path, limit: int) -> Contents:
    archive = stack.enter_context(tarfile.open(path, "r:*"))  # noqa: SIM115
    contents, links, total, found = Contents(), [], 0, {}
    for info in archive:
        name = safe_path(info.name, path)
        total += info.size if info.isreg() else 0
        _check_total(path, total, limit)  # at once, before a bomb is read through
        if info.isdir():
            continue
        if info.issym() or info.islnk():
            base = name.parent if info.issym() else PurePosixPath()
            links.append((name, _check_link(name, info.linkname, base, path)))
        elif not info.isreg():
            contents.ignored.append(f"{name} (no ordinary file)")
        elif JUNK.search(str(name)):
            contents.ignored.append(str(name))
        else:
            found[name] = info
            contents.members.append(Member(name, info.size, lambda info=info: archive.extractfile(info)))
    # tarfile takes an archive that was cut between two members, or in the padding of one, for a whole one
    archive.fileobj.seek(archive.offset)
    end = archive.fileobj.read(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise DataError(f"{path} is cut off: the blocks that end an archive are not there. {AGAIN}")
    for name, target in links:
        if target in found:
            info = found[target]
            total += info.size
            contents.members.append(Member(name, info.size, lambda info=info: archive.extractfile(info)))
        else:
            contents.ignored.append(f"{name} (a link to what is not in the archive)")
    _check_total(path, total, limit)
    return contents


def safe_path(name: str, archive: Path) -> PurePosixPath:
    """A member's path, relative to where the archive is unpacked; DataError if it leads anywhere else."""
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or "\0" in name or re.match(r"[A-Za-z]:", name)
    if unsafe or len(name.encode("utf-8", "surrogateescape")) > 4000:
        raise DataError(
            f"{archive} is refused: its member {name[:200]!r} would be written outside of the folder. Nothing was "
            "unpacked. Get the archive from its official source."
        )
    return path


def _check_link(name: PurePosixPath, target: str, base: PurePosixPath, archive: Path) -> PurePosixPath:
    """What a link in an archive points to; DataError if that is outside of it."""
    inside: list[str] = []
    for step in (base / target.replace("\\", "/")).parts:
        if step == ".." and inside:
            inside.pop()
        elif step in ("..", "/") or re.match(r"[A-Za-z]:", step):
            raise DataError(
                f"{archive} is refused: its member {str(name)!r} is a link to {target[:200]!r}, outside of the "
                "folder. Nothing was unpacked. Get the archive from its official source."
            )
        elif step != ".":
            inside.append(step)
    return PurePosixPath(*inside)


def _check_total(path: Path, total: int, limit: int) -> None:
    if total > limit:
        raise DataError(
            f"{path} is refused: it would unpack to {human(total)} or more, over {LARGEST_RATIO} times its own size, "
            "as archives do that are made to fill disks. Nothing was unpacked. Get it from its official source."
        )


def _make_folders(wanted: Path, folder: Path, archive: Path) -> None:
    """Make `wanted` below `folder`; DataError if a link or a file of the disk is in between."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder
    for step in wanted.relative_to(folder).parts:
        place = place / step
        if place.is_symlink() and not place.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{place} is a link that leaves {folder}, so {archive} isn't unpacked through it.")
        if place.exists() and not place.is_dir():
            raise DataError(f"{place} is a file, but {archive} has a folder of that name. Move the file away.")
    wanted.mkdir(parents=True, exist_ok=True)


def _short(error: BaseException) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


class _Joined(io.RawIOBase):
    """Several files, read as if they were one."""

    def __init__(self, paths: list[Path]):
        """Join the files `paths`, in this order."""
        self.paths = paths
        self.sizes = [path.stat().st_size for path in paths]
        self.starts = [sum(self.sizes[:index]) for index in range(len(paths))]
        self._files = [path.open("rb") for path in paths]
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: sum(self.sizes)}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:
        index = max(number for number, start in enumerate(self.starts) if start <= self._position)
        within = self._position - self.starts[index]
        self._files[index].seek(within)
        block = self._files[index].read(min(len(buffer), max(0, self.sizes[index] - within)))
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)

    def read(self, size: int = -1) -> bytes:
        wanted = sum(self.sizes) - self._position if size is None or size < 0 else size
        pieces = []
        while wanted > 0 and (piece := super().read(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()


def _relocate(archive: zipfile.ZipFile, joined: _Joined, path: Path) -> None:
    """Correct where members begin: a split archive counts from the start of the part, zipfile from that of the file."""
    volumes = [info.volume for info in archive.infolist()]
    if not any(volumes):
        return  # cut into pieces after it was made
    if max(volumes) >= len(joined.paths):
        raise DataError(f"{path} has more parts than the {len(joined.paths)} that are there. Download the others too.")
    # zipfile has added what it takes for something before the archive
    directory = archive.start_dir
    stored = _directory_offset(joined)
    for info in archive.infolist():
        info.header_offset += joined.starts[info.volume] - (directory - stored)
        if hasattr(info, "_end_offset"):
            info._end_offset = None


def _directory_offset(joined: _Joined) -> int:
    """Where the list of a zip begins, as its last record says."""
    joined.seek(max(0, sum(joined.sizes) - (1 << 16) - 22))
    tail = joined.read()
    record = tail[tail.rindex(b"PK\x05\x06") :]
    return int.from_bytes(record[16:20], "little")
