"""etcdserverpb.Cluster: who the members are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from etcdpy.api.checks import parse
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.api.header import HeaderSource
    from etcdpy.errors import EtcdError
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
    """Answers from the applied membership."""

    def __init__(self, membership: Membership, reads: LinearizableReads, header: HeaderSource) -> None:
        self._membership = membership
        self._reads = reads
        self._header = header

    def member_list(self, call: Call, body: bytes) -> None:
        """Cluster.MemberList. A linearizable one first confirms that this member is not cut off."""
        request = parse(rpc_pb2.MemberListRequest, body)

        def answer(error: EtcdError | None) -> None:
            if error is not None:
                call.fail(error)
                return
            members = [member.to_proto() for member in self._membership.members]
            call.finish(self._header.embed(0) + rpc_pb2.MemberListResponse(members=members).SerializeToString())

        if request.linearizable:
            self._reads.when_linearizable(answer)
        else:
            answer(None)
