"""Proposals whose entries are not this member's own: a follower's, which the leader appends, and those of a leader that
has been deposed, which the next one may or may not keep.

Their entries come back from the log without knowing who waits for them. The applier finds that out by the id that ends
the payload; what never comes back is given up at its deadline.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from etcdpy.apply.entry_data import REQUEST_ID_BYTES
from etcdpy.server.parked import held_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.apply.proposal import Proposal
    from etcdpy.errors import EtcdError
    from etcdpy.raft.entry import Entry


class Forwarded:
    """`registry` is the applier's, which takes out what it answers."""

    def __init__(self, registry: dict[bytes, Proposal]) -> None:
        self._registry = registry
        self._batches: deque[tuple[float, list[bytes], int]] = deque()
        self.held_bytes = 0
        """Of the batches that are not over, as far as was looked: a tick ago."""

    def __len__(self) -> int:
        return len(self._registry)

    @property
    def oldest_deadline(self) -> float | None:
        """When the first of them is given up; None when there is none. Answers mostly come in order, so a batch is over
        with its last; what is over goes with the next tick, so these are few."""
        return next((deadline for deadline, ids, _ in self._batches if ids and ids[-1] in self._registry), None)

    def add(self, deadline: float, entries: list[Entry]) -> None:
        """From now on the answer may come with any entry that has the same payload."""
        registry = self._registry
        ids = []
        for entry in entries:
            if entry.proposal is not None:
                request_id = entry.data[-REQUEST_ID_BYTES:]
                registry[request_id] = entry.proposal  # type: ignore[assignment]
                ids.append(request_id)
        size = held_bytes(entries)
        self.held_bytes += size
        self._batches.append((deadline, ids, size))

    def expire(self, now: float, error: Callable[[float], EtcdError]) -> int:
        """Refuse what is past its deadline with what `error` says for it; returns how many."""
        batches, registry, count = self._batches, self._registry, 0
        if not registry:
            self._clear()
        while batches and batches[0][0] <= now:
            deadline, ids, size = batches.popleft()
            self.held_bytes -= size
            count += self._refuse(ids, lambda deadline=deadline: error(deadline))  # type: ignore[misc]
        while batches and not any(each in registry for each in batches[0][1]):
            self.held_bytes -= batches.popleft()[2]
        return count

    def _clear(self) -> None:
        self._batches.clear()
        self.held_bytes = 0

    def fail(self, error: type[EtcdError]) -> int:
        """Refuse all; returns how many."""
        self._clear()
        return self._refuse(list(self._registry), error)

    def _refuse(self, ids: list[bytes], error: Callable[[], EtcdError]) -> int:
        count = 0
        for request_id in ids:
            proposal = self._registry.pop(request_id, None)
            if proposal is not None:
                count += 1
                proposal.refuse(error())
        return count
