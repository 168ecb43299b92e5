"""Who asks: a user's name, and the state of users and roles by which that was found out.

Both travel in the header of the log entry, so that every member judges the request alike when it is applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.proto import raft_internal_pb2
from etcdpy.wire import varint

if TYPE_CHECKING:
    from etcdpy.auth.store import Rights


class Identity:
    """A user's name and an auth revision. `stamp` is their wire form in etcdserverpb.RequestHeader.

    `rights` are what the user could do at that revision, where the store has put them; None says nothing.
    """

    __slots__ = ("name", "revision", "rights", "stamp")

    def __init__(self, name: str, revision: int) -> None:
        self.name = name
        self.revision = revision
        self.rights: Rights | None = None
        encoded = name.encode()
        self.stamp = b""
        if encoded:
            self.stamp = b"\x12" + varint(len(encoded)) + encoded
        if revision:
            self.stamp += b"\x18" + varint(revision)

    @classmethod
    def from_stamp(cls, stamp: bytes) -> Identity:
        """What a stamp says. Raises google.protobuf's DecodeError."""
        header = raft_internal_pb2.RequestHeader.FromString(stamp)
        return cls(header.username, header.auth_revision)


NOBODY: Final = Identity("", 0)
"""Of a request without any sign of who sends it."""
