"""Commands that go on until they are ended: the same output of etcdctl and etcdpyctl on real etcd, and of etcdctl on
etcdpy. Where several take part, both tools do, on either server.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.members import KINDS, Member
from tests.support.running_tools import RunningTool
from tests.support.transcripts import ID, Tool, run_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Kind

pytestmark = pytest.mark.reference

TOOLS: Final[tuple[Tool, ...]] = ("etcdctl", "etcdpyctl")
SIDES: Final[tuple[tuple[Tool, Kind], ...]] = (("etcdctl", "etcd"), ("etcdpyctl", "etcd"), ("etcdctl", "etcdpy"))


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Member]]:
    with ExitStack() as stack:
        yield {kind: stack.enter_context(Member(kind, tmp_path_factory.mktemp(kind))) for kind in KINDS}


@pytest.fixture(params=KINDS)
def member(members: dict[Kind, Member], request: pytest.FixtureRequest) -> Member:
    return members[request.param]


def control(member: Member, *words: str) -> None:
    """Real etcdctl, quickly, from the side."""
    ran = run_tool("etcdctl", list(words), {"ETCDCTL_ENDPOINTS": member.endpoint}, "")
    assert ran.status == 0, ran


def masked(text: str) -> str:
    return ID.sub("<id>", text)


WATCHES: Final = [
    (("watch", "w", "--rev=1"), "DELETE\nw\n"),
    (("watch", "w", "z", "--rev=1", "--prev-kv"), "of it"),
    (("watch", "--prefix", "w", "--rev=1", "--hex"), r"\x69\x74"),
    (("watch", "--prefix", "", "--rev=2", "--prev-kv"), "of it"),
    (("watch", "w", "--rev=1", "-w", "json"), '"type":1'),
    (("watch", "w", "--rev=1", "--prev-kv", "-w", "fields"), '"Type" : DELETE'),
    (("watch", "w", "--rev=1", "--", "sh", "-c", "env | grep ETCD_WATCH_ | sort"), '_TYPE="DELETE"'),
    (("watch", "w", "wz", "--rev", "3", "--", "sh", "-c", "echo saw $ETCD_WATCH_KEY"), 'saw "wend"'),
    (("watch", "--rev=1", "w", "wz"), "of it"),
    (("wat", "w", "--rev=1"), "DELETE\nw\n"),
    (("watch", "w", "wz", "one too many", "--rev=1"), "DELETE\nw\n"),
]


@pytest.fixture(scope="module")
def history(members: dict[Kind, Member]) -> None:
    for words in (["put", "w", "1"], ["put", "w", '2 "x"\n\xff'], ["del", "w"], ["put", "wend", "of it"]):
        for member in members.values():
            control(member, *words)


@pytest.mark.usefixtures("history")
def test_watches_print_the_same(members: dict[Kind, Member]) -> None:
    with ExitStack() as stack:
        # All at once: each must start Python.
        tools = [
            [stack.enter_context(RunningTool(tool, members[kind].endpoint, *words)) for tool, kind in SIDES]
            for words, _ in WATCHES
        ]
        for (words, end), running in zip(WATCHES, tools, strict=True):
            expected, *shown = (masked(each.read_until(end)) for each in running)
            assert shown == [expected] * len(shown), words


INTERACTIVE: Final = """\
bogus

