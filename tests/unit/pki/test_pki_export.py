"""`etcdpy pki export`: what it writes, and what it refuses to write."""

from __future__ import annotations

import json
import ssl
import tarfile
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pki.cli import pki

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

HOSTS = "--endpoints=https://10.0.0.1:2379, https://m2.example.com:2379"


def run(directory: Path, *words: str) -> Result:
    return CliRunner().invoke(pki, [words[0], "--dir", str(directory), *words[1:]])


@pytest.fixture
def made(tmp_path: Path) -> Path:
    directory = tmp_path / "my pki"
    for words in (("init",), ("issue", "--profile=client", "root"), ("issue", "--profile=server", "m1", "--dns=m1")):
        assert run(directory, *words).exit_code == 0
    return directory


def test_a_profile_names_endpoints_and_files(made: Path) -> None:
    done = run(made, "export", "root", HOSTS)
    assert (done.exit_code, done.output) == (0, f"{made}/root.profile\n")
    lines = (made / "root.profile").read_text().splitlines()
    assert lines[0].startswith("# Made by `etcdpy pki export`")
    assert lines[1:] == [
        "ETCDCTL_ENDPOINTS=https://10.0.0.1:2379,https://m2.example.com:2379",
        f"ETCDCTL_CACERT='{made}/ca.pem'",
        f"ETCDCTL_CERT='{made}/root.pem'",
        f"ETCDCTL_KEY='{made}/root-key.pem'",
    ]


def test_a_tar_holds_all_and_a_profile_for_where_it_is_unpacked(made: Path, tmp_path: Path) -> None:
    there = tmp_path / "client host"
    done = run(made, "export", "root", HOSTS, "--bundle=tar", f"--at={there}", "-w", "json")
    assert json.loads(done.output) == {
        "file": f"{made}/root.tar",
        "endpoints": ["https://10.0.0.1:2379", "https://m2.example.com:2379"],
        "holds_key": True,
    }
    assert (made / "root.tar").stat().st_mode & 0o777 == 0o600
    with tarfile.open(made / "root.tar") as archive:
        modes = {each.name: each.mode for each in archive}
        archive.extractall(there)
    assert modes == {"ca.pem": 0o644, "root.pem": 0o644, "root-key.pem": 0o600, "root.profile": 0o644}
    lines = (there / "root.profile").read_text().splitlines()
    for line, name in zip(lines[2:], ("ca.pem", "root.pem", "root-key.pem"), strict=True):
        assert line.partition("=")[2] == f"'{there}/{name}'"
        assert (there / name).read_bytes() == (made / name).read_bytes()
    assert run(made, "export", "root", HOSTS, "--bundle=tar", "--at=relative").exit_code == 128
    assert run(made, "export", "root", HOSTS, "--at=/etc/app").exit_code == 128


def test_everything_in_one_pem_file(made: Path) -> None:
    done = run(made, "export", "root", HOSTS, "--bundle=pem")
    path = made / "root-bundle.pem"
    assert (done.output, path.stat().st_mode & 0o777) == (f"{path}\n", 0o600)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(path)
    context.load_verify_locations(path)
    assert [each["subject"] for each in context.get_ca_certs()] == [((("commonName", "etcd CA"),),)]


def test_it_is_written_elsewhere_and_over_another_where_told(made: Path, tmp_path: Path) -> None:
    output = f"--output={tmp_path / 'elsewhere'}"
    assert run(made, "export", "root", HOSTS, output).exit_code == 0
    again = run(made, "export", "root", HOSTS, output)
    assert (again.exit_code, "already exists; --force replaces it" in again.output) == (1, True)
    assert run(made, "export", "root", HOSTS, output, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("absent", HOSTS), 1, "no such file"),
        (("m1", HOSTS), 1, "only for serverAuth"),
        (("root", "--endpoints=http://10.0.0.1:2379"), 1, "every endpoint is an https:// URL"),
        (("root", "--endpoints="), 1, "every endpoint is an https:// URL"),
        (("root", HOSTS, "--ca=absent.pem"), 1, "no such file"),
        (("root",), 128, "--endpoints"),
    ],
)
def test_what_no_server_would_take_is_refused(made: Path, words: tuple[str, ...], code: int, reason: str) -> None:
    done = run(made, "export", *words)
    assert done.exit_code == code
    assert reason in done.output
    assert not list(made.glob("*.profile"))


def test_another_authority_is_refused(made: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "other", "init").exit_code == 0
    done = run(made, "export", "root", HOSTS, f"--ca={tmp_path / 'other' / 'ca.pem'}")
    assert done.exit_code == 1
    assert str(made / "root.pem") in done.output
