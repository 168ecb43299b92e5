"""Out of NOSPACE by itself: when space is reclaimed, and when the alarm is taken back."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from etcdpy.apply.quota import Quota
from etcdpy.errors import Timeout
from etcdpy.proto import rpc_pb2
from etcdpy.server.space import SpaceKeeper

LIMIT = 1000


class World:
    def __init__(
        self, size: int, in_use: int, *, alarm: bool = False, reclaims: bool = True, disarms: bool = True
    ) -> None:
        self.size_total, self.bytes_in_use = size, in_use
        self.defragmented = 0
        self.proposed: list[Any] = []
        self.fails = False
        self.quota = SimpleNamespace(
            quota=Quota(LIMIT, lambda: self.size_total), quota_bytes=LIMIT, own_id=7, stands=alarm
        )
        quota: Any = self.quota
        proposer: Any = self
        self.keeper = SpaceKeeper(self, quota, proposer, self.defragment, reclaims=reclaims, disarms=disarms)

    async def defragment(self) -> None:
        self.defragmented += 1
        self.size_total = self.bytes_in_use

    async def run(self, kind: str, request: Any) -> None:
        if self.fails:
            raise Timeout
        self.proposed.append((kind, request.action, request.memberID, request.alarm))
        self.quota.stands = False

    def look(self) -> None:
        asyncio.run(self.keeper.look())


DISARMED = ("alarm", rpc_pb2.AlarmRequest.DEACTIVATE, 7, rpc_pb2.NOSPACE)


def test_a_full_store_with_free_space_is_reclaimed_and_its_alarm_taken_back() -> None:
    world = World(1100, 500, alarm=True)
    world.look()
    assert (world.defragmented, world.size_total, world.proposed) == (1, 500, [DISARMED])
    world.look()
    assert (world.defragmented, len(world.proposed)) == (1, 1)


@pytest.mark.parametrize(
    ("size", "in_use", "reclaims"),
    [
        (1100, 1050, False),  # too little to give back: each defragmentation rewrites everything
        (1100, 1000, True),
        (800, 700, True),
        (799, 0, False),  # far from the quota
        (900, 801, False),
    ],
)
def test_when_it_is_worth_it(size: int, in_use: int, reclaims: bool) -> None:
    assert World(size, in_use).keeper.is_worth_reclaiming() is reclaims


def test_the_alarm_stays_until_there_is_space() -> None:
    world = World(1100, 950, alarm=True)
    world.look()
    assert (world.defragmented, world.proposed) == (1, [])
    world.size_total = 899
    world.look()
    assert world.proposed == [DISARMED]


def test_each_flag_by_itself() -> None:
    world = World(1100, 500, alarm=True, disarms=False)
    world.look()
    assert (world.defragmented, world.proposed) == (1, [])
    world = World(1100, 500, alarm=True, reclaims=False)
    world.look()
    assert (world.defragmented, world.proposed) == (0, [])


def test_without_a_leader_it_is_tried_again() -> None:
    world = World(100, 100, alarm=True)
    world.fails = True
    world.look()
    assert world.proposed == []
    world.fails = False
    world.look()
    assert world.proposed == [DISARMED]
