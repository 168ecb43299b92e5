"""The seam between the pure rooms (mvcc, lease, membership, apply) and what keeps bytes: LevelDB, or a dict in tests.

One flat, ordered key space holds all applied state. The first byte of a key is its bucket, so that no room can write
into another's. Writes gather in an open batch that becomes durable as a whole, together with the applied index; reads
see them at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REVISION_BUCKET: Final = b"r"
"""mvcc: `r` + revision (8 bytes main, 4 bytes sub, big endian) [+ `t` for a tombstone] -> mvccpb.KeyValue."""

LEASE_BUCKET: Final = b"l"
"""lease: `l` + id (8 bytes, big endian) -> leasepb.Lease."""

MEMBER_BUCKET: Final = b"n"
"""membership: `n` + id (8 bytes) -> etcdserverpb.Member; removed ids: `x` + id (8 bytes)."""

REMOVED_MEMBER_BUCKET: Final = b"x"

ALARM_BUCKET: Final = b"a"
"""apply: `a` + wire form of etcdserverpb.AlarmMember -> empty."""

AUTH_BUCKET: Final = b"u"
"""auth: `u` + name of etcd's bucket (`auth`, `authRoles`, `authUsers`) + 0 + etcd's key -> etcd's value."""

META_BUCKET: Final = b"m"
"""Single values by name: `m` + name. Names are declared by the room that owns the value."""


class Backend(Protocol):
    """An ordered map of bytes. Every method may be called from the core loop only."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, the open batch included; None when absent."""
        ...

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs with start <= key < end in key order (or its reverse).

        The iterator sees the map as it was when `scan` was called, whatever is written while it runs; it must be
        exhausted or closed (`.close()` where it is a generator).
        """
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key` in the open batch."""
        ...

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Set each key to its value, in order."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove `key` in the open batch; removing an absent key is no error."""
        ...
