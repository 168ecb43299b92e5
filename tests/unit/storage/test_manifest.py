"""The manifest against LevelDB itself: whatever tables it keeps after opening, and no others."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import plyvel
import pytest

from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import StorageError
from etcdpy.storage.manifest import live_tables
from tests.support.storage import check_prefix, in_tables, new_engine, write_batch

if TYPE_CHECKING:
    from pathlib import Path


def tables(path: Path) -> set[int]:
    return {int(file.stem) for file in path.glob("*.ldb")}


def test_it_names_the_tables_that_leveldb_needs(tmp_path: Path) -> None:
    """Flushes and compactions, keys long enough for records in pieces. The database is the same without the others."""
    draw = random.Random(1)
    path = tmp_path / "data"
    for opening in range(10):
        database = plyvel.DB(str(path), create_if_missing=True, write_buffer_size=64 * 1024, max_file_size=64 * 1024)
        for _ in range(300):
            database.put(b"%d/" % draw.randrange(100_000) + b"k" * 3000, draw.randbytes(200))
        if opening == 5:
            database.compact_range()
        before = list(database)
        database.close()
        (path / "900000.ldb").write_bytes(b"half")
        live = live_tables(path)
        assert live is not None
        assert live < tables(path)
        for number in tables(path) - live:
            (path / f"{number:06}.ldb").unlink()
        database = plyvel.DB(str(path), paranoid_checks=True)
        assert list(database) == before
        database.close()
    assert tables(path)


def test_none_without_a_readable_manifest(tmp_path: Path) -> None:
    assert live_tables(tmp_path) is None
    (tmp_path / "CURRENT").write_text("MANIFEST-000001\n")
    (tmp_path / "MANIFEST-000001").write_bytes(b"\0" * 4 + b"\2\0\1\x63\1")
    assert live_tables(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_a_table_that_was_being_written_when_the_process_was_killed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data"
    engine = new_engine(path)
    write_batch(engine, 20)
    engine.close()
    orphan = path / "member" / "state" / "009999.ldb"
    orphan.write_bytes(content)
    again = Engine.open(path)
    assert check_prefix(again) == (20, 20)
    again.close()
    assert not orphan.exists()


def test_a_table_that_counts_is_still_looked_at(tmp_path: Path) -> None:
    table = in_tables(tmp_path / "data", 20)
    table.write_bytes(b"")
    with pytest.raises(StorageError, match=table.name):
        Engine.open(tmp_path / "data")
