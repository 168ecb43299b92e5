"""Renewal by its window: what is due is made anew, all else stays, and the exit code tells which."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pki import options
from tests.support.certificates import done_pki, json_pki, refused_pki, run_pki, utc_now


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done_pki("init")
    return tmp_path


def later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    moment = utc_now() + datetime.timedelta(days=days)
    monkeypatch.setattr(options, "now", lambda: moment)


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path.cwd().iterdir()}


def test_nothing_is_touched_before_a_third_of_its_life(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("issue", "--profile", "server", "m1", "--ip", "10.0.0.1", "--org", "o", "--days", "90")
    done_pki("issue", "--profile", "client", "root")
    before = contents()
    later(monkeypatch, 59)
    result = run_pki("renew")
    assert (result.exit_code, result.stdout, contents()) == (0, "nothing is due\n", before)
    later(monkeypatch, 61)
    result = run_pki("renew")
    assert (result.exit_code, result.stdout) == (2, "m1.pem\nm1-key.pem\n")
    (row,) = json_pki("show", "m1.pem")
    assert (row["subject"], row["ip_addresses"], row["role"]) == ("CN=m1,O=o", ["10.0.0.1"], "server")
    assert row["key_beside"] == "m1-key.pem matches"
    assert Path("m1-key.pem").read_bytes() != before["m1-key.pem"]
    assert (row["days_left"], contents()["root.pem"]) == (89, before["root.pem"])
    again = contents()
    assert run_pki("renew").exit_code == 0
    assert contents() == again


def test_a_window_and_a_dry_run() -> None:
    done_pki("issue", "--profile", "client", "a", "--days", "20")
    done_pki("issue", "--profile", "client", "b", "--days", "40")
    before = contents()
    result = run_pki("renew", "--within", "30", "--dry-run")
    assert (result.exit_code, result.stdout, contents()) == (2, "a is due\n", before)
    assert json_pki("renew", "--within", "10") == {"due": [], "renewed": [], "notes": []}
    done = json_pki("renew", "--within", "30")
    assert (done["due"], done["renewed"][0]["certificate"]) == (["a"], "a.pem")


def test_keys_that_stay() -> None:
    done_pki("issue", "--profile", "client", "a")
    done_pki("csr", "m1", "--dir", "node", "--dns", "m1")
    done_pki("sign", "node/m1.csr", "--profile", "peer")
    key = Path("a-key.pem").read_bytes()
    assert run_pki("renew", "a", "--within", "400", "--keep-key").exit_code == 2
    assert Path("a-key.pem").read_bytes() == key
    assert json_pki("show", "a.pem")[0]["key_beside"] == "a-key.pem matches"
    assert run_pki("renew", "m1", "--within", "400").exit_code == 2
    assert not Path("m1-key.pem").exists()
    Path("node/m1.pem").write_bytes(Path("m1.pem").read_bytes())
    assert json_pki("show", "node/m1.pem")[0]["key_beside"] == "m1-key.pem matches"


def test_one_that_ends_with_its_ca_is_not_made_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("init", "--force", "--days", "100")
    done_pki("issue", "--profile", "client", "a")
    later(monkeypatch, 80)
    result = run_pki("renew")
    assert (result.exit_code, result.stdout) == (0, "nothing is due\n")
    assert "note: a: ends with its CA; `rotate` makes a new one" in result.stderr


def test_all_expired_are_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        done_pki("issue", "--profile", "client", name, "--days", "5")
    later(monkeypatch, 50)
    assert json_pki("renew")["due"] == ["a", "b"]
    assert json_pki("show", "b.pem")[0]["traps"] == ["expires in 4 days"]
    assert run_pki("renew").exit_code == 0


def test_a_ca_that_was_made_anew_signs_all_again() -> None:
    done_pki("issue", "--profile", "client", "a")
    done_pki("init", "--force")
    assert json_pki("renew")["due"] == ["a"]
    assert json_pki("show", "a.pem")[0]["chain"] == "chains to ca.pem"
    assert run_pki("renew").exit_code == 0


def test_an_intermediate_is_renewed_by_name_and_then_what_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("issue", "--profile", "ca", "site", "--days", "100")
    done_pki("issue", "--ca", "site", "--profile", "client", "a", "--days", "20")
    key = Path("site-key.pem").read_bytes()
    later(monkeypatch, 70)
    done = json_pki("renew")
    assert (done["due"], len(done["notes"])) == (["a"], 1)
    assert "an authority is renewed by its name alone" in done["notes"][0]
    assert json_pki("renew", "site")["due"] == ["site"]
    assert Path("site-key.pem").read_bytes() == key
    assert json_pki("renew")["due"] == ["a"]
    leaf, above = json_pki("show", "a.pem")
    assert (leaf["chain"], above["days_left"]) == ("chains to ca.pem", 99)
    assert run_pki("renew").exit_code == 0


def test_what_is_not_renewed() -> None:
    done_pki("issue", "--profile", "client", "a")
    done_pki("revoke", "a")
    assert "a root is not renewed but replaced, with `rotate`" in refused_pki("renew", "ca")
    assert 'there is no certificate "x" to renew' in refused_pki("renew", "x")
    assert "a: revoked at" in refused_pki("renew", "a")
    assert run_pki("renew", "--within", "4000").exit_code == 0
    done_pki("issue", "--profile", "client", "a", "--force")
    assert json_pki("renew", "--within", "4000")["due"] == ["a"]


def test_another_authoritys_certificate_keeps_its_whole_subject(tmp_path: Path) -> None:
    """cfssl's subjects have a country, a place and a unit."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    from pki.authority import Request
    from pki.profiles import PROFILES
    from tests.support.certificates import TestAuthority, write_pair

    (tmp_path / "old").mkdir()
    authority = TestAuthority(tmp_path / "old")
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COUNTRY_NAME, "US"), x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")]
    )
    request = Request(PROFILES["peer"], "", dns_names=("localhost",), days=9, subject=subject)
    write_pair(tmp_path / "old", "kubernetes", authority.authority.issue(request, utc_now()))
    assert json_pki("renew", "--dir", "old", "--within", "9")["due"] == ["kubernetes"]
    assert json_pki("show", "old/kubernetes.pem")[0]["subject"] == "CN=kubernetes,C=US"
