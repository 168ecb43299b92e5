"""The ready loop: durable before answered, batches, timeouts, a disk that fails, a bug. The disk is played by hand."""

from __future__ import annotations

from typing import Any

import pytest

from etcdpy import limits
from etcdpy.errors import EtcdError, NeverProposed, NoSpace, RequestTooLarge, Stopped, Timeout, TooManyRequests
from etcdpy.proto import raft_pb2
from etcdpy.raft.message import Message
from etcdpy.raft.node import RawNode
from etcdpy.storage.errors import StorageError
from tests.support.nodes import Loop, Recorded, make_node


def make(*, elect: bool = True) -> Any:
    world = make_node(Loop(), 1, (1,))
    if elect:
        world.raw.campaign()
        world.node.drive()
        assert world.observer.leaders[-1][0] == 1
    return world


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


def test_entries_that_wait_beside_a_slow_disk_count_as_well() -> None:
    """etcd's rule is about committed and applied indexes, wherever what is in between waits."""
    world = make()
    world.applier.applied_index = world.raw.committed - limits.MAX_APPLY_LAG_ENTRIES - 1
    world.node.tick()
    (late,) = propose(world)
    assert late.outcomes == [TooManyRequests]
    world.applier.applied_index = world.raw.committed
    world.node.tick()
    (proposal,) = propose(world)
    world.loop.run()
    assert proposal.outcomes == [world.raw.committed]


@pytest.mark.parametrize(
    ("lag", "gate", "refused"), [(5001, False, True), (5001, True, False), (10_000, True, False), (10_001, True, True)]
)
def test_revocations_of_leases_may_wait_longer_with_the_gate(lag: int, gate: bool, refused: bool) -> None:
    world = make()
    world.node._prioritises_revocations = gate
    world.applier.applied_index = world.raw.committed - lag
    world.node.tick()
    revoke, put = Recorded("lease_revoke"), Recorded("put")
    world.node.propose(revoke)
    world.node.propose(put)
    assert put.outcomes == [TooManyRequests]
    assert revoke.outcomes == ([TooManyRequests] if refused else [])


def test_a_call_that_waits_long_is_told_of_and_others_are_not() -> None:
    world = make()
    told: list[Any] = []
    world.node.times._slow.answered = lambda seconds, proposals: told.append((round(seconds, 1), list(proposals)))
    propose(world)
    world.loop.run()
    assert told == []
    world.disk.inline = False
    (proposal,) = propose(world)
    world.loop.run()
    world.loop.now += 0.5
    world.disk.finish()
    assert told == [(0.5, [proposal])]


def test_without_a_leader_proposals_and_reads_wait_until_their_timeout() -> None:
    world = make(elect=False)
    (proposal,) = propose(world)
    reads: list[Any] = []
    world.node.when_linearizable(reads.append)
    world.loop.run()
    assert (proposal.outcomes, reads) == ([], [])
    assert world.node.proposals_pending == 1
    world.loop.now += 7.1
    world.node._expire(world.loop.now)
    assert proposal.outcomes == [NeverProposed]
    assert [type(error) for error in reads] == [Timeout]


def test_what_waited_for_a_leader_is_proposed_when_there_is_one() -> None:
    world = make(elect=False)
    (proposal,) = propose(world)
    reads: list[Any] = []
    world.node.when_linearizable(reads.append)
    world.loop.run()
    world.raw.campaign()
    world.node.drive()
    world.loop.run()
    assert proposal.outcomes == [2]
    assert reads == [None]


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


@pytest.mark.parametrize(
    ("sizes", "first"), [((501, 501, 10, 10), 1), ((200, 200, 200, 10), 2), ((10, 501, 10, 10), 1)]
)
def test_large_entries_are_applied_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], first: int
) -> None:
    monkeypatch.setattr(limits, "APPLY_CHUNK_BYTES", 500)
    monkeypatch.setattr(limits, "APPLY_CHUNK_ENTRY_BYTES", 1)
    world = make()
    world.applier.seconds = limits.MAX_APPLY_SECONDS
    proposals = [Recorded(size=size) for size in sizes]
    for proposal in proposals:
        world.node.propose(proposal)
    world.loop.soon.pop(0)[0]()
    assert [len(proposal.outcomes) for proposal in proposals] == [1] * first + [0] * (4 - first)
    world.loop.run()
    assert all(len(proposal.outcomes) == 1 for proposal in proposals)


