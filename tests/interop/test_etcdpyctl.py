"""`etcdpyctl` beside real etcdctl, both on real etcd: the same command lines, the same output and exit status.

Each tool has a member of its own, started empty; what differs by nature (ids, ports, spans of time) is masked.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from etcdpy.ctl.__main__ import run as run_here
from tests.support.members import Member
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.reference

# What follows a line break is standard input.
SCRIPT = """\
version
version -w json
put foo bar
put foo baz --prev-kv
put foo qux --prev-kv -w json
put --hex --prev-kv foo bar
put from-stdin\nline one\nline two\n
put
put only-a-key
put "" value
put --ignore-value foo
put --ignore-value foo extra
put --ignore-value absent
put --ignore-lease absent x
put foo x --lease=5
put foo x --lease zz
put html "<&>\u2028é"
put -- -dash --double-dash
get foo
get foo bar ignored
ge foo
get foo --hex
get foo --hex=false
get foo -w json
get -w=json foo
get -wjson foo
-w json get html
get nope
get nope -w json
get "" --prefix
get "" --from-key --keys-only
get f --prefix --print-value-only
get f --prefix --limit 1 -w json
get f --prefix --keys-only -w json
get f --prefix --sort-by=MODIFY --order DESCEND
get f --prefix --sort-by=value --order=ascend
get a z --sort-by=VERSION
get a z --consistency=s
get f --prefix --min-mod-rev=4
get f --prefix --max-mod-rev=4
get f --prefix --min-create-rev=3 --max-create-rev=0x10 -w json
get f --prefix --min-mod-rev=4 --max-mod-rev=2
get f --prefix --stream
get f --prefix --stream -w json
get foo --rev=2
get foo --rev=1000
get foo --order=NOPE
get foo --sort-by=NOPE
get foo --consistency=x
get foo --prefix --from-key
get foo --keys-only --count-only
get foo zoo --prefix
get foo --count-only
get foo --print-value-only -w json
get
get foo -w bogus
get foo -w table
get foo --cacert ""
get foo --cacert /nowhere/ca.pem
get foo --cert a.pem
get foo --command-timeout=10s --dial-timeout=1s
bogus
del foo --prev-kv
del foo
del foo -w json
del
del a z --prefix
del f --prefix --prev-kv -w json
del a b --range
del "" --prefix
member list
member list -w json
member list --hex -w json
member list --consistency=s
member list ignored
endpoint status
endpoint status -w json
endpoint health
endpoint health -w json
endpoint health --cluster
endpoint status --cluster
endpoint status -w protobuf
"""
STEPS = SCRIPT.replace("put from-stdin\nline one\nline two\n", "put from-stdin|line one|line two").strip().split("\n")

# Of these only the first line is etcdctl's: the usage that follows is our own.
REFUSED = [
    "get foo --bogus",
    "get foo --limit x",
    "get foo --limit 99999999999999999999",
    "get foo --command-timeout x",
    "get foo --dial-timeout 1x",
    "get foo --hex=maybe",
    "get foo --limit",
    "--bogus=1 get foo",
]

MASKS = [
    (re.compile(r"took = [0-9.]+(ms|µs|s)"), "took = <span>"),
    (re.compile(r'"took":"[0-9.]+(ms|µs|s)"'), '"took":"<span>"'),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"\b[0-9a-f]{14,16}\b|\b\d{16,20}\b"), "<id>"),
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


def test_a_session_reads_the_same(
    members: dict[str, Member], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in STEPS:
        line, _, stdin = step.replace("|", "\n").partition("\n")
        theirs = run("etcdctl", words_of(line), stdin=stdin, ETCDCTL_ENDPOINTS=members["etcdctl"].endpoint)
        # Ours runs in this process, because eighty starts would take most of a minute; the other tests start it.
        monkeypatch.setenv("ETCDCTL_ENDPOINTS", members["ours"].endpoint)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        status = run_here(words_of(line))
        shown = capsys.readouterr()
        assert masked(shown.out) == masked(theirs.stdout), line
        assert masked(shown.err) == masked(complaints(theirs.stderr)), line
        assert status == theirs.returncode, line


@pytest.mark.parametrize("line", REFUSED)
def test_a_bad_command_line_is_refused_alike(line: str) -> None:
    theirs, ours = (run(tool, words_of(line)) for tool in COMMANDS)
    assert ours.stderr.splitlines()[0] == theirs.stderr.splitlines()[0]
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)


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


def test_a_get_is_quick(members: dict[str, Member]) -> None:
    spans = []
    for _ in range(5):
        begun = time.monotonic()
        assert run("ours", ["get", "foo", f"--endpoints={members['ours'].endpoint}"]).returncode == 0
        spans.append(time.monotonic() - begun)
    assert min(spans) < 0.4, spans
