"""Hostile inputs under a seed, and what every one of them is held to.

    surface   one door that bytes come in by. `play` draws inputs from a seed and sends them through the product's code
    watch     times each input on the thread's own CPU clock, and counts
    run       one seed: what is wrong, or None

An input may be refused in the words that the surface names; anything else that is raised, more memory than the ceiling,
or a turn that holds the loop for too long is a finding. A stall counts when the same seed shows it three times: other
work on the machine does not slow the CPU clock, but a cold cache and the garbage collector do.
"""

from __future__ import annotations

import gc
import random
import resource
import sys
import time
import traceback
import tracemalloc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from etcdpy.server.run import is_of_a_client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

STALL_SECONDS: Final = 0.010
"""How long one input may hold the loop (docs/design/architecture.md, decision 7)."""

TRIES: Final = 3

GROWTH_BYTES: Final = 64 << 20
"""How far one seed may raise the process's peak of resident memory."""

TRACED_EACH: Final = 200
"""Of so many seeds one is run under tracemalloc, which sees each byte and makes it several times as slow."""

TRACED_BYTES: Final = 16 << 20
"""What one seed may hold at once, by tracemalloc, beside what the surface keeps from seed to seed."""


class Wrong(AssertionError):
    """An input got the wrong answer."""


class Watch:
    """What the inputs of a seed cost."""

    def __init__(self) -> None:
        self.inputs = 0
        self.seconds: list[float] = []
        """Of each turn."""

    @contextmanager
    def input(self) -> Iterator[None]:
        """Around an input that is taken in one turn of the loop."""
        self.inputs += 1
        with self.turn():
            yield

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Around what the product does in one turn of the loop."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds.append(time.thread_time() - began)


class Surface(Protocol):
    """One door. `stall_seconds` is more than STALL_SECONDS where nothing is served yet, as at start."""

    name: str
    stall_seconds: float

    def play(self, draw: Random, watch: Watch) -> None:
        """Send the inputs of one seed; the same draws give the same inputs. Raises Wrong."""


class Result(NamedTuple):
    """Of one seed."""

    inputs: int
    slowest_seconds: float
    finding: str | None


def again(surface: Surface, seed: int) -> str:
    """How to see that seed again."""
    return f"python -m tests.fuzz --surface {surface.name} --seed {seed}"


def run(surface: Surface, seed: int) -> Result:
    """Play one seed and judge it."""
    before = _peak_bytes()
    watch = Watch()
    finding = _play(surface, seed, watch)
    slowest = list(watch.seconds)
    tries = 1
    while finding is None and slowest and max(slowest) > surface.stall_seconds and tries < TRIES:
        tries += 1
        other = Watch()
        finding = _play(surface, seed, other)
        slowest = [min(pair) for pair in zip(slowest, other.seconds, strict=False)]
    worst = max(slowest, default=0.0)
    if finding is None and worst > surface.stall_seconds:
        number = slowest.index(worst)
        finding = f"turn {number} held the loop for {worst * 1000:.1f} ms of CPU, {tries} times out of {tries}"
    grown = _peak_bytes() - before
    if finding is None and grown > GROWTH_BYTES:
        finding = f"the peak of resident memory rose by {grown >> 20} MiB"
    if finding is None and seed % TRACED_EACH == 0:
        finding = _traced(surface, seed)
    return Result(watch.inputs, worst, finding)


def _play(surface: Surface, seed: int, watch: Watch) -> str | None:
    lost: list[str] = []

    def note(raised: sys.UnraisableHookArgs) -> None:
        if not is_of_a_client(raised):
            lost.append(f"an error that nobody can catch: {raised.exc_value!r} in {raised.object!r}"[:256])

    before, sys.unraisablehook = sys.unraisablehook, note
    try:
        return _judged(surface, seed, watch) or next(iter(lost), None)
    finally:
        sys.unraisablehook = before


def _judged(surface: Surface, seed: int, watch: Watch) -> str | None:
    try:
        surface.play(random.Random(f"{surface.name}/{seed}"), watch)
    except Wrong as wrong:
        return str(wrong)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = next((frame for frame in reversed(frames) if "/etcdpy/" in frame.filename), frames[-1])
        name = place.filename.rpartition("/etcdpy/")[2]
        return f"{type(error).__name__}: {str(error)[:200]} ({name}:{place.lineno} in {place.name})"
    return None


def _traced(surface: Surface, seed: int) -> str | None:
    gc.collect()
    tracemalloc.start()
    try:
        finding = _play(surface, seed, Watch())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if finding is None and peak > TRACED_BYTES:
        return f"{peak >> 20} MiB were held at once"
    return finding


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
