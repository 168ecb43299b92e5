"""A watch hub over a store in memory that is as simple as can be, and outboxes that keep what they are sent."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from etcdpy.mvcc.watch import WatchHub, WatchStream
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etcdpy.mvcc.watch import Change

CLUSTER_ID = 0xC0FFEE
MEMBER_ID = 0xBEEF
RAFT_TERM = 3


class MemoryHistory:
    """Every change ever made, in a list. Held against the backend's reader in tests/unit/mvcc/test_watch_history.py."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.current_revision = 1
        self.compact_revision = -1
        self._live: dict[bytes, tuple[int, int]] = {}
        self._records: dict[bytes, list[tuple[int, bytes | None]]] = {}
        self.scans = 0

    def write(self, *operations: tuple[bytes, bytes | None]) -> list[Change]:
        """One main revision of puts and (value None) deletions; a deletion of a missing key does nothing."""
        main = self.current_revision + 1
        made: list[Change] = []
        for key, value in operations:
            if value is None:
                if self._live.pop(key, None) is None:
                    continue
                record = kv_pb2.KeyValue(key=key).SerializeToString()
                self._records[key].append((main, None))
            else:
                create, version = self._live.get(key, (main, 0))
                self._live[key] = (create, version + 1)
                record = kv_pb2.KeyValue(
                    key=key, create_revision=create, mod_revision=main, version=version + 1, value=value
                ).SerializeToString()
                self._records.setdefault(key, []).append((main, record))
            made.append((main << 32 | len(made), key, value is None, record))
        if made:
            self.current_revision = main
            self.changes += made
        return made

    def compact(self, revision: int) -> None:
        """Changes below the revision are gone, as after the slowest possible reader of a compaction."""
        self.compact_revision = revision
        self.changes = [change for change in self.changes if change[0] >> 32 >= revision]

    def record_at(self, key: bytes, main_revision: int) -> bytes | None:
        if main_revision < self.compact_revision:
            return None
        found = None
        for main, record in self._records.get(key, ()):
            if main <= main_revision:
                found = record
        return found

    def changes_between(self, first_main: int, last_main: int) -> Iterator[Change]:
        self.scans += 1
        for change in list(self.changes):
            if first_main <= change[0] >> 32 <= last_main:
                yield change


class MemoryOutbox:
    """Keeps messages until they are `taken`; its buffered bytes are those not taken yet."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.buffered_bytes = 0
        self.sent_in_parts = 0

    def send(self, message: bytes) -> None:
        self.messages.append(message)
        self.buffered_bytes += len(message)

    def send_parts(self, parts: list[bytes]) -> None:
        self.sent_in_parts += 1
        self.send(b"".join(parts))

    def take(self, count: int | None = None) -> list[rpc_pb2.WatchResponse]:
        """The oldest messages, parsed, and out of the buffer."""
        count = len(self.messages) if count is None else count
        taken, self.messages = self.messages[:count], self.messages[count:]
        self.buffered_bytes = sum(map(len, self.messages))
        return [rpc_pb2.WatchResponse.FromString(message) for message in taken]

    def messages_of(self, watch_id: int) -> list[rpc_pb2.WatchResponse]:
        """The responses with events of one watcher; nothing is taken."""
        parsed = [rpc_pb2.WatchResponse.FromString(message) for message in self.messages]
        return [response for response in parsed if response.watch_id == watch_id and response.events]


class Watched:
    """A hub, its history, and shorthands."""

    def __init__(self, **options: Any) -> None:
        self.history = MemoryHistory()
        self.hub = WatchHub(self.history, cluster_id=CLUSTER_ID, member_id=MEMBER_ID, random=Random(7), **options)
        self.hub.raft_term = RAFT_TERM

    def open(self, now: float = 0.0) -> tuple[WatchStream, MemoryOutbox]:
        outbox = MemoryOutbox()
        return self.hub.open_stream(outbox, now), outbox

    def write(self, *operations: tuple[bytes, bytes | None]) -> list[Change]:
        """Write one revision and hand it out."""
        changes = self.history.write(*operations)
        self.hub.notify(changes)
        return changes

    def put(self, key: bytes, value: bytes = b"v") -> None:
        self.write((key, value))

    def delete(self, key: bytes) -> None:
        self.write((key, None))

    def write_batch(self, revisions: Sequence[Sequence[tuple[bytes, bytes | None]]]) -> None:
        """Several revisions applied as one batch."""
        changes: list[Change] = []
        for operations in revisions:
            changes += self.history.write(*operations)
        self.hub.notify(changes)

    def settle(self, slices_max: int = 10_000) -> int:
        """Run slices until there is nothing to do at once; returns how many."""
        for count in range(slices_max):
            if not self.hub.sync_slice():
                return count + 1
        raise AssertionError("watchers never catch up")


def create(key: bytes, range_end: bytes = b"", **fields: Any) -> rpc_pb2.WatchCreateRequest:
    return rpc_pb2.WatchCreateRequest(key=key, range_end=range_end, **fields)
