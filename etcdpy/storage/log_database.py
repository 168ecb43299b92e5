"""The raft log's own database: what this room uses of a LevelDB database, over segments (segments.py).

A map. Keys of 8 bytes are those of entries' records, thousands of them, which are read from the disk; the few others,
`meta/*`, are kept in memory and written again at the head of each segment. So the oldest segment is removed as soon as
none of its entries counts, and nothing is written twice. LevelDB turns a write buffer into a table although most of the
entries in it are truncated by then: 4 % of all that a member did.

    content of a batch    key's length, value's length, key, value; a value's length of 0xffffffff deletes

Batches are written by one thread at a time: the loop, or the disk's. Others may read meanwhile what no batch deletes.
"""

from __future__ import annotations

import os
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.storage import segments
from etcdpy.storage.errors import DamagedError, StorageError
from etcdpy.storage.leveldb import REPLACE, translated
from etcdpy.storage.segment_format import (
    CONTENT_END,
    HEAD_BYTES,
    HEADER_BYTES,
    Found,
    batches,
    is_blank,
    is_torn,
    pack_batch,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    from etcdpy.storage.segments import Segment

_ENTRY_KEY_BYTES: Final = 8
_LENGTHS: Final = struct.Struct("<BI")
_DELETED: Final = 0xFFFFFFFF

_GONE: Final = -1

Place = tuple[int, int, int, int]
"""Where a record is: segment's number, its batch's position there, its own within the content, its size."""

Change = tuple[bytes, int, int]
"""An entry's key, where its record begins in the content, and its size; _GONE for a deletion."""


class LogBatch:
    """Puts and deletions that become durable together. Hot road."""

    __slots__ = ("_database", "_size", "_sync", "changes", "meta", "pieces")

    def __init__(self, database: LogDatabase, *, sync: bool) -> None:
        self._database = database
        self._sync = sync
        self._size = 0
        self.pieces: list[bytes] = []
        self.changes: list[Change] = []
        self.meta: dict[bytes, bytes | None] = {}

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key."""
        size = len(value)
        head = _LENGTHS.pack(len(key), size) + key
        start = self._size + len(head)
        self.pieces.append(head)
        self.pieces.append(value)
        self._size = start + size
        if len(key) == _ENTRY_KEY_BYTES:
            self.changes.append((key, start, size))
        else:
            self.meta[key] = value

    def delete(self, key: bytes) -> None:
        """Remove a key, which need not be there."""
        head = _LENGTHS.pack(len(key), _DELETED) + key
        self.pieces.append(head)
        self._size += len(head)
        if len(key) == _ENTRY_KEY_BYTES:
            self.changes.append((key, 0, _GONE))
        else:
            self.meta[key] = None

    def write(self) -> None:
        """Raises OSError; then nothing may be written any more."""
        self._database.write(self, sync=self._sync)


class LogDatabase:
    """An open log, made by `open_log` or `create_log`."""

    _current: Segment
    """Where the next batch goes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._segments: dict[int, Segment] = {}
        """By number, oldest first."""
        self._places: dict[bytes, Place] = {}
        self._meta: dict[bytes, bytes] = {}
        self._next = 0
        """The next batch's number, from 1 without gaps; 0 while the first one is yet to be found."""
        self._durable = 0
        """The newest batch that a sync covers."""
        self._prepared: Segment | None = None
        self._preparation: _Preparation | None = None
        self._replayed: dict[int, bytes] = {}
        """What is in segments, by number, until the first write: a start reads every entry."""
        self._last_read: tuple[Segment, int, bytes] | None = None
        """A batch's segment, its position and content: neighbours are often read one after the other."""
        self.closed = False

    def close(self) -> None:
        """Let go of the files. Again is no error."""
        self.closed = True
        if self._preparation is not None:
            self._prepared, self._preparation = self._preparation.segment(), None
        self._last_read = None
        for segment in (*self._segments.values(), self._prepared):
            if segment is not None:
                segment.close()

    # --- reading ---

    def get(self, key: bytes, *, verify_checksums: bool = True) -> bytes | None:
        """The value of `key`; None when absent. Checksums are always verified. Raises DamagedError, StorageError."""
        del verify_checksums
        if len(key) != _ENTRY_KEY_BYTES:
            return self._meta.get(key)
        place = self._places.get(key)
        segment = None if place is None else self._segments.get(place[0])
        if place is None or segment is None:
            return None
        _, position, start, size = place
        replayed = self._replayed.get(segment.number)
        if replayed is not None:
            start += position + HEAD_BYTES
            return replayed[start : start + size]
        if self._last_read is None or self._last_read[:2] != (segment, position):
            self._last_read = segment, position, _read_back(segment, position)
        return self._last_read[2][start : start + size]

    def iterator(
        self,
        *,
        start: bytes | None = None,
        stop: bytes | None = None,
        reverse: bool = False,
        include_value: bool = True,
        verify_checksums: bool = True,
    ) -> Iterator[Any]:
        """Pairs, or keys alone, of start <= key < stop as of now, in order or its reverse. Checksums are always
        verified. Raises DamagedError, StorageError on the way."""
        del verify_checksums
        low = start or b""
        inside = [key for key in (*self._places, *self._meta) if low <= key and (stop is None or key < stop)]
        found = sorted(inside, reverse=reverse)
        return self._pairs(found) if include_value else iter(found)

    def _pairs(self, keys: list[bytes]) -> Generator[tuple[bytes, bytes], None, None]:
        for key in keys:
            value = self.get(key)
            if value is not None:
                yield key, value

    def approximate_size(self, start: bytes, stop: bytes) -> int:
        """Bytes of the entries' records in a range of keys."""
        return sum(place[3] for key, place in list(self._places.items()) if start <= key < stop)

    # --- writing ---

    def put(self, key: bytes, value: bytes, *, sync: bool = False) -> None:
        """Set one key. Raises OSError."""
        batch = self.write_batch(sync=sync)
        batch.put(key, value)
        batch.write()

    def delete(self, key: bytes) -> None:
        """Remove one key. Raises OSError."""
        batch = self.write_batch()
        batch.delete(key)
        batch.write()

    def write_batch(self, *, sync: bool = False) -> LogBatch:
        """An empty batch."""
        return LogBatch(self, sync=sync)

    def write(self, batch: LogBatch, *, sync: bool) -> None:
        """See LogBatch.write."""
        pieces = batch.pieces
        pieces.append(CONTENT_END)
        content = b"".join(pieces)
        current = self._current
        self._replayed.clear()
        if current.end + HEAD_BYTES + len(content) > current.size:
            self._start_segment()
            current = self._current
        position = self._append(content)
        self._take(current, position, batch.changes, batch.meta)
        if sync:
            self._sync()
        if current.end > current.size // 2 and self._prepared is None and self._preparation is None:
            self._preparation = _Preparation(self._path, current.number + 1)

    def _append(self, content: bytes) -> int:
        """Write a batch; returns its position."""
        segment = self._current
        position = segment.end
        segment.append(pack_batch(segment.salt, self._next, self._durable, content))
        self._next += 1
        return position

    def _take(self, segment: Segment, position: int, changes: list[Change], meta: Mapping[bytes, bytes | None]) -> None:
        """What the batch at that place changed."""
        places = self._places
        for key, start, size in changes:
            before = places.pop(key, None)
            if before is not None:
                self._segments[before[0]].live -= 1
            if size != _GONE:
                places[key] = segment.number, position, start, size
                segment.live += 1
        for key, value in meta.items():
            if value is None:
                self._meta.pop(key, None)
            else:
                self._meta[key] = value

    def _sync(self) -> None:
        os.fdatasync(self._current.descriptor)
        self._durable = self._next - 1
        # What made their entries count no more is durable as well now.
        while (oldest := next(iter(self._segments.values()))) is not self._current and not oldest.live:
            oldest.path.unlink()
            del self._segments[oldest.number]

    def _start_segment(self) -> None:
        """Go on in another one. A batch in it proves that all before it were durable."""
        self._sync()
        segment, self._prepared = self._prepared, None
        if self._preparation is not None:
            segment, self._preparation = self._preparation.segment(), None
        if segment is None:
            segment = segments.create(self._path, self._current.number + 1, limits.LOG_SEGMENT_BYTES)
        self._segments[segment.number] = self._current = segment
        meta = self.write_batch()
        for key, value in self._meta.items():
            meta.put(key, value)
        self._append(b"".join((*meta.pieces, CONTENT_END)))

    # --- making all files anew ---

    def begin_renewal(self) -> int:
        """From here on nothing is written to the segments that are there. Returns the first that comes after them, for
        `renew`. Raises OSError."""
        self._start_segment()
        return self._current.number

    def renew(self, first: int, size: int) -> bool:
        """Store what older segments than `first` hold anew, as it is: about `size` bytes of it. True when none is left:
        those segments are gone then. Raises OSError, StorageError."""
        batch = self.write_batch(sync=True)
        for key, place in list(self._places.items()):
            if place[0] < first:
                value = self.get(key)
                assert value is not None
                batch.put(key, value)
                size -= len(value)
                if size <= 0:
                    break
        if batch.changes:
            batch.write()
            return False
        self._sync()
        return True

    # --- beginning ---

    def create(self) -> None:
        """Make the first segment. Raises OSError."""
        self._next = 1
        self._current = segments.create(self._path, 1, limits.LOG_SEGMENT_BYTES)
        self._segments[1] = self._current
        self._append(CONTENT_END)  # the first segment of a whole log is never blank

    def replay(self) -> None:
        """Take in all segments. Raises DamagedError, OSError; then nothing was changed."""
        numbers = segments.numbers_in(self._path)
        if not numbers:
            raise DamagedError(f"{self._path} holds no segment of the raft log; {REPLACE}")
        blank: list[Segment] = []
        torn: Segment | None = None
        for number in numbers:
            segment, content = segments.open_segment(self._path, number)
            self._segments[number] = segment
            self._replayed[number] = content
            if self._next and is_blank(content, segment.end):
                blank.append(segment)
                continue
            if blank or torn is not None:
                before = torn or blank[0]
                raise DamagedError(
                    f"{before.path}: batch {self._next} is missing although {segment.path.name} goes on; {REPLACE}"
                )
            for found in batches(segment.salt, content):
                self._replay_batch(segment, found)
            if self._next == 0:
                raise DamagedError(f"{segment.path}: its first batch is damaged; {REPLACE}")
            if not is_blank(content, segment.end):
                if not is_torn(segment.salt, content, segment.end, self._next):
                    where = f"{segment.path}: batch {self._next}, at byte {segment.end}"
                    raise DamagedError(f"{where}, is damaged; {REPLACE}")
                torn = segment
        self._go_on(blank, torn)

    def _replay_batch(self, segment: Segment, found: Found) -> None:
        if self._next not in (0, found.number):
            raise DamagedError(
                f"{segment.path}: batch {self._next} is missing although batch {found.number} is there; {REPLACE}"
            )
        try:
            changes, meta = split_content(found.content)
        except struct.error as error:
            raise DamagedError(f"{segment.path}: batch {found.number} cannot be read; {REPLACE}") from error
        self._take(segment, found.position, changes, meta)
        self._next = found.number + 1
        segment.end = found.end

    def _go_on(self, blank: list[Segment], torn: Segment | None) -> None:
        """All is found whole. Raises OSError."""
        if torn is not None:
            torn.clear()
            if torn.end == HEADER_BYTES:
                blank.insert(0, torn)
        for segment in blank:
            del self._segments[segment.number]
        self._current = next(reversed(self._segments.values()))
        self._prepared = blank.pop(0) if blank else None
        for segment in blank:
            segment.path.unlink()
        segments.remove_unfinished(self._path)
        self._sync()


def _read_back(segment: Segment, position: int) -> bytes:
    try:
        batch = segment.read_batch(position)
    except OSError as error:
        raise StorageError(f"{segment.path}: {error.strerror or error}") from error
    if batch is None:
        raise DamagedError(f"{segment.path}: the batch at byte {position} cannot be read back; {REPLACE}")
    return batch.content


def split_content(content: bytes) -> tuple[list[Change], dict[bytes, bytes | None]]:
    """What a batch changes: of entries, and of all else. Raises struct.error."""
    changes: list[Change] = []
    meta: dict[bytes, bytes | None] = {}
    position, end = 0, len(content) - len(CONTENT_END)
    while position < end:
        key_size, size = _LENGTHS.unpack_from(content, position)
        start = position + _LENGTHS.size + key_size
        key = content[start - key_size : start]
        position = start if size == _DELETED else start + size
        if position > end:
            raise struct.error("a record goes beyond its batch")
        if key_size == _ENTRY_KEY_BYTES:
            changes.append((key, start, _GONE if size == _DELETED else size))
        else:
            meta[key] = None if size == _DELETED else content[start:position]
    return changes, meta


class _Preparation:
    """Makes the next segment beside the work, so that nobody waits for it."""

    def __init__(self, path: Path, number: int) -> None:
        self._path = path
        self._number = number
        self._made: Segment | None = None
        self._maker = threading.Thread(target=self._run, name="etcdpy-segment")
        self._maker.start()

    def _run(self) -> None:
        with suppress(OSError):  # whoever needs it tries again, and says what is wrong
            self._made = segments.create(self._path, self._number, limits.LOG_SEGMENT_BYTES)

    def segment(self) -> Segment | None:
        """What it made; None when it could not."""
        self._maker.join()
        return self._made


def create_log(path: Path) -> LogDatabase:
    """An empty log in a new directory `path`. Raises StorageError."""
    with translated(path):
        path.mkdir(mode=0o700)
        database = LogDatabase(path)
        database.create()
    return database


def open_log(path: Path) -> LogDatabase:
    """The log in `path`. Raises DamagedError naming the file that is not whole, StorageError; what a loss of power cut
    off is cleared."""
    database = LogDatabase(path)
    try:
        with translated(path):
            database.replay()
    except BaseException:
        database.close()
        raise
    return database
