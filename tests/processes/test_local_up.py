"""`make up`'s tool, as a new user meets it."""

from __future__ import annotations

import os
import pty
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdpy.commandline import Failure
from etcdpy.local.member import check_ports, running_pid
from etcdpy.local.place import PORT_STEP, Place
from etcdpy.local.show import curl_text, flags_text, python_text
from tests.support.cluster import kept_port
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Local:
    """One directory of `python -m etcdpy.local`, and its runs."""

    place: Place
    runs: list[subprocess.Popen[str]] = field(default_factory=list)

    def command(self, verb: str, *more: str) -> list[str]:
        words = [sys.executable, "-m", "etcdpy.local", verb, f"--dir={self.place.directory}", *more]
        if verb == "up":
            words += [f"--client-port={self.place.client_port}", f"--peer-port={self.place.peer_port}"]
        return words

    def up(self) -> subprocess.Popen[str]:
        """In the foreground, until it has said how to talk to it."""
        run = subprocess.Popen(
            self.command("up"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.runs.append(run)
        seen = ""
        assert run.stdout is not None
        for line in run.stdout:
            seen += line
            if "kvs[0].value" in line:
                return run
        raise AssertionError(f"ended early:\n{seen}")

    def finish(self, verb: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """To its end."""
        return subprocess.run(
            self.command(verb, *more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **environment},
        )

    def processes(self) -> list[int]:
        """Every process that has this directory in its command line."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and os.fsencode(self.place.directory) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
        return found

    def assert_nothing_left(self) -> None:
        deadline = time.monotonic() + 5
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.05)
        assert not [member.pid_file for member in self.place.members if member.pid_file.exists()]

    def pids(self) -> list[int]:
        """Every member's process; all must run."""
        found = [running_pid(member) for member in self.place.members]
        return [pid for pid in found if pid is not None]


def free_ports() -> tuple[int, int]:
    """The first ports for clients and for peers, such that the other members' are free too."""
    while True:
        client, peer = kept_port(), kept_port()
        try:
            check_ports(Place(Path(), client, peer))
        except Failure:
            continue
        if (client - peer) % PORT_STEP:
            return client, peer


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    one = Local(Place(tmp_path / "local", *free_ports()))
    yield one
    one.finish("down")
    for run in one.runs:
        run.kill()
        run.wait()


def run_text(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(shlex.split(text), capture_output=True, text=True, timeout=30, check=False, cwd=ROOT)


def etcdpyctl(local: Local, words: str) -> str:
    done = run_text(f"{sys.executable} -m etcdpy.ctl {flags_text(local.place)} {words}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_what_is_printed_works_and_a_signal_ends_it(local: Local, stop: signal.Signals) -> None:
    run = local.up()
    assert etcdpyctl(local, "put greeting hello") == "OK\n"
    assert etcdpyctl(local, "get greeting") == "greeting\nhello\n"
    program = subprocess.run(
        [sys.executable, "-c", python_text(local.place)], capture_output=True, text=True, check=True
    )
    assert program.stdout == "b'hello'\n"
    if shutil.which("curl"):
        assert run_text(curl_text(local.place)).stdout == '{"health":"true","reason":""}'
    run.send_signal(stop)
    rest, _ = run.communicate(timeout=20)
    assert rest.endswith("stopped\n")
    assert re.search(r"controller-[012] leader, term \d+, revision \d+, ", rest)
    assert len(re.findall(r"controller-[012] follower, term ", rest)) == 2
    assert run.returncode == 0
    local.assert_nothing_left()


def test_the_readme_says_what_works(local: Local) -> None:
    assert local.finish("up", "--detach").returncode == 0
    readme = (ROOT / "README.md").read_text()
    readme = readme.replace(".local/pki", str(local.place.pki))
    for member, usual in zip(local.place.members, Place(Path(".local")).members, strict=True):
        readme = readme.replace(usual.endpoint, member.endpoint)
    program = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[0]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("b'hello'\n", "")
    assert f'TLS="{flags_text(local.place)}"' in readme
    assert curl_text(local.place) in readme


@pytest.mark.reference
def test_real_etcdctl_talks_to_it_and_strangers_are_refused(local: Local) -> None:
    assert local.finish("up", "--detach").returncode == 0
    etcdctl = reference_binary("etcdctl")
    assert run_text(f"{etcdctl} {flags_text(local.place)} put a b").stdout == "OK\n"
    status = run_text(f"{etcdctl} {flags_text(local.place)} endpoint status").stdout
    first, *others = local.place.members
    assert [line.partition(",")[0] for line in status.splitlines()] == [member.endpoint for member in (first, *others)]
    assert status.count(", true, false, ") == 1
    assert status.count(", false, false, ") == 2
    without = run_text(
        f"{etcdctl} --endpoints={first.endpoint} --cacert={local.place.pki}/ca.pem --command-timeout=1s get a"
    )
    assert without.returncode == 1


def test_detached_it_stays_until_down_and_keeps_all(local: Local) -> None:
    first = local.finish("up", "--detach")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("made ") == 8
    assert etcdpyctl(local, "put kept yes") == "OK\n"
    again = local.finish("up", "--detach")
    assert again.returncode == 1
    first_pid, *_ = pids = local.pids()
    assert again.stderr == f"Error: controller-0 runs already, as process {first_pid}; stop all with: make down\n"
    assert local.finish("down").stdout == f"stopped processes {', '.join(map(str, pids))}\n"
    local.assert_nothing_left()
    assert local.finish("down").stdout == "nothing runs\n"
    second = local.finish("up", "--detach")
    assert "made " not in second.stdout
    assert etcdpyctl(local, "get kept") == "kept\nyes\n"


@pytest.mark.parametrize("which", ["client_port", "peer_port"])
@pytest.mark.parametrize("number", [0, 2])
def test_a_busy_port_gives_one_line(local: Local, which: str, number: int) -> None:
    port = getattr(local.place.members[number], which)
    with socket.create_server(("127.0.0.1", port)):
        done = local.finish("up")
    flag = "--" + which.replace("_", "-")
    mend = f'choose others: make up ARGS="{flag} {getattr(local.place, which) + 10000}"'
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: port {port} on 127.0.0.1 is in use; {mend}\n"
    local.assert_nothing_left()


def test_a_member_that_cannot_start_is_quoted(local: Local) -> None:
    data = local.place.members[1].data
    data.parent.mkdir(parents=True)
    data.write_text("not a directory")
    done = local.finish("up")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: controller-1 ended with status 1:\n")
    local.assert_nothing_left()


def test_two_members_go_on_without_the_third_and_none_ends_the_run(local: Local) -> None:
    run = local.up()
    first, *others = local.pids()
    os.kill(first, signal.SIGKILL)
    assert run.stdout is not None
    for line in run.stdout:
        if line.endswith("controller-0 does not answer\n"):
            break
    endpoints = ",".join(member.endpoint for member in local.place.members[1:])
    flags = flags_text(local.place).replace(local.place.endpoints, endpoints)
    for _ in range(3):  # what was on its way to a leader that is dead is lost, as with etcd
        done = run_text(f"{sys.executable} -m etcdpy.ctl {flags} put still here")
        if done.stdout == "OK\n":
            break
    assert done.stdout == "OK\n", done.stderr
    for pid in others:
        os.kill(pid, signal.SIGKILL)
    rest, _ = run.communicate(timeout=20)
    assert run.returncode == 1
    assert all(f"controller-{number} ended with status -9:" in rest for number in range(3))
    local.assert_nothing_left()


def test_the_members_do_not_outlive_a_killed_run(local: Local) -> None:
    run = local.up()
    run.kill()
    run.wait()
    deadline = time.monotonic() + 10
    while local.processes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_etcds_environment_does_not_reach_them(local: Local) -> None:
    done = local.finish("up", "--detach", ETCD_NAME="other", ETCD_LISTEN_CLIENT_URLS="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    listed = etcdpyctl(local, "member list")
    assert all(f", controller-{number}, " in listed for number in range(3))


def test_an_expired_certificate_is_made_anew(local: Local) -> None:
    assert local.finish("up", "--detach").returncode == 0
    local.finish("down")
    issue = [sys.executable, "-m", "pki", "issue", "--profile", "client", "admin", "--days", "3", "--force"]
    subprocess.run([*issue, "--dir", str(local.place.pki)], check=True, capture_output=True)
    done = local.finish("up", "--detach")
    assert [line for line in done.stdout.splitlines() if line.startswith("made ")] == [
        f"made {local.place.pki}/admin.pem"
    ]


def test_on_a_terminal_it_draws_a_table(local: Local) -> None:
    ours, theirs = pty.openpty()
    run = subprocess.Popen(local.command("up"), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    local.runs.append(run)  # type: ignore[arg-type]  # only to be ended
    seen = b""
    while b"leader" not in seen:
        seen += os.read(ours, 4096)
    assert b"REVISION" in seen
    assert b"controller-2" in seen
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 0
    os.close(ours)
    local.assert_nothing_left()
