"""Records by their revisions: from one ordered scan, from several, or one by one, whichever costs least; in slices."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from etcdpy.limits import RANGE_SLICE_KEYS_MAX, READ_SLICE_BYTES_MAX, READ_SLICE_WORK_MAX, RECORD_CACHE_BYTES
from etcdpy.mvcc.revision import SUB_BITS, disk_key, disk_keys

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.backend import Backend
    from etcdpy.mvcc.record_cache import RecordCache

_Item = TypeVar("_Item")

_POINT_READ_WORK: Final = 4
"""A random read costs about what four or five records of a scan do."""

_FEW_RECORDS: Final = 16
"""Below this many records a scan is not worth its setup."""

_SCAN_SPARSENESS_MAX: Final = 4
"""A scan pays when at least one record in four on its way is wanted."""

_RUN_GAP_MAX: Final = 32
"""Two wanted revisions further apart than this do not belong to one scan."""

_RUN_BLOCK: Final = 4_000
"""Wanted revisions that are sorted in one go."""


def finish(steps: Generator[Any, None, _Item]) -> _Item:
    """Run a sliced walk to its end in one go, for callers that must not be interrupted (a transaction)."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def record_steps(
    backend: Backend, cache: RecordCache, mods: list[int], records_stored: int
) -> Generator[None, None, list[bytes]]:
    """The records of puts by their packed revisions, in the order given, in slices: out of the cache, or read."""
    found: list[bytes | None] = []
    missing: list[int] = []
    for start in range(0, len(mods), RANGE_SLICE_KEYS_MAX):
        if start:
            yield
        some = cache.get_many(mods[start : start + RANGE_SLICE_KEYS_MAX])
        found += some
        if not all(some):  # no record is empty
            missing += [start + place for place, record in enumerate(some) if record is None]
    if missing:
        wanted = mods if len(missing) == len(mods) else [mods[position] for position in missing]
        records = yield from _read_steps(backend, wanted, records_stored)
        # A list larger than the cache would only push out what others come back for.
        keep = sum(map(len, records)) < RECORD_CACHE_BYTES // 4
        for start in range(0, len(missing), RANGE_SLICE_KEYS_MAX):
            if start:
                yield
            stop = start + RANGE_SLICE_KEYS_MAX
            if keep:
                cache.add_many(wanted[start:stop], records[start:stop])
            for position, record in zip(missing[start:stop], records[start:stop], strict=True):
                found[position] = record
    return found  # type: ignore[return-value]


def _read_steps(backend: Backend, mods: list[int], records_stored: int) -> Generator[None, None, list[bytes]]:
    """Read records from the backend.

    One ordered scan where the wanted revisions lie close together (1 to 2 us a record of 1 KB), else runs of neighbours
    and point reads (about 6 us each).
    """
    total = len(mods)
    if total <= _FEW_RECORDS:
        return [read_record(backend, mod) for mod in mods]
    result: list[bytes] = [b""] * total
    low, high = min(mods), max(mods)
    way = min((high >> SUB_BITS) - (low >> SUB_BITS) + 1, records_stored)
    if total * _SCAN_SPARSENESS_MAX >= way:
        wanted: dict[bytes, int] = {}
        for start in range(0, total, RANGE_SLICE_KEYS_MAX):
            if start:
                yield
            wanted.update(zip(disk_keys(mods[start : start + RANGE_SLICE_KEYS_MAX]), count(start), strict=False))
        yield from _scan_steps(backend, low, high, wanted, result)
        return result
    for start in range(0, total, _RUN_BLOCK):
        if start:
            yield
        stop = min(start + _RUN_BLOCK, total)
        block = sorted(zip(mods[start:stop], range(start, stop), strict=True))
        yield from _run_steps(backend, block, result)
    return result


def _run_steps(backend: Backend, block: list[tuple[int, int]], result: list[bytes]) -> Generator[None, None, None]:
    """Read sorted (revision, position) pairs: scans over the runs of neighbours, point reads for the others."""
    work = size = 0
    gap = _RUN_GAP_MAX << SUB_BITS
    start = 0
    for position in range(1, len(block) + 1):
        if position < len(block) and block[position][0] - block[position - 1][0] <= gap:
            continue
        run = block[start:position]
        start = position
        low, high = run[0][0], run[-1][0]
        if len(run) >= _FEW_RECORDS and len(run) * _SCAN_SPARSENESS_MAX >= (high >> SUB_BITS) - (low >> SUB_BITS):
            wanted = dict(zip(disk_keys([mod for mod, _ in run]), [place for _, place in run], strict=True))
            yield from _scan_steps(backend, low, high, wanted, result)
            continue
        for mod, place in run:
            record = read_record(backend, mod)
            result[place] = record
            work += _POINT_READ_WORK
            size += len(record)
            if work >= READ_SLICE_WORK_MAX or size >= READ_SLICE_BYTES_MAX:
                yield
                work = size = 0


def _scan_steps(
    backend: Backend, low: int, high: int, wanted: dict[bytes, int], result: list[bytes]
) -> Generator[None, None, None]:
    """Read the wanted disk keys between two revisions with one scan, and empty `wanted`.

    A block at a time, its length fitted to the size of the records in the block before.
    """
    take = wanted.pop
    scan = backend.scan(disk_key(low), disk_key(high) + b"\0")
    length, bounded = _FEW_RECORDS, False
    try:
        while block := list(islice(scan, length)):
            size = 0
            for key, record in block:
                size += len(record)
                place = take(key, None)
                if place is not None:
                    result[place] = record
            if not wanted:
                break
            if bounded or size >= READ_SLICE_BYTES_MAX:
                yield
            bounded = True
            length = min(READ_SLICE_WORK_MAX, max(READ_SLICE_BYTES_MAX * len(block) // (size or 1), 1))
    finally:
        close_scan(scan)
    assert not wanted, f"{len(wanted)} records of the index are not on disk"


def close_scan(scan: Any) -> None:
    """Give a backend's iterator back early; some have no `close`."""
    close = getattr(scan, "close", None)
    if close is not None:
        close()


def read_record(backend: Backend, mod: int) -> bytes:
    """The record of one put by its packed revision, which the index must know."""
    record = backend.get(disk_key(mod))
    assert record is not None, f"revision {mod >> SUB_BITS} of the index is not on disk"
    return record
