"""One process of a member: the real node, raft, applier, store, leases, membership and watch hub, on a simulated clock,
disk and network. What `etcdpy.server.member` puts together around sockets is put together here around the cluster.
"""

from __future__ import annotations

import random
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

from etcdpy import VERSION, limits
from etcdpy.apply.alarms import AlarmStore
from etcdpy.apply.applier import Applier
from etcdpy.apply.entry_data import EntryEncoder, id_seed
from etcdpy.apply.proposal import Proposal
from etcdpy.auth.identity import NOBODY
from etcdpy.auth.tokens import SimpleTokens
from etcdpy.errors import EtcdError, LeaseNotFound
from etcdpy.lease.lessor import LeaseExpiring, Lessor, NotPrimary
from etcdpy.membership.members import Membership
from etcdpy.mvcc.compaction import WAITS
from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.watch import WatchHub
from etcdpy.proto import membership_pb2, raft_pb2, rpc_pb2
from etcdpy.raft.entry import EntryType
from etcdpy.raft.node import Config, RawNode
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server.node import Node
from etcdpy.server.slow_requests import SlowRequests
from etcdpy.server.users import Users
from tests.simulation.door import Door
from tests.simulation.snapshots import Receiver
from tests.simulation.violation import Violation
from tests.support.memory_engine import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message as Request

    from etcdpy.apply.proposal import Outcome
    from etcdpy.backend import Backend
    from etcdpy.raft.entry import Entry
    from etcdpy.raft.message import Message
    from etcdpy.server.bootstrap import Beginning
    from etcdpy.storage.errors import StorageError
    from tests.simulation.checks import Checks
    from tests.simulation.clock import Loop
    from tests.simulation.leases import Leases
    from tests.simulation.rights import RightsLog
    from tests.support.memory_engine import Disk, Medium

    Done = Callable[["Outcome | EtcdError"], None]

CLUSTER_ID = 0xC1
HEARTBEAT_SECONDS = 0.1
REQUEST_TIMEOUT_SECONDS = 3.0
MINIMUM_TTL_SECONDS = 2
LOOK_AT_LEASES_SECONDS = 0.5


class Cluster(Protocol):
    """What a process needs of the world around it."""

    @property
    def checks(self) -> Checks: ...
    @property
    def leases(self) -> Leases: ...
    @property
    def rights(self) -> RightsLog | None: ...
    def send(self, process: Process, messages: Sequence[Message]) -> None: ...
    def died(self, process: Process, reason: str) -> None: ...
    def elected(self, process: Process) -> None: ...
    def trace(self, line: str) -> None: ...
    def member_changed(self, process: Process, change: raft_pb2.ConfChange) -> None: ...
    def leader_configurations(self) -> list[ConfState]: ...


class Pending(Proposal):
    """A request on its way; `done` hears of its end once."""

    __slots__ = ("done",)

    def __init__(self, kind: str, request: Request, data: bytes, done: Done) -> None:
        self.kind = kind
        self.signer = NOBODY
        self.request = request
        self.data = data
        self.done = done

    def answer(self, outcome: Outcome) -> None:
        self.done(outcome)

    def refuse(self, error: EtcdError) -> None:
        self.done(error)


class CheckedApplier(Applier):
    """Shows every entry to the checkers before it is applied."""

    process: Process
    shown = 0

    def apply_all(self, entries: Sequence[Entry]) -> float:
        seen = max(self.applied_index, self.shown)
        self.process.about_to_apply([entry for entry in entries if entry.index > seen])
        self.shown = max(seen, entries[-1].index)
        return super().apply_all(entries)

    def _change_members(self, entry: Entry) -> None:
        """The server proposes one change at a time; raft can do several, which are played here."""
        if entry.type != EntryType.CONF_CHANGE_V2:
            super()._change_members(entry)
            return
        joint = raft_pb2.ConfChangeV2.FromString(entry.data)
        singles = [raft_pb2.ConfChange(type=each.type, node_id=each.node_id) for each in joint.changes]
        for single in singles:
            if single.type == raft_pb2.ConfChangeAddNode:
                single.context = joint.context
        try:
            for single in singles:
                self._membership.check(single)
        except EtcdError as error:
            self._group.apply_conf_change(raft_pb2.ConfChange(node_id=0))
            self._group.conf_change_applied(singles[0], error)
            return
        self._group.apply_conf_change(joint)
        for single in singles:
            self._membership.apply(single)
            self._group.conf_change_applied(single, None)


