"""One member, put together: the only place that knows every room.

open      data directory -> applied state -> raft
start     raft elects, the member publishes itself, listeners open, duties run
stop      listeners close, open calls finish, the disk gets what is left
"""

from __future__ import annotations

import asyncio
import os
import random
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etcdpy import VERSION, limits
from etcdpy.api.reconfigure import Reconfiguration
from etcdpy.apply.alarms import AlarmStore
from etcdpy.apply.applier import Applier
from etcdpy.apply.entry_data import EntryEncoder, id_seed
from etcdpy.apply.proposal import Proposal
from etcdpy.apply.quota import Quota
from etcdpy.auth.identity import NOBODY
from etcdpy.errors import EtcdError, LeaderTransferTimeout, NoSpace, Stopped, Timeout, Unhealthy
from etcdpy.histogram import APPLY_SECONDS, Histogram
from etcdpy.lease.lessor import Lessor, minimum_ttl_seconds
from etcdpy.membership.members import Membership, has_identity
from etcdpy.membership.versions import LowerThanCluster
from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.watch import WatchHub
from etcdpy.proto import membership_pb2
from etcdpy.raft.node import Config as RaftConfig
from etcdpy.raft.node import RawNode
from etcdpy.raft.types import ConfState, HardState
from etcdpy.server import garbage, logs
from etcdpy.server.bootstrap import Action, begin, check_learners
from etcdpy.server.conf_changes import ConfChanges
from etcdpy.server.encryption import masters_of
from etcdpy.server.first_contact import world_of
from etcdpy.server.force_new import force_new_cluster
from etcdpy.server.node import Node
from etcdpy.server.notes import ConfigError
from etcdpy.server.process import is_compiled
from etcdpy.server.quota import QuotaKeeper
from etcdpy.server.slow_requests import SlowRequests
from etcdpy.server.users import Users
from etcdpy.server.versions import VersionMonitor
from etcdpy.storage.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from etcdpy.api.header import HeaderSource
    from etcdpy.apply.proposal import Outcome
    from etcdpy.auth.tokens import TokenProvider
    from etcdpy.backend import Backend
    from etcdpy.membership.member import Member
    from etcdpy.membership.versions import DowngradeInfo
    from etcdpy.proto import raft_pb2
    from etcdpy.raft.message import Message as RaftMessage
    from etcdpy.server.bootstrap import Beginning
    from etcdpy.server.config import Config
    from etcdpy.server.peers import Peers
    from etcdpy.server.snapshots import Snapshots
    from etcdpy.storage.errors import StorageError

log = logs.get("etcdserver")

BROKEN_EXIT_CODE: Final = 70
"""EX_SOFTWARE: a bug, not the operator's fault."""


