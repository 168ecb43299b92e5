"""Applying committed entries: the same entry gives the same state on every member.

Each kind of request has a handler in a table. What holds for many kinds at once (an alarm that forbids writes) wraps
the table instead of asking in every handler: see `restricted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from mypy_extensions import mypyc_attr

from etcdpy import limits
from etcdpy.apply.auth_requests import AuthRequests
from etcdpy.apply.authorized import Authorizer
from etcdpy.apply.entry_data import REQUEST_ID_BYTES, TAGS, decode, plain_put_in, stamp_of
from etcdpy.apply.plain_put import PlainPut
from etcdpy.apply.quota import OverQuota, Quota, hold
from etcdpy.apply.restricted import restrict
from etcdpy.errors import Compacted, EtcdError, NoSpace, NotCapable, Timeout
from etcdpy.histogram import APPLY_SECONDS, Histogram
from etcdpy.membership.versions import DowngradeInfo
from etcdpy.mvcc import txn
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import sorted_steps
from etcdpy.proto import raft_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.apply.alarms import AlarmStore
    from etcdpy.apply.proposal import Outcome, Proposal, Steps
    from etcdpy.apply.restricted import Handlers
    from etcdpy.auth.store import AuthStore
    from etcdpy.lease.lessor import Lessor
    from etcdpy.membership.members import Membership
    from etcdpy.mvcc.store import Store
    from etcdpy.raft.entry import Entry


_PUT_DONE: Final = ("put", True)


def _refuse(proposal: Proposal | None) -> None:
    if proposal is not None:
        proposal.refuse(NoSpace())


class Group(Protocol):
    """Raft and the log, which must learn of a change of members when it is applied."""

    def apply_conf_change(self, change: raft_pb2.ConfChange | raft_pb2.ConfChangeV2) -> None:
        """Go over to the new members. A change for member 0 changes nothing but counts as applied."""
        ...

    def conf_change_applied(self, change: raft_pb2.ConfChange, error: EtcdError | None) -> None:
        """A change of members is over; with the error when it came to nothing."""
        ...


class _Long:
    """An entry that is applied in slices."""

    __slots__ = ("entry", "kind", "proposal", "seconds", "steps")

    def __init__(self, entry: Entry, kind: str, proposal: Proposal | None, steps: Steps) -> None:
        self.entry = entry
        self.kind = kind
        self.proposal = proposal
        self.steps = steps
        self.seconds = 0.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Applier:
    """Owns the order in which entries reach the state. `now` is the core loop's monotonic clock, for leases alone: it
    decides when a lease ends on the leader, never what is stored. `stopwatch` is for the durations alone.
    """

    def __init__(
        self,
        store: Store,
        lessor: Lessor,
        membership: Membership,
        alarms: AlarmStore,
        auth: AuthStore,
        group: Group,
        *,
        now: Callable[[], float],
        stopwatch: Callable[[], float],
        compaction_scheduled: Callable[[], None] = lambda: None,
        over_quota: Callable[[Proposal | None], None] = _refuse,
        applied_index: int = 0,
    ) -> None:
        """`over_quota` gets whoever waits for a request that went beyond the quota, to raise the alarm before it is
        refused."""
        self._store = store
        self._lessor = lessor
        self._membership = membership
        self._alarms = alarms
        self._auth = auth
        self._authorizer = Authorizer(auth, lessor)
        self._guard: Authorizer | None = None
        """In force while users are switched on."""
        self._group = group
        self._now = now
        self._stopwatch = stopwatch
        self._compaction_scheduled = compaction_scheduled
        self._over_quota = over_quota
        self._quota: Quota | None = None
        self.applied_index = applied_index
        """The last entry whose effects are in the state."""
        self.applied_term = 0
        self._applying = 0
        """The entry whose handler is running."""
        self.durations: dict[tuple[str, bool], Histogram] = {}
        """Seconds that applying took, by kind of request and success."""
        self.counts: dict[tuple[str, bool], int] = {}
        """How many requests of each kind the last `apply_all` applied, by success."""
        self.foreign_counts: dict[tuple[str, bool], int] = {}
        """How many of those nobody here had proposed."""
        self.registry: dict[bytes, Proposal] = {}
        """Requests of this member whose entries another member makes, by the id at the end of their payload."""
        self._base: Handlers = dict.fromkeys(TAGS, self._not_capable) | {
            "put": self._put,
            "delete_range": self._delete_range,
            "txn": self._txn,
            "range": self._range,
            "compaction": self._compact,
            "lease_grant": self._lease_grant,
            "lease_revoke": self._lease_revoke,
            "lease_checkpoint": self._lease_checkpoint,
            "alarm": self._alarm,
            "cluster_version_set": self._cluster_version_set,
            "cluster_member_attr_set": self._member_attributes_set,
            "downgrade_info_set": self._downgrade_info_set,
            **AuthRequests(auth, lambda: store.current_revision, lambda: self._applying, now).handlers(),
        }
        self._handlers = self._base
        self._takes_puts = True
        """No alarm stands against them, and the quota is far."""
        self._long: _Long | None = None
        # Plain puts that follow each other and are not stored yet, and who waits for each; empty between two calls.
        self._run_keys: list[bytes] = []
        self._run_values: list[bytes] = []
        self._run_proposals: list[Proposal | None] = []

    def hold_quota(self, quota: Quota | None) -> None:
        """Look at each request whether it goes beyond the quota; None: there is plenty of room, so nobody looks."""
        self._quota = quota
        self._restrict()

    def _restrict(self) -> None:
        """As on etcd an alarm is told before a lack of permission, and that before a lack of room."""
        base = self._base if self._quota is None else hold(self._base, self._quota)
        self._guard = self._authorizer if self._auth.enabled else None
        allowed = base if self._guard is None else self._guard.wrap(base)
        self._handlers = restrict(allowed, self._alarms)
        self._takes_puts = self._quota is None and self._handlers["put"] is allowed["put"]

    def restore(self) -> None:
        """Alarms and users have been read: put in force again what they forbid."""
        self._restrict()

    def apply_all(self, entries: Sequence[Entry]) -> float:
        """Apply committed entries in order and answer whoever proposed them here. Returns the seconds it took.

        An entry that the state already holds is passed over: after a crash the log may reach further back. Who waits
        for an entry is told by the entry itself, if this member made it, or by the request's id. Durations
        are counted a batch at a time, each entry at the batch's mean: a clock for every put would cost as much as its
        place in the index. Plain puts that follow each other are stored together. Hot road: one loop, since a call more
        an entry costs 0.1 us.

        It ends before an entry that takes slices: see `under_way`, `go_on`. Those behind it are for another call.
        """
        assert self._long is None, "an entry is still being applied"
        began = self._stopwatch()
        applied, registry, guard = self.applied_index, self.registry, self._guard
        self.counts.clear()
        self.foreign_counts.clear()
        keys, values, proposals = self._run_keys, self._run_values, self._run_proposals
        for entry in entries:
            if entry.index <= applied:
                continue
            applied += 1
            assert entry.index == applied, f"entry {entry.index} comes where {applied} is due"
            data = entry.data
            proposal: Proposal | None = entry.proposal  # type: ignore[assignment]
            if registry:
                proposal = registry.pop(data[-REQUEST_ID_BYTES:], proposal)
            if proposal is None:
                if entry.type or not data:
                    # A new leader's first entry has no data: it only shows that the leader can commit.
                    self._apply_other(entry)
                    continue
                if guard is None and self._takes_puts:
                    key, value = plain_put_in(data)
                    if key:
                        keys.append(key)
                        values.append(value)
                        proposals.append(None)
                        continue
                kind, request = decode(data)
            else:
                kind, request = proposal.kind, proposal.request
            if guard is not None:
                guard.signer = proposal.signer if proposal is not None else self._auth.signer(stamp_of(data))
            if request.__class__ is PlainPut and self._takes_puts and (guard is None or guard.lets_put(request.key)):
                keys.append(request.key)
                values.append(request.value)
                proposals.append(proposal)
                continue
            if keys:
                self._apply_run()
            if not self._apply_request(entry, kind, request, proposal):
                entries = entries[: entries.index(entry)]
                applied -= 1
                break
            guard = self._guard  # the users' switch may have changed it
        if keys:
            self._apply_run()
        if entries:
            self.applied_index, self.applied_term = applied, entries[-1].term
        elapsed = self._stopwatch() - began
        self._note_durations(elapsed / max(len(entries), 1))
        return elapsed

    def _apply_request(self, entry: Entry, kind: str, request: Any, proposal: Proposal | None) -> bool:
        """Apply what is no plain put. False where it is to be applied in slices."""
        self._applying = entry.index
        try:
            outcome = self._handlers[kind](request)
        except EtcdError as error:
            self._fail(kind, proposal, error)
            return True
        if outcome.__class__ is not tuple:
            self._long = _Long(entry, kind, proposal, outcome)  # type: ignore[arg-type]
            return False
        self._count(kind, proposal, success=True)
        if proposal is not None:
            proposal.answer(outcome)
        return True

    # --- what takes slices ---

    @property
    def under_way(self) -> bool:
        """Whether an entry is being applied in slices: the one after `applied_index`."""
        return self._long is not None

    @property
    def entry_under_way(self) -> Entry:
        """That entry. Only while there is one."""
        assert self._long is not None
        return self._long.entry

    def go_on(self) -> float:
        """Apply slices of the entry under way for MAX_APPLY_SECONDS. Returns the seconds that it took so far."""
        long = self._long
        assert long is not None
        began = self._stopwatch()
        self.counts.clear()
        self.foreign_counts.clear()
        try:
            while self._stopwatch() - began < limits.MAX_APPLY_SECONDS:
                next(long.steps)
        except StopIteration as stop:
            self._end_long(long)
            self._count(long.kind, long.proposal, success=True)
            if long.proposal is not None:
                long.proposal.answer_parts(self._store.current_revision, stop.value)
        except EtcdError as error:
            self._end_long(long)
            self._fail(long.kind, long.proposal, error)
        long.seconds += self._stopwatch() - began
        self._note_durations(long.seconds)
        return long.seconds

    def _end_long(self, long: _Long) -> None:
        self._long = None
        self.applied_index, self.applied_term = long.entry.index, long.entry.term

    def abandon(self) -> None:
        """Give up the entry under way: the state is about to be replaced by one that holds it already."""
        long, self._long = self._long, None
        if long is not None:
            long.steps.close()
            if long.proposal is not None:
                long.proposal.refuse(Timeout())

    def _apply_run(self) -> None:
        """Store the plain puts that have gathered, and answer whoever proposed them here."""
        proposals = self._run_proposals
        revision = self._store.put_run(self._run_keys, self._run_values)
        foreign = 0
        for proposal in proposals:
            if proposal is not None:
                proposal.answer((revision, b""))
            else:
                foreign += 1
            revision += 1
        self.counts[_PUT_DONE] = self.counts.get(_PUT_DONE, 0) + len(proposals)
        if foreign:
            self.foreign_counts[_PUT_DONE] = self.foreign_counts.get(_PUT_DONE, 0) + foreign
        self._run_keys.clear()
        self._run_values.clear()
        proposals.clear()

    def _fail(self, kind: str, proposal: Proposal | None, error: EtcdError) -> None:
        # etcd counts an attempt to compact twice as a success.
        self._count(kind, proposal, success=isinstance(error, Compacted))
        if isinstance(error, OverQuota):
            self._over_quota(proposal)
        elif proposal is not None:
            proposal.refuse(error)

    def _count(self, kind: str, proposal: Proposal | None, *, success: bool) -> None:
        self.counts[kind, success] = self.counts.get((kind, success), 0) + 1
        if proposal is None:
            self.foreign_counts[kind, success] = self.foreign_counts.get((kind, success), 0) + 1

    def _note_durations(self, mean: float) -> None:
        for key, count in self.counts.items():
            histogram = self.durations.get(key)
            if histogram is None:
                histogram = self.durations[key] = Histogram(APPLY_SECONDS)
            histogram.observe_many(mean, count)

    def _apply_other(self, entry: Entry) -> None:
        if self._run_keys:
            self._apply_run()
        if entry.type:
            self._change_members(entry)

    def _change_members(self, entry: Entry) -> None:
        """Raft learns of every committed change, so that it lets the next one pass: of one that makes no sense, as a
        change for nobody."""
        change = raft_pb2.ConfChange.FromString(entry.data)
        try:
            self._membership.check(change)
        except EtcdError as error:
            self._group.apply_conf_change(raft_pb2.ConfChange(type=change.type, node_id=0))
            self._group.conf_change_applied(change, error)
            return
        self._group.apply_conf_change(change)
        self._membership.apply(change)
        self._group.conf_change_applied(change, None)

    # --- key-value ---

    def _put(self, request: rpc_pb2.PutRequest) -> Outcome:
        """A put that asks for something back or keeps something; plain ones go by `_apply_run`."""
        body = txn.apply_put(self._store, request)
        return self._store.current_revision, body

    def _delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> Outcome | Steps:
        if request.range_end and txn.takes_slices(self._store, request):
            return txn.delete_range_in_slices(self._store, request)
        body = txn.apply_delete_range(self._store, request)
        return self._store.current_revision, body

    def _txn(self, request: rpc_pb2.TxnRequest) -> Outcome | Steps:
        if txn.takes_slices(self._store, request):
            return txn.txn_in_slices(self._store, request)
        body = txn.apply_txn(self._store, request)
        return self._store.current_revision, body

    def _range(self, request: rpc_pb2.RangeRequest) -> Outcome:
        # Old members proposed reads; nobody waits for the answer here, and nothing changes.
        return self._store.current_revision, b""

    def _compact(self, request: rpc_pb2.CompactionRequest) -> Outcome:
        self._store.compact(request.revision)
        self._compaction_scheduled()
        return self._store.current_revision, b""

    # --- leases ---

    def _lease_grant(self, request: rpc_pb2.LeaseGrantRequest) -> Outcome:
        ttl = self._lessor.grant(request.ID, request.TTL, self._now())
        response = rpc_pb2.LeaseGrantResponse(ID=request.ID, TTL=ttl)
        return self._store.current_revision, response.SerializeToString()

    def _lease_revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> Outcome | Steps:
        if self._lessor.key_count(request.ID) > self._store.slice_keys:
            return self._revoke_steps(request.ID)
        finish(self._store.begin().delete_keys_steps(self._lessor.revoke(request.ID)))
        return self._store.current_revision, b""

    def _revoke_steps(self, lease: int) -> Steps:
        """The keys first, which leave the lease one after the other; then the lease itself."""
        keys = yield from sorted_steps(self._lessor.keys_of(lease), bytes)
        transaction = self._store.begin_in_slices()
        yield from transaction.delete_keys_steps(keys)
        self._lessor.revoke(lease)
        self._store.publish(transaction)
        return []

    def _lease_checkpoint(self, request: rpc_pb2.LeaseCheckpointRequest) -> Outcome:
        now = self._now()
        for each in request.checkpoints:
            self._lessor.apply_checkpoint(each.ID, each.remaining_TTL, now)
        return self._store.current_revision, b""

    # --- the cluster ---

    def _not_capable(self, _request: Any) -> Outcome:
        """A request of a part that this version lacks, proposed by a member that has it."""
        raise NotCapable

    def _alarm(self, request: rpc_pb2.AlarmRequest) -> Outcome:
        alarms: list[Any] = []
        if request.action == rpc_pb2.AlarmRequest.GET:
            alarms = self._alarms.get(request.alarm)
        elif request.action == rpc_pb2.AlarmRequest.ACTIVATE and request.alarm != rpc_pb2.NONE:
            alarms = [self._alarms.activate(request.memberID, request.alarm)]
        elif request.action == rpc_pb2.AlarmRequest.DEACTIVATE:
            cleared = self._alarms.deactivate(request.memberID, request.alarm)
            alarms = [cleared] if cleared is not None else []
        self._restrict()
        return self._store.current_revision, rpc_pb2.AlarmResponse(alarms=alarms).SerializeToString()

    def _cluster_version_set(self, request: Any) -> Outcome:
        self._membership.set_version(request.ver)
        return self._store.current_revision, b""

    def _member_attributes_set(self, request: Any) -> Outcome:
        attributes = request.member_attributes
        self._membership.set_attributes(request.member_ID, attributes.name, attributes.client_urls)
        return self._store.current_revision, b""

    def _downgrade_info_set(self, request: Any) -> Outcome:
        self._membership.set_downgrade(DowngradeInfo(True, request.ver) if request.enabled else DowngradeInfo())
        return self._store.current_revision, b""
