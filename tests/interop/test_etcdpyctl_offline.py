"""What `etcdpyctl` does with files: a snapshot saved and looked at in the old place, completion, a stopped member."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.members import Member
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
