"""Changes of the cluster before they reach the log; what they meet there is in the interop tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import pytest

from etcdpy.api.reconfigure import Reconfiguration
from etcdpy.errors import (
    BadLeaderTransferee,
    ClusterVersionUnavailable,
    EtcdError,
    LeaderTransferTimeout,
    LearnerNotReady,
    MemberBadUrls,
    MemberNotEnoughStarted,
    NotLeader,
    Unhealthy,
)
from etcdpy.membership.member import Member, member_id
from etcdpy.membership.members import Membership
from etcdpy.proto import raft_pb2, rpc_pb2
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.message import Message

    from etcdpy.apply.proposal import Outcome

T = TypeVar("T")


class World:
    """Three started voters and a learner; member 1 leads and reaches everybody, for a long time."""

    own_id = 1

    def __init__(self, *, strict: bool = True) -> None:
        self.membership = Membership(MemoryBackend(), max_learners=1)
        for number in (1, 2, 3):
            self.membership.add(Member(number, (f"http://{number}:1",), f"m{number}"))
        self.membership.add(Member(4, ("http://4:1",), "m4", is_learner=True))
        self.membership.set_version("3.7.0")
        self.leader = 1
        self.now = 1000.0
        self.reached: dict[int, float] = {2: 0.0, 3: 0.0, 4: 0.0}
        self.matches: dict[int, int] | None = {1: 100, 2: 100, 3: 100, 4: 95}
        self.forwarded: list[int] = []
        self.transfers: list[int] = []
        self.follows = True
        self.proposed: list[raft_pb2.ConfChange] = []
        self.requests: list[str] = []
        self.service = Reconfiguration(
            self.membership,
            self,
            self,
            self,
            strict=strict,
            clock=self.clock,
            unix_seconds=lambda: 1_700_000_000.9,
            tick_seconds=0.0,
            timeout_seconds=7.0,
        )

    def clock(self) -> float:
        self.now += 0.0 if self.follows else 1.0
        return self.now

    async def propose_conf_change(self, change: raft_pb2.ConfChange) -> list[Member]:
        self.proposed.append(change)
        return self.membership.members

    def progress(self) -> Mapping[int, int] | None:
        return self.matches

    def active_since(self, member: int) -> float | None:
        return self.reached.get(member)

    async def promote_at_leader(self, member: int, token: str) -> list[Member]:
        self.forwarded.append(member)
        return []

    def transfer_leadership(self, target: int) -> None:
        self.transfers.append(target)
        if self.follows:
            self.leader = target

    # Proposer and LinearizableReads
    reads_are_current = True

    def encode(self, kind: str, body: bytes) -> bytes:
        raise NotImplementedError

    def propose(self, proposal: object) -> None:
        raise NotImplementedError

    async def run(self, kind: str, request: Message) -> Outcome:
        self.requests.append(kind)
        return 0, b""

    async def wait_linearizable(self) -> None:
        pass

    def when_linearizable(self, ready: Callable[[EtcdError | None], None]) -> None:
        ready(None)


async def _await(work: Awaitable[T]) -> T:
    return await work


def do(work: Awaitable[T]) -> T:
    return asyncio.run(_await(work))


def test_a_new_member_has_its_id_from_urls_and_time() -> None:
    world = World()
    member, _ = do(world.service.add(["http://b:1", "http://a:1"], as_learner=False))
    urls = ("http://a:1", "http://b:1")
    assert member == Member(member_id(urls, "", 1_700_000_000), urls)
    (change,) = world.proposed
    assert (change.type, change.node_id) == (raft_pb2.ConfChangeAddNode, member.id)
    learner, _ = do(world.service.add(["http://c:1"], as_learner=True))
    assert learner.is_learner
    assert world.proposed[1].type == raft_pb2.ConfChangeAddLearnerNode


def test_strict_rules_hold_back_what_the_log_would_take() -> None:
    world = World()
    world.reached = {2: 999.0}
    with pytest.raises(Unhealthy):
        do(world.service.add(["http://a:1"], as_learner=False))
    with pytest.raises(Unhealthy):
        do(world.service.remove(1))
    world.membership.set_attributes(2, "", [])
    world.membership.set_attributes(3, "", [])
    with pytest.raises(MemberNotEnoughStarted):
        do(world.service.add(["http://a:1"], as_learner=False))
    with pytest.raises(MemberNotEnoughStarted):
        do(world.service.promote(4))
    assert world.proposed == []


def test_without_strict_rules_the_operator_decides() -> None:
    world = World(strict=False)
    world.reached = {}
    do(world.service.add(["http://a:1"], as_learner=False))
    do(world.service.remove(1))
    do(world.service.promote(4))
    assert len(world.proposed) == 3


def test_updates_need_urls() -> None:
    world = World()
    do(world.service.update(2, ["http://x:1"]))
    assert world.proposed[0].type == raft_pb2.ConfChangeUpdateNode
    for urls in ([], ["nonsense"]):
        with pytest.raises(MemberBadUrls):
            do(world.service.update(2, urls))


def test_the_leader_promotes_what_keeps_up() -> None:
    world = World()
    do(world.service.promote(4))
    assert world.proposed[0].node_id == 4
    world.matches = {1: 100, 4: 89}
    with pytest.raises(LearnerNotReady):
        do(world.service.promote(4))
    assert world.forwarded == []


def test_others_pass_a_promotion_on() -> None:
    world = World()
    world.matches = None
    do(world.service.promote(4))
    assert (world.forwarded, world.proposed) == ([4], [])
    with pytest.raises(NotLeader):
        do(world.service.promote_here(4))


def test_the_lead_goes_to_another_voter() -> None:
    world = World()
    do(world.service.move_leader(2))
    assert world.transfers == [2]
    with pytest.raises(NotLeader):
        do(world.service.move_leader(3))


@pytest.mark.parametrize("target", [0, 4, 9])
def test_who_cannot_lead(target: int) -> None:
    world = World()
    with pytest.raises(BadLeaderTransferee):
        do(world.service.move_leader(target))
    assert world.transfers == []


def test_the_leader_may_keep_the_lead() -> None:
    world = World()
    do(world.service.move_leader(1))
    assert world.transfers == []


def test_a_transfer_that_takes_too_long() -> None:
    world = World()
    world.follows = False
    with pytest.raises(LeaderTransferTimeout):
        do(world.service.move_leader(2))


def test_no_downgrade_before_there_is_a_version() -> None:
    world = World()
    world.membership.version = ""
    with pytest.raises(ClusterVersionUnavailable):
        do(world.service.downgrade(rpc_pb2.DowngradeRequest.VALIDATE, "3.6"))


def test_downgrades_go_through_the_log() -> None:
    world = World()
    assert do(world.service.downgrade(rpc_pb2.DowngradeRequest.VALIDATE, "3.6")) == "3.7"
    assert world.requests == []
    assert do(world.service.downgrade(rpc_pb2.DowngradeRequest.ENABLE, "3.6")) == "3.7"
    assert world.requests == ["downgrade_info_set"]
