"""Nodes whose loop, disk and network a test plays by hand; what they apply is only written down."""

from __future__ import annotations

import random
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from etcdpy.apply.entry_data import REQUEST_ID_BYTES
from etcdpy.apply.proposal import Proposal
from etcdpy.auth.identity import NOBODY
from etcdpy.raft.entry import Entry
from etcdpy.raft.message import decode_message, encode_message
from etcdpy.raft.node import Config, RawNode
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server.node import Node
from etcdpy.server.slow_requests import SlowRequests
from tests.support.raft_network import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.apply.proposal import Outcome
    from etcdpy.errors import EtcdError
    from etcdpy.proto import raft_pb2
    from etcdpy.raft.message import Message
    from etcdpy.storage.errors import StorageError


class Loop:
    """Callbacks run when the test says so, and time goes by as it says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.later: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((callback, arguments))

    def call_later(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> object:
        self.later.append((self.now + seconds, callback, arguments))
        return self.later[-1]

    def run(self) -> None:
        due = [each for each in self.later if each[0] <= self.now]
        self.later = [each for each in self.later if each[0] > self.now]
        self.soon += [(callback, arguments) for _, callback, arguments in due]
        while self.soon:
            callback, arguments = self.soon.pop(0)
            callback(*arguments)


class Job:
    """What the node asked the disk to do."""

    def __init__(self, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        self.hard_state = hard_state
        self.entries = list(entries)
        self.error: StorageError | None = None


class Disk:
    """An engine whose jobs end when the test says so (`inline`: at once)."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.inline = True
        self.jobs: list[tuple[Job, Callable[[Any], None]]] = []
        self.failed: StorageError | None = None
        self.has_open_writes = self.should_write_early = False
        self.error: StorageError | None = None
        self.applied = 0
        self.sizes: list[int] = []

    def take_job(self, hard_state: HardState | None, entries: Sequence[Entry], *, must_sync: bool = False) -> Job:
        self.sizes.append(len(entries))
        self.has_open_writes = self.should_write_early = False
        return Job(hard_state, entries)

    def submit(self, job: Job, on_done: Callable[[Any], None], _loop: Any) -> bool:
        if self.inline:
            self._write(job)
            return True
        self.jobs.append((job, on_done))
        return False

    def finish(self) -> None:
        job, on_done = self.jobs.pop(0)
        self._write(job)
        on_done(job)

    def _write(self, job: Job) -> None:
        if self.error is not None:
            job.error = self.failed = self.error
        else:
            self.log.append(job.hard_state, job.entries)

    def note_hard_state(self, _hard_state: HardState) -> None:
        pass

    def release_state(self) -> None:
        pass

    def set_applied(self, index: int, _term: int) -> None:
        self.applied = index


class Applier:
    """Answers every proposal with its entry's index; one kind is a bug."""

    def __init__(self) -> None:
        self.applied_index = self.applied_term = 0
        self.counts: dict[tuple[str, bool], int] = {}
        self.foreign_counts: dict[tuple[str, bool], int] = {}
        self.registry: dict[bytes, Proposal] = {}
        self.applied: list[bytes] = []
        self.seconds = 0.0
        self.under_way = False
        self.entry_under_way = Entry(b"")

    def abandon(self) -> None:
        pass

    def apply_all(self, entries: Sequence[Entry]) -> float:
        self.counts.clear()
        for entry in entries:
            self.applied_index, self.applied_term = entry.index, entry.term
            self.applied.append(entry.data)
            proposal = cast("Recorded | None", self.registry.pop(entry.data[-REQUEST_ID_BYTES:], entry.proposal))
            if proposal is not None:
                assert proposal.kind != "bug", "planted"
                self.counts["put", True] = self.counts.get(("put", True), 0) + 1
                proposal.answer((entry.index, b""))
        return self.seconds


_ids = count(1)


class Recorded(Proposal):
    __slots__ = ("outcomes",)

    def __init__(self, kind: str = "put", size: int = 10) -> None:
        self.kind = kind
        self.signer = NOBODY
        self.request = None
        self.data = bytes(size - REQUEST_ID_BYTES) + next(_ids).to_bytes(REQUEST_ID_BYTES, "big")
        self.outcomes: list[Any] = []

    def answer(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome[0])

    def refuse(self, error: EtcdError) -> None:
        self.outcomes.append(type(error))


class Observer:
    def __init__(self) -> None:
        self.leaders: list[tuple[int, int, bool]] = []
        self.failures: list[Exception] = []
        self.bugs: list[Exception] = []
        self.batches = 0
        self.sent: list[Message] = []
        self.connected = True
        self.installs: list[tuple[raft_pb2.Snapshot, HardState, Callable[[StorageError | None], None]]] = []

    def leadership_changed(self, leader: int, term: int, *, is_self: bool) -> None:
        self.leaders.append((leader, term, is_self))

    def entries_applied(self) -> None:
        self.batches += 1

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages

    def connected_since(self, _started: float) -> bool:
        return self.connected

    def install_snapshot(
        self, snapshot: raft_pb2.Snapshot, hard_state: HardState, done: Callable[[StorageError | None], None]
    ) -> None:
        self.installs.append((snapshot, hard_state, done))

    def broken(self, error: Exception) -> None:
        self.bugs.append(error)

    def storage_failed(self, error: Exception) -> None:
        self.failures.append(error)


def make_node(loop: Loop, own: int, voters: tuple[int, ...]) -> Any:
    observer, applier = Observer(), Applier()
    log = MemoryLog(ConfState(voters=voters))
    disk = Disk(log)
    # Without pre-vote and lease, so that a test can have a leader deposed at once.
    raw = RawNode(Config(id=own, storage=log, random=random.Random(own), pre_vote=False, check_quorum=False))
    node = Node(
        cast("Any", loop),
        raw,
        cast("Any", disk),
        cast("Any", applier),
        observer,
        next_id=count(own << 32).__next__,
        heartbeat_seconds=0.1,
        election_seconds=1.0,
        max_request_bytes=1000,
        request_timeout_seconds=7.0,
        slow=SlowRequests(0.1, 0.3),
    )
    return SimpleNamespace(loop=loop, observer=observer, applier=applier, disk=disk, raw=raw, node=node)


class Cluster:
    """Nodes that hear each other. A member in `cut` neither hears nor is heard."""

    def __init__(self, count: int = 3) -> None:
        self.loop = Loop()
        ids = tuple(range(1, count + 1))
        self.worlds = {own: make_node(self.loop, own, ids) for own in ids}
        self.cut: set[int] = set()
        self.lost: Callable[[Message], bool] = lambda _message: False

    def run(self) -> None:
        """Until nobody has anything to do or to say."""
        while True:
            self.loop.run()
            messages = [message for world in self.worlds.values() for message in world.observer.sent]
            if not messages and not self.loop.soon:
                return
            for world in self.worlds.values():
                world.observer.sent = []
            for message in messages:
                if not {message.to, message.from_} & self.cut and not self.lost(message):
                    self.worlds[message.to].node.receive(decode_message(b"".join(encode_message(message))))

    def tick(self, seconds: float) -> None:
        """Time goes by."""
        for _ in range(round(seconds * 10)):
            self.loop.now += 0.1
            for world in self.worlds.values():
                world.node.tick()
            self.run()

    def elect(self, own: int) -> None:
        """Make a member leader."""
        self.worlds[own].raw.campaign()
        self.worlds[own].node.drive()
        self.run()
        assert self.worlds[own].raw.is_leader
