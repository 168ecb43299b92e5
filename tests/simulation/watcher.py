"""Watchers: each follows all keys through one member, and goes on with another where it stopped.

The promise: every change once, in order, without a gap, unless the watcher is told what was compacted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from tests.simulation.checks import Change
    from tests.simulation.clock import Time
    from tests.simulation.member import Process


class Watcher:
    """Acts as the stream's Outbox."""

    buffered_bytes = 0

    def __init__(self, name: str, time: Time, draw: Random, choose: Callable[[], Process | None]) -> None:
        self.name = name
        self._time = time
        self._draw = draw
        self._choose = choose
        self.process: Process | None = None
        self.next_revision = 2
        self.events: list[tuple[int, bytes, bool]] = []
        """(revision, key, whether it is a deletion), across all members it was with."""
        self.gaps: list[tuple[int, int]] = []
        """Revisions from, up to and without, that it was told are compacted."""
        self._session = 0

    def begin(self) -> None:
        self._time.after(self._draw.random(), self._open)

    def _open(self) -> None:
        process = self._choose()
        if process is None:
            self._time.after(0.3, self._open)
            return
        self._session += 1
        self.process = process
        outbox = _Outbox(self, self._session)
        stream = process.hub.open_stream(outbox, process.loop.time())
        stream.create(rpc_pb2.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=self.next_revision))
        process.serve_watchers()
        self._time.after(1.0 + self._draw.random() * 8, self._leave, self._session)

    def _leave(self, session: int) -> None:
        if session == self._session:
            self.lost()

    def lost(self) -> None:
        """The member is gone, or the client goes: watch elsewhere."""
        self._session += 1
        self.process = None
        self._time.after(self._draw.random() * 0.3, self._open)

    def take(self, message: bytes) -> None:
        response = rpc_pb2.WatchResponse.FromString(message)
        if response.canceled:
            if not response.compact_revision:
                raise Violation(f"{self.name} is cut off at {self.next_revision}: {response}")
            self.gaps.append((self.next_revision, response.compact_revision))
            self.next_revision = max(self.next_revision, response.compact_revision)
            self.lost()
            return
        for event in response.events:
            revision = event.kv.mod_revision
            if revision < self.next_revision:
                raise Violation(f"{self.name} gets {event} again, though it has all up to {self.next_revision - 1}")
            self.events.append((revision, event.kv.key, event.type == kv_pb2.Event.DELETE))
        if response.events:
            self.next_revision = self.events[-1][0] + 1

    def check(self, history: Mapping[int, Change]) -> None:
        """Everything from the start to where it is, but for what it was told is compacted."""
        expected = [
            (packed >> 32, change.key, change.deleted)
            for packed, change in sorted(history.items())
            if packed >> 32 < self.next_revision
        ]
        told = [each for each in expected if not any(low <= each[0] < high for low, high in self.gaps)]
        if self.events != told:
            wrong = next((pair for pair in zip(self.events, told, strict=False) if pair[0] != pair[1]), None)
            raise Violation(f"{self.name} saw {len(self.events)} events, not {len(told)}; first difference {wrong}")


class _Outbox:
    """One session's end of the stream; what comes after it ended goes nowhere."""

    buffered_bytes = 0

    def __init__(self, watcher: Watcher, session: int) -> None:
        self._watcher = watcher
        self._session = session

    def send(self, message: bytes) -> None:
        if self._watcher._session == self._session:
            self._watcher.take(message)

    def send_parts(self, parts: list[bytes]) -> None:
        self.send(b"".join(parts))
