"""Linearizable reads (Raft paper section 8): all reads that wait share one confirmation by the quorum.

A read that arrives while a confirmation is under way must wait for the next one: the index of the one under way may
be older than a write that was acknowledged before the read began.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from etcdpy.errors import Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.errors import EtcdError
    from etcdpy.raft.node import RawNode
    from etcdpy.raft.types import ReadState

    ReadWaiter = Callable[[EtcdError | None], None]
    Batch = list[tuple[float, ReadWaiter]]


class ReadQueue:
    """Reads between their arrival and the moment the applied state may answer them."""

    def __init__(self, raw: RawNode, *, retry_seconds: float) -> None:
        self._raw = raw
        self._retry_seconds = retry_seconds
        self._arrived: Batch = []
        self._confirming: Batch = []
        self._context = 0
        self._asked_at = 0.0
        self._confirmed: deque[tuple[int, Batch]] = deque()
        self.failed = 0

    def add(self, deadline: float, ready: ReadWaiter) -> None:
        """`ready(None)` is called when the applied state may answer, `ready(Timeout())` at `deadline` (seconds)."""
        self._arrived.append((deadline, ready))

    @property
    def wants_confirmation(self) -> bool:
        """Whether reads wait and no confirmation is under way."""
        return bool(self._arrived) and not self._confirming

    def ask(self, now: float) -> None:
        """Ask the quorum for the index from which on the waiting reads may be answered."""
        assert not self._confirming, "one confirmation at a time"
        self._context += 1
        self._asked_at = now
        if self._raw.read_index(self._context.to_bytes(8, "big")):
            self._confirming, self._arrived = self._arrived, []
        # Otherwise nobody leads: asked again at the next tick.

    def note(self, states: list[ReadState], applied: int) -> None:
        """Confirmations arrived. Only the newest counts: an older one that was given up must not answer for it."""
        for state in states:
            if self._confirming and state.context == self._context.to_bytes(8, "big"):
                self._confirmed.append((state.index, self._confirming))
                self._confirming = []
        self.serve(applied)

    def serve(self, applied: int) -> None:
        """Everything up to `applied` is applied: answer the reads that waited for it."""
        confirmed = self._confirmed
        while confirmed and confirmed[0][0] <= applied:
            for _, ready in confirmed.popleft()[1]:
                ready(None)

    def expire(self, now: float) -> None:
        """Fail what has waited too long; ask again when a confirmation may have been lost (etcd: every 500 ms)."""
        for batch in (self._arrived, self._confirming, *(each for _, each in self._confirmed)):
            late = [ready for deadline, ready in batch if deadline <= now]
            if late:
                batch[:] = [each for each in batch if each[0] > now]
                self.failed += len(late)
                for ready in late:
                    ready(Timeout())
        if self._confirming and now - self._asked_at > self._retry_seconds:
            self._arrived = self._confirming + self._arrived
            self._confirming = []

    def fail(self, error: type[EtcdError]) -> None:
        """Fail every read that waits."""
        batches = [self._arrived, self._confirming, *(each for _, each in self._confirmed)]
        self._arrived, self._confirming = [], []
        self._confirmed.clear()
        for batch in batches:
            for _, ready in batch:
                ready(error())
