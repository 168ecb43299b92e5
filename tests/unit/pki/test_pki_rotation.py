"""A new authority under members that serve: every step waits for them, and can be cut off anywhere.

The members here are TLS contexts in memory; `tests/processes/test_pki_rotation.py` does the same with real ones.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from pki import files, options, probe
from pki.errors import PkiError
from pki.reading import verifies
from pki.rotation import Rotation, next_name
from pki.store import NO_KEY, Store
from tests.support.certificates import done_pki, json_pki, refused_pki, run_pki, shake_hands, utc_now
from tests.support.crashes import Crash, CrashAt

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://10.0.0.1:2379"


class Member:
    """What a member has of the files: it takes them when a test says so."""

    def __init__(self) -> None:
        self.take_authorities()
        self.take_certificate()

    def take_authorities(self) -> None:
        self.authorities = Path("ca.pem").read_text()

    def take_certificate(self) -> None:
        Path("taken").mkdir(exist_ok=True)
        for name in ("m1.pem", "m1-key.pem"):
            Path("taken", name).write_bytes(Path(name).read_bytes())

    def ask(self, _url: str, question: probe.Question) -> probe.Answer:
        """The same question as at a port."""
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain("taken/m1.pem", "taken/m1-key.pem")
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(cadata=self.authorities)
        pair = shake_hands(server, probe._context(question))
        if pair.client_error is not None:
            assert isinstance(pair.client_error, ssl.SSLCertVerificationError), pair.client_error
            return probe.Answer(server_fault=pair.client_error.verify_message)
        return probe.Answer(refusal=str(pair.server_error) if pair.server_error else "")


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Member:
    """An authority, a member that took its files, and a client."""
    monkeypatch.chdir(tmp_path)
    done_pki("init")
    done_pki("issue", "--profile", "peer", "m1", "--dns", "localhost")
    done_pki("issue", "--profile", "client", "root")
    return Member()


def open_rotation(ask: Callable[[str, probe.Question], probe.Answer]) -> Rotation:
    return Rotation(Store(Path("."), utc_now()), "ca", NO_KEY, ask=ask)


def certificates(name: str) -> list[x509.Certificate]:
    return files.read_certificates(Path(f"{name}.pem"))


def test_the_whole_way(member: Member) -> None:
    (old,) = certificates("ca")
    done_pki("revoke", "root")
    done_pki("issue", "--profile", "client", "root", "--force")
    revoked = json_pki("list", "--state", "revoked")[0]["serial"]

    with Store.locked(Path("."), utc_now()) as store:
        Rotation(store, "ca", NO_KEY, ask=member.ask).start([URL])
    first, new = certificates("ca")
    assert (first, new.subject.rfc4514_string()) == (old, "CN=etcd CA G2")
    done_pki("issue", "--profile", "client", "between")
    assert verifies(certificates("between")[0], [old]) is not None

    def step(name: str) -> Any:
        running = open_rotation(member.ask)
        return getattr(running, name)([])

    with pytest.raises(PkiError, match="does not let in what the new CA signs"):
        step("reissue")
    assert certificates("ca") == [old, new]
    member.take_authorities()
    made = step("reissue")
    assert sorted(each.name for each in made) == ["between", "m1", "root"]
    assert certificates("ca") == [new, old]
    assert all(verifies(certificates(name)[0], [new]) is not None for name in ("m1", "root", "between"))
    assert revoked in [f"{each.serial_number:x}" for each in x509.load_der_x509_crl(Path("ca.crl").read_bytes())]
    assert list(Path(".").glob("ca-next*")) == []
    assert step("reissue") == []

    with pytest.raises(PkiError, match=f"{URL} still serves a certificate of the old CA"):
        step("drop")
    member.take_certificate()
    step("drop")
    assert certificates("ca") == [new]
    with pytest.raises(PkiError, match="still lets in what the old CA signs"):
        step("finish")
    member.take_authorities()
    retired = step("finish")
    assert [path.name.split("-")[1] for path in retired] == ["retired", "retired"]
    assert not list(Path(".").glob("*-rotation.json"))
    assert sorted(path.stem for path in Path(".").glob("ca*.pem") if "retired" not in path.stem) == [
        "ca",
        "ca-crl",
        "ca-key",
    ]
    assert {row["state"] for row in json_pki("list") if row["name"] == "ca"} == {"valid", "replaced"}
    assert done_pki("verify").startswith("3 certificates verified")
    assert run_pki("renew").exit_code == 0
    done_pki("issue", "--profile", "client", "after")
    assert verifies(certificates("after")[0], [new]) is not None


@pytest.mark.usefixtures("member")
def test_steps_in_the_wrong_order() -> None:
    for step in ("reissue", "drop", "finish", "abort"):
        assert "no rotation of ca is under way" in refused_pki("rotate", step)
    done_pki("rotate", "start")
    assert "the next step of this rotation is `reissue`, not `drop`" in refused_pki("rotate", "drop", "--unchecked")
    assert "the next step of this rotation is `reissue`, not `finish`" in refused_pki("rotate", "finish")
    assert "name the client and peer port of every member" in refused_pki("rotate", "reissue")
    done_pki("rotate", "reissue", "--unchecked")
    assert "its next step is `drop`" in refused_pki("rotate", "start")
    assert "the new CA signs already; go on with `drop`" in refused_pki("rotate", "abort")
    assert "the next step of this rotation is `drop`, not `finish`" in refused_pki("rotate", "finish", "--unchecked")
    assert json_pki("rotate", "reissue") == []
    done_pki("rotate", "drop", "--unchecked")
    assert json_pki("rotate", "drop", "--unchecked")["stage"] == "dropped"
    done_pki("rotate", "finish", "--unchecked")
    assert json_pki("rotate", "status")["stage"] == "none"


@pytest.mark.usefixtures("member")
def test_status_says_what_is_left() -> None:
    before = json_pki("rotate", "status")
    assert (before["stage"], before["next"], before["pending"]) == ("none", "start", [])
    done_pki("rotate", "start", "--taken-by", URL, "--taken-by", "10.0.0.1:2380", "--taken-by", URL)
    state = json_pki("rotate", "status")
    assert (state["stage"], state["next"], state["members"]) == ("trusting", "reissue", [URL, "10.0.0.1:2380"])
    for form in ("simple", "table"):
        assert "10.0.0.1:2380" in done_pki("rotate", "status", "-w", form)
    assert "names no member" in refused_pki("rotate", "start", "--taken-by", "http://10.0.0.1:2379")
    assert "names no member" in refused_pki("rotate", "start", "--taken-by", "10.0.0.1")


@pytest.mark.usefixtures("member")
def test_abort_goes_back() -> None:
    before = {path.name: path.read_bytes() for path in Path(".").glob("*.*")}
    done_pki("rotate", "start")
    done_pki("rotate", "abort")
    assert {path.name: path.read_bytes() for path in Path(".").glob("*.*")} == before


@pytest.mark.usefixtures("member")
def test_starting_twice_makes_one_authority() -> None:
    done_pki("rotate", "start")
    both = certificates("ca")
    done_pki("rotate", "start", "--taken-by", URL)
    assert certificates("ca") == both
    assert json_pki("rotate", "status")["members"] == [URL]


def crashes(step: Callable[[], object], nth: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a step that dies before its nth change of a name on disk; whether it came to that."""
    dying = CrashAt(nth)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", dying(os.replace))
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        try:
            step()
        except Crash:
            return True
    return False


