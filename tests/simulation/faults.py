"""What goes wrong in a run: drawn once from the seed, then carried out as time goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.clock import Time

KINDS = (
    "split",
    "one_way",
    "isolate_leader",
    "kill",
    "power",
    "power_all",
    "stall",
    "slow_disk",
    "fail_disk",
    "transfer",
)


@dataclass
class Mix:
    """Which faults a seed has, and how much of each. A weight of 0 leaves one out."""

    weights: dict[str, float]
    mean_pause: float
    """Seconds between two faults."""
    loss: float
    doubled: float
    late: float
    delay: float
    told: float
    drift: float
    """Clocks run up to this much faster or slower."""
    disk_delay: float
    """Mean seconds of a write that is not done at once."""
    disk_inline: float
    """How many writes are done at once."""
    coups: float
    """How many leaders are cut off or killed right after their election: what they wrote first stays with few."""


def draw_mix(draw: Random) -> Mix:
    """Some seeds are calm, some have one kind of fault only, some have all of them at once."""
    weights = {kind: draw.random() if draw.random() < 0.5 else 0.0 for kind in KINDS}
    bad = draw.random() < 0.7
    return Mix(
        weights,
        mean_pause=draw.choice([0.7, 1.5, 4.0]),
        loss=draw.choice([0.0, 0.02, 0.2]) if bad else 0.0,
        doubled=draw.choice([0.0, 0.1]) if bad else 0.0,
        late=draw.choice([0.0, 0.05, 0.3]) if bad else 0.0,
        delay=draw.choice([0.002, 0.02, 0.08]),
        told=draw.random(),
        drift=draw.choice([0.0, 0.05, 0.3]),
        disk_delay=draw.choice([0.002, 0.02, 0.2]),
        disk_inline=draw.choice([0.0, 0.5, 0.95]),
        coups=draw.choice([0.0, 0.0, 0.3, 0.8]),
    )


class Disk:
    """The Medium of one member's engine. `slow_until` and `fails` are what faults set."""

    def __init__(self, time: Time, draw: Random, mix: Mix) -> None:
        self._time = time
        self._draw = draw
        self._mix = mix
        self.slow_until = 0.0
        self.fails = False
        self.sound = False
        """Once set nothing goes wrong any more."""

    def delay(self) -> float | None:
        if self._time.now < self.slow_until:
            return 0.1 + self._draw.random()
        if self.sound or self._draw.random() < self._mix.disk_inline:
            return None
        return self._draw.expovariate(1 / self._mix.disk_delay)

    def error(self) -> StorageError | None:
        if self.fails and self._draw.random() < 0.5:
            self.fails = False
            return StorageError("simulated: Input/output error")
        return None

    def later(self, seconds: float, callback: Callable[[], None]) -> object:
        return self._time.after(seconds, callback)
