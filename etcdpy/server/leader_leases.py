"""The way to the leader's leases: renewals and questions do not go through the log, but to the leader's peer port.

Also whether this member is sure to lead: one that stood still may have been replaced without knowing, and would renew
leases that its successor has revoked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from etcdpy import limits
from etcdpy.errors import EtcdError, NoLeader, Timeout, TimeoutAppliedIndex
from etcdpy.peer.client import PeerUnreachable, lease_time_to_live, renew_lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from etcdpy.peer.client import Connections
    from etcdpy.proto import rpc_pb2
    from etcdpy.server.member import Replica

    T = TypeVar("T")


class LeaderLeases:
    """Implements the api room's protocol of that name."""

    def __init__(self, replica: Replica, connections: Connections) -> None:
        self._replica = replica
        self._node = replica.node
        self._connections = connections
        self._tick_seconds = replica.config.heartbeat_interval_ms / 1000
        self._timeout_seconds = replica.config.request_timeout_seconds

    async def confirm_leadership(self) -> bool:
        """See the protocol. As on etcd, a member whose clock ticked within three ticks believes itself."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._node.ticked_at < 3 * self._tick_seconds:
            return True
        try:
            await self._replica.wait_linearizable()
        except EtcdError:
            return False
        return self._node.leads

    async def wait_applied(self) -> None:
        """See the protocol."""
        replica = self._replica
        due = asyncio.get_running_loop().time() + limits.APPLIED_INDEX_WAIT_SECONDS
        target = replica.committed_index
        while replica.applied_index < target:
            if asyncio.get_running_loop().time() > due:
                raise TimeoutAppliedIndex
            await asyncio.sleep(limits.APPLIED_INDEX_POLL_SECONDS)

    async def renew(self, lease_id: int) -> int:
        """See the protocol."""
        return await self._at_leader(
            lambda url: renew_lease(self._connections, url, lease_id, seconds=self._timeout_seconds)
        )

    async def time_to_live(self, lease_id: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        """See the protocol."""
        return await self._at_leader(
            lambda url: lease_time_to_live(self._connections, url, lease_id, keys=keys, seconds=self._timeout_seconds)
        )

    async def _at_leader(self, ask: Callable[[str], Awaitable[T]]) -> T:
        """What the leader answers, whoever it is by then. Raises NoLeader or Timeout when nobody does in time."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    for url in self._leader_urls():
                        try:
                            return await ask(url)
                        except (PeerUnreachable, TimeoutError):
                            continue
                    await asyncio.sleep(limits.LEADER_RETRY_SECONDS)
        except TimeoutError:
            raise (Timeout if self._replica.leader else NoLeader) from None

    def _leader_urls(self) -> tuple[str, ...]:
        leader = self._replica.membership.get(self._replica.leader)
        return leader.peer_urls if leader is not None else ()
