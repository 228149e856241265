"""Writing that loses nothing: to a temporary name in the same folder, then renamed."""

import glob
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

Value = TypeVar("Value")
MOST_REMEMBERED = 100  # files in a record
LONGEST_NAME = 255  # bytes, on most file systems


def shortened(name: str, size: int) -> str:
    """As much of the beginning of a file's name as fits into ``size`` bytes."""
    return os.fsencode(name)[: max(1, size)].decode(errors="ignore")


def _end(path: Path) -> str:
    return f".{uuid.uuid4().hex[:12]}.part{path.suffix}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it when the block ends without an error.

    The file is flushed to the disk before it is renamed, so that ``path`` either is as it was or is complete.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays last: writers such as matplotlib choose the format by it
    end = _end(path)
    temporary = path.with_name("." + shortened(path.stem, LONGEST_NAME - 1 - len(os.fsencode(end))) + end)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(path: Path) -> None:
    """Remove what killed processes left of ``path``, with any suffix, in `replacing`; it can be very large.

    For those who know that no one else is writing it, such as the holder of its lock.
    """
    path = Path(path)
    beginning = shortened(path.stem, LONGEST_NAME - 1 - len(os.fsencode(_end(path))))
    for leftover in path.parent.glob(f".{glob.escape(beginning)}.*.part.*"):
        leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write ``text`` as UTF-8, all or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: Path, content) -> Path:
    """Write ``content`` as indented JSON, all or nothing."""
    return write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remembered(path: Path, record: Path, compute: Callable[[Path], Value]) -> Value:
    """What ``compute(path)`` gives, a JSON-like value: computed once for a file, and again where the file has changed.

    ``record`` keeps the last `MOST_REMEMBERED` values with what tells a file from others; where it can't be written,
    all is computed each time.
    """
    stat, name = path.stat(), str(path.absolute())
    seen = [stat.st_ino, stat.st_size, stat.st_mtime_ns]
    known = read_json(record) if record.is_file() else {}
    *before, value = known.pop(name, [None])
    if before != seen:
        value = compute(path)
        with suppress(OSError):
            write_json(record, dict([*known.items(), (name, [*seen, value])][-MOST_REMEMBERED:]))
    return value


def digest(content) -> str:
    """Sixteen hex digits that stand for a JSON-like value: equal values have equal digests."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