watch
watch w --rev=1 --prev-kv
progress
watch "w" 'wz' --rev=4 --progress-notify
watch compacted --rev=1 --bogus
"""


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("form", "deleted", "last"), [("simple", "DELETE\n", "of it"), ("json", '"type":1', "b2YgaXQ=")]
)
def test_interactive_watches_print_the_same(members: dict[Kind, Member], form: str, deleted: str, last: str) -> None:
    ends = []
    for tool, kind in SIDES:
        with RunningTool(tool, members[kind].endpoint, "watch", "-i", "-w", form) as running:
            lines = INTERACTIVE.splitlines(keepends=True)
            for line in lines[:4]:
                running.type(line)
            running.read_until(deleted)
            running.type(lines[4])
            running.read_until("progress notify: 5")
            running.type(lines[5])
            running.read_until(last)
            running.type(lines[6])
            status, out, err = running.wait_ended()
            ends.append((status, masked(out), err))
    assert ends[1:] == ends[:1] * 2
    assert ends[0][0] == 128


@pytest.mark.usefixtures("history")
def test_an_interactive_watch_ends_with_its_input_and_with_its_command(members: dict[Kind, Member]) -> None:
    ends = []
    for tool, kind in SIDES:
        endpoint = members[kind].endpoint
        with RunningTool(tool, endpoint, "watch", "-i", ETCDCTL_WATCH_KEY="w") as running:
            ends.append(running.wait_ended())
        with RunningTool(tool, endpoint, "watch", "-i", ETCDCTL_WATCH_KEY="w") as running:
            running.type("watch --rev=1 -- sh -c 'echo $ETCD_WATCH_VALUE; exit 5'\n")
            running.read_until('"1"')
            running.process.wait(10)
            ends.append(running.wait_ended())
    assert ends[2:] == ends[:2] * 2
    assert [status for status, _, _ in ends[:2]] == [3, 1]


def leases(member: Member) -> int:
    ran = run_tool("etcdctl", ["lease", "list"], {"ETCDCTL_ENDPOINTS": member.endpoint}, "")
    return int(ran.out.split()[1])


@pytest.mark.parametrize("first", TOOLS)
def test_a_lock_is_handed_from_one_tool_to_the_other(member: Member, first: Tool) -> None:
    second: Tool = "etcdpyctl" if first == "etcdctl" else "etcdctl"
    with RunningTool(first, member.endpoint, "lock", "handed") as holder:
        assert masked(holder.read_until("handed/")).rstrip() == "handed/<id>"
        script = "echo $ETCD_LOCK_KEY; exit 3"
        with RunningTool(second, member.endpoint, "lock", "handed", "--", "sh", "-c", script) as waiter:
            wait_for_keys(member, "handed/", 2)
            holder.interrupt()
            assert holder.wait_ended()[0] == 0
            waiter.read_until("handed/")
            status, out, err = waiter.wait_ended()
    assert (status, masked(out), err) == (3, "handed/<id>\n", "Error: exit status 3")


def wait_for_keys(member: Member, prefix: str, count: int) -> None:
    give_up = time.monotonic() + 10
    while len(keys(member, prefix)) != count:
        assert time.monotonic() < give_up
        time.sleep(0.02)


def keys(member: Member, prefix: str) -> dict[str, str]:
    ran = run_tool("etcdctl", ["get", "--prefix", prefix], {"ETCDCTL_ENDPOINTS": member.endpoint}, "")
    lines = ran.out.decode().splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=True))


def test_who_waits_for_a_lock_can_be_interrupted(member: Member) -> None:
    with RunningTool("etcdctl", member.endpoint, "lock", "kept") as holder:
        holder.read_until("kept/")
        ends = []
        for tool in TOOLS:
            with RunningTool(tool, member.endpoint, "lock", "kept") as waiter:
                wait_for_keys(member, "kept/", 2)
                waiter.interrupt()
                ends.append(waiter.wait_ended())
            wait_for_keys(member, "kept/", 1)
    assert ends[0] == ends[1] == (1, "", "Error: context canceled")


def test_a_lock_whose_lease_is_revoked_is_lost(members: dict[Kind, Member]) -> None:
    ends = []
    for tool, kind in SIDES:
        member = members[kind]
        with RunningTool(tool, member.endpoint, "lock", "lost", "--ttl=2") as holder:
            lease = holder.read_until("lost/").splitlines()[0].partition("/")[2]
            control(member, "lease", "revoke", lease)
            status, _, err = holder.wait_ended()
            ends.append((status, err))
    assert ends == [(1, "Error: session expired")] * len(SIDES)


LEADERS: Final = {"simple": ("one", "two"), "json": ("b25l", "dHdv"), "fields": ('"Count"', '"two"')}
"""Proposals as each format shows them."""


@pytest.mark.parametrize("leader", TOOLS)
def test_an_election_is_seen_by_both_tools(member: Member, leader: Tool) -> None:
    name = f"election-{leader}"
    with ExitStack() as stack:
        first = stack.enter_context(RunningTool(leader, member.endpoint, "elect", name, "one"))
        observers = [
            stack.enter_context(RunningTool(tool, member.endpoint, "elect", "-l", name, "-w", form))
            for form in LEADERS
            for tool in TOOLS
        ]
        assert masked(first.read_until("one")).rstrip() == f"{name}/<id>\none"
        other: Tool = "etcdpyctl" if leader == "etcdctl" else "etcdctl"
        second = stack.enter_context(RunningTool(other, member.endpoint, "elect", name, "two"))
        wait_for_keys(member, f"{name}/", 2)
        shown = [LEADERS[form] for form in LEADERS for _ in TOOLS]
        for observer, (text, _) in zip(observers, shown, strict=True):
            observer.read_until(text)
        first.interrupt()
        assert first.wait_ended()[0] == 0
        second.read_until("two")
        # Who asks at once after the leader is gone may be told of a revision before the end of its lease.
        seen = [
            re.sub(r'("[rR]evision" ?: ?)\d+', r"\1<number>", masked(observer.read_until(text)))
            for observer, (_, text) in zip(observers, shown, strict=True)
        ]
        for running in (*observers, second):
            running.interrupt()
        assert {running.wait_ended()[0] for running in (*observers, second)} == {0}
    assert seen[::2] == seen[1::2]


def test_a_lease_is_kept_alive_until_it_is_revoked(members: dict[Kind, Member]) -> None:
    shown = []
    for tool, kind in SIDES:
        member = members[kind]
        ran = run_tool("etcdctl", ["lease", "grant", "3"], {"ETCDCTL_ENDPOINTS": member.endpoint}, "")
        lease = ran.out.split()[1].decode()
        with RunningTool(tool, member.endpoint, "lease", "keep-alive", lease) as keeper:
            keeper.read_until(f"lease {lease} keepalived with TTL(3)\nlease {lease} keepalived")
            control(member, "lease", "revoke", lease)
            status, out, err = keeper.wait_ended()
            shown.append((status, masked(out).splitlines()[0], masked(out).splitlines()[-1], err))
    assert shown[1:] == shown[:1] * 2


MIRRORS: Final = {
    "plain": ["--prefix", "src/"],
    "renamed": ["--prefix", "src/", "--dest-prefix", "copy/"],
    "root": ["--prefix", "src/", "--no-dest-prefix", "--max-txn-ops=1"],
    "all": ["--dest-prefix", "all/"],
}


def test_mirrors_copy_the_same(member: Member, tmp_path_factory: pytest.TempPathFactory) -> None:
    run_tool("etcdctl", ["del", "--prefix", ""], {"ETCDCTL_ENDPOINTS": member.endpoint}, "")
    for number in range(3):
        control(member, "put", f"src/{number}", f"value {number}")
    with ExitStack() as stack:
        there = [Member("etcd", tmp_path_factory.mktemp("mirror")).launch() for _ in TOOLS]
        for tool, copy in zip(TOOLS, there, strict=True):
            stack.callback(copy.stop)
            copy.wait_ready()
            for words in MIRRORS.values():
                stack.enter_context(RunningTool(tool, member.endpoint, "make-mirror", *words, copy.endpoint))
        for copy in there:
            wait_for_keys(copy, "", 12)
        control(member, "put", "src/new", "a new one")
        control(member, "del", "src/1")
        run_tool(
            "etcdctl", ["txn"], {"ETCDCTL_ENDPOINTS": member.endpoint}, "\nput src/a 1\nput src/b 2\ndel src/2\n\n\n"
        )
        for copy in there:
            wait_for_keys(copy, "", 16)
        theirs, ours = (keys(copy, "") for copy in there)
    assert ours == theirs
    assert {"src/a", "copy/new", "0", "all/src/b"} <= ours.keys()
