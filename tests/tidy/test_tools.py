"""Linters and checkers have nothing to say, and each would say it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.sources import ROOT, repository_files


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, input=text or "", capture_output=True, text=True, check=False)


def ruff(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "ruff", *arguments, text=text)


def test_ruff_check_is_clean() -> None:
    done = ruff("check", "--output-format=concise")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_format_is_clean() -> None:
    done = ruff("format", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("D100", "x = 1\n"),
        ("D101", '"""Module."""\n\n\nclass Public:\n    x = 1\n'),
        ("D102", '"""Module."""\n\n\nclass Public:\n    """Class."""\n\n    def method(self) -> None: ...\n'),
        ("D103", '"""Module."""\n\n\ndef public() -> None: ...\n'),
        ("F401", '"""Module."""\n\nimport os\n'),
        ("T201", '"""Module."""\n\nprint()\n'),
        ("E501", '"""Module."""\n\n# ' + "x" * 120 + "\n"),
    ],
)
def test_ruff_finds_a_planted_fault(rule: str, text: str) -> None:
    done = ruff("check", "--output-format=concise", "--stdin-filename=etcdpy/planted.py", "-", text=text)
    assert rule in done.stdout, done.stdout + done.stderr


@pytest.mark.timeout(600)  # about a minute with a cold cache on one core
def test_mypy_is_clean() -> None:
    done = run(sys.executable, "-m", "mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def untyped(x):\n    return x\n\n\nnumber: int = 'text'\n")
    done = run(sys.executable, "-m", "mypy", f"--cache-dir={tmp_path}", str(planted))
    assert "[no-untyped-def]" in done.stdout, done.stdout + done.stderr
    assert "[assignment]" in done.stdout, done.stdout


def tool(name: str) -> str:
    """A program, of this environment or of the machine; without it the test is skipped, and in CI it fails."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {name}")
    return found or pytest.skip(f"{name} is not installed")


def is_shell(name: str) -> bool:
    path = ROOT / name
    return name.endswith(".sh") or (path.stat().st_mode & 0o100 != 0 and path.read_bytes()[:64].find(b"bash") > 0)


def test_shell_scripts_are_clean() -> None:
    scripts = [name for name in repository_files() if is_shell(name)]
    assert ".ci/run" in scripts
    done = run(tool("shellcheck"), *scripts)
    assert done.returncode == 0, done.stdout + done.stderr


def test_shellcheck_finds_a_planted_fault() -> None:
    done = run(tool("shellcheck"), "--shell=bash", "-", text="rm -rf $1/x\n")
    assert "SC2086" in done.stdout


def hadolint(*arguments: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return run(tool("hadolint"), *arguments, text=text)


def test_the_dockerfile_is_clean() -> None:
    done = hadolint("deploy/Dockerfile")
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_finds_a_planted_fault() -> None:
    assert "DL3006" in hadolint("-", text="FROM debian\n").stdout


def compose_faults(*files: str) -> subprocess.CompletedProcess[str]:
    """What the schema of the Compose specification says."""
    return run(tool("check-jsonschema"), "--builtin-schema=vendor.compose-spec", *files)


def test_compose_files_are_as_the_specification_says() -> None:
    done = compose_faults("deploy/compose.yaml", "deploy/compose.join.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_finds_a_planted_fault(tmp_path: Path) -> None:
    planted = tmp_path / "compose.yaml"
    planted.write_text("services: {etcd0: {image: etcdpy, comand: [--name=etcd0]}}\n")
    assert "'comand' was unexpected" in compose_faults(str(planted)).stdout
