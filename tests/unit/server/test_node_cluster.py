"""Several nodes: who is answered by whom, whatever happens to leaders in between. Disk and network are played."""

from __future__ import annotations

from typing import Any

import pytest

from etcdpy import limits
from etcdpy.errors import NotLeader, Stopped, Timeout, TimeoutConnectionLost, TimeoutLeaderFailed
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.message import Message, decode_message, encode_message
from etcdpy.raft.types import ConfState, Role
from etcdpy.server.acknowledgements import newest_answers
from etcdpy.storage.errors import StorageError
from tests.support.nodes import Cluster, Recorded


def cluster_led_by(own: int, count: int = 3) -> Cluster:
    cluster = Cluster(count)
    cluster.elect(own)
    return cluster


def propose(cluster: Cluster, own: int, count: int = 1) -> list[Recorded]:
    proposals = [Recorded() for _ in range(count)]
    for proposal in proposals:
        cluster.worlds[own].node.propose(proposal)
    return proposals


def propose_as_leader(cluster: Cluster, own: int) -> Recorded:
    proposal = Recorded("lease_revoke")
    cluster.worlds[own].node.propose_as_leader(proposal)
    return proposal


def test_every_member_answers_what_it_took_in() -> None:
    cluster = cluster_led_by(1)
    proposals = [each for own in (1, 2, 3) for each in propose(cluster, own, 5)]
    cluster.run()
    indexes = [proposal.outcomes for proposal in proposals]
    assert sorted(indexes) == [[index] for index in range(2, 17)]
    assert len({tuple(world.applier.applied) for world in cluster.worlds.values()}) == 1
    for world in cluster.worlds.values():
        assert world.node.proposals_pending == 0
        assert not world.applier.registry


def applied_by(cluster: Cluster) -> list[int]:
    return [world.applier.applied_index for world in cluster.worlds.values()]


def empty_appends(cluster: Cluster) -> list[Message]:
    """From now on."""
    found: list[Message] = []

    def look(message: Message) -> bool:
        if message.type == raft_pb2.MsgApp and not message.entries:
            found.append(message)
        return False

    cluster.lost = look
    return found


def test_a_commit_that_only_the_leader_s_clients_wait_for_is_told_with_the_next_entries() -> None:
    cluster = cluster_led_by(1)
    cluster.tick(0.2)
    empty = empty_appends(cluster)
    for count in (1, 2, 3):
        (proposal,) = propose(cluster, 1)
        cluster.run()
        assert proposal.outcomes == [1 + count]
        assert applied_by(cluster) == [1 + count, count, count]
    assert empty == []
    cluster.loop.now += 2 * limits.COMMIT_TOLD_SECONDS
    cluster.run()
    assert applied_by(cluster) == [4, 3, 3], "the timer was set for an earlier one"
    cluster.loop.now += 2 * limits.COMMIT_TOLD_SECONDS
    cluster.run()
    assert applied_by(cluster) == [4, 4, 4]
    assert len(empty) == 2
    assert cluster.loop.later == []


@pytest.mark.parametrize("read", [False, True])
def test_a_commit_that_a_follower_s_client_waits_for_is_told_at_once(read: bool) -> None:
    cluster = cluster_led_by(1)
    cluster.tick(0.2)
    propose(cluster, 1)
    cluster.run()
    assert applied_by(cluster) == [2, 1, 1]
    if read:
        reads: list[Any] = []
        cluster.worlds[3].node.when_linearizable(reads.append)
        cluster.run()
        assert reads == [None]
    else:
        (proposal,) = propose(cluster, 3)
        cluster.run()
        assert proposal.outcomes == [3]
    assert len(set(applied_by(cluster))) == 1


def test_a_follower_counts_how_long_its_own_requests_took() -> None:
    cluster = cluster_led_by(1)
    propose(cluster, 2)
    cluster.loop.run()
    cluster.loop.now += 0.5
    cluster.run()
    durations = cluster.worlds[2].node.times.durations["put", True]
    assert (durations.count, round(durations.total, 3)) == (1, 0.5)


