"""What was issued is known for ever: states, damage, older directories, and two runs at once."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pki import files, options
from pki.errors import PkiError
from pki.inventory import FILE_NAME, Inventory, moment_of, parse_inventory, stamp
from pki.store import Store, read_inventory
from tests.support.certificates import done_pki, json_pki, refused_pki, run_pki, utc_now
from tests.support.crashes import Crash, CrashAt

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done_pki("init")
    return tmp_path


def states() -> list[tuple[str, str]]:
    return [(row["name"], row["state"]) for row in json_pki("list")]


@pytest.mark.usefixtures("home")
def test_every_certificate_is_listed_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("issue", "--profile", "server", "m1", "--ip", "10.0.0.1", "--dns", "m1")
    done_pki("issue", "--profile", "client", "alice")
    done_pki("issue", "--profile", "client", "alice", "--force")
    done_pki("issue", "--profile", "client", "bob", "--days", "10")
    done_pki("revoke", "m1")
    later = utc_now() + datetime.timedelta(days=20)
    monkeypatch.setattr(options, "now", lambda: later)
    expected = [("ca", "valid"), ("m1", "revoked"), ("alice", "replaced"), ("alice", "valid"), ("bob", "expired")]
    assert states() == expected
    row = json_pki("list")[1]
    shown = json_pki("show", "m1.pem")[0]
    assert (row["serial"], row["subject"], row["names"]) == (shown["serial"], "CN=m1", "DNS:m1, IP:10.0.0.1")
    assert row["sha256"] == shown["sha256"].replace(":", "")
    assert (row["profile"], row["ca"], row["not_after"]) == ("server", "ca", shown["not_after"])
    assert row["revoked_at"] != ""


@pytest.mark.usefixtures("home")
def test_states_choose_what_is_listed() -> None:
    done_pki("issue", "--profile", "client", "alice")
    done_pki("issue", "--profile", "client", "alice", "--force")
    assert done_pki("list", "--state", "replaced").count("\n") == 1
    for word in ("SERIAL", "alice", "replaced"):
        assert word in done_pki("list", "-w", "table", "--state", "replaced")


def test_a_directory_without_an_inventory_is_taken_in(home: Path) -> None:
    """One made by an older version, or by cfssl."""
    done_pki("issue", "--profile", "ca", "site")
    done_pki("issue", "--ca", "site", "--profile", "peer", "kubernetes", "--dns", "localhost", "--days", "40")
    before = {(row["name"], row["serial"], row["ca"], row["profile"]) for row in json_pki("list")}
    (home / FILE_NAME).unlink()
    assert {(row["name"], row["serial"], row["ca"], row["profile"]) for row in json_pki("list")} == before
    assert [row["name"] for row in json_pki("list")] == ["ca", "site", "kubernetes"]
    (entry,) = [each for each in read_inventory(home).entries if each.name == "kubernetes"]
    assert entry.days == 40
    done_pki("issue", "--profile", "client", "root")
    assert len(states()) == 4


def damages(content: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield "no JSON", b"{"
    yield "no object", b"[]"
    yield "nested too deep", b"[" * 100_000
    for name in ("version", "issued", "signers", "crl_numbers"):
        yield f"no {name}", json.dumps({key: value for key, value in content.items() if key != name}).encode()
    entry = content["issued"][0]
    for name in entry:
        values: tuple[Any, ...] = (None, [], {}, 7.5, True)
        for wrong in values:
            changed = {**content, "issued": [{**entry, name: wrong}]}
            yield f"{name} is {wrong!r}", json.dumps(changed).encode()
    for name, text in (("serial", "xyz"), ("not_after", "tomorrow"), ("revoked_at", "now"), ("surplus", "")):
        yield f"{name} is {text}", json.dumps({**content, "issued": [{**entry, name: text}]}).encode()
    yield "signers", json.dumps({**content, "signers": {"peer": 1}}).encode()
    yield "numbers", json.dumps({**content, "crl_numbers": {"ca": "1"}}).encode()


def refusal(content: bytes, path: Path) -> str:
    try:
        parse_inventory(content, path)
    except PkiError as error:
        return str(error)
    return ""


def test_a_damaged_inventory_is_refused_by_name(home: Path) -> None:
    path = home / FILE_NAME
    content = json.loads(path.read_bytes())
    assert parse_inventory(path.read_bytes(), path).to_json() == path.read_bytes()
    for what, damaged in damages(content):
        if what == "names is []":
            continue  # a client has none
        text = f"{path}: damaged; put back a copy of it, for it says what was issued and revoked"
        assert refusal(damaged, path) == text, what
    path.write_bytes(json.dumps({**content, "version": 2}).encode())
    assert "written by another version of etcdpy (form 2, known is 1)" in refused_pki("list")
    path.write_bytes(b"{")
    assert "inventory.json: damaged" in refused_pki("issue", "--profile", "client", "x")
    assert not (home / "x.pem").exists()


def test_a_crash_leaves_an_entry_too_many_and_no_unknown_certificate(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.link", CrashAt(1)(os.link))
    with pytest.raises(Crash):
        run_pki("issue", "--profile", "client", "alice")
    monkeypatch.undo()
    assert [path.name for path in home.glob("alice*")] == []
    assert [each.name for each in read_inventory(home).entries] == ["ca", "alice"]
    monkeypatch.chdir(home)
    done_pki("issue", "--profile", "client", "alice")
    assert states() == [("ca", "valid"), ("alice", "replaced"), ("alice", "valid")]


def test_runs_side_by_side_lose_nothing(home: Path) -> None:
    commands = [
        [sys.executable, "-m", "pki", "issue", "--dir", str(home), "--profile", "client", f"c{number}"]
        for number in range(4)
    ]
    running = [subprocess.Popen(each, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL) for each in commands]
    assert [each.wait(60) for each in running] == [0] * 4
    assert sorted(name for name, _ in states()) == ["c0", "c1", "c2", "c3", "ca"]


def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with files.locked(tmp_path):
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=hold)
    other.start()
    try:
        assert entered.wait(10)
        with pytest.raises(PkiError, match="another run of pki works on it"), files.locked(tmp_path, seconds_max=0.1):
            pytest.fail("two at once")
    finally:
        leave.set()
        other.join()
    with files.locked(tmp_path, seconds_max=0):
        pass


def test_moments_come_back() -> None:
    moment = datetime.datetime(2026, 3, 1, 12, 0, 5, tzinfo=datetime.UTC)
    assert moment_of(stamp(moment)) == moment
    assert stamp(moment.astimezone(datetime.timezone(datetime.timedelta(hours=2)))) == "2026-03-01T12:00:05Z"


def test_who_signs_which_profile() -> None:
    assert Inventory().signer_of("peer") == "ca"
    assert Inventory(signers={"*": "site", "peer": "peers"}).signer_of("client") == "site"
    assert Inventory(signers={"*": "site", "peer": "peers"}).signer_of("peer") == "peers"


def test_a_mistyped_directory_is_not_made(home: Path) -> None:
    assert "there is no CA" in refused_pki("issue", "--dir", "pkl", "--profile", "client", "x")
    assert not (home / "pkl").exists()
    with Store.locked(home / "fresh", utc_now()) as store:
        assert store.inventory.entries == []
