"""The same command lines by real etcdctl on real etcd, by `etcdpyctl` on real etcd, and by real etcdctl on etcdpy: the
same output, complaints and exit status.

The command lines stand in transcripts/*.txt. Each side has a server of its own, started empty.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.coverage import real_commands
from tests.support.members import Member
from tests.support.transcripts import FORMATS, Side, Step, differences, scripts
from tests.support.users import FAST_HASHES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Kind
    from tests.support.transcripts import Tool

pytestmark = pytest.mark.reference

SCRIPTS: Final = scripts()
SIDES: Final[dict[str, tuple[Tool, Kind]]] = {
    "etcdctl": ("etcdctl", "etcd"),
    "etcdpyctl on etcd": ("etcdpyctl", "etcd"),
    "etcdctl on etcdpy": ("etcdctl", "etcdpy"),
}
BAD_WORDS: Final = ("--bogus", "-w nope", "a b c d e f", "--hex=maybe a")
"""Behind every command; some take them all the same."""
ENDLESS: Final = ("watch a b c d e f",)
"""Passes over words that are too many, and goes on: see test_running_tools."""


@pytest.fixture
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    with contextlib.ExitStack() as stack:
        found = {}
        for name, (tool, kind) in SIDES.items():
            place = tmp_path_factory.mktemp(kind)
            member = Member(kind, place, flags=[FAST_HASHES]).launch()
            stack.callback(member.stop)
            found[name] = Side(tool, member, place, member.endpoint)
        for side in found.values():
            side.member.wait_ready()
        yield found


def assert_same(sides: dict[str, Side], steps: list[Step]) -> None:
    others = dict(sides)
    found = differences(steps, others.pop("etcdctl"), others)
    assert not found, "\n".join(itertools.islice(found, 20))


@pytest.mark.parametrize("script", SCRIPTS)
def test_all_print_the_same(sides: dict[str, Side], script: str) -> None:
    assert_same(sides, SCRIPTS[script])


def test_no_command_takes_bad_words_that_etcdctl_refuses(sides: dict[str, Side]) -> None:
    # With these, no check of a cluster begins: it would take a minute.
    lines = ["put /etcdctl-check-perf/x 1", "put /etcdctl-check-datascale/x 1"]
    lines += [f"{' '.join(command.words)} {bad}" for command in real_commands("etcdctl") for bad in BAD_WORDS]
    assert_same(sides, [Step("bad", line, "") for line in lines if line not in ENDLESS])


def test_every_command_is_run_in_every_format() -> None:
    lines = [step.line for steps in SCRIPTS.values() for step in steps]
    missing = []
    for command in real_commands("etcdctl"):
        name = re.compile(rf"(?<![\w-]){' '.join(command.words)}(?![\w-])")
        run = {_format_of(line) for line in lines if name.search(line)}
        missing += [f"{' '.join(command.words)} -w {form}" for form in FORMATS if form not in run]
    assert not missing


def _format_of(line: str) -> str:
    found = re.search(r"(?:-w[ =]?|--write-out[ =]|_WRITE_OUT=)(\w+)", line)
    return found[1] if found else "simple"
