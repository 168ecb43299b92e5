"""What local members are asked, over their API with the client certificate."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from etcdpy.client.channels import open_channel
from etcdpy.client.stubs import KV, Maintenance
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.local.place import MemberPlace, Place

CALL_SECONDS_MAX: Final = 2.0
# A member that is not up yet is asked again soon, not after grpcio's second.
_SOON: Final = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))


@dataclass(frozen=True, slots=True)
class Status:
    """A look at a member."""

    version: str
    role: str
    """leader, follower, learner, or no leader."""
    revision: int
    keys: int
    db_bytes: int
    raft_term: int
    raft_index: int


def _role(answer: rpc_pb2.StatusResponse) -> str:
    if answer.isLearner:
        return "learner"
    if not answer.leader:
        return "no leader"
    return "leader" if answer.leader == answer.header.member_id else "follower"


class Asker:
    """One connection to a member."""

    def __init__(self, member: MemberPlace, channel: grpc.Channel) -> None:
        self.member = member
        self._kv = KV(channel)
        self._maintenance = Maintenance(channel)

    def is_healthy(self) -> bool:
        """Whether it takes a write and gives it back."""
        key = f"local/{self.member.name}/started".encode()
        value = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
        try:
            self._kv.Put(rpc_pb2.PutRequest(key=key, value=value), timeout=CALL_SECONDS_MAX)
            found = self._kv.Range(rpc_pb2.RangeRequest(key=key), timeout=CALL_SECONDS_MAX)
        except grpc.RpcError:
            return False
        return [pair.value for pair in found.kvs] == [value]

    def status(self) -> Status | None:
        """How it is by its own account, also without a leader; None while it does not answer."""
        everything = rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True, serializable=True)
        try:
            answer = self._maintenance.Status(rpc_pb2.StatusRequest(), timeout=CALL_SECONDS_MAX)
            count = self._kv.Range(everything, timeout=CALL_SECONDS_MAX)
        except grpc.RpcError:
            return None
        return Status(
            version=answer.version,
            role=_role(answer),
            revision=count.header.revision,
            keys=count.count,
            db_bytes=answer.dbSize,
            raft_term=answer.raftTerm,
            raft_index=answer.raftIndex,
        )


@contextmanager
def asking(place: Place) -> Iterator[list[Asker]]:
    """A connection to each member; all are closed at the end."""
    with ExitStack() as channels:
        yield [
            Asker(member, channels.enter_context(open_channel(member.endpoint, place.client_tls, _SOON)))
            for member in place.members
        ]
