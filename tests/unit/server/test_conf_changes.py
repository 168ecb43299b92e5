"""Changes of members that wait: for raft to take them, for the log, for the end."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.errors import EtcdError, MemberExists, MemberNotEnoughStarted, Stopped, Timeout, TooManyRequests
from etcdpy.membership import changes
from etcdpy.membership.member import Member
from etcdpy.membership.members import Membership
from etcdpy.raft.errors import ConfChangeRefused, InvalidConfChange, ProposalDropped
from etcdpy.server.conf_changes import ConfChanges
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.proto import raft_pb2

MEMBER = Member(5, ("http://a:1",))


class World:
    """Raft as `refusals` say, call by call; then it takes the change."""

    def __init__(self, *refusals: Exception, timeout_seconds: float = 5.0) -> None:
        self.refusals = list(refusals)
        self.taken: list[raft_pb2.ConfChange] = []
        self.membership = Membership(MemoryBackend())
        self.on_taken: Callable[[raft_pb2.ConfChange], None] = lambda _change: None
        ids = itertools.count(100)
        self.changes = ConfChanges(
            asyncio.get_running_loop(),
            self.membership,
            self._propose,
            lambda: next(ids),
            timeout_seconds=timeout_seconds,
        )

    def _propose(self, change: raft_pb2.ConfChange) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        self.taken.append(change)
        self.on_taken(change)

    def apply(self, change: raft_pb2.ConfChange) -> None:
        self.membership.apply(change)
        self.changes.applied(change, None)


def test_the_answer_is_the_members_as_they_are_then() -> None:
    async def run() -> None:
        world = World()
        world.on_taken = world.apply
        assert await world.changes.propose(changes.addition(MEMBER)) == [MEMBER]
        assert [change.id for change in world.taken] == [100]

    asyncio.run(run())


def test_raft_takes_one_at_a_time_and_none_without_a_leader() -> None:
    async def run() -> None:
        world = World(ConfChangeRefused("another is under way"), ProposalDropped("no leader"))
        world.on_taken = world.apply
        assert await world.changes.propose(changes.addition(MEMBER)) == [MEMBER]

    asyncio.run(run())


def test_a_change_that_came_to_nothing() -> None:
    async def run() -> None:
        world = World()
        world.on_taken = lambda change: world.changes.applied(change, MemberExists())
        with pytest.raises(MemberExists):
            await world.changes.propose(changes.addition(MEMBER))

    asyncio.run(run())


def refused_as(error: type[EtcdError], *refusals: Exception) -> None:
    async def run() -> None:
        world = World(*refusals, timeout_seconds=0.05)
        with pytest.raises(error):
            await world.changes.propose(changes.addition(MEMBER))
        # Nobody waits any more, so a late end is nobody's business.
        world.changes.applied(world.taken[0] if world.taken else changes.addition(MEMBER), None)

    asyncio.run(run())


def test_a_change_that_the_log_never_brings() -> None:
    refused_as(Timeout)


def test_a_leader_that_never_comes() -> None:
    refused_as(Timeout, *[ProposalDropped("no leader") for _ in range(1000)])


def test_the_last_vote_is_never_taken() -> None:
    refusal = ConfChangeRefused("the change removes the last voter")
    refusal.__cause__ = InvalidConfChange("the change removes the last voter")
    refused_as(MemberNotEnoughStarted, refusal)


def test_the_end_is_told_to_all() -> None:
    async def run() -> None:
        world = World()
        world.on_taken = lambda _change: world.changes.refuse_all(Stopped)
        with pytest.raises(Stopped):
            await world.changes.propose(changes.addition(MEMBER))

    asyncio.run(run())


def test_changes_of_others_are_nobody_s_here() -> None:
    async def run() -> None:
        world = World()
        world.changes.applied(changes.addition(MEMBER), None)
        world.changes.applied(changes.addition(MEMBER), MemberExists())

    asyncio.run(run())


def test_few_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONF_CHANGES_WAITING_MAX", 1)

    async def run() -> None:
        world = World()
        first = asyncio.ensure_future(world.changes.propose(changes.addition(MEMBER)))
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await world.changes.propose(changes.addition(MEMBER))
        world.apply(world.taken[0])
        assert await first == [MEMBER]

    asyncio.run(run())
