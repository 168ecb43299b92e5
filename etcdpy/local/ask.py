"""What a local member is asked, over its API with the client certificate."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from etcdpy.client.channels import open_channel
from etcdpy.client.stubs import KV, Maintenance
from etcdpy.local.place import MEMBER
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.local.place import Place

CALL_SECONDS_MAX: Final = 2.0
GREETING_KEY: Final = f"local/{MEMBER}/started".encode()


@dataclass(frozen=True, slots=True)
class Status:
    """A look at the member."""

    version: str
    leads: bool
    revision: int
    keys: int
    db_bytes: int
    raft_term: int
    raft_index: int


class Asker:
    """One connection to the member."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._kv = KV(channel)
        self._maintenance = Maintenance(channel)

    def is_healthy(self) -> bool:
        """Whether it takes a write and gives it back."""
        value = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
        try:
            self._kv.Put(rpc_pb2.PutRequest(key=GREETING_KEY, value=value), timeout=CALL_SECONDS_MAX)
            found = self._kv.Range(rpc_pb2.RangeRequest(key=GREETING_KEY), timeout=CALL_SECONDS_MAX)
        except grpc.RpcError:
            return False
        return [pair.value for pair in found.kvs] == [value]

    def status(self) -> Status | None:
        """How it is; None while it does not answer."""
        try:
            answer = self._maintenance.Status(rpc_pb2.StatusRequest(), timeout=CALL_SECONDS_MAX)
            count = self._kv.Range(
                rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0", count_only=True), timeout=CALL_SECONDS_MAX
            )
        except grpc.RpcError:
            return None
        return Status(
            version=answer.version,
            leads=answer.leader == answer.header.member_id,
            revision=count.header.revision,
            keys=count.count,
            db_bytes=answer.dbSize,
            raft_term=answer.raftTerm,
            raft_index=answer.raftIndex,
        )


@contextmanager
def asking(place: Place) -> Iterator[Asker]:
    """A connection that is closed at the end."""
    # A member that is not up yet is asked again soon, not after grpcio's second.
    options = (("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200))
    with open_channel(place.endpoint, place.client_tls, options) as channel:
        yield Asker(channel)
