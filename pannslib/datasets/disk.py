"""Disks that are full: room that is reserved before a file is filled, and errors of all writers that say so."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pannslib.errors import DataError, PannsError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # by the file system
COPY_BYTES = 1 << 24  # written at once


@contextmanager
def told_of_full_disk(path: Path, kept: str = "what is packed already is kept", needed: int = 0) -> Iterator[None]:
    """Turn every way to say that `path` can't be written for want of space into a DataError.

    Args:
        path: of the file that is written.
        kept: what a reader need not fear for.
        needed: bytes of the file, where they are known.
    """
    try:
        yield
    except PannsError:  # it was told already
        raise
    except Exception as fault:
        number = _number_of(fault)
        if number not in FULL_DISK:
            raise
        free, wanted = shutil.disk_usage(path.parent).free, f"of {max(0.1, needed / 2**20):,.1f} MiB " if needed else ""
        raise DataError(
            f"{path} {wanted}could not be written: {os.strerror(number).lower()} ({free / 2**20:,.0f} MiB are free in "
            f"{path.parent}). Make room, or write to another disk, and start again: {kept}."
        ) from fault


def _number_of(fault: BaseException | None) -> int | None:
    """The system's number of an error: HDF5 and safetensors have it in their message, torch in what it hides."""
    while fault is not None:
        said = re.search(r"(?:errno = |os error )(\d+)", str(fault))
        number = int(said[1]) if said else getattr(fault, "errno", None)
        if number is not None:
            return number
        fault = fault.__context__
    return None


def reserve(path: Path, size: int) -> None:
    """Give `path` all of its `size` bytes on the disk, OSError if they aren't there.

    A memory map of a file that has its size only in name ends the process when the disk is full.
    """
    with open(path, "ab") as file:
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(file.fileno(), 0, size)
                return
            except OSError as fault:
                if fault.errno not in NOT_SUPPORTED:
                    raise
        _fill(file, size)


def _fill(file, size: int) -> None:
    """Write zeros behind what there is of an open file, up to `size` bytes."""
    file.seek(0, os.SEEK_END)
    for start in range(file.tell(), size, COPY_BYTES):
        file.write(bytes(min(COPY_BYTES, size - start)))
    file.flush()
    os.fsync(file.fileno())
