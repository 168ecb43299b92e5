"""The ready loop: durable before answered, batches, timeouts, a disk that fails, a bug. The disk is played by hand."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy import limits
from etcdpy.apply.proposal import Proposal
from etcdpy.errors import EtcdError, NoLeader, NoSpace, RequestTooLarge, Stopped, Timeout, TooManyRequests
from etcdpy.raft.node import Config, RawNode
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server.node import Node
from etcdpy.storage.errors import StorageError
from tests.support.raft_network import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.apply.proposal import Outcome
    from etcdpy.raft.entry import Entry


class Loop:
    """Callbacks run when the test says so, and time goes by as it says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((callback, arguments))

    def run(self) -> None:
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

    def set_applied(self, index: int, _term: int) -> None:
        self.applied = index


class Applier:
    """Answers every proposal with its entry's index; one kind is a bug."""

    def __init__(self) -> None:
        self.applied_index = self.applied_term = 0
        self.counts: dict[tuple[str, bool], int] = {}
        self.seconds = 0.0

    def apply_all(self, entries: Sequence[Entry]) -> float:
        self.counts.clear()
        for entry in entries:
            self.applied_index, self.applied_term = entry.index, entry.term
            proposal = cast("Recorded | None", entry.proposal)
            if proposal is not None:
                assert proposal.kind != "bug", "planted"
                self.counts["put", True] = self.counts.get(("put", True), 0) + 1
                proposal.answer((entry.index, b""))
        return self.seconds


class Recorded(Proposal):
    __slots__ = ("outcomes",)

    def __init__(self, kind: str = "put", size: int = 10) -> None:
        self.kind = kind
        self.request = None
        self.data = bytes(size)
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

    def leadership_changed(self, leader: int, term: int, *, is_self: bool) -> None:
        self.leaders.append((leader, term, is_self))

    def entries_applied(self) -> None:
        self.batches += 1

    def send(self, messages: Any) -> None:
        raise AssertionError(messages)

    def broken(self, error: Exception) -> None:
        self.bugs.append(error)

    def storage_failed(self, error: Exception) -> None:
        self.failures.append(error)


def make(*, elect: bool = True) -> Any:
    loop, observer, applier = Loop(), Observer(), Applier()
    log = MemoryLog(ConfState(voters=(1,)))
    disk = Disk(log)
    raw = RawNode(Config(id=1, storage=log, random=random.Random(1)))
    node = Node(
        cast("Any", loop),
        raw,
        cast("Any", disk),
        cast("Any", applier),
        observer,
        max_request_bytes=1000,
        request_timeout_seconds=7.0,
        slow_apply_seconds=0.1,
        slow_request_seconds=0.3,
    )
    if elect:
        raw.campaign()
        node.drive()
        assert observer.leaders[-1][0] == 1
    return SimpleNamespace(loop=loop, observer=observer, applier=applier, disk=disk, raw=raw, node=node)


def propose(world: Any, count: int = 1) -> list[Recorded]:
    proposals = [Recorded() for _ in range(count)]
    for proposal in proposals:
        world.node.propose(proposal)
    return proposals


def test_a_lone_proposal_is_answered_within_its_turn() -> None:
    world = make()
    (proposal,) = propose(world)
    assert proposal.outcomes == []
    world.loop.run()
    assert proposal.outcomes == [2]  # entry 1 is the leader's own
    assert world.disk.applied == 2


def test_nothing_is_answered_before_it_is_durable() -> None:
    """etcd issue 14370: one member, answers before the sync."""
    world = make()
    world.disk.inline = False
    (proposal,) = propose(world)
    world.loop.run()
    assert proposal.outcomes == []
    world.disk.finish()
    assert proposal.outcomes == [2]


def test_what_comes_while_the_disk_works_is_the_next_batch() -> None:
    world = make()
    world.disk.inline = False
    world.disk.sizes.clear()
    first = propose(world)
    world.loop.run()
    later = propose(world, 5)
    world.loop.run()
    assert world.disk.sizes == [1]
    world.disk.finish()
    assert world.disk.sizes == [1, 5]
    assert first[0].outcomes == [2]
    world.disk.finish()
    assert [proposal.outcomes for proposal in later] == [[3], [4], [5], [6], [7]]


def test_a_turn_takes_a_bounded_number_of_proposals() -> None:
    world = make()
    world.disk.sizes.clear()
    proposals = propose(world, limits.MAX_BATCH_PROPOSALS + 3)
    world.loop.run()
    assert world.disk.sizes == [limits.MAX_BATCH_PROPOSALS, 3]
    assert all(len(proposal.outcomes) == 1 for proposal in proposals)


