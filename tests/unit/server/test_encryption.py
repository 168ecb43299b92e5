"""The member's duty for encryption: when the key file changes, and when a record or the disk is at fault."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import plyvel
import pytest

from etcdpy.server import encryption
from etcdpy.server.encryption import EncryptionKeeper, KeyFile, masters_of
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import EncryptionError, StorageError
from tests.support.encryption import find_on_disk, masters, write_key_file
from tests.support.storage import flush, new_engine, state_key, value, write_batch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEY_FILE_LOOK_SECONDS", "REENCRYPT_REPORT_SECONDS", "REENCRYPT_WAIT_SECONDS"):
        monkeypatch.setattr(encryption, name, 0.002)


def filled(path: Path) -> None:
    engine = new_engine(path)
    write_batch(engine, 200)
    flush(engine)
    engine.close()


async def keep(engine: Engine, key_file: Path, until: Callable[[], bool]) -> tuple[bool, list[StorageError]]:
    """Run the duty. Returns whether it ended by itself, and what it said of the disk."""
    assert engine.encryption is not None
    failures: list[StorageError] = []
    loop = asyncio.get_running_loop()

    def write_early() -> None:
        if engine.has_open_writes and engine.failed is None:
            engine.submit(engine.take_job(None, ()), lambda _job: None, loop)

    keeper = EncryptionKeeper(
        engine, engine.encryption, key_file, write_early=write_early, storage_failed=failures.append
    )
    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(30):
        while not until() and not task.done():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)
    if ended := task.done():
        await task
    task.cancel()
    await asyncio.wait({task})
    if not ended and engine.encryption.keys.complete:
        assert set(keeper.stats().done.values()) == {1.0}
    return ended, failures


def test_only_a_changed_file_that_can_be_used_counts(tmp_path: Path) -> None:
    path = write_key_file(tmp_path / "keys", "first")
    watched = KeyFile(path)
    assert watched.changed() is None
    write_key_file(path, "second", "first")
    found = watched.changed()
    assert found is not None
    assert found.writing == "second"
    assert watched.changed() is None
    path.write_text("nonsense")
    assert watched.changed() is None
    path.unlink()
    assert watched.changed() is None
    write_key_file(path, "third")
    assert watched.changed() is not None


def test_where_the_keys_come_from(tmp_path: Path) -> None:
    assert masters_of("", {}) is None
    path = write_key_file(tmp_path / "etcdpy.encryption-keys", "first")
    found = masters_of("", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert found is not None
    assert found.path == path
    with pytest.raises(EncryptionError):
        masters_of(str(tmp_path / "none"), {})


def test_it_follows_the_key_file(tmp_path: Path) -> None:
    data, key_file = tmp_path / "data", tmp_path / "keys"
    filled(data)
    engine = Engine.open(data, masters=masters(key_file, "first"))
    assert engine.encryption is not None
    kept = engine.encryption
    ended, failures = asyncio.run(keep(engine, key_file, lambda: kept.keys.complete))
    assert (ended, failures) == (False, [])
    assert not find_on_disk(data, [value(1)[:9]])

    async def rotate() -> tuple[bool, list[StorageError]]:
        asyncio.get_running_loop().call_later(0.02, write_key_file, key_file, "second", "first")
        return await keep(engine, key_file, lambda: kept.keys.writing == 2 and kept.keys.complete)

    assert asyncio.run(rotate()) == (False, [])
    engine.close()
    Engine.open(data, masters=masters(key_file, "second")).close()


def test_the_loop_waits_for_no_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """member/KEYS is synced twice for each change, and again when all is rewritten: 0.2 s on a slow disk."""
    data, key_file = tmp_path / "data", tmp_path / "keys"
    filled(data)
    engine = Engine.open(data, masters=masters(key_file, "first"))
    assert engine.encryption is not None
    kept, synced = engine.encryption, []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(threading.current_thread())
        real(descriptor)

    monkeypatch.setattr("etcdpy.storage.data_keys.os.fsync", noted)

    async def rotate() -> tuple[bool, list[StorageError]]:
        asyncio.get_running_loop().call_later(0.02, write_key_file, key_file, "second", "first")
        return await keep(engine, key_file, lambda: kept.keys.writing == 2 and kept.keys.complete)

    assert asyncio.run(rotate()) == (False, [])
    engine.close()
    assert len(synced) >= 3
    assert threading.main_thread() not in synced


def test_a_change_in_the_middle_begins_anew(tmp_path: Path) -> None:
    data, key_file = tmp_path / "data", tmp_path / "keys"
    filled(data)
    engine = Engine.open(data, masters=masters(key_file, "first"))
    assert engine.encryption is not None
    kept = engine.encryption
    view = engine.frozen_view()  # holds the first run up

    async def change() -> tuple[bool, list[StorageError]]:
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, write_key_file, key_file, "second", "first")
        loop.call_later(0.3, view.close)
        return await keep(engine, key_file, lambda: kept.keys.complete)

    assert asyncio.run(change()) == (False, [])
    assert [each.number for each in kept.keys.keys] == [2]
    engine.close()


def test_a_damaged_record_ends_it_and_is_still_refused(tmp_path: Path) -> None:
    data, key_file = tmp_path / "data", tmp_path / "keys"
    engine = new_engine(data, masters=masters(key_file, "first"))
    write_batch(engine, 200)
    flush(engine)
    engine.close()
    database = plyvel.DB(str(data / "member" / "state"), compression=None)
    database.put(state_key(7), database.get(state_key(8)))
    database.close()
    engine = Engine.open(data, masters=masters(key_file, "second", "first"))
    assert asyncio.run(keep(engine, key_file, lambda: False)) == (True, [])
    assert engine.encryption is not None
    assert not engine.encryption.keys.complete
    assert {each.number for each in engine.encryption.keys.keys} == {1, 2}
    with pytest.raises(StorageError, match="fails its check"):
        engine.state.get(state_key(7))
    assert engine.state.get(state_key(8)) == value(8)
    engine.close()


def test_a_disk_that_failed_is_told(tmp_path: Path) -> None:
    data, key_file = tmp_path / "data", tmp_path / "keys"
    filled(data)
    engine = Engine.open(data, masters=masters(key_file, "first"))
    engine.failed = StorageError("no room")
    ended, failures = asyncio.run(keep(engine, key_file, lambda: False))
    assert ended
    assert failures == [engine.failed]
    engine.close()
