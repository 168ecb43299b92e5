"""The ordered index of keys, in memory: which revisions each key has. It holds keys and little else.

    entries   key -> int           one revision, a put:  packed revision (create is its main number, version 1), or
                                   the same with the create revision and version above it (`HEAD_BITS`)
              key -> KeyHistory    anything else
    live      sorted keys whose newest revision is a put: what a read at the current revision sees, so that its count
              is a difference of two positions. Keys that puts create wait in `_unsorted` until somebody reads `live`
    ghosts    sorted keys whose newest revision is a deletion that no compaction has removed yet; only reads at older
              revisions look at them
    dirty     the keys that have a KeyHistory: all that a compaction must look at. A list, each of them once: a dict of
              350,000 that grows holds the loop for 15 ms and more

An int costs 32 bytes where an object with a list costs 250, and most keys of a large store are written once between
two compactions. 1,000,000 keys of 32 bytes take about 170 bytes each, the key included.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from etcdpy.limits import INDEX_JOURNAL_ENTRIES_MAX, INDEX_UNSORTED_KEYS_MAX, RANGE_SLICE_KEYS_MAX
from etcdpy.mvcc.key_table import KeyTable
from etcdpy.mvcc.revision import SUB_BITS
from etcdpy.mvcc.sorted_keys import add_all, sorted_keys

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import TypeAlias

    from sortedcontainers import SortedList

    Row: TypeAlias = tuple[bytes, int, int, int]

HEAD_BITS: Final = 96
_HEAD_START: Final = 1 << HEAD_BITS
_REVISION_MASK: Final = _HEAD_START - 1
_VERSION_MASK: Final = (1 << 64) - 1
_CREATE_SHIFT: Final = HEAD_BITS + 64


class KeyState(NamedTuple):
    """A key as seen at some revision. `mod` is packed, `create` a main number."""

    mod: int
    create: int
    version: int


class KeyHistory:
    """The revisions of a key from one creation to its deletion, newest generation first.

        put 1, put 2, delete 3, put 4      KeyHistory([4], ended=False)
                                             .older -> KeyHistory([1, 2, 3], ended=True)

    Invariants: `revisions` is never empty and ascends; `ended` iff its last revision is a deletion; every `older`
    generation is ended; `create` is the main number of the put that opened the generation, even when compaction has
    removed that put (0 if only the deletion is left and the rest is unknown); `version` belongs to the last revision
    and counts a deletion too.
    """

    __slots__ = ("create", "ended", "older", "revisions", "version")

    def __init__(self, revisions: list[int], create: int, version: int, older: KeyHistory | None = None) -> None:
        self.revisions = revisions
        self.create = create
        self.version = version
        self.ended = False
        self.older = older

    def at(self, main: int) -> KeyState | None:
        """The key at a main revision; None where it does not exist."""
        bound = (main + 1) << SUB_BITS
        history: KeyHistory | None = self
        while history is not None:
            revisions = history.revisions
            if revisions[0] < bound:
                last = len(revisions) - 1
                position = last if revisions[last] < bound else bisect_left(revisions, bound) - 1
                if position == last and history.ended:
                    return None
                return KeyState(revisions[position], history.create, history.version - (last - position))
            history = history.older
        return None

    def compact(self, main: int, removed: list[int]) -> KeyHistory | None:
        """Forget what a compaction at `main` makes unreadable, and list it in `removed`.

        What stays of the revisions up to `main` is the newest, unless it is a deletion before `main`: a deletion at
        `main` itself stays until the next compaction, as in etcd since 3.5.16. Returns None when nothing stays.
        """
        bound = (main + 1) << SUB_BITS
        newer: KeyHistory | None = None
        history: KeyHistory | None = self
        while history is not None and history.revisions[0] >= bound:
            newer, history = history, history.older
        if history is None:
            return self
        revisions = history.revisions
        last = len(revisions) - 1
        position = bisect_left(revisions, bound) - 1
        stays = position < last or not history.ended or revisions[last] >= main << SUB_BITS
        older = history.older
        if stays:
            removed += revisions[:position]
            history.revisions = revisions[position:]
            history.older = None
        else:
            removed += revisions
            if newer is not None:
                newer.older = None
        while older is not None:
            removed += older.revisions
            older = older.older
        return self if stays or newer is not None else None


class KeyIndex:
    """The index. Methods that write expect revisions that only grow; a bug there is an assertion."""

    __slots__ = (
        "_being_compacted",
        "_journal_floor",
        "_journal_keys",
        "_journal_stamps",
        "_live",
        "_restored",
        "_unsorted",
        "dirty",
        "entries",
        "ghosts",
    )

    def __init__(self) -> None:
        self.entries: KeyTable[int | KeyHistory] = KeyTable()
        self._live: SortedList[bytes] = sorted_keys()
        self._unsorted: list[bytes] = []
        self.ghosts: SortedList[bytes] = sorted_keys()
        self.dirty: list[bytes] = []
        self._being_compacted: list[bytes] = []
        # Until `finish_restore`, all keys, by their first revisions: what is often in order already sorts in no time.
        self._restored: list[bytes] = []
        # What corrects today's count for older revisions: keys that came and went, each with the packed revision,
        # negative where it went. Two lists, since a pair for each key would cost a put 0.15 us.
        self._journal_stamps: list[Any] = []
        self._journal_keys: list[bytes] = []
        self._journal_floor = 0

    @property
    def live(self) -> SortedList[bytes]:
        """The sorted keys whose newest revision is a put."""
        if self._unsorted:
            self._sort()
        return self._live

    def _sort(self) -> None:
        add_all(self._live, self._unsorted)
        self._unsorted = []

    def _created(self, keys: list[bytes]) -> None:
        """Have new keys sorted before `live` is read again.

        Sorting 60 takes 1.5 us each in a store of 100,000, as the places of few lie far apart; together they share
        what the processor fetches.
        """
        self._unsorted += keys
        if len(self._unsorted) >= INDEX_UNSORTED_KEYS_MAX:
            self._sort()

    def _note_in_journal(self, keys: list[bytes], stamps: list[Any]) -> None:
        self._journal_keys += keys
        self._journal_stamps += stamps
        if len(self._journal_keys) > INDEX_JOURNAL_ENTRIES_MAX:
            half = len(self._journal_keys) // 2
            self._journal_floor = abs(self._journal_stamps[half - 1]) >> SUB_BITS
            del self._journal_keys[:half]
            del self._journal_stamps[:half]

    def put(self, key: bytes, packed: int) -> KeyHistory | None:
        """Note a put. None if it created a key without a history; else the history, whose newest revision it is.

        Hot road: 0.3 us for a key that exists, 1.6 us for a new one at 1,000,000 keys (the sorted list).
        """
        entry = self.entries.get(key)
        if entry is None:
            self.entries[key] = packed
            self._created([key])
            self._note_in_journal([key], [packed])
            return None
        if entry.__class__ is int:
            self.entries[key] = history = _history_of(entry, packed)
            self.dirty.append(key)
            return history
        assert isinstance(entry, KeyHistory)
        if not entry.ended:
            entry.revisions.append(packed)
            entry.version += 1
            return entry
        self.entries[key] = history = KeyHistory([packed], packed >> SUB_BITS, 1, entry)
        self.ghosts.remove(key)
        self._created([key])
        self._note_in_journal([key], [packed])
        return history

    def put_run(self, keys: list[bytes], packed: list[Any]) -> tuple[list[int], list[int]]:
        """Note puts, one at least, at main revisions that follow each other. Returns, for each, the main revision that
        created its key and its version.

        Hot road: 0.6 us for a new key among 60,000.
        """
        first: int = packed[0] >> SUB_BITS
        creates = list(range(first, first + len(keys)))
        versions = [1] * len(keys)
        fresh: list[bytes] = []
        stamps: list[Any] = []
        entries = self.entries
        for position, key in enumerate(keys):
            revision = packed[position]  # the object itself: compiled code would make another of an int
            entry = entries.setdefault(key, revision)
            if entry is revision:
                fresh.append(key)
                stamps.append(revision)
                continue
            if isinstance(entry, KeyHistory) and not entry.ended:
                entry.revisions.append(revision)
                entry.version += 1
                history = entry
            else:
                known = self.put(key, revision)
                assert known is not None
                history = known
            creates[position] = history.create
            versions[position] = history.version
        if fresh:
            self._created(fresh)
            self._note_in_journal(fresh, stamps)
        return creates, versions

    def delete(self, key: bytes, packed: int) -> int:
        """Note a deletion of a live key. Returns the packed revision that it ends."""
        previous = self._end(key, packed)
        self.live.remove(key)
        self.ghosts.add(key)
        return previous

    def delete_many(self, keys: list[bytes], packed: int) -> list[int]:
        """Note the deletion of neighbouring live keys, at `packed` and the following sub revisions."""
        previous = [self._end(key, packed + sub) for sub, key in enumerate(keys)]
        first = self.live.bisect_left(keys[0])
        del self.live[first : first + len(keys)]
        add_all(self.ghosts, keys)
        return previous

    def _end(self, key: bytes, packed: int) -> int:
        entry = self.entries[key]
        if isinstance(entry, int):
            self.entries[key] = history = _history_of(entry, packed)
            self.dirty.append(key)
        else:
            assert not entry.ended
            history = entry
            history.revisions.append(packed)
            history.version += 1
        history.ended = True
        self._note_in_journal([key], [-packed])
        return history.revisions[-2]

    def mod(self, key: bytes) -> int:
        """The packed revision of a live key, 0 for any other."""
        entry = self.entries.get(key)
        if entry is None:
            return 0
        if isinstance(entry, int):
            return entry & _REVISION_MASK
        return 0 if entry.ended else entry.revisions[-1]

    def current(self, key: bytes) -> KeyState | None:
        """A key as it is now."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if isinstance(entry, int):
            return _state_of(entry)
        return None if entry.ended else KeyState(entry.revisions[-1], entry.create, entry.version)

    def at(self, key: bytes, main: int) -> KeyState | None:
        """A key at a main revision that no compaction has passed."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if isinstance(entry, int):
            return _state_of(entry) if entry & _REVISION_MASK < (main + 1) << SUB_BITS else None
        return entry.at(main)

    def span(self, key: bytes, end: bytes | None) -> tuple[int, int]:
        """Positions in `live` of the keys from `key` to before `end` (None: no upper bound)."""
        low = self.live.bisect_left(key)
        high = len(self.live) if end is None else self.live.bisect_left(end)
        return low, max(low, high)

    def mods(self, keys: Iterable[bytes]) -> list[int]:
        """The packed revisions of live keys. 0.08 us a key: every list passes here."""
        entries = self.entries
        mask = _REVISION_MASK
        return [
            entry & mask if entry.__class__ is int else entry.revisions[-1]  # type: ignore[union-attr]
            for entry in [entries[key] for key in keys]
        ]

    def rows(self, keys: Iterable[bytes]) -> list[Row]:
        """Live keys with their state: (key, packed revision, create, version). Plain tuples: 0.4 us a key."""
        rows: list[Row] = []
        entries = self.entries
        for key in keys:
            entry = entries[key]
            if isinstance(entry, int):
                if entry < _HEAD_START:
                    rows.append((key, entry, entry >> SUB_BITS, 1))
                else:
                    rows.append((key, *_state_of(entry)))
            else:
                rows.append((key, entry.revisions[-1], entry.create, entry.version))
        return rows

    def rows_at(self, keys: Iterable[bytes], main: int) -> list[Row]:
        """The same at a main revision, without the keys that do not exist there."""
        rows: list[Row] = []
        entries = self.entries
        bound = (main + 1) << SUB_BITS
        for key in keys:
            entry = entries[key]
            if not isinstance(entry, int):
                state = entry.at(main)
                if state is not None:
                    rows.append((key, *state))
            elif entry < _HEAD_START:
                if entry < bound:
                    rows.append((key, entry, entry >> SUB_BITS, 1))
            elif entry & _REVISION_MASK < bound:
                rows.append((key, *_state_of(entry)))
        return rows

    def walk(self, key: bytes, end: bytes | None) -> Iterator[bytes]:
        """Live keys and ghosts of a range, in order. The index must not change while the iterator is used."""
        live = self.live.irange(key, end, (True, False))
        if not self.ghosts:
            return live
        ghosts = self.ghosts.irange(key, end, (True, False))
        return _merge(live, ghosts)

    def count_at(self, key: bytes, end: bytes | None, main: int) -> int | None:
        """How many keys of a range exist at an older revision: today's count, corrected by what came and went since.

        None when the journal does not reach back that far. At most INDEX_JOURNAL_ENTRIES_MAX entries of 0.06 us.
        """
        if main < self._journal_floor:
            return None
        low, high = self.span(key, end)
        count = high - low
        bound = (main + 1) << SUB_BITS
        for stamp, name in zip(reversed(self._journal_stamps), reversed(self._journal_keys), strict=True):
            if abs(stamp) < bound:
                break
            if key <= name and (end is None or name < end):
                count += 1 if stamp < 0 else -1
        return count

    def begin_compaction(self) -> None:
        """Take all dirty keys as the work of a compaction."""
        if self._being_compacted:  # left by a walk that was given up
            self.dirty += self._being_compacted
        self._being_compacted, self.dirty = self.dirty, []

    def compact_slice(self, main: int, removed: list[int], keys_max: int) -> bool:
        """Compact at most that many dirty keys, list the revisions that go. True while there are more."""
        work, entries = self._being_compacted, self.entries
        for _ in range(keys_max):
            if not work:
                return False
            key = work.pop()
            entry = entries[key]
            assert isinstance(entry, KeyHistory)
            left = entry.compact(main, removed)
            if left is None:
                del entries[key]
                self.ghosts.remove(key)
            elif len(left.revisions) == 1 and left.older is None and not left.ended:
                entries[key] = _int_of(left)
            else:
                self.dirty.append(key)
        return True

    def restore_created(self, keys: list[bytes], packed: list[int]) -> None:
        """`restore` for puts that created their keys, the only revision of most."""
        if self.entries.add_all(keys, packed):
            self._restored += keys
            return
        for key, revision in zip(keys, packed, strict=True):
            if self.entries[key] == revision:
                self._restored.append(key)
            else:
                self.restore(key, revision, deleted=False, create=revision >> SUB_BITS, version=1)

    def restore(self, key: bytes, packed: int, *, deleted: bool, create: int, version: int) -> None:
        """Take in a revision read from disk, in order of revisions, without the sorted lists (`finish_restore`)."""
        entry = self.entries.get(key)
        if isinstance(entry, KeyHistory) and not entry.ended:
            entry.revisions.append(packed)
            entry.version += 1
            entry.ended = deleted
            return
        if entry is None:
            self._restored.append(key)
            if not deleted:
                plain = version == 1 and create == packed >> SUB_BITS
                self.entries[key] = packed if plain else create << _CREATE_SHIFT | version << HEAD_BITS | packed
                return
            history = KeyHistory([packed], 0, 1)
            history.ended = True
            self.dirty.append(key)
        elif isinstance(entry, int):
            history = _history_of(entry, packed)
            history.ended = deleted
            self.dirty.append(key)
        elif deleted:  # a second deletion in a row says nothing new; etcd only warns
            return
        else:
            history = KeyHistory([packed], packed >> SUB_BITS, 1, entry)
        self.entries[key] = history

    def finish_restore(self, main: int) -> None:
        """Sort the keys. `main` is the current revision; the journal starts there."""
        entries = self.entries
        keys, self._restored = self._restored, []
        ghosts = [key for key in self.dirty if entries[key].ended]  # type: ignore[union-attr]
        self.ghosts = sorted_keys(ghosts)
        if ghosts:
            gone = frozenset(ghosts)
            keys = [key for key in keys if key not in gone]
        self._live = sorted_keys(keys)
        self._journal_keys.clear()
        self._journal_stamps.clear()
        self._journal_floor = main

    def finish_restore_steps(self, main: int) -> Generator[None, None, None]:
        """The same in slices, for an index that is built while another one serves: 2 us a key instead of 0.4."""
        entries = self.entries
        keys, self._restored = self._restored, []
        keys.reverse()
        while chunk := keys[-RANGE_SLICE_KEYS_MAX:]:
            del keys[-RANGE_SLICE_KEYS_MAX:]
            ended = [key for key in chunk if (entry := entries[key]).__class__ is not int and entry.ended]  # type: ignore[union-attr]
            gone = frozenset(ended)
            add_all(self.ghosts, ended)
            add_all(self.live, [key for key in chunk if key not in gone])
            yield
        self._journal_floor = main

    def dispose_steps(self) -> Generator[None, None, None]:
        """Let go of everything in slices: a million keys at once would hold the loop for 100 ms."""
        for keys in (self.live, self.ghosts):
            while keys:
                for _ in range(min(len(keys), RANGE_SLICE_KEYS_MAX)):
                    keys.pop()
                yield
        for dirty in (self.dirty, self._being_compacted, self._journal_keys, self._journal_stamps):
            while dirty:
                del dirty[-RANGE_SLICE_KEYS_MAX:]
                yield
        for part in self.entries.parts:
            part.clear()
            yield


def _state_of(entry: int) -> KeyState:
    if entry < _HEAD_START:
        return KeyState(entry, entry >> SUB_BITS, 1)
    return KeyState(entry & _REVISION_MASK, entry >> _CREATE_SHIFT, entry >> HEAD_BITS & _VERSION_MASK)


def _history_of(entry: int, packed: int) -> KeyHistory:
    """What a second revision makes of an entry that was an int."""
    if entry < _HEAD_START:
        return KeyHistory([entry, packed], entry >> SUB_BITS, 2)
    version = entry >> HEAD_BITS & _VERSION_MASK
    return KeyHistory([entry & _REVISION_MASK, packed], entry >> _CREATE_SHIFT, version + 1)


def _int_of(history: KeyHistory) -> int:
    """The int that says the same as a history of one put."""
    packed = history.revisions[0]
    if history.version == 1 and history.create == packed >> SUB_BITS:
        return packed
    return history.create << _CREATE_SHIFT | history.version << HEAD_BITS | packed


def _merge(first: Iterator[bytes], second: Iterator[bytes]) -> Iterator[bytes]:
    """Two sorted iterators without a common key, as one."""
    left, right = next(first, None), next(second, None)
    while left is not None and right is not None:
        if left < right:
            yield left
            left = next(first, None)
        else:
            yield right
            right = next(second, None)
    if left is not None:
        yield left
        yield from first
    if right is not None:
        yield right
        yield from second
