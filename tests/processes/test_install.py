"""The install script, run for real under a prefix."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from etcdpy import VERSION
from tests.support.built import reason_not_to_compile

ROOT = Path(__file__).resolve().parents[2]


def install(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "deploy" / "install.sh"), *arguments]
    environment = {**os.environ, **environment}
    environment.pop("PYTHONPATH", None)  # else the sources might run in place of what was installed
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, env=environment, capture_output=True, text=True, check=False
    )


def output(program: Path, *arguments: str) -> str:
    environment = {"PATH": "/usr/bin:/bin"}  # as bare as a service's
    return subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.timeout(900)  # the first run compiles
def test_it_installs_and_a_second_run_keeps_settings(tmp_path: Path) -> None:
    first = install("--no-user", "--prefix", str(tmp_path), ETCDPY_OPTIMIZE="0")
    assert first.returncode == 0, first.stderr
    kind = "not compiled" if reason_not_to_compile() else "compiled"
    assert f"installed, {kind}: etcd Version: {VERSION}\n" in first.stdout
    programs = tmp_path / "usr/local/bin"
    assert output(programs / "etcdpy", "--version").startswith(f"etcd Version: {VERSION}\n")
    assert output(programs / "etcdpyctl", "version").startswith(f"etcdctl version: {VERSION}\n")
    assert output(programs / "etcdpyutl", "version").startswith(f"etcdutl version: {VERSION}\n")
    (tmp_path / "cluster.yaml").write_text("nodes: {m1: {address: 10.0.0.1}}\n")
    units = ["systemd", "render", str(tmp_path / "cluster.yaml"), "--out", str(tmp_path / "units")]
    assert "m1/etc/systemd/system/etcdpy.service\n" in output(programs / "etcdpy", *units)
    assert (tmp_path / "var/lib/etcdpy").stat().st_mode & 0o777 == 0o700
    settings = tmp_path / "etc/etcdpy/etcdpy.env"
    assert settings.stat().st_mode & 0o777 == 0o640

    settings.write_text("ETCD_NAME=mine\n")
    second = install("--no-user", "--prefix", str(tmp_path), ETCDPY_COMPILE="0")
    assert second.returncode == 0, second.stderr
    assert "installed, not compiled: " in second.stdout, "no extension module of the first is left"
    assert "making the environment" not in second.stdout
    assert settings.read_text() == "ETCD_NAME=mine\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope"], "unknown argument --nope"),
        (["--prefix"], "--prefix needs a directory"),
        (["--no-user", "--python", "/nowhere/python"], "choose one with --python"),
    ],
)
def test_it_refuses_with_a_reason(arguments: list[str], text: str) -> None:
    done = install(*arguments)
    assert done.returncode != 0
    assert text in done.stderr


def test_the_settings_to_start_from_are_flags_of_ours() -> None:
    from etcdpy.server.config import load

    lines = (ROOT / "deploy/etcdpy.env.example").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    config = load([], settings)
    assert config.name == "controller-0"
    assert not [note for note in config.notes if "unrecognized" in str(note)], config.notes