def test_a_follower_forwards_while_its_disk_works() -> None:
    cluster = cluster_led_by(1)
    follower = cluster.worlds[2]
    follower.disk.inline = False
    propose(cluster, 1)
    cluster.run()
    assert len(follower.disk.jobs) == 1
    (forwarded,) = propose(cluster, 2)
    cluster.run()
    assert cluster.worlds[1].applier.applied_index == 3
    assert forwarded.outcomes == []
    while follower.disk.jobs:
        follower.disk.finish()
        cluster.run()
    assert forwarded.outcomes == [3]


def test_one_turn_of_a_follower_is_one_write_and_one_answer() -> None:
    cluster = cluster_led_by(1)
    follower = cluster.worlds[2]
    follower.disk.sizes.clear()
    leader = cluster.worlds[1]
    for _ in range(4):
        propose(cluster, 1)
        cluster.loop.run()
    messages = [message for message in leader.observer.sent if message.to == 2]
    leader.observer.sent = []
    for message in messages:
        follower.node.receive(decode_message(b"".join(encode_message(message))))
    follower.observer.sent = []
    cluster.loop.run()
    assert follower.disk.sizes == [4]
    answers = [message for message in follower.observer.sent if message.type == raft_pb2.MsgAppResp]
    assert [answer.index for answer in answers] == [5]


def test_a_leader_sends_before_its_own_write_and_does_not_wait_for_it_to_keep_in_touch() -> None:
    cluster = cluster_led_by(1)
    leader = cluster.worlds[1]
    leader.disk.inline = False
    (proposal,) = propose(cluster, 1)
    cluster.run()
    assert [cluster.worlds[own].raw.status().last_index for own in (2, 3)] == [2, 2]
    cluster.lost = lambda _message: True
    leader.node.tick()
    assert {message.to for message in leader.observer.sent if message.type == raft_pb2.MsgHeartbeat} == {2, 3}
    cluster.lost = lambda _message: False
    assert proposal.outcomes == []
    cluster.run()
    leader.disk.finish()
    leader.disk.inline = True
    cluster.run()
    assert proposal.outcomes == [2]


def test_what_a_deposed_leader_appended_is_answered_once_when_the_next_one_keeps_it() -> None:
    cluster = cluster_led_by(1)
    cluster.lost = lambda message: message.type == raft_pb2.MsgAppResp
    (kept,) = propose(cluster, 1)
    cluster.run()
    assert kept.outcomes == []
    cluster.lost = lambda _message: False
    cluster.elect(2)
    assert kept.outcomes == [2]
    assert not cluster.worlds[1].applier.registry
    cluster.tick(8)
    assert kept.outcomes == [2]


def test_what_nobody_kept_is_refused_at_its_deadline() -> None:
    cluster = cluster_led_by(1)
    cluster.cut = {1}
    lost = propose(cluster, 1, 3)
    cluster.run()
    cluster.elect(2)
    (other,) = propose(cluster, 2)
    cluster.run()
    cluster.cut = set()
    cluster.tick(1)
    assert other.outcomes == [3]
    assert [proposal.outcomes for proposal in lost] == [[]] * 3
    cluster.tick(7)
    assert [proposal.outcomes for proposal in lost] == [[TimeoutLeaderFailed]] * 3
    assert cluster.worlds[1].node.proposals_failed == 3


def test_a_forwarded_proposal_that_got_lost_is_refused_at_its_deadline() -> None:
    cluster = cluster_led_by(1)
    cluster.lost = lambda message: message.type == raft_pb2.MsgProp
    (lost,) = propose(cluster, 2)
    cluster.worlds[3].observer.connected = False
    (cut_off,) = propose(cluster, 3)
    cluster.tick(6.8)
    assert lost.outcomes == []
    cluster.tick(0.4)
    assert lost.outcomes == [Timeout]
    assert cut_off.outcomes == [TimeoutConnectionLost]


