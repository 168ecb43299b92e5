"""`etcdpy backup run`: what it keeps, what it refuses, what it tells the monitoring."""

from __future__ import annotations

import fcntl
import json
import re
from typing import TYPE_CHECKING

import pytest

from etcdpy.__main__ import main
from etcdpy.ctl.__main__ import run as ctl
from etcdpy.storage import key_file
from etcdpy.utl import backups
from etcdpy.utl.__main__ import run as utl
from tests.support.client import Client
from tests.support.members import Member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with Member("etcdpy", tmp_path_factory.mktemp("member")) as running, Client.of(running) as client:
        for number in range(100):
            client.put(b"key %d" % number, b"value")
        yield running


@pytest.fixture(autouse=True)
def _signals_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdpy.commandline.end_as_small_tools_do", lambda: None)
    monkeypatch.setattr(backups, "ANSWER_SECONDS_MAX", 0.5)


def run(member: Member, place: Path, *arguments: str) -> int:
    return main(["backup", "run", f"--endpoints={member.endpoint}", f"--dir={place}", *arguments])


def metrics(path: Path) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^etcdpy_backup_(\w+) (\S+)$", path.read_text(), re.M)}


def test_a_backup_is_made_verified_and_counted(member: Member, tmp_path: Path) -> None:
    place, told = tmp_path / "backups", tmp_path / "backup.prom"
    assert run(member, place, f"--metrics-file={told}") == 0
    (path,) = backups.kept(place)
    assert path.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    figures = metrics(told)
    assert (figures["last_run_success"], figures["kept"], figures["last_success_revision"]) == (1, 1, 101)
    assert figures["last_success_size_bytes"] == path.stat().st_size
    assert sorted(each.name for each in place.iterdir()) == [".lock", path.name], "nothing else is left"


def test_the_newest_are_kept(member: Member, tmp_path: Path) -> None:
    for day in range(1, 6):
        (tmp_path / f"etcd-2020010{day}T000000Z.db").touch()
    (tmp_path / "mine.db").touch()
    assert run(member, tmp_path, "--keep=3") == 0
    names = [path.name for path in backups.kept(tmp_path)]
    assert names[:2] == ["etcd-20200104T000000Z.db", "etcd-20200105T000000Z.db"]
    assert len(names) == 3
    assert (tmp_path / "mine.db").exists(), "not one of ours"


