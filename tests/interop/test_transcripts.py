"""`etcdpyctl` beside real etcdctl: the same command lines, the same output, complaints and exit status.

The command lines stand in transcripts/*.txt. Each tool has a real etcd of its own, started empty.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.support.members import Member
from tests.support.transcripts import Side, Step, scripts

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.reference

SCRIPTS = scripts()


@pytest.fixture
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    places = [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]
    members = [Member("etcd", place).launch() for place in places]
    try:
        for member in members:
            member.wait_ready()
        yield Side("etcdctl", members[0], places[0]), Side("etcdpyctl", members[1], places[1])
    finally:
        for member in members:
            member.stop()


def difference(step: Step, theirs: Side, ours: Side) -> str:
    expected, got = theirs.run(step), ours.run(step)
    if expected == got:
        return ""
    return f"$ {step.line}\n  etcdctl:   {expected}\n  etcdpyctl: {got}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_both_tools_print_the_same(sides: tuple[Side, Side], script: str) -> None:
    differences = [found for step in SCRIPTS[script] if (found := difference(step, *sides))]
    assert not differences, "\n".join(itertools.islice(differences, 20))