def test_a_follower_without_its_leader_asks_for_votes_soon() -> None:
    cluster = cluster_led_by(2)
    world = cluster.worlds[1]
    cluster.cut = {2}
    world.observer.connected = False
    for _ in range(10):
        world.node.tick()
    assert world.raw.status().role is Role.FOLLOWER
    world.node.tick()
    assert world.raw.status().role is not Role.FOLLOWER


def test_proposals_wait_for_an_election() -> None:
    cluster = Cluster()
    proposals = [each for own in (1, 2, 3) for each in propose(cluster, own, 2)]
    cluster.run()
    assert all(proposal.outcomes == [] for proposal in proposals)
    cluster.elect(3)
    cluster.run()
    assert sorted(proposal.outcomes for proposal in proposals) == [[index] for index in range(2, 8)]


@pytest.mark.parametrize("own", [1, 2])
def test_a_linearizable_read_asks_the_quorum(own: int) -> None:
    cluster = cluster_led_by(1)
    reads: list[Any] = []
    assert not cluster.worlds[own].node.reads_are_current
    cluster.worlds[own].node.when_linearizable(reads.append)
    cluster.run()
    assert reads == [None]
    cluster.cut = {own}
    cluster.worlds[own].node.when_linearizable(reads.append)
    cluster.tick(7.2)
    assert len(reads) == 2
    assert isinstance(reads[1], Timeout)


def test_a_read_whose_leader_fell_silent_is_answered_by_the_next() -> None:
    cluster = cluster_led_by(1)
    reads: list[Any] = []
    cluster.cut = {1}
    cluster.worlds[2].node.when_linearizable(reads.append)
    cluster.run()
    assert reads == []
    cluster.elect(3)
    cluster.run()
    assert reads == [None]


def test_the_end_refuses_what_is_forwarded() -> None:
    cluster = cluster_led_by(1)
    cluster.cut = {2}
    (forwarded,) = propose(cluster, 2)
    cluster.loop.run()
    cluster.worlds[2].node.refuse_all(Stopped, under_way=Stopped)
    assert forwarded.outcomes == [Stopped]


def test_a_late_heartbeat_of_a_leader_is_counted() -> None:
    cluster = cluster_led_by(1)
    cluster.tick(0.5)
    leader = cluster.worlds[1].node
    assert leader.heartbeat_failures == 0
    cluster.loop.now += 0.3
    cluster.tick(0.1)
    assert leader.heartbeat_failures == 1
    assert cluster.worlds[2].node.heartbeat_failures == 0


# --- snapshots ---


def lagging(cluster: Cluster) -> Any:
    """Member 3, to which the leader has just sent a snapshot up to entry 6."""
    cluster.cut = {3}
    leader = cluster.worlds[1]
    propose(cluster, 1, 5)
    cluster.run()
    leader.disk.log.note_applied(6, ConfState(voters=(1, 2, 3)))
    leader.disk.log.truncate(6)
    cluster.cut = set()
    cluster.tick(0.5)
    world = cluster.worlds[3]
    assert len(world.observer.installs) == 1
    return world


def test_beside_an_install_the_member_keeps_in_touch_and_nothing_else() -> None:
    cluster = cluster_led_by(1)
    world = lagging(cluster)
    snapshot, hard_state, done = world.observer.installs[0]
    assert (snapshot.metadata.index, hard_state.commit) == (6, 6)
    (forwarded,) = propose(cluster, 3)
    cluster.run()
    assert cluster.worlds[1].applier.applied_index == 7, "it takes proposals"
    assert world.applier.applied_index == 1
    assert forwarded.outcomes == []
    world.disk.log.install(snapshot)
    world.applier.applied_index, world.applier.applied_term = 6, 1
    done(None)
    cluster.run()
    cluster.tick(0.5)
    assert world.applier.applied_index == 7
    assert forwarded.outcomes == [7]
    assert len(world.observer.installs) == 1


