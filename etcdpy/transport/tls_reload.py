"""A context that follows its files. Small files, as most are, are read in the turn of the handshake that finds them
changed; large ones by a thread, since a distribution's bundle of authorities takes 50 ms and a revocation list of
100,000 serials 150 ms, and handshakes go on with what was there until that is done.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from etcdpy import limits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from etcdpy.transport.tls_files import FileSet


class FollowingContext:
    """`build` makes the context from the values of `files`; it must not fail on values that were good."""

    def __init__(self, files: Sequence[FileSet[Any] | None], build: Callable[[], ssl.SSLContext]) -> None:
        self._files = [each for each in files if each is not None]
        self._build = build
        self._context = build()
        self._thread: threading.Thread | None = None

    def current(self, *, sessions_max: int | None = None) -> ssl.SSLContext:
        """The context for a new connection. Costs a stat for each file; a fresh one comes where files have changed, or
        where more than `sessions_max` TLS sessions are kept."""
        if self._thread is not None and self._thread.is_alive():
            return self._context
        self._thread = None
        full = sessions_max is not None and self._context.session_stats()["number"] > sessions_max
        stale = any(each.is_stale() for each in self._files)
        if not full and not stale:
            return self._context
        if sum(each.size_bytes() for each in self._files) <= limits.TLS_ON_LOOP_BYTES_MAX:
            self._renew(full=full)
        else:
            self._thread = threading.Thread(target=self._renew, kwargs={"full": full}, name="tls-files", daemon=True)
            self._thread.start()
        return self._context

    def _renew(self, *, full: bool) -> None:
        changed = [each.refresh() for each in self._files]
        if any(changed) or full:
            self._context = self._build()
