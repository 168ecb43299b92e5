"""Who may end leases: a member that leads for sure, and has applied all that leaders before it committed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from etcdpy.errors import Timeout
from etcdpy.lease.lessor import Lessor
from etcdpy.server.member import Replica
from etcdpy.server.upkeep import LeaseKeeper
from tests.support.memory_backend import MemoryBackend


def make_lessor() -> Lessor:
    lessor = Lessor(MemoryBackend(), minimum_ttl=1)
    lessor.grant(1, 1, 0.0)
    return lessor


def revoked_by(lessor: Lessor, confirm: Any) -> list[int]:
    revoked: list[int] = []

    async def run(_kind: str, request: Any) -> None:
        revoked.append(request.ID)

    async def look() -> None:
        keeper = LeaseKeeper(lessor, run, lambda: 100.0, confirm)
        task = asyncio.create_task(keeper.run())
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(look())
    return revoked


async def confirmed() -> None:
    pass


def test_a_leader_revokes_what_has_expired() -> None:
    lessor = make_lessor()
    lessor.promote(0.0, 0.0)
    assert revoked_by(lessor, confirmed) == [1]


def test_a_leader_that_stood_still_revokes_nothing_when_it_has_a_successor() -> None:
    """etcd issue 15247: its revocations would reach the successor, who has renewed the leases."""
    lessor = make_lessor()
    lessor.promote(0.0, 0.0)

    async def deposed() -> None:
        lessor.demote()

    assert revoked_by(lessor, deposed) == []


def test_a_leader_that_was_replaced_and_came_back_revokes_nothing_of_its_earlier_term() -> None:
    lessor = make_lessor()
    lessor.promote(0.0, 0.0)

    async def deposed_for_a_while() -> None:
        lessor.demote()
        lessor.promote(100.0, 0.0)

    assert revoked_by(lessor, deposed_for_a_while) == []


def test_without_a_quorum_nothing_is_revoked() -> None:
    lessor = make_lessor()
    lessor.promote(0.0, 0.0)

    async def nobody() -> None:
        raise Timeout

    assert revoked_by(lessor, nobody) == []


def test_leases_count_from_when_all_of_earlier_terms_is_applied() -> None:
    lessor = make_lessor()
    replica = SimpleNamespace(
        lessor=lessor,
        node=SimpleNamespace(leads=True, term=3),
        applier=SimpleNamespace(applied_term=2),
        store=SimpleNamespace(changes=[], unnoted=None),
        config=SimpleNamespace(election_timeout_ms=1000),
        _loop=SimpleNamespace(time=lambda: 50.0),
        look_at_quota=lambda: None,
        on_answers=lambda: None,
        users=SimpleNamespace(waits=SimpleNamespace(serve=lambda: None)),
        _notify_watchers=lambda: None,
    )
    Replica.entries_applied(cast("Replica", replica))
    assert not lessor.is_primary, "an entry that ends a lease may be among those to come"
    replica.applier.applied_term = 3
    Replica.entries_applied(cast("Replica", replica))
    assert lessor.is_primary
