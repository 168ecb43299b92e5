"""Which of a member's URLs is tried, and whether it can be reached."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from etcdpy.peer.names import id_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.peer.metrics import PeerMetrics

logger = logging.getLogger("etcdpy.peer")


class UrlPicker:
    """A member's URLs. All roads to it use the same one until it fails; then the next."""

    def __init__(self, urls: Sequence[str]) -> None:
        assert urls
        self.urls = tuple(urls)
        self._picked = 0

    def pick(self) -> str:
        """The URL to use."""
        return self.urls[self._picked]

    def unreachable(self, url: str) -> None:
        """`url` has failed; unless somebody noticed before, the next one is picked."""
        if self.urls[self._picked] == url:
            self._picked = (self._picked + 1) % len(self.urls)

    def update(self, urls: Sequence[str]) -> None:
        """The member has new URLs."""
        assert urls
        self.urls = tuple(urls)
        self._picked = 0


class PeerStatus:
    """Whether a member was reached by the last attempt on any road. `active_since` is loop time, None while not."""

    def __init__(self, remote: int, metrics: PeerMetrics, now: Callable[[], float]) -> None:
        self._remote = id_text(remote)
        self._metrics = metrics
        self._now = now
        self.active_since: float | None = None

    def activate(self) -> None:
        """A road works."""
        if self.active_since is None:
            logger.info("peer became active", extra={"fields": {"peer-id": self._remote}})
            self.active_since = self._now()
            self._metrics.active_peers.add(self._remote)

    def deactivate(self, source: str, action: str, reason: str) -> None:
        """`action` (dial, read, write, post, heartbeat) failed on the road `source`."""
        error = f"failed to {action} {self._remote} on {source} ({reason})"
        fields = {"fields": {"peer-id": self._remote, "error": error}}
        if self.active_since is None:
            logger.debug("peer deactivated again", extra=fields)
            return
        logger.warning("peer became inactive (message send to peer failed)", extra=fields)
        self.active_since = None
        self._metrics.active_peers.add(self._remote, -1)
        self._metrics.disconnected_peers.add(self._remote)

    def forget(self) -> None:
        """The member is no peer any more."""
        if self.active_since is not None:
            self.active_since = None
            self._metrics.active_peers.add(self._remote, -1)
