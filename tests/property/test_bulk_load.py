"""A bulk load against LevelDB itself, which reads it, writes over it and compacts it."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.storage import bulk_load, leveldb
from etcdpy.storage.bulk_load import BulkLoad
from etcdpy.storage.errors import StorageError
from etcdpy.storage.manifest import described_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.storage.leveldb import Database

Pairs = list[tuple[bytes, bytes]]

KEYS = st.one_of(st.binary(min_size=1, max_size=20), st.binary(min_size=2900, max_size=3000))
VALUES = st.one_of(st.binary(max_size=30), st.integers(0, 3000).map(bytes))


@st.composite
def contents(draw: st.DrawFn) -> Pairs:
    keys = draw(st.lists(KEYS, unique=True, max_size=120))
    return [(key, draw(VALUES)) for key in sorted(keys)]


def load(path: Path, pairs: Pairs, runs: Sequence[int] = (), *, take: bool = False) -> None:
    """In runs of so many pairs, each written at once or all at the end."""
    loading = BulkLoad(path)
    position = 0
    for length in (*runs, len(pairs)):
        run = pairs[position : position + length]
        position += len(run)
        keys, values = [key for key, _ in run], [value for _, value in run]
        assert loading.goes_on(keys)
        loading.add(keys, values)
        if take:
            loading.take()()
    loading.finish()()


def opened(path: Path) -> Database:
    return leveldb.open_database(path, leveldb.STATE_OPTIONS, create=False)


def stored(path: Path) -> Pairs:
    database = opened(path)
    try:
        return list(leveldb.scan(database, path, None, None))
    finally:
        database.close()


@given(contents(), st.lists(st.integers(1, 40), max_size=5), st.booleans(), st.sampled_from([100, 4096]), st.randoms())
def test_leveldb_finds_what_was_added(
    pairs: Pairs, runs: list[int], take: bool, block_bytes: int, draw: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        path = Path(name)
        patch.setattr(bulk_load, "_BLOCK_BYTES", block_bytes)
        patch.setattr(bulk_load, "_TABLE_BYTES", 4 * block_bytes)
        load(path, pairs, runs, take=take)
        described = described_tables(path)
        assert described is not None
        assert {path / f"{number:06}.ldb": table.size_bytes for number, table in described.items()} == {
            file: file.stat().st_size for file in path.glob("*.ldb")
        }
        database = opened(path)
        assert list(database.iterator(verify_checksums=True)) == pairs
        assert list(database.iterator(reverse=True)) == pairs[::-1]
        assert all(database.get(key) == value for key, value in pairs)
        assert database.get(b"between") == dict(pairs).get(b"between")
        changed = dict(pairs)
        for key, _ in draw.sample(pairs, len(pairs) // 2):
            if draw.random() < 0.5:
                database.delete(key)
                del changed[key]
            else:
                database.put(key, b"newer")
                changed[key] = b"newer"
        database.close()
        assert stored(path) == sorted(changed.items())
        database = opened(path)
        database.compact_range()
        database.close()
        assert stored(path) == sorted(changed.items())


def numbered(count: int, size: int) -> Pairs:
    draw = random.Random(count)
    return [(b"r" + number.to_bytes(12, "big"), draw.randbytes(size)) for number in range(count)]


@pytest.mark.parametrize(("megabytes", "level"), [(1, 1), (11, 2), (30, 2), (110, 3)])
def test_tables_lie_where_leveldb_leaves_them(tmp_path: Path, megabytes: int, level: int) -> None:
    """It would otherwise write or move them anew at the first start."""
    load(tmp_path, numbered(megabytes * 20, 50_000), take=True)
    before = described_tables(tmp_path)
    assert before is not None
    assert {table.level for table in before.values()} == {level}
    database = opened(tmp_path)
    database.put(b"s", b"")
    database.compact_range(start=b"s", stop=b"t")
    database.close()
    after = described_tables(tmp_path)
    assert after is not None
    assert {number: after[number] for number in before} == before


@pytest.mark.parametrize("reverse", [False, True])
def test_damage_anywhere_in_a_table_is_found(tmp_path: Path, reverse: bool) -> None:
    """The last block included, behind which there is nothing that plyvel's iterator would complain at."""
    pairs = numbered(300, 100)
    load(tmp_path, pairs)
    (table,) = tmp_path.glob("*.ldb")
    content = table.read_bytes()
    draw = random.Random(7)
    end = content.rindex(pairs[-1][1]) + len(pairs[-1][1])
    for position in [*draw.sample(range(end), 100), *range(end - 100, len(content), 3)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << draw.randrange(8)
        table.write_bytes(damaged)
        try:
            database = opened(tmp_path)
        except StorageError:
            continue
        try:
            found = list(leveldb.scan(database, tmp_path, None, None, reverse=reverse))
        except StorageError:
            continue
        finally:
            database.close()
        assert position >= end, position
        assert found == (pairs[::-1] if reverse else pairs)


def test_it_is_durable_before_it_is_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash at any point leaves all tables or no database."""
    synced: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(bulk_load, "_TABLE_BYTES", 50_000)
    load(tmp_path, numbered(200, 1000), take=True)
    tables = sorted(file.name for file in tmp_path.glob("*.ldb"))
    assert len(tables) == 4
    assert synced == [*tables, "MANIFEST-000001", "CURRENT", tmp_path.name]
