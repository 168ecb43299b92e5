"""What `etcdpyctl` does with files: a snapshot saved and looked at in the old place, profiles, completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from pki.cli import pki
from tests.support.members import Member, TlsFiles
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from pathlib import Path


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "etcdpy.ctl", *words]
    everything = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=everything)


@pytest.mark.reference
def test_a_saved_snapshot_in_the_old_places_and_in_etcdutl(tmp_path: Path) -> None:
    saved, restored = tmp_path / "saved.db", tmp_path / "restored"
    with Member("etcdpy", tmp_path) as member:
        at = f"--endpoints={member.endpoint}"
        assert run([at, "put", "key", "value"]).returncode == 0
        done = run([at, "snapshot", "save", str(saved)])
        assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"Snapshot saved at {saved}")
        assert saved.stat().st_mode & 0o777 == 0o600
    etcdutl = [str(reference_binary("etcdutl")), "snapshot", "status", str(saved), "-w", "json"]
    theirs = subprocess.run(etcdutl, capture_output=True, text=True, check=True)
    for words in (["snapshot", "status", str(saved), "-w", "json"], ["-w", "json", "snapshot", "status", str(saved)]):
        done = run(words)
        assert (done.returncode, done.stdout) == (0, theirs.stdout)
        assert done.stderr.startswith("Deprecated: Use `etcdpyutl snapshot status` instead.\n")
    assert run(["snapshot", "restore", str(saved), f"--data-dir={restored}"]).returncode == 0
    done = run(["defrag", f"--data-dir={restored}"])
    assert done.returncode == 0
    assert done.stderr.startswith("Deprecated: Use `etcdpyutl defrag` instead.\n")
    assert run(["snapshot", "status", "absent.db"]).returncode == 1


def test_a_profile_leads_to_a_cluster_and_a_wrong_one_is_explained(tmp_path: Path) -> None:
    made, other = tmp_path / "pki", tmp_path / "other"
    for directory in (made, other):
        for words in (["init"], ["issue", "--profile=client", "root"]):
            assert CliRunner().invoke(pki, [*words, "--dir", str(directory)]).exit_code == 0
    server = ["issue", "--profile=server", "m1", "--ip=127.0.0.1", "--dir", str(made)]
    assert CliRunner().invoke(pki, server).exit_code == 0
    names = ("ca.pem", "m1.pem", "m1-key.pem", "root.pem", "root-key.pem")
    with Member("etcdpy", tmp_path, tls=TlsFiles(*(made / name for name in names))) as member:
        for directory in (made, other):
            export = ["export", "root", "--dir", str(directory), f"--endpoints=https://{member.endpoint}"]
            assert CliRunner().invoke(pki, export).exit_code == 0
        done = run(["--profile", str(made / "root.profile"), "put", "key", "value"])
        assert (done.stdout, done.returncode) == ("OK\n", 0)
        assert run(["get", "key"], ETCDPYCTL_PROFILE=str(made / "root.profile")).stdout == "key\nvalue\n"
        done = run(["--profile", str(other / "root.profile"), "get", "key", "--command-timeout=1s"])
        assert done.returncode == 1
        assert "TLS: " in done.stderr
        assert f"was not signed by {other / 'ca.pem'}" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_is_a_script_for_each_shell(shell: str) -> None:
    done = run(["completion", shell])
    assert done.returncode == 0
    assert "_ETCDCTL_COMPLETE" in done.stdout
    assert "etcdpyctl" in done.stdout
    checker = shutil.which(shell)
    if shell in ("bash", "zsh", "fish") and checker is not None:
        assert subprocess.run([checker, "-n"], input=done.stdout, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "offered"),
    [("etcdpyctl member re", {"plain,remove"}), ("etcdpyctl user add --no", {"plain,--no-password"})],
)
def test_completion_offers_commands_and_flags_without_grpcio(words: str, offered: set[str]) -> None:
    count = str(len(words.split()) - 1)
    asked = {"_ETCDCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": count}
    assert set(run([], **asked).stdout.split()) == offered
    script = "import sys; from etcdpy.ctl.__main__ import run; run(); sys.exit('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, **asked}, capture_output=True, check=False)
    assert done.returncode == 0
