"""Wire bytes of watch responses, made by hand: an event is encoded once and shared by every watcher that gets it.

A WatchResponse is a header (field 1), the watcher's id (field 2) and its events (field 11) one after another, so a
response for one watcher is the join of a header shared by a batch, an id encoded at the watcher's creation, and the
chunk of events shared by all watchers of a group. Protocol buffers in Python would parse and build each of them again.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from etcdpy.limits import WATCH_RESPONSE_BYTES_MAX, WATCH_RESPONSE_REVISIONS_MAX
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Change: TypeAlias = tuple[int, bytes, bool, bytes]
"""(packed revision = main << 32 | sub, key, deleted, record), the record being the wire form of the stored KeyValue."""

PreviousRecord: TypeAlias = "Callable[[bytes, int], bytes | None]"
"""(key, main revision) -> the key's record as of that revision; None when it did not exist or is compacted."""

CREATED: Final = b"\x18\x01"
CANCELED: Final = b"\x20\x01"
FRAGMENT: Final = b"\x38\x01"
INVALID_WATCH_ID: Final = -1
"""The id of answers that belong to no watcher: refused creates and answers to progress requests."""

_HEAD_MEMO_RECORD_BYTES: Final = 4096
_packed = attrgetter("packed")


def id_field(watch_id: int) -> bytes:
    """Field 2 of a WatchResponse; empty for id 0, which is how proto3 says it."""
    return b"\x10" + varint(watch_id) if watch_id else b""


def compact_revision_field(revision: int) -> bytes:
    """Field 5 of a WatchResponse."""
    return b"\x28" + varint(revision)


def cancel_reason_field(reason: str) -> bytes:
    """Field 6 of a WatchResponse."""
    text = reason.encode()
    return b"\x32" + varint(len(text)) + text


def _put_head(record_size: int) -> bytes:
    event_size = 1 + len(varint(record_size)) + record_size
    return b"\x5a" + varint(event_size) + b"\x12" + varint(record_size)


_PUT_HEADS: Final = tuple(_put_head(size) for size in range(_HEAD_MEMO_RECORD_BYTES))


class Headers:
    """Encodes field 1, the ResponseHeader, and remembers the last one: all responses of a batch carry the same."""

    __slots__ = ("_last", "_prefix", "_revision", "_term", "raft_term")

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._prefix = b"".join(
            tag + varint(value) for tag, value in ((b"\x08", cluster_id), (b"\x10", member_id)) if value
        )
        self._revision = -1
        self._term = -1
        self._last = b""
        self.raft_term = 0

    def encode(self, revision: int) -> bytes:
        """The header field with this revision (0 is left out, as proto3 does) and the present raft term."""
        if revision != self._revision or self.raft_term != self._term:
            body = self._prefix
            if revision:
                body += b"\x18" + varint(revision)
            if self.raft_term:
                body += b"\x20" + varint(self.raft_term)
            self._last = b"\x0a" + varint(len(body)) + body
            self._revision = revision
            self._term = self.raft_term
        return self._last


