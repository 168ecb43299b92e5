"""Ranges: which keys, in which order, and their records, at one fixed revision.

A range runs in two parts. The first looks at the index alone: it finds the keys that exist at the revision, counts
them, filters by revisions, sorts (by anything but the value) and cuts at the limit. The second reads only the records
that are left. Both are generators that yield between bounded slices of work, so that no range holds the loop.

Writes may happen between two slices. The walk then goes on by key at its own revision, which it has pinned, so that no
compaction takes away what it has yet to read.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from etcdpy.limits import RANGE_SLICE_KEYS_MAX, READ_SLICE_BYTES_MAX, SORT_RUN_ROWS_MAX
from etcdpy.mvcc.fetch import record_steps
from etcdpy.mvcc.record import put_record, repeated_field, value_of, without_value
from etcdpy.mvcc.revision import SUB_BITS
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from etcdpy.mvcc.index import Row
    from etcdpy.mvcc.store import Store

ORDER_NONE: Final = 0
ORDER_ASCEND: Final = 1
ORDER_DESCEND: Final = 2

BY_KEY: Final = 0
BY_VERSION: Final = 1
BY_CREATE: Final = 2
BY_MOD: Final = 3
BY_VALUE: Final = 4


_PART_RECORDS: Final = 50
"""Records that become one piece of an answer."""

_PART_BYTES: Final = 262_144
"""More bytes than this are not copied into one piece: each record is a piece by itself, as it is."""


class RangeOptions(NamedTuple):
    """The options of etcdserverpb.RangeRequest that the store sees; 0 turns a number off. Enums as plain ints."""

    limit: int = 0
    revision: int = 0
    sort_order: int = ORDER_NONE
    sort_target: int = BY_KEY
    keys_only: bool = False
    count_only: bool = False
    min_mod_revision: int = 0
    max_mod_revision: int = 0
    min_create_revision: int = 0
    max_create_revision: int = 0
    with_count: bool = True
    """False: do not walk on for the total where it is not at hand; the result's count is then -1."""

    @property
    def filters(self) -> bool:
        """Whether any of the four revision filters is set."""
        return self[6:10] != _NO_FILTERS


_NO_FILTERS: Final = (0, 0, 0, 0)
PLAIN: Final = RangeOptions()


class RangeResult(NamedTuple):
    """What a range found. `count` ignores limit and filters; `revision` is the store's, for the header."""

    records: list[bytes]
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs here
    more: bool
    revision: int


_Item = TypeVar("_Item")
# The places of a row's fields: (key, packed revision, create, version)
_SORT_FIELDS: Final[dict[int, Callable[[Row], Any]]] = {
    BY_KEY: itemgetter(0),
    BY_MOD: itemgetter(1),
    BY_CREATE: itemgetter(2),
    BY_VERSION: itemgetter(3),
}


def range_steps(
    store: Store, key: bytes, end: bytes = b"", options: RangeOptions = PLAIN
) -> Generator[None, None, RangeResult]:
    """Read `key`, or [key, end), in slices; the result is the generator's return value.

    `end` empty means the one key, `\\0` everything from `key` on. Errors (Compacted, FutureRevision) come from the
    first `next`, at which the revision is fixed and pinned. A generator that is not exhausted must be closed.
    """
    main = store.read_revision(options.revision)
    return (yield from range_at_steps(store, key, end, options, main, store.current_revision))


def range_at_steps(
    store: Store, key: bytes, end: bytes, options: RangeOptions, main: int, header: int
) -> Generator[None, None, RangeResult]:
    """The same at a revision that the caller has checked, or pinned before a compaction passed it."""
    store.ranges += 1
    if not end:
        return _single(store, key, main, header, options)
    walk = Walk(store, key, None if end == b"\0" else end, main, options)
    with store.pin(main):
        if options.count_only:
            yield from walk.count_steps()
            return RangeResult([], walk.count, False, header)
        if options.keys_only or options.filters or not walk.natural_order:
            records, more = yield from walk.row_steps()
        else:
            mods, more = yield from walk.mod_steps()
            records = yield from record_steps(store.backend, store.cache, mods, store.record_count)
        return RangeResult(records, walk.count, more, header)


def _single(store: Store, key: bytes, main: int, header: int, options: RangeOptions) -> RangeResult:
    state = store.index.current(key) if main == store.head_revision else store.index.at(key, main)
    if state is None:
        return RangeResult([], 0, False, header)
    row = (key, *state)
    if options.count_only or (options.filters and not _passes(row, options)):
        return RangeResult([], 1, False, header)
    if options.keys_only and options.sort_target != BY_VALUE:
        return RangeResult([_bare_record(row)], 1, False, header)
    record = store.record(state.mod)
    return RangeResult([without_value(record) if options.keys_only else record], 1, False, header)


def _passes(row: Row, options: RangeOptions) -> bool:
    _, packed, create, _ = row
    mod = packed >> SUB_BITS
    return not (
        (options.min_mod_revision and mod < options.min_mod_revision)
        or (options.max_mod_revision and mod > options.max_mod_revision)
        or (options.min_create_revision and create < options.min_create_revision)
        or (options.max_create_revision and create > options.max_create_revision)
    )


