"""Looks at the one part of LevelDB's tables that has no checksum: the footer.

    last 48 bytes:  metaindex block's offset and size, index block's offset and size (four varints), padding, magic

LevelDB believes these numbers and asks for as much memory as they say: a damaged footer does not give an error, it ends
the process (std::bad_alloc, found by damaging files). All other blocks are covered by checksums that a start verifies.
Format: LevelDB's doc/table_format.md.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from etcdpy.storage import manifest
from etcdpy.storage.errors import DamagedError

if TYPE_CHECKING:
    from pathlib import Path

FOOTER_BYTES: Final = 48
MAGIC: Final = (0xDB4775248B80FB57).to_bytes(8, "little")
_BLOCK_TRAILER_BYTES: Final = 5


def check_footers(path: Path, mend: str) -> None:
    """Check every table of the database in `path`. Raises DamagedError naming the file. 20 us a table.

    A table that the manifest does not know was being written when the process was killed: LevelDB deletes it unread.
    """
    known = manifest.live_tables(path)
    for name in sorted(os.listdir(path)):
        stem, _, ending = name.partition(".")
        if ending in ("ldb", "sst") and (known is None or int(stem) in known):
            fault = _fault(path / name)
            if fault is not None:
                raise DamagedError(f"{path / name}: {fault}; {mend}")


def _fault(file_path: Path) -> str | None:
    with file_path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < FOOTER_BYTES:
            return f"the table is cut: {size} bytes"
        file.seek(size - FOOTER_BYTES)
        footer = file.read(FOOTER_BYTES)
    if footer[-8:] != MAGIC:
        return "the table's end is damaged or cut"
    position, numbers = 0, []
    for _ in range(4):
        number, position = manifest.read_varint(footer, position)
        numbers.append(number)
    for offset, length in (numbers[:2], numbers[2:]):
        if offset + length + _BLOCK_TRAILER_BYTES > size - FOOTER_BYTES:
            return "the table's footer points outside the table"
    return None
