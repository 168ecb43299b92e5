"""The bundle of Kubernetes guides, layouts with several authorities, and profiles of the operator's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pki.errors import PkiError
from pki.profiles import parse_profiles
from tests.support.certificates import done_pki, json_pki, refused_pki, run_pki

CONTROLLERS = ("--controller", "controller-0=10.240.0.10", "--controller", "controller-1=10.240.0.11,203.0.113.5")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path.cwd().iterdir()}


def test_one_command_makes_the_guides_files() -> None:
    done_pki("kubernetes", *CONTROLLERS)
    assert {"ca.pem", "ca-key.pem", "kubernetes.pem", "kubernetes-key.pem"} <= set(contents())
    (row,) = json_pki("show", "kubernetes.pem")
    assert (row["subject"], row["role"], row["chain"]) == ("CN=kubernetes,O=Kubernetes", "peer", "chains to ca.pem")
    assert row["ip_addresses"] == ["10.240.0.10", "10.240.0.11", "203.0.113.5", "10.32.0.1", "127.0.0.1"]
    assert row["dns_names"][:3] == ["controller-0", "controller-1", "kubernetes"]
    assert {"localhost", "kubernetes.default.svc.cluster.local"} <= set(row["dns_names"])
    for purpose in ("sslserver", "sslclient"):
        words = ["openssl", "verify", "-CAfile", "ca.pem", "-purpose", purpose, "kubernetes.pem"]
        assert subprocess.run(words, capture_output=True, check=False, timeout=30).returncode == 0


def test_a_second_run_changes_nothing_and_another_host_does() -> None:
    done_pki("kubernetes", *CONTROLLERS)
    before = contents()
    assert done_pki("kubernetes", *CONTROLLERS) == ""
    assert contents() == before
    more = ("--controller", "controller-2=10.240.0.12", "--san", "api.example.com", "--san", "fd00::0:1")
    assert done_pki("kubernetes", *CONTROLLERS, *more) == "kubernetes.pem\nkubernetes-key.pem\n"
    assert contents()["ca.pem"] == before["ca.pem"]
    assert done_pki("kubernetes", *CONTROLLERS, *more) == ""
    (row,) = json_pki("show", "kubernetes.pem")
    assert {"controller-2", "api.example.com"} <= set(row["dns_names"])
    assert "fd00::1" in row["ip_addresses"]
    done_pki("revoke", "kubernetes")
    assert done_pki("kubernetes", *CONTROLLERS, *more) != ""


@pytest.mark.parametrize("text", ["controller-0", "=10.0.0.1", "a=", "a=10.0.0.300", "a=10.0.0.1,"])
def test_controllers_that_are_none(text: str) -> None:
    assert "must be NAME=ADDRESS" in refused_pki("kubernetes", "--controller", text)
    assert contents() == {}


def test_two_controllers_with_one_address() -> None:
    for second in ("b=10.0.0.1", "a=10.0.0.2"):
        assert "same name or address" in refused_pki("kubernetes", "--controller", "a=10.0.0.1", "--controller", second)


def test_separate_authorities_sign_what_is_theirs() -> None:
    done_pki("init", "--separate", "--cn", "c")
    done_pki("issue", "--profile", "peer", "m1-peer", "--dns", "m1")
    done_pki("issue", "--profile", "server", "m1", "--dns", "m1")
    done_pki("issue", "--profile", "client", "root")
    assert {row["name"]: row["ca"] for row in json_pki("list")} == {
        "ca": "ca",
        "peer-ca": "peer-ca",
        "m1-peer": "peer-ca",
        "m1": "ca",
        "root": "ca",
    }
    assert json_pki("show", "peer-ca.pem")[0]["subject"] == "CN=c for peers"
    assert done_pki("verify").startswith("3 certificates verified")


def test_the_root_may_leave_once_there_is_an_intermediate() -> None:
    done_pki("init", "--intermediate")
    Path("ca-key.pem").unlink()
    done_pki("issue", "--profile", "server", "m1", "--dns", "m1")
    leaf, above = json_pki("show", "m1.pem")
    assert (leaf["chain"], above["subject"]) == ("chains to ca.pem", "CN=etcd CA intermediate")
    assert run_pki("init", "--intermediate").exit_code == 1
    assert "ca-key.pem: no such file" in refused_pki("issue", "--profile", "ca", "beside")
    deeper = refused_pki("issue", "--profile", "ca", "--ca", "ca-intermediate", "deeper")
    assert "path length is 0" in deeper


def test_encrypted_authorities_share_a_passphrase() -> None:
    Path("secret").write_text("correct horse\n")
    done_pki("init", "--intermediate", "--separate", "--encrypt-key", "--passphrase-file", "secret")
    assert all(b"ENCRYPTED" in path.read_bytes() for path in Path.cwd().glob("*-key.pem"))
    done_pki("issue", "--profile", "client", "a", "--passphrase-file", "secret")
    done_pki("issue", "--profile", "peer", "b", "--dns", "b", "--passphrase-file", "secret")
    # Asked once, however many keys it opens.
    assert run_pki("crl", typed="correct horse\n").exit_code == 0
    wrong = run_pki("renew", "--within", "4000", typed="battery staple\n")
    assert (wrong.exit_code, "wrong passphrase" in wrong.stderr) == (1, True)
    assert "battery" not in wrong.stderr


PROFILES = """
[kubelet]
usages = ["clientAuth"]
days = 30
organizations = ["system:nodes"]

