"""Proposals that came while nobody led: proposed as soon as somebody does, as on etcd, or given up in the end."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from etcdpy import limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etcdpy.raft.entry import Entry


def held_bytes(entries: Sequence[Entry]) -> int:
    """What these entries hold while they wait."""
    return sum([len(entry.data) for entry in entries]) + limits.PROPOSAL_OVERHEAD_BYTES * len(entries)


class Parked:
    """In the order of their deadlines. Bounded by what they hold, since a cluster may be without a leader for long."""

    def __init__(self) -> None:
        self._batches: deque[tuple[float, list[Entry]]] = deque()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._batches)

    def __len__(self) -> int:
        return sum(len(entries) for _, entries in self._batches)

    def add(self, deadline: float, entries: list[Entry]) -> bool:
        """False when there are too many already; these are not taken then."""
        size = held_bytes(entries)
        if self._bytes + size > limits.WAITING_PROPOSALS_BYTES:
            return False
        self._bytes += size
        self._batches.append((deadline, entries))
        return True

    def take(self, now: float = float("inf")) -> Iterator[tuple[float, list[Entry]]]:
        """What is there now with deadlines up to `now`, each with its deadline. What is added meanwhile stays."""
        for _ in range(len(self._batches)):
            if self._batches[0][0] > now:
                return
            deadline, entries = self._batches.popleft()
            self._bytes -= held_bytes(entries)
            yield deadline, entries