class _Own(Proposal):
    """A proposal of the member itself."""

    __slots__ = ("result",)

    def __init__(self, kind: str, request: Message, data: bytes, result: asyncio.Future[Outcome]) -> None:
        self.kind = kind
        self.request = request
        self.data = data
        self.result = result
        self.signer = NOBODY

    def answer(self, outcome: Outcome) -> None:
        if not self.result.done():
            self.result.set_result(outcome)

    def refuse(self, error: EtcdError) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Replica:
    """The member's state and its place in the log: everything but the doors to clients.

    Implements the api room's Proposer, LinearizableReads and MemberState, the node's Observer and the applier's Group.
    """

    def __init__(
        self,
        config: Config,
        engine: Engine,
        loop: asyncio.AbstractEventLoop,
        beginning: Beginning,
        tokens: TokenProvider,
    ) -> None:
        self.config = config
        self.engine = engine
        self._loop = loop
        self.random = random.Random()  # noqa: S311 - election timeouts and lease ids are no secrets
        backend = engine.state
        self.membership = Membership(backend, max_learners=config.max_learners)
        self.alarms = AlarmStore(backend)
        self.lessor = make_lessor(config, backend)
        self.users = Users(
            config,
            backend,
            self.lessor,
            tokens,
            loop,
            lambda: self.applied_index,
            lambda proposal: self.node.propose(proposal),
        )
        self.auth, self.callers = self.users.store, self.users.callers
        self.store = Store(backend, self.lessor)
        self.own_id = 0
        self._open(beginning)
        self._encoder = EntryEncoder(id_seed(self.own_id, time.time_ns()))
        self.hub = WatchHub(
            BackendHistory(backend, self.store),
            cluster_id=self.membership.cluster_id,
            member_id=self.own_id,
            random=self.random,
            progress_interval_seconds=config.watch_progress_notify_interval_seconds,
            max_request_bytes=config.max_request_bytes,
        )
        self.raw = self._make_raw()
        self.applier = self._make_applier()
        self.applier.restore()
        self.slow = SlowRequests(config.warning_apply_duration_seconds, config.warning_unary_request_duration_seconds)
        self.node = self._make_node()
        self.quota = self._make_quota()
        self.changes, self.reconfiguration, self.versions = self._make_changes()
        self.propose_conf_change = self.changes.propose
        self.progress = self.raw.matches
        self.encode = self._encoder.encode
        self.propose: Callable[[Proposal], None] = self.node.propose
        """The way into the log; while the quota is near, past it; while users are switched on, signed by who asks."""
        self.look_at_quota()
        self.when_linearizable = self.node.when_linearizable
        self.headers: list[HeaderSource] = []
        self.on_compaction: Any = lambda: None
        self.on_changes: Any = lambda: None
        self.on_answers: Any = lambda: None
        """Told when answers and events wait to be written to clients."""
        self.on_standing: Callable[[], None] = lambda: None
        """Told when there is another leader or none, or when this member gets its vote."""
        self.on_removed: Callable[[], None] = lambda: None
        """Told when this member has been removed from the cluster."""
        self.on_users_changed: Callable[[], None] = lambda: None
        """Told when users or roles have changed, and all events from before that are with the watchers."""
        self.auth.on_change = self.users_changed
        self.users_changed()
        self.peers: Peers
        self.snapshots: Snapshots
        self.storage_failure = asyncio.Event()
        self.range_seconds = Histogram(APPLY_SECONDS)

    def _make_raw(self) -> RawNode:
        return RawNode(
            RaftConfig(
                id=self.own_id,
                storage=self.engine.log,
                random=self.random,
                election_ticks=self.config.election_ticks,
                applied=self.engine.applied_index,
                pre_vote=self.config.pre_vote,
            )
        )

    def _make_applier(self) -> Applier:
        return Applier(
            self.store,
            self.lessor,
            self.membership,
            self.alarms,
            self.auth,
            self,
            now=self._loop.time,
            stopwatch=time.perf_counter,
            compaction_scheduled=lambda: self.on_compaction(),
            over_quota=lambda proposal: self.quota.over(proposal),
            applied_index=self.engine.applied_index,
        )

    def _make_node(self) -> Node:
        config = self.config
        return Node(
            self._loop,
            self.raw,
            self.engine,
            self.applier,
            self,
            max_request_bytes=config.max_request_bytes,
            next_id=self._encoder.next_id,
            heartbeat_seconds=config.heartbeat_interval_ms / 1000,
            election_seconds=config.election_timeout_ms / 1000,
            request_timeout_seconds=config.request_timeout_seconds,
            slow=self.slow,
            prioritises_revocations=config.feature_gates.enabled("PriorityRequest"),
        )

    def _make_quota(self) -> QuotaKeeper:
        quota = Quota(self.config.quota_bytes, lambda: self.store.size_total)
        return QuotaKeeper(
            quota, self.config.quota_bytes, self.own_id, self.alarms, self.users.propose, self._encoder.encode
        )

    def _make_changes(self) -> tuple[ConfChanges, Reconfiguration, VersionMonitor]:
        """What changes the cluster itself: its members, its leader, its version."""
        config = self.config
        changes = ConfChanges(
            self._loop,
            self.membership,
            self.node.propose_conf_change,
            self._encoder.next_id,
            timeout_seconds=config.request_timeout_seconds,
        )
        reconfiguration = Reconfiguration(
            self.membership,
            self,
            self,
            self,
            strict=config.strict_reconfig_check,
            clock=self._loop.time,
            unix_seconds=time.time,
            tick_seconds=config.heartbeat_interval_ms / 1000,
            timeout_seconds=config.request_timeout_seconds,
        )
        versions = VersionMonitor(
            self.membership,
            self,
            lambda: self.raw.is_leader,
            self._ask_version,
            downgrade_check_seconds=config.downgrade_check_time_seconds,
        )
        return changes, reconfiguration, versions

    # --- start ---

    def _open(self, beginning: Beginning) -> None:
        """Read the applied state, or begin a new one."""
        config, engine = self.config, self.engine
        self.membership.restore()
        check_learners(config, self.membership.members)
        if not self.membership.own_id:
            self._take_identity(beginning)
        self.own_id = self.membership.own_id
        if beginning.action is Action.FORCE_NEW:
            force_new_cluster(engine, self.membership.cluster_id, self.own_id)
        self.alarms.restore()
        self.auth.restore()
        self.lessor.restore()
        began = time.monotonic()
        with garbage.kept_for_good():
            for count in self.store.restore_steps():
                if time.monotonic() - began > 1:
                    log.info("restoring keys", records=count)
                    began = time.monotonic()
        for key, lease in self.store.leased_keys():
            if self.lessor.exists(lease):
                self.lessor.attach(lease, key)
        self.store.changes = []
        logs.get("mvcc").info("kvstore restored", **{"current-rev": self.store.current_revision})

    def connect(self, peers: Peers, snapshots: Snapshots) -> None:
        """Meet the other members."""
        self.peers = peers
        self.snapshots = snapshots
        self.membership.observer = peers

    def _take_identity(self, beginning: Beginning) -> None:
        """Become the member that the bootstrap found; write the log's beginning unless only the state was lost."""
        self.membership.found(beginning.cluster_id, beginning.own_id)
        if beginning.action is Action.JOIN:
            self.membership.expect(beginning.members)
        if self.engine.is_new:
            entries = beginning.entries()
            hard_state = HardState(term=1, vote=0, commit=len(entries)) if entries else HardState()
            self.engine.bootstrap(ConfState(), hard_state, entries)

    def begin(self) -> None:
        """Take part in raft. A member that is the only voter need not wait for anybody before it stands."""
        self.node.drive()
        if len(self.membership.members) == 1:
            self.raw.campaign()
            self.node.drive()

    async def publish(self) -> None:
        """Tell the cluster this member's name and client URLs."""
        attributes = membership_pb2.Attributes(
            name=self.config.name, client_urls=[str(url) for url in self.config.advertise_client_urls]
        )
        request = membership_pb2.ClusterMemberAttrSetRequest(member_ID=self.own_id, member_attributes=attributes)
        await self.run("cluster_member_attr_set", request)
        log.info(
            "published local member to cluster through raft",
            **{
                "local-member-id": f"{self.own_id:x}",
                "local-member-attributes": {"name": attributes.name, "client-urls": list(attributes.client_urls)},
                "cluster-id": f"{self.membership.cluster_id:x}",
            },
        )
        if not self.membership.version and len(self.membership.members) == 1:
            # There is nobody to ask, so clients need not wait to see it.
            await self.versions.update()

    # --- Proposer ---

    async def run(self, kind: str, request: Message) -> Outcome:
        """Propose a request of the member's own and wait for what it gave. Raises EtcdError."""
        return await self._run(kind, request, self.node.propose)

    async def run_as_leader(self, kind: str, request: Message) -> Outcome:
        """The same for what counts in this leader's own term alone: see Node.propose_as_leader."""
        return await self._run(kind, request, self.node.propose_as_leader)

    async def _run(self, kind: str, request: Message, propose: Callable[[Proposal], None]) -> Outcome:
        result: asyncio.Future[Outcome] = self._loop.create_future()
        own = _Own(kind, request, self.encode(kind, request.SerializeToString()), result)
        self.users.sign_own(own)
        propose(own)
        return await result

    def users_changed(self) -> None:
        """Users or roles are others from here on. Watchers first get what came before, by the rights of then."""
        self._choose_road()
        self.applier.restore()
        self._notify_watchers()
        self.on_users_changed()
        self.on_standing()

    # --- LinearizableReads ---

    @property
    def reads_are_current(self) -> bool:
        """See Node."""
        return self.raw.read_index_now() is not None

    async def wait_linearizable(self) -> None:
        """Return once the applied state holds all that was acknowledged before now. Raises EtcdError."""
        if self.reads_are_current:
            return
        reached: asyncio.Future[None] = self._loop.create_future()

        def ready(error: EtcdError | None) -> None:
            if reached.done():
                return
            if error is None:
                reached.set_result(None)
            else:
                reached.set_exception(error)

        self.when_linearizable(ready)
        await reached

    # --- MemberState ---

    @property
    def leader(self) -> int:
        """The leader's id, 0 when there is none."""
        return self.raw.leader

    @property
    def committed_index(self) -> int:
        """The commit index."""
        return self.raw.committed

    @property
    def applied_index(self) -> int:
        """The last entry applied."""
        return self.applier.applied_index

    @property
    def is_learner(self) -> bool:
        """Whether this member has no vote."""
        own = self.membership.get(self.own_id)
        return own is not None and own.is_learner

    @property
    def db_size_bytes(self) -> int:
        """See Store.size_total."""
        return self.store.size_total

    @property
    def db_size_in_use_bytes(self) -> int:
        """See Store.bytes_in_use."""
        return self.store.bytes_in_use

    @property
    def revision(self) -> int:
        """The store's current revision."""
        return self.store.current_revision

    @property
    def storage_version(self) -> str:
        """What is stored follows the cluster's version at once: nothing in it differs from one to the next."""
        return self.membership.version

    @property
    def downgrade(self) -> DowngradeInfo:
        """Whether the cluster is being downgraded."""
        return self.membership.downgrade

    def active_alarms(self) -> list[Any]:
        """Every alarm of every member."""
        return self.alarms.get()

    # --- Group ---

    def apply_conf_change(self, change: raft_pb2.ConfChange | raft_pb2.ConfChangeV2) -> None:
        """See Group."""
        self.engine.set_conf_state(self.raw.apply_conf_change(change))

    def conf_change_applied(self, change: raft_pb2.ConfChange, error: EtcdError | None) -> None:
        """See Group."""
        self.changes.applied(change, error)

    # --- ClusterOperations ---

    def active_since(self, member: int) -> float | None:
        """See ClusterOperations."""
        return self.peers.network.active_since(member)

    async def promote_at_leader(self, member: int, token: str) -> list[Member]:
        """See ClusterOperations."""
        return await self.peers.promote_at_leader(member, token)

    async def _ask_version(self, member: Member) -> str:
        return await self.peers.ask_version(member)

    def transfer_leadership(self, target: int) -> None:
        """See ClusterOperations."""
        self.node.transfer_leadership(target)

    async def hand_over(self) -> None:
        """Before the end of a leader: let another voter lead, so that nobody has to wait for an election."""
        names = {"local-member-id": f"{self.own_id:x}", "current-leader-member-id": f"{self.leader:x}"}
        if not self.raw.is_leader:
            log.info("skipped leadership transfer; local server is not leader", **names)
            return
        if len(self.membership.voters) == 1:
            log.info("skipped leadership transfer for single voting member cluster", **names)
            return
        target = self.peers.longest_connected()
        if target is None:
            log.warn("leadership transfer failed", error=Unhealthy.message, **names)
            return
        names["transferee-member-id"] = f"{target:x}"
        log.info("leadership transfer starting", **names)
        began = self._loop.time()
        self.transfer_leadership(target)
        while self.leader != target:
            if self._loop.time() - began > limits.HAND_OVER_SECONDS_MAX:
                log.warn("leadership transfer failed", error=LeaderTransferTimeout.message, **names)
                return
            await asyncio.sleep(limits.HAND_OVER_POLL_SECONDS)
        log.info("leadership transfer finished", took=self._loop.time() - began, **names)

    # --- Observer ---

    def leadership_changed(self, leader: int, term: int, *, is_self: bool) -> None:
        """See Observer: leases are kept by whoever leads, see `entries_applied`; headers show the term."""
        self.hub.raft_term = term
        for header in self.headers:
            header.set_term(term)
        if is_self:
            self.versions.wake()
        if not is_self and self.lessor.is_primary:
            self.lessor.demote()
        if leader:
            logs.get("raft").info(f"raft.node: {self.own_id:x} elected leader {leader:x} at term {term}")
        else:
            logs.get("raft").info(f"raft.node: {self.own_id:x} has no leader at term {term}")
        self.on_standing()

    def look_at_quota(self) -> None:
        """The store has grown or shrunk: hold requests against the quota only while it is near."""
        if self.quota.look():
            self._choose_road()
            self.applier.hold_quota(self.quota.quota if self.quota.is_near else None)

    def _choose_road(self) -> None:
        if self.quota.is_near:
            self.propose = self.quota.propose
        else:
            self.propose = self.users.propose if self.auth.enabled else self.node.propose

    def entries_applied(self) -> None:
        """See Observer."""
        self.look_at_quota()
        if not self.lessor.is_primary and self.node.leads and self.applier.applied_term == self.node.term:
            # Not before all is applied that earlier leaders committed: they may have ended leases.
            self.lessor.promote(self._loop.time(), self.config.election_timeout_ms / 1000)
        self._notify_watchers()
        self.users.waits.serve()
        self.on_answers()

    def _notify_watchers(self) -> None:
        unnoted = self.store.unnoted
        if unnoted is not None:
            self.store.unnoted = None
            self.hub.leave_to_history(*unnoted)
            if self.hub.has_work:
                self.on_changes()
        changes = self.store.changes
        if changes:
            self.store.changes = []
            self.hub.notify(changes)
            if self.hub.has_work:
                self.on_changes()

    def send(self, messages: Sequence[RaftMessage]) -> None:
        """See Observer."""
        self.peers.send(messages)

    def install_snapshot(
        self, snapshot: raft_pb2.Snapshot, hard_state: HardState, done: Callable[[StorageError | None], None]
    ) -> None:
        """See Observer."""
        self.snapshots.receiver.install(snapshot, hard_state, done)

    def connected_since(self, started: float) -> bool:
        """See Observer."""
        return self.peers.connected_since(started)

    def broken(self, error: Exception) -> None:
        """See Observer. The log on disk is sound and the applied state a whole prefix of it, so ending is safe."""
        trace = "".join(traceback.format_exception(error))
        log.error("the member stops: its state can no longer be trusted", error=repr(error), stacktrace=trace)
        logs.close()
        os._exit(BROKEN_EXIT_CODE)

    def storage_failed(self, error: StorageError) -> None:
        """See Observer. Reads go on from what is there; nothing is acknowledged any more.

        What was under way may or may not be on disk, so its clients are told no more than that it took too long.
        """
        if self.storage_failure.is_set():
            return
        self.storage_failure.set()
        log.error("the disk refused a write; only reads are served until it takes writes again", error=str(error))
        self.node.refuse_all(NoSpace if "No space left" in str(error) else Stopped, under_way=Timeout)


