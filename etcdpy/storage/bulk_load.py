"""Makes a LevelDB database from keys that come in order: tables and manifest as LevelDB's own, each byte written once.

Written by LevelDB itself, a state goes into its write-ahead log, then into the memory table, then into a table; and
where tables fall out of order, into others after that. Here a record goes into the block that it stays in.

    table      data blocks, an index block, an empty metaindex block, the footer
    a block    entries, where every 16th begins (4 bytes each), how many of those, kind 0 (not compressed), checksum
    an entry   0 bytes shared with the key before, length of key, of value (varints), key with its mark, value
    a mark     what LevelDB keeps behind a key: kind (1, a put) and sequence number, the same for all

There are no filters in the tables: LevelDB does without where it finds none, and adds them when it writes a table anew.
Format: LevelDB's doc/table_format.md; tests/property/test_bulk_load.py has LevelDB read the result.
"""

from __future__ import annotations

import os
import struct
from operator import lt
from typing import TYPE_CHECKING, Final

from etcdpy.storage import manifest
from etcdpy.storage.leveldb import STATE_OPTIONS, sync_directory
from etcdpy.storage.manifest import SEQUENCE_BYTES, Table, masked_checksum
from etcdpy.storage.tables import FOOTER_BYTES, MAGIC
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_SEQUENCE: Final = 1
_PUT: Final = 1
_MARK: Final = (_SEQUENCE << 8 | _PUT).to_bytes(SEQUENCE_BYTES, "little")

_BLOCK_BYTES: Final = 8 * 1024
"""A block ends with the entry that makes it as large. LevelDB's own have 4 KiB: a read verifies one, a load makes one
in 2 us whatever it holds."""
_RESTART_INTERVAL: Final = 16
_NOT_COMPRESSED: Final = b"\0"
_TABLE_BYTES: Final[int] = STATE_OPTIONS["max_file_size"]

_BUFFERS: Final = 1024
"""What the system takes in one call: IOV_MAX."""

_LEVEL_BYTES: Final = 10 << 20
"""What LevelDB lets level 1 grow to; each one after it ten times as far."""
_LEVELS: Final = 7


class BulkLoad:
    """A database in an empty directory. What `take` and `finish` return is called in that order, on any one thread at
    a time; it waits for the disk and raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = b""
        """The last key."""
        self._tables: dict[int, Table] = {}
        self._number = manifest.FIRST_TABLE
        # Of the block that grows:
        self._parts: list[bytes] = []
        self._restarts: list[int] = []
        self._entries = 0
        self._block_bytes = 0
        # Of the table that grows:
        self._smallest = b""
        self._index: list[tuple[bytes, bytes]] = []
        self._table_bytes = 0
        # What is to be written: of which table, and whether it ends with that.
        self._blocks: list[bytes] = []
        self._writes: list[tuple[int, list[bytes], bool]] = []

    def goes_on(self, keys: Sequence[bytes]) -> bool:
        """Whether keys ascend, from above the last one."""
        return all(map(lt, (self._last, *keys), keys))

    def add(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Put pairs behind all others; see `goes_on`. 0.6 us a pair of 1 KB."""
        for key, value in zip(keys, values, strict=True):
            if not self._entries % _RESTART_INTERVAL:
                self._restarts.append(self._block_bytes)
            self._entries += 1
            head = _head(len(key) + SEQUENCE_BYTES, len(value))
            self._parts += (head, key, _MARK, value)
            size = len(key) + len(value)
            self._block_bytes += len(head) + SEQUENCE_BYTES + size
            if not self._smallest:
                self._smallest = key
            self._last = key
            if self._block_bytes >= _BLOCK_BYTES:
                self._end_block()

    def take(self) -> Callable[[], None]:
        """What has gathered so far, to be written."""
        if self._blocks:
            self._writes.append((self._number, self._blocks, False))
            self._blocks = []
        writes, self._writes = self._writes, []

        def write() -> None:
            for number, blocks, ended in writes:
                with self._table_path(number).open("ab", buffering=0) as file:
                    for start in range(0, len(blocks), _BUFFERS):
                        _write(file.fileno(), blocks[start : start + _BUFFERS])
                    if ended:
                        # Has the kernel begin: what is left to do in `finish` is little.
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        return write

    def finish(self) -> Callable[[], None]:
        """That was all. After the call it is a database, and durable."""
        if self._entries:
            self._end_block()
        if self._index:
            self._end_table()
        write_rest = self.take()
        total = sum(table.size_bytes for table in self._tables.values())
        # Where LevelDB leaves them in peace: a level that is too full is moved on at once, file by file.
        level = next((each for each in range(1, _LEVELS) if total < _LEVEL_BYTES * 10 ** (each - 1)), _LEVELS - 1)

        def write() -> None:
            write_rest()
            for number in self._tables:
                with self._table_path(number).open("rb") as file:
                    os.fsync(file.fileno())
            tables = {number: table._replace(level=level) for number, table in self._tables.items()}
            manifest.write(self._path, tables, _MARK)
            sync_directory(self._path)

        return write

    def _table_path(self, number: int) -> Path:
        return self._path / f"{number:06}.ldb"

    # --- blocks ---

    def _end_block(self) -> None:
        handle = self._append_block(self._parts, self._restarts)
        self._index.append((self._last + _MARK, handle))
        self._parts, self._restarts = [], []
        self._entries = self._block_bytes = 0
        if self._table_bytes >= _TABLE_BYTES:
            self._end_table()

    def _append_block(self, parts: list[bytes], restarts: list[int]) -> bytes:
        """Add a block to the table; returns what points to it, offset and size."""
        ends = struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))
        block = b"".join((*parts, ends, _NOT_COMPRESSED))
        self._blocks += (block, masked_checksum(block))
        handle = varint(self._table_bytes) + varint(len(block) - 1)
        self._table_bytes += len(block) + 4
        return handle

    def _end_table(self) -> None:
        parts: list[bytes] = []
        restarts: list[int] = []
        size = 0
        for key, handle in self._index:
            restarts.append(size)
            parts += (_head(len(key), len(handle)), key, handle)
            size += sum(map(len, parts[-3:]))
        handles = self._append_block([], [0]) + self._append_block(parts, restarts)
        self._blocks.append(handles.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC)
        self._table_bytes += FOOTER_BYTES
        self._tables[self._number] = Table(0, self._smallest, self._last, self._table_bytes)
        self._writes.append((self._number, self._blocks, True))
        self._number += 1
        self._blocks, self._index = [], []
        self._smallest, self._table_bytes = b"", 0


def _write(descriptor: int, buffers: list[bytes]) -> None:
    """All of it, by a single call as a rule: the thread has to wait for the interpreter after each."""
    written = os.writev(descriptor, buffers)
    if written < sum(map(len, buffers)):
        rest = b"".join(buffers)[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def _head(key_bytes: int, value_bytes: int) -> bytes:
    """Of an entry that shares nothing with the one before."""
    return b"".join((b"\0", varint(key_bytes), varint(value_bytes)))
