"""What recipes do when their caller goes, their session ends, or the log refuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.api.election import ElectionService
from etcdpy.api.lock import LockService
from etcdpy.api.services import in_task
from etcdpy.errors import Code, EtcdError, Timeout, TimeoutAppliedIndex
from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from etcdpy.transport.calls import Peer
from etcdpy.transport.heads import RequestHead
from etcdpy.transport.local_calls import LocalStreamCall
from tests.support.services import MemoryServices, started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from etcdpy.transport.local_calls import LocalCall


def play(scene: Any) -> None:
    """Run a scene over fresh services with the leases 1 to 3."""

    async def run() -> None:
        services = MemoryServices()
        for lease in (1, 2, 3):
            services.write("lease_grant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=60))
        await services.settle()
        await scene(services)
        assert not services.bugs
        await services.close()

    asyncio.run(run())


def lock(services: MemoryServices, lease: int) -> LocalCall:
    handler = in_task(services.spawn, LockService(services.inside).lock)
    return started(handler, services, lock_pb2.LockRequest(name=b"n", lease=lease))


def campaign(services: MemoryServices, lease: int, value: bytes = b"") -> LocalCall:
    handler = in_task(services.spawn, ElectionService(services.inside).campaign)
    return started(handler, services, election_pb2.CampaignRequest(name=b"n", lease=lease, value=value))


def keys(services: MemoryServices) -> set[bytes]:
    return {key for key in (b"n/1", b"n/2", b"n/3") if services.store.get(key) is not None}


@pytest.mark.parametrize("enter", [lock, campaign])
def test_who_goes_while_the_place_is_being_taken_leaves_none(enter: Any) -> None:
    async def scene(services: MemoryServices) -> None:
        call = enter(services, 1)
        await services.settle(apply=False)
        call.on_gone()
        await services.settle()
        assert keys(services) == set()

    play(scene)


@pytest.mark.parametrize("enter", [lock, campaign])
def test_who_goes_while_asking_again_keeps_what_the_session_has(enter: Any) -> None:
    async def scene(services: MemoryServices) -> None:
        held = enter(services, 1)
        await services.settle()
        assert held.done
        again = enter(services, 1)
        await services.settle(apply=False)
        again.on_gone()
        await services.settle()
        assert keys(services) == {b"n/1"}

    play(scene)


@pytest.mark.parametrize("enter", [lock, campaign])
def test_who_goes_while_waiting_leaves_the_queue(enter: Any) -> None:
    async def scene(services: MemoryServices) -> None:
        enter(services, 1)
        await services.settle()
        waits = enter(services, 2)
        await services.settle()
        assert keys(services) == {b"n/1", b"n/2"}
        waits.on_gone()
        await services.settle()
        assert keys(services) == {b"n/1"}

    play(scene)


@pytest.mark.parametrize(("refusal", "code"), [(Timeout(), Code.UNKNOWN), (TimeoutAppliedIndex(), Code.UNAVAILABLE)])
@pytest.mark.parametrize("enter", [lock, campaign])
def test_refused_writes_keep_their_text_and_lose_their_code(enter: Any, refusal: EtcdError, code: Code) -> None:
    async def scene(services: MemoryServices) -> None:
        services.refusal = refusal
        call = enter(services, 1)
        await services.settle()
        with pytest.raises(EtcdError) as caught:
            await call.outcome
        assert (caught.value.code, caught.value.message) == (code, refusal.message)

    play(scene)


def test_a_leader_that_cannot_proclaim_gives_its_place_up() -> None:
    async def scene(services: MemoryServices) -> None:
        campaign(services, 1, b"a")
        await services.settle()
        call = campaign(services, 1, b"b")
        await services.settle(apply=False)
        services.apply_one()  # finds its key ...
        services.write("delete_range", rpc_pb2.DeleteRangeRequest(key=b"n/1"))  # ... which somebody deletes
        await services.settle()
        with pytest.raises(EtcdError, match="election: not leader"):
            await call.outcome

    play(scene)


async def one(message: bytes) -> AsyncIterator[bytes]:
    yield message


def test_an_observer_that_reads_nothing_holds_little() -> None:
    async def scene(services: MemoryServices) -> None:
        campaign(services, 1)
        await services.settle()
        request = election_pb2.LeaderRequest(name=b"n").SerializeToString()
        call = LocalStreamCall(RequestHead(), Peer("test"), one(request), services.bugs.append)
        call.begin(ElectionService(services.inside).observe, services.spawn)
        for _ in range(60):
            put = rpc_pb2.PutRequest(key=b"n/1", value=bytes(100_000), lease=1)
            services.write("txn", rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_put=put)]))
            await services.settle()
        assert call.buffered_bytes < 300_000
        seen = 0
        while seen < 61:
            assert await call.next() is not None
            seen += 1
            services.hub.sync_slice()
        call.on_gone()

    play(scene)
