"""The ready loop: takes proposals in, drives Raft and the disk, applies what is committed.

    propose -> [waiting] -> raft -> ready -+-> disk thread: one synced write a batch
                                           +-> apply, meanwhile, what the last batch committed -> answers, watchers

Everything here runs on the core loop; only a disk job runs elsewhere. At most one job is under way. What arrives while
it runs waits and becomes the next batch, so a loaded member batches by itself and an idle one answers at once.

Messages of other members come in through `receive`. Whatever one turn of the loop brings is stepped first; then one
Ready, one synced write and one answer stand for all of it. What a leader sends to its followers leaves before its own
write, so that all disks work at the same time (Raft thesis 10.2.1).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.apply.chunks import take_chunk
from etcdpy.errors import (
    NeverProposed,
    NotLeader,
    RequestTooLarge,
    Timeout,
    TimeoutConnectionLost,
    TimeoutLeaderFailed,
    TooManyRequests,
)
from etcdpy.proto.raft_pb2 import MsgSnap
from etcdpy.raft.entry import NORMAL, Entry
from etcdpy.raft.errors import LogLost, ProposalDropped, RaftError
from etcdpy.raft.types import Role
from etcdpy.server import logs
from etcdpy.server.acknowledgements import newest_answers
from etcdpy.server.commit_news import CommitNews
from etcdpy.server.forwarded import Forwarded
from etcdpy.server.parked import Parked, held_bytes
from etcdpy.server.reads import ReadQueue
from etcdpy.server.request_times import RequestTimes
from etcdpy.storage.errors import StorageError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from etcdpy.apply.applier import Applier
    from etcdpy.apply.proposal import Proposal
    from etcdpy.errors import EtcdError
    from etcdpy.proto import raft_pb2
    from etcdpy.raft.message import Message
    from etcdpy.raft.node import RawNode
    from etcdpy.raft.types import Ready
    from etcdpy.server.observer import Observer
    from etcdpy.server.slow_requests import SlowRequests
    from etcdpy.storage.engine import Engine
    from etcdpy.storage.job import DiskJob

    ReadWaiter = Callable[[EtcdError | None], None]

log = logs.get("server")


class Node:
    """One member's replicated log and what applying it gives. All methods belong to the core loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        raw: RawNode,
        engine: Engine,
        applier: Applier,
        observer: Observer,
        *,
        next_id: Callable[[], int],
        heartbeat_seconds: float,
        election_seconds: float,
        max_request_bytes: int,
        request_timeout_seconds: float,
        slow: SlowRequests,
        prioritises_revocations: bool = False,
    ) -> None:
        self._loop = loop
        self._raw = raw
        self._engine = engine
        self._applier = applier
        self._observer = observer
        self._heartbeat_seconds = heartbeat_seconds
        self._election_seconds = election_seconds
        self._max_request_bytes = max_request_bytes
        self._request_timeout_seconds = request_timeout_seconds
        self._prioritises_revocations = prioritises_revocations
        self._lag_looked_at = limits.MAX_APPLY_LAG_ENTRIES
        """With more in the queue a proposal asks how far applying is behind; -1 while entries wait outside it as well,
        beside a slow disk."""
        self._waiting: deque[Proposal] = deque()
        self._waiting_bytes = 0
        self._parked = Parked()
        self._in_flight: deque[tuple[float, list[Entry]]] = deque()
        """What this member has put in its log as leader of the current term."""
        self._forwarded = Forwarded(applier.registry)
        self._scheduled = False
        self._persisting: Ready | None = None
        """The Ready whose disk job is under way."""
        self._persisting_since = 0.0
        self._changing: Ready | None = None
        """The Ready that is durable and not advanced: a change of members that it commits waits to be applied."""
        self._members_index = 0
        """The entry of the last such change."""
        self._to_apply: deque[Entry] = deque()
        self._apply_scheduled = False
        self.reads = ReadQueue(raw, next_id=next_id, retry_seconds=limits.READ_INDEX_RETRY_SECONDS)
        self._refusal: type[EtcdError] | None = None
        self.leader = 0
        self.term = 0
        self.leads = False
        self.ticked_at = loop.time()
        """When Raft's clock last went on; long ago means that this process stood still."""
        self._news = CommitNews(loop, raw, self._schedule)
        self._leader_since = float("-inf")
        self.heartbeat_failures = 0
        self.proposals_failed = 0
        self.leader_changes = 0
        self.times = RequestTimes(applier, slow, loop.time, timeout_seconds=request_timeout_seconds)

    # --- proposals ---

    def propose(self, proposal: Proposal) -> None:
        """Take a proposal in; its `answer` or `refuse` is called later."""
        size = len(proposal.data)
        if self._refusal is not None:
            proposal.refuse(self._refusal())
        elif size > self._max_request_bytes:
            proposal.refuse(RequestTooLarge())
        elif self._waiting_bytes > limits.WAITING_PROPOSALS_BYTES or (
            len(self._to_apply) > self._lag_looked_at and self._lags_too_far(proposal)
        ):
            proposal.refuse(TooManyRequests())
        else:
            self._waiting_bytes += size + limits.PROPOSAL_OVERHEAD_BYTES
            self._waiting.append(proposal)
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._turn)

    def propose_as_leader(self, proposal: Proposal) -> None:
        """Append at once what a leader asks by itself, so that it counts in this term alone: what waits, for the disk
        say, could be passed on to the next leader. One message each, so callers see to it that these are few."""
        if self._refusal is not None:
            proposal.refuse(self._refusal())
        elif not self._raw.is_leader or self._raw.lead_transferee:
            proposal.refuse(NotLeader())
        elif self._lags_too_far(proposal):
            proposal.refuse(TooManyRequests())
        else:
            self._propose(self._loop.time() + self._request_timeout_seconds, [Entry(proposal.data, proposal)])
            self._schedule()

    def _lags_too_far(self, proposal: Proposal) -> bool:
        """Whether so much is committed and not applied that nothing more is taken in, by etcd's rule."""
        lag = max(len(self._to_apply), self._raw.committed - self._applier.applied_index)
        if self._prioritises_revocations and proposal.kind == "lease_revoke":
            return lag > limits.MAX_APPLY_LAG_PRIORITY_ENTRIES
        return lag > limits.MAX_APPLY_LAG_ENTRIES

    def propose_conf_change(self, change: raft_pb2.ConfChange) -> None:
        """Take in a change of members; the applier's group hears of its end. Raises ProposalDropped, EtcdError."""
        if self._refusal is not None:
            raise self._refusal()
        self._raw.propose_conf_change(change)
        self._schedule()

    @property
    def proposals_pending(self) -> int:
        """Proposals taken in and not yet applied."""
        in_flight = sum(len(entries) for _, entries in self._in_flight)
        return len(self._waiting) + len(self._parked) + in_flight + len(self._forwarded)

    def refuse_all(self, error: type[EtcdError], under_way: type[EtcdError]) -> None:
        """From now on every proposal is refused with `error`; those under way, which may still come to be committed,
        with `under_way`."""
        self._refusal = error
        self._give_up_waiting(error)
        for _, entries in self._parked.take():
            self._refuse_entries(entries, error)
        while self._in_flight:
            self._refuse_entries(self._in_flight.popleft()[1], under_way)
        self.proposals_failed += self._forwarded.fail(under_way)
        self.reads.fail(under_way)

    # --- linearizable reads ---

    @property
    def reads_are_current(self) -> bool:
        """Whether the applied state holds every acknowledged write right now, with nobody to ask.

        So it is for a leader that is a quorum by itself: it answers a write only after it has applied it.
        """
        return self._raw.read_index_now() is not None

    def when_linearizable(self, ready: ReadWaiter) -> None:
        """Call `ready(None)` once the applied state holds all that was acknowledged before now (Raft paper section 8).

        Or call it with the error: Timeout when no leader confirms in time, Stopped when the member ends.
        """
        if self.reads_are_current:
            ready(None)
            return
        if self._refusal is not None:
            ready(self._refusal())
            return
        if self.reads.is_full:
            ready(TooManyRequests())
            return
        self.reads.add(self._loop.time() + self._request_timeout_seconds, ready)
        self._schedule()

    # --- other members ---

    def receive(self, message: Message) -> None:
        """Take a message of another member in. What comes after the disk has failed could never be answered."""
        if self._engine.failed is not None:
            return
        self._news.heard(message)
        try:
            self._raw.step(message)
        except LogLost as error:
            self._observer.broken(error)
        except ProposalDropped as error:
            log.debug("dropped a proposal of another member", error=str(error))
            self._keep_dropped(message)
        except RaftError as error:
            log.debug("dropped a raft message", error=str(error))
        except Exception as error:
            self._observer.broken(error)
        else:
            self._schedule()

    def _keep_dropped(self, message: Message) -> None:
        """What another member passed on while the leadership goes over, or is nobody's, waits for the next leader like
        what was taken in here. On etcd it is lost, and its client hears of that when its time is up."""
        goes_over = not self._raw.leader or self._raw.lead_transferee
        if goes_over and all(entry.type == NORMAL for entry in message.entries):
            self._park(self._loop.time() + self._request_timeout_seconds, message.entries)

    def unreachable(self, member: int) -> None:
        """What was sent to a member was probably lost."""
        self._raw.report_unreachable(member)
        self._schedule()

    def snapshot_sent(self, member: int, *, ok: bool) -> None:
        """A snapshot has reached a member, or has not."""
        self._raw.report_snapshot(member, ok=ok)
        self._schedule()

    def transfer_leadership(self, target: int) -> None:
        """Begin to hand over to another voter."""
        self._raw.transfer_leadership(target)
        self._schedule()

    # --- the loop ---

    def tick(self) -> None:
        """One tick of Raft's clock has passed."""
        self._guard(self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        self._note_late_heartbeat(now)
        self.ticked_at = now
        if self.leader and not self.leads and not self._observer.connected_since(now):
            self._raw.leader_is_lost()
        self._raw.tick()
        self._news.tick()
        self._expire(now)
        lag = self._raw.committed - self._applier.applied_index
        self._lag_looked_at = -1 if lag > limits.MAX_APPLY_LAG_ENTRIES else limits.MAX_APPLY_LAG_ENTRIES
        self.drive()
        if self._persisting is None and self._engine.failed is None and self._engine.has_open_writes:
            # Nothing else is on its way to the disk that could take the applied state along.
            self._write_applied()

    def _note_late_heartbeat(self, now: float) -> None:
        late = now - self.ticked_at - 2 * self._heartbeat_seconds
        if self.leads and late > 0:
            self.heartbeat_failures += 1
            log.warn(
                "leader failed to send out heartbeat on time; it is overloaded, or its disk is slow",
                **{"heartbeat-interval": self._heartbeat_seconds, "exceeded-duration": late},
            )

    def drive(self) -> None:
        """Do all that Raft is ready for. While a disk job runs only reads and messages wait for nothing."""
        if self._engine.failed is not None:
            self._raw.take_messages()  # nobody is to hear of a member that can promise nothing
            return
        if self._persisting is not None or self._changing is not None:
            self._keep_in_touch()
            return
        raw = self._raw
        if self._parked and raw.leader and not raw.lead_transferee:
            for deadline, entries in self._parked.take():
                self._propose(deadline, entries)
        if self._waiting:
            self._propose_waiting()
        if self.reads.wants_confirmation:
            self.reads.ask(self._loop.time())
        while raw.has_ready():
            ready = raw.ready()
            if ready.soft_state is not None or ready.hard_state is not None:
                self._note_state(ready)
            if ready.messages:
                self._observer.send(ready.messages)
            if ready.read_states:
                self.reads.note(ready.read_states, self._applier.applied_index)
            if ready.snapshot is not None:
                self._install(ready, ready.snapshot)
                return
            if not self._make_durable(ready):
                return
            self._take_over(ready)
            if self._members_index > self._applier.applied_index:
                self._changing = ready
                return
            self._advance(ready)
        self._news.tell_soon()

    def _make_durable(self, ready: Ready) -> bool:
        """False when the disk has it still to do, or has failed."""
        if ready.entries or ready.must_sync or ready.messages_after_persist:
            return self._persist(ready)
        if ready.hard_state is not None:
            self._engine.note_hard_state(ready.hard_state)
        return True

    def _keep_in_touch(self) -> None:
        """Beside a disk job or a backlog that changes members: what waits for neither, such as heartbeats and reads."""
        leader, leads = self._raw.leader, self._raw.is_leader
        if leader != self.leader or leads != self.leads:
            self._note(self.term, leader, leads=leads)  # what only a leader may do ends at once
        if self._waiting and not self._raw.is_leader:
            self._propose_waiting()
        if self.reads.wants_confirmation:
            self.reads.ask(self._loop.time())
        self._news.tell_soon()
        messages = self._raw.take_messages()
        if messages and self._hangs_as_leader:
            self._drop(messages)
        elif messages:
            self._observer.send(messages)
        read_states = self._raw.take_read_states()
        if read_states:
            self.reads.note(read_states, self._applier.applied_index)

    def _drop(self, messages: Sequence[Message]) -> None:
        """Nobody is to get these. Raft finds out by itself what was lost, but for snapshots, which it waits for."""
        for message in messages:
            if message.type == MsgSnap:
                self._raw.report_snapshot(message.to, ok=False)

    @property
    def _hangs_as_leader(self) -> bool:
        """Whether this member leads and its disk has not answered for an election timeout. It can commit nothing more,
        so it falls silent, and the others elect a leader whose disk works."""
        hangs = self._persisting is not None and self._loop.time() - self._persisting_since > self._election_seconds
        return hangs and self._raw.is_leader

    def _advance(self, ready: Ready) -> None:
        if ready.messages_after_persist:
            self._observer.send(newest_answers(ready.messages_after_persist))
        self._raw.advance(ready)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._guard(self.drive)

    def _guard(self, step: Callable[..., None], *arguments: Ready) -> None:
        """Run what the loop calls back. Half an applied entry must not be built upon, so a bug ends the process."""
        try:
            step(*arguments)
        except StorageError as error:
            self._observer.storage_failed(error)
        except Exception as error:
            self._observer.broken(error)

    def _propose_waiting(self) -> None:
        waiting = self._waiting
        if len(waiting) <= limits.MAX_BATCH_PROPOSALS:
            entries = [Entry(proposal.data, proposal) for proposal in waiting]
            waiting.clear()
            self._waiting_bytes = 0
        else:
            entries = [Entry((each := waiting.popleft()).data, each) for _ in range(limits.MAX_BATCH_PROPOSALS)]
            self._waiting_bytes -= held_bytes(entries)
            self._schedule()
        self._propose(self._loop.time() + self._request_timeout_seconds, entries)

    def _propose(self, deadline: float, entries: list[Entry]) -> None:
        raw = self._raw
        if not raw.leader:
            self._park(deadline, entries)
            return
        try:
            if raw.is_leader:
                raw.propose(entries)
                self._in_flight.append((deadline, entries))
            else:
                self._forward(deadline, entries)
        except ProposalDropped:
            if raw.lead_transferee:
                self._park(deadline, entries)
            else:
                self._refuse_entries(entries, TooManyRequests)

    def _park(self, deadline: float, entries: list[Entry]) -> None:
        if not self._parked.add(deadline, entries):
            self._refuse_entries(entries, TooManyRequests)

    def _forward(self, deadline: float, entries: list[Entry]) -> None:
        """Send entries to the leader, in messages of a bounded size."""
        if self._forwarded.held_bytes > limits.WAITING_PROPOSALS_BYTES:
            self._refuse_entries(entries, TooManyRequests)
            return
        while entries:
            count = size = 0
            while count < len(entries) and (not count or size < limits.RAFT_MESSAGE_BYTES):
                size += len(entries[count].data)
                count += 1
            batch, entries = entries[:count], entries[count:]
            self._raw.propose(batch)
            self._forwarded.add(deadline, batch)

    def _persist(self, ready: Ready) -> bool:
        """Make a Ready durable. True when it already is; False when a disk job has been started or has failed."""
        job = self._engine.take_job(ready.hard_state, ready.entries, must_sync=ready.must_sync)
        if self._engine.submit(job, self._persisted, self._loop):
            if job.error is None:
                return True
            self._observer.storage_failed(job.error)
            return False
        self._persisting = ready
        self._persisting_since = self._loop.time()
        # What was committed before runs beside the disk: it is durable already.
        self._take_over(ready)
        return False

    def _persisted(self, job: DiskJob) -> None:
        ready = self._persisting
        assert ready is not None, "a disk job ended that nobody started"
        if job.error is not None:
            self._observer.storage_failed(job.error)
            return
        self._persisting = None
        self._guard(self._go_on, ready)

    def _go_on(self, ready: Ready) -> None:
        if self._members_index > self._applier.applied_index:
            self._changing = ready
            return
        self._advance(ready)
        self.drive()

    def _install(self, ready: Ready, snapshot: raft_pb2.Snapshot) -> None:
        """Go over to the leader's state, beside which nothing is written; all that waits to be applied is in it."""
        self._persisting = ready
        self._persisting_since = self._loop.time()
        self._to_apply.clear()
        self._applier.abandon()
        hard_state = ready.hard_state or self._engine.log.hard_state
        # Later entries are not on disk with it, so they cannot be known as committed there yet.
        hard_state = hard_state._replace(commit=snapshot.metadata.index)
        self._observer.install_snapshot(snapshot, hard_state, self._installed)

    def _installed(self, error: StorageError | None) -> None:
        ready = self._persisting
        assert ready is not None, "a snapshot was installed that nobody asked for"
        if error is not None:
            self._observer.storage_failed(error)
            return
        self._persisting = None
        self._guard(self._go_on_after_install, ready)

    def _go_on_after_install(self, ready: Ready) -> None:
        self.reads.serve(self._applier.applied_index)
        # Entries after the snapshot are one more trip to the disk.
        if not ready.entries or self._persist(ready):
            self._go_on(ready)

    def write_early(self) -> None:
        """Write what is applied if it is much already; a disk job under way goes first. For what writes in slices."""
        if self._engine.should_write_early:
            self._guard(self._write_applied)

    def _write_applied(self) -> None:
        job = self._engine.take_job(None, ())
        if self._engine.submit(job, self._written, self._loop):
            self._written(job)

    def _written(self, job: DiskJob) -> None:
        if job.error is not None:
            self._observer.storage_failed(job.error)

    # --- applying ---

    def _take_over(self, ready: Ready) -> None:
        if not ready.committed:
            return
        self._to_apply.extend(ready.committed)
        if not self._apply_scheduled:
            self._apply_slice()
        if self._apply_scheduled:
            # Raft must know its new members before it goes on, so it waits for what changes them.
            changes = (entry.index for entry in ready.committed if entry.type)
            self._members_index = max(changes, default=self._members_index)

    def _apply_slice(self) -> None:
        """Apply what is committed, but let go of the loop before long: heartbeats and other clients wait."""
        applier, engine = self._applier, self._engine
        if applier.under_way:
            self._go_on_with_long()
        else:
            self._apply_queue()
        applied = applier.applied_index
        engine.set_applied(applied, applier.applied_term)
        if not applier.under_way:
            engine.release_state()
        if engine.should_write_early:
            self._write_applied()
        if self._to_apply or applier.under_way:
            self._apply_scheduled = True
            self._loop.call_soon(self._guard, self._apply_later)
        in_flight = self._in_flight
        while in_flight and in_flight[0][1][-1].index <= applied:
            in_flight.popleft()
        self._observer.entries_applied()
        self.reads.serve(applied)

    def _apply_later(self) -> None:
        self._apply_scheduled = False
        if self._to_apply or self._applier.under_way:  # unless a snapshot took their place
            self._apply_slice()
        ready = self._changing
        if ready is not None and self._members_index <= self._applier.applied_index:
            self._changing = None
            self._go_on(ready)

    def _apply_queue(self) -> None:
        applier, queue = self._applier, self._to_apply
        spent = 0.0
        while queue and spent < limits.MAX_APPLY_SECONDS:
            deadline = self._oldest_deadline
            entries = take_chunk(queue)
            late = self.times.late(deadline, entries)
            elapsed = applier.apply_all(entries)
            self.times.note(deadline, elapsed, entries, late)
            spent += elapsed
            if applier.under_way:
                # What was applied before it goes out first, and what is behind it waits for its end.
                queue.extendleft(entry for entry in reversed(entries) if entry.index > applier.applied_index + 1)
                self._engine.hold_state()
                return

    def _go_on_with_long(self) -> None:
        """One slice of an entry that takes several, by itself: the others must not find it half done."""
        deadline, applier = self._oldest_deadline, self._applier
        entries = [applier.entry_under_way]
        late = self.times.late(deadline, entries)
        elapsed = applier.go_on()
        if applier.under_way:
            self._engine.gather_state()
        else:
            self.times.note(deadline, elapsed, entries, late)

    @property
    def _oldest_deadline(self) -> float | None:
        return self._in_flight[0][0] if self._in_flight else self._forwarded.oldest_deadline

    # --- what goes wrong ---

    def _note_state(self, ready: Ready) -> None:
        """Tell the observer when the leader or the term changed."""
        if ready.hard_state is not None:
            term = ready.hard_state.term
        else:
            term = self.term
        leader, leads = self.leader, self.leads
        if ready.soft_state is not None:
            leader, leads = ready.soft_state.leader, ready.soft_state.role is Role.LEADER
        if (term, leader, leads) != (self.term, self.leader, self.leads):
            self._note(term, leader, leads=leads)

    def _note(self, term: int, leader: int, *, leads: bool) -> None:
        if term != self.term or not leads:
            self._give_away_in_flight()
        if leader != self.leader and leader:
            self.leader_changes += 1
            self._leader_since = self._loop.time()
            self.reads.ask_again(self._leader_since)
            if self._parked:
                self._schedule()
        self.term, self.leader, self.leads = term, leader, leads
        self._observer.leadership_changed(leader, term, is_self=leads)

    def _give_away_in_flight(self) -> None:
        """This member leads no more: what it appended is the next leader's to keep or to drop."""
        while self._in_flight:
            self._forwarded.add(*self._in_flight.popleft())

    def _expire(self, now: float) -> None:
        """Give up what has waited longer than the request timeout; it may still be committed later."""
        for _, entries in self._parked.take(now):
            self._refuse_entries(entries, NeverProposed)
        while self._in_flight and self._in_flight[0][0] <= now:
            deadline, entries = self._in_flight.popleft()
            self._refuse_entries(entries, lambda deadline=deadline: self._timeout(deadline))  # type: ignore[misc]
        self.proposals_failed += self._forwarded.expire(now, self._timeout)
        if self._persisting is not None and now - self._persisting_since > self._request_timeout_seconds:
            self._give_up_waiting(Timeout)
        self.reads.expire(now, self._timeout)

    def _timeout(self, deadline: float) -> EtcdError:
        """Why nothing came, by its deadline, of a request that ran into no error: as etcd tells it."""
        started = deadline - self._request_timeout_seconds
        if self._leader_since - 2 * self._election_seconds < started < self._leader_since:
            return TimeoutLeaderFailed()
        if self.leader and not self._observer.connected_since(started):
            return TimeoutConnectionLost()
        return Timeout()

    def _give_up_waiting(self, error: type[EtcdError]) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._waiting_bytes = 0
        self.proposals_failed += len(waiting)
        for proposal in waiting:
            proposal.refuse(error())

    def _refuse_entries(self, entries: list[Entry], error: Callable[[], EtcdError]) -> None:
        applied = self._applier.applied_index
        for entry in entries:
            proposal = entry.proposal
            if proposal is not None and not 0 < entry.index <= applied:
                self.proposals_failed += 1
                proposal.refuse(error())  # type: ignore[attr-defined]
