"""A stopped member's engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from etcdpy.duration import NS_PER_SECOND

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.storage.engine import Engine
    from etcdpy.storage.key_file import MasterKeys

LOCK_TIMEOUT_NS_DEFAULT: Final = 10 * NS_PER_SECOND
LOCK_RETRY_SECONDS: Final = 0.05


def open_engine(
    path: Path, timeout_seconds: float, *, masters: MasterKeys | None = None, wal_dir: Path | None = None
) -> Engine:
    """The engine of what is there, as soon as nobody else holds the directory; a timeout of 0 waits for ever.

    Raises StorageError, and OSError where no member is.
    """
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.errors import LockedError

    mark = path / "member" / "FORMAT"
    if not mark.exists():
        raise FileNotFoundError(f"stat {mark}: no such file or directory")
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return Engine.open(path, masters=masters, wal_dir=wal_dir)
        except LockedError:
            if timeout_seconds and time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_RETRY_SECONDS)
