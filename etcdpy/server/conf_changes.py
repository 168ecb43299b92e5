"""Changes of members on their way through the log, and who waits for them here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.errors import EtcdError, MemberNotEnoughStarted, Timeout, TooManyRequests
from etcdpy.membership.changes import is_promotion
from etcdpy.proto import raft_pb2
from etcdpy.raft.errors import InvalidConfChange, ProposalDropped
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.membership.member import Member
    from etcdpy.membership.members import Membership

log = logs.get("membership")

_ADDED: Final = {
    raft_pb2.ConfChangeAddNode: "added member",
    raft_pb2.ConfChangeAddLearnerNode: "added member",
}


class ConfChanges:
    """Proposes changes of members and answers once they are applied, whoever leads. Owned by the core loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        membership: Membership,
        propose: Callable[[raft_pb2.ConfChange], None],
        new_id: Callable[[], int],
        *,
        timeout_seconds: float,
    ) -> None:
        """`propose` hands a change to raft, raising ProposalDropped; `new_id` gives ids that no member gives twice."""
        self._loop = loop
        self._membership = membership
        self._propose = propose
        self._new_id = new_id
        self._timeout_seconds = timeout_seconds
        self._waiting: dict[int, asyncio.Future[list[Member]]] = {}

    async def propose(self, change: raft_pb2.ConfChange) -> list[Member]:
        """Take a change through the log; the members as it left them. Raises EtcdError."""
        if len(self._waiting) >= limits.CONF_CHANGES_WAITING_MAX:
            raise TooManyRequests
        change.id = self._new_id()
        result: asyncio.Future[list[Member]] = self._loop.create_future()
        self._waiting[change.id] = result
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._take_in(change)
                return await result
        except TimeoutError:
            raise Timeout from None
        finally:
            del self._waiting[change.id]

    async def _take_in(self, change: raft_pb2.ConfChange) -> None:
        """Raft takes one change at a time, and none without a leader: wait until it takes this one."""
        while True:
            try:
                self._propose(change)
                return
            except ProposalDropped as dropped:
                if isinstance(dropped.__cause__, InvalidConfChange):
                    raise MemberNotEnoughStarted from dropped  # nobody would be left to vote
                await asyncio.sleep(limits.CONF_CHANGE_RETRY_SECONDS)

    def applied(self, change: raft_pb2.ConfChange, error: EtcdError | None) -> None:
        """A change was applied, or came to nothing."""
        if error is not None:
            log.error("Validation on configuration change failed", error=error.message)
        else:
            self._tell(change)
        result = self._waiting.get(change.id)
        if result is None or result.done():
            return
        if error is None:
            result.set_result(self._membership.members)
        else:
            result.set_exception(error)

    def _tell(self, change: raft_pb2.ConfChange) -> None:
        """One line, as etcd's operators know it."""
        member = self._membership.get(change.node_id)
        text = "removed member"
        if member is not None:
            text = _ADDED.get(change.type, "updated member")
            text = "promote member" if text == "added member" and is_promotion(change) else text
        log.info(
            text,
            **{
                "cluster-id": f"{self._membership.cluster_id:x}",
                "local-member-id": f"{self._membership.own_id:x}",
                "member-id": f"{change.node_id:x}",
                "peer-urls": list(member.peer_urls) if member is not None else [],
                "is-learner": member is not None and member.is_learner,
            },
        )

    def refuse_all(self, error: type[EtcdError]) -> None:
        """The member ends: nobody gets an answer any more."""
        for result in self._waiting.values():
            if not result.done():
                result.set_exception(error())
