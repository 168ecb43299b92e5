"""Planted bugs, each a classic of its kind: what the judges are for. A function here breaks one promise of the code
under test, through `patch` (pytest's MonkeyPatch), and leaves all else as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.apply.applier import Applier
from etcdpy.lease.lessor import Lessor
from etcdpy.mvcc.watch import WatchHub
from etcdpy.proto import raft_pb2
from etcdpy.raft import election, following, reads, replication
from etcdpy.raft.core import Raft
from etcdpy.raft.log import Log
from etcdpy.raft.node import RawNode
from etcdpy.raft.step import HANDLERS
from etcdpy.raft.tracker import Tracker
from etcdpy.raft.types import Role
from etcdpy.server.node import Node
from etcdpy.server.reads import ReadQueue
from tests.simulation.member import Process
from tests.support.memory_engine import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

    from etcdpy.raft.entry import Entry
    from etcdpy.raft.message import Message
    from etcdpy.raft.types import Ready


def own_vote_counts_twice(patch: pytest.MonkeyPatch) -> None:
    record = Tracker.record_vote

    def twice(self: Tracker, member: int, granted: bool) -> Any:
        if not self.votes and granted:
            others = [each for each in self.configuration.voters.ids if each != member]
            record(self, min(others), granted)
        return record(self, member, granted)

    patch.setattr(Tracker, "record_vote", twice)


def votes_for_a_shorter_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Log, "is_up_to_date", lambda _self, _index, _term: True)


def votes_twice_in_a_term(patch: pytest.MonkeyPatch) -> None:
    handle = election.handle_vote

    def forgetful(raft: Raft, message: Message) -> None:
        raft.vote = raft.leader = 0
        handle(raft, message)

    patch.setitem(_handlers(Role.FOLLOWER), raft_pb2.MsgVote, forgetful)


def vote_is_not_stored(patch: pytest.MonkeyPatch) -> None:
    take_job = MemoryEngine.take_job

    def without_vote(self: MemoryEngine, hard_state: Any, entries: Sequence[Entry], *, must_sync: bool = False) -> Any:
        return take_job(self, hard_state and hard_state._replace(vote=0), entries, must_sync=must_sync)

    patch.setattr(MemoryEngine, "take_job", without_vote)


def commits_entries_of_old_terms(patch: pytest.MonkeyPatch) -> None:
    """See test_figure_8.py."""

    def maybe_commit(self: Raft) -> bool:
        index = self.tracker.committed_index()
        return self.log.committed < index <= self.log.last_index and self.log.commit_to(index)

    patch.setattr(Raft, "maybe_commit", maybe_commit)


def commits_without_a_quorum(patch: pytest.MonkeyPatch) -> None:
    def committed_index(self: Tracker) -> int:
        return sorted(self.progress[each].match for each in self.configuration.voters.ids)[-1]

    patch.setattr(Tracker, "committed_index", committed_index)


def counts_own_entries_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    propose = replication.propose

    def early(raft: Raft, entries: Sequence[Entry]) -> None:
        propose(raft, entries)
        raft.acknowledge_own(raft.log.last_index)
        replication.commit(raft)

    patch.setattr(replication, "propose", early)


def acknowledges_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    ready = RawNode.ready

    def early(self: RawNode) -> Ready:
        made = ready(self)
        return made._replace(messages=made.messages + made.messages_after_persist, messages_after_persist=[])

    def advance(self: RawNode, made: Ready) -> None:
        self._outstanding = made
        advance_(self, made)

    advance_ = RawNode.advance
    patch.setattr(RawNode, "ready", early)
    patch.setattr(RawNode, "advance", advance)


def never_syncs(patch: pytest.MonkeyPatch) -> None:
    take_job = MemoryEngine.take_job

    def unsynced(self: MemoryEngine, hard_state: Any, entries: Sequence[Entry], *, must_sync: bool = False) -> Any:
        return take_job(self, hard_state, entries, must_sync=False)

    patch.setattr(MemoryEngine, "take_job", unsynced)


def does_not_compare_what_precedes(patch: pytest.MonkeyPatch) -> None:
    """A follower appends although its entry before those differs from the leader's."""
    matches = Log.matches

    def any_term(self: Log, index: int, term: int) -> bool:
        return matches(self, index, term) or self.committed < index <= self.last_index

    patch.setattr(Log, "matches", any_term)


def late_appends_cut_the_log(patch: pytest.MonkeyPatch) -> None:
    """A follower takes every MsgApp for all there is: one that comes late cuts what was acknowledged."""

    def all_of_them(raft: Raft, entries: list[Entry]) -> list[Entry]:
        return [entry for entry in entries if entry.index > raft.log.committed]

    patch.setattr(following, "_without_known", all_of_them)


def leader_reads_without_asking(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reads, "answers_at_once", lambda _raft: True)


def reads_before_the_first_commit_of_a_term(patch: pytest.MonkeyPatch) -> None:
    """Raft paper section 8: a new leader does not know yet what is committed."""
    patch.setattr(Raft, "committed_in_term", lambda _self: True)


