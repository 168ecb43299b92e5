"""Real etcdctl against both servers: the same commands in the same order, the same output and exit status.

Each script runs on real etcd and on the server under test, both started empty, and is compared step by step.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.members import Kind, Member
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

pytestmark = pytest.mark.reference

# A step is a command line; what follows a line break is its standard input. {lease} is the lease granted last.
SCRIPTS = {
    "keys": [
        "put foo bar",
        "put foo baz --prev-kv",
        "put --ignore-value foo",
        "put --ignore-value absent",
        "put foo --ignore-value extra",
        "put",
        "put from-stdin\na value\n",
        "get foo",
        "get foo -w json",
        "get foo -w fields",
        "get foo -w simple --print-value-only",
        "get foo --hex",
        "get nope",
        "get --prefix f",
        "get --prefix f --keys-only",
        "get --prefix f --keys-only -w json",
        "get --prefix f --count-only -w fields",
        "get --prefix f --count-only",
        "get a z --order=DESCEND --sort-by=MODIFY",
        "get a z --order=ASCEND --sort-by=VALUE --limit=1 -w json",
        "get '' --from-key --limit=1 -w json",
        "get '' --prefix --consistency=s",
        "get --prefix f --stream",
        "get --prefix f --stream -w json",
        "get foo --rev=2",
        "get foo --rev=1000",
        "get --prefix f --min-mod-rev=4 -w json",
        "get foo --order=NOPE",
        "del foo --prev-kv",
        "del nope",
        "del --prefix from",
        "del '' --from-key",
        "endpoint hashkv",
        "compact 3",
        "compact 3",
        "compact 1000",
        "compact nope",
        "get foo --rev=2",
        "endpoint hashkv --rev=2",
        "endpoint hashkv",
        "compact 5 --physical",
        "nonsense",
    ],
    "transactions": [
        'txn\nversion("a") = "0"\n\nput a 1\nget a\n\nget a\n\n',
        'txn\nversion("a") = "0"\n\nput a 2\n\nget a\ndel a\n\n',
        'txn -w json\nmod("a") > "100"\nvalue("a") = "x"\n\nput a 3\n\nget a\n\n',
        'txn\ncreate("a") = "0"\n\nput a "with spaces"\nput b "x"\n\n\n',
        "txn\n\nput a 1\nput a 2\n\n\n",
        "txn\n\nput a 1\ndel a z\n\n\n",
        'txn\nlease("a") = "0"\n\nget a z\n\n\n',
        "get '' --prefix -w json",
    ],
    "leases": [
        "lease grant 100",
        "lease list",
        "put leased x --lease={lease}",
        "get leased -w json",
        "lease timetolive {lease}",
        "lease timetolive {lease} --keys",
        "lease timetolive {lease} --keys -w json",
        "lease keep-alive --once {lease}",
        "lease keep-alive --once 1",
        "lease revoke {lease}",
        "lease revoke {lease}",
        "lease timetolive {lease}",
        "lease timetolive zzz",
        "lease list",
        "lease list -w json",
        "get leased",
        "put leased x --lease=1234",
        "lease grant",
        "lease grant abc",
        "lease grant 0",
        "lease grant 9000000001",
    ],
    "users": [
        "auth status",
        "auth enable",
        "user add root:pw",
        "user add root:pw",
        "user add --no-password bare",
        "user add :nobody",
        "user add u --interactive=false\nu's\n",
        "user list",
        "user list -w json",
        "user grant-role u nope",
        "role add r",
        "role add r",
        "role add q",
        "role list",
        "role grant-permission r read a c",
        "role grant-permission r write b",
        "role grant-permission r readwrite --prefix k/",
        "role grant-permission r readwrite z --from-key",
        "role grant-permission r read b a",
        "role grant-permission nope read a",
        "role grant-permission r nonsense a",
        "role get r",
        "role get r -w json",
        "role get nope",
        "role revoke-permission r a b",
        "role revoke-permission r b",
        "role get r",
        "user grant-role u r",
        "user grant-role u r",
        "user grant-role u q",
        "user get u",
        "user get u --detail",
        "user get u -w json",
        "user get nope",
        "user revoke-role u q",
        "user revoke-role u q",
        "auth enable",
        "auth status",
        "get a",
        "--user root:pw auth status",
        "--user root:pw auth status -w json",
        "--user root:pw role get root",
        "--user root:wrong get a",
        "--user nope:pw get a",
        "--user bare:x get a",
        "--user root --password pw put a 1",
        "--user u:u's get a",
        "--user u:u's get a c",
        "--user u:u's get a d",
        "--user u:u's get b --prefix",
        "--user u:u's put a 2",
        "--user u:u's put k/1 2",
        "--user u:u's put zz 2",
        "--user u:u's del k/ --prefix",
        "--user u:u's get '' --from-key",
        "--user u:u's user list",
        "--user u:u's user get u",
        "--user u:u's user get root",
        "--user u:u's role get r",
        "--user u:u's role list",
        "--user u:u's compact 1",
        "--user u:u's lease grant 100",
        "--user u:u's put k/2 x --lease={lease}",
        "--user u:u's lease timetolive {lease} --keys",
        "--user u:u's lease list",
        "--user u:u's lease revoke {lease}",
        "--user u:u's endpoint status",
        "--user u:u's alarm list",
        "--user u:u's alarm disarm",
        "--user u:u's defrag",
        "--user u:u's member list",
        "--user u:u's member remove 1",
        "--user u:u's move-leader 1",
        "--user u:u's endpoint hashkv",
        "--user root:pw user passwd u --interactive=false\nnew\n",
        "--user u:u's put k/1 3",
        "--user u:new put k/1 3",
        "--user root:pw role delete r",
        "--user root:pw role delete r",
        "--user root:pw user get u",
        "--user u:new put k/1 3",
        "--user root:pw user delete u",
        "--user root:pw user delete u",
        "--user root:pw user delete root",
        "--user root:pw role delete root",
        "--user root:pw user revoke-role root root",
        "--user u:new get k/1",
        "--user root:pw get '' --prefix",
        "--user root:pw auth disable",
        "--user root:pw get a",
        "auth disable",
        "get a",
    ],
    "members": [
        "member list",
        "member list -w table",
        "member list -w json",
        "member list -w fields",
        "endpoint health",
        "endpoint health -w json",
        "endpoint status",
        "endpoint status -w table",
        "endpoint status -w json",
        "alarm list",
        "alarm disarm",
        "defrag",
        "version",
        "check datascale --help",
    ],
}


@dataclass(frozen=True)
class Ran:
    status: int
    output: str
    error: str


class Shell:
    """etcdctl on one member, or on a proxy before it, with what differs between members taken out of its output."""

    def __init__(self, member: Member, endpoint: str = "") -> None:
        self.member = member
        self.endpoint = endpoint or member.endpoint
        self.lease = "0"
        self._ids: dict[str, str] = {}

    def run(self, step: str) -> Ran:
        line, newline, text = step.partition("\n")
        arguments = [word.replace("{lease}", self.lease).replace("''", "") for word in line.split()]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
        done = subprocess.run(
            [str(reference_binary("etcdctl")), f"--endpoints={self.endpoint}", *arguments],
            input=text if newline else "",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=environment,
        )
        if granted := re.match(r"lease ([0-9a-f]{16}) granted", done.stdout):
            self.lease = granted[1]
        errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
        return Ran(done.returncode, self._normal(done.stdout), self._normal("\n".join(errors)))

    def _named(self, found: re.Match[str]) -> str:
        return self._ids.setdefault(found[0], f"id{len(self._ids)}")

    def _normal(self, text: str) -> str:
        text = text.replace(self.endpoint, "ENDPOINT").replace(self.member.endpoint, "ENDPOINT")
        text = text.replace(f"127.0.0.1:{self.member.peer_port}", "PEER")
        text = re.sub(r"\b[0-9a-f]{15,16}\b|\b\d{17,20}\b", self._named, text)
        text = re.sub(r"took[ =:\"]+[\d.]+[mµn]?s", "took TIME", text)
        text = re.sub(r"\d+(\.\d+)? ?[kMG]?B\b", "SIZE", text)
        text = re.sub(r"remaining\(\d+s\)", "remaining(TIME)", text)
        text = re.sub(r'"(ttl|raft_term|raftTerm|raftIndex|raftAppliedIndex|dbSize|dbSizeInUse)":\d+', r'"\1":N', text)
        # Columns of `endpoint status`: percentage not in use, term, index, applied index.
        text = re.sub(r"\b\d+%", "PERCENT", text)
        text = re.sub(r"(true|false), \d+, \d+, \d+,", r"\1, N, N, N,", text)
        text = re.sub(r"(true|false) │ +\d+ │ +\d+ │ +\d+ │", r"\1 │ N │ N │ N │", text)
        return re.sub(r"[ ─]+", " ", text)


def assert_same(shells: tuple[Shell, Shell], steps: Iterable[str]) -> None:
    """Every step says the same on the second as on the first."""
    truth, tested = shells
    differences = []
    for step in steps:
        expected, got = truth.run(step), tested.run(step)
        if expected != got:
            differences.append(f"$ etcdctl {step}\n  etcd: {expected}\n  here: {got}")
    assert not differences, "\n".join(differences)


@pytest.fixture(scope="module", params=["etcd", "etcdpy"])
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


@pytest.fixture(params=list(SCRIPTS))
def script(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def shells(kind: Kind, script: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, Shell]]:
    """One on real etcd, one on the server under test."""
    with (
        Member("etcd", tmp_path_factory.mktemp("truth")) as truth,
        Member(kind, tmp_path_factory.mktemp("tested")) as tested,
    ):
        yield Shell(truth), Shell(tested)


def test_same_output_and_exit_status(shells: tuple[Shell, Shell], script: str) -> None:
    assert_same(shells, SCRIPTS[script])


@pytest.mark.parametrize("script", ["watch"])
def test_watch_prints_the_same(shells: tuple[Shell, Shell]) -> None:
    """`watch` runs until it is ended, so it is compared by what it printed by then."""
    printed = []
    for shell in shells:
        for step in ("put w 1", "put w 2", "del w", "put x 3"):
            shell.run(step)
        command = [str(reference_binary("etcdctl")), f"--endpoints={shell.member.endpoint}"]
        with subprocess.Popen(
            [*command, "watch", "w", "z", "--rev=2", "--prev-kv"], stdout=subprocess.PIPE, text=True
        ) as watching:
            assert watching.stdout is not None
            printed.append([watching.stdout.readline() for _ in range(16)])
            watching.terminate()
    assert printed[0] == printed[1]
