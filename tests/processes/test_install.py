"""The install script, run for real under a prefix; members on hosts that boot: tests/hosts/test_install.py."""

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
def test_it_installs_and_does_so_again_when_what_it_is_made_of_has_changed(tmp_path: Path) -> None:
    first = install("--prefix", str(tmp_path), ETCDPY_OPTIMIZE="0")
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
    assert install("--prefix", str(tmp_path), ETCDPY_OPTIMIZE="0").stdout == ""
    second = install("--prefix", str(tmp_path), ETCDPY_COMPILE="0")
    assert second.returncode == 0, second.stderr
    assert "installed, not compiled: " in second.stdout, "no extension module of the first is left"
    assert "making the environment" not in second.stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope"], "unknown argument --nope"),
        (["--prefix"], "--prefix needs a value"),
        (["--prefix", "x", "--python", "/nowhere/python"], "choose one with --python"),
        (["--prefix", "x", "--address", "10.0.0.1"], "--prefix is for the program alone"),
        (["--prefix", "x", "--wheels", "/nowhere"], "/nowhere holds no wheel of etcdpy"),
        (["--address", "10.0.0.1", "--topology", "cluster.yaml"], "one or the other"),
        (["--node", "m1"], "--node and --certificates go with --address or --topology"),
        (["--wait", "long"], "--wait needs a number of seconds, not long"),
    ],
)
def test_it_refuses_with_a_reason(arguments: list[str], text: str) -> None:
    done = install(*arguments)
    assert done.returncode != 0
    assert text in done.stderr
