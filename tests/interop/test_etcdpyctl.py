"""`etcdpyctl` as a process of its own, beside real etcdctl where both must agree (transcripts hold the rest)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.members import Member
from tests.support.reference import reference_binary
from tests.support.transcripts import ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.reference

MASKS = [
    (re.compile(r"took = [0-9.]+(ms|µs|s)"), "took = <span>"),
    (re.compile(r'"took":"[0-9.]+(ms|µs|s)"'), '"took":"<span>"'),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (ID, "<id>"),
    # The two servers were started at different moments, so their raft logs differ by an entry now and then.
    (re.compile(r'"(raftIndex|raftAppliedIndex|raftTerm|raft_term|dbSize|dbSizeInUse)":\d+'), r'"\1":<number>'),
    (re.compile(r"\d+ kB, \d+ kB, \d+%"), "<sizes>"),
    (re.compile(r"\b\d+, \d+, \d+, , , false"), "<term and indexes>, , , false"),
]

COMMANDS = {"etcdctl": lambda: [str(reference_binary("etcdctl"))], "ours": lambda: [sys.executable, "-m", "etcdpy.ctl"]}


def masked(text: str) -> str:
    for pattern, instead in MASKS:
        text = pattern.sub(instead, text)
    return text


def words_of(line: str) -> list[str]:
    words = re.findall(r'"([^"]*)"|(\S+)', line)
    return [quoted or plain for quoted, plain in words]


def run(tool: str, arguments: list[str], *, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    command = [*COMMANDS[tool](), *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=False, timeout=30, env={**clean, **environment}
    )


def complaints(stderr: str) -> str:
    """Standard error without the log lines of Go's client."""
    return "".join(line for line in stderr.splitlines(keepends=True) if not line.startswith('{"level"'))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Member]]:
    place = tmp_path_factory.mktemp("ctl")
    with Member("etcd", place / "theirs") as theirs, Member("etcd", place / "ours") as ours:
        yield {"etcdctl": theirs, "ours": ours}


@pytest.mark.parametrize(
    "line",
    [
        "get foo --command-timeout=300ms",
        "put foo bar --command-timeout=300ms",
        "member list --command-timeout=300ms",
        "endpoint health --command-timeout=300ms",
        "endpoint status --command-timeout=300ms",
        "endpoint status --command-timeout=300ms -w json",
    ],
)
def test_nobody_listens(line: str) -> None:
    theirs, ours = (run(tool, words_of(line), ETCDCTL_ENDPOINTS="127.0.0.1:1") for tool in COMMANDS)
    assert complaints(ours.stderr) == complaints(theirs.stderr)
    assert (ours.returncode, masked(ours.stdout)) == (theirs.returncode, masked(theirs.stdout))


def test_the_first_endpoint_that_answers_serves(members: dict[str, Member]) -> None:
    endpoints = f"127.0.0.1:1,{members['ours'].endpoint}"
    done = run("ours", ["put", "failover", "works", f"--endpoints={endpoints}"])
    assert (done.stdout, done.returncode) == ("OK\n", 0)


def test_flag_and_environment_must_not_both_be_set(members: dict[str, Member]) -> None:
    for tool, member in members.items():
        done = run(tool, ["get", "foo", "--endpoints", member.endpoint], ETCDCTL_ENDPOINTS=member.endpoint)
        assert done.returncode == 1
        assert "ETCDCTL_ENDPOINTS" in done.stderr


def test_bytes_of_any_kind_come_back(members: dict[str, Member], tmp_path: Path) -> None:
    value = bytes(range(256))
    command = [*COMMANDS["ours"](), f"--endpoints={members['ours'].endpoint}"]
    subprocess.run([*command, "put", b"\xff\xfe"], input=value, check=True, capture_output=True)
    done = subprocess.run([*command, "get", b"\xff\xfe"], check=True, capture_output=True)
    assert done.stdout == b"\xff\xfe\n" + value + b"\n"
