"""`ansible/roles/etcdpy/action_plugins/etcdpy_command.py`: what a host's shell reads for a task."""

from __future__ import annotations

import importlib.util
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.built import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

PLUGIN = ROOT / "ansible/roles/etcdpy/action_plugins/etcdpy_command.py"


@pytest.fixture(scope="module")
def plugin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("etcdpy_command", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: str) -> tuple[int, str]:
    done = subprocess.run(["/bin/sh"], input=script, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"argv": ["echo", "it's $HOME", 1, "a  b"]}, 0, "it's $HOME 1 a  b\n"),
        ({"cmd": "cat; pwd; exit 3", "stdin": "it's\n$two", "chdir": "/usr"}, 3, "it's\n$two/usr\n"),
        ({"cmd": "cat"}, 0, ""),
        ({"cmd": "echo run", "creates": "/usr"}, 0, "etcdpy_command: that is so already\n"),
        ({"cmd": "echo run", "creates": "/nowhere"}, 0, "run\n"),
        ({"cmd": "echo run", "removes": "/nowhere"}, 0, "etcdpy_command: that is so already\n"),
        ({"cmd": "echo run", "removes": "/usr"}, 0, "run\n"),
        ({"cmd": "echo run", "chdir": "/nowhere"}, 2, ""),
    ],
)
def test_commands_run_as_they_are_written(plugin: ModuleType, given: dict[str, Any], status: int, said: str) -> None:
    assert run(plugin.script_of(given, check_mode=False)) == (status, said)


def test_in_check_mode_it_is_looked_whether_something_would_be_done(plugin: ModuleType) -> None:
    assert run(plugin.script_of({"cmd": "echo run", "creates": "/nowhere"}, check_mode=True)) == (0, "")
    assert plugin.NOT_NEEDED in run(plugin.script_of({"cmd": "echo run", "creates": "/usr"}, check_mode=True))[1]


def test_half_of_what_is_sent_does_nothing(plugin: ModuleType, tmp_path: Path) -> None:
    script = plugin.script_of({"cmd": "touch a\ntouch b", "chdir": str(tmp_path)}, check_mode=False)
    for length in range(len(script) - 2):
        run(script[:length])
        assert not list(tmp_path.iterdir()), script[:length]
    assert run(script)[0] == 0
