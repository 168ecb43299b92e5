"""Rewrites the state database so that deleted revisions leave the disk. Runs beside normal work.

LevelDB compacts a range of keys while reads and writes go on; only the memory table's flush at the start makes writers
wait. So the whole key space is cut into slices, by a helper thread that lives as long as the defragmentation, and the
loop hears of each slice that is done.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.storage.leveldb import Database, LevelError, translate

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from pathlib import Path

    from etcdpy.storage.errors import StorageError

    Progress = Callable[[int, int], None]
    Done = Callable[[StorageError | None], None]

_KEY_DIGITS = 9
"""How many leading bytes of a key slicing looks at: a bucket letter and a revision's main part."""


def slices(database: Database, slice_bytes: int) -> list[tuple[bytes, bytes]]:
    """Ranges that cover every key, each of about `slice_bytes` on disk where keys are spread evenly."""
    with database.iterator(include_value=False) as keys:
        first = next(keys, b"")
    with database.iterator(include_value=False, reverse=True) as keys:
        last = next(keys, b"")
    low, high = _number(first), _number(last)
    total = database.approximate_size(b"", b"\xff" * _KEY_DIGITS)
    return _cut(database, low, high, total, slice_bytes)


def _cut(database: Database, low: int, high: int, total: int, slice_bytes: int) -> list[tuple[bytes, bytes]]:
    """Halve until small enough; the first and last range reach to the ends of the key space."""
    pending, done = [(low, high + 1, total)], []
    while pending:
        start, stop, size = pending.pop()
        if size <= slice_bytes or stop - start < 2:
            done.append((start, stop))
            continue
        middle = (start + stop) // 2
        pending.append((middle, stop, database.approximate_size(_key(middle), _key(stop))))
        pending.append((start, middle, database.approximate_size(_key(start), _key(middle))))
    ranges = [(_key(start), _key(stop)) for start, stop in done]
    ranges[0] = (b"", ranges[0][1])
    ranges[-1] = (ranges[-1][0], b"\xff" * (_KEY_DIGITS + 1))
    return ranges


def _number(key: bytes) -> int:
    return int.from_bytes(key[:_KEY_DIGITS].ljust(_KEY_DIGITS, b"\0"), "big")


def _key(number: int) -> bytes:
    return min(number, (1 << 8 * _KEY_DIGITS) - 1).to_bytes(_KEY_DIGITS, "big")


class Defragmentation:
    """One run. `cancel` makes it stop after the current slice."""

    def __init__(self, database: Database, path: Path, loop: AbstractEventLoop, progress: Progress, done: Done) -> None:
        self._database = database
        self._path = path
        self._loop = loop
        self._progress = progress
        self._done = done
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, name="etcdpy-defragment")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop after the slice that runs, and wait for it."""
        self._cancelled = True
        self._thread.join()

    def _run(self) -> None:
        error: StorageError | None = None
        try:
            ranges = slices(self._database, limits.DEFRAGMENT_SLICE_BYTES)
            for number, (start, stop) in enumerate(ranges, start=1):
                if self._cancelled:
                    break
                self._database.compact_range(start=start, stop=stop)
                self._report(self._progress, number, len(ranges))
        except LevelError as failure:
            error = translate(self._path, failure)
        self._report(self._done, error)

    def _report(self, callback: Callable[..., None], *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *arguments)
