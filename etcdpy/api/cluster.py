"""etcdserverpb.Cluster: who the members are, and changing that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etcdpy.api.callers import shown_token
from etcdpy.api.checks import parse
from etcdpy.errors import EtcdError
from etcdpy.membership.urls import parse_peer_urls
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    from etcdpy.api.callers import Callers
    from etcdpy.api.header import HeaderSource
    from etcdpy.api.reconfigure import Reconfiguration
    from etcdpy.membership.member import Member
    from etcdpy.membership.members import Membership
    from etcdpy.transport.calls import Call


class LinearizableReads(Protocol):
    """Where a read learns that it may see the applied state."""

    @property
    def reads_are_current(self) -> bool:
        """Whether it may right now, without asking anybody."""
        ...

    async def wait_linearizable(self) -> None:
        """Return when it may. Raises EtcdError."""
        ...

    def when_linearizable(self, ready: Callable[[EtcdError | None], None]) -> None:
        """Call `ready` once the applied state holds all that was acknowledged before now, or with the error."""
        ...


class ClusterService:
    """Thin: shapes requests and answers. No header of this service shows a revision."""

    def __init__(
        self,
        membership: Membership,
        reads: LinearizableReads,
        callers: Callers,
        header: HeaderSource,
        reconfiguration: Reconfiguration,
    ) -> None:
        self._membership = membership
        self._reads = reads
        self._callers = callers
        self._header = header
        self._reconfiguration = reconfiguration

    def member_list(self, call: Call, body: bytes) -> None:
        """Cluster.MemberList. A linearizable one first confirms that this member is not cut off."""
        request = parse(rpc_pb2.MemberListRequest, body)

        def answer(error: EtcdError | None) -> None:
            if error is None:
                try:
                    self._callers.require_user(call)
                except EtcdError as refused:
                    error = refused
            if error is not None:
                call.fail(error)
                return
            self._finish(call, rpc_pb2.MemberListResponse(members=_wire(self._membership.members)))

        if request.linearizable:
            self._reads.when_linearizable(answer)
        else:
            answer(None)

    async def member_add(self, call: Call, body: bytes) -> None:
        """Cluster.MemberAdd."""
        request = parse(rpc_pb2.MemberAddRequest, body)
        parse_peer_urls(request.peerURLs)  # as on etcd even those hear of a bad URL who may not add members
        self._callers.check_admin(call)
        added, members = await self._reconfiguration.add(request.peerURLs, as_learner=request.isLearner)
        self._finish(call, rpc_pb2.MemberAddResponse(member=added.to_proto(), members=_wire(members)))

    async def member_remove(self, call: Call, body: bytes) -> None:
        """Cluster.MemberRemove."""
        request = parse(rpc_pb2.MemberRemoveRequest, body)
        self._callers.check_admin(call)
        members = await self._reconfiguration.remove(request.ID)
        self._finish(call, rpc_pb2.MemberRemoveResponse(members=_wire(members)))

    async def member_update(self, call: Call, body: bytes) -> None:
        """Cluster.MemberUpdate."""
        request = parse(rpc_pb2.MemberUpdateRequest, body)
        self._callers.check_admin(call)
        members = await self._reconfiguration.update(request.ID, request.peerURLs)
        self._finish(call, rpc_pb2.MemberUpdateResponse(members=_wire(members)))

    async def member_promote(self, call: Call, body: bytes) -> None:
        """Cluster.MemberPromote."""
        request = parse(rpc_pb2.MemberPromoteRequest, body)
        self._callers.check_admin(call)
        members = await self._reconfiguration.promote(request.ID, token=shown_token(call))
        self._finish(call, rpc_pb2.MemberPromoteResponse(members=_wire(members)))

    def _finish(self, call: Call, response: Message) -> None:
        call.finish(self._header.embed(0) + response.SerializeToString())


def _wire(members: Iterable[Member]) -> list[rpc_pb2.Member]:
    return [member.to_proto() for member in members]
