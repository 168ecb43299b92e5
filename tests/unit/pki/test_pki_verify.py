"""Every fault of a certificate is told with its file, what about it, and the mend."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pki import options
from pki.verify import names_host
from tests.support.certificates import done_pki, json_pki, refused_pki, run_pki, utc_now

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://10.0.0.1:2379"
ONE = ("--cert", "m1.pem", "--key", "m1-key.pem", "--ca", "ca.pem", "--usage", "serverAuth", "--url", URL)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    done_pki("init")
    done_pki("issue", "--profile", "server", "m1", "--ip", "10.0.0.1", "--dns", "m1", "--dns", "*.example.com")
    done_pki("issue", "--profile", "peer", "p1", "--ip", "10.0.0.1")
    return tmp_path


def faults(*words: str) -> list[tuple[str, str, str]]:
    result = json_pki("verify", *words)
    assert run_pki("verify", *words).exit_code == (1 if result["faults"] else 0)
    assert result["ok"] is (result["faults"] == [])
    assert all(each["mend"] for each in result["faults"])
    return [(each["file"], each["about"], each["problem"]) for each in result["faults"]]


def test_nothing_is_wrong() -> None:
    assert faults() == []
    assert faults(*ONE) == []
    assert done_pki("verify") == "2 certificates verified, no fault\n"


def loosen_key() -> None:
    Path("m1-key.pem").chmod(0o640)


def loosen_certificate() -> None:
    Path("m1.pem").chmod(0o666)


def take_another_key() -> None:
    Path("m1-key.pem").write_bytes(Path("p1-key.pem").read_bytes())


def lose_key() -> None:
    Path("m1-key.pem").unlink()


def encrypt_key() -> None:
    done_pki("init", "--dir", "locked", "--encrypt-key", typed="correct horse\ncorrect horse\n")
    Path("m1-key.pem").write_bytes(Path("locked/ca-key.pem").read_bytes())


def spoil_certificate() -> None:
    Path("m1.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def take_another_authority() -> None:
    done_pki("init", "--dir", "other", "--cn", "other")
    Path("ca.pem").write_bytes(Path("other/ca.pem").read_bytes())


def make_authority_anew() -> None:
    done_pki("init", "--dir", "other")
    Path("ca.pem").write_bytes(Path("other/ca.pem").read_bytes())


def trust_a_leaf() -> None:
    Path("ca.pem").write_bytes(Path("ca.pem").read_bytes() + Path("p1.pem").read_bytes())


def serve_with_the_authority() -> None:
    Path("m1.pem").write_bytes(Path("ca.pem").read_bytes())
    Path("m1-key.pem").write_bytes(Path("ca-key.pem").read_bytes())


@pytest.mark.parametrize(
    ("spoil", "file", "about", "problem"),
    [
        (loosen_key, "m1-key.pem", "0640", "others may read or change the private key"),
        (loosen_certificate, "m1.pem", "0666", "others may change it"),
        (take_another_key, "m1-key.pem", "", "the key does not belong to m1.pem"),
        (lose_key, "m1-key.pem", "", "no such file or directory"),
        (encrypt_key, "m1-key.pem", "", "encrypted: a member cannot ask for the passphrase"),
        (spoil_certificate, "m1.pem", "", "holds a certificate that cannot be read"),
        (take_another_authority, "m1.pem", "CN=etcd CA", "not signed by a CA in ca.pem"),
        (make_authority_anew, "m1.pem", "CN=etcd CA", "ca.pem has its issuer's name, but another key"),
        (trust_a_leaf, "ca.pem", "CN=p1", "not a CA, and trusted as one"),
        (serve_with_the_authority, "m1.pem", "", "a CA certificate where one for TLS is needed"),
    ],
)
def test_one_thing_that_is_wrong(spoil: Callable[[], None], file: str, about: str, problem: str) -> None:
    spoil()
    assert (file, about, problem) in faults(*ONE)
    line = run_pki("verify", *ONE).stdout
    assert f"{file}: {about}{': ' if about else ''}{problem}\n  mend: " in line
    for word in ("FILE", "ABOUT", "PROBLEM", "MEND"):
        assert word in run_pki("verify", *ONE, "-w", "table").stdout


@pytest.mark.parametrize(
    ("words", "about", "problem"),
    [
        (("--url", "https://10.0.0.2:2379"), "https://10.0.0.2:2379", "10.0.0.2 is not among its names"),
        (("--url", "https://m2:2379"), "https://m2:2379", "m2 is not among its names (m1, *.example.com, 10.0.0.1)"),
        (("--usage", "clientAuth"), "clientAuth", "only for serverAuth"),
        (("--within", "400"), "", "expires in 364 days"),
    ],
)
def test_what_it_is_not_good_for(words: tuple[str, ...], about: str, problem: str) -> None:
    (found,) = [each for each in faults(*ONE, *words) if each[0] == "m1.pem"]
    assert found[0] == "m1.pem"
    assert about in found[1]
    assert found[2].startswith(problem)


def test_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    for days, problem in ((-1, "not valid yet"), (360, "expires in 4 days"), (366, "expired")):
        moment = utc_now() + datetime.timedelta(days=days)
        monkeypatch.setattr(options, "now", lambda moment=moment: moment)
        assert problem in [found for file, _, found in faults(*ONE) if file == "m1.pem"]
    moment = utc_now() + datetime.timedelta(days=3645)
    monkeypatch.setattr(options, "now", lambda: moment)
    assert ("ca.pem", "expires in 4 days") in [(file, problem) for file, _, problem in faults()]


def test_revocation(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("crl")
    assert faults(*ONE, "--crl", "ca.crl") == []
    done_pki("issue", "--profile", "server", "m2", "--dns", "m2")
    done_pki("revoke", "m1")
    for path in ("ca.crl", "ca-crl.pem"):
        assert [(file, problem) for file, _, problem in faults(*ONE, "--crl", path)] == [
            (path, "the certificate is revoked")
        ]
    assert faults() == []  # what is revoked is no longer in force
    done_pki("init", "--dir", "other")
    done_pki("crl", "--dir", "other")
    wrong = faults("--cert", "m2.pem", "--ca", "ca.pem", "--crl", "other/ca.crl")
    assert [problem for _, _, problem in wrong] == ["signed by none of the CAs that are trusted"]
    Path("ca.crl").write_text("nonsense")
    assert ("ca.crl", "", "holds no certificate revocation list that can be read") in faults()
    done_pki("crl")
    moment = utc_now() + datetime.timedelta(days=31)
    monkeypatch.setattr(options, "now", lambda: moment)
    assert ("ca.crl", "the list is out of date") in [(file, problem) for file, _, problem in faults()]


def test_a_directory_with_an_intermediate() -> None:
    done_pki("init", "--dir", "deep", "--intermediate")
    done_pki("issue", "--dir", "deep", "--profile", "client", "a")
    assert faults("--dir", "deep") == []
    Path("deep/ca-intermediate-key.pem").chmod(0o604)
    assert faults("--dir", "deep") == [
        ("deep/ca-intermediate-key.pem", "0604", "others may read or change the private key")
    ]
    leaf = Path("deep/a.pem").read_bytes().partition(b"-----END CERTIFICATE-----\n")
    Path("deep/a.pem").write_bytes(leaf[0] + leaf[1])
    assert ("deep/a.pem", "CN=etcd CA intermediate", "not signed by a CA in deep/ca.pem") in faults("--dir", "deep")


YAML = """
name: m1
listen-client-urls: https://10.0.0.1:2379,https://0.0.0.0:2381,http://127.0.0.1:2382
advertise-client-urls: {client}
listen-peer-urls: https://10.0.0.1:2380
initial-advertise-peer-urls: {peer}
client-transport-security:
  cert-file: m1.pem
  key-file: m1-key.pem
  trusted-ca-file: ca.pem
  client-cert-auth: true