class Process:
    """`founders` are the members of a cluster that is founded; None for one that joins or starts again."""

    def __init__(
        self,
        cluster: Cluster,
        identity: int,
        disk: Disk,
        medium: Medium,
        loop: Loop,
        *,
        seed: str,
        raft_options: dict[str, Any],
        snapshot_count: int,
        founders: Beginning | None,
    ) -> None:
        self.cluster = cluster
        self.id = identity
        self.loop = loop
        self.random = random.Random(seed)
        self.alive = True
        self.engine = MemoryEngine(disk, medium, snapshot_count=snapshot_count, catchup_entries=snapshot_count // 2)
        self.engine.on_written = lambda job: cluster.checks.written(identity, job)
        backend = self.engine.state
        self.membership = Membership(backend, max_learners=2)
        self.alarms = AlarmStore(backend)
        self.lessor = self.make_lessor(backend)
        self.config: Any = SimpleNamespace(
            client_cert_auth=True,
            request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
            heartbeat_interval_ms=HEARTBEAT_SECONDS * 1000,
        )
        self.users = self._make_users()
        self.auth = self.users.store
        self.store = Store(backend, self.lessor)
        if identity % 2:
            self.store.slice_keys = 1  # what others apply in one go is done in slices here
        self._bootstrap(founders)
        self._restore()
        self.encoder = EntryEncoder(id_seed(identity, self.random.getrandbits(60)))
        self.hub = WatchHub(
            BackendHistory(backend, self.store), cluster_id=CLUSTER_ID, member_id=identity, random=self.random
        )
        self._election_seconds = HEARTBEAT_SECONDS * raft_options["election_ticks"]
        self.raw = self._make_raw(raft_options)
        self.applier = self._make_applier()
        self.node = self._make_node()
        self.receiver = Receiver(self)
        self.door = Door(self)
        self.auth.on_change = self.users_changed
        self._compacting: Any = None
        self._serving_watchers = False
        self._published = False
        self._lease_look_at = 0.0

    # --- start ---

    def make_lessor(self, backend: Backend) -> Lessor:
        return Lessor(
            backend, minimum_ttl=MINIMUM_TTL_SECONDS, checkpoint_persist=True, retry_seconds=REQUEST_TIMEOUT_SECONDS
        )

    def _make_users(self) -> Users:
        stands_for: Any = self.loop
        return Users(
            self.config,
            self.engine.state,
            self.lessor,
            SimpleTokens(300),
            stands_for,
            lambda: self.applier.applied_index,
            self._into_log,
        )

    def _into_log(self, proposal: Any) -> None:
        call = getattr(proposal, "call", None)
        if call is not None:
            call.payload = proposal.data
        self.node.propose(proposal)

    def _make_raw(self, options: dict[str, Any]) -> RawNode:
        return RawNode(
            Config(
                id=self.id,
                storage=self.engine.log,
                random=self.random,
                applied=self.engine.applied_index,
                **options,
            )
        )

    def _make_applier(self) -> CheckedApplier:
        applier = CheckedApplier(
            self.store,
            self.lessor,
            self.membership,
            self.alarms,
            self.auth,
            self,
            now=self.loop.time,
            stopwatch=count(0, limits.MAX_APPLY_SECONDS / 2).__next__,
            compaction_scheduled=self._compact_later,
            applied_index=self.engine.applied_index,
        )
        applier.process = self
        applier.restore()
        return applier

    def _make_node(self) -> Node:
        loop: Any = self.loop
        engine: Any = self.engine
        return Node(
            loop,
            self.raw,
            engine,
            self.applier,
            self,
            next_id=self.encoder.next_id,
            heartbeat_seconds=HEARTBEAT_SECONDS,
            election_seconds=self._election_seconds,
            max_request_bytes=1 << 20,
            request_timeout_seconds=REQUEST_TIMEOUT_SECONDS,
            slow=SlowRequests(1e9, 1e9),
        )

    def _bootstrap(self, founders: Beginning | None) -> None:
        self.membership.restore()
        if not self.membership.own_id:
            self.membership.found(CLUSTER_ID, self.id)
        if self.engine.is_new and founders is not None:
            entries = founders.entries()
            self.engine.bootstrap(ConfState(), HardState(term=1, vote=0, commit=len(entries)), entries)
        elif self.engine.is_new:
            self.engine.bootstrap(ConfState(), HardState())

    def _restore(self) -> None:
        self.alarms.restore()
        self.auth.restore()
        self.lessor.restore()
        for _ in self.store.restore_steps():
            pass
        for key, lease in self.store.leased_keys():
            if self.lessor.exists(lease):
                self.lessor.attach(lease, key)
        self.store.changes = []

    def begin(self) -> None:
        self.node.drive()
        if self.store.compactions.pending:
            self._compact_later()
        self.loop.call_later(self.random.random() * HEARTBEAT_SECONDS, self._tick)

    def _tick(self) -> None:
        self.loop.call_later(HEARTBEAT_SECONDS, self._tick)
        self.node.tick()
        self.users.waits.expire()
        if self.alive and not self._published and self.node.leader and self.membership.get(self.id):
            self._publish()
        if self.lessor.is_primary and self.loop.time() >= self._lease_look_at:
            self._lease_look_at = self.loop.time() + LOOK_AT_LEASES_SECONDS
            expired = self.lessor.expired(self.loop.time(), 10)
            if expired:
                self.when_linearizable(partial(self._revoke, expired))

    def _revoke(self, expired: list[int], error: EtcdError | None) -> None:
        """Leases have expired, and others may have elected another leader meanwhile."""
        if error is None and self.lessor.is_primary:
            # The lead may have gone elsewhere and come back meanwhile; then all of them live again.
            for lease in (lease for lease in expired if self.lessor.has_expired(lease, self.loop.time())):
                revocation = self._own("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=lease), lambda _outcome: None)
                self.node.propose_as_leader(revocation)

    def renew(self, lease: int, told: Callable[[int | None], None]) -> None:
        """The TTL that a lease has again, 0 when it is gone, None when this member cannot say."""
        if self.loop.time() - self.node.ticked_at < 3 * HEARTBEAT_SECONDS:
            self._renew(lease, told, None)
        else:
            self.when_linearizable(partial(self._renew, lease, told))

    def _renew(self, lease: int, told: Callable[[int | None], None], error: EtcdError | None) -> None:
        if not self.alive or error is not None or self.applier.applied_index < self.raw.committed:
            told(None)
            return
        try:
            told(self.lessor.renew(lease, self.loop.time()))
        except NotPrimary:
            told(None)
        except LeaseNotFound:
            told(0)
        except LeaseExpiring:
            self.lessor.when_gone(lease, partial(self._renew, lease, told, None))

    def _publish(self) -> None:
        self._published = True
        attributes = membership_pb2.Attributes(name=f"m{self.id}", client_urls=[f"http://m{self.id}:2379"])
        request = membership_pb2.ClusterMemberAttrSetRequest(member_ID=self.id, member_attributes=attributes)

        def published(outcome: Outcome | EtcdError) -> None:
            self._published = not isinstance(outcome, EtcdError)

        self.propose("cluster_member_attr_set", request, published)
        if self.raw.is_leader and not self.membership.version:
            version = membership_pb2.ClusterVersionSetRequest(ver=VERSION[:4] + "0")
            self.propose("cluster_version_set", version, lambda _outcome: None)

    # --- what clients do ---

    def propose(self, kind: str, request: Request, done: Done) -> bytes:
        """Returns the entry's payload, by which it can be told in the log."""
        pending = self._own(kind, request, done)
        self.node.propose(pending)
        return pending.data

    def _own(self, kind: str, request: Request, done: Done) -> Pending:
        pending = Pending(kind, request, self.encoder.encode(kind, request.SerializeToString()), done)
        self.users.sign_own(pending)
        return pending

    def when_linearizable(self, ready: Callable[[EtcdError | None], None]) -> None:
        self.node.when_linearizable(ready)

    # --- the end ---

    def crash(self, draw: random.Random, *, power: bool) -> None:
        """Gone, in the midst of whatever it did."""
        self.alive = False
        self.loop.close()
        self.door.tasks.close()
        self.engine.crash(draw, power=power)

    # --- Group ---

    def apply_conf_change(self, change: raft_pb2.ConfChange | raft_pb2.ConfChangeV2) -> None:
        before = self.raw.conf_state()
        after = self.raw.apply_conf_change(change)
        self.engine.set_conf_state(after)
        self.cluster.checks.changed_members(before, after)

    def conf_change_applied(self, change: raft_pb2.ConfChange, error: EtcdError | None) -> None:
        self.cluster.trace(f"{self.id} change of {change.node_id} applied {error.message if error else ''}")
        if error is None:
            self.cluster.member_changed(self, change)

    # --- Observer ---

    def leadership_changed(self, leader: int, term: int, *, is_self: bool) -> None:
        self.cluster.trace(f"{self.id} follows {leader} in term {term}")
        self.hub.raft_term = term
        if is_self:
            self.cluster.checks.leads(self.id, term)
            self.cluster.checks.log_holds_committed(self.id, term, self._term_at)
            self.cluster.elected(self)
        if not is_self and self.lessor.is_primary:
            self.lessor.demote()

    def _term_at(self, index: int) -> int | None:
        """The term of an entry in raft's log, 0 when the log ends before it, None when it is truncated."""
        log = self.raw._raft.log
        if index < self.engine.log.start_index:
            return None
        return log.term(index) if index <= log.last_index else 0

    def about_to_apply(self, entries: Sequence[Entry]) -> None:
        configurations = [self.raw.conf_state(), *self.cluster.leader_configurations()]
        self.cluster.checks.applied(self.id, entries, configurations)
        self.cluster.leases.committed(entries)
        if self.cluster.rights is not None:
            self.cluster.rights.committed(entries)

    def entries_applied(self) -> None:
        if not self.lessor.is_primary and self.node.leads and self.applier.applied_term == self.node.term:
            self.lessor.promote(self.loop.time(), self._election_seconds)
        index, revision = self.applier.applied_index, self.store.current_revision
        self.cluster.trace(f"{self.id} applied {index} r{revision}")
        self._notify_watchers()
        self.users.waits.serve()
        self.cluster.checks.state(self.id, index, revision, self.engine.state.whole_digest)
        if self.cluster.rights is not None and not self.applier.under_way:
            self.cluster.rights.state(self.id, index, revision, self.auth.revision)

    def users_changed(self) -> None:
        """As `etcdpy.server.member` does: watchers first get what came before."""
        self.applier.restore()
        self._notify_watchers()
        self.door.users_changed()

    def _notify_watchers(self) -> None:
        unnoted = self.store.unnoted
        if unnoted is not None:
            self.store.unnoted = None
            self.cluster.checks.changes(self.id, list(self.hub.history.changes_between(unnoted[0], unnoted[0])))
            self.hub.leave_to_history(*unnoted)
            self.serve_watchers()
        changes = self.store.changes
        if changes:
            self.store.changes = []
            self.cluster.checks.changes(self.id, changes)
            self.hub.notify(changes)
            self.serve_watchers()

    def send(self, messages: Sequence[Message]) -> None:
        self.cluster.send(self, messages)

    def install_snapshot(
        self, snapshot: raft_pb2.Snapshot, hard_state: HardState, done: Callable[[StorageError | None], None]
    ) -> None:
        self.receiver.install(snapshot, hard_state, done)

    def state_is_replaced(self) -> None:
        """In the turn in which everything goes over to another member's state."""
        self._compacting = None
        self.users_changed()
        if self.store.compactions.pending:
            self._compact_later()
        self.serve_watchers()
        digest = self.engine.state.digest
        self.cluster.checks.state(self.id, self.applier.applied_index, self.store.current_revision, digest)

    def connected_since(self, started: float) -> bool:
        return True

    def broken(self, error: Exception) -> None:
        raise Violation(f"member {self.id} breaks: {error!r}") from error

    def storage_failed(self, error: StorageError) -> None:
        self.cluster.died(self, f"storage: {error}")

    # --- upkeep ---

    def serve_watchers(self) -> None:
        if self.hub.has_work and not self._serving_watchers:
            self._serving_watchers = True
            self.loop.call_soon(self._serve_watchers)

    def _serve_watchers(self) -> None:
        self._serving_watchers = False
        self.hub.sync_slice()
        self.serve_watchers()

    def _compact_later(self) -> None:
        if self._compacting is None:
            self._compacting = self.store.compaction_steps(5)
            self.loop.call_later(0.01, self._compact)

    def _compact(self) -> None:
        if self._compacting is None:
            return
        gone = next(self._compacting, None)
        if gone is None:
            self._compacting = None
            if self.store.compactions.pending:
                self._compact_later()
            return
        if gone != WAITS:
            self.node.write_early()
        self.loop.call_later(0.01, self._compact)