def test_a_failed_install_is_a_failed_disk() -> None:
    cluster = cluster_led_by(1)
    world = lagging(cluster)
    error = StorageError("no space left")
    world.observer.installs[0][2](error)
    assert world.observer.failures == [error]


def test_an_install_knows_nothing_as_committed_that_is_not_on_disk_with_it() -> None:
    """A crash after it would leave a commit index beyond the end of the log, which no start accepts."""
    cluster = cluster_led_by(1)
    cluster.cut = {3}
    propose(cluster, 1, 6)
    cluster.run()
    cluster.cut = set()
    world = cluster.worlds[3]
    conf_state = raft_pb2.ConfState(voters=(1, 2, 3))
    snapshot = raft_pb2.Snapshot(metadata=raft_pb2.SnapshotMetadata(index=6, term=1, conf_state=conf_state))
    after = Entry(b"x", None, 1, 7)
    for sent in (
        Message(raft_pb2.MsgSnap, to=3, from_=1, term=1, snapshot=snapshot),
        Message(raft_pb2.MsgApp, to=3, from_=1, term=1, index=6, log_term=1, entries=[after], commit=7),
    ):
        world.node.receive(sent)
    cluster.loop.run()
    ((_, hard_state, done),) = world.observer.installs
    assert hard_state.commit == 6
    world.disk.log.install(snapshot)
    done(None)
    assert (world.disk.log.hard_state.commit, world.disk.log.last_index()) == (7, 7)


def test_a_bug_in_what_follows_a_write_ends_the_process() -> None:
    cluster = cluster_led_by(1)
    world = cluster.worlds[1]
    world.disk.inline = False
    propose(cluster, 1)
    cluster.loop.run()

    def bug(_ready: object) -> None:
        raise ZeroDivisionError

    world.node._advance = bug
    world.disk.finish()
    assert [type(each) for each in world.observer.bugs] == [ZeroDivisionError]


def test_an_answer_that_says_less_does_not_take_the_place_of_one_that_says_more() -> None:
    more = Message(raft_pb2.MsgAppResp, to=1, from_=2, term=3, index=9)
    less = Message(raft_pb2.MsgAppResp, to=1, from_=2, term=3, index=4)
    assert newest_answers([more, less]) == [more, less]
    assert newest_answers([less, more]) == [more]


def test_proposals_wait_while_the_leadership_goes_over() -> None:
    cluster = cluster_led_by(1)
    cluster.lost = lambda message: message.type == raft_pb2.MsgTimeoutNow
    cluster.worlds[1].node.transfer_leadership(2)
    (proposal,) = propose(cluster, 1)
    cluster.run()
    assert proposal.outcomes == []
    cluster.tick(2.0)
    assert proposal.outcomes == [2], "the handing over was given up"


def test_what_meets_a_hand_over_is_answered_by_the_next_leader() -> None:
    """etcd's leader drops what others pass on meanwhile, and its client hears so after 7 s."""
    cluster = cluster_led_by(1)
    cluster.lost = lambda message: message.type == raft_pb2.MsgTimeoutNow
    cluster.worlds[1].node.transfer_leadership(2)
    cluster.run()
    (proposal,) = propose(cluster, 3)
    cluster.tick(0.3)
    cluster.elect(2)
    assert proposal.outcomes == [3]
    assert [world.applier.applied.count(proposal.data) for world in cluster.worlds.values()] == [1, 1, 1]