def test_applying_lets_go_of_the_loop() -> None:
    world = make()
    world.applier.seconds = limits.MAX_APPLY_SECONDS
    proposals = propose(world, 100)
    callback, arguments = world.loop.soon.pop(0)
    callback(*arguments)
    answered = sum(bool(proposal.outcomes) for proposal in proposals)
    assert 0 < answered < 100
    world.loop.run()
    assert all(proposal.outcomes for proposal in proposals)


@pytest.mark.parametrize(("size", "error"), [(1001, RequestTooLarge), (1000, None)])
def test_the_size_of_a_request_is_bounded(size: int, error: type[EtcdError] | None) -> None:
    world = make()
    proposal = Recorded(size=size)
    world.node.propose(proposal)
    world.loop.run()
    assert proposal.outcomes == [error or 2]


def test_too_many_unapplied_entries_refuse_more() -> None:
    world = make()
    world.node._to_apply.extend(range(limits.MAX_APPLY_LAG_ENTRIES + 1))
    (proposal,) = propose(world)
    assert proposal.outcomes == [TooManyRequests]


def test_without_a_leader_a_proposal_is_refused_and_a_read_waits_until_its_timeout() -> None:
    world = make(elect=False)
    (proposal,) = propose(world)
    reads: list[Any] = []
    world.node.when_linearizable(reads.append)
    world.loop.run()
    assert proposal.outcomes == [NoLeader]
    assert reads == []
    world.loop.now += 7.1
    world.node._expire(world.loop.now)
    assert [type(error) for error in reads] == [Timeout]


def test_a_leader_alone_reads_at_once() -> None:
    world = make()
    reads: list[Any] = []
    world.node.when_linearizable(reads.append)
    assert reads == [None]


def test_what_the_disk_keeps_too_long_times_out_and_may_still_come_to_be() -> None:
    world = make()
    world.disk.inline = False
    stuck = propose(world)
    world.loop.run()
    waiting = propose(world)
    world.loop.now += 7.1
    world.node.tick()
    assert stuck[0].outcomes == [Timeout]
    assert waiting[0].outcomes == [Timeout]
    world.disk.finish()
    assert stuck[0].outcomes == [Timeout, 2]
    assert world.node.proposals_failed == 2


@pytest.mark.parametrize("inline", [True, False])
def test_a_failed_write_is_never_answered(inline: bool) -> None:
    world = make()
    world.disk.inline = inline
    world.disk.error = StorageError("disk full")
    (proposal,) = propose(world)
    world.loop.run()
    if not inline:
        world.disk.finish()
    assert proposal.outcomes == []
    assert [str(error) for error in world.observer.failures] == ["disk full"]
    world.node.refuse_all(NoSpace, under_way=Timeout)
    assert proposal.outcomes == [Timeout]
    assert propose(world)[0].outcomes == [NoSpace]
    world.node.tick()


def test_a_bug_while_applying_ends_the_member() -> None:
    world = make()
    world.node.propose(Recorded("bug"))
    world.loop.run()
    assert len(world.observer.bugs) == 1


def test_the_end_refuses_everything() -> None:
    world = make()
    world.disk.inline = False
    under_way = propose(world)
    world.loop.run()
    waiting = propose(world)
    world.node.refuse_all(Stopped, under_way=Stopped)
    assert under_way[0].outcomes == waiting[0].outcomes == propose(world)[0].outcomes == [Stopped]


def test_small_applied_batches_are_written_on_a_tick() -> None:
    world = make()
    world.disk.sizes.clear()
    world.disk.has_open_writes = True
    world.node.tick()
    assert world.disk.sizes == [0]
    world.node.tick()
    assert world.disk.sizes == [0]


def test_much_applied_state_is_written_at_once() -> None:
    world = make()
    world.disk.sizes.clear()
    world.node.write_early()
    assert world.disk.sizes == []

    def set_applied(_index: int, _term: int) -> None:
        world.disk.should_write_early = True

    world.disk.set_applied = set_applied
    propose(world)
    world.loop.run()
    assert world.disk.sizes == [1, 0], "the entry's own batch, then what applying it left open"
    world.disk.should_write_early = True
    world.node.write_early()
    assert world.disk.sizes == [1, 0, 0]


def test_large_entries_are_applied_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "APPLY_ALONE_BYTES", 500)
    world = make()
    world.applier.seconds = limits.MAX_APPLY_SECONDS
    proposals = [Recorded(size=size) for size in (501, 501, 10, 10)]
    for proposal in proposals:
        world.node.propose(proposal)
    world.loop.soon.pop(0)[0]()
    assert [len(proposal.outcomes) for proposal in proposals] == [1, 0, 0, 0]
    world.loop.run()
    assert all(len(proposal.outcomes) == 1 for proposal in proposals)