STEPS = (("start",), ("reissue", "--unchecked"), ("drop", "--unchecked"), ("finish", "--unchecked"))


@pytest.mark.usefixtures("member")
@pytest.mark.parametrize("at", range(len(STEPS)))
def test_a_step_that_was_cut_off_anywhere_is_run_again(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done_pki("issue", "--profile", "ca", "site")
    done_pki("issue", "--ca", "site", "--profile", "client", "deep")
    for words in STEPS[:at]:
        done_pki("rotate", *words)
    for nth in range(1, 60):
        place = tmp_path / f"at-{nth}"
        shutil.copytree(tmp_path, place, ignore=shutil.ignore_patterns("at-*"))
        monkeypatch.chdir(place)
        crashed = crashes(lambda: done_pki("rotate", *STEPS[at]), nth, monkeypatch)
        for words in STEPS[at:] if crashed else STEPS[at + 1 :]:
            if words[0] == "finish" and json_pki("rotate", "status")["stage"] == "none":
                continue  # it died after all was done
            done_pki("rotate", *words)
        (new,) = certificates("ca")
        assert all(verifies(certificates(name)[0], [new]) is not None for name in ("m1", "root", "site"))
        assert verifies(certificates("deep")[0], certificates("site")) is not None
        assert certificates("deep")[1:] == certificates("site")
        assert [path.name for path in place.glob("*-rotation.json")] == []
        assert [path.name for path in place.glob("*-next*")] == []
        assert done_pki("verify") == "3 certificates verified, no fault\n"
        assert len({row["serial"] for row in json_pki("list") if row["name"] == "ca"}) == 2
        shutil.rmtree(place)
        monkeypatch.chdir(tmp_path)
        if not crashed:
            assert nth > 3
            return
    pytest.fail("it never came to its end")


@pytest.mark.usefixtures("member")
def test_an_encrypted_key_is_followed_by_an_encrypted_one() -> None:
    Path("secret").write_text("correct horse\n")
    access = ("--passphrase-file", "secret")
    done_pki("init", "--force", "--encrypt-key", *access)
    done_pki("rotate", "start", *access)
    done_pki("rotate", "reissue", "--unchecked", *access)
    assert b"ENCRYPTED" in Path("ca-key.pem").read_bytes()
    done_pki("rotate", "drop", "--unchecked", *access)
    done_pki("rotate", "finish", "--unchecked", *access)
    assert all(b"ENCRYPTED" in path.read_bytes() for path in Path(".").glob("ca*-key.pem"))


@pytest.mark.usefixtures("member")
def test_a_key_that_was_made_elsewhere_is_certified_again() -> None:
    done_pki("csr", "far", "--dir", "node", "--dns", "far")
    done_pki("sign", "node/far.csr", "--profile", "peer")
    done_pki("rotate", "start")
    made = json_pki("rotate", "reissue", "--unchecked")
    assert [(each["name"], each["key"]) for each in made if each["name"] == "far"] == [("far", "")]
    Path("node/ca.pem").write_bytes(Path("ca.pem").read_bytes())
    assert "far.pem" in done_pki("accept", "far", "far.pem", "--dir", "node")


@pytest.mark.usefixtures("member")
def test_the_old_key_may_lie_elsewhere() -> None:
    Path("stick").mkdir()
    Path("ca-key.pem").rename("stick/ca-key.pem")
    assert "ca-key.pem: no such file" in refused_pki("rotate", "start")
    done_pki("rotate", "start", "--ca-key", "stick/ca-key.pem")
    done_pki("rotate", "reissue", "--unchecked")
    done_pki("rotate", "drop", "--unchecked")
    assert [Path(path).name.count("key") for path in json_pki("rotate", "finish", "--unchecked")["retired"]] == [0]
    done_pki("issue", "--profile", "client", "after")


@pytest.mark.usefixtures("member")
def test_only_a_root_is_rotated() -> None:
    done_pki("issue", "--profile", "ca", "site")
    assert "site.pem: not a root; renew it with `etcdpy pki renew site`" in refused_pki(
        "rotate", "start", "--ca", "site"
    )


@pytest.mark.usefixtures("member")
def test_a_damaged_state_is_named() -> None:
    done_pki("rotate", "start")
    path = Path("ca-rotation.json")
    good = json.loads(path.read_text())
    for wrong in ("{", "[]", json.dumps({**good, "more": 1}), json.dumps({**good, "members": 3})):
        path.write_text(wrong)
        assert "ca-rotation.json: damaged" in refused_pki("rotate", "reissue")
    for name, value in (("version", 2), ("stage", "done"), ("ca", "other")):
        path.write_text(json.dumps({**good, name: value}))
        assert "not a rotation of ca that this version" in refused_pki("rotate", "status")


def test_the_names_of_generations() -> None:
    assert next_name("etcd CA") == "etcd CA G2"
    assert next_name("etcd CA G9") == "etcd CA G10"
    assert len(next_name("x" * 64)) == 64


def test_a_root_that_has_expired_is_replaced_without_asking_anybody(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    del member
    now = utc_now()
    monkeypatch.setattr(options, "now", lambda: now + datetime.timedelta(days=3651))
    assert "the CA expired at" in refused_pki("issue", "--profile", "client", "other")
    done_pki("rotate", "start")
    for step in ("reissue", "drop", "finish"):
        done_pki("rotate", step, "--unchecked")
    assert json_pki("rotate", "status")["stage"] == "none"
    (new,) = certificates("ca")
    assert new.subject.rfc4514_string() == "CN=etcd CA G2"
    done_pki("issue", "--profile", "client", "other")
    assert run_pki("due", "ca", "other").stdout == "nothing is due\n"
