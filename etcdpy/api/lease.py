"""etcdserverpb.Lease: granted and revoked through the log, renewed and read at the leader, wherever that is."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Protocol

from etcdpy.api.checks import parse
from etcdpy.api.proposals import Waiting
from etcdpy.errors import Code, LeaderChanged, LeaseNotFound, StatusError
from etcdpy.lease.lease import NO_SUCH_LEASE
from etcdpy.lease.lessor import LeaseExpiring, NotPrimary, pick_lease_id
from etcdpy.limits import LEASE_RENEWALS_PER_TURN, RANGE_SLICE_KEYS_MAX
from etcdpy.mvcc.read import sorted_steps
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from random import Random

    from etcdpy.api.callers import Callers
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


class LeaderLeases(Protocol):
    """The way to the one member that knows when leases end."""

    async def confirm_leadership(self) -> bool:
        """Whether this member, which believes to lead, still does: it may have stood still for a while."""
        ...

    async def wait_applied(self) -> None:
        """Return when all that is known to be committed is applied. Raises TimeoutAppliedIndex."""
        ...

    async def renew(self, lease_id: int) -> int:
        """Renew a lease at the leader; its TTL. Raises LeaseNotFound, NoLeader, Timeout."""
        ...

    async def time_to_live(self, lease_id: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        """Ask the leader about a lease. Raises LeaseNotFound, NoLeader, Timeout."""
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
        leader: LeaderLeases,
        callers: Callers,
        header: HeaderSource,
        *,
        clock: Callable[[], float],
        random: Random,
        fast_keep_alive: bool,
    ) -> None:
        """`fast_keep_alive` is the gate FastLeaseKeepAlive: a lease that is there is renewed without waiting for what
        is still to be applied."""
        self._lessor = lessor
        self._store = store
        self._proposer = proposer
        self._leader = leader
        self._callers = callers
        self._header = header
        self._clock = clock
        self._random = random
        self._fast_keep_alive = fast_keep_alive

    def grant(self, call: Call, body: bytes) -> None:
        """Lease.LeaseGrant. An id is picked before proposing, so that every member stores the same one."""
        request = parse(rpc_pb2.LeaseGrantRequest, body)
        self._callers.require_user(call)
        if request.ID == 0:
            request.ID = pick_lease_id(self._random)
            body = request.SerializeToString()
        data = self._proposer.encode("lease_grant", body)
        self._proposer.propose(Waiting("lease_grant", request, data, call, self._header))

    def revoke(self, call: Call, body: bytes) -> None:
        """Lease.LeaseRevoke."""
        request = parse(rpc_pb2.LeaseRevokeRequest, body)
        self._callers.require_user(call)
        data = self._proposer.encode("lease_revoke", body)
        self._proposer.propose(Waiting("lease_revoke", request, data, call, self._header))

    async def keep_alive(self, call: StreamCall) -> None:
        """Lease.LeaseKeepAlive: one answer a request; TTL 0 says that there is no such lease any more."""
        handled = 0
        while (body := await call.receive()) is not None:
            handled += 1
            if handled % LEASE_RENEWALS_PER_TURN == 0:
                await asyncio.sleep(0)  # neither receiving nor renewing waits while requests are there
            request = parse(rpc_pb2.LeaseKeepAliveRequest, body)
            header = self._header.embed(self._store.current_revision)
            ttl = await self._renew(call, request.ID)
            call.send(header + rpc_pb2.LeaseKeepAliveResponse(ID=request.ID, TTL=ttl).SerializeToString())
            if call.buffered_bytes > _RENEW_BACKLOG_BYTES:
                await call.wait_writable(_RENEW_BACKLOG_BYTES)

    async def _renew(self, call: StreamCall, lease_id: int) -> int:
        """The TTL that the lease has again, 0 when it is gone. Raises EtcdError when there is no leader to renew it, or
        when who calls may not write its keys."""
        allowed = partial(self._callers.check_lease_write, call, lease_id)
        try:
            while True:
                if not self._lessor.is_primary:
                    await allowed()
                    return await self._leader.renew(lease_id)
                try:
                    return await self.renew_here(lease_id, allowed)
                except NotPrimary:
                    pass  # the lead went elsewhere meanwhile
        except LeaseNotFound:
            return 0

    async def renew_here(self, lease_id: int, allowed: Callable[[], Awaitable[None]] | None = None) -> int:
        """Renew a lease as the leader. Raises LeaseNotFound, NotPrimary, EtcdError.

        `allowed` is asked once the lease can be seen, and again after each wait, in the turn in which it is renewed;
        what another member asks for it has allowed itself.
        """
        lessor, leader = self._lessor, self._leader
        if not await leader.confirm_leadership():
            raise StatusError(Code.UNKNOWN, "not a primary lessor")
        if not (self._fast_keep_alive and lessor.exists(lease_id)):
            await leader.wait_applied()  # it may be in the log and not applied yet
        while True:
            if allowed is not None:
                await allowed()
            if lessor.must_reset_checkpoint(lease_id):
                await self._checkpoint(lease_id, 0)
                continue
            try:
                return lessor.renew(lease_id, self._clock())
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
        callers = self._callers
        who = await callers.check_lease_read(call, request.ID) if request.keys else callers.require_user(call)
        try:
            if self._lessor.is_primary:
                response = await self.time_to_live_here(request.ID, keys=request.keys)
            else:
                response = await self._leader.time_to_live(request.ID, keys=request.keys)
        except LeaseNotFound:
            response = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=NO_SUCH_LEASE.ttl)
        if request.keys:
            await callers.check_keys_shown(who, response.keys)
        response.ClearField("header")
        call.finish(self._header.embed(self._store.current_revision) + response.SerializeToString())

    async def time_to_live_here(self, lease_id: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        """What the leader knows of a lease. Raises LeaseNotFound, LeaderChanged, EtcdError."""
        await self._leader.wait_applied()
        try:
            found = self._lessor.time_to_live(lease_id, self._clock())
        except NotPrimary:
            raise LeaderChanged from None
        if found is NO_SUCH_LEASE:
            raise LeaseNotFound
        # A follower that is a real etcd fills in the header, and dies where there is none.
        empty = rpc_pb2.ResponseHeader()
        response = rpc_pb2.LeaseTimeToLiveResponse(
            header=empty, ID=lease_id, TTL=found.ttl, grantedTTL=found.granted_ttl
        )
        if keys:
            for shown in await _sorted_parts(self._lessor.keys_of(lease_id)):
                response.keys.extend(shown)
                await asyncio.sleep(0)
        return response

    async def leases(self, call: Call, body: bytes) -> None:
        """Lease.LeaseLeases: the ids this member knows of, those that expire first in front."""
        parse(rpc_pb2.LeaseLeasesRequest, body)
        leases = self._lessor.leases()
        await self._callers.check_lease_read(call, *leases)
        response = rpc_pb2.LeaseLeasesResponse(leases=[rpc_pb2.LeaseStatus(ID=each) for each in leases])
        call.finish(self._header.embed(self._store.current_revision) + response.SerializeToString())


async def _sorted_parts(keys: list[bytes]) -> list[list[bytes]]:
    """The keys in order, in lists of a few thousand. A lease may have any number of them, so others come in between."""
    steps = sorted_steps(keys, bytes)
    while True:
        try:
            next(steps)
        except StopIteration as sorted_keys:
            keys = sorted_keys.value
            return [keys[start : start + RANGE_SLICE_KEYS_MAX] for start in range(0, len(keys), RANGE_SLICE_KEYS_MAX)]
        await asyncio.sleep(0)
