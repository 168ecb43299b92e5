"""Revocation lists: what is on them, when they are made anew, and that OpenSSL and a member read them so."""

from __future__ import annotations

import datetime
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from etcdpy.transport.tls import ServerTls, ServerTlsConfig
from pki import options
from tests.support.certificates import Leaf, client, done_pki, json_pki, refused_pki, run_pki, shake_hands, utc_now


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done_pki("init")
    for name in ("alice", "bob"):
        done_pki("issue", "--profile", "client", name)
    return tmp_path


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    moment = utc_now() + datetime.timedelta(days=days)
    monkeypatch.setattr(options, "now", lambda: moment)


def serial(name: str) -> str:
    return str(json_pki("show", f"{name}.pem")[0]["serial"])


def listed(ca: str = "ca") -> list[str]:
    crl = x509.load_der_x509_crl(Path(f"{ca}.crl").read_bytes())
    assert crl == x509.load_pem_x509_crl(Path(f"{ca}-crl.pem").read_bytes())
    return [f"{each.serial_number:x}" for each in crl]


def openssl(*words: str) -> tuple[int, str]:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout + done.stderr


def test_openssl_reads_and_proves_both_forms() -> None:
    assert done_pki("revoke", "alice", "--reason", "keyCompromise") == "ca.crl\nca-crl.pem\n"
    for form, path in (("DER", "ca.crl"), ("PEM", "ca-crl.pem")):
        code, text = openssl("crl", "-inform", form, "-in", path, "-CAfile", "ca.pem", "-noout", "-text")
        assert code == 0
        assert "verify OK" in text
        assert serial("alice").upper() in text
        assert "Key Compromise" in text
        assert "X509v3 CRL Number" in text
    check = ("verify", "-CAfile", "ca.pem", "-CRLfile", "ca-crl.pem", "-crl_check")
    assert openssl(*check, "bob.pem")[0] == 0
    code, text = openssl(*check, "alice.pem")
    assert (code != 0, "certificate revoked" in text) == (True, True)


def test_a_member_refuses_who_is_on_the_list() -> None:
    done_pki("issue", "--profile", "server", "m1", "--dns", "localhost")
    done_pki("crl")
    for path in ("ca.crl", "ca-crl.pem"):
        config = ServerTlsConfig("m1.pem", "m1-key.pem", "ca.pem", crl_file=path)
        tls = ServerTls(config, wall_ns=lambda: 2**62)  # its files count as settled

        def lets_in(name: str, tls: ServerTls = tls) -> bool:
            certificate = x509.load_pem_x509_certificate(Path(f"{name}.pem").read_bytes())
            mine = client("ca.pem", Leaf(f"{name}.pem", f"{name}-key.pem", certificate))
            pair = shake_hands(tls.context(), mine)
            assert (pair.server_error, pair.client_error) == (None, None)
            try:
                tls.check_peer(pair.server)
            except ssl.SSLError:
                return False
            return True

        done_pki("issue", "--profile", "client", "eve", "--force")
        assert lets_in("eve")
        done_pki("revoke", "eve")
        assert not lets_in("eve")
        assert lets_in("bob")


def test_every_valid_one_of_a_name_is_revoked_or_the_replaced_alone() -> None:
    first = serial("alice")
    done_pki("issue", "--profile", "client", "alice", "--force")
    second = serial("alice")
    done_pki("revoke", "alice", "--replaced")
    assert listed() == [first]
    done_pki("revoke", "alice")
    assert sorted(listed()) == sorted([first, second])
    done_pki("revoke", "--serial", ":".join(serial("bob")[at : at + 2] for at in range(0, 40, 2)).upper())
    assert len(listed()) == 3


def test_revoking_again_changes_nothing() -> None:
    done_pki("revoke", "alice", "--reason", "superseded")
    before = {path.name: path.read_bytes() for path in Path.cwd().iterdir()}
    again = run_pki("revoke", "alice", "--reason", "keyCompromise")
    assert (again.exit_code, "note: revoked before" in again.stderr) == (0, True)
    assert {path.name: path.read_bytes() for path in Path.cwd().iterdir()} == before
    assert json_pki("list")[1]["reason"] == "superseded"


def test_a_list_stays_until_a_third_of_its_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert json_pki("crl", "--days", "30")[0]["changed"] is True
    assert json_pki("crl")[0]["changed"] is False
    later(monkeypatch, 19)
    assert json_pki("crl")[0]["changed"] is False
    later(monkeypatch, 21)
    (made,) = json_pki("crl")
    assert (made["changed"], made["number"], made["revoked"]) == (True, 2, 0)
    assert json_pki("crl", "--force")[0]["number"] == 3
    Path("ca.crl").write_bytes(b"nonsense")
    assert json_pki("crl")[0]["number"] == 4
    Path("ca-crl.pem").unlink()
    assert json_pki("crl")[0]["number"] == 5
    done_pki("init", "--force")
    assert json_pki("crl")[0]["number"] == 6


def test_a_revocation_is_listed_for_a_while_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("issue", "--profile", "client", "carol", "--days", "10")
    done_pki("revoke", "carol")
    carol = serial("carol")
    later(monkeypatch, 20)
    done_pki("crl", "--force")
    assert listed() == [carol]
    later(monkeypatch, 50)
    done_pki("crl", "--force")
    assert listed() == []


def test_every_authority_has_its_own_list() -> None:
    done_pki("init", "--force", "--separate", "--intermediate")
    done_pki("issue", "--profile", "peer", "m1", "--dns", "m1")
    done_pki("issue", "--profile", "client", "carol")
    assert [each["ca"] for each in json_pki("revoke", "m1")] == ["peer-ca-intermediate"]
    names = ["ca", "ca-intermediate", "peer-ca", "peer-ca-intermediate"]
    assert sorted(each["ca"] for each in json_pki("crl")) == names
    assert (listed("peer-ca-intermediate"), listed("ca-intermediate")) == ([serial("m1")], [])
    # Each list is read by a member on its own or, in PEM, together with others.
    Path("both.pem").write_bytes(Path("ca-crl.pem").read_bytes() + Path("peer-ca-intermediate-crl.pem").read_bytes())
    ServerTls(ServerTlsConfig("m1.pem", "m1-key.pem", "ca.pem", crl_file="both.pem"))
    for word in ("peer-ca-intermediate.crl", "REVOKED", "NEXT UPDATE"):
        assert word in done_pki("crl", "-w", "table")
    done_pki("revoke", "ca-intermediate")
    assert listed("ca") == [serial("ca-intermediate")]


def test_what_cannot_be_revoked() -> None:
    assert 'there is no certificate "x" that is still valid' in refused_pki("revoke", "x")
    assert 'there is no replaced certificate "alice"' in refused_pki("revoke", "alice", "--replaced")
    assert "no certificate has the serial 1234" in refused_pki("revoke", "--serial", "1234")
    assert "replace it with `rotate`" in refused_pki("revoke", "ca")
    assert run_pki("revoke").exit_code == 128
    assert run_pki("revoke", "alice", "--serial", "12").exit_code == 128
    Path("ca-key.pem").rename("elsewhere.pem")
    assert "ca-key.pem: no such file" in refused_pki("revoke", "alice")
    assert "there is no key of a CA" in refused_pki("crl")
    assert json_pki("list", "--state", "revoked") == []
    done_pki("revoke", "alice", "--ca-key", "elsewhere.pem")
    assert listed() == [serial("alice")]