def test_what_reaches_a_member_that_leads_no_more_is_answered_by_the_next_leader() -> None:
    cluster = cluster_led_by(1)
    cluster.cut = {2, 3}
    (proposal,) = propose(cluster, 3)
    cluster.loop.run()
    (forwarded,) = (each for each in cluster.worlds[3].observer.sent if each.type == raft_pb2.MsgProp)
    cluster.worlds[1].node.receive(Message(raft_pb2.MsgVote, to=1, from_=2, term=9))
    cluster.worlds[1].node.receive(decode_message(b"".join(encode_message(forwarded))))
    cluster.run()
    assert cluster.worlds[1].raw.leader == 0
    cluster.cut = set()
    cluster.elect(1)
    assert len(proposal.outcomes) == 1
    assert cluster.worlds[2].applier.applied.count(proposal.data) == 1


def test_a_change_of_members_that_meets_a_hand_over_is_dropped_as_on_etcd() -> None:
    cluster = cluster_led_by(1)
    cluster.worlds[1].node.transfer_leadership(2)
    change = Entry(raft_pb2.ConfChange(node_id=7).SerializeToString(), type=EntryType.CONF_CHANGE)
    cluster.worlds[1].node.receive(Message(raft_pb2.MsgProp, to=1, from_=3, entries=[change]))
    assert cluster.worlds[1].node.proposals_pending == 0


def test_what_a_leader_asks_by_itself_counts_in_its_own_term_alone() -> None:
    """The end of a lease, say: the next leader has renewed it."""
    cluster = cluster_led_by(1)
    leader = cluster.worlds[1]
    own = propose_as_leader(cluster, 1)
    cluster.run()
    assert own.outcomes == [2]
    leader.disk.inline = False
    cluster.cut = {1}
    propose(cluster, 1)
    cluster.run()
    beside_the_disk = propose_as_leader(cluster, 1)
    cluster.run()
    cluster.elect(2)
    cluster.cut = set()
    cluster.tick(0.5)
    too_late = propose_as_leader(cluster, 1)
    leader.disk.inline = True
    leader.disk.finish()
    cluster.tick(8.0)
    assert (beside_the_disk.outcomes, too_late.outcomes) == ([TimeoutLeaderFailed], [NotLeader])
    assert all(beside_the_disk.data not in world.applier.applied for world in cluster.worlds.values())
    cluster.worlds[2].node.transfer_leadership(1)
    handing_over = propose_as_leader(cluster, 2)
    assert handing_over.outcomes == [NotLeader]


def test_a_leader_whose_disk_hangs_is_replaced() -> None:
    cluster = cluster_led_by(1)
    cluster.worlds[1].disk.inline = False
    (hanging,) = propose(cluster, 1)
    cluster.tick(4.0)
    leaders = [own for own in (2, 3) if cluster.worlds[own].raw.is_leader]
    assert len(leaders) == 1
    (proposal,) = propose(cluster, leaders[0])
    cluster.run()
    assert proposal.outcomes == [cluster.worlds[leaders[0]].applier.applied_index]
    assert cluster.worlds[1].observer.leaders[-1] == (leaders[0], 1, False), "its leases are no longer its own"
    cluster.worlds[1].disk.inline = True
    cluster.worlds[1].disk.finish()
    cluster.tick(0.5)
    assert cluster.worlds[1].applier.applied == cluster.worlds[2].applier.applied
    assert hanging.outcomes == [2]


def test_a_disk_that_is_slow_costs_no_leader() -> None:
    cluster = cluster_led_by(1)
    cluster.worlds[1].disk.inline = False
    for _ in range(8):
        propose(cluster, 1)
        cluster.tick(0.6)
        cluster.worlds[1].disk.finish()
    assert cluster.worlds[1].raw.is_leader


def test_a_member_whose_disk_has_failed_gathers_nothing() -> None:
    cluster = cluster_led_by(1)
    world = cluster.worlds[3]
    world.disk.failed = StorageError("gone")
    for _ in range(50):
        propose(cluster, 1)
        cluster.tick(0.1)
    raft = world.raw._raft
    assert not raft.messages
    assert {message.type for message in raft.messages_after_persist} == {raft_pb2.MsgVote}, "one an election timeout"