peer-transport-security:
  cert-file: {peer_cert}.pem
  key-file: {peer_cert}-key.pem
  trusted-ca-file: ca.pem
  client-cert-auth: true
  auto-tls:
"""


def yaml(client: str = URL, peer: str = "https://10.0.0.1:2380", peer_cert: str = "p1") -> str:
    Path("etcd.yaml").write_text(YAML.format(client=client, peer=peer, peer_cert=peer_cert))
    return "etcd.yaml"


def test_a_members_configuration() -> None:
    assert faults("--config-file", yaml()) == []
    assert [(file, about) for file, about, _ in faults("--config-file", yaml(client="https://m9:2379"))] == [
        ("m1.pem", "https://m9:2379")
    ]
    assert faults("--config-file", yaml(client="https://a.example.com:2379")) == []
    assert [(file, about) for file, about, _ in faults("--config-file", yaml(peer="https://10.0.0.9:2380"))] == [
        ("p1.pem", "https://10.0.0.9:2380")
    ]
    # A member dials with what it serves with.
    assert faults("--config-file", yaml(peer_cert="m1")) == [("m1.pem", "clientAuth", "only for serverAuth")]


def test_a_file_of_variables() -> None:
    lines = [
        "# a comment",
        f'ETCD_LISTEN_CLIENT_URLS="{URL}"',
        "ETCD_CERT_FILE=m1.pem",
        "export ETCD_KEY_FILE='m1-key.pem'",
        "ETCD_TRUSTED_CA_FILE=ca.pem",
        "ETCD_PEER_CERT_FILE=m1.pem",
        "ETCD_PEER_KEY_FILE=m1-key.pem",
        "ETCD_PEER_CLIENT_CERT_FILE=p1.pem",
        "ETCD_PEER_CLIENT_KEY_FILE=p1-key.pem",
        "ETCD_CLIENT_CRL_FILE=ca.crl",
    ]
    done_pki("crl")
    Path("etcd.env").write_text("\n".join(lines))
    assert faults("--config-file", "etcd.env") == []
    Path("etcd.env").write_text("\n".join(line for line in lines if "KEY_FILE" not in line and "CERT" not in line))
    assert faults("--config-file", "etcd.env") == [("cert-file", URL, "an https URL and no certificate for it")]
    Path("etcd.env").write_text("\n".join(line for line in lines if "_KEY_FILE" not in line or "PEER" in line))
    assert faults("--config-file", "etcd.env") == [("key-file", "", "a certificate and no key for it")]


def test_what_cannot_be_verified() -> None:
    Path("bad.yaml").write_text("a: [")
    assert "neither a configuration file of etcd (YAML)" in refused_pki("verify", "--config-file", "bad.yaml")
    Path("plain.yaml").write_text("name: m1\n")
    assert "plain.yaml: there is nothing to verify" in refused_pki("verify", "--config-file", "plain.yaml")
    Path("empty").mkdir()
    assert "empty: there is nothing to verify" in refused_pki("verify", "--dir", "empty")
    assert run_pki("verify", "--key", "m1-key.pem").exit_code == 128
    assert run_pki("verify", "--cert", "m1.pem", "--config-file", yaml()).exit_code == 128


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("m1", True),
        ("M1", True),
        ("m2", False),
        ("a.example.com", True),
        ("a.b.example.com", False),
        ("example.com", False),
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("0.0.0.0", True),
        ("::", True),
        ("fd00:0::1", True),
    ],
)
def test_hosts_and_names(host: str, fits: bool) -> None:
    names: Any = ("m1", "*.example.com"), ("10.0.0.1", "fd00::1")
    assert names_host(host, *names) is fits
