"""A piece of history held in memory while watchers that are behind are served from it.

One read of the backend serves every watcher whose next revision lies in the piece, and what is made from it (the events
of a group, the responses of its watchers) is made once. The piece goes away when nobody is behind any more.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from etcdpy.limits import (
    WATCH_HISTORY_EVENTS_TARGET,
    WATCH_RESPONSE_BYTES_MAX,
    WATCH_RESPONSE_REVISIONS_MAX,
    WATCH_SLICE_PREVIOUS_READS_MAX,
    WATCH_WINDOW_KEPT_BYTES_MAX,
)
from etcdpy.mvcc.watch_events import Event, Part, build_parts
from etcdpy.mvcc.watch_groups import NO_DELETE, NO_PUT, PREVIOUS, Group
from etcdpy.work_limits import WATCH_SLICE_EVENTS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from etcdpy.mvcc.watch_events import Change

_packed = attrgetter("packed")
_LIST_SLOT_BYTES = 8


class History(Protocol):
    """Where past changes come from. `mvcc.history.BackendHistory` is one."""

    @property
    def current_revision(self) -> int:
        """The main revision of the last applied change."""
        ...

    @property
    def compact_revision(self) -> int:
        """Revisions below it may be gone; 0 or less when there was no compaction."""
        ...

    def record_at(self, key: bytes, main_revision: int) -> bytes | None:
        """The record of `key` as of a revision; None when it did not exist then or the revision is compacted."""
        ...

    def changes_between(self, first_main: int, last_main: int) -> Iterator[Change]:
        """Changes of these main revisions, both included, in order."""
        ...


def selected(options: int, events: list[Event]) -> list[Event]:
    """The events that the filters let pass."""
    if options & NO_PUT:
        events = [event for event in events if event.deleted]
    if options & NO_DELETE:
        events = [event for event in events if not event.deleted]
    return events


class Window:
    """The changes of the revisions `first` to `last`, both included and both whole; to be read with `read_slice` first.

    One revision that is larger than any bound is read, and responses are made of it, in several slices.
    """

    __slots__ = (
        "_building",
        "_by_group",
        "_by_key",
        "_events",
        "_history",
        "_keys",
        "_parts",
        "_reading",
        "_room",
        "first",
        "full",
        "last",
    )

    def __init__(self, history: History, first: int) -> None:
        self._history = history
        self.first = first
        self.last = min(history.current_revision, first + WATCH_RESPONSE_REVISIONS_MAX - 1)
        self.full = self.last < history.current_revision
        """Ended by its limits, not by the newest revision."""
        self._events: list[Event] = []
        self._by_key: dict[bytes, list[Event]] = {}
        self._keys: list[bytes] | None = None
        self._by_group: dict[Group, list[Event]] = {}
        self._parts: dict[tuple[Group, int, int], list[Part]] = {}
        self._room = WATCH_WINDOW_KEPT_BYTES_MAX
        """What may still be kept of bodies and lists; thousands of overlapping ranges would keep as many copies."""
        self._reading: Generator[None, None, None] | None = self._read_steps()
        self._building: tuple[tuple[Group, int, int], Generator[None, None, list[Part]]] | None = None
        """Responses that are made in slices, and whose."""

    def read_slice(self) -> bool:
        """Read on for 2 to 3 ms, which mostly is all. Returns whether the window is complete and can be served from."""
        if self._reading is not None:
            for _ in self._reading:
                return False
            self._reading = None
        return True

    @property
    def complete(self) -> bool:
        """Whether all of it has been read."""
        return self._reading is None

    def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.close()

    def _read_steps(self) -> Generator[None, None, None]:
        events = self._events
        size = revision_begin = 0
        main = -1
        changes = self._history.changes_between(self.first, self.last)
        try:
            for count, (packed, key, deleted, record) in enumerate(changes, start=1):
                if packed >> 32 != main:
                    main = packed >> 32
                    revision_begin = len(events)
                size += len(record)
                if revision_begin and (size > WATCH_RESPONSE_BYTES_MAX or revision_begin > WATCH_HISTORY_EVENTS_TARGET):
                    del events[revision_begin:]
                    self.last = main - 1
                    self.full = True
                    break
                events.append(Event(packed, key, deleted, record))
                if count % WATCH_SLICE_EVENTS == 0:
                    yield
        finally:
            close = getattr(changes, "close", None)
            if close is not None:
                close()
        for start in range(0, len(events), 4 * WATCH_SLICE_EVENTS):
            if start:
                yield
            for event in events[start : start + 4 * WATCH_SLICE_EVENTS]:
                self._by_key.setdefault(event.key, []).append(event)

    def parts(self, group: Group, options: int, next_revision: int, reads: ReadAllowance) -> list[Part] | None:
        """The responses for a watcher of `group` that has all below `next_revision`.

        None: more previous values must be read for them than `reads` allows now. Ask again with a new allowance; what
        was read is kept.
        """
        mask = options & (NO_PUT | NO_DELETE | PREVIOUS)
        known = self._parts.get((group, mask, next_revision))
        if known is not None:
            return known
        if len(self._events) > 2 * WATCH_HISTORY_EVENTS_TARGET and self._is_wide(group):
            return self._build(group, mask, next_revision)
        events = self._events_of(group)
        if next_revision > self.first:
            events = events[bisect_left(events, next_revision << 32, key=_packed) :]
        events = selected(options, events)
        if not events:
            return []
        previous_record = self._history.record_at if options & PREVIOUS else None
        if previous_record is not None:
            for event in events:
                if not event.has_previous:
                    if not reads.left:
                        return None
                    reads.left -= 1
                    event.with_previous(previous_record)
        return self._keep(group, mask, next_revision, build_parts(events, previous_record))

    def _keep(self, group: Group, mask: int, next_revision: int, parts: list[Part]) -> list[Part]:
        if group.members > 1 and self._room > 0:
            self._room -= sum(part.size for part in parts)
            self._parts[group, mask, next_revision] = parts
        return parts

    def _is_wide(self, group: Group) -> bool:
        """Whether what concerns a group is too much for one slice."""
        if group.end is None:
            return False
        begin, finish = self._span(group.key, group.end)
        return finish - begin > WATCH_HISTORY_EVENTS_TARGET

    def _build(self, group: Group, mask: int, next_revision: int) -> list[Part] | None:
        """What `parts` answers, a slice at a time."""
        wanted = (group, mask, next_revision)
        if self._building is None or self._building[0] != wanted:
            self._building = wanted, self._part_steps(*wanted)
        try:
            next(self._building[1])
        except StopIteration as stop:
            self._building = None
            return self._keep(*wanted, stop.value)
        return None

    def _part_steps(self, group: Group, mask: int, next_revision: int) -> Generator[None, None, list[Part]]:
        key, end, first = group.key, group.end, next_revision << 32
        previous_record = self._history.record_at if mask & PREVIOUS else None
        slice_events = WATCH_SLICE_EVENTS if previous_record is None else WATCH_SLICE_PREVIOUS_READS_MAX
        found: list[Event] = []
        for start in range(0, len(self._events), slice_events):
            events = [
                event
                for event in self._events[start : start + slice_events]
                if event.packed >= first and event.key >= key and (not end or event.key < end)
            ]
            events = selected(mask, events)
            for event in events:  # which is kept with the event
                if previous_record is None:
                    event.plain()
                else:
                    event.with_previous(previous_record)
            found += events
            yield
        if not found:
            return []
        # The newest revision may be one of very many events, and is a response by itself.
        newest = found[-1].packed >> 32
        begin = bisect_left(found, newest << 32, key=_packed)
        parts = build_parts(found[:begin], previous_record) if begin else []
        chunks: list[bytes] = []
        pieces: list[bytes] = []
        for start in range(begin, len(found), 4 * WATCH_SLICE_EVENTS):
            yield
            (some,) = build_parts(found[start : start + 4 * WATCH_SLICE_EVENTS], previous_record)
            chunks += some.chunks
            pieces += some.pieces
        return [*parts, Part(newest, chunks, pieces)]

    def _events_of(self, group: Group) -> list[Event]:
        if group.end is None:
            return self._by_key.get(group.key, [])
        events = self._by_group.get(group)
        if events is None:
            events = self._collect(group.key, group.end)
            if group.members > 1 and self._room > 0:
                self._room -= len(events) * _LIST_SLOT_BYTES
                self._by_group[group] = events
        return events

    def _collect(self, key: bytes, end: bytes) -> list[Event]:
        begin, finish = self._span(key, end)
        assert self._keys is not None
        if finish - begin == len(self._keys):
            return self._events
        if finish - begin == 1:
            return self._by_key[self._keys[begin]]
        events = [event for name in self._keys[begin:finish] for event in self._by_key[name]]
        events.sort(key=_packed)
        return events

    def _span(self, key: bytes, end: bytes) -> tuple[int, int]:
        """The places of a range's keys among those of all events."""
        if self._keys is None:
            self._keys = sorted(self._by_key)
        return bisect_left(self._keys, key), bisect_left(self._keys, end) if end else len(self._keys)


class ReadAllowance:
    """How many previous values may still be read in a slice."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left
