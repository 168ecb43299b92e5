"""Whatever the network, the disks and the operators do: the five guarantees of the Raft paper's figure 3, linearizable
reads, and agreement once it is calm."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import ProposalDropped, RaftError
from etcdpy.raft.tracker import ProgressState
from etcdpy.raft.types import Role
from tests.support.raft_network import Member, Network, carried

if TYPE_CHECKING:
    from etcdpy.raft.message import Message

CHANGES = (raft_pb2.ConfChangeAddNode, raft_pb2.ConfChangeRemoveNode, raft_pb2.ConfChangeAddLearnerNode)


@dataclass
class Witness:
    """Sees everything, and remembers."""

    leaders: dict[int, int] = field(default_factory=dict)
    history: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    """index -> what was applied there, by whomever first."""
    stored: dict[tuple[int, int], tuple[int, bytes]] = field(default_factory=dict)
    """(term, index) -> the term before it, and its data."""
    checked: dict[int, int] = field(default_factory=dict)
    reads: dict[bytes, int] = field(default_factory=dict)
    """context -> the highest index that anybody had applied when the read was asked for."""

    def look(self, network: Network) -> None:
        for number, member in network.members.items():
            status = member.node.status()
            if status.role is Role.LEADER and self.leaders.setdefault(status.term, number) != number:
                raise AssertionError(f"{number} is a second leader in term {status.term} (5.2)")
            self._look_at_applied(number, member)
            for read in member.reads:
                assert read.index >= self.reads[read.context], "a read is never older than what was known before it"
            member.reads.clear()

    def _look_at_applied(self, number: int, member: Member) -> None:
        applied = member.applied
        start = min(self.checked.get(number, 0), len(applied))
        for position in range(start, len(applied)):
            entry = applied[position]
            assert entry.index == position + 1, "every entry once, in order"
            told = (entry.term, entry.data)
            assert self.history.setdefault(entry.index, told) == told, "one entry an index (5.4.3)"
        self.checked[number] = len(applied)

    def look_at_log(self, member: Member) -> None:
        """Log matching (5.3)."""
        before = member.log.start[1]
        for entry in member.log.stored:
            told = (before, entry.data)
            assert self.stored.setdefault((entry.term, entry.index), told) == told, "logs match up to an equal entry"
            before = entry.term

    def look_at_new_leader(self, member: Member) -> None:
        """Leader completeness (5.4): what is committed is in the log of every later leader."""
        log = member.node._raft.log
        for index, (term, _) in self.history.items():
            assert index < log.first_index() - 1 or log.matches(index, term), f"the leader lacks {term}/{index}"


class Schedule:
    """Draws what happens next. One seed gives one run."""

    def __init__(self, seed: int, size: int) -> None:
        draw = self.draw = random.Random(seed)
        self.witness = Witness()
        self.network = Network(
            range(1, size + 1),
            seed=seed,
            pre_vote=draw.random() < 0.7,
            check_quorum=draw.random() < 0.7,
            step_down_on_removal=draw.random() < 0.5,
            max_inflight_messages=draw.choice((1, 2, 256)),
            max_message_bytes=draw.choice((1, 10, 1 << 20)),
        )
        self.changes_members = draw.random() < 0.5
        self.spare = size + 1
        self.reads = 0

    def act(self, step: int) -> None:
        number = self.draw.choice(sorted(self.network.members))
        member, action = self.network.members[number], self.draw.random()
        led = member.node.is_leader
        if action < 0.33:
            member.node.tick()
        elif action < 0.43:
            self.ask(number, step)
        elif action < 0.68:
            self.work(number)
        elif action < 0.70:
            self.crash(number)
        elif action < 0.72:
            self.operate(number)
        elif self.network.wire:
            self.deliver()
        for each in self.network.members.values():
            if each.node.is_leader and (each is not member or not led) and each.node.term not in self.witness.leaders:
                self.witness.look_at_new_leader(each)
        self.witness.look(self.network)

    def ask(self, number: int, step: int) -> None:
        node = self.network.members[number].node
        try:
            if self.draw.random() < 0.7:
                node.propose([Entry(b"%d" % step) for _ in range(self.draw.randrange(1, 3))])
            else:
                self.reads += 1
                context = b"read %d" % self.reads
                self.witness.reads[context] = max(self.witness.history, default=0)
                node.read_index(context)
        except ProposalDropped:
            return

    def work(self, number: int) -> None:
        member = self.network.members[number]
        if member.ready is not None:
            self.network.persist(number)
            self.witness.look_at_log(member)
            self.network.finish(number)
        elif member.node.has_ready():
            self.network.take_ready(number)

    def crash(self, number: int) -> None:
        log = self.network.members[number].log
        applied = self.draw.randint(log.start[0], log.applied)
        self.network.crash(number, applied)

    def operate(self, number: int) -> None:
        """What an operator, or the server around raft, does now and then."""
        member, draw = self.network.members[number], self.draw
        kind = draw.randrange(4)
        if kind == 0:
            member.node.transfer_leadership(draw.choice(sorted(self.network.members)))
        elif kind == 1 and member.ready is None and member.log.applied > member.log.start[0]:
            member.log.truncate(draw.randint(member.log.start[0] + 1, min(member.log.applied, member.log.last_index())))
        elif kind == 2:
            for other, progress in member.node.status().progress.items():
                if progress.state is ProgressState.SNAPSHOT:
                    member.node.report_snapshot(other, ok=draw.random() < 0.5)
                elif draw.random() < 0.3:
                    member.node.report_unreachable(other)
        elif self.changes_members:
            self.change(number)

    def change(self, number: int) -> None:
        draw = self.draw
        known = [*sorted(self.network.members), self.spare]
        steps = [
            raft_pb2.ConfChangeSingle(type=draw.choice(CHANGES), node_id=draw.choice(known))
            for _ in range(draw.randrange(4))
        ]
        transition = draw.choice(raft_pb2.ConfChangeTransition.values())
        change = raft_pb2.ConfChangeV2(changes=steps, transition=transition)
        try:
            self.network.members[number].node.propose_conf_change(change)
        except ProposalDropped:
            return
        if any(step.node_id == self.spare for step in steps) and self.spare not in self.network.members:
            self.network.add(self.spare, self.network.founders)

    def deliver(self) -> None:
        network, draw = self.network, self.draw
        picked = draw.randrange(len(network.wire))
        sent = network.wire[picked]
        if draw.random() < 0.8:
            del network.wire[picked]
        if draw.random() < 0.9 and sent.to in network.members:
            self.step(sent.to, sent)

    def step(self, to: int, sent: Message) -> None:
        try:
            self.network.members[to].node.step(carried(sent))
        except ProposalDropped:
            return  # a proposal that was passed on found no leader
        except RaftError as error:
            if type(error).__name__ == "UnknownPeer":
                return  # the answer of a member that has been removed since
            raise AssertionError(f"honest members were refused: {error}") from error

    def calm(self) -> None:
        """Nothing is lost any more: within some election timeouts all agree."""
        network = self.network
        for number, member in network.members.items():
            if member.ready is not None:
                network.persist(number)
                network.finish(number)
        for _ in range(120):
            for number, member in network.members.items():
                member.node.tick()
                for other, progress in member.node.status().progress.items():
                    if progress.state is ProgressState.SNAPSHOT:
                        member.node.report_snapshot(other, ok=True)
                self.leave_joint(number)
            network.settle()
            self.witness.look(network)
            self.stop_removed()

    def stop_removed(self) -> None:
        """A process ends when its member has been removed, also where it leads."""
        for number, member in list(self.network.members.items()):
            state = member.node.conf_state()
            if member.node.is_leader and number not in (*state.voters, *state.voters_outgoing, *state.learners):
                del self.network.members[number]

    def leave_joint(self, number: int) -> None:
        node = self.network.members[number].node
        if node.is_leader and node.conf_state().voters_outgoing and not node.conf_state().auto_leave:
            try:
                node.propose_conf_change(raft_pb2.ConfChangeV2())
            except ProposalDropped:
                return


@given(st.integers(0, 1 << 32), st.integers(1, 5), st.sampled_from((300, 1000)))
def test_members_never_disagree(seed: int, size: int, steps: int) -> None:
    schedule = Schedule(seed, size)
    network = schedule.network
    for step in range(steps):
        schedule.act(step)
    schedule.calm()
    leader = network.members[network.leader()]
    members = leader.node.conf_state()
    assert not members.voters_outgoing
    leader.node.propose([Entry(b"last")])
    network.settle()
    for _ in range(2):
        leader.node.tick()
        network.settle()
    schedule.witness.look(network)
    assert schedule.witness.history[max(schedule.witness.history)][1] == b"last"
    for number in (*members.voters, *members.learners):
        assert network.members[number].node.committed == leader.node.committed, number
        assert network.members[number].node.conf_state() == members