def test_a_backlog_that_changes_members_is_applied_in_slices_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raft waits for its new members; the loop does not."""
    world = make()
    world.applier.seconds = 1.0  # each look at the clock ends a slice
    proposals = propose(world, 5 * limits.APPLY_CHUNK_BYTES // limits.APPLY_CHUNK_ENTRY_BYTES)
    turn, arguments = world.loop.soon.pop(0)
    turn(*arguments)
    world.node.propose_conf_change(raft_pb2.ConfChange(type=raft_pb2.ConfChangeAddLearnerNode, node_id=2))
    world.node.drive()
    last = world.raw.committed
    assert world.applier.applied_index < last
    slices = [callback for callback, arguments in world.loop.soon if arguments]
    assert len(slices) == 1, "one is due, no more"
    advanced: list[int] = []
    advance = RawNode.advance

    def note(raw: RawNode, ready: Any) -> None:
        advanced.append(world.applier.applied_index)
        advance(raw, ready)

    monkeypatch.setattr(RawNode, "advance", note)
    later = propose(world)
    world.node.tick()
    assert advanced == []
    world.loop.run()
    assert advanced[0] == last, "not before the change is applied"
    assert all(len(each.outcomes) == 1 for each in proposals + later)


def test_a_long_entry_is_applied_beside_all_else() -> None:
    world = make()
    applier, disk = world.applier, world.disk
    held: list[str] = []
    disk.hold_state = lambda: held.append("hold")
    disk.gather_state = lambda: held.append("gather")
    disk.release_state = lambda: held.extend(["release"] if held and held[-1] != "release" else [])
    apply_all = applier.apply_all

    def begin(entries: list[Any]) -> float:
        apply_all(entries[:1])
        applier.under_way, applier.left = True, 3
        applier.apply_all = apply_all
        return 0.0

    def go_on() -> float:
        applier.left -= 1
        if not applier.left:
            applier.under_way = False
            applier.applied_index += 1
        return 0.0

    applier.apply_all, applier.go_on = begin, go_on
    first, long, last = propose(world, 3)
    batches = world.observer.batches
    turn, arguments = world.loop.soon.pop(0)
    turn(*arguments)
    assert first.outcomes
    assert world.observer.batches == batches + 1, "what came before it goes out first"
    assert disk.applied == 2
    world.loop.run()
    assert held == ["hold", "gather", "gather", "release"]
    assert long.outcomes == []  # this applier answers none of those
    assert last.outcomes == [4]
    assert disk.applied == 4


def test_what_waits_for_the_disk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make()
    world.disk.inline = False
    propose(world)
    world.loop.run()
    monkeypatch.setattr(limits, "WAITING_PROPOSALS_BYTES", 2 * limits.PROPOSAL_OVERHEAD_BYTES)
    waiting = propose(world, 5)
    assert [each.outcomes for each in waiting] == [[], [], [TooManyRequests], [TooManyRequests], [TooManyRequests]]
    world.disk.finish()
    world.disk.finish()
    assert [each.outcomes for each in waiting[:2]] == [[3], [4]]
    (later,) = propose(world)
    assert later.outcomes == [], "there is room again"


def test_a_batch_of_those_that_wait_leaves_room_for_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make()
    monkeypatch.setattr(limits, "MAX_BATCH_PROPOSALS", 2)
    propose(world, 5)
    a_proposal = limits.PROPOSAL_OVERHEAD_BYTES + 10
    assert world.node._waiting_bytes == 5 * a_proposal
    world.node.drive()
    assert world.node._waiting_bytes == 3 * a_proposal
    world.loop.run()
    assert world.node._waiting_bytes == 0


def test_what_waits_for_a_leader_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make(elect=False)
    monkeypatch.setattr(limits, "WAITING_PROPOSALS_BYTES", 3 * limits.PROPOSAL_OVERHEAD_BYTES)
    monkeypatch.setattr(limits, "RAFT_WAITING_READS", 1)
    first, second = propose(world, 2)
    world.loop.run()
    (third,) = propose(world)
    world.loop.run()
    assert (first.outcomes, second.outcomes, third.outcomes) == ([], [], [TooManyRequests])
    reads: list[Any] = []
    world.node.when_linearizable(reads.append)
    world.node.when_linearizable(reads.append)
    assert [type(error) for error in reads] == [TooManyRequests]
    world.raw.campaign()
    world.node.drive()
    world.loop.run()
    assert (first.outcomes, second.outcomes, reads[1:]) == ([2], [3], [None])
    assert not world.node._parked._bytes


def test_what_waits_for_the_leader_s_answer_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_node(Loop(), 1, (1, 2, 3))
    world.node.receive(Message(raft_pb2.MsgHeartbeat, to=1, from_=2, term=5))
    monkeypatch.setattr(limits, "WAITING_PROPOSALS_BYTES", limits.PROPOSAL_OVERHEAD_BYTES)
    world.loop.run()
    (first,) = propose(world)
    world.loop.run()
    (second,) = propose(world)
    world.loop.run()
    assert (first.outcomes, second.outcomes) == ([], [TooManyRequests])
    world.loop.now += 8
    world.node._expire(world.loop.now)
    assert len(first.outcomes) == 1
    (third,) = propose(world)
    world.loop.run()
    assert third.outcomes == [], "there is room again"
