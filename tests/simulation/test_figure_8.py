"""Raft paper figure 8, step by step: chance hardly ever comes upon it, so it is played."""

from __future__ import annotations

import pytest

from etcdpy.proto import rpc_pb2
from tests.simulation.cluster import Cluster
from tests.simulation.faults import Mix
from tests.simulation.mutations import commits_entries_of_old_terms
from tests.simulation.violation import Violation

CALM = Mix({}, 1.0, 0.0, 0.0, 0.0, 0.005, 0.0, 0.0, 0.002, 1.0, 0.0)


class Stage(Cluster):
    """Five members that do what they are told."""

    def __init__(self) -> None:
        super().__init__("figure 8", members=5)
        self.mix = CALM
        self.network.heal()
        # One entry a message, so that an old one is acknowledged before the new leader's own.
        self.raft_options = {"election_ticks": 1000, "max_message_bytes": 20, "pre_vote": False, "check_quorum": False}
        for member in sorted(self.disks):
            self.media[member].sound = True
            self.start(member)

    def only(self, *members: int) -> None:
        """Nobody else hears or is heard."""
        everyone = set(self.disks)
        self.network.cuts.clear()
        for member in sorted(everyone - set(members)):
            self.network.isolate({member}, everyone, one_way=False)

    def go_on(self, seconds: float) -> None:
        self.time.run_until(self.time.now + seconds)

    def elect(self, member: int) -> None:
        """Let it stand until it leads, or has tried often enough."""
        process = self.processes[member]
        for moment in range(500):
            if process.raw.is_leader:
                return
            if moment % 100 == 0:
                process.raw.campaign()
                process.node.drive()
            self.go_on(0.0005)

    def play(self) -> None:
        self.go_on(0.1)
        self.elect(1)
        self.go_on(0.5)
        self.only(1, 2)
        self.processes[1].propose("put", rpc_pb2.PutRequest(key=b"k", value=b"v"), lambda _outcome: None)
        self.go_on(0.1)
        old = self.processes[1].engine.log.last_index()
        assert self.processes[2].engine.log.last_index() == old, "two of five hold the entry"
        self.stop(1, power=True)
        self.only(3, 4, 5)
        self.elect(5)
        self.only()
        self.go_on(0.1)
        self.stop(5, power=True)
        self.start(1)
        self.only(1, 2, 3)
        self.elect(1)
        for _ in range(1000):
            if self.checks.last_committed >= old:
                break
            self.go_on(0.0005)
        assert self.checks.last_committed >= old
        self.only()
        self.stop(1, power=True)
        self.start(5)
        self.only(3, 4, 5)
        self.elect(5)
        self.only(2, 3, 4, 5)
        self.go_on(0.5)


def test_a_committed_entry_stays() -> None:
    stage = Stage()
    stage.play()
    assert not stage.processes[5].raw.is_leader, "whoever holds the newer entry does not vote for it"


def test_without_the_rule_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    commits_entries_of_old_terms(monkeypatch)
    with pytest.raises(Violation, match="lacks committed entry"):
        Stage().play()
