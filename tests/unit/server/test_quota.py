"""The keeper of the quota: whom it refuses, when the alarm is raised, and that nobody looks while there is room."""

from __future__ import annotations

from itertools import count
from typing import Any

from etcdpy import limits
from etcdpy.apply.alarms import AlarmStore
from etcdpy.apply.plain_put import PlainPut
from etcdpy.apply.proposal import Proposal
from etcdpy.apply.quota import Quota
from etcdpy.auth.identity import NOBODY
from etcdpy.errors import EtcdError, NoSpace, Timeout
from etcdpy.proto import rpc_pb2
from etcdpy.server.quota import QuotaKeeper
from tests.support.memory_backend import MemoryBackend

OWN = 7
LIMIT = 100 * 1024 * 1024


class Put(Proposal):
    __slots__ = ("refusals",)

    def __init__(self, size: int = 10) -> None:
        self.kind = "put"
        self.signer = NOBODY
        self.request = PlainPut(b"k", bytes(size))
        self.data = b""
        self.refusals: list[type[EtcdError]] = []

    def refuse(self, error: EtcdError) -> None:
        self.refusals.append(type(error))


class World:
    def __init__(self, size: int) -> None:
        self.size = size
        self.alarms = AlarmStore(MemoryBackend())
        self.proposed: list[Any] = []
        ids = count(1)
        self.keeper = QuotaKeeper(
            Quota(LIMIT, lambda: self.size),
            LIMIT,
            OWN,
            self.alarms,
            self.proposed.append,
            lambda kind, body: b"%d " % next(ids) + body,
        )

    def raise_alarm(self) -> None:
        """What was proposed is committed and applied."""
        (alarm,) = self.proposed
        self.proposed.clear()
        assert alarm.request.action == rpc_pb2.AlarmRequest.ACTIVATE
        self.alarms.activate(alarm.request.memberID, alarm.request.alarm)
        alarm.answer((1, b""))


def test_what_finds_room_is_proposed() -> None:
    world = World(LIMIT - 1000)
    put = Put()
    world.keeper.propose(put)
    assert world.proposed == [put]


def test_who_is_refused_finds_the_alarm_raised_and_one_alarm_is_enough() -> None:
    world = World(LIMIT - 200)
    first, second, third = Put(), Put(), Put()
    world.keeper.propose(first)
    world.keeper.propose(second)
    assert [each.kind for each in world.proposed] == ["alarm"]
    assert (world.proposed[0].request.memberID, world.proposed[0].request.alarm) == (OWN, rpc_pb2.NOSPACE)
    assert (first.refusals, second.refusals) == ([], [])
    world.raise_alarm()
    assert (first.refusals, second.refusals) == ([NoSpace], [NoSpace])
    world.keeper.propose(third)
    assert third.refusals == [NoSpace]
    assert world.proposed == []


def test_an_alarm_that_does_not_come_through_holds_nobody_and_is_tried_again() -> None:
    world = World(LIMIT)
    first, second = Put(), Put()
    world.keeper.propose(first)
    alarm = world.proposed.pop()
    alarm.refuse(Timeout())
    alarm.answer((1, b""))  # what was given up may still come
    assert first.refusals == [NoSpace]
    world.keeper.propose(second)
    assert [each.kind for each in world.proposed] == ["alarm"]
    world.raise_alarm()
    assert second.refusals == [NoSpace]


def test_an_alarm_that_is_refused_at_once() -> None:
    """A member that stops refuses every proposal inside `propose`."""
    world = World(LIMIT)
    world.keeper._propose = lambda proposal: proposal.refuse(Timeout())
    put = Put()
    world.keeper.propose(put)
    assert put.refusals == [NoSpace]


def test_another_member_s_alarm_does_not_stand_for_ours() -> None:
    world = World(LIMIT)
    world.alarms.activate(OWN + 1, rpc_pb2.NOSPACE)
    world.keeper.propose(Put())
    world.raise_alarm()
    assert [each.memberID for each in world.alarms.get(rpc_pb2.NOSPACE)] == [OWN, OWN + 1]


def test_what_was_applied_beyond_the_quota_raises_the_alarm_for_nobody_too() -> None:
    world = World(LIMIT)
    put = Put()
    world.keeper.over(None)
    world.keeper.over(put)
    assert put.refusals == []
    world.raise_alarm()
    assert put.refusals == [NoSpace]
    world.keeper.over(None)
    assert world.proposed == []


def test_nobody_looks_while_there_is_room() -> None:
    world = World(0)
    keeper = world.keeper
    assert (keeper.look(), keeper.is_near) == (False, False)
    world.size = LIMIT - limits.QUOTA_NEAR_BYTES
    assert (keeper.look(), keeper.is_near) == (True, True)
    assert (keeper.look(), keeper.is_near) == (False, True)
    world.size -= 1
    assert (keeper.look(), keeper.is_near) == (True, False)
