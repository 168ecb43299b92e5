"""Makes every file of a database anew, so that what was overwritten or deleted leaves the disk.

Compacting the whole range of keys is not enough: LevelDB leaves a table alone that nothing newer overlaps, and a
table that was made of a write buffer still holds all that was overwritten within that buffer. So a deletion of a key
that nobody has is put into each table's range first; then there is something newer above each. Runs on a thread of
its own, beside normal work; nobody may hold a snapshot from before.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Final

from etcdpy.storage import manifest
from etcdpy.storage.errors import StorageError
from etcdpy.storage.leveldb import LevelError, translate

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.storage.sealed_database import SealedDatabase


TABLE_REMOVAL_WAIT_SECONDS: Final = 0.2
"""Between two looks whether a reader has let go of a file that is to leave the disk."""


_FLUSH_LEVELS: Final = 3
"""LevelDB puts the table of a write buffer on level 0, 1 or 2: as deep as nothing else is in its way."""


class TableRewriting:
    """One run. `cancel` makes it stop after the current table."""

    def __init__(self, database: SealedDatabase, path: Path) -> None:
        self._database = database
        self._path = path
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="etcdpy-rewrite")
        self.error: StorageError | None = None
        self.finished = False
        """Whether no file from before is left; false also when it was cancelled."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def cancel(self) -> None:
        """Stop after the table that is being made, and wait for that. Again is no error."""
        self._cancelled.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            self.finished = self._rewrite()
        except LevelError as error:
            self.error = translate(self._path, error)
        except OSError as error:
            self.error = StorageError(f"{self._path}: {error.strerror or error}")

    def _rewrite(self) -> bool:
        self._database.compact_range(start=b"", stop=b"")  # the write buffer becomes a table; a compaction ends first
        newest = max(_numbers(self._path), default=0)
        while not self._cancelled.is_set():
            old = self._old(newest)
            for smallest, _ in old:
                self._database.delete_raw(smallest + b"\0" + os.urandom(16))
            for smallest, largest in old:
                if self._cancelled.is_set():
                    return False
                self._database.compact_range(start=smallest, stop=largest + b"\xff")
            if not old and min(_numbers(self._path), default=newest + 1) > newest:
                self._forget_pointers()
                return True
            if not old:
                # A reader that is about to end holds a file open; LevelDB looks again after a compaction.
                time.sleep(TABLE_REMOVAL_WAIT_SECONDS)
                self._database.delete_raw(b"\0" + os.urandom(16))
                self._database.compact_range(start=b"", stop=b"\0\xff")
        return False

    def _forget_pointers(self) -> None:
        """LevelDB keeps for each level the last key that was compacted there, in every manifest. One deletion on each
        of the levels to which a write buffer may go, above a table of the deepest one, passes through all of them."""
        tables = self._tables()
        if tables:
            deepest = max(tables.values())
            for _ in range(_FLUSH_LEVELS):
                self._database.delete_raw(deepest.smallest + b"\0" + os.urandom(16))
                self._database.compact_range(start=b"", stop=b"")
            self._database.compact_range(start=deepest.smallest, stop=deepest.smallest + b"\xff")

    def _old(self, newest: int) -> list[tuple[bytes, bytes]]:
        """The ranges of the tables that are not newer."""
        tables = self._tables().items()
        return sorted((table.smallest, table.largest) for number, table in tables if number <= newest)

    def _tables(self) -> dict[int, manifest.Table]:
        tables = manifest.described_tables(self._path)
        if tables is None:
            raise StorageError(f"{self._path}: the manifest cannot be read")
        return tables


def _numbers(path: Path) -> list[int]:
    """The numbers of the files that hold data: tables, and write-ahead files."""
    names = (name.partition(".") for name in os.listdir(path))
    return [int(stem) for stem, _, ending in names if ending in ("ldb", "sst", "log") and stem.isdigit()]