def _bare_record(row: Row) -> bytes:
    """What keys_only answers, from the index: no value, and no lease, since only the record knows it (as etcd 3.7)."""
    key, packed, create, version = row
    return put_record(key, create, packed >> SUB_BITS, version, b"", 0)


class Walk:
    """The part of a range that needs the index only."""

    __slots__ = ("count", "end", "index", "key", "main", "natural_order", "options", "store")

    def __init__(self, store: Store, key: bytes, end: bytes | None, main: int, options: RangeOptions) -> None:
        self.store = store
        self.index = store.index
        self.key = key
        self.end = end
        self.main = main
        self.options = options
        # etcd sorts by anything but the key even when the order is NONE, which then means ascending.
        self.natural_order = options.sort_target == BY_KEY and options.sort_order != ORDER_DESCEND
        self.count = -1

    def count_steps(self) -> Generator[None, None, None]:
        """Set `count`: the keys of the range at the revision."""
        self._count_at_once()
        if self.count >= 0:
            return
        count = 0
        cursor: bytes | None = self.key
        while cursor is not None:
            found, cursor = self._past_slice(cursor, RANGE_SLICE_KEYS_MAX)
            count += len(found)
            if cursor is not None:
                yield
        self.count = count

    def _count_at_once(self) -> None:
        if self.end is not None and self.end <= self.key:
            self.count = 0
        elif self.main == self.store.head_revision:
            low, high = self.index.span(self.key, self.end)
            self.count = high - low
        else:
            counted = self.index.count_at(self.key, self.end, self.main)
            self.count = -1 if counted is None else counted

    def mod_steps(self) -> Generator[None, None, tuple[list[int], bool]]:
        """The packed revisions of the selected keys in the order of keys, and whether the limit left some out.

        The plain list, where nothing else of a key matters: 0.12 us a key at the current revision.
        """
        self._count_at_once()
        limit = max(self.options.limit, 0)
        mods: list[int] = []
        cursor: bytes | None = self.key
        if self.main == self.store.head_revision:
            low, high = self.index.span(self.key, self.end)
            stop = min(high, low + limit) if limit else high
            cursor = None
            while low < stop:
                keys = self.index.live[low : min(low + RANGE_SLICE_KEYS_MAX, stop)]
                mods += self.index.mods(keys)
                low += len(keys)
                if low < stop:
                    yield
                    if self.main != self.store.head_revision:
                        cursor = keys[-1] + b"\0"
                        break
        wanted = limit or self._unlimited
        visited = 0
        while cursor is not None and len(mods) <= wanted:
            length = _slice_length(wanted + 1 - len(mods))
            found, cursor = self._past_slice(cursor, length)
            mods += [row[1] for row in found]
            visited += length
            if self.count >= 0 and len(mods) >= min(self.count, wanted):
                break
            if visited >= RANGE_SLICE_KEYS_MAX and cursor is not None and len(mods) <= wanted:
                yield
                visited = 0
        yield from self._complete_count(cursor, len(mods))
        more = 0 < limit < max(self.count, len(mods))
        return (mods[:limit] if limit else mods), more

    @property
    def _unlimited(self) -> int:
        return len(self.index.entries) + 1

    def row_steps(self) -> Generator[None, None, tuple[list[bytes], bool]]:
        """The records of the selected keys, filtered and sorted, and whether the limit left some out."""
        self._count_at_once()
        options, limit = self.options, max(self.options.limit, 0)
        filters = options.filters
        # Quirk kept: with order NONE etcd cuts before it sorts by another target, so that the result is the first keys,
        # sorted, and not the first of all in that order. With a filter it sorts first.
        cut_first = options.sort_order == ORDER_NONE and not filters
        stop = limit + 1 if limit and (self.natural_order or cut_first) else 0
        rows: list[Row] = []
        walked = 0
        cursor: bytes | None = self._last_page(limit) if not filters else self.key
        visited = 0
        while cursor is not None:
            length = _slice_length(stop - len(rows)) if stop else RANGE_SLICE_KEYS_MAX
            found, cursor = self.slice(cursor, length)
            walked += len(found)
            visited += length
            rows += [row for row in found if _passes(row, options)] if filters else found
            if stop and len(rows) >= stop:
                del rows[stop:]
                break
            if visited >= RANGE_SLICE_KEYS_MAX and cursor is not None:
                yield
                visited = 0
        yield from self._complete_count(cursor, walked)
        by_value = options.sort_target == BY_VALUE
        if by_value:
            return (yield from self._by_value_steps(rows, limit))
        if not self.natural_order:
            reverse = options.sort_order == ORDER_DESCEND
            rows = yield from sorted_steps(rows, _SORT_FIELDS[options.sort_target], reverse, limit)
        more = 0 < limit < len(rows)
        if more:
            del rows[limit:]
        if not options.keys_only:
            mods = [row[1] for row in rows]
            return (yield from record_steps(self.store.backend, self.store.cache, mods, self.store.record_count)), more
        records: list[bytes] = []
        for start in range(0, len(rows), RANGE_SLICE_KEYS_MAX):
            if start:
                yield
            records += map(_bare_record, rows[start : start + RANGE_SLICE_KEYS_MAX])
        return records, more

    def _last_page(self, limit: int) -> bytes:
        """Where to start. The last keys in descending order (clients' `WithLastKey`) need no walk from `key`."""
        descending_keys = self.options.sort_target == BY_KEY and self.options.sort_order == ORDER_DESCEND
        if limit and descending_keys and self.main == self.store.head_revision:
            low, high = self.index.span(self.key, self.end)
            if high - low > limit + 1:
                return self.index.live[high - limit - 1]
        return self.key

    def _by_value_steps(self, rows: list[Row], limit: int) -> Generator[None, None, tuple[list[bytes], bool]]:
        mods = [row[1] for row in rows]
        records = yield from record_steps(self.store.backend, self.store.cache, mods, self.store.record_count)
        reverse = self.options.sort_order == ORDER_DESCEND
        records = yield from sorted_steps(records, value_of, reverse, limit)
        more = 0 < limit < len(records)
        if more:
            del records[limit:]
        if self.options.keys_only:
            records = [without_value(record) for record in records]
        return records, more

    def slice(self, cursor: bytes, length: int) -> tuple[list[Row], bytes | None]:
        """Rows from `cursor` on, of at most so many keys, and where to go on (None: the range is done)."""
        if self.main != self.store.head_revision:
            return self._past_slice(cursor, length)
        low, high = self.index.span(cursor, self.end)
        stop = min(low + length, high)
        keys = self.index.live[low:stop]
        return self.index.rows(keys), None if stop == high else keys[-1] + b"\0"

    def _past_slice(self, cursor: bytes, length: int) -> tuple[list[Row], bytes | None]:
        """The same at a revision before the current one, where keys that are gone by now count too."""
        if self.end is not None and self.end <= cursor:
            return [], None
        keys = list(islice(self.index.walk(cursor, self.end), length))
        rows = self.index.rows_at(keys, self.main)
        return rows, None if len(keys) < length else keys[-1] + b"\0"

    def _complete_count(self, cursor: bytes | None, walked: int) -> Generator[None, None, None]:
        """Set `count` if it is not known yet: `walked` keys, and those from `cursor` on."""
        if self.count >= 0 or not self.options.with_count:
            return
        while cursor is not None:
            yield
            found, cursor = self._past_slice(cursor, RANGE_SLICE_KEYS_MAX)
            walked += len(found)
        self.count = walked


