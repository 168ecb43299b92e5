"""A raft group of which some members are ours and some etcd's, under a random schedule drawn from one seed.

etcd's library draws its election timeouts from a source of its own, so a seed does not repeat a run exactly.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import ProposalDropped, UnknownPeer
from etcdpy.raft.message import Message, decode_message, encode_message
from etcdpy.raft.types import ConfState, HardState
from tests.support.raft_network import MemoryLog, Network

if TYPE_CHECKING:
    from tests.support.go_raft import GoRaft

Told = tuple[int, bytes]
"""Term and data of an entry that was applied."""


class Player(ABC):
    """A member of either kind."""

    def __init__(self, group: MixedGroup, own: int) -> None:
        self.group, self.own = group, own
        self.applied = 1

    @abstractmethod
    def do(self, verb: str, argument: bytes | int = b"") -> None:
        """tick, step, propose, change, read, transfer, unreachable, sent, failed, truncate, crash."""

    @abstractmethod
    def work(self) -> list[tuple[Message, bytes]]:
        """Everything that there is to do now; what is to be sent, in both forms."""

    @abstractmethod
    def look(self) -> tuple[bool, int, int, ConfState]:
        """Whether it leads, its term, its commit index, its group."""

    def note(self, index: int, told: Told) -> None:
        assert index == self.applied + 1, f"{self.own} applies {index} after {self.applied}"
        self.applied = index
        known = self.group.history.setdefault(index, told)
        assert known == told, f"{self.own} applies {told} at {index}, another member {known}"


class Theirs(Player):
    """A member of etcd's."""

    def __init__(self, group: MixedGroup, own: int) -> None:
        super().__init__(group, own)
        options = group.options
        flags = int(options["pre_vote"]), int(options["check_quorum"])
        sizes = options["max_message_bytes"], options["max_inflight_messages"]
        self.seen = group.go.call("new", own, ",".join(map(str, group.founders.voters)), *flags, *sizes)

    def do(self, verb: str, argument: bytes | int = b"") -> None:
        self.seen = self.group.go.call(verb, self.own, argument.hex() if isinstance(argument, bytes) else argument)
        expected = ("", "raft proposal dropped", "raft: cannot step as peer not found")
        assert self.seen["Error"] in expected, f"{verb} at {self.own}: {self.seen['Error']}"

    def work(self) -> list[tuple[Message, bytes]]:
        self.do("work")
        self.applied = max(self.applied, self.seen["Installed"])
        for entry in self.seen["Applied"] or ():
            self.note(entry["Index"], (entry["Term"], bytes.fromhex(entry["Data"])))
        for read in self.seen["Reads"] or ():
            self.group.read_done(bytes.fromhex(read["Context"]), read["Index"])
        values = [bytes.fromhex(value) for value in self.seen["Messages"] or ()]
        return [(decode_message(value), value) for value in values]

    def look(self) -> tuple[bool, int, int, ConfState]:
        seen = self.seen
        voters, learners, outgoing = (tuple(sorted(seen[name] or ())) for name in ("Voters", "Learners", "Outgoing"))
        return seen["Leads"], seen["Term"], seen["Commit"], ConfState(voters, learners, outgoing)


class Ours(Player):
    """A member of ours."""

    def __init__(self, group: MixedGroup, own: int) -> None:
        super().__init__(group, own)
        log = MemoryLog(group.founders, HardState(1, 0, 1))
        log.start = (1, 1)
        log.note_applied(1, group.founders)
        self.network = Network((), seed=group.seed, **group.options)
        self.network.add(own, group.founders, log)

    def do(self, verb: str, argument: bytes | int = b"") -> None:
        try:
            getattr(self, f"_{verb}")(argument)
        except (ProposalDropped, UnknownPeer):
            return

    def _tick(self, _argument: bytes) -> None:
        self.network.members[self.own].node.tick()

    def _step(self, value: bytes) -> None:
        self.network.members[self.own].node.step(decode_message(value))

    def _propose(self, data: bytes) -> None:
        self.network.members[self.own].node.propose([Entry(data)])

    def _change(self, value: bytes) -> None:
        self.network.members[self.own].node.propose_conf_change(raft_pb2.ConfChangeV2.FromString(value))

    def _read(self, context: bytes) -> None:
        self.network.members[self.own].node.read_index(context)

    def _transfer(self, target: int) -> None:
        self.network.members[self.own].node.transfer_leadership(target)

    def _unreachable(self, member: int) -> None:
        self.network.members[self.own].node.report_unreachable(member)

    def _sent(self, member: int) -> None:
        self.network.members[self.own].node.report_snapshot(member, ok=True)

    def _failed(self, member: int) -> None:
        self.network.members[self.own].node.report_snapshot(member, ok=False)

    def _truncate(self, index: int) -> None:
        log = self.network.members[self.own].log
        if index > log.start[0]:
            log.truncate(index)

    def _crash(self, _argument: bytes) -> None:
        self.network.crash(self.own, self.applied)

    def work(self) -> list[tuple[Message, bytes]]:
        network, here = self.network, self.network.members[self.own]
        while here.node.has_ready():
            ready = network.take_ready(self.own)
            if ready.snapshot is not None:
                self.applied = ready.snapshot.metadata.index
                network.states[self.applied] = []
            network.persist(self.own)
            here.applied.clear()
            network.finish(self.own)
            for entry in here.applied:
                self.note(entry.index, (entry.term, entry.data))
            for read in here.reads:
                self.group.read_done(read.context, read.index)
            here.reads.clear()
        sent, network.wire = network.wire, []
        return [(message, b"".join(encode_message(message))) for message in sent]

    def look(self) -> tuple[bool, int, int, ConfState]:
        node = self.network.members[self.own].node
        return node.is_leader, node.term, node.committed, node.conf_state()


