"""Whatever clients, leases and the order of writes do, two sessions never hold one lock, and it is never lost."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.api.election import ElectionService
from etcdpy.api.lock import LockService
from etcdpy.api.recipes import own_key
from etcdpy.api.services import in_task
from etcdpy.proto import election_pb2, lock_pb2, rpc_pb2
from tests.support.services import MemoryServices, started

if TYPE_CHECKING:
    from etcdpy.transport.local_calls import LocalCall

SESSIONS = 4
NAME = b"mutex"

_step = st.one_of(
    st.tuples(st.just("acquire"), st.integers(1, SESSIONS)),
    st.tuples(st.just("release"), st.integers(1, SESSIONS)),
    st.tuples(st.just("go"), st.integers(1, SESSIONS)),
    st.tuples(st.just("revoke"), st.integers(1, SESSIONS)),
    st.tuples(st.just("apply"), st.integers(1, 3)),
    st.tuples(st.just("turn"), st.integers(1, 3)),
    st.tuples(st.just("settle"), st.just(0)),
)


class Clients:
    """Sessions that want the lock, and what they were told."""

    def __init__(self, services: MemoryServices, recipe: str) -> None:
        self.services = services
        if recipe == "lock":
            self.handler = in_task(services.spawn, LockService(services.inside).lock)
        else:
            self.handler = in_task(services.spawn, ElectionService(services.inside).campaign)
        self.recipe = recipe
        self.calls: dict[int, list[LocalCall]] = {session: [] for session in range(1, SESSIONS + 1)}
        self.released: list[LocalCall] = []

    async def begin(self) -> None:
        for session in self.calls:
            self.services.write("lease_grant", rpc_pb2.LeaseGrantRequest(ID=session, TTL=60))
        await self.services.settle()

    def request(self, session: int) -> Any:
        if self.recipe == "lock":
            return lock_pb2.LockRequest(name=NAME, lease=session)
        return election_pb2.CampaignRequest(name=NAME, lease=session, value=b"v")

    async def step(self, action: str, argument: int) -> None:
        services = self.services
        match action:
            case "acquire":
                self.calls[argument].append(started(self.handler, services, self.request(argument)))
            case "release":
                delete = rpc_pb2.DeleteRangeRequest(key=own_key(NAME + b"/", argument))
                services.write("delete_range", delete)
                self.forget(argument)
            case "revoke":
                revoke = services.write("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=argument))
                revoke.add_done_callback(asyncio.Future.exception)
            case "go":
                for call in self.calls[argument]:
                    call.on_gone()
            case "apply":
                for _ in range(argument):
                    services.apply_one()
            case "turn":
                for _ in range(argument):
                    await asyncio.sleep(0)
            case "settle":
                await services.settle()

    def forget(self, session: int) -> None:
        """Who releases holds nothing from then on, neither by what it was told nor by what it has asked before."""
        self.released += self.calls[session]
        self.calls[session] = []

    def holders(self) -> set[int]:
        """The sessions that live and were told that the lock is theirs."""
        alive = set(self.services.lessor.leases())
        return {
            session
            for session, calls in self.calls.items()
            if session in alive
            and any(call.outcome.done() and not call.outcome.exception() for call in calls if call.done)
            and self.key_lives(session)
        }

    def key_lives(self, session: int) -> bool:
        return self.services.store.get(own_key(NAME + b"/", session)) is not None


@pytest.mark.parametrize("recipe", ["lock", "campaign"])
@given(steps=st.lists(_step, max_size=40))
def test_one_session_at_a_time(recipe: str, steps: list[tuple[str, int]]) -> None:
    async def play() -> None:
        services = MemoryServices()
        clients = Clients(services, recipe)
        await clients.begin()
        for action, argument in steps:
            await clients.step(action, argument)
            assert len(clients.holders()) <= 1, clients.holders()
        # Everybody lets go: all who still wait must get it, one after the other, or hear that their session is over.
        for _ in range(3 * SESSIONS + len(steps)):
            await services.settle()
            assert len(clients.holders()) <= 1
            for session in clients.holders() or set(clients.calls):
                if not [call for call in clients.calls[session] if not call.done]:
                    await clients.step("release", session)
        await services.settle()
        asked = [*clients.released, *itertools.chain.from_iterable(clients.calls.values())]
        assert all(call.done for call in asked)
        assert not services.bugs
        for call in asked:
            if call.outcome.done() and not call.outcome.cancelled():
                call.outcome.exception()  # seen
        await services.close()

    asyncio.run(play())
