"""Records that were written or read a moment ago, within a bound.

A record is found again by its packed revision, and revisions never change, so nothing here is ever out of date. Two
generations take turns: what is added goes to the young one; when that is full it becomes the old one, and the old one
before it is dropped whole. That is what an exact order of use would give, near enough, at the price of a dict store.
What is written in one go is not even that: it stays a run, until somebody reads a record of it.

Why it is there: a list of 10,000 records of 1 KB takes 10 ms of LevelDB's time, most of it for checksums and copies,
and 1 ms from here; a read of one key 4 us and 0.1 us.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from etcdpy.limits import RECORD_CACHE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

OVERHEAD_BYTES: Final = 160
"""What an entry takes beside its bytes: the objects' headers, the key's integer, its share of the dict."""


class _Generation:
    """Records by their packed revisions, and runs of them that nobody has read from."""

    __slots__ = ("_runs", "_starts", "records")

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self._starts: list[int] = []
        self._runs: list[tuple[range, list[bytes]]] = []

    def add_run(self, packed: range, records: list[bytes]) -> None:
        """Keep records of revisions above all runs before."""
        self._starts.append(packed.start)
        self._runs.append((packed, records))

    def find(self, packed: int) -> bytes | None:
        """A record that is not known to be in `records`; the run that has it is taken apart."""
        place = bisect_right(self._starts, packed) - 1
        if place >= 0 and packed in self._runs[place][0]:
            run, records = self._runs.pop(place)
            del self._starts[place]
            self.records.update(zip(run, records, strict=True))
        return self.records.get(packed)

    def __len__(self) -> int:
        return len(self.records) + sum(len(records) for _, records in self._runs)


class RecordCache:
    """A bounded map of packed revision to record."""

    __slots__ = ("_generation_bytes", "_old", "_room", "_young")

    def __init__(self, bytes_max: int = RECORD_CACHE_BYTES) -> None:
        self._generation_bytes = bytes_max // 2
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._young = _Generation()
        self._old = _Generation()
        self._room = self._generation_bytes

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, packed: int, record: bytes) -> None:
        """Keep a record. Hot road: 0.15 us."""
        self._young.records[packed] = record
        self._room -= len(record) + OVERHEAD_BYTES
        if self._room < 0:
            self._turn_over()

    def add_many(self, packed: Iterable[int], records: list[bytes]) -> None:
        """Keep several records."""
        self._young.records.update(zip(packed, records, strict=True))
        self._take_room(sum(map(len, records)), len(records))

    def add_run(self, packed: range, records: list[bytes], size: int) -> None:
        """Keep records of `size` bytes at revisions above those of all runs before. Hot road: 1 us, however many."""
        self._young.add_run(packed, records)
        self._take_room(size, len(records))

    def _take_room(self, size: int, count: int) -> None:
        self._room -= size + OVERHEAD_BYTES * count
        if self._room < 0:
            self._turn_over()

    def _turn_over(self) -> None:
        self._old, self._young = self._young, _Generation()
        self._room = self._generation_bytes

    def get(self, packed: int) -> bytes | None:
        """The record, if it is still there."""
        young, old = self._young, self._old
        return young.records.get(packed) or old.records.get(packed) or young.find(packed) or old.find(packed)

    def get_many(self, packed: list[int]) -> list[bytes | None]:
        """The records that are still there, None in place of the others. 0.08 us a record."""
        old = self._old.records.get
        found = [record or old(each) for each, record in zip(packed, map(self._young.records.get, packed), strict=True)]
        if not all(found):  # no record is empty
            young, rest = self._young, self._old
            found = [record or young.find(each) or rest.find(each) for each, record in zip(packed, found, strict=True)]
        return found
