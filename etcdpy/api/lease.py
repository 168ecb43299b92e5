"""etcdserverpb.Lease: granted and revoked through the log, renewed and read at the leader."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from etcdpy.api.checks import parse
from etcdpy.api.proposals import Waiting
from etcdpy.errors import LeaseNotFound
from etcdpy.lease.lessor import LeaseExpiring, NotPrimary, pick_lease_id
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from etcdpy.api.cluster import LinearizableReads
    from etcdpy.api.header import HeaderSource
    from etcdpy.api.proposals import Proposer
    from etcdpy.lease.lessor import Lessor
    from etcdpy.transport.calls import Call, StreamCall


class Revision(Protocol):
    """The store, as far as headers need it."""

    @property
    def current_revision(self) -> int:
        """The main revision of the last change."""
        ...


_RENEW_BACKLOG_BYTES = 64 * 1024
"""Renewals that a client does not read are answered no further than this, and read no further either."""


class LeaseService:
    """Thin over the lessor; `clock` is monotonic seconds."""

    def __init__(
        self,
        lessor: Lessor,
        store: Revision,
        proposer: Proposer,
        reads: LinearizableReads,
        header: HeaderSource,
        *,
        clock: Callable[[], float],
        random: Random,
    ) -> None:
        self._lessor = lessor
        self._store = store
        self._proposer = proposer
        self._reads = reads
        self._header = header
        self._clock = clock
        self._random = random

    def grant(self, call: Call, body: bytes) -> None:
        """Lease.LeaseGrant. An id is picked before proposing, so that every member stores the same one."""
        request = parse(rpc_pb2.LeaseGrantRequest, body)
        if request.ID == 0:
            request.ID = pick_lease_id(self._random)
            body = request.SerializeToString()
        data = self._proposer.encode("lease_grant", body)
        self._proposer.propose(Waiting("lease_grant", request, data, call, self._header))

    def revoke(self, call: Call, body: bytes) -> None:
        """Lease.LeaseRevoke."""
        request = parse(rpc_pb2.LeaseRevokeRequest, body)
        data = self._proposer.encode("lease_revoke", body)
        self._proposer.propose(Waiting("lease_revoke", request, data, call, self._header))

    async def keep_alive(self, call: StreamCall) -> None:
        """Lease.LeaseKeepAlive: one answer a request; TTL 0 says that there is no such lease any more."""
        while (body := await call.receive()) is not None:
            request = parse(rpc_pb2.LeaseKeepAliveRequest, body)
            header = self._header.embed(self._store.current_revision)
            ttl = await self._renew(request.ID)
            call.send(header + rpc_pb2.LeaseKeepAliveResponse(ID=request.ID, TTL=ttl).SerializeToString())
            if call.buffered_bytes > _RENEW_BACKLOG_BYTES:
                await call.wait_writable(_RENEW_BACKLOG_BYTES)

    async def _renew(self, lease_id: int) -> int:
        """The TTL that the lease has again, 0 when it is gone. Raises Timeout when there is no leader to renew it."""
        lessor = self._lessor
        if lessor.is_primary and not lessor.exists(lease_id):
            # It may be in the log and not applied yet.
            await self._reads.wait_linearizable()
        while True:
            try:
                if lessor.must_reset_checkpoint(lease_id):
                    await self._checkpoint(lease_id, 0)
                return lessor.renew(lease_id, self._clock())
            except LeaseNotFound:
                return 0
            except NotPrimary:
                await self._reads.wait_linearizable()
            except LeaseExpiring:
                gone = asyncio.get_running_loop().create_future()
                lessor.when_gone(lease_id, lambda gone=gone: gone.done() or gone.set_result(None))  # type: ignore[misc]
                await gone

    async def _checkpoint(self, lease_id: int, remaining_ttl: int) -> None:
        checkpoint = rpc_pb2.LeaseCheckpoint(ID=lease_id, remaining_TTL=remaining_ttl)
        request = rpc_pb2.LeaseCheckpointRequest(checkpoints=[checkpoint])
        await self._proposer.run("lease_checkpoint", request)

    async def time_to_live(self, call: Call, body: bytes) -> None:
        """Lease.LeaseTimeToLive: TTL -1 for an unknown lease, which is no error."""
        request = parse(rpc_pb2.LeaseTimeToLiveRequest, body)
        await self._reads.wait_linearizable()
        answer = self._lessor.time_to_live(request.ID, self._clock(), keys=request.keys)
        response = rpc_pb2.LeaseTimeToLiveResponse(
            ID=request.ID, TTL=answer.ttl, grantedTTL=answer.granted_ttl, keys=answer.keys
        )
        call.finish(self._header.embed(self._store.current_revision) + response.SerializeToString())

    def leases(self, call: Call, body: bytes) -> None:
        """Lease.LeaseLeases: the ids this member knows of, those that expire first in front."""
        parse(rpc_pb2.LeaseLeasesRequest, body)
        response = rpc_pb2.LeaseLeasesResponse(leases=[rpc_pb2.LeaseStatus(ID=each) for each in self._lessor.leases()])
        call.finish(self._header.embed(self._store.current_revision) + response.SerializeToString())
