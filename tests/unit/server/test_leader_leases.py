"""The way to the leader's leases: is this member sure to lead, has it applied enough, and who is asked otherwise."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy import limits
from etcdpy.errors import LeaseNotFound, NoLeader, Stopped, Timeout, TimeoutAppliedIndex
from etcdpy.membership.member import Member
from etcdpy.peer.client import PeerUnreachable
from etcdpy.server import leader_leases
from etcdpy.server.leader_leases import LeaderLeases

if TYPE_CHECKING:
    from collections.abc import Callable

LEADER = 7


class Replica:
    """A member of a cluster with ticks of 100 ms."""

    def __init__(self) -> None:
        self.leader = LEADER
        self.committed_index = self.applied_index = 10
        self.node = SimpleNamespace(ticked_at=0.0, leads=True)
        members = {LEADER: Member(LEADER, ("http://a", "http://b"))}
        self.membership = SimpleNamespace(get=members.get)
        self.config = SimpleNamespace(heartbeat_interval_ms=100, request_timeout_seconds=0.2)
        self.read_error: Exception | None = None
        self.reads = 0

    async def wait_linearizable(self) -> None:
        self.reads += 1
        if self.read_error is not None:
            raise self.read_error


def leases(replica: Replica) -> LeaderLeases:
    return LeaderLeases(cast("Any", replica), cast("Any", None))


def test_a_member_whose_clock_ticks_believes_itself() -> None:
    replica = Replica()

    async def confirm() -> bool:
        replica.node.ticked_at = asyncio.get_running_loop().time()
        return await leases(replica).confirm_leadership()

    assert asyncio.run(confirm())
    assert replica.reads == 0


@pytest.mark.parametrize(
    ("error", "leads", "sure"), [(None, True, True), (None, False, False), (Stopped(), True, False)]
)
def test_a_member_that_stood_still_asks_the_quorum(error: Exception | None, leads: bool, sure: bool) -> None:
    replica = Replica()
    replica.read_error = error

    async def confirm() -> bool:
        replica.node.ticked_at = asyncio.get_running_loop().time() - 1
        replica.node.leads = leads
        return await leases(replica).confirm_leadership()

    assert asyncio.run(confirm()) is sure
    assert replica.reads == 1


def test_what_is_committed_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "APPLIED_INDEX_WAIT_SECONDS", 0.02)
    replica = Replica()
    asyncio.run(leases(replica).wait_applied())
    replica.committed_index = 11
    with pytest.raises(TimeoutAppliedIndex):
        asyncio.run(leases(replica).wait_applied())


def renew_with(replica: Replica, monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], int]) -> int:
    async def renew(_connections: Any, url: str, _lease: int, *, seconds: float) -> int:
        return answer(url)

    monkeypatch.setattr(leader_leases, "renew_lease", renew)
    monkeypatch.setattr(limits, "LEADER_RETRY_SECONDS", 0.01)
    return asyncio.run(leases(replica).renew(3))


def test_the_leader_is_asked_at_each_of_its_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str) -> int:
        asked.append(url)
        if len(asked) < 4:
            raise PeerUnreachable("down")
        return 60

    assert renew_with(Replica(), monkeypatch, answer) == 60
    assert asked == ["http://a", "http://b", "http://a", "http://b"]


def test_what_the_leader_says_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_url: str) -> int:
        raise LeaseNotFound

    with pytest.raises(LeaseNotFound):
        renew_with(Replica(), monkeypatch, answer)


@pytest.mark.parametrize(("leader", "error"), [(0, NoLeader), (LEADER, Timeout)])
def test_nobody_answers_in_time(leader: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica()
    replica.leader = leader

    def answer(_url: str) -> int:
        raise PeerUnreachable("down")

    with pytest.raises(error):
        renew_with(replica, monkeypatch, answer)
