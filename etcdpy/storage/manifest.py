"""Which tables belong to a LevelDB database: its manifest, read without opening it, or written for tables of our own.

    CURRENT      the manifest's name
    MANIFEST-n   blocks of 32 KiB of records: checksum (4), length (2), kind (1), payload; a record never crosses a
                 block, so long ones are cut into first, middle and last pieces
    a record     tagged fields of a change: comparator, numbers, compaction pointers, tables deleted and added

Format: LevelDB's doc/log_format.md and doc/impl.md. Checksums are left to LevelDB, which verifies them a moment later.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

import google_crc32c

from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BLOCK_BYTES: Final = 32 * 1024
_HEADER_BYTES: Final = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_VARINT_BYTES_MAX: Final = 10
SEQUENCE_BYTES: Final = 8
"""Behind each key in LevelDB's files: its kind and sequence number."""

_COMPARATOR, _LOG_NUMBER, _NEXT_NUMBER, _LAST_SEQUENCE, _COMPACT_POINTER, _DELETED, _ADDED = 1, 2, 3, 4, 5, 6, 7
_NUMBERS: Final = (_LOG_NUMBER, _NEXT_NUMBER, _LAST_SEQUENCE, 9)
"""The last one: previous log number."""

_NAME: Final = "MANIFEST-000001"
FIRST_TABLE: Final = 2
"""Files have numbers in common, and the manifest that `write` makes has the first."""
_CHECKSUM_MASK: Final = 0xA282EAD8


def live_tables(path: Path) -> set[int] | None:
    """Numbers of the tables of the database in `path`; None when its manifest cannot be read."""
    tables = described_tables(path)
    return None if tables is None else set(tables)


class Table(NamedTuple):
    """What the manifest says of a table."""

    level: int
    smallest: bytes
    """The first key in it."""
    largest: bytes
    size_bytes: int


def described_tables(path: Path) -> dict[int, Table] | None:
    """The tables of the database in `path` by number; None when its manifest cannot be read."""
    try:
        name = (path / "CURRENT").read_text("ascii").strip()
        live: dict[int, Table] = {}
        for record in _records((path / name).read_bytes()):
            _apply(record, live)
    except (OSError, ValueError, IndexError):
        return None
    return live


def _records(content: bytes) -> Iterator[bytes]:
    parts: list[bytes] = []
    position = 0
    while position + _HEADER_BYTES <= len(content):
        left = BLOCK_BYTES - position % BLOCK_BYTES
        if left < _HEADER_BYTES:
            position += left
            continue
        length = int.from_bytes(content[position + 4 : position + 6], "little")
        kind = content[position + 6]
        position += _HEADER_BYTES
        parts.append(content[position : position + length])
        position += length
        if kind in (_FULL, _FIRST):
            del parts[:-1]
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            parts.clear()


def _apply(record: bytes, live: dict[int, Table]) -> None:
    """Follow one change. Raises ValueError or IndexError when it is none."""
    position = 0
    while position < len(record):
        tag, position = read_varint(record, position)
        if tag in _NUMBERS:
            _, position = read_varint(record, position)
        elif tag == _COMPARATOR:
            position = _skip(record, position)
        elif tag == _COMPACT_POINTER:
            _, position = read_varint(record, position)
            position = _skip(record, position)
        elif tag == _DELETED:
            _, position = read_varint(record, position)
            number, position = read_varint(record, position)
            live.pop(number, None)
        elif tag == _ADDED:
            level, position = read_varint(record, position)
            number, position = read_varint(record, position)
            size, position = read_varint(record, position)
            middle = _skip(record, position)
            end = _skip(record, middle)
            live[number] = Table(level, _user_key(record, position, middle), _user_key(record, middle, end), size)
            position = end
        else:
            raise ValueError(f"unknown field {tag}")


def _skip(record: bytes, position: int) -> int:
    length, position = read_varint(record, position)
    return position + length


def _user_key(record: bytes, start: int, end: int) -> bytes:
    """A key without the sequence number that LevelDB puts behind it."""
    _, start = read_varint(record, start)
    return record[start : end - SEQUENCE_BYTES]


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number and where the next one starts; one that does not end in time is too large for any file."""
    number = 0
    for offset in range(_VARINT_BYTES_MAX):
        byte = data[position + offset]
        number |= (byte & 0x7F) << 7 * offset
        if byte < 0x80:
            return number, position + offset + 1
    return 1 << 64, position


# --- writing ---


def write(path: Path, tables: dict[int, Table], mark: bytes) -> None:
    """Make a database of the tables in `path`, no two of which overlap; `mark` stands behind their keys. The names
    of its files are not durable yet. Raises OSError."""
    change = [varint(_COMPARATOR), _text(b"leveldb.BytewiseComparator")]
    last_sequence = int.from_bytes(mark, "little") >> 8
    for tag, number in ((_LOG_NUMBER, 0), (_NEXT_NUMBER, max(tables, default=1) + 1), (_LAST_SEQUENCE, last_sequence)):
        change.append(varint(tag) + varint(number))
    for number, table in tables.items():
        change += (varint(_ADDED), varint(table.level), varint(number), varint(table.size_bytes))
        change += (_text(table.smallest + mark), _text(table.largest + mark))
    for name, content in ((_NAME, _in_blocks(b"".join(change))), ("CURRENT", f"{_NAME}\n".encode())):
        with (path / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _text(content: bytes) -> bytes:
    return varint(len(content)) + content


def _in_blocks(record: bytes) -> bytes:
    """A record as the only one of a file."""
    size = BLOCK_BYTES - _HEADER_BYTES
    pieces = [record[start : start + size] for start in range(0, len(record), size)]
    kinds = [_FIRST, *[_MIDDLE] * (len(pieces) - 2), _LAST] if len(pieces) > 1 else [_FULL]
    written: list[bytes] = []
    for kind, piece in zip(kinds, pieces, strict=True):
        content = bytes((kind,)) + piece
        written += (masked_checksum(content), len(piece).to_bytes(2, "little"), content)
    return b"".join(written)


def masked_checksum(data: bytes) -> bytes:
    """CRC-32C as LevelDB's files hold it, so that a checksum of data with checksums in it says something too."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15 | crc << 17) + _CHECKSUM_MASK) & 0xFFFFFFFF).to_bytes(4, "little")