def test_a_run_that_fails_keeps_all_and_says_so(
    member: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "backup.prom"
    assert run(member, tmp_path, f"--metrics-file={told}") == 0
    before = backups.kept(tmp_path)
    first = metrics(told)["last_success_timestamp_seconds"]
    code = main(["backup", "run", "--endpoints=127.0.0.1:1", f"--dir={tmp_path}", f"--metrics-file={told}", "--keep=1"])
    assert code == 1
    assert "Error: no endpoint gave a snapshot: 127.0.0.1:1: " in capsys.readouterr().err

    def damaged(*_: object) -> None:
        raise OSError(5, "Input/output error", "scratch")

    monkeypatch.setattr(backups, "verify_file", damaged)
    assert run(member, tmp_path, f"--metrics-file={told}", "--keep=1") == 1
    assert backups.kept(tmp_path) == before
    figures = metrics(told)
    assert (figures["last_run_success"], figures["kept"]) == (0, 1)
    assert figures["last_success_timestamp_seconds"] == first
    assert not list(tmp_path.glob(".etcd-*")), "what was not verified is no backup"


def test_with_keys_what_is_kept_is_encrypted(member: Member, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(key_file.new_line("backups"))
    place = tmp_path / "backups"
    assert run(member, place, f"--encryption-key-file={keys}") == 0
    (sealed,) = place.glob("etcd-*")
    assert sealed.suffix == ".sealed"
    assert b"key 99" not in sealed.read_bytes()
    plain, data = tmp_path / "plain.db", tmp_path / "data"
    named = f"--encryption-key-file={keys}"
    assert utl(["backup", "verify", str(sealed)]) == 128, "the key is needed"
    assert utl(["backup", "verify", str(sealed), named]) == 0
    assert sorted(each.name for each in place.iterdir()) == [".lock", sealed.name], "nothing of it is left in the clear"
    assert main(["encryption", "decrypt-backup", str(sealed), str(plain), named]) == 0
    assert utl(["backup", "verify", str(plain)]) == 0
    assert utl(["snapshot", "restore", str(plain), f"--data-dir={data}", named]) == 0
    assert not [path for path in data.rglob("*") if path.is_file() and b"key 99" in path.read_bytes()]
    assert utl(["check", f"--data-dir={data}"]) == 1, "the key is needed"
    assert utl(["check", f"--data-dir={data}", named]) == 0
    moved, again = tmp_path / "moved", tmp_path / "again"
    assert utl(["migrate", f"--data-dir={data}", f"--output-dir={moved}", named]) == 0
    assert utl(["migrate", f"--data-dir={moved}", f"--output-dir={again}", named]) == 0
    assert utl(["check", f"--data-dir={again}", named]) == 0
    assert run(member, place, f"--encryption-key-file={keys}", "--keep=1") == 0
    assert len(backups.kept(place)) == 1


def test_a_backup_from_elsewhere_is_verified_before_an_old_one_goes(
    member: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there, here, keys = tmp_path / "there", tmp_path / "here", tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(key_file.new_line("backups"))
    here.mkdir()
    old = here / "etcd-20200101T000000Z.db"
    old.touch()

    def keep(path: Path, *arguments: str) -> int:
        return main(["backup", "keep", str(path), f"--dir={here}", "--keep=1", "--write-out=json", *arguments])

    assert run(member, there) == 0
    (made,) = backups.kept(there)
    damaged = there / "etcd-20200102T000000Z.db"
    damaged.write_bytes(made.read_bytes()[:-1] + b"x")
    assert keep(damaged) == 1
    assert "expected sha256" in capsys.readouterr().err
    assert backups.kept(here) == [old]
    assert keep(made, f"--encryption-key-file={keys}") == 0
    facts = json.loads(capsys.readouterr().out)
    (sealed,) = backups.kept(here)
    assert (facts["file"], facts["verified"], facts["revision"]) == (str(sealed), True, 101)
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert sealed.suffix == ".sealed"
    assert [each.name for each in there.iterdir()] == [".lock"], "it was moved"
    again = sealed.rename(there / sealed.name)
    assert keep(again) == 0
    assert json.loads(capsys.readouterr().out) == {"verified": False, "file": str(sealed)}
    assert keep(tmp_path / "mine.db") == 128


def test_the_first_endpoint_that_answers_is_asked(member: Member, tmp_path: Path) -> None:
    endpoints = f"--endpoints=127.0.0.1:1,{member.endpoint}"
    assert main(["backup", "run", endpoints, f"--dir={tmp_path}"]) == 0
    assert len(backups.kept(tmp_path)) == 1


def test_one_run_at_a_time(member: Member, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(member, tmp_path) == 1
    assert f"another run is making a backup in {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["run"], ["run", "--dir=x", "--keep=0"], ["run", "--dir=x", "--keep=-3"]])
def test_what_makes_no_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["backup", *arguments]) in (1, 128)
    assert capsys.readouterr().err.startswith("Error: ")


def test_a_user_with_a_password_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, empty = tmp_path / "password", tmp_path / "empty"
    secret.write_text("secret\n")
    empty.touch()
    with Member("etcdpy", tmp_path) as member:
        at = f"--endpoints={member.endpoint}"
        assert ctl([at, "user", "add", "root:secret"]) == 0
        assert ctl([at, "auth", "enable"]) == 0
        place = tmp_path / "backups"
        assert run(member, place) == 1
        assert "etcdserver: user name is empty" in capsys.readouterr().err
        assert run(member, place, "--user=root", f"--password-file={secret}") == 0
        monkeypatch.setenv(backups.PASSWORD_VARIABLE, "secret")
        assert run(member, place, "--user=root") == 0
        monkeypatch.setenv(backups.PASSWORD_VARIABLE, "wrong")
        assert run(member, place, "--user=root") == 1
        assert "authentication failed, invalid user ID or password" in capsys.readouterr().err
    monkeypatch.delenv(backups.PASSWORD_VARIABLE)
    assert run(member, place, "--user=root") == 128
    assert f"set {backups.PASSWORD_VARIABLE}" in capsys.readouterr().err
    assert run(member, place, "--user=root", f"--password-file={empty}") == 128
    assert run(member, place, "--user=root", f"--password-file={tmp_path / 'absent'}") == 1
