"""Changing the cluster while it runs: members, its leader, its version. What clients ask for and what other members
pass on to the leader goes the same way.

    check what only this moment can tell -> the change goes through the log -> it is judged again where it is applied
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from etcdpy.errors import (
    BadLeaderTransferee,
    ClusterVersionUnavailable,
    EtcdError,
    LeaderTransferTimeout,
    NoInflightDowngrade,
    NotLeader,
    UnknownMethod,
)
from etcdpy.membership import changes, rules, versions
from etcdpy.membership.member import Member, member_id
from etcdpy.membership.urls import parse_peer_urls
from etcdpy.proto import membership_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from etcdpy.api.cluster import LinearizableReads
    from etcdpy.api.proposals import Proposer
    from etcdpy.membership.members import Membership
    from etcdpy.proto import raft_pb2


logger = logging.getLogger("etcdpy.etcdserver")


class ClusterOperations(Protocol):
    """What changing the cluster needs of this member's place in the group."""

    @property
    def own_id(self) -> int:
        """This member's id."""
        ...

    @property
    def leader(self) -> int:
        """The leader's id, 0 when there is none."""
        ...

    def propose_conf_change(self, change: raft_pb2.ConfChange) -> Awaitable[list[Member]]:
        """Take a change through the log; the members as it left them. Raises EtcdError."""
        ...

    def progress(self) -> Mapping[int, int] | None:
        """How far each member's log agrees with this one's, by id; None unless this member leads."""
        ...

    def active_since(self, member: int) -> float | None:
        """Since when another member is within reach, on the loop's clock; None when it is not."""
        ...

    def promote_at_leader(self, member: int, token: str) -> Awaitable[list[Member]]:
        """Ask the leader to promote a learner, as only it knows how far the learner is. Raises EtcdError.

        `token` is what the client showed; the leader judges it too.
        """
        ...

    def transfer_leadership(self, target: int) -> None:
        """Begin to hand over to another voter."""
        ...


class Reconfiguration:
    """Every change of the cluster that somebody can ask for."""

    def __init__(
        self,
        membership: Membership,
        operations: ClusterOperations,
        reads: LinearizableReads,
        proposer: Proposer,
        *,
        strict: bool,
        clock: Callable[[], float],
        unix_seconds: Callable[[], float],
        tick_seconds: float,
        timeout_seconds: float,
    ) -> None:
        """`strict` is --strict-reconfig-check; `clock` is the one that `operations.active_since` is told by."""
        self._membership = membership
        self._operations = operations
        self._reads = reads
        self._proposer = proposer
        self._strict = strict
        self._clock = clock
        self._unix_seconds = unix_seconds
        self._tick_seconds = tick_seconds
        self._timeout_seconds = timeout_seconds
        self.promotions = 0
        self.promotion_failures: dict[tuple[str, ...], float] = {}
        """By what kept this member, as leader, from promoting a learner."""

    # --- members ---

    async def add(self, urls: Sequence[str], *, as_learner: bool) -> tuple[Member, list[Member]]:
        """Add a member that has yet to be started; returns it and all. Raises EtcdError."""
        peer_urls = parse_peer_urls(urls)
        identity = member_id(peer_urls, "", int(self._unix_seconds()))
        member = Member(identity, peer_urls, is_learner=as_learner)
        if self._strict:
            rules.check_add(self._membership.members, self._reach(), as_learner=as_learner)
        return member, await self._operations.propose_conf_change(changes.addition(member))

    async def remove(self, member: int) -> list[Member]:
        """Remove a member; returns those that stay. Raises EtcdError."""
        if self._strict:
            rules.check_remove(self._membership.members, self._reach(), member)
        return await self._operations.propose_conf_change(changes.removal(member))

    async def update(self, member: int, urls: Sequence[str]) -> list[Member]:
        """Give a member other peer URLs. Raises EtcdError.

        etcd takes any text here, and its other members die of one that is no URL; so what is none is refused.
        """
        return await self._operations.propose_conf_change(changes.update(member, parse_peer_urls(urls)))

    async def promote(self, member: int, *, token: str = "") -> list[Member]:
        """Give a learner its vote; a member that does not lead passes this on, and the client's token with it.

        Raises EtcdError.
        """
        try:
            return await self.promote_here(member)
        except NotLeader:
            return await self._operations.promote_at_leader(member, token)

    async def promote_here(self, member: int) -> list[Member]:
        """Give a learner its vote if this member leads. Raises NotLeader, and what the rules say."""
        try:
            rules.check_learner_ready(self._operations.progress(), self._operations.own_id, member)
            if self._strict:
                rules.check_promote(self._membership.members)
            members = await self._operations.propose_conf_change(changes.promotion(member))
        except NotLeader:
            raise
        except EtcdError as error:
            reason = (error.message,)
            self.promotion_failures[reason] = self.promotion_failures.get(reason, 0) + 1
            raise
        self.promotions += 1
        return members

    def _reach(self) -> rules.Reach:
        return rules.Reach(self._operations.own_id, self._clock(), self._operations.active_since)

    # --- the leader ---

    async def move_leader(self, target: int) -> None:
        """Make another voter lead. Raises NotLeader, BadLeaderTransferee, LeaderTransferTimeout."""
        if self._operations.leader != self._operations.own_id:
            raise NotLeader
        member = self._membership.get(target)
        if member is None or member.is_learner:
            raise BadLeaderTransferee
        if target == self._operations.own_id:
            return
        self._operations.transfer_leadership(target)
        give_up = self._clock() + self._timeout_seconds
        while self._operations.leader != target:
            if self._clock() >= give_up:
                raise LeaderTransferTimeout
            await asyncio.sleep(self._tick_seconds)

    # --- the version ---

    async def downgrade(self, action: int, target: str) -> str:
        """Carry out one action of Maintenance.Downgrade; returns the cluster's version. Raises EtcdError."""
        if action == rpc_pb2.DowngradeRequest.VALIDATE:
            return await self._check_downgrade(versions.parse_target(target))
        if action == rpc_pb2.DowngradeRequest.ENABLE:
            wanted = versions.parse_target(target)
            await self._check_downgrade(wanted)
            await self._set_downgrade(versions.DowngradeInfo(True, str(wanted)))
        elif action == rpc_pb2.DowngradeRequest.CANCEL:
            try:
                await self._cancel_downgrade()
            except EtcdError as error:
                # Quirk kept: the client is not told, not even that there was nothing to cancel.
                logger.warning("failed to cancel downgrade", extra={"fields": {"error": error.message}})
        else:
            raise UnknownMethod
        return self._cluster_version().short

    async def _check_downgrade(self, target: versions.Version) -> str:
        told = self._cluster_version().short
        await self._reads.wait_linearizable()
        versions.check_downgrade(self._cluster_version(), target, self._membership.downgrade)
        return told

    async def _cancel_downgrade(self) -> None:
        await self._reads.wait_linearizable()
        if not self._membership.downgrade.enabled:
            raise NoInflightDowngrade
        await self._set_downgrade(versions.DowngradeInfo())

    async def _set_downgrade(self, info: versions.DowngradeInfo) -> None:
        request = membership_pb2.DowngradeInfoSetRequest(enabled=info.enabled, ver=info.target)
        await self._proposer.run("downgrade_info_set", request)

    def _cluster_version(self) -> versions.Version:
        version = self._membership.cluster_version
        if version is None:
            raise ClusterVersionUnavailable
        return version
