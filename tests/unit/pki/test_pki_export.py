"""`etcdpy pki export`: what it writes, and what it refuses to write."""

from __future__ import annotations

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
