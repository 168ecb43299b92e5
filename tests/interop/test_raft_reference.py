"""Groups of our raft members and of etcd's own: whatever the schedule, they are one group."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.go_raft import GoRaft
from tests.support.mixed_group import MixedGroup, Ours

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.reference

SEEDS = range(60)
STEPS = 700


@pytest.fixture(scope="module")
def go() -> Iterator[GoRaft]:
    process = GoRaft()
    yield process
    process.close()


def test_mixed_groups_keep_rafts_promises(go: GoRaft) -> None:
    led = {"ours": 0, "theirs": 0}
    for seed in SEEDS:
        group = MixedGroup(go, seed)
        kinds = {own: "ours" if isinstance(member, Ours) else "theirs" for own, member in group.members.items()}
        try:
            for step in range(STEPS):
                group.act(step)
            group.agree()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        for own in group.leaders.values():
            led[kinds.get(own, "theirs")] += 1
    assert min(led.values()) >= 10, f"each kind should have led often: {led}"
