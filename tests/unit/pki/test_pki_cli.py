"""`etcdpy pki` as a person types it: files, messages, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from pki import keys, options
from pki.cli import pki
from pki.cli_batch import batch
from pki.cli_rotate import rotate
from tests.support.certificates import done_pki as done
from tests.support.certificates import json_pki
from tests.support.certificates import run_pki as run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(*paths: str) -> list[dict[str, Any]]:
    rows = json_pki("show", *paths)
    assert isinstance(rows, list)
    return rows


def test_the_classic_layout(home: Path) -> None:
    assert done("init", "--dir", "p") == "p/ca.pem\np/ca-key.pem\n"
    assert done("issue", "--dir", "p", "--profile", "client", "root") == "p/root.pem\np/root-key.pem\n"
    assert sorted(path.name for path in (home / "p").iterdir()) == [
        "ca-key.pem",
        "ca.pem",
        "inventory.json",
        "root-key.pem",
        "root.pem",
    ]
    assert {path.stat().st_mode & 0o777 for path in (home / "p").glob("*-key.pem")} == {0o600}


@pytest.mark.usefixtures("home")
def test_everything_that_is_asked_for_is_in_the_certificate() -> None:
    done("init", "--cn", "my CA", "--days", "900", "--key-type", "ed25519")
    options = ["--cn", "member one", "--org", "system", "--days", "10", "--key-type", "ecdsa-p384"]
    done("issue", "--profile", "peer", "m1", "--ip", "10.0.0.1", "--ip", "::1", "--dns", "m1.local", *options)
    (row,) = shown("m1.pem")
    assert row["role"] == "peer"
    assert row["subject"] == "CN=member one,O=system"
    assert row["issuer"] == "CN=my CA"
    assert (row["dns_names"], row["ip_addresses"]) == (["m1.local"], ["10.0.0.1", "::1"])
    assert (row["key_type"], row["days_left"]) == ("ECDSA P-384", 9)
    assert (row["key_beside"], row["chain"]) == ("m1-key.pem matches", "chains to ca.pem")
    certificate = x509.load_pem_x509_certificate(Path("m1.pem").read_bytes())
    assert row["sha256"] == certificate.fingerprint(hashes.SHA256()).hex(":")
    assert row["serial"] == f"{certificate.serial_number:x}"


@pytest.mark.usefixtures("home")
def test_an_intermediate_ca_and_a_chain_in_the_file() -> None:
    done("init")
    done("issue", "--profile", "ca", "site")
    done("issue", "--ca", "site", "--profile", "server", "m1", "--dns", "localhost")
    leaf, above = shown("m1.pem")
    assert (leaf["role"], leaf["chain"]) == ("server", "chains to ca.pem")
    assert (above["role"], above["position"], above["chain"]) == ("intermediate ca", 1, "chains to ca.pem")


@pytest.mark.usefixtures("home")
def test_an_encrypted_ca_key() -> None:
    Path("secret").write_text("correct horse\nsecond line\n")
    done("init", "--encrypt-key", "--passphrase-file", "secret")
    assert keys.is_encrypted(Path("ca-key.pem").read_bytes())
    done("issue", "--profile", "client", "a", "--passphrase-file", "secret")
    done("issue", "--profile", "client", "b", typed="correct horse\n")
    wrong = run("issue", "--profile", "client", "c", typed="battery staple\n")
    assert (wrong.exit_code, wrong.stderr.splitlines()[-1]) == (1, "Error: ca-key.pem: wrong passphrase")
    assert not Path("c.pem").exists()
    assert not keys.is_encrypted(Path("a-key.pem").read_bytes())


@pytest.mark.usefixtures("home")
def test_a_passphrase_is_typed_twice_and_not_too_short() -> None:
    done("init", "--encrypt-key", typed="correct horse\ncorrect horse\n")
    short = run("init", "--force", "--encrypt-key", typed="short\nshort\n")
    assert (short.exit_code, "at least 8 characters" in short.stderr) == (1, True)
    assert keys.is_encrypted(Path("ca-key.pem").read_bytes())


@pytest.mark.usefixtures("home")
def test_nothing_is_overwritten_without_force() -> None:
    done("init")
    before = Path("ca.pem").read_bytes()
    refused = run("init")
    assert (refused.exit_code, refused.stderr) == (1, "Error: ca.pem already exists; --force replaces it\n")
    assert Path("ca.pem").read_bytes() == before
    done("init", "--force")
    assert Path("ca.pem").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["issue", "--profile", "node", "x"], 'unknown profile "node" (there are ca, server, peer, client)'),
        (["issue", "--profile", "server", "x"], "a server certificate needs at least one --ip or --dns"),
        (["issue", "--profile", "server", "x", "--ip", "1.2.3"], '--ip "1.2.3" is not an IP address'),
        (["issue", "--profile", "client", "ca"], '"ca" is the CA that signs; choose another name'),
        (["issue", "--profile", "client", "../x"], '"../x" cannot be a file name'),
        (["issue", "--profile", "client", "x", "--dir", "void"], "void/ca.pem: there is no CA; make one with"),
        (["issue", "--profile", "client", "x", "--ca", "mixed"], "the CA key does not belong to this certificate"),
        (["issue", "--profile", "client", "x", "--ca", "leaf"], "leaf.pem: not a CA certificate"),
        (["show", "void.pem"], "void.pem: no such file or directory"),
        (["show", "leaf-key.pem"], "leaf-key.pem: holds a private key and no certificate"),
    ],
)
@pytest.mark.usefixtures("home")
def test_refusals_are_one_line_and_exit_1(arguments: list[str], text: str) -> None:
    done("init")
    done("issue", "--profile", "client", "leaf")
    Path("mixed.pem").write_bytes(Path("ca.pem").read_bytes())
    Path("mixed-key.pem").write_bytes(Path("leaf-key.pem").read_bytes())
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert text in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("home")
def test_an_expired_ca(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    done("init", "--days", "1")
    late = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
    monkeypatch.setattr(options, "now", lambda: late)
    result = run("issue", "--profile", "client", "x")
    assert (result.exit_code, "the CA expired at" in result.stderr) == (1, True)


@pytest.mark.usefixtures("home")
def test_a_leaf_cut_to_its_ca_is_told() -> None:
    done("init", "--days", "30")
    result = run("issue", "--profile", "client", "x")
    assert result.exit_code == 0
    assert "note: ends with its CA, 29 days from now" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["frob"],
        ["--bogus"],
        ["issue"],
        ["issue", "x"],
        ["issue", "--profile", "client", "x", "--days", "many"],
        ["init", "--key-type", "dsa"],
        ["init", "--passphrase-file", "f"],
        ["show"],
        ["show", "-w", "xml", "ca.pem"],
    ],
)
def test_wrong_arguments_exit_128(home: Path, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 128
    outer = click.Group("etcdpy", commands={"pki": pki})
    assert CliRunner().invoke(outer, ["pki", *arguments]).exit_code == 128
    assert list(home.iterdir()) == []


COMMANDS = [*pki.commands, *(f"{group.name} {step}" for group in (rotate, batch) for step in group.commands)]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_carries_an_example(command: str) -> None:
    words = command.split()
    assert f"  etcdpy pki {command} " in done(*words, "--help")
    assert words[0] == "batch" or command == "rotate" or "--write-out [simple|json|table]" in done(*words, "--help")


def test_as_a_module(home: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pki", "init", "--dir", str(home)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stderr) == (0, "")


# --- show ---


@pytest.mark.usefixtures("home")
def test_the_traps() -> None:
    done("init")
    done("issue", "--profile", "server", "m1", "--dns", "m1.local", "--days", "5")
    done("issue", "--profile", "peer", "m2", "--dns", "*.local", "--ip", "127.0.0.1")
    (row,) = shown("m1.pem")
    assert "expires in 4 days" in row["traps"]
    assert any(trap.startswith("neither localhost nor 127.0.0.1 is named") for trap in row["traps"])
    assert any("real etcd's gateway" in trap for trap in row["traps"])
    (row,) = shown("m2.pem")
    assert row["traps"] == ["a wildcard stands for exactly one label"]
    Path("m2-key.pem").chmod(0o644)
    Path("m1-key.pem").write_bytes(Path("m2-key.pem").read_bytes())
    assert "m2-key.pem can be read by others: chmod 600" in shown("m2.pem")[0]["traps"]
    assert shown("m1.pem")[0]["key_beside"] == "m1-key.pem DOES NOT MATCH"


@pytest.mark.usefixtures("home")
def test_a_ca_made_anew_does_not_chain() -> None:
    done("init")
    done("issue", "--profile", "client", "x")
    done("init", "--force")
    (row,) = shown("x.pem")
    assert row["chain"] == "DOES NOT CHAIN to ca.pem"
    assert "ca.pem beside it has the issuer's name but another key: was the CA made anew?" in row["traps"]
    done("init", "--force", "--cn", "other")
    assert any("the missing issuer is" in trap for trap in shown("x.pem")[0]["traps"])


@pytest.mark.usefixtures("home")
def test_the_names_that_kubeadm_gives() -> None:
    done("init")
    done("issue", "--profile", "peer", "server", "--dns", "localhost")
    for old, new in (("ca.pem", "ca.crt"), ("server.pem", "server.crt"), ("server-key.pem", "server.key")):
        Path(old).rename(new)
    (row,) = shown("server.crt")
    assert (row["key_beside"], row["chain"], row["traps"]) == ("server.key matches", "chains to ca.crt", [])


@pytest.mark.usefixtures("home")
def test_a_server_certificate_with_only_a_common_name() -> None:
    """Such ones come from elsewhere: our own profiles refuse to make them."""
    import datetime

    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    key = keys.KeyType.ECDSA_P256.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "m1.local")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=90))
    builder = builder.add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    Path("old.crt").write_bytes(certificate.public_bytes(Encoding.DER))
    Path("old.key").write_bytes(keys.to_pem(key))
    (row,) = shown("old.crt")
    assert row["traps"][0] == (
        "no subject alternative name: every client refuses it (the common name alone does not count)"
    )
    assert row["key_beside"] == "old.key matches"


@pytest.mark.usefixtures("home")
def test_simple_and_table_say_the_same() -> None:
    done("init")
    done("issue", "--profile", "server", "m1", "--dns", "localhost")
    for form in ("simple", "table"):
        text = done("show", "-w", form, "m1.pem", "ca.pem", "m1-key.pem")
        for word in ("m1.pem", "server", "localhost", "m1-key.pem matches", "chains to ca.pem", "root ca"):
            assert word in text, (form, word)


@pytest.mark.usefixtures("home")
def test_one_bad_file_among_good_ones_still_fails() -> None:
    done("init")
    result = run("show", "ca.pem", "void.pem", "also-void.pem")
    assert result.exit_code == 1
    assert "root ca" in result.stdout
    assert result.stderr.count("Error: ") == 2
