"""Out of NOSPACE without an operator, where --auto-space-reclaim and --auto-alarm-disarm say so. Ours, not etcd's.

    compaction has left free space, the size is near the quota   defragment (etcd: `etcdctl defrag`)
    this member's alarm is raised, the size is well below        take the alarm back (etcd: `etcdctl alarm disarm`)

Each member looks after itself: its size and its quota are its own, and so is its alarm. What remains for the operator,
or for auto compaction, is to delete and to compact.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from etcdpy import limits
from etcdpy.errors import EtcdError
from etcdpy.proto import rpc_pb2
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from etcdpy.api.proposals import Proposer
    from etcdpy.server.quota import QuotaKeeper

log = logs.get("etcdserver")


class Sizes(Protocol):
    """The store, as far as its size goes."""

    @property
    def size_total(self) -> int:
        """What the quota is held against."""
        ...

    @property
    def bytes_in_use(self) -> int:
        """What of it a defragmentation would keep."""
        ...


class SpaceKeeper:
    """`defragment` gives free space back."""

    def __init__(
        self,
        sizes: Sizes,
        quota: QuotaKeeper,
        proposer: Proposer,
        defragment: Callable[[], Awaitable[None]],
        *,
        reclaims: bool,
        disarms: bool,
    ) -> None:
        self._sizes = sizes
        self._quota = quota
        self._proposer = proposer
        self._defragment = defragment
        self._reclaims = reclaims
        self._disarms = disarms

    async def run(self) -> None:
        """For ever, every second."""
        while True:
            await asyncio.sleep(limits.SPACE_LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Do what is due now."""
        if self._reclaims and self.is_worth_reclaiming():
            before = self._sizes.size_total
            await self._defragment()
            log.info("reclaimed space", **{"size-before-bytes": before, "size-bytes": self._sizes.size_total})
        if self._disarms and self._quota.stands and self._quota.quota.is_below(limits.SPACE_BACK_SHARE):
            await self._disarm()

    def is_worth_reclaiming(self) -> bool:
        """Whether space is scarce and a defragmentation would give enough of it back."""
        quota_bytes = self._quota.quota_bytes
        freeable = self._sizes.size_total - self._sizes.bytes_in_use
        scarce = not self._quota.quota.is_below(limits.SPACE_TIGHT_SHARE)
        return scarce and freeable >= limits.SPACE_FREEABLE_SHARE * quota_bytes

    async def _disarm(self) -> None:
        request = rpc_pb2.AlarmRequest(
            action=rpc_pb2.AlarmRequest.DEACTIVATE, memberID=self._quota.own_id, alarm=rpc_pb2.NOSPACE
        )
        try:
            await self._proposer.run("alarm", request)
        except EtcdError as error:
            log.warn("failed to disarm the NOSPACE alarm; trying again", error=error.message)
        else:
            log.info("disarmed the NOSPACE alarm: there is space again", **{"size-bytes": self._sizes.size_total})
