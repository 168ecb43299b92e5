"""A record in each batch that proves at start that no batch in the middle is missing.

LevelDB notices a broken block, but skips a stretch of zeros in its write-ahead log, and takes an older log file that
was cut for one whose writer died: later batches would then stand on a hole. So each batch carries a record with its
number, and at start the numbers must follow each other up to the newest. Records are removed once their batch has long
left the write-ahead log for a table (whose loss LevelDB notices), so only as many are kept as the log can hold.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from etcdpy.storage.errors import DamagedError
from etcdpy.storage.leveldb import REPLACE

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.storage.leveldb import Batch, Database

KEPT_BYTES: Final = 20 << 20
"""More than two write buffers: the one being filled and the one being flushed."""

_OVERHEAD_BYTES: Final = 64
"""What a batch costs beside its data."""


class BatchChain:
    """The records of one database, under a key prefix."""

    __slots__ = ("_first", "_kept_bytes", "_next", "_prefix", "_sizes")

    def __init__(self, prefix: bytes, first: int, following: int) -> None:
        self._prefix = prefix
        self._first = first
        """The oldest number that still has a record."""
        self._next = following
        # Records from before the start belong to batches that recovery has turned into tables already.
        self._sizes: deque[int] = deque([0] * (following - first))
        self._kept_bytes = 0

    @property
    def number(self) -> int:
        """The newest batch's number; 0 before the first."""
        return self._next - 1

    @staticmethod
    def load(database: Database, prefix: bytes, path: Path) -> BatchChain:
        """Read and check the records. Raises DamagedError naming the first batch that is missing."""
        end = prefix + b"\xff" * 9
        first = expected = 0
        for key in database.iterator(start=prefix, stop=end, include_value=False, verify_checksums=True):
            number = int.from_bytes(key[len(prefix) :], "big")
            if first == 0:
                first = expected = number
            if number != expected:
                raise DamagedError(
                    f"{path}: batch {expected} is missing although batch {number} is there, so a write-ahead file "
                    f"(*.log) was damaged or removed; {REPLACE}"
                )
            expected += 1
        return BatchChain(prefix, first or 1, expected or 1)

    def extend(self, batch: Batch, data_bytes: int) -> None:
        """Put the next record into `batch`, which carries `data_bytes`, and take at most two old ones out."""
        prefix = self._prefix
        batch.put(prefix + self._next.to_bytes(8, "big"), b"")
        self._next += 1
        size = data_bytes + _OVERHEAD_BYTES
        self._sizes.append(size)
        self._kept_bytes += size
        for _ in range(2):
            if self._kept_bytes - self._sizes[0] < KEPT_BYTES and self._sizes[0]:
                break
            if len(self._sizes) == 1:
                break
            self._kept_bytes -= self._sizes.popleft()
            batch.delete(prefix + self._first.to_bytes(8, "big"))
            self._first += 1
