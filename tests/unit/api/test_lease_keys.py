"""LeaseTimeToLive with the keys of a large lease: in order, and the loop is not held meanwhile."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, cast

from etcdpy.api.lease import LeaseService
from etcdpy.lease.lessor import Lessor
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from etcdpy.proto import rpc_pb2

KEYS = 50_000


class Leader:
    async def wait_applied(self) -> None:
        pass


def test_the_keys_come_in_order_and_in_slices() -> None:
    lessor = Lessor(MemoryBackend(), minimum_ttl=2)
    lessor.promote(0.0, 0.0)
    lessor.grant(7, 100, 0.0)
    keys = [b"/k/%06d" % number for number in range(KEYS)]
    for key in Random(1).sample(keys, KEYS):
        lessor.attach(7, key)
    missing = cast("Any", None)
    service = LeaseService(
        lessor,
        missing,
        missing,
        cast("Any", Leader()),
        missing,
        missing,
        clock=lambda: 10.0,
        random=Random(1),
        fast_keep_alive=False,
    )

    async def run() -> tuple[rpc_pb2.LeaseTimeToLiveResponse, int]:
        asked = asyncio.ensure_future(service.time_to_live_here(7, keys=True))
        turns = 0
        while not asked.done():
            await asyncio.sleep(0)
            turns += 1
        return asked.result(), turns

    told, turns = asyncio.run(run())
    assert (told.ID, told.TTL, told.grantedTTL) == (7, 90, 100)
    assert list(told.keys) == keys
    assert turns > 30, "each slice sorts, merges or encodes a few thousand keys"
