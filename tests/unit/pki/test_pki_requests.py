"""The key is made on its node and stays there; what travels is a request and a certificate."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pki import keys, options
from tests.support.certificates import done_pki, json_pki, refused_pki, run_pki, utc_now

pytestmark = pytest.mark.usefixtures("authority_and_node")

NAMES = ("--ip", "10.0.0.1", "--dns", "m1")


def openssl(*words: str) -> str:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_a_certificate_for_a_key_that_nobody_else_has() -> None:
    assert done_pki("csr", "m1", "--dir", "node", *NAMES, "--org", "o") == "node/m1.csr\nnode/m1-key.pem\n"
    assert "verify OK" in openssl("req", "-in", "node/m1.csr", "-verify", "-noout")
    assert Path("node/m1-key.pem").stat().st_mode & 0o777 == 0o600
    assert done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "peer") == "pki/m1.pem\n"
    assert not Path("pki/m1-key.pem").exists()
    assert done_pki("accept", "m1", "pki/m1.pem", "--dir", "node") == "node/m1.pem\n"
    assert done_pki("accept", "m1", "pki/m1.pem", "--dir", "node") == "unchanged\n"
    (row,) = json_pki("show", "node/m1.pem")
    assert (row["role"], row["key_beside"], row["chain"]) == ("peer", "m1-key.pem matches", "chains to ca.pem")
    assert (row["subject"], row["dns_names"], row["ip_addresses"]) == ("CN=m1,O=o", ["m1"], ["10.0.0.1"])
    assert "OK" in openssl("verify", "-CAfile", "node/ca.pem", "-purpose", "sslserver", "node/m1.pem")
    assert [row["name"] for row in json_pki("list", "--dir", "pki")] == ["ca", "m1"]


def test_asking_twice_asks_the_same() -> None:
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    before = Path("node/m1.csr").read_bytes(), Path("node/m1-key.pem").read_bytes()
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    assert (Path("node/m1.csr").read_bytes(), Path("node/m1-key.pem").read_bytes()) == before
    done_pki("csr", "m1", "--dir", "node", *NAMES, "--dns", "more")
    assert Path("node/m1.csr").read_bytes() != before[0]
    assert Path("node/m1-key.pem").read_bytes() == before[1]
    Path("node/m1.csr").write_text("nonsense")
    done_pki("csr", "m1", "--dir", "node")
    done_pki("csr", "m1", "--dir", "node")


def test_a_new_key_waits_beside_the_one_in_use() -> None:
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "peer")
    done_pki("accept", "m1", "pki/m1.pem", "--dir", "node")
    in_use = Path("node/m1-key.pem").read_bytes()
    for _ in range(2):
        asked = json_pki("csr", "m1", "--dir", "node", "--new-key", *NAMES)
        assert asked == {"request": "node/m1.csr", "key": "node/m1-next-key.pem"}
    pending = Path("node/m1-next-key.pem").read_bytes()
    assert Path("node/m1-key.pem").read_bytes() == in_use
    done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "peer", "--force")
    accepted = json_pki("accept", "m1", "pki/m1.pem", "--dir", "node")
    assert accepted == {"changed": True, "written": ["node/m1-key.pem", "node/m1.pem"]}
    assert Path("node/m1-key.pem").read_bytes() == pending
    assert not Path("node/m1-next-key.pem").exists()
    assert json_pki("accept", "m1", "pki/m1.pem", "--dir", "node")["changed"] is False
    assert json_pki("show", "node/m1.pem")[0]["key_beside"] == "m1-key.pem matches"


def certify_node(name: str = "m1") -> None:
    done_pki("csr", name, "--dir", "node", *NAMES)
    done_pki("sign", f"node/{name}.csr", "--dir", "pki", "--profile", "peer")
    done_pki("accept", name, f"pki/{name}.pem", "--dir", "node")


def test_a_node_knows_what_it_should_ask_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("m1", "m2", "m3", "m4"):
        certify_node(name)
    names = ("m1", "m2", "m3", "m4")
    assert done_pki("due", *names, "ca", "--dir", "node") == "nothing is due\n"
    assert json_pki("due", "m5", "--dir", "node") == [{"name": "m5", "why": "not there"}]
    Path("node/m2.pem").write_text("")
    Path("node/m3-key.pem").unlink()
    done_pki("csr", "m3", "--dir", "node", *NAMES)
    done_pki("init", "--dir", "strange")
    done_pki("sign", "node/m4.csr", "--dir", "strange", "--profile", "peer")
    Path("node/m4.pem").write_bytes(Path("strange/m4.pem").read_bytes())
    result = run_pki("due", *names, "--dir", "node")
    assert (result.exit_code, result.stdout.splitlines()) == (
        2,
        [
            "m2: node/m2.pem: holds no certificate",
            "m3: no key that fits it is there",
            "m4: not signed by the CA that is trusted here",
        ],
    )
    now = utc_now()
    for days, window, why in ((200, (), ""), (300, (), "expires at "), (300, ("--within", "30"), ""), (366, (), "exp")):
        monkeypatch.setattr(options, "now", lambda days=days: now + datetime.timedelta(days=days))
        result = run_pki("due", "m1", "ca", "--dir", "node", *window)
        assert result.exit_code == (2 if why else 0)
        assert result.stdout.startswith(f"m1: {why}" if why else "nothing is due")
    monkeypatch.setattr(options, "now", lambda: now + datetime.timedelta(days=3651))
    assert due("m1", "ca") == ["m1: expired", "ca: expired"]


def due(*names: str) -> list[str]:
    return run_pki("due", *names, "--dir", "node").stdout.splitlines()


def test_a_run_that_was_cut_off_leaves_no_key_for_the_next_one() -> None:
    certify_node()
    Path("node/m1-next-key.pem").write_bytes(Path("node/m1-key.pem").read_bytes())
    assert done_pki("accept", "m1", "pki/m1.pem", "--dir", "node") == "unchanged\n"
    assert not Path("node/m1-next-key.pem").exists()


def test_a_key_that_was_damaged_is_followed_by_another() -> None:
    certify_node()
    Path("node/m1-key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert due("m1") == ["m1: no key that fits it is there"]
    done_pki("csr", "m1", "--dir", "node", "--new-key", *NAMES)
    done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "peer", "--force")
    done_pki("accept", "m1", "pki/m1.pem", "--dir", "node")
    assert due("m1") == ["nothing is due"]


def test_what_ends_with_its_authority_is_not_due_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done_pki("init", "--dir", "pki", "--force", "--days", "100")
    Path("node/ca.pem").write_bytes(Path("pki/ca.pem").read_bytes())
    certify_node()
    now = utc_now()
    monkeypatch.setattr(options, "now", lambda: now + datetime.timedelta(days=99))
    assert due("m1") == ["nothing is due"]
    monkeypatch.setattr(options, "now", lambda: now + datetime.timedelta(days=101))
    assert due("m1") == ["m1: expired"]


def test_what_does_not_belong_is_not_accepted() -> None:
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    done_pki("issue", "--dir", "pki", "--profile", "client", "other")
    assert "belongs to no key of m1" in refused_pki("accept", "m1", "pki/other.pem", "--dir", "node")
    done_pki("init", "--dir", "strange")
    done_pki("sign", "node/m1.csr", "--dir", "strange", "--profile", "peer")
    assert "not signed by the CA that is trusted here" in refused_pki("accept", "m1", "strange/m1.pem", "--dir", "node")
    assert not Path("node/m1.pem").exists()


def test_an_intermediate_comes_along_and_is_accepted() -> None:
    done_pki("init", "--dir", "deep", "--intermediate")
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    done_pki("sign", "node/m1.csr", "--dir", "deep", "--profile", "peer")
    done_pki("accept", "m1", "deep/m1.pem", "--dir", "node", "--ca", "deep/ca.pem")
    assert [row["role"] for row in json_pki("show", "node/m1.pem")] == ["peer", "intermediate ca"]


def test_the_operators_names_take_the_place_of_those_asked_for() -> None:
    done_pki("csr", "m1", "--dir", "node", "--dns", "payroll", "--cn", "root")
    done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "server", "--dns", "m1", "--cn", "m1", "--name", "x")
    (row,) = json_pki("show", "pki/x.pem")
    assert (row["subject"], row["dns_names"]) == ("CN=m1", ["m1"])


def write_csr(path: str, key: Any = None, *extensions: x509.ExtensionType, common: str = "m1") -> None:
    key = key or keys.KeyType.ECDSA_P256.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])
    builder = x509.CertificateSigningRequestBuilder(subject)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    Path(path).write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


def test_what_is_not_signed() -> None:
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    body = bytearray(x509.load_pem_x509_csr(Path("node/m1.csr").read_bytes()).public_bytes(Encoding.DER))
    body[-1] ^= 1
    Path("forged.csr").write_bytes(body)
    write_csr("ca.csr", None, x509.BasicConstraints(ca=True, path_length=None))
    write_csr("uri.csr", None, x509.SubjectAlternativeName([x509.UniformResourceIdentifier("https://m1")]))
    write_csr("weak.csr", rsa.generate_private_key(65537, 1024))
    write_csr("curve.csr", ec.generate_private_key(ec.SECP256K1()))
    write_csr("nameless.csr", common="")
    write_csr("wild.csr", None, x509.SubjectAlternativeName([x509.DNSName("a..b")]))
    Path("nonsense.csr").write_text("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n")
    for name, text in (
        ("forged.csr", "was not signed by the key that it names"),
        ("ca.csr", "asks to be a CA; only --profile ca signs that"),
        ("uri.csr", "it names a UniformResourceIdentifier; only host names and IP addresses"),
        ("weak.csr", "a key of this kind (RSA 1024) is not signed here"),
        ("curve.csr", "a key of this kind (ECDSA secp256k1) is not signed here"),
        ("nameless.csr", "must have 1 to 64 characters"),
        ("wild.csr", "is not a host name"),
        ("nonsense.csr", "holds no certificate signing request that can be read"),
        ("node/m1-key.pem", "holds a private key; those stay where they were made"),
        ("void.csr", "no such file or directory"),
    ):
        assert text in refused_pki("sign", name, "--dir", "pki", "--profile", "client", "--name", "x")
    assert not Path("pki/x.pem").exists()
    write_csr("bare.csr")
    assert "needs at least one --ip or --dns" in refused_pki("sign", "bare.csr", "--dir", "pki", "--profile", "server")


def test_an_intermediate_whose_key_lies_elsewhere() -> None:
    write_csr("site.csr", None, x509.BasicConstraints(ca=True, path_length=None), common="site")
    done_pki("sign", "site.csr", "--dir", "pki", "--profile", "ca")
    assert json_pki("show", "pki/site.pem")[0]["role"] == "intermediate ca"


def test_nothing_is_overwritten_without_force() -> None:
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "peer")
    assert "already exists; --force replaces it" in refused_pki(
        "sign", "node/m1.csr", "--dir", "pki", "--profile", "peer"
    )
    assert "is the CA that signs" in refused_pki(
        "sign", "node/m1.csr", "--dir", "pki", "--profile", "peer", "--name", "ca"
    )


def test_the_cas_key_from_another_medium() -> None:
    Path("stick").mkdir()
    Path("pki/ca-key.pem").rename("stick/ca-key.pem")
    done_pki("csr", "m1", "--dir", "node", *NAMES)
    assert "pki/ca-key.pem: no such file or directory" in refused_pki(
        "sign", "node/m1.csr", "--dir", "pki", "--profile", "peer"
    )
    done_pki("sign", "node/m1.csr", "--dir", "pki", "--profile", "peer", "--ca-key", "stick/ca-key.pem")
    done_pki("issue", "alice", "--dir", "pki", "--profile", "client", "--ca-key", "stick/ca-key.pem")
    assert run_pki("renew", "--dir", "pki").exit_code == 0
    assert not Path("pki/ca-key.pem").exists()
