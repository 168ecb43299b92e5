"""Raft members in memory: a log that keeps what was synced, and a network that delivers when told to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.errors import LogCompacted, LogUnavailable, RaftError
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
        raise LogUnavailable("no snapshots here")

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

    def __init__(self, ids: Sequence[int], *, seed: int = 1, election_ticks: int = 10) -> None:
        self.election_ticks = election_ticks
        self.seed = seed
        self.members: dict[int, Member] = {}
        self.wire: list[Message] = []
        self.errors: list[str] = []
        self.cut: Callable[[Message], bool] = lambda _message: False
        for member in ids:
            self.add(member, ConfState(tuple(sorted(ids))))

    def add(self, member: int, conf_state: ConfState, log: MemoryLog | None = None) -> Member:
        log = log or MemoryLog(conf_state)
        config = Config(
            id=member,
            storage=log,
            random=random.Random(f"{self.seed}/{member}"),
            election_ticks=self.election_ticks,
            applied=log.start[0],
        )
        self.members[member] = Member(RawNode(config), log)
        return self.members[member]

    def crash(self, member: int) -> None:
        """Start again from what was synced."""
        before = self.members[member]
        self.add(member, before.log.conf_state, before.log)

    # --- one Ready, in its parts ---

    def take_ready(self, member: int) -> Ready:
        self.members[member].ready = ready = self.members[member].node.ready()
        self.wire += ready.messages
        return ready

    def persist(self, member: int) -> None:
        ready = self.members[member].ready
        assert ready is not None
        self.members[member].log.append(ready.hard_state, ready.entries)
        self.wire += ready.messages_after_persist

    def finish(self, member: int) -> None:
        """Apply, and advance."""
        here = self.members[member]
        ready = here.ready
        assert ready is not None
        for entry in ready.committed:
            here.applied.append(entry)
            if entry.type != EntryType.NORMAL:
                here.log.conf_state = here.node.apply_conf_change(parse_conf_change(entry))
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


def parse_conf_change(entry: Entry) -> raft_pb2.ConfChange | raft_pb2.ConfChangeV2:
    if entry.type == EntryType.CONF_CHANGE:
        return raft_pb2.ConfChange.FromString(entry.data)
    return raft_pb2.ConfChangeV2.FromString(entry.data)


def carried(message: Message) -> Message:
    """The message as it comes out at the other end: nothing is shared."""
    return decode_message(b"".join(encode_message(message)))


def message(kind: int, *, source: int, to: int = 1, **fields: Any) -> Message:
    return Message(kind, to=to, from_=source, **fields)
