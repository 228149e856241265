"""Work that Python's threads share: what is compiled lets them run side by side."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache


def in_parallel(work: Callable[..., object], parts: list[tuple], threads: int) -> None:
    """Call ``work(*part)`` for all parts, on so many threads; ``parts`` is empty afterwards."""
    others = [_pool(threads).submit(_until_none_is_left, work, parts) for _ in parts[1:threads]]
    try:
        _until_none_is_left(work, parts)
    finally:  # nobody works on when the caller is interrupted
        for other in others:
            # whoever hasn't begun by now finds nothing left, and in a forked process would never begin
            if not other.cancel():
                other.result()


def _until_none_is_left(work: Callable[..., object], parts: list[tuple]) -> None:
    while True:
        try:
            part = parts.pop()  # one thread at a time: a list is safe
        except IndexError:
            return
        work(*part)


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads beside the caller's."""
    return ThreadPoolExecutor(max(1, threads - 1), "pannslib")
