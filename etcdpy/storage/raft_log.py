"""The raft log on disk.

    <index, 8 bytes big endian>   the entry of that index and those that were stored with it: see log_records
    meta/bootstrap                raftpb.ConfState: the group at index 0
    meta/hard_state               term, vote, commit (8 bytes each)
    meta/identity                 16 random bytes, the same in the state database
    meta/start                    index, term of the last truncated entry (8 bytes each); 0, 0 when complete

How the database keeps them: see log_database. Each batch writes the hard state, so that the newest batch alone decides
it. Reading goes through memory: recent wire
forms (what a follower that keeps up will ask for) and the runs of equal terms, which is all that most questions need.
"""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import chain, islice
from struct import Struct
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, decode_entry, encode_entries
from etcdpy.raft.errors import LogCompacted, LogUnavailable
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage.errors import DamagedError
from etcdpy.storage.leveldb import REPLACE
from etcdpy.storage.log_records import MalformedRecord, join_entries, shares, split_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from etcdpy.storage.leveldb import Batch, Database

BOOTSTRAP_KEY: Final = b"meta/bootstrap"
HARD_STATE_KEY: Final = b"meta/hard_state"
IDENTITY_KEY: Final = b"meta/identity"
START_KEY: Final = b"meta/start"
FIRST_META_KEY: Final = b"meta/"
"""Entries sort before it: their indexes stay far below 0x6d << 56."""

_INDEX: Final = Struct(">Q").pack
_PAIR: Final = Struct(">QQ")
_TRIPLE: Final = Struct(">QQQ")


def pack_pair(first: int, second: int) -> bytes:
    """Two numbers of 8 bytes."""
    return _PAIR.pack(first, second)


def pack_hard_state(state: HardState) -> bytes:
    """The hard state's record."""
    return _TRIPLE.pack(*state)


def unpack_hard_state(record: bytes) -> HardState:
    """The hard state in its record; raises ValueError."""
    if len(record) != _TRIPLE.size:
        raise ValueError(f"{len(record)} bytes instead of {_TRIPLE.size}")
    return HardState(*_TRIPLE.unpack(record))


def unpack_pair(record: bytes) -> tuple[int, int]:
    """Two numbers of 8 bytes; raises ValueError."""
    if len(record) != _PAIR.size:
        raise ValueError(f"{len(record)} bytes instead of {_PAIR.size}")
    first, second = _PAIR.unpack(record)
    return first, second