class Event:
    """One change as an element of `events`, tag and length included; encoded when first asked for, then kept."""

    __slots__ = ("_plain", "_with_previous", "deleted", "key", "packed", "record")

    def __init__(self, packed: int, key: bytes, deleted: bool, record: bytes) -> None:
        self.packed = packed
        self.key = key
        self.deleted = deleted
        self.record = record
        self._plain: bytes | None = None
        self._with_previous: bytes | None = None

    def plain(self) -> bytes:
        """The event without prev_kv."""
        chunk = self._plain
        if chunk is None:
            record = self.record
            if self.deleted:
                chunk = self._encode(b"")
            elif len(record) < _HEAD_MEMO_RECORD_BYTES:
                chunk = _PUT_HEADS[len(record)] + record
            else:
                chunk = _put_head(len(record)) + record
            self._plain = chunk
        return chunk

    @property
    def has_previous(self) -> bool:
        """Whether `with_previous` is already encoded and so costs no read."""
        return self._with_previous is not None

    def with_previous(self, previous_record: PreviousRecord) -> bytes:
        """The event with prev_kv, which a create has not, nor a change whose previous revision is compacted."""
        chunk = self._with_previous
        if chunk is None:
            previous = None if self.is_create() else previous_record(self.key, (self.packed >> 32) - 1)
            if previous is None:
                chunk = self.plain()
            else:
                chunk = self._encode(b"\x1a" + varint(len(previous)) + previous)
            self._with_previous = chunk
        return chunk

    def is_create(self) -> bool:
        """A put whose create_revision (field 2, right after the key) is its own revision."""
        if self.deleted:
            return False
        size = len(self.key)
        after_key = 1 + (1 if size < 128 else len(varint(size))) + size
        return self.record.startswith(b"\x10" + varint(self.packed >> 32), after_key)

    def _encode(self, previous_field: bytes) -> bytes:
        if self.deleted:
            # A tombstone is stored with its key alone; the event also carries the revision of the deletion.
            kv = b"\x0a" + varint(len(self.key)) + self.key + b"\x18" + varint(self.packed >> 32)
            event = b"\x08\x01\x12" + varint(len(kv)) + kv + previous_field
        else:
            event = b"\x12" + varint(len(self.record)) + self.record + previous_field
        return b"\x5a" + varint(len(event)) + event


class Part(NamedTuple):
    """The events of one response: whole main revisions, in order."""

    first_main: int
    chunks: list[bytes]
    pieces: list[bytes]
    """The same bytes in one piece, or where they are very many in several, which are never joined."""

    @property
    def size(self) -> int:
        """Bytes of all events."""
        return sum(map(len, self.pieces))


def build_parts(events: Sequence[Event], previous_record: PreviousRecord | None) -> list[Part]:
    """Cut events into responses at revision boundaries, by etcd's number of revisions and by size."""
    if previous_record is None:
        chunks = [event.plain() for event in events]
    else:
        chunks = [event.with_previous(previous_record) for event in events]
    if len(chunks) == 1:
        return [Part(events[0].packed >> 32, chunks, chunks)]
    parts: list[Part] = []
    begin = position = revisions = size = 0
    while position < len(events):
        end = _revision_end(events, position)
        grown = size + (len(chunks[position]) if end == position + 1 else sum(map(len, chunks[position:end])))
        revisions += 1
        if position > begin and (grown > WATCH_RESPONSE_BYTES_MAX or revisions > WATCH_RESPONSE_REVISIONS_MAX):
            parts.append(_part(events, chunks, begin, position))
            begin, revisions, grown = position, 1, grown - size
        position, size = end, grown
    parts.append(_part(events, chunks, begin, len(events)))
    return parts


def _revision_end(events: Sequence[Event], position: int) -> int:
    """Where the next main revision begins. Most have one event; a deletion of a range may have 100,000."""
    bound = ((events[position].packed >> 32) + 1) << 32
    if position + 1 == len(events) or events[position + 1].packed >= bound:
        return position + 1
    return bisect_left(events, bound, position, key=_packed)


def _part(events: Sequence[Event], chunks: list[bytes], begin: int, end: int) -> Part:
    own = chunks[begin:end]
    return Part(events[begin].packed >> 32, own, [b"".join(own)])


def fragments(head: bytes, part: Part, size_limit: int) -> list[bytes]:
    """The responses of a watcher that allowed fragments; every one but the last says that more follow.

    `head` is header and id. A response is cut when it would reach `size_limit` bytes and has more than one event,
    which are etcd's conditions; the mark of a fragment counts in the size of each piece.
    """
    if len(head) + part.size < size_limit or len(part.chunks) < 2:
        return [b"".join((head, *part.pieces))]
    base = len(head) + len(FRAGMENT)
    ends = list(accumulate(map(len, part.chunks), initial=0))
    out: list[bytes] = []
    first = 0
    while True:
        # The first chunk with which the piece would reach the limit; but a piece has one at least.
        after = max(bisect_left(ends, size_limit - base + ends[first], first + 1) - 1, first + 1)
        if after == len(part.chunks):
            out.append(b"".join((head, *part.chunks[first:])))
            return out
        out.append(b"".join((head, FRAGMENT, *part.chunks[first:after])))
        first = after
