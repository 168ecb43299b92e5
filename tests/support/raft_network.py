"""Raft members in memory: a log that keeps what was synced, and a network that delivers when told to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etcdpy.proto import raft_pb2
from etcdpy.raft.confchange import parse
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.errors import LogCompacted, LogUnavailable, RaftError, SnapshotTemporarilyUnavailable
from etcdpy.raft.message import Message, decode_message, encode_message
from etcdpy.raft.node import Config, RawNode
from etcdpy.raft.types import ConfState, HardState, LogStorage, ReadState, Ready, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class MemoryLog:
    """etcdpy.raft.types.LogStorage in a list; tests/contract/test_log_storage.py holds it against the real one."""

    def __init__(self, conf_state: ConfState = ConfState(), hard_state: HardState = HardState()) -> None:  # noqa: B008
        self.hard_state = hard_state
        self.conf_state = conf_state
        self.start = (0, 0)
        self.applied = 0
        """What a snapshot that is asked for now would cover."""
        self.can_snapshot = True
        self._conf_states = {0: conf_state}
        self.stored: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        return self.hard_state, self.conf_state

    def first_index(self) -> int:
        return self.start[0] + 1

    def last_index(self) -> int:
        return self.start[0] + len(self.stored)

    def term(self, index: int) -> int:
        if index == self.start[0]:
            return self.start[1]
        if index < self.start[0]:
            raise LogCompacted(str(index))
        if index > self.last_index():
            raise LogUnavailable(str(index))
        return self.stored[index - self.first_index()].term

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        if lo < self.first_index():
            raise LogCompacted(str(lo))
        if hi > self.last_index() + 1:
            raise LogUnavailable(str(hi))
        found: list[Entry] = []
        for entry in self.stored[lo - self.first_index() : hi - self.first_index()]:
            max_bytes -= len(entry.data)
            if found and max_bytes < 0:
                break
            found.append(copy(entry))
        return found

    def snapshot(self) -> raft_pb2.Snapshot:
        if not self.can_snapshot:
            raise SnapshotTemporarilyUnavailable("not now")
        return snapshot_of(self.applied, self.term(self.applied), self.conf_state)

    def install(self, snapshot: raft_pb2.Snapshot) -> None:
        metadata = snapshot.metadata
        assert metadata.index > self.start[0]
        self.start, self.stored = (metadata.index, metadata.term), []
        self.note_applied(metadata.index, ConfState.from_proto(metadata.conf_state))

    def note_applied(self, index: int, conf_state: ConfState) -> None:
        """The state is that of `index` now."""
        self.applied, self.conf_state = index, conf_state
        self._conf_states[index] = conf_state

    def go_back(self, applied: int) -> None:
        """What was applied after `applied` had not reached the disk."""
        assert self.start[0] <= applied <= self.applied
        self._conf_states = {index: state for index, state in self._conf_states.items() if index <= applied}
        self.applied, self.conf_state = applied, self._conf_states[max(self._conf_states)]

    def append(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        self.hard_state = hard_state or self.hard_state
        if entries:
            assert self.start[0] < entries[0].index <= self.last_index() + 1
            del self.stored[entries[0].index - self.first_index() :]
            self.stored += [copy(entry) for entry in entries]

    def truncate(self, index: int) -> None:
        term = self.term(index)
        del self.stored[: index - self.start[0]]
        self.start = (index, term)


if TYPE_CHECKING:
    _checked: LogStorage = MemoryLog()


def copy(entry: Entry) -> Entry:
    return Entry(entry.data, None, entry.term, entry.index, entry.type)


@dataclass
class Member:
    """A node, what it synced, and what it applied. `ready` is the Ready that is being worked on."""

    node: RawNode
    log: MemoryLog
    applied: list[Entry] = field(default_factory=list)
    reads: list[ReadState] = field(default_factory=list)
    ready: Ready | None = None


class Network:
    """Members that share one seed. Nothing happens but what a test asks for."""

    def __init__(self, ids: Sequence[int], *, seed: int = 1, election_ticks: int = 10, **options: Any) -> None:
        self.election_ticks = election_ticks
        self.options = {"pre_vote": False, "check_quorum": False, **options}
        """Further fields of each member's Config. Plain Raft unless a test asks for more."""
        self.seed = seed
        self.members: dict[int, Member] = {}
        self.wire: list[Message] = []
        self.errors: list[str] = []
        self.cut: Callable[[Message], bool] = lambda _message: False
        self.states: dict[int, list[Entry]] = {}
        """What each snapshot that was sent holds, by its index: every entry up to there."""
        self.founders = ConfState(tuple(sorted(ids)))
        for member in ids:
            self.add(member, self.founders)

    def add(self, member: int, conf_state: ConfState, log: MemoryLog | None = None) -> Member:
        log = log if log is not None else MemoryLog(conf_state)
        config = Config(
            id=member,
            storage=log,
            random=random.Random(f"{self.seed}/{member}"),
            election_ticks=self.election_ticks,
            applied=log.applied,
            **self.options,
        )
        self.members[member] = Member(RawNode(config), log)
        return self.members[member]

    def crash(self, member: int, applied: int | None = None) -> None:
        """Start again from what was synced: the log, and the state of an `applied` index of the past (default: the
        oldest that the log can follow)."""
        before = self.members[member]
        before.log.go_back(before.log.start[0] if applied is None else applied)
        self.add(member, before.log.conf_state, before.log).applied = before.applied[: before.log.applied]

    # --- one Ready, in its parts ---

    def take_ready(self, member: int) -> Ready:
        self.members[member].ready = ready = self.members[member].node.ready()
        self._send(member, ready.messages)
        return ready

    def _send(self, member: int, messages: list[Message]) -> None:
        for sent in messages:
            if sent.snapshot is not None:
                index = sent.snapshot.metadata.index
                self.states[index] = self.members[member].applied[:index]
        self.wire += messages

    def persist(self, member: int) -> None:
        ready = self.members[member].ready
        assert ready is not None
        here = self.members[member]
        if ready.snapshot is not None:
            here.log.install(ready.snapshot)
            here.applied = list(self.states[ready.snapshot.metadata.index])
        here.log.append(ready.hard_state, ready.entries)
        self._send(member, ready.messages_after_persist)

    def finish(self, member: int) -> None:
        """Apply, and advance."""
        here = self.members[member]
        ready = here.ready
        assert ready is not None
        for entry in ready.committed:
            here.applied.append(entry)
            if entry.type != EntryType.NORMAL:
                here.log.note_applied(entry.index, here.node.apply_conf_change(parse(entry)))
        if ready.committed:
            here.log.note_applied(ready.committed[-1].index, here.log.conf_state)
        here.reads += ready.read_states
        here.ready = None
        here.node.advance(ready)

    def work(self, member: int) -> bool:
        """Everything that one member has to do now; False when there was nothing."""
        worked = False
        while self.members[member].node.has_ready():
            self.take_ready(member)
            self.persist(member)
            self.finish(member)
            worked = True
        return worked

    # --- the wire ---

    def deliver(self, pick: Callable[[Message], bool] = lambda _message: True) -> list[Message]:
        """Hand over (or lose, by `cut`) the picked messages that are on the wire now."""
        picked = [message for message in self.wire if pick(message)]
        self.wire = [message for message in self.wire if not pick(message)]
        for message in picked:
            if not self.cut(message) and message.to in self.members:
                try:
                    self.members[message.to].node.step(carried(message))
                except RaftError as error:
                    self.errors.append(f"{message.to}: {type(error).__name__}: {error}")
        return picked

    def settle(self, rounds: int = 1000) -> None:
        """Work and deliver until nothing moves."""
        for _ in range(rounds):
            worked = [self.work(member) for member in sorted(self.members)]
            if not self.deliver() and not any(worked):
                return
        raise AssertionError("the network does not come to rest")

    def leader(self) -> int:
        """The one leader of the newest term."""
        leaders = [
            (member.node.term, number)
            for number, member in self.members.items()
            if member.node.status().role is Role.LEADER
        ]
        return max(leaders)[1]


def snapshot_of(index: int, term: int, conf_state: ConfState) -> raft_pb2.Snapshot:
    metadata = raft_pb2.SnapshotMetadata(index=index, term=term, conf_state=conf_state.to_proto())
    return raft_pb2.Snapshot(metadata=metadata)


def carried(message: Message) -> Message:
    """The message as it comes out at the other end: nothing is shared."""
    return decode_message(b"".join(encode_message(message)))


def message(kind: int, *, source: int, to: int = 1, **fields: Any) -> Message:
    return Message(kind, to=to, from_=source, **fields)
