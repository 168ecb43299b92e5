"""The one place that touches plyvel: options with their reasons, opening, errors translated, syncing by hand.

Facts about LevelDB that the rooms above rely on (checked with strace and by damaging files, see tests):
  a synced write is one write() and one fdatasync(); an unsynced one is one write() and survives kill -9
  a batch is atomic: after a crash it is there whole or not at all
  a cut end of its write-ahead log is taken as "the last batches were never written"
  a stretch of zeros inside that log is skipped in silence (BatchChain finds that)
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import plyvel

from etcdpy.storage.errors import DamagedError, StorageError
from etcdpy.storage.tables import check_footers

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

LevelError: Final = plyvel.Error
Database = Any
"""plyvel.DB; plyvel has no type information."""
Batch = Any
"""A plyvel write batch."""

MIB: Final = 1 << 20

REPLACE: Final = "replace this member (remove it, then add it anew with an empty data directory), or restore a snapshot"
"""The mend for what cannot be repaired: never guess at data."""

STATE_OPTIONS: Final[dict[str, Any]] = {
    # Every block that is read has its checksum verified when a table is opened, compacted or recovered.
    "paranoid_checks": True,
    # Revisions grow, so tables hardly overlap and a flush is seldom written again. 8 MiB: as fast as 16 (0.5 us of
    # background work a put of 300 bytes), with 16 MB less memory; below that the loop waits for flushes.
    "write_buffer_size": 8 * MIB,
    "max_file_size": 8 * MIB,
    # Values go out as they were stored, reads come from mapped files, and dbSize grows as much as is written. Snappy
    # would save disk where values are text, for CPU on the road of each read.
    "compression": None,
    # 10 bits: a miss costs 0.6 us instead of a block read.
    "bloom_filter_bits": 10,
    # Mapped, uncompressed blocks do not go through this cache, so it can be small.
    "lru_cache_size": MIB,
    "max_open_files": 1000,
}


def open_database(path: Path, options: dict[str, Any], *, create: bool) -> Database:
    """Open or create the database in `path`. Raises DamagedError naming the file that LevelDB cannot make sense of."""
    if not create and path.is_dir():
        check_footers(path, REPLACE)
    try:
        return plyvel.DB(str(path), create_if_missing=create, error_if_exists=create, **options)
    except plyvel.CorruptionError as error:
        raise DamagedError(f"{path}: {describe(error)}; {REPLACE}") from error
    except plyvel.Error as error:
        if _is_missing_file(error):
            raise DamagedError(f"{path}: {describe(error)}; {REPLACE}") from error
        raise StorageError(f"{path}: {describe(error)}") from error


def scan(
    source: Database, path: Path, start: bytes | None, stop: bytes | None, *, reverse: bool = False
) -> Generator[tuple[bytes, bytes], None, None]:
    """Pairs of start <= key < stop in a database or a snapshot of it, as of this call, in order or its reverse; to be
    exhausted or closed. Raises StorageError, here and on the way."""
    try:
        pairs = source.iterator(start=start, stop=stop, reverse=reverse, verify_checksums=True)
    except LevelError as error:
        raise translate(path, error) from error
    return _to_the_end(pairs, source, path, start, stop, reverse=reverse)


def _to_the_end(
    pairs: Any, source: Database, path: Path, start: bytes | None, stop: bytes | None, *, reverse: bool
) -> Generator[tuple[bytes, bytes], None, None]:
    last = None
    try:
        for pair in pairs:
            yield pair
            last = pair
        _check_end(source, start, stop, last[0] if last is not None else None, reverse=reverse)
    except LevelError as error:
        raise translate(path, error) from error
    finally:
        pairs.close()


def _check_end(source: Database, start: bytes | None, stop: bytes | None, last: bytes | None, *, reverse: bool) -> None:
    """Raise LevelError where a scan did not end with `last` (None: before the first pair), but with damage.

    plyvel's iterators end in silence where the block with the next key is damaged and nothing whole comes after it: of
    the keyspace that would be the newest revisions. Its raw ones say it, so those look once more. 5 us.
    """
    raw = source.raw_iterator(verify_checksums=True)
    try:
        beginning = stop if reverse else start or b""
        if last is not None or beginning is not None:
            raw.seek(last if last is not None else beginning)
        if reverse and not raw.valid():
            raw.seek_to_last()  # nothing is at `stop` or behind it
        if raw.valid() and reverse:
            raw.prev()
        elif raw.valid() and last is not None:
            raw.next()
    finally:
        raw.close()


def close_quietly(database: Database) -> None:
    """Close from a thread beside the loop. Again is no error.

    LevelDB's own thread must end first, and plyvel waits for that with the interpreter lock in its hands, 25 ms for the
    flush of a full buffer; compacting an empty range waits for the same without it.
    """
    if not database.closed:
        database.compact_range(start=b"", stop=b"")
        database.close()


def _is_missing_file(error: Exception) -> bool:
    text = str(error)
    return "does not exist" in text or "No such file" in text or "CURRENT" in text


def describe(error: BaseException) -> str:
    """LevelDB's words on one line."""
    text = str(error).strip()
    if text.startswith(("b'", 'b"')):
        text = text[2:-1]
    return " ".join(text.split()) or type(error).__name__


def translate(path: Path, error: plyvel.Error) -> StorageError:
    """The error to raise for one that a read or write met."""
    if isinstance(error, plyvel.CorruptionError):
        return DamagedError(f"{path}: {describe(error)}; {REPLACE}")
    return StorageError(f"{path}: {describe(error)}")


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what LevelDB or the system says about `path` as a StorageError."""
    try:
        yield
    except LevelError as error:
        raise translate(path, error) from error
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}") from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_write_ahead(path: Path) -> None:
    """Make every write to the database in `path` so far durable.

    LevelDB's own synced write covers only the write-ahead file that it goes to; an older one may still wait for its
    flush into a table. Tables themselves are synced before the file that they replace is removed.
    """
    for name in sorted(os.listdir(path)):
        if not name.endswith(".log"):
            continue
        try:
            descriptor = os.open(path / name, os.O_RDONLY)
        except FileNotFoundError:
            continue  # its content became a table meanwhile, which is synced
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
    sync_directory(path)


def notes_hold(path: Path, needle: bytes) -> bool:
    """Whether a manifest or LevelDB's text log holds these bytes of a key. Raises StorageError."""
    with translated(path):
        return any(needle in each.read_bytes() for pattern in ("MANIFEST-*", "LOG*") for each in path.glob(pattern))


def clear_notes(path: Path) -> None:
    """Empty LevelDB's text log, which names keys, and remove the one before it. Raises StorageError."""
    with translated(path):
        (path / "LOG.old").unlink(missing_ok=True)
        if (path / "LOG").exists():
            os.truncate(path / "LOG", 0)  # it is open for appending


def disk_bytes(path: Path) -> int:
    """What the database's own files hold; LevelDB's text log and lock are not data."""
    total = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith(("LOG", "LOCK")):
                continue
            try:
                total += entry.stat().st_size
            except FileNotFoundError:
                continue  # a compaction removed it
    return total