def reads_do_not_wait_for_applying(patch: pytest.MonkeyPatch) -> None:
    serve = ReadQueue.serve
    patch.setattr(ReadQueue, "serve", lambda self, _applied: serve(self, 1 << 60))


def any_member_reads_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Process, "when_linearizable", lambda _self, ready: ready(None))


def applies_twice_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """The applied index is behind the state that it belongs to."""
    restore = Process._restore

    def behind(self: Process) -> None:
        restore(self)
        self.engine.applied_index = max(self.engine.applied_index - 1, self.engine.log.start_index)

    patch.setattr(Process, "_restore", behind)


def proposes_again_after_a_change_of_leaders(patch: pytest.MonkeyPatch) -> None:
    """What a deposed leader had appended goes to the new one as well."""

    def again(self: Node) -> None:
        while self._in_flight:
            deadline, entries = self._in_flight.popleft()
            self._parked.add(deadline, entries)

    patch.setattr(Node, "_give_away_in_flight", again)


def a_member_loses_a_write(patch: pytest.MonkeyPatch) -> None:
    put = Applier._put

    def forgetful(self: Applier, request: Any) -> Any:
        group: Any = self._group
        if group.id == 2 and self._store.current_revision == 10:
            return 11, b""
        return put(self, request)

    patch.setattr(Applier, "_put", forgetful)


def watchers_miss_a_batch(patch: pytest.MonkeyPatch) -> None:
    notify = WatchHub.notify

    def now_and_then(self: WatchHub, changes: Any) -> None:
        if changes[0][0] >> 32 != 12:
            notify(self, changes)

    patch.setattr(WatchHub, "notify", now_and_then)


def heartbeats_tell_no_commit_index(patch: pytest.MonkeyPatch) -> None:
    """Liveness: followers never hear of the last commit once its message is lost."""
    send = Raft.send

    def silent(self: Raft, message: Message) -> None:
        if message.type == raft_pb2.MsgHeartbeat or (message.type == raft_pb2.MsgApp and not message.entries):
            message.commit = 0
        send(self, message)

    patch.setattr(Raft, "send", silent)


def leader_never_probes_again(patch: pytest.MonkeyPatch) -> None:
    """Liveness: what was lost on the way to a follower is not sent a second time."""
    patch.setattr(following, "_refuse", lambda _raft, _message: None)


def a_renewal_changes_nothing(patch: pytest.MonkeyPatch) -> None:
    renew = Lessor.renew

    def forgetful(self: Lessor, lease_id: int, now: float) -> int:
        lease = self._leases.get(lease_id)
        before = None if lease is None else lease.expiry
        ttl = renew(self, lease_id, now)
        if lease is not None and before is not None:
            lease.expiry = before
        return ttl

    patch.setattr(Lessor, "renew", forgetful)


def a_new_leader_gives_leases_no_time(patch: pytest.MonkeyPatch) -> None:
    promote = Lessor.promote

    def hasty(self: Lessor, now: float, _extend_seconds: float) -> None:
        promote(self, now, -max((lease.ttl for lease in self._leases.values()), default=0))

    patch.setattr(Lessor, "promote", hasty)


def leases_run_on_a_clock_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """It is twice as fast as that of the ticks."""
    advance = Lessor._advance
    patch.setattr(Lessor, "_advance", lambda self, now: advance(self, now * 2))


def leases_never_end(patch: pytest.MonkeyPatch) -> None:
    """Liveness."""
    patch.setattr(Lessor, "expired", lambda _self, _now, _limit: [])


def a_new_leader_lets_leases_live_for_ever(patch: pytest.MonkeyPatch) -> None:
    """Liveness: it takes over the leases, but not the task of ending them."""
    promote = Lessor.promote

    def idle(self: Lessor, now: float, extend_seconds: float) -> None:
        promote(self, now, extend_seconds)
        self._expiries.clear()

    patch.setattr(Lessor, "promote", idle)


def _handlers(role: Role) -> Any:
    return HANDLERS[role]


ALL = [
    own_vote_counts_twice,
    votes_for_a_shorter_log,
    votes_twice_in_a_term,
    vote_is_not_stored,
    commits_without_a_quorum,
    counts_own_entries_before_the_sync,
    acknowledges_before_the_sync,
    never_syncs,
    does_not_compare_what_precedes,
    late_appends_cut_the_log,
    leader_reads_without_asking,
    reads_before_the_first_commit_of_a_term,
    reads_do_not_wait_for_applying,
    any_member_reads_at_once,
    applies_twice_after_a_restart,
    proposes_again_after_a_change_of_leaders,
    a_member_loses_a_write,
    watchers_miss_a_batch,
    heartbeats_tell_no_commit_index,
    leader_never_probes_again,
    a_new_leader_gives_leases_no_time,
    a_renewal_changes_nothing,
    leases_run_on_a_clock_of_their_own,
    leases_never_end,
    a_new_leader_lets_leases_live_for_ever,
]
