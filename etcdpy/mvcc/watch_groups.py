"""Who watches a key: watchers with the same key and range form one group, and groups are found by key.

    single keys       dict: key -> group
    prefixes          dict per prefix length; one slice and one look-up for each length in use (few in practice)
    from a key on     sorted by where they begin: those that begin at or before the key are a head of the list
    other ranges      a tree of intervals, watch_intervals.py

What the ranges yield for a key is remembered in a bounded memo that is emptied when the set of range groups changes.
Groups stay in the index while any of their watchers lives, synced or not, so that a watcher falling behind and catching
up does not disturb the memo.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from enum import Enum
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from etcdpy.limits import WATCH_MEMO_GROUPS_MAX, WATCH_MEMO_KEY_BYTES_MAX, WATCH_MEMO_KEYS_MAX
from etcdpy.mvcc.watch_intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.mvcc.watch_events import Event
    from etcdpy.mvcc.watch_stream import Outbox, WatchStream

# What makes two watchers of a group differ in the responses they get; watchers with equal options share them.
PREVIOUS: Final = 1
NO_PUT: Final = 2
NO_DELETE: Final = 4
FRAGMENTS: Final = 8
PROGRESS: Final = 16
FILTERS: Final = NO_PUT | NO_DELETE


class State(Enum):
    """Where a watcher stands; `WatchHub` moves it."""

    SYNCED = "gets every change as it is applied"
    WAITING = "synced, but its start revision lies ahead"
    LAGGING = "behind; to be served from history"
    PARKED = "behind, and its stream takes no more bytes at present"
    COMPACTED = "told that it was compacted; holds its id until the client cancels it, as on etcd"
    CLOSED = "gone"


class Watcher:
    """One watch of one stream."""

    __slots__ = (
        "group",
        "id",
        "id_field",
        "next_revision",
        "options",
        "outbox",
        "quiet",
        "start_revision",
        "state",
        "stream",
    )

    def __init__(self, stream: WatchStream, group: Group, watch_id: int, id_field: bytes, options: int) -> None:
        self.stream = stream
        self.outbox: Outbox = stream.outbox
        self.group = group
        self.id = watch_id
        self.id_field = id_field
        self.options = options
        self.start_revision = 0
        """As the client gave it; 0 means from now on."""
        self.next_revision = 0
        """While behind: every matching event below it was handed to the stream, none from it on."""
        self.quiet = True
        """No event since the last progress tick."""
        self.state = State.CLOSED


class Group:
    """The watchers of one key (end None), of one range (end exclusive), or of all from a key on (end empty)."""

    __slots__ = ("classes", "end", "key", "members", "pending", "synced", "waiting")

    def __init__(self, key: bytes, end: bytes | None) -> None:
        self.key = key
        self.end = end
        self.classes: dict[int, dict[Watcher, None]] = {}
        """Synced watchers by options; dicts serve as sets that keep their order."""
        self.waiting: dict[Watcher, None] = {}
        self.members = 0
        """All watchers of the group, those that are behind included."""
        self.synced = 0
        """Watchers in `classes` and `waiting`."""
        self.pending: list[Event] = []
        """Events of the batch that is being handed out."""


def prefix_end(key: bytes) -> bytes:
    """The end of the range of keys that begin with `key`; empty (no end) when `key` is all 0xff."""
    head = key.rstrip(b"\xff")
    return head[:-1] + bytes((head[-1] + 1,)) if head else b""


class GroupIndex:
    """The groups of all live watchers."""

    __slots__ = ("_intervals", "_memo", "_open_ended", "_prefixes", "_ranges", "singles")

    def __init__(self) -> None:
        self.singles: dict[bytes, Group] = {}
        self._ranges: dict[tuple[bytes, bytes], Group] = {}
        self._prefixes: dict[int, dict[bytes, Group]] = {}
        self._open_ended: list[Group] = []
        self._intervals: Intervals[Group] = Intervals()
        self._memo: dict[bytes, tuple[Group, ...]] = {}

    def __len__(self) -> int:
        return len(self.singles) + len(self._ranges)

    def __iter__(self) -> Iterator[Group]:
        yield from self.singles.values()
        yield from self._ranges.values()

    @property
    def has_ranges(self) -> bool:
        """Whether `ranges_of` can find anything."""
        return bool(self._ranges)

    def obtain(self, key: bytes, end: bytes | None) -> Group:
        """The group of this range, made when there is none. The caller counts itself in `members`."""
        if end is None:
            group = self.singles.get(key)
            if group is None:
                group = self.singles[key] = Group(key, None)
            return group
        group = self._ranges.get((key, end))
        if group is None:
            group = self._ranges[key, end] = Group(key, end)
            self._memo.clear()
            self._add_range(group, end)
        return group

    def discard(self, group: Group) -> None:
        """Take out a group whose last member left."""
        assert group.members == 0
        if group.end is None:
            del self.singles[group.key]
            return
        del self._ranges[group.key, group.end]
        self._memo.clear()
        if not group.end:
            position = bisect_left(self._open_ended, group.key, key=attrgetter("key"))
            assert self._open_ended.pop(position) is group
        elif group.end == prefix_end(group.key):
            by_prefix = self._prefixes[len(group.key)]
            del by_prefix[group.key]
            if not by_prefix:
                del self._prefixes[len(group.key)]
        else:
            self._intervals.remove(group.key, group.end)

    def _add_range(self, group: Group, end: bytes) -> None:
        if not end:
            insort(self._open_ended, group, key=attrgetter("key"))
        elif end == prefix_end(group.key):
            self._prefixes.setdefault(len(group.key), {})[group.key] = group
        else:
            self._intervals.add(group.key, end, group)

    def ranges_of(self, key: bytes) -> tuple[Group, ...]:
        """The range groups that contain `key`, in an order that depends on nothing but the groups."""
        found = self._memo.get(key)
        if found is None:
            found = self._find_ranges(key)
            if len(key) <= WATCH_MEMO_KEY_BYTES_MAX and len(found) <= WATCH_MEMO_GROUPS_MAX:
                if len(self._memo) >= WATCH_MEMO_KEYS_MAX:
                    self._memo.clear()
                self._memo[key] = found
        return found

    def _find_ranges(self, key: bytes) -> tuple[Group, ...]:
        found: list[Group] = []
        for length, by_prefix in self._prefixes.items():
            group = by_prefix.get(key[:length])
            if group is not None:
                found.append(group)
        if self._open_ended:
            found += self._open_ended[: bisect_right(self._open_ended, key, key=attrgetter("key"))]
        if self._intervals:
            found += self._intervals.at(key)
        return tuple(found)
