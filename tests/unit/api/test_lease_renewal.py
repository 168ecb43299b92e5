"""Renewals at the leader: whether who asks may is looked at in the turn in which the lease is renewed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from etcdpy.api.lease import LeaseService
from etcdpy.errors import PermissionDenied

LEASE = 7


class World:
    """A lease with a checkpoint, which takes a trip through the log to be reset; a right that may end meanwhile."""

    def __init__(self, *, right_ends: bool) -> None:
        self.may = True
        self.renewed = self.checkpoints = 0
        self._right_ends = right_ends
        lessor: Any = SimpleNamespace(
            exists=lambda _lease: True, must_reset_checkpoint=lambda _lease: not self.checkpoints, renew=self._renew
        )
        leader: Any = SimpleNamespace(confirm_leadership=self._leads)
        unused: Any = None
        self.service = LeaseService(
            lessor,
            unused,
            SimpleNamespace(run=self._run),
            leader,
            unused,
            unused,
            clock=lambda: 0.0,
            random=unused,
            fast_keep_alive=True,
        )

    async def _leads(self) -> bool:
        return True

    async def _run(self, kind: str, _request: object) -> None:
        assert kind == "lease_checkpoint"
        self.checkpoints += 1
        self.may = not self._right_ends

    def _renew(self, _lease: int, _now: float) -> int:
        self.renewed += 1
        return 60

    async def allowed(self) -> None:
        if not self.may:
            raise PermissionDenied


def test_a_lease_is_renewed_after_its_checkpoint_was_reset() -> None:
    world = World(right_ends=False)
    assert asyncio.run(world.service.renew_here(LEASE, world.allowed)) == 60
    assert (world.checkpoints, world.renewed) == (1, 1)


def test_who_loses_the_right_meanwhile_renews_nothing() -> None:
    world = World(right_ends=True)
    with pytest.raises(PermissionDenied):
        asyncio.run(world.service.renew_here(LEASE, world.allowed))
    assert world.renewed == 0


def test_who_may_not_costs_no_entry() -> None:
    world = World(right_ends=False)
    world.may = False
    with pytest.raises(PermissionDenied):
        asyncio.run(world.service.renew_here(LEASE, world.allowed))
    assert world.checkpoints == 0
