"""The deadline wheel."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from etcdpy.transport.deadlines import SLOT_SECONDS, Deadlines
from tests.support.wire import FakeClock

if TYPE_CHECKING:
    from etcdpy.transport.calls import Call


class FakeCall:
    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.expired_at: float | None = None

    def expire(self) -> None:
        self.expired_at = self.clock.time


def test_calls_expire_after_their_deadline_and_at_most_a_slot_later() -> None:
    clock = FakeClock()
    wheel = Deadlines(clock.now, clock.call_at)
    waits = [0.5, 0.003, 1.25, 0.5, 0.1]
    calls = [FakeCall(clock) for _ in waits]
    start = clock.time
    for call, wait in zip(calls, waits, strict=True):
        wheel.add(cast("Call", call), wait)
    for _ in range(2000):
        clock.advance(0.001)
    for call, wait in zip(calls, waits, strict=True):
        assert call.expired_at is not None
        assert wait <= call.expired_at - start <= wait + SLOT_SECONDS + 0.0021


def test_a_call_that_ends_leaves_nothing_behind() -> None:
    clock = FakeClock()
    wheel = Deadlines(clock.now, clock.call_at)
    call = FakeCall(clock)
    slot = wheel.add(cast("Call", call), 0.1)
    slot.pop(cast("Call", call))
    clock.advance(1)
    assert call.expired_at is None
    assert not wheel._slots


def test_close_expires_nothing() -> None:
    clock = FakeClock()
    wheel = Deadlines(clock.now, clock.call_at)
    call = FakeCall(clock)
    wheel.add(cast("Call", call), 0.1)
    wheel.close()
    clock.advance(1)
    assert call.expired_at is None
