"""The applied state as it is at one moment, for as long as somebody needs it, while writes go on.

A LevelDB snapshot costs nothing to take; what is not in LevelDB yet is kept beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.storage.layers import MISSING
from etcdpy.storage.leveldb import LevelError, translate
from etcdpy.storage.state import scan_under

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcdpy.raft.types import ConfState
    from etcdpy.storage.layers import Layers
    from etcdpy.storage.leveldb import Database


class FrozenView:
    """The readable half of etcdpy.backend.Backend. Must be closed: LevelDB keeps what it shows until then."""

    __slots__ = (
        "_newer",
        "_open_views",
        "_path",
        "_snapshot",
        "applied_index",
        "applied_term",
        "conf_state",
    )

    def __init__(
        self,
        database: Database,
        path: Path,
        newer: Layers,
        applied: tuple[int, int],
        conf_state: ConfState,
        open_views: set[FrozenView],
    ) -> None:
        """`open_views` holds it until it is closed."""
        self._snapshot = database.snapshot()
        self._open_views = open_views
        open_views.add(self)
        self._path = path
        self._newer = newer
        self.applied_index, self.applied_term = applied
        self.conf_state = conf_state

    def get(self, key: bytes) -> bytes | None:
        """See Backend.get."""
        found = self._newer.get(key)
        if found is not MISSING:
            return found  # type: ignore[return-value]
        try:
            return self._snapshot.get(key, verify_checksums=True)  # type: ignore[no-any-return]
        except LevelError as error:
            raise translate(self._path, error) from error

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """See Backend.scan."""
        return scan_under(self._snapshot, self._path, self._newer, start, end, reverse=reverse)

    def close(self) -> None:
        """Let go of it; scans that are under way end with an error."""
        self._snapshot.close()
        self._open_views.discard(self)
