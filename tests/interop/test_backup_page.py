"""docs/backup.md does what it says: its commands, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.members import Member
from tests.support.reference import reference_binary

pytestmark = pytest.mark.reference

PAGE = Path(__file__).parents[2] / "docs" / "backup.md"


def commands() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_every_command_of_the_page_works(tmp_path: Path) -> None:
    functions = "\n".join(
        [
            f'etcdctl() {{ {reference_binary("etcdctl")} "$@"; }}',
            f'etcdutl() {{ {reference_binary("etcdutl")} "$@"; }}',
            f'etcdpyutl() {{ {sys.executable} -m etcdpy.utl "$@"; }}',
            f'etcdpy() {{ {sys.executable} -m etcdpy "$@"; }}',
        ]
    )
    with Member("etcdpy", tmp_path) as member, Client.of(member) as client:
        for number in range(50):
            client.put(b"key %d" % number, b"value")
        environment = {**os.environ, "PYTHONPATH": str(PAGE.parents[1]), "ENDPOINT": member.endpoint}
        script = "\n".join(["set -e", functions, *commands()])
        shell = ["bash", "-c", script]
        done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(commands()) == 4
    assert "│" in done.stdout
    assert "etcdpy_backup_last_run_success 1" in done.stdout
    assert done.stdout.rstrip().endswith('"sound":true}')
    assert (tmp_path / "new" / "m2" / "member" / "snap" / "db").exists()
