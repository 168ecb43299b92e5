"""Linearizable reads (Raft paper section 8): all reads that wait share one confirmation by the quorum.

A read that arrives while a confirmation is under way must wait for the next one: the index of the one under way may
be older than a write that was acknowledged before the read began.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from etcdpy import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.errors import EtcdError
    from etcdpy.raft.node import RawNode
    from etcdpy.raft.types import ReadState

    ReadWaiter = Callable[[EtcdError | None], None]
    Batch = list[tuple[float, ReadWaiter]]


class ReadQueue:
    """Reads between their arrival and the moment the applied state may answer them."""

    def __init__(self, raw: RawNode, *, next_id: Callable[[], int], retry_seconds: float) -> None:
        """`next_id` gives numbers that no other member asks with: an etcd leader takes equal ones for one question."""
        self._raw = raw
        self._next_id = next_id
        self._retry_seconds = retry_seconds
        self._arrived: Batch = []
        self._confirming: Batch = []
        self._contexts: list[bytes] = []
        """What the reads of `_confirming` were asked with, once for each try: any answer will do for them."""
        self._asked_at = 0.0
        self._confirmed: deque[tuple[int, Batch]] = deque()
        self.failed = 0
        self.slow = 0
        """Answers that came for a question already given up or answered."""

    def add(self, deadline: float, ready: ReadWaiter) -> None:
        """`ready(None)` is called when the applied state may answer, `ready(error)` at `deadline` (seconds)."""
        self._arrived.append((deadline, ready))

    @property
    def is_full(self) -> bool:
        """Whether no more reads may be added: those that nobody confirms wait until their deadline."""
        return len(self._arrived) >= limits.RAFT_WAITING_READS

    @property
    def wants_confirmation(self) -> bool:
        """Whether reads wait and no confirmation is under way."""
        return bool(self._arrived) and not self._confirming

    def ask(self, now: float) -> None:
        """Ask the quorum for the index from which on the waiting reads may be answered."""
        assert not self._confirming, "one confirmation at a time"
        if self._ask(now):
            self._confirming, self._arrived = self._arrived, []
        # Otherwise nobody leads: asked again at the next turn.

    def _ask(self, now: float) -> bool:
        context = self._next_id().to_bytes(8, "big")
        self._asked_at = now
        asked = self._raw.read_index(context)
        if asked:
            self._contexts.append(context)
        return asked

    def ask_again(self, now: float) -> None:
        """The confirmation under way may have been lost, with a message or with a leader: ask once more."""
        if self._confirming:
            self._ask(now)

    def note(self, states: list[ReadState], applied: int) -> None:
        """Confirmations arrived. One that was asked for earlier reads must not answer for those that wait now."""
        for state in states:
            if state.context in self._contexts:
                self._confirmed.append((state.index, self._confirming))
                self._confirming = []
                self._contexts.clear()
            else:
                self.slow += 1
        self.serve(applied)

    def serve(self, applied: int) -> None:
        """Everything up to `applied` is applied: answer the reads that waited for it."""
        confirmed = self._confirmed
        while confirmed and confirmed[0][0] <= applied:
            for _, ready in confirmed.popleft()[1]:
                ready(None)

    def expire(self, now: float, error: Callable[[float], EtcdError]) -> None:
        """Fail what has waited too long, with what `error` says for its deadline; ask again when a confirmation may
        have been lost (etcd: every 500 ms)."""
        for batch in (self._arrived, self._confirming, *(each for _, each in self._confirmed)):
            late = [each for each in batch if each[0] <= now]
            if late:
                batch[:] = [each for each in batch if each[0] > now]
                self.failed += len(late)
                for deadline, ready in late:
                    ready(error(deadline))
        if not self._confirming:
            self._contexts.clear()
        elif now - self._asked_at > self._retry_seconds:
            self._ask(now)

    def fail(self, error: type[EtcdError]) -> None:
        """Fail every read that waits."""
        batches = [self._arrived, self._confirming, *(each for _, each in self._confirmed)]
        self._arrived, self._confirming = [], []
        self._contexts.clear()
        self._confirmed.clear()
        for batch in batches:
            for _, ready in batch:
                ready(error())