[server]
days = 90

[timestamps]
usages = ["1.3.6.1.5.5.7.3.8"]
needs_host = true
"""


def test_profiles_of_ones_own() -> None:
    done_pki("init")
    Path("profiles.toml").write_text(PROFILES)
    done_pki("issue", "--profile", "kubelet", "worker-0")
    done_pki("issue", "--profile", "server", "m1", "--dns", "m1")
    worker, server = json_pki("show", "worker-0.pem", "m1.pem")
    assert (worker["role"], worker["subject"], worker["days_left"]) == ("client", "CN=worker-0,O=system:nodes", 29)
    assert (server["role"], server["days_left"]) == ("server", 89)
    assert "needs at least one --ip or --dns" in refused_pki("issue", "--profile", "timestamps", "t")
    rows = {row["profile"]: row for row in json_pki("profiles")}
    assert list(rows) == ["ca", "server", "peer", "client", "kubelet", "timestamps"]
    assert (rows["server"]["days"], rows["server"]["usages"]) == ("90", "serverAuth")
    for form in ("simple", "table"):
        assert "kubelet" in done_pki("profiles", "-w", form)
    assert json_pki("renew", "worker-0", "--within", "40")["due"] == ["worker-0"]
    assert json_pki("show", "worker-0.pem")[0]["subject"] == "CN=worker-0,O=system:nodes"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[", "not TOML"),
        ("a = 1", "must be a table"),
        ("[a]\ndays = 3", "needs usages: serverAuth, clientAuth or both"),
        ('[a]\nusages = "clientAuth"', "usages must be a list of strings"),
        ('[a]\nusages = ["web"]', 'has an unknown usage "web"'),
        ("[client]\ndays = 0", "days must be a positive number"),
        ("[client]\ndays = true", "days must be a positive number"),
        ("[client]\nneeds_host = 1", "needs_host must be true or false"),
        ("[client]\norganizations = [1]", "organizations must be a list of strings"),
        ("[client]\nis_ca = true", 'has no setting "is_ca"'),
    ],
)
def test_profiles_that_cannot_be_used(text: str, reason: str) -> None:
    with pytest.raises(PkiError) as caught:
        parse_profiles(text.encode(), "profiles.toml")
    assert str(caught.value).startswith("profiles.toml: ")
    assert reason in str(caught.value)
