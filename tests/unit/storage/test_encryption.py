"""Encryption at rest in the engine: nothing readable on disk, every way there and back, and each refusal."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

import plyvel
import pytest

from etcdpy.raft.entry import Entry
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import DamagedError, EncryptionError
from etcdpy.storage.log_database import LogDatabase, open_log
from etcdpy.storage.sealing import MARK, is_sealed
from tests.support.encryption import change_keys, find_on_disk, masters, reencrypt
from tests.support.storage import apply_to, edit_log, flush, new_engine, run, state_key, value, write_batch

if TYPE_CHECKING:
    from pathlib import Path

    from etcdpy.storage.key_file import MasterKeys
    from etcdpy.storage.new_state import Installation
    from etcdpy.storage.reencryption import Reencryption
USERS = [(b"uauthUsers\0alice%d" % number, b"$2b$10$hash%d" % number) for number in range(20)]
NEEDLES = [value(1)[:9], value(50)[:9], value(299)[:9], b"alice", b"$2b$10$hash"]
COUNT = 300


def fill(engine: Engine) -> None:
    """Entries, all applied, and users; written."""
    for _ in range(3):
        write_batch(engine, COUNT // 3, size=200)
    for key, password in USERS:
        engine.state.put(key, password)
    flush(engine)


def check(engine: Engine) -> None:
    """All that `fill` stored is there, in every way of reading."""
    entries = engine.log.entries(1, COUNT + 1, 1 << 30)
    assert [entry.data for entry in entries] == [value(index, 200) for index in range(1, COUNT + 1)]
    expected = [(state_key(index), value(index, 200)) for index in range(1, COUNT + 1)]
    assert list(engine.state.scan(b"r", b"s")) == expected
    assert list(engine.state.scan(b"r", b"s", reverse=True)) == expected[::-1]
    assert engine.state.get(state_key(7)) == value(7, 200)
    users = sorted(USERS)
    assert list(engine.state.scan(b"uauthUsers\0", b"uauthUsers\1")) == users
    assert list(engine.state.scan(users[3][0], users[9][0], reverse=True)) == users[3:9][::-1]
    assert engine.state.get(USERS[3][0]) == USERS[3][1]
    assert engine.state.get(b"uauthUsers\0bob") is None
    view = engine.frozen_view()
    try:
        assert view.get(USERS[4][0]) == USERS[4][1]
        assert list(view.scan(b"r", b"s")) == expected
        assert list(view.scan(b"uauthUsers\0", b"uauthUsers\1")) == users
    finally:
        view.close()


def reopened(path: Path, keys: MasterKeys | None) -> Engine:
    return Engine.open(path, masters=keys)


def made(path: Path, keys: MasterKeys | None) -> None:
    """A data directory with all that `fill` stores."""
    engine = new_engine(path, masters=keys)
    fill(engine)
    engine.close()


def raw(path: Path) -> plyvel.DB:
    """The state as LevelDB has it."""
    return plyvel.DB(str(path / "member" / "state"), compression=None)


def raw_records(path: Path) -> dict[str, list[bytes]]:
    """Every record of the state and of the log as it stands on disk, but for the numbers of batches."""
    database, log = raw(path), open_log(path / "member" / "log")
    found = {
        "state": [record for key, record in database if not key.startswith(b"mbatch/")],
        "log": [record for _, record in log.iterator()],
    }
    database.close()
    log.close()
    return found


def test_without_keys_nothing_stands_between(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data")
    try:
        assert engine.encryption is None
        assert type(engine._log_database) is LogDatabase
        assert type(engine._state_database) is plyvel.DB
    finally:
        engine.close()
    assert not (tmp_path / "data" / "member" / "KEYS").exists()


def test_a_new_member_leaves_nothing_readable(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    assert not find_on_disk(data, NEEDLES)
    engine = reopened(data, keys)
    check(engine)
    assert engine.encryption is not None
    assert engine.encryption.keys.complete
    engine.close()
    assert not find_on_disk(data, NEEDLES)
    for records in raw_records(data).values():
        assert records
        assert all(map(is_sealed, records))


def test_everything_is_read_in_order(tmp_path: Path) -> None:
    """As Hash does: over users and roles and what stands around them."""
    plain, sealed = (
        new_engine(tmp_path / "plain"),
        new_engine(tmp_path / "data", masters=masters(tmp_path / "k", "first")),
    )
    for engine in (plain, sealed):
        for key, password in USERS:
            engine.state.put(key, password)
        for key in (b"a1", b"r1", b"t9", b"v0", b"x1"):
            engine.state.put(key, key)
        flush(engine)
        engine.state.put(b"uauthUsers\0alice3x", b"open")  # between those on disk
    for start, stop in ((b"", b"\xff"), (b"r", b"uauthUsers\0alice5"), (USERS[2][0], b"x"), (b"u", b"v"), (b"v", b"y")):
        for reverse in (False, True):
            expected = [pair for pair in plain.state.scan(start, stop, reverse=reverse) if pair[0][:1] != b"m"]
            found = [pair for pair in sealed.state.scan(start, stop, reverse=reverse) if pair[0][:1] != b"m"]
            assert found == expected
            assert expected
    plain.close()
    sealed.close()


def test_users_can_be_changed_and_removed(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    engine = reopened(data, keys)
    engine.state.put(USERS[0][0], b"other")
    engine.state.delete(USERS[1][0])
    flush(engine)
    engine.close()
    engine = reopened(data, keys)
    assert engine.state.get(USERS[0][0]) == b"other"
    assert engine.state.get(USERS[1][0]) is None
    assert len(list(engine.state.scan(b"uauthUsers\0", b"uauthUsers\1"))) == len(USERS) - 1
    engine.close()


@pytest.mark.parametrize("first_byte", [0x00, MARK])
def test_there_to_another_key_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_byte: int) -> None:
    """Each time all is readable before, while and after, and no older form stays in any file; also where the databases'
    identity, which is random, begins like an encrypted record."""
    data, key_file = tmp_path / "data", tmp_path / "keys"
    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", lambda size: bytes((first_byte,)) * size)
        made(data, None)
    assert {needle for _, needle in find_on_disk(data, NEEDLES)} == set(NEEDLES)
    steps = [("first",), ("second", "first"), ("plaintext", "second")]
    for number, ids in enumerate(steps, start=1):
        engine = reopened(data, masters(key_file, *ids))
        assert engine.encryption is not None
        assert not engine.encryption.keys.complete
        check(engine)
        assert reencrypt(engine) >= COUNT
        assert engine.encryption.keys.complete
        check(engine)
        if number < 3:
            # The manifest remembers bounds of tables until the next start.
            left = {path.name.partition("-")[0] for path, _ in find_on_disk(data, NEEDLES)}
            assert left <= {"MANIFEST"}
            assert engine.names_in_manifest() == bool(left)
            engine.close()
            engine = reopened(data, masters(key_file, ids[0]))
            assert engine.encryption is not None
            assert [each.number for each in engine.encryption.keys.keys] == [number]
            assert not find_on_disk(data, NEEDLES)
            check(engine)
        engine.close()
    assert not (data / "member" / "KEYS").exists()
    engine = reopened(data, None)
    check(engine)
    engine.close()
    for records in raw_records(data).values():
        assert records
        assert not any(map(is_sealed, records))


def test_deleted_records_leave_the_files_too(tmp_path: Path) -> None:
    """Overwritten and deleted plaintext that nothing newer overlaps is found nowhere either."""
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    engine = new_engine(data)
    write_batch(engine, 5)
    for number in range(2000):
        engine.state.put(b"s%06d" % number, b"forgotten-secret")
    flush(engine)
    for number in range(2000):
        engine.state.delete(b"s%06d" % number)
    flush(engine)
    engine._state_database.compact_range()
    engine.close()
    assert find_on_disk(data, [b"forgotten-secret"])
    engine = reopened(data, keys)
    reencrypt(engine)
    engine.close()
    assert not find_on_disk(data, [b"forgotten-secret"])


def test_an_open_snapshot_delays_the_end(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made(data, None)
    engine = reopened(data, masters(tmp_path / "keys", "first"))
    view = engine.frozen_view()

    async def run_a_while() -> None:
        loop = asyncio.get_running_loop()
        steps = engine.reencryption(loop).steps()
        for _ in range(100):
            next(steps)
            if engine.has_open_writes:
                engine.submit(engine.take_job(None, ()), lambda _job: None, loop)
            await asyncio.sleep(0.001)
        steps.close()

    asyncio.run(run_a_while())
    assert engine.encryption is not None
    assert not engine.encryption.keys.complete
    view.close()
    reencrypt(engine)
    assert engine.encryption.keys.complete
    engine.close()
    assert not find_on_disk(data, NEEDLES[:3])


def test_a_received_state_is_encrypted(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    engine = reopened(data, keys)
    new_state = engine.new_state()
    assert not engine.settled
    for index in range(1, 400):
        new_state.put(state_key(index), value(index))
    for key, password in USERS:
        new_state.put(key, password)
    new_state.flush()()
    new_state.finish(400, 2, ConfState((1,)))()
    assert not find_on_disk(data, NEEDLES)

    async def install() -> Installation:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Installation] = loop.create_future()
        engine.install(new_state, HardState(2, 0, 400), done.set_result, loop)
        return await done

    assert asyncio.run(install()).error is None
    for retired in engine.take_retired():
        retired.remove()
    assert engine.state.get(USERS[2][0]) == USERS[2][1]
    engine.close()
    engine = reopened(data, keys)
    assert engine.applied_index == 400
    assert list(engine.state.scan(b"r", b"s")) == [(state_key(index), value(index)) for index in range(1, 400)]
    assert list(engine.state.scan(b"uauthUsers\0", b"uauthUsers\1")) == sorted(USERS)
    engine.close()
    assert not find_on_disk(data, NEEDLES)


def test_a_changed_key_file_takes_effect_while_running(tmp_path: Path) -> None:
    data, key_file = tmp_path / "data", tmp_path / "keys"
    engine = new_engine(data, masters=masters(key_file, "first"))
    fill(engine)
    assert engine.encryption is not None
    assert not change_keys(engine, masters(key_file, "first", "third"))
    assert change_keys(engine, masters(key_file, "second", "first"))
    write_batch(engine, 5, size=200)
    flush(engine)
    reencrypt(engine)
    engine.close()
    with pytest.raises(EncryptionError):
        reopened(data, masters(key_file, "first"))
    engine = reopened(data, masters(key_file, "second"))
    assert engine.log.last_index() == COUNT + 5
    engine.close()


def test_an_entry_applied_in_slices_across_a_change_of_keys(tmp_path: Path) -> None:
    """Its batch was begun under the older key and is written after the change: what it holds follows all the same."""
    data, key_file = tmp_path / "data", tmp_path / "keys"
    engine = new_engine(data, masters=masters(key_file, "first"))
    fill(engine)
    engine.hold_state()
    engine.state.put(b"sx", b"x")
    assert engine._held_batch is not None
    engine.state.gather(engine._held_batch)
    assert engine.encryption is not None
    assert change_keys(engine, masters(key_file, "second", "first"))
    engine.state.put(b"sy", b"y")

    async def go() -> None:
        loop = asyncio.get_running_loop()
        for steps_taken, _ in enumerate(engine.reencryption(loop).steps()):
            if steps_taken == 20:
                engine.release_state()
            if engine.has_open_writes:
                engine.submit(engine.take_job(None, ()), lambda _job: None, loop)
            await asyncio.sleep(0.001)

    asyncio.run(go())
    engine.close()
    engine = reopened(data, masters(key_file, "second"))
    check(engine)
    assert (engine.state.get(b"sx"), engine.state.get(b"sy")) == (b"x", b"y")
    engine.close()


def test_the_older_key_can_go_as_soon_as_a_new_one_writes(tmp_path: Path) -> None:
    """Its data keys are wrapped anew at once; what they encrypted follows later."""
    data, key_file = tmp_path / "data", tmp_path / "keys"
    made(data, masters(key_file, "first"))
    reopened(data, masters(key_file, "second", "first")).close()
    engine = reopened(data, masters(key_file, "second"))
    assert engine.encryption is not None
    assert len(engine.encryption.keys.keys) == 2
    check(engine)
    reencrypt(engine)
    check(engine)
    assert len(engine.encryption.keys.keys) == 1
    engine.close()


def test_uncommitted_entries_wait_until_they_are_applied(tmp_path: Path) -> None:
    data = tmp_path / "data"
    engine = new_engine(data)
    write_batch(engine, 10)
    write_batch(engine, 5, apply=False)
    flush(engine)
    engine.close()
    engine = reopened(data, masters(tmp_path / "keys", "first"))
    steps_taken = 0

    async def go() -> None:
        nonlocal steps_taken
        loop = asyncio.get_running_loop()
        for steps_taken, _ in enumerate(engine.reencryption(loop).steps()):
            if steps_taken == 50:
                apply_to(engine, 15)
            if engine.has_open_writes:
                engine.submit(engine.take_job(None, ()), lambda _job: None, loop)
            await asyncio.sleep(0.001)

    asyncio.run(go())
    assert steps_taken > 50
    assert [entry.data for entry in engine.log.entries(1, 16, 1 << 20)] == [value(index) for index in range(1, 16)]
    engine.close()
    assert not find_on_disk(data, [value(index)[:9] for index in range(1, 16)])


def test_a_replaced_entry_is_never_brought_back(tmp_path: Path) -> None:
    """What LevelDB holds of an entry may be older than what is on its way to the disk."""

    data = tmp_path / "data"
    engine = new_engine(data, masters=masters(tmp_path / "keys", "first"))
    write_batch(engine, 10, apply=False)
    old = engine.log.entries(8, 9, 1 << 20)[0]
    assert old.wire is not None
    job = engine.take_job(HardState(2, 1, 0), [Entry(b"new", None, 2, 8)], must_sync=True)
    engine.set_applied(8, 2)  # committed by others before it is on this disk

    puts: list[bytes] = []

    class Batch:
        def put(self, key: bytes, _value: bytes) -> None:
            puts.append(key)

    async def rewriting() -> Reencryption:
        return engine.reencryption(asyncio.get_running_loop())

    asyncio.run(rewriting())._put_log_record(Batch(), (8).to_bytes(8, "big"), old.wire, data)
    assert puts == []
    run(engine, job)
    engine.close()


# --- refusals ---


def test_no_key_file(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made(data, masters(tmp_path / "keys", "first"))
    with pytest.raises(EncryptionError) as caught:
        reopened(data, None)
    assert str(caught.value) == (
        f'{data}/member is encrypted under the key "first"; start with --encryption-key-file and a file that holds it'
    )


def test_a_missing_key_and_a_wrong_one(tmp_path: Path) -> None:
    data, key_file = tmp_path / "data", tmp_path / "keys"
    made(data, masters(key_file, "first"))
    before = find_on_disk(data, [b""])
    with pytest.raises(EncryptionError) as caught:
        reopened(data, masters(key_file, "second"))
    assert str(caught.value) == (
        f'{data}/member/KEYS needs the key "first", which {key_file} does not hold; put its line back into that '
        "file, or name another --encryption-key-file"
    )
    with pytest.raises(EncryptionError) as caught:
        reopened(data, masters(key_file, "first: AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="))
    assert str(caught.value) == (
        f'the key "first" in {key_file} is not the one that {data}/member/KEYS was made with; put the right line back '
        "into that file, or name another --encryption-key-file"
    )
    with pytest.raises(EncryptionError, match='needs the key "first"'):
        reopened(data, masters(key_file, "plaintext"))
    assert find_on_disk(data, [b""]) == before
    reopened(data, masters(key_file, "first")).close()


@pytest.mark.parametrize("name", ["writing", "databases", "keys"])
def test_keys_edited_by_hand(tmp_path: Path, name: str) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    path = data / "member" / "KEYS"
    fields = json.loads(path.read_text())
    if name == "writing":
        fields["writing"] = 0
    elif name == "databases":
        fields["databases"]["state"]["plaintext"] = True
    else:
        fields["keys"][0]["made"] = "never"
    path.write_text(json.dumps(fields))
    with pytest.raises(EncryptionError, match="was changed by hand or damaged"):
        reopened(data, keys)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b"null", b'{"version": 2}', b"\xff", b"[" * 100_000, b"x" * 5_000_000]
)
def test_keys_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    (data / "member" / "KEYS").write_bytes(content)
    with pytest.raises(EncryptionError, match="member/KEYS cannot be read") as caught:
        reopened(data, keys)
    assert "\n" not in str(caught.value)


def test_lost_keys_are_noticed(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    (data / "member" / "KEYS").unlink()
    with pytest.raises(DamagedError, match="cannot be decrypted"):
        reopened(data, keys)


def changed(record: bytes | None) -> bytes:
    assert record is not None
    return record[:-20] + bytes((record[-20] ^ 1,)) + record[-19:]


FAILS_ITS_CHECK = "the record %s cannot be decrypted: it fails its check under data key 1"


def test_a_changed_record_of_the_log_is_named_and_not_served(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    key = (101).to_bytes(8, "big")
    database = open_log(data / "member" / "log")
    record = database.get(key)
    database.close()
    edit_log(data, {key: changed(record)})
    with pytest.raises(DamagedError, match="member/log: " + FAILS_ITS_CHECK % key.hex()):
        reopened(data, keys)


def test_a_changed_record_of_the_state_is_named_and_not_served(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    key = state_key(7)
    database = raw(data)
    database.put(key, changed(database.get(key)))
    database.close()
    words = "member/state: " + FAILS_ITS_CHECK % key.hex()
    engine = reopened(data, keys)
    with pytest.raises(DamagedError, match=words):
        engine.state.get(key)
    with pytest.raises(DamagedError, match=words):
        list(engine.state.scan(b"r", b"s"))
    engine.close()


def test_moved_and_planted_records_are_refused(tmp_path: Path) -> None:
    data, keys = tmp_path / "data", masters(tmp_path / "keys", "first")
    made(data, keys)
    database = raw(data)
    database.put(state_key(8), database.get(state_key(9)))
    database.put(state_key(10), b"\x0a\x01kplanted")
    database.close()
    engine = reopened(data, keys)
    with pytest.raises(DamagedError, match="fails its check"):
        engine.state.get(state_key(8))
    with pytest.raises(DamagedError, match="it is not encrypted although all others are"):
        engine.state.get(state_key(10))
    engine.close()


def test_a_refused_start_leaves_no_keys_behind(tmp_path: Path) -> None:
    """A damaged plaintext member is refused as it is: encryption begins only once it was found whole."""
    data = tmp_path / "data"
    made(data, None)
    edit_log(data, {(101).to_bytes(8, "big"): None})
    with pytest.raises(DamagedError, match="entry 101 is missing"):
        reopened(data, masters(tmp_path / "keys", "first"))
    assert not (data / "member" / "KEYS").exists()
