"""Deadlines of calls: a wheel of coarse slots, because a timer of the event loop for each call costs 1.5 us.

A call may end up to one slot later than its deadline; the client's own timer is the exact one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.transport.calls import Call

SLOT_SECONDS: Final = 0.01

Slot = dict["Call", None]


class TimerHandle(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None:
        """Call it off."""


class Deadlines:
    """The wheel. `call_at(when, callback)` and `now()` are the event loop's."""

    def __init__(self, now: Callable[[], float], call_at: Callable[[float, Callable[[], None]], TimerHandle]) -> None:
        self._now = now
        self._call_at = call_at
        self._slots: dict[int, Slot] = {}
        self._timer: TimerHandle | None = None
        self._next_slot = 0

    def add(self, call: Call, seconds: float) -> Slot:
        """Have `call.expire()` called in `seconds`. The call takes itself out of the returned slot when it ends."""
        number = int((self._now() + seconds) / SLOT_SECONDS) + 1
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = {}
            if self._timer is None or number < self._next_slot:
                self._arm(number)
        slot[call] = None
        return slot

    def close(self) -> None:
        """Expire nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()

    def _arm(self, number: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next_slot = number
        self._timer = self._call_at(number * SLOT_SECONDS, self._fire)

    def _fire(self) -> None:
        self._timer = None
        current = int(self._now() / SLOT_SECONDS + 1e-6)
        due = sorted(number for number in self._slots if number <= max(current, self._next_slot))
        for number in due:
            for call in list(self._slots.pop(number)):
                call.expire()
        if self._slots and self._timer is None:
            self._arm(min(self._slots))