class RaftLog:
    """Implements etcdpy.raft.types.LogStorage. Writes are prepared here and done by the engine's jobs."""

    def __init__(self, database: Database, path: Path) -> None:
        self._database = database
        self._path = path
        self.hard_state = HardState()
        """As it will be in the next batch."""
        self.conf_state = ConfState()
        """The group as of the applied index; the engine keeps it up to date."""
        self.applied = 0, 0
        """Index and term of the last applied entry, likewise."""
        self.start_index = 0
        """The last truncated entry; 0 when the log is complete from its first entry on."""
        self._last = 0
        # The first entry of each record, in order; that of the first record may be truncated already. A record ends
        # where the next begins, the last one at _last.
        self._records: list[int] = []
        self._stale: deque[int] = deque()
        """The records that hold nothing but truncated entries and are still there, lowest first."""
        # Runs of equal terms: terms[i] holds from first_of_term[i] on. The first run starts at start_index, so that the
        # term of the point of truncation is known.
        self._first_of_term: list[int] = [0]
        self._terms: list[int] = [0]
        self._recent: list[bytes] = []
        """Wire forms of the newest entries, up to _last."""
        self._recent_bytes = 0

    def restore(self, start: tuple[int, int], entries: Sequence[tuple[int, int]], records: list[int]) -> None:
        """Take over what recovery found: the point of truncation, the (index, term) where each run of terms begins,
        the last one doubling as end, and the first entry of each record: see recovery.read_log."""
        self.start_index, start_term = start
        self._first_of_term, self._terms = [self.start_index], [start_term]
        self._last = self.start_index
        for index, term in entries:
            self._note_term(index, term)
            self._last = index
        self._records = records
        self._let_go(self._ended_by(self.start_index))

    # --- LogStorage ---

    def initial_state(self) -> tuple[HardState, ConfState]:
        """See LogStorage."""
        return self.hard_state, self.conf_state

    def first_index(self) -> int:
        """See LogStorage."""
        return self.start_index + 1

    def last_index(self) -> int:
        """See LogStorage."""
        return self._last

    def term(self, index: int) -> int:
        """See LogStorage."""
        self._check(index, index)
        return self._terms[bisect_right(self._first_of_term, index) - 1]

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """See LogStorage. Also raises DamagedError."""
        if lo <= self.start_index:
            raise LogCompacted(f"entry {lo} was truncated; the log starts at {self.start_index + 1}")
        self._check(lo, hi - 1)
        first_recent = self._last + 1 - len(self._recent)
        if lo >= first_recent:
            return _decode(self._recent[lo - first_recent : hi - first_recent], max_bytes)
        return self._read(lo, hi, max_bytes)

    def snapshot(self) -> raft_pb2.Snapshot:
        """See LogStorage: of the applied state as it is now. The state itself is engine.frozen_view's."""
        index, term = self.applied
        metadata = raft_pb2.SnapshotMetadata(conf_state=self.conf_state.to_proto(), index=index, term=term)
        return raft_pb2.Snapshot(metadata=metadata)

    def _check(self, lo: int, hi: int) -> None:
        if lo < self.start_index:
            raise LogCompacted(f"entry {lo} was truncated; the log starts at {self.start_index + 1}")
        if hi > self._last:
            raise LogUnavailable(f"no entry {hi}: the log ends at {self._last}")

    def _read(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        position = bisect_right(self._records, lo) - 1
        first = self._records[position]
        try:
            wires = chain.from_iterable(map(split_record, self._stored(position)))
            entries = _decode(islice(wires, lo - first, hi - first), max_bytes)
        except MalformedRecord:
            entries = []
        if not entries or entries[0].index != lo or entries[-1].index != lo + len(entries) - 1:
            raise DamagedError(f"{self._path}: entries {lo} to {hi - 1} cannot be read back; {REPLACE}")
        return entries

    def _stored(self, position: int) -> Iterator[bytes]:
        """The records from that one on, each read when it is wanted."""
        for first in islice(self._records, position, None):
            yield self._database.get(_INDEX(first)) or b""

    # --- writing ---

    def append(self, batch: Batch, entries: Sequence[Entry]) -> int:
        """Put the hard state and `entries` into `batch`, replacing what the log holds from entries[0].index on.

        Returns bytes of keys and values. Hot road: compiled, 0.2 us an entry.
        """
        batch.put(HARD_STATE_KEY, _TRIPLE.pack(*self.hard_state))
        if not entries:
            return 0
        first, last = entries[0].index, entries[-1].index
        assert self.start_index < first <= self._last + 1, (self.start_index, first, self._last)
        if first <= self._last:
            self._cut(batch, first)
        values = encode_entries(entries)
        self._put_records(batch, first, values)
        self._last = last
        size = sum(map(len, values))
        self._remember(values, size)
        if entries[-1].term != self._terms[-1]:
            for entry in entries:
                self._note_term(entry.index, entry.term)
        return size + 8 * len(values)

    def _put_records(self, batch: Batch, index: int, wires: Sequence[bytes]) -> None:
        """Put entries from `index` on, where the last record ends, into `batch`."""
        for share in shares(wires):
            batch.put(_INDEX(index), join_entries(share))
            self._records.append(index)
            index += len(share)

    def _cut(self, batch: Batch, first: int) -> None:
        """Entries from `first` on are about to be replaced: no record may reach beyond it."""
        records = self._records
        position = bisect_left(records, first)
        kept: list[Entry] = []
        if (records[position] if position < len(records) else self._last + 1) > first:
            # The record before holds some of them; what it keeps is stored anew.
            position -= 1
            start = max(records[position], self.start_index + 1)
            kept = self.entries(start, first, sys.maxsize) if start < first else []
        for record in records[position:]:
            batch.delete(_INDEX(record))
        del records[position:]
        if kept:
            self._put_records(batch, kept[0].index, encode_entries(kept))
        self._forget(first)

    def _note_term(self, index: int, term: int) -> None:
        if term != self._terms[-1]:
            self._first_of_term.append(index)
            self._terms.append(term)

    def _forget(self, first: int) -> None:
        """Entries from `first` on are about to be replaced."""
        keep = bisect_right(self._first_of_term, first - 1)
        del self._first_of_term[keep:]
        del self._terms[keep:]
        first_recent = self._last + 1 - len(self._recent)
        removed = self._recent[max(first - first_recent, 0) :]
        self._recent_bytes -= sum(map(len, removed))
        del self._recent[max(first - first_recent, 0) :]

    def _remember(self, values: list[bytes], size: int) -> None:
        """Keep the newest entries, within the limits; trimmed in large steps to stay cheap."""
        recent = self._recent
        recent += values
        self._recent_bytes += size
        limit = limits.RAFT_LOG_RECENT_BYTES
        if self._recent_bytes <= 2 * limit:
            return
        drop = 0
        while self._recent_bytes > limit and drop < len(recent) - 1:
            self._recent_bytes -= len(recent[drop])
            drop += 1
        del recent[:drop]

    def truncate(self, batch: Batch, index: int) -> None:
        """Put the new point of truncation into `batch`: entries up to `index` are no longer part of the log.

        The state database must be durable past `index`. The entries themselves go by delete_truncated, in slices.
        """
        assert self.start_index <= index <= self._last, (self.start_index, index, self._last)
        term = self.term(index)
        batch.put(START_KEY, _PAIR.pack(index, term))
        keep = bisect_right(self._first_of_term, index) - 1
        del self._first_of_term[:keep]
        del self._terms[:keep]
        self._first_of_term[0] = index
        self.start_index = index
        self._let_go(self._ended_by(index))

    def start_anew(self, batch: Batch, index: int, term: int, identity: bytes) -> None:
        """Put into `batch` that the log goes on after entry `index` of `term`, which no entry of it led to, beside the
        state of that identity. Entries up to `index` go by delete_truncated; later ones would count, so they go now."""
        ended = self._ended_by(index)
        for record in self._records[ended:]:
            batch.delete(_INDEX(record))
        del self._records[ended:]
        self._let_go(ended)
        batch.put(START_KEY, _PAIR.pack(index, term))
        batch.put(HARD_STATE_KEY, _TRIPLE.pack(*self.hard_state))
        batch.put(IDENTITY_KEY, identity)
        self._first_of_term, self._terms = [index], [term]
        self._recent, self._recent_bytes = [], 0
        self.start_index = self._last = index

    def _ended_by(self, index: int) -> int:
        """How many records hold nothing after `index`."""
        if index >= self._last:
            return len(self._records)
        return max(bisect_right(self._records, index + 1) - 1, 0)

    def _let_go(self, count: int) -> None:
        """The first records hold truncated entries alone."""
        self._stale += self._records[:count]
        del self._records[:count]

    def delete_truncated(self, batch: Batch, count: int) -> None:
        """Put deletions of truncated entries into `batch`: of `count` records at the most."""
        for _ in range(min(count, len(self._stale))):
            batch.delete(_INDEX(self._stale.popleft()))

    @property
    def has_truncated(self) -> bool:
        """Whether records of truncated entries wait to be deleted."""
        return bool(self._stale)

    def record_end(self, index: int) -> int:
        """The last entry of the record that begins with entry `index`; 0 where none begins there that will stay."""
        records = self._records
        position = bisect_left(records, index)
        if position == len(records) or records[position] != index:
            return 0
        return records[position + 1] - 1 if position + 1 < len(records) else self._last


def _decode(values: Iterable[bytes], max_bytes: int) -> list[Entry]:
    """The first of the entries, as many as there are within `max_bytes` of data. 1.3 us an entry, for a member that
    lags by more than what raft has at hand."""
    entries: list[Entry] = []
    size = 0
    for value in values:
        entry = decode_entry(value)
        size += len(entry.data)
        if entries and size > max_bytes:
            break
        entries.append(entry)
    return entries
