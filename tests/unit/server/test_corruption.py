"""Comparing hashes: who gets the CORRUPT alarm, and when nobody does."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdpy.errors import Compacted
from etcdpy.membership.member import Member
from etcdpy.mvcc.hashing import HashKv
from etcdpy.peer.client import HashOfStore, PeerUnreachable
from etcdpy.proto import rpc_pb2
from etcdpy.server.corruption import CorruptionChecker, Inconsistent

OWN, SECOND, THIRD = 1, 2, 3


class World:
    """A leader at revision 10, compacted at 4, whose hash is 77, and what the others tell."""

    def __init__(self) -> None:
        self.own_id = self.leader = OWN
        self.membership = SimpleNamespace(members=[Member(each, (f"http://m{each}",)) for each in (OWN, SECOND, THIRD)])
        self.store = SimpleNamespace(hashes=SimpleNamespace(all=lambda: self.kept))
        self.kept: list[HashKv] = []
        self.own = [(77, 4, 10, 10)]
        self.told: dict[str, Any] = {}
        self.asked: list[tuple[str, int]] = []
        self.alarms: list[int] = []
        self.checker = CorruptionChecker(cast("Any", self), cast("Any", self), self.ask)

    async def hash_kv(self, _revision: int) -> tuple[int, int, int, int]:
        return self.own[0] if len(self.own) == 1 else self.own.pop(0)

    async def ask(self, url: str, revision: int) -> HashOfStore:
        self.asked.append((url, revision))
        told = self.told.get(url, PeerUnreachable("down"))
        if isinstance(told, Exception):
            raise told
        assert isinstance(told, HashOfStore)
        return told

    async def wait_linearizable(self) -> None:
        pass

    async def run(self, kind: str, request: rpc_pb2.AlarmRequest) -> None:
        assert (kind, request.alarm, request.action) == ("alarm", rpc_pb2.CORRUPT, rpc_pb2.AlarmRequest.ACTIVATE)
        self.alarms.append(request.memberID)


def told(digest: int, compacted: int = 4, revision: int = 10) -> HashOfStore:
    return HashOfStore(hash=digest, hash_revision=10, compact_revision=compacted, revision=revision)


@pytest.mark.parametrize(
    ("second", "passes"),
    [
        (told(77), True),
        (told(78), False),
        (told(78, compacted=3), True),
        (Compacted(), True),
        (PeerUnreachable("down"), True),
    ],
)
def test_the_check_at_start(second: Any, passes: bool) -> None:
    world = World()
    world.told = {"http://m2": second, "http://m3": told(77)}
    if passes:
        asyncio.run(world.checker.check_at_start())
    else:
        with pytest.raises(Inconsistent, match="1 found data inconsistency with peers"):
            asyncio.run(world.checker.check_at_start())
    assert world.asked == [("http://m2", 10), ("http://m3", 10)]
    assert world.alarms == []


@pytest.mark.parametrize(
    ("second", "alarms"),
    [
        (told(77), []),
        (told(78), [SECOND]),
        (told(78, compacted=3), []),
        (told(78, compacted=5), [SECOND]),
        (told(77, revision=11), [SECOND]),
        (PeerUnreachable("down"), []),
    ],
)
def test_the_periodic_check(second: Any, alarms: list[int]) -> None:
    world = World()
    world.told = {"http://m2": second, "http://m3": told(77)}
    asyncio.run(world.checker.check_now())
    assert world.alarms == alarms


def test_a_hash_that_changes_by_itself_is_the_leaders_own_fault() -> None:
    world = World()
    world.own = [(77, 4, 10, 10), (70, 4, 10, 10)]
    asyncio.run(world.checker.check_now())
    assert world.alarms == [OWN]


@pytest.mark.parametrize(
    ("second", "third", "alarms", "settled"),
    [
        (told(50), told(50), [], True),
        (told(51), told(50), [SECOND], True),
        (told(51), told(51), [OWN], True),
        (told(51), told(52), [0], True),
        (told(50), PeerUnreachable("down"), [], False),
        (told(51, compacted=3), told(50), [], False),
    ],
)
def test_the_check_of_compactions(second: Any, third: Any, alarms: list[int], settled: bool) -> None:
    world = World()
    world.kept = [HashKv(40, 2, 3), HashKv(50, 4, 8)]
    world.told = {"http://m2": second, "http://m3": third}
    asyncio.run(world.checker.check_compactions())
    assert world.alarms == alarms
    revisions = [revision for url, revision in world.asked if url == "http://m2"]
    assert revisions == ([8] if settled else [8, 3])


def test_what_all_agree_on_is_not_compared_again() -> None:
    world = World()
    world.kept = [HashKv(50, 4, 8)]
    world.told = {"http://m2": told(50), "http://m3": told(50)}
    asyncio.run(world.checker.check_compactions())
    asyncio.run(world.checker.check_compactions())
    assert len(world.asked) == 2