class MixedGroup:
    """Checks as it goes: one leader a term, one entry an index, no read older than what was known when it was asked."""

    def __init__(self, go: GoRaft, seed: int) -> None:
        draw = self.draw = random.Random(seed)
        self.go, self.seed = go, seed
        self.options: dict[str, Any] = {
            "pre_vote": draw.random() < 0.7,
            "check_quorum": draw.random() < 0.7,
            "max_inflight_messages": draw.choice((1, 2, 256)),
            "max_message_bytes": draw.choice((1, 30, 1 << 20)),
        }
        kinds = [Ours, Theirs, *draw.choices((Ours, Theirs), k=draw.choice((0, 1, 1, 3)))]
        draw.shuffle(kinds)
        self.founders = ConfState(tuple(range(1, len(kinds) + 1)))
        self.history: dict[int, Told] = {}
        self.leaders: dict[int, int] = {}
        self.reads: dict[bytes, int] = {}
        self.wire: list[tuple[Message, bytes]] = []
        self.members: dict[int, Player] = {own: kind(self, own) for own, kind in enumerate(kinds, 1)}
        self.spare = len(kinds) + 1
        self.changes_members = draw.random() < 0.5

    def read_done(self, context: bytes, index: int) -> None:
        assert index >= self.reads[context], f"{context!r} is answered with {index}: too old"

    def act(self, step: int) -> None:
        """Something happens somewhere."""
        draw = self.draw
        member, action = self.members[draw.choice(sorted(self.members))], draw.random()
        if action < 0.33:
            member.do("tick")
        elif action < 0.40:
            member.do("propose", b"%d" % step)
        elif action < 0.43:
            context = b"read %d" % step
            self.reads[context] = max(self.history, default=0)
            member.do("read", context)
        elif action < 0.68:
            self.wire += member.work()
        elif action < 0.69:
            member.do("crash")
        elif action < 0.72:
            self._operate(member)
        elif self.wire:
            self._deliver()
        self._look()

    def _operate(self, member: Player) -> None:
        draw, other = self.draw, self.draw.choice(sorted(self.members))
        verb = draw.choice(("transfer", "truncate", "unreachable", "sent", "failed", "change"))
        if verb == "truncate":
            member.do(verb, draw.randint(1, member.applied))
        elif verb == "change":
            self._change(member)
        elif other != member.own or verb == "transfer":
            member.do(verb, other)

    def _change(self, member: Player) -> None:
        """Never down to less than two voters: etcd's library panics when a change it has taken cannot be applied."""
        draw = self.draw
        voters = set(self._newest()[3].voters)
        known = [*sorted(self.members), self.spare]
        kinds = raft_pb2.ConfChangeAddNode, raft_pb2.ConfChangeRemoveNode, raft_pb2.ConfChangeAddLearnerNode
        steps = [
            raft_pb2.ConfChangeSingle(type=draw.choice(kinds), node_id=draw.choice(known))
            for _ in range(draw.randrange(4))
        ]
        gone = {step.node_id for step in steps if step.type != raft_pb2.ConfChangeAddNode}
        if not self.changes_members or len(voters - gone) < 2:
            return
        transition = draw.choice((raft_pb2.ConfChangeTransitionAuto, raft_pb2.ConfChangeTransitionJointImplicit))
        member.do("change", raft_pb2.ConfChangeV2(changes=steps, transition=transition).SerializeToString())
        if any(step.node_id == self.spare for step in steps) and self.spare not in self.members:
            self.members[self.spare] = draw.choice((Ours, Theirs))(self, self.spare)

    def _deliver(self) -> None:
        """Mostly in order; sometimes late, twice or never."""
        draw = self.draw
        picked = draw.randrange(len(self.wire)) if draw.random() < 0.3 else 0
        message, value = self.wire[picked]
        if draw.random() < 0.8:
            del self.wire[picked]
        if draw.random() < 0.9 and message.to in self.members:
            self.members[message.to].do("step", value)

    def _look(self) -> None:
        for own, member in self.members.items():
            leads, term, _, _ = member.look()
            assert not leads or self.leaders.setdefault(term, own) == own, f"{own} is a second leader in term {term}"

    def _newest(self) -> tuple[bool, int, int, ConfState]:
        return max((member.look() for member in self.members.values()), key=lambda seen: seen[2])

    def calm(self, ticks: int = 150) -> None:
        """Time goes by, and nothing is lost."""
        for _ in range(ticks):
            for member in self.members.values():
                member.do("tick")
                for other in self.members:
                    if member.look()[0] and other != member.own:
                        member.do("sent", other)
            self._settle()
            for own, member in list(self.members.items()):
                leads, _, _, state = member.look()
                if leads and own not in (*state.voters, *state.voters_outgoing, *state.learners):
                    del self.members[own]  # the process of a removed member ends

    def _settle(self) -> None:
        for _ in range(300):
            for own in sorted(self.members):
                self.wire += self.members[own].work()
            sent, self.wire = self.wire, []
            for message, value in sent:
                if message.to in self.members:
                    self.members[message.to].do("step", value)
            self._look()
            if not sent:
                return
        raise AssertionError("the group does not come to rest")

    def agree(self) -> None:
        """In a calm time a leader is found, and everybody gets everything."""
        self.calm()
        term = max(term for leads, term, _, _ in (member.look() for member in self.members.values()) if leads)
        self.members[self.leaders[term]].do("propose", b"last")
        self.calm(5)
        _, _, commit, state = self.members[self.leaders[term]].look()
        assert b"last" in [data for _, data in self.history.values()]
        for own in (*state.voters, *state.learners):
            assert self.members[own].look()[2:] == (commit, state), f"{own} has not everything"
