"""What the operating system gives."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy import limits
from etcdpy.server import process
from etcdpy.server.loop_lag import LoopLag
from etcdpy.server.run import report_unraisable


def test_too_few_descriptors() -> None:
    assert process.check_descriptor_limit(151) == 1
    with pytest.raises(process.TooFewDescriptors, match="file descriptor limit of etcd process is too low"):
        process.check_descriptor_limit(150)
    assert process.check_descriptor_limit() == process.descriptor_limit() - 150


def test_descriptors_up_to_the_hard_limit_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, pair: asked.append(pair))
    for soft, hard in ((1024, 4096), (1024, resource.RLIM_INFINITY), (4096, 4096)):
        monkeypatch.setattr(resource, "getrlimit", lambda _kind, pair=(soft, hard): pair)
        process.raise_descriptor_limit()
    assert asked == [(4096, 4096), (process.DESCRIPTORS_WITHOUT_LIMIT, resource.RLIM_INFINITY)]


def test_open_descriptors_are_counted() -> None:
    before = process.descriptors_used()
    pair = os.pipe()
    assert process.descriptors_used() == before + 2
    for each in pair:
        os.close(each)


def test_freed_memory_is_kept() -> None:
    """In a process of its own: the heap's end stays where it was after 20 MB in pieces were freed."""
    script = (
        "import sys; from etcdpy.server import process\n"
        "if 'keep' in sys.argv: assert process.keep_freed_memory()\n"
        "pieces = [bytes(100_000) for _ in range(200)]; full = process.resident_bytes()\n"
        "del pieces; print(full - process.resident_bytes())"
    )

    def given_back(*words: str) -> int:
        return int(subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=True).stdout)

    assert given_back() > 10_000_000
    assert given_back("keep") < 1_000_000


def test_readings_are_plausible() -> None:
    assert process.resident_bytes() > 1_000_000


if TYPE_CHECKING:
    from collections.abc import Callable


class FakeHandle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Keeps the one timer that LoopLag sets."""

    def __init__(self) -> None:
        self.callback: Callable[[], None] = lambda: None
        self.delay = 0.0
        self.handle = FakeHandle()

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeHandle:
        self.delay, self.callback = delay, callback
        return self.handle


def test_loop_lag_counts_how_late_the_timer_is() -> None:
    loop, now, used = FakeLoop(), [100.0], [3.0]
    stalls: list[float] = []
    lag = LoopLag(loop, stalls.append, clock=lambda: now[0], cpu_clock=lambda: used[0])  # type: ignore[arg-type]
    lag.start()
    assert loop.delay == limits.LOOP_LAG_INTERVAL_SECONDS
    for late, worked in ((0.0, 0.009), (0.003, 0.014), (0.25, 0.012)):
        now[0] += loop.delay + late
        used[0] += worked
        loop.callback()
    assert lag.histogram.count == 3
    assert lag.histogram.total == pytest.approx(0.253)
    assert lag.own.count == 3
    assert lag.own.total == pytest.approx(0.005), "the machine gave its cores to others for the rest"
    assert lag.longest_seconds == pytest.approx(0.25)
    assert stalls == [pytest.approx(0.25)]
    lag.stop()
    assert loop.handle.cancelled


def test_a_server_name_that_is_no_ascii_is_no_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Found by tests/fuzz: Python wrote a traceback to stderr for each such handshake."""
    raised: Any = SimpleNamespace(exc_value=UnicodeDecodeError("ascii", b"\xff", 0, 1, "x"), object=b"\xff")
    report_unraisable(raised)
    assert not caplog.records
    raised = SimpleNamespace(exc_value=RuntimeError("a bug"), object=None)
    report_unraisable(raised)
    assert "a bug" in str(caplog.records[0].__dict__)
