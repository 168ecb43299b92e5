"""`etcdpy` as a command: version, help, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from etcdpy.__main__ import main
from etcdpy.server.flag_table import redacted

TEXT = "etcd Version: 3.7.3\n"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ETCD_")]:
        monkeypatch.delenv(name)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(TEXT)
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "etcd Version",
        "Git SHA",
        "Python Version",
        "OS/Arch",
    ]


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    from etcdpy.server.flag_table import BY_GROUP

    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for group, flags in BY_GROUP.items():
        assert f"\n{group}\n" in out
        for flag in flags:
            assert f"--{flag.name} " in out
    assert "Example" in out
    assert max(map(len, out.splitlines())) <= 120


def test_an_unreadable_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--nope"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("flag provided but not defined: -nope\nUsage:\n")


def test_an_unusable_configuration(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--heartbeat-interval=0"]) == 1
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert (last["msg"], last["error"]) == ("failed to verify flags", "--heartbeat-interval must be >0 (set to 0ms)")


def test_flag_and_variable(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "a")
    assert main(["--name=a"]) == 1
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert "conflicting environment variable" in last["msg"]
    assert last["environment-variable"] == "ETCD_NAME"


def test_an_output_that_cannot_be_opened(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--log-outputs=/no/such/directory/log"]) == 1
    assert "--log-outputs: open /no/such/directory/log" in capfd.readouterr().err


def test_secrets_are_not_in_the_log() -> None:
    words = [
        "--discovery-password",
        "hunter2",
        "--discovery-user=root:hunter2",
        "-discovery-password=hunter2",
        "--name=a",
    ]
    assert redacted(words) == [
        "--discovery-password",
        "***",
        "--discovery-user=***",
        "-discovery-password=***",
        "--name=a",
    ]


HEAVY = ("asyncio", "click", "cryptography", "google", "grpc", "prometheus_client", "rich", "ssl", "uvloop", "yaml")


def test_the_version_comes_at_once() -> None:
    # 70 ms measured on an idle machine, 150 ms allowed. What would break that is an import, and imports, unlike times,
    # are the same however busy the machine is.
    program = (
        "import sys; from etcdpy.__main__ import main; main(['--version']); "
        f"sys.exit(', '.join(name for name in {HEAVY} if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(TEXT)