def make_lessor(config: Config, backend: Backend) -> Lessor:
    """A lessor over a state, as the flags want it."""
    return Lessor(
        backend,
        minimum_ttl=minimum_ttl_seconds(config.election_ticks, config.heartbeat_interval_ms),
        checkpointing=config.feature_gates.enabled("LeaseCheckpoint"),
        # The gate LeaseCheckpointPersist is about clusters below 3.6; from then on checkpoints are always stored.
        checkpoint_persist=True,
        retry_seconds=config.request_timeout_seconds,
    )


async def open_replica(config: Config, loop: asyncio.AbstractEventLoop, tokens: TokenProvider) -> Replica:
    """Open the data directory and what is in it, or begin there.

    Raises StorageError, ConfigError, TlsConfigError, OSError.
    """
    data_dir = Path(config.data_dir)
    engine = Engine.open(
        data_dir,
        wal_dir=Path(config.wal_dir) if config.wal_dir else None,
        snapshot_count=config.snapshot_count,
        catchup_entries=config.snapshot_catchup_entries,
        unsafe_no_fsync=config.unsafe_no_fsync,
        masters=masters_of(config.encryption_key_file, os.environ),
    )
    try:
        known = has_identity(engine.state)
        async with world_of(config) as world:
            beginning = await begin(config, world, has_identity=known, is_new=engine.is_new)
        replica = Replica(config, engine, loop, beginning, tokens)
    except LowerThanCluster as error:
        engine.close()
        raise ConfigError(str(error)) from error
    except BaseException:
        engine.close()
        raise
    log.info(
        "starting etcd server",
        **{
            "local-member-id": f"{replica.own_id:x}",
            "local-server-version": VERSION,
            "compiled": is_compiled(),
            "cluster-id": f"{replica.membership.cluster_id:x}",
            "cluster-version": replica.membership.version or "to_be_decided",
        },
    )
    return replica
