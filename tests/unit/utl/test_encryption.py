"""`etcdpyutl encryption`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from etcdpy.commandline import Exit
from etcdpy.storage import key_file
from etcdpy.storage.engine import Engine
from etcdpy.utl.__main__ import run
from tests.support.encryption import find_on_disk, masters, write_key_file
from tests.support.storage import flush, new_engine, value, write_batch

if TYPE_CHECKING:
    from pathlib import Path

SECRETS = [value(1)[:9], value(99)[:9], b"alice"]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A stopped member in plaintext, some of whose entries were never applied."""
    path = tmp_path / "data"
    engine = new_engine(path)
    write_batch(engine, 80)
    engine.state.put(b"uauthUsers\0alice", b"hash")
    write_batch(engine, 20, apply=False)
    flush(engine)
    engine.close()
    return path


def call(*words: object) -> int:
    return run([str(word) for word in words])


def status(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    capsys.readouterr()
    assert call("encryption", "status", "--data-dir", data_dir, "-w", "json") == Exit.OK
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_there_and_back(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = write_key_file(tmp_path / "keys", "first")
    assert status(data_dir, capsys)["encrypted"] is False
    assert call("encryption", "rotate", "--data-dir", data_dir, "--encryption-key-file", keys) == Exit.OK
    out = capsys.readouterr().out
    assert f'{data_dir} is encrypted under the key "first": ' in out
    assert not find_on_disk(data_dir, SECRETS)
    found = status(data_dir, capsys)
    assert (found["encrypted"], found["complete"], found["needed-keys"]) == (True, True, ["first"])
    write_key_file(tmp_path / "keys", "second", "first")
    words = ("--data-dir", data_dir, "--encryption-key-file", keys)
    assert call("encryption", "rotate", *words, "-w", "json") == Exit.OK
    assert json.loads(capsys.readouterr().out)["rewritten-records"] >= 85
    assert status(data_dir, capsys)["needed-keys"] == ["second"]
    assert not find_on_disk(data_dir, SECRETS)
    assert call("encryption", "decrypt", *words) == Exit.OK
    assert "is plaintext" in capsys.readouterr().out
    assert status(data_dir, capsys) == {
        "encrypted": False,
        "complete": True,
        "needed-keys": [],
        "data-keys": [],
        "databases": {},
    }
    engine = Engine.open(data_dir)
    assert [entry.data for entry in engine.log.entries(1, 101, 1 << 20)] == [value(index) for index in range(1, 101)]
    assert engine.state.get(b"uauthUsers\0alice") == b"hash"
    engine.close()


def test_the_status_of_a_member_on_its_way(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine.open(data_dir, masters=masters(tmp_path / "keys", "first"))
    assert engine.encryption is not None
    engine.encryption.note_progress({"state": 0.5})()
    assert call("encryption", "status", "--data-dir", data_dir) == Exit.OK  # while it is open
    assert capsys.readouterr().out.splitlines()[:4] == [
        'keys needed: "first"',
        'writing: data key 1, wrapped by "first"',
        "log: 0.0% rewritten; plaintext is left",
        "state: 50.0% rewritten; plaintext is left",
    ]
    engine.close()
    assert status(data_dir, capsys)["complete"] is False
    engine = Engine.open(data_dir, masters=masters(tmp_path / "keys", "plaintext", "first"))
    assert call("encryption", "status", "--data-dir", data_dir) == Exit.OK
    assert "writing: plaintext\nlog: 0.0% rewritten\n" in capsys.readouterr().out
    engine.close()


def test_names_in_the_manifest_are_told(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine.open(data_dir)
    engine._state_database.compact_range()  # makes a table that a name bounds
    engine.close()
    Engine.open(data_dir, masters=masters(tmp_path / "keys", "first")).close()
    assert status(data_dir, capsys)["names-left"] is True
    assert call("encryption", "status", "--data-dir", data_dir) == Exit.OK
    assert "names of users or roles are left in LevelDB's manifest" in capsys.readouterr().out


def test_defragment_an_encrypted_member(data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = write_key_file(tmp_path / "keys", "first")
    assert call("encryption", "rotate", "--data-dir", data_dir, "--encryption-key-file", keys) == Exit.OK
    assert not find_on_disk(data_dir, SECRETS)
    assert call("defrag", "--data-dir", data_dir) == Exit.ERROR
    assert 'is encrypted under the key "first"' in capsys.readouterr().err
    assert call("defrag", "--data-dir", data_dir, "--encryption-key-file", keys) == Exit.OK
    assert not find_on_disk(data_dir, SECRETS)


@pytest.mark.parametrize("command", ["rotate", "decrypt"])
def test_what_is_missing_is_named(
    command: str, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert call("encryption", command) == Exit.ERROR
    assert 'required flag(s) "data-dir" not set' in capsys.readouterr().err
    assert call("encryption", command, "--data-dir", data_dir) == Exit.BAD_ARGUMENTS
    assert "--encryption-key-file" in capsys.readouterr().err
    keys = write_key_file(tmp_path / "keys", "first")
    words = ("--data-dir", tmp_path / "none", "--encryption-key-file", keys)
    assert call("encryption", command, *words) == Exit.ERROR
    assert "no such file or directory" in capsys.readouterr().err
    assert call("encryption", "status", "--data-dir", tmp_path / "none") == Exit.ERROR
    assert call("encryption", "status", "--data-dir", data_dir, "-w", "xml") == Exit.BAD_FEATURE
    write_key_file(tmp_path / "keys", "plaintext", "first")
    assert call("encryption", "rotate", "--data-dir", data_dir, "--encryption-key-file", keys) == Exit.BAD_ARGUMENTS


def test_new_key(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("encryption", "new-key", "--id", "mine") == Exit.OK
    line = capsys.readouterr().out
    assert key_file.parse(tmp_path, line.encode()).writing == "mine"
    assert call("encryption", "new-key") == Exit.OK
    assert capsys.readouterr().out.startswith("20")
    assert call("encryption", "new-key", "--id", "a b") == Exit.BAD_ARGUMENTS


def test_backups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = write_key_file(tmp_path / "keys", "first")
    plain, sealed, again = tmp_path / "plain", tmp_path / "sealed", tmp_path / "again"
    plain.write_bytes(bytes(range(256)) * 1000)
    flag = ("--encryption-key-file", keys)
    assert call("encryption", "encrypt-backup", plain, sealed, *flag) == Exit.OK
    assert bytes(range(64)) not in sealed.read_bytes()
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert call("encryption", "decrypt-backup", sealed, again, *flag) == Exit.OK
    assert again.read_bytes() == plain.read_bytes()
    assert call("encryption", "decrypt-backup", sealed, again, *flag) == Exit.ERROR
    assert "exists; name another file" in capsys.readouterr().err
    sealed.write_bytes(sealed.read_bytes()[:-1])
    assert call("encryption", "decrypt-backup", sealed, tmp_path / "cut", *flag) == Exit.ERROR
    assert "fails its check: damaged or cut" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "keys", "plain", "sealed"]
