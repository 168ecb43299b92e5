"""The payload of a normal entry, etcdserverpb.InternalRaftRequest, written and read.

Written by hand around the bytes that the client sent: a request is encoded once, by the client, and travels in that
form into the log.
"""

from __future__ import annotations

from typing import Any, Final

from etcdpy.proto import raft_internal_pb2
from etcdpy.wire import varint

_NOT_REQUESTS: Final = frozenset({"header", "ID"})

TAGS: Final = {
    field.name: varint(field.number << 3 | 2)
    for field in raft_internal_pb2.InternalRaftRequest.DESCRIPTOR.fields
    if field.name not in _NOT_REQUESTS
}
"""Every kind of request, by its field's name, and that field's tag."""

_HEADER_TAG: Final = varint(100 << 3 | 2)
_COUNTER_BITS: Final = 21
_COUNTER_END: Final = 1 << _COUNTER_BITS


class EntryEncoder:
    """Makes payloads with request ids that never repeat, not even over restarts (`seed`: milliseconds since 1970).

    etcd members refuse an entry without an id. An id is `seed` and a counter, in such places that the counter is the
    first three bytes of the id's varint and the rest stays the same for two million requests.
    """

    __slots__ = ("_base", "_counter", "_tail")

    def __init__(self, seed: int) -> None:
        # 42 bits of time above the counter keep the id positive for clients that read it as int64.
        self._base = seed & ((1 << 41) - 1)
        self._counter = 0
        self._tail = varint(self._base)

    def encode(self, kind: str, body: bytes) -> bytes:
        """The payload of a request of that kind, whose own wire form is `body`."""
        counter = self._counter
        if counter == _COUNTER_END - 1:
            self._base += 1
            self._tail = varint(self._base)
            self._counter = 0
        else:
            self._counter = counter + 1
        tail = self._tail
        size = len(body)
        length = bytes((size,)) if size < 0x80 else varint(size)
        return b"".join(
            (
                TAGS[kind],
                length,
                body,
                _HEADER_TAG,
                bytes(
                    (
                        len(tail) + 4,
                        0x08,
                        counter & 0x7F | 0x80,
                        counter >> 7 & 0x7F | 0x80,
                        counter >> 14 & 0x7F | 0x80,
                    )
                ),
                tail,
            )
        )


def decode(data: bytes) -> tuple[str, Any]:
    """The kind of request in an entry's payload, and the request. Raises ValueError when no known kind is set."""
    request = raft_internal_pb2.InternalRaftRequest.FromString(data)
    for descriptor, value in request.ListFields():
        if descriptor.name not in _NOT_REQUESTS:
            return descriptor.name, value
    raise ValueError("a log entry holds no request that this version knows")
