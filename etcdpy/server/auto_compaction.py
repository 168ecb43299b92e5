"""When to compact by itself (--auto-compaction-mode, --auto-compaction-retention), as etcd decides it.

Pure: a caller with a clock asks `due` at every `interval_seconds`; the leader alone acts on the answer.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

_HOUR: Final = 3600.0
_REVISION_INTERVAL_SECONDS: Final = 300.0


class AutoCompactor(Protocol):
    """A rule that says from time to time what to compact at."""

    interval_seconds: float
    mode: str

    def due(self, now: float, revision: int) -> int:
        """The revision to compact at, 0 for none. To be asked every `interval_seconds`."""
        ...

    def done(self, now: float, revision: int) -> None:
        """A compaction at `revision` succeeded, or had been done already."""
        ...


class PeriodicCompactor:
    """Keeps the history of the last `period_seconds`: compacts, at most hourly, at the revision of that long ago.

    The revision is noted ten times an hour or ten times a period, whichever is more often; the first compaction comes
    after a whole period.
    """

    mode = "periodic"

    def __init__(self, period_seconds: float, now: float, revision: int) -> None:
        compact_interval = min(period_seconds, _HOUR)
        self.interval_seconds = compact_interval / 10
        self._compact_interval = compact_interval
        kept = int(period_seconds / self.interval_seconds) + 1
        self._revisions: deque[int] = deque([revision], maxlen=kept)
        self._wait = period_seconds
        self._last_success = now
        self._last_revision = 0

    def due(self, now: float, revision: int) -> int:
        """See AutoCompactor."""
        oldest = self._revisions[0]
        self._revisions.append(revision)
        # Timers are never exact; without the tolerance a timer that is a little early would cost a whole interval.
        if now - self._last_success < self._wait - self.interval_seconds / 10 or oldest == self._last_revision:
            return 0
        self._wait = self._compact_interval
        return oldest

    def done(self, now: float, revision: int) -> None:
        """See AutoCompactor."""
        self._last_success = now
        self._last_revision = revision


class RevisionCompactor:
    """Keeps the last `retention` revisions, looking every five minutes."""

    mode = "revision"
    interval_seconds = _REVISION_INTERVAL_SECONDS

    def __init__(self, retention: int) -> None:
        self._retention = retention
        self._last_revision = 0

    def due(self, now: float, revision: int) -> int:
        """See AutoCompactor."""
        target = revision - self._retention
        return target if target > 0 and target != self._last_revision else 0

    def done(self, now: float, revision: int) -> None:
        """See AutoCompactor."""
        self._last_revision = revision


def make_compactor(mode: str, period_seconds: float, retention: int, now: float, revision: int) -> AutoCompactor | None:
    """The rule for `mode`; None when the retention is 0 and nothing is to be compacted."""
    if mode == "periodic":
        return PeriodicCompactor(period_seconds, now, revision) if period_seconds else None
    return RevisionCompactor(retention) if retention else None
