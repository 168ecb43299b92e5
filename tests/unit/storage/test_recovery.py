"""Each case of the recovery tables, made on a real directory, and the tables against the page that explains them."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import plyvel
import pytest

from etcdpy import limits
from etcdpy.raft.entry import Entry, encode_entries
from etcdpy.raft.types import ConfState, HardState
from etcdpy.storage import raft_log, recovery
from etcdpy.storage.engine import Engine
from etcdpy.storage.errors import DamagedError, DataDirError, StorageError
from etcdpy.storage.meta import APPLIED_KEY, IDENTITY_KEY
from tests.support.storage import check_prefix, edit_log, flush, new_engine, run, write_batch

PAGE = Path(__file__).parents[3] / "docs" / "design" / "recovery.md"


@pytest.fixture(autouse=True)
def _state_goes_with_every_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests follow single records to the disk."""
    monkeypatch.setattr(limits, "STATE_BATCH_RECORDS", 1)
    monkeypatch.setattr(limits, "LOG_RECORD_BYTES", 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A member with 30 entries, 29 of them in the state; never truncated."""
    path = tmp_path / "data"
    engine = new_engine(path)
    for count in (10, 19):
        write_batch(engine, count)
    flush(engine)
    write_batch(engine, 1, apply=False)
    engine.close()
    return path


def edit(path: Path, changes: dict[bytes, bytes | None]) -> None:
    database = plyvel.DB(str(path))
    for key, value in changes.items():
        if value is None:
            database.delete(key)
        else:
            database.put(key, value)
    database.close()


def edit_state(data: Path, changes: dict[bytes, bytes | None]) -> None:
    edit(data / "member" / "state", changes)


def index_key(index: int) -> bytes:
    return index.to_bytes(8, "big")


def refused(data: Path, kind: type[StorageError], *words: str) -> None:
    """Refused on one line that says where, what and what to do; twice the same, so nothing was changed."""
    messages = []
    for _ in range(2):
        with pytest.raises(kind) as caught:
            Engine.open(data)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "\n" not in messages[0]
    assert str(data) in messages[0]
    for word in words:
        assert word in messages[0], messages[0]


def opens(data: Path, applied: int, last: int) -> None:
    engine = Engine.open(data)
    try:
        assert check_prefix(engine) == (applied, last)
    finally:
        engine.close()


# --- the tables ---


@pytest.mark.parametrize("cases", [recovery.LAYOUT_CASES, recovery.RECEIVED_CASES, recovery.CONTENT_CASES])
def test_the_page_shows_the_tables(cases: tuple[recovery.Case[object], ...]) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    named = [line.split("|")[1].strip() for line in rows]
    names = [case.name for case in cases]
    start = named.index(names[0])
    assert named[start : start + len(names)] == names, "same cases in the same order"
    for case, row in zip(cases, rows[start:], strict=False):
        assert row.split("|")[3].strip() == case.action.value, case.name


def test_every_refusal_has_a_mend() -> None:
    for action, mend, name in [
        *((case.action, case.mend, case.name) for case in recovery.LAYOUT_CASES),
        *((case.action, case.mend, case.name) for case in recovery.CONTENT_CASES),
    ]:
        assert mend or action is not recovery.Action.REFUSE, name


# --- layout ---


def test_new(tmp_path: Path) -> None:
    path = tmp_path / "a" / "data"
    engine = Engine.open(path)
    assert engine.is_new
    engine.bootstrap(ConfState((7,)), HardState())
    engine.close()
    assert (path.stat().st_mode & 0o777, (path / "member").stat().st_mode & 0o777) == (0o700, 0o700)
    assert (path / "member" / "FORMAT").read_text() == "etcdpy data 2\n"
    again = Engine.open(path)
    assert not again.is_new
    assert again.log.initial_state() == (HardState(), ConfState((7,)))
    again.close()


def test_opened_but_never_bootstrapped_is_still_new(tmp_path: Path) -> None:
    Engine.open(tmp_path / "data").close()
    engine = Engine.open(tmp_path / "data")
    assert engine.is_new
    engine.close()


def test_only_files_and_directories(data: Path) -> None:
    engine = Engine.open(data)
    for root, _, files in os.walk(data):
        for name in files:
            assert (Path(root) / name).is_file()
            assert not (Path(root) / name).is_symlink()
    engine.close()


def test_half_made(tmp_path: Path) -> None:
    path = tmp_path / "data"
    (path / "member" / "log").mkdir(parents=True)
    (path / "member" / "log" / "junk").write_text("x")
    (path / "member" / "CREATING").write_text("")
    engine = new_engine(path)
    write_batch(engine, 3)
    engine.close()
    assert not (path / "member" / "CREATING").exists()
    opens(path, 3, 3)


def test_mark_left(data: Path) -> None:
    (data / "member" / "CREATING").write_text("")
    opens(data, 29, 30)
    assert not (data / "member" / "CREATING").exists()


def test_foreign(tmp_path: Path) -> None:
    path = tmp_path / "etcd"
    (path / "member" / "wal").mkdir(parents=True)
    (path / "member" / "snap").mkdir()
    refused(path, DataDirError, "holds data of etcd itself (member/wal and member/snap)", "choose another --data-dir")


def test_foreign_wal_dir(tmp_path: Path) -> None:
    (tmp_path / "wal").mkdir()
    (tmp_path / "wal" / "0000000000000000-0000000000000000.wal").write_text("x")
    with pytest.raises(DataDirError, match="holds data of etcd itself"):
        Engine.open(tmp_path / "data", wal_dir=tmp_path / "wal")


def test_format_missing(data: Path) -> None:
    (data / "member" / "FORMAT").unlink()
    refused(data, DataDirError, "member/FORMAT is missing", "put it back")


def test_format_unknown(data: Path) -> None:
    (data / "member" / "FORMAT").write_text("etcdpy data 3\n")
    refused(data, DataDirError, "`etcdpy data 3`", "start the version of etcdpy that wrote it")


def test_log_missing(data: Path) -> None:
    shutil.rmtree(data / "member" / "log")
    refused(data, DataDirError, "raft log is not where it should be", "--wal-dir")


def test_wal_dir(tmp_path: Path) -> None:
    engine = new_engine(tmp_path / "data", wal_dir=tmp_path / "wal")
    write_batch(engine, 4)
    engine.close()
    assert (tmp_path / "wal" / "log" / "0000000000000001.segment").exists()
    assert not (tmp_path / "data" / "member" / "log").exists()
    assert (tmp_path / "wal").stat().st_mode & 0o777 == 0o700
    again = Engine.open(tmp_path / "data", wal_dir=tmp_path / "wal")
    assert check_prefix(again) == (4, 4)
    again.close()
    refused(tmp_path / "data", DataDirError, "--wal-dir")


def test_locked(data: Path) -> None:
    engine = Engine.open(data)
    refused(data, DataDirError, "another process holds")
    engine.close()
    opens(data, 29, 30)


def test_wide_permissions_are_warned_of(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    data.chmod(0o755)
    with caplog.at_level(logging.WARNING, "etcdpy.storage"):
        opens(data, 29, 30)
    (record,) = [record for record in caplog.records if record.message == "check file permission"]
    assert record.fields["error"].startswith(f'directory "{data}" exist, but the permission is "drwxr-xr-x".')  # type: ignore[attr-defined]


def test_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirError, match="cannot use the data directory"):
        Engine.open(tmp_path / "file" / "data")


# --- content ---


def test_state_missing_and_log_complete(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(data / "member" / "state")
    engine = Engine.open(data)
    assert (engine.applied_index, engine.log.last_index()) == (0, 30)
    assert "rebuilding the applied state" in caplog.text
    engine.close()
    opens(data, 0, 30)


def test_state_missing_and_log_truncated(data: Path) -> None:
    truncate(data, 5)
    shutil.rmtree(data / "member" / "state")
    refused(data, DamagedError, "starts after entry 5", "replace this member")
    assert not (data / "member" / "state").exists()


def truncate(data: Path, index: int) -> None:
    engine = Engine.open(data)
    engine._truncate_to = index
    run(engine, engine.take_job(None, ()))
    engine.close()


def test_not_a_pair(data: Path) -> None:
    edit_state(data, {IDENTITY_KEY: b"x" * 16})
    refused(data, DamagedError, "not made together", "--wal-dir")


def test_identity_missing(data: Path) -> None:
    edit_state(data, {IDENTITY_KEY: None})
    edit_log(data, {raft_log.IDENTITY_KEY: None})
    refused(data, DamagedError, "not made together")


def test_hard_state_missing(data: Path) -> None:
    edit_log(data, {raft_log.HARD_STATE_KEY: None})
    refused(data, DamagedError, "no hard state", "replace this member")


def test_hard_state_unreadable(data: Path) -> None:
    edit_log(data, {raft_log.HARD_STATE_KEY: b"short"})
    refused(data, DamagedError, "meta/hard_state", "5 bytes instead of 24")


def test_commit_beyond_log(data: Path) -> None:
    edit_log(data, {raft_log.HARD_STATE_KEY: raft_log.pack_hard_state(HardState(1, 1, 31))})
    refused(data, DamagedError, "entry 31 was known as committed", "ends at 30")


def test_state_ahead_of_log(data: Path) -> None:
    edit_log(data, {index_key(30): None, index_key(29): None})
    edit_log(data, {raft_log.HARD_STATE_KEY: raft_log.pack_hard_state(HardState(1, 1, 0))})
    refused(data, DamagedError, "entry 29 is applied but the raft log ends at 28")


def test_gap_between_state_and_log(data: Path) -> None:
    truncate(data, 20)
    edit_state(data, {APPLIED_KEY: raft_log.pack_pair(19, 1)})
    refused(data, DamagedError, "ends at entry 19", "starts after 20")


def test_state_of_another_history(data: Path) -> None:
    edit_state(data, {APPLIED_KEY: raft_log.pack_pair(29, 4)})
    refused(data, DamagedError, "applied with term 4 but has term 1")


def test_applied_record_unreadable(data: Path) -> None:
    edit_state(data, {APPLIED_KEY: b"?"})
    refused(data, DamagedError, "mapplied")


def test_log_hole(data: Path) -> None:
    edit_log(data, {index_key(17): None})
    refused(data, DamagedError, "entry 17 is missing although entry 18 is there")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"\xff\xff", "entry 12 is not an entry"),
        (encode_entries([Entry(b"", None, 1, 13)])[0], "entry 12 says of itself index 13"),
        (encode_entries([Entry(b"", None, 0, 12)])[0], "term 0, after term 1"),
    ],
)
def test_wrong_entry(data: Path, value: bytes, words: str) -> None:
    edit_log(data, {index_key(12): value})
    refused(data, DamagedError, words, "replace this member")


def test_missing_batch(data: Path) -> None:
    prefix = b"mbatch/"
    database = plyvel.DB(str(data / "member" / "state"))
    numbers = list(database.iterator(start=prefix, stop=prefix + b"\xff" * 9, include_value=False))
    database.close()
    assert len(numbers) >= 2
    edit_state(data, {numbers[-1]: None, prefix + index_key(len(numbers) + 5): b""})
    refused(data, DamagedError, "is missing although batch", "member/state")


def test_state_behind_log_and_whole(data: Path) -> None:
    opens(data, 29, 30)
    engine = Engine.open(data)
    engine.state.put(b"r" + index_key(30), engine.log.entries(30, 31, 1)[0].data)
    engine.set_applied(30, 1)
    engine.close()
    opens(data, 30, 30)


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST"])
@pytest.mark.parametrize("how", ["gone", "garbage", "empty"])
def test_leveldbs_own_files(data: Path, name: str, how: str) -> None:
    (path,) = (data / "member" / "state").glob(f"{name}*")
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if how == "empty" else b"garbage" * 50)
    refused(data, StorageError, "member/state")


def test_a_lost_table_is_noticed(data: Path) -> None:
    opens(data, 29, 30)  # recovery has put everything into tables
    tables = sorted((data / "member" / "state").glob("*.ldb"))
    assert tables
    tables[0].unlink()
    refused(data, DamagedError, "member/state", "missing files")


def test_a_copy_of_an_idle_member_is_a_backup(data: Path, tmp_path: Path) -> None:
    engine = Engine.open(data)
    shutil.copytree(data, tmp_path / "copy")
    engine.close()
    opens(tmp_path / "copy", 29, 30)


def test_a_format_that_is_no_line_is_shown_as_one(data: Path) -> None:
    """Found by tests/fuzz: the refusal is one line of the log, whatever FORMAT holds."""
    (data / "member" / "FORMAT").write_bytes(b"etcdpy data 1\n\x1b[2J" + b"x" * 5000)
    with pytest.raises(StorageError) as caught:
        Engine.open(data)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500