def _slice_length(rows_missing: int) -> int:
    """Keys to visit for so many rows: a few more, as some keys did not exist or do not pass, and at most a slice."""
    return min(rows_missing + 32, RANGE_SLICE_KEYS_MAX)


def sorted_steps(
    items: list[_Item], field: Callable[[_Item], Any], reverse: bool = False, limit: int = 0
) -> Generator[None, None, list[_Item]]:
    """Sort; equal items stay in their order. Where there is a limit, only the first limit + 1 are needed."""
    if len(items) <= SORT_RUN_ROWS_MAX:
        items.sort(key=field, reverse=reverse)
        return items
    runs = []
    for start in range(0, len(items), SORT_RUN_ROWS_MAX):
        runs.append(sorted(items[start : start + SORT_RUN_ROWS_MAX], key=field, reverse=reverse))
        yield
    merged = merge(*runs, key=field, reverse=reverse)
    result: list[_Item] = []
    while not limit or len(result) <= limit:
        part = list(islice(merged, RANGE_SLICE_KEYS_MAX))
        if not part:
            break
        result += part
        yield
    return result


def range_part_steps(result: RangeResult) -> Generator[None, None, list[bytes]]:
    """A RangeResponse without its header, in pieces (see `record_part_steps`): kvs (2), more (3), count (4)."""
    parts = yield from record_part_steps(b"\x12", result.records)
    tail = b"\x18\x01" if result.more else b""
    parts.append(tail + b"\x20" + varint(result.count) if result.count > 0 else tail)
    return parts


def record_part_steps(tag: bytes, records: list[bytes]) -> Generator[None, None, list[bytes]]:
    """Records as a repeated field, in pieces of some tens of kilobytes, in slices; large records are pieces themselves.

    Nothing is ever in one piece: joining 10 MB takes 5 ms, most of it for fresh memory.
    """
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(records), _PART_RECORDS):
        if size >= READ_SLICE_BYTES_MAX or (start and not start % RANGE_SLICE_KEYS_MAX):
            yield
            size = 0
        block = records[start : start + _PART_RECORDS]
        length = sum(map(len, block))
        if length > _PART_BYTES:
            for record in block:
                parts += (tag + varint(len(record)), record)
            continue
        size += length
        parts.append(repeated_field(tag, block))
    return parts
