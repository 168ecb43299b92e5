"""What /metrics and /health read from the running member, at the moment they are asked."""

from __future__ import annotations

import platform
import resource
from typing import TYPE_CHECKING

from etcdpy import VERSION
from etcdpy.api.exposition import BucketCounts
from etcdpy.api.metrics import Sources
from etcdpy.api.network_metrics import network_families
from etcdpy.api.stats import (
    AuthStats,
    DiskStats,
    EncryptionStats,
    LeaseStats,
    ProcessStats,
    ServerStats,
    StoreStats,
    WatchStats,
)
from etcdpy.lease.lessor import TTL_BUCKETS_SECONDS
from etcdpy.proto import rpc_pb2
from etcdpy.server import logs, process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from etcdpy.api.client_limits import ClientLimits
    from etcdpy.api.client_versions import ClientVersions
    from etcdpy.api.health import Health
    from etcdpy.histogram import Histogram
    from etcdpy.server.audit_file import AuditFile
    from etcdpy.server.loop_lag import LoopLag
    from etcdpy.server.member import Replica
    from etcdpy.server.upkeep import StoreUpkeep
    from etcdpy.transport.server import Server
    from etcdpy.transport.tls import ServerTls


def _operation(kind: str) -> str:
    """A kind of request as etcd labels it: `lease_grant` is `LeaseGrant`."""
    return kind.title().replace("_", "")


class MemberHealth:
    """Implements the api room's HealthSource."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def alarms(self) -> Sequence[str]:
        """See HealthSource."""
        return [rpc_pb2.AlarmType.Name(alarm.alarm) for alarm in self._replica.active_alarms()]

    @property
    def has_leader(self) -> bool:
        """See HealthSource."""
        return self._replica.leader != 0

    @property
    def is_learner(self) -> bool:
        """See HealthSource."""
        return self._replica.is_learner

    def serializable_read(self) -> None:
        """See HealthSource."""
        self._replica.store.get(b"\0")

    async def linearizable_read(self) -> None:
        """See HealthSource."""
        await self._replica.wait_linearizable()


class MemberStats:
    """Copies the rooms' plain integers into the values of the metrics page."""

    def __init__(
        self, replica: Replica, upkeep: StoreUpkeep, server: Server, lag: LoopLag, tls: ServerTls | None
    ) -> None:
        self._replica = replica
        self._upkeep = upkeep
        self._server = server
        self._lag = lag
        self._tls = tls
        self._clients: ClientVersions | None = None
        self.audit: AuditFile | None = None
        self.client_limits: ClientLimits | None = None

    def sources(
        self,
        health: Health,
        clients: ClientVersions,
        handling: Mapping[tuple[str, str], Histogram] | None,
        encryption: Callable[[], EncryptionStats] | None = None,
    ) -> Sources:
        """Every group that this member can fill; `handling` only with --metrics=extensive."""
        self._clients = clients
        return Sources(
            handling=(lambda: handling) if handling is not None else None,
            server=self.server,
            store=self.store,
            watch=self.watch,
            lease=self.lease,
            auth=lambda: AuthStats(revision=self._replica.auth.revision),
            disk=self.disk,
            encryption=encryption,
            health=health.stats,
            process=self.process,
            methods=lambda: self._server.methods,
            network=lambda: network_families(self._replica.peers.network.metrics, self._replica.own_id),
        )

    def server(self) -> ServerStats:
        """The member as a part of its cluster."""
        replica = self._replica
        node, applier = replica.node, replica.applier
        return ServerStats(
            member_id=replica.own_id,
            server_version=VERSION,
            cluster_version=replica.membership.version[:3],
            python_version=f"python{platform.python_version()}",
            gates=[(gate.name, gate.stage, on) for gate, on in replica.config.feature_gates],
            members=[member.id for member in replica.membership.members],
            alarms=[(each.memberID, rpc_pb2.AlarmType.Name(each.alarm)) for each in replica.active_alarms()],
            has_leader=replica.leader != 0,
            is_leader=replica.raw.is_leader,
            is_learner=replica.is_learner,
            applying_snapshot=replica.snapshots.receiver.installing > 0,
            leader_changes=node.leader_changes,
            proposals_committed=replica.committed_index,
            proposals_applied=replica.applied_index,
            proposals_pending=node.proposals_pending,
            proposals_failed=node.proposals_failed,
            slow_applies=replica.slow.applies,
            heartbeat_send_failures=node.heartbeat_failures,
            slow_reads=node.reads.slow,
            failed_reads=node.reads.failed,
            learner_promotions=replica.reconfiguration.promotions,
            learner_promotion_failures=replica.reconfiguration.promotion_failures,
            range_durations={("true",): replica.range_seconds},
            client_requests=self._clients.counts() if self._clients is not None else {},
            quota_bytes=replica.config.quota_bytes,
            apply_durations={
                (_operation(kind), "true" if success else "false"): histogram
                for (kind, success), histogram in applier.durations.items()
            },
            request_durations={
                (_operation(kind), "true" if success else "false"): histogram
                for (kind, success), histogram in node.times.durations.items()
            },
        )

    def store(self) -> StoreStats:
        """The key-value store."""
        store, upkeep = self._replica.store, self._upkeep
        return StoreStats(
            puts=store.puts,
            ranges=store.ranges,
            deletes=store.deletes,
            txns=store.txns,
            put_bytes=store.put_bytes,
            open_reads=store.open_reads,
            keys=len(store.index.live),
            current_revision=store.current_revision,
            compact_revision=store.compact_revision,
            size_bytes=store.size_total,
            in_use_bytes=store.bytes_in_use,
            compacted_keys=upkeep.compacted_records,
            last_compaction_seconds=upkeep.last_compaction,
            compaction_pauses_ms=upkeep.pause_milliseconds,
            compactions_ms=upkeep.total_milliseconds,
            hashes=upkeep.hash_seconds,
            hashes_by_revision=upkeep.hash_kv_seconds,
        )

    def watch(self) -> WatchStats:
        """Watchers."""
        hub = self._replica.hub
        return WatchStats(
            streams=hub.streams, watchers=hub.watchers, slow_watchers=hub.slow_watchers, events=hub.events_total
        )

    def lease(self) -> LeaseStats:
        """Leases."""
        lessor = self._replica.lessor
        return LeaseStats(
            granted=lessor.granted_total,
            revoked=lessor.revoked_total,
            renewed=lessor.renewed_total,
            expired=lessor.expired_total,
            ttls=BucketCounts(TTL_BUCKETS_SECONDS, lessor.ttl_counts, lessor.ttl_sum),
        )

    def disk(self) -> DiskStats:
        """The disk."""
        engine, upkeep, snapshots = self._replica.engine, self._upkeep, self._replica.snapshots
        return DiskStats(
            syncs=engine.sync_durations,
            commits=engine.commit_durations,
            defragmentations=upkeep.defrag_seconds,
            defragmenting=upkeep.defragmenting,
            snapshots=snapshots.sender.make_seconds,
            snapshot_saves=snapshots.receiver.save_seconds,
            snapshot_syncs=snapshots.receiver.sync_seconds,
            state_saves=engine.state_save_durations,
        )

    def process(self) -> ProcessStats:
        """The process and its loop."""
        certificates = self._tls.certificates() if self._tls is not None else []
        certificates += self._replica.peers.network.certificates()
        return ProcessStats(
            descriptor_limit=process.descriptor_limit(),
            descriptors_used=process.descriptors_used(),
            virtual_memory_max_bytes=resource.getrlimit(resource.RLIMIT_AS)[0],
            loop_lag=self._lag.histogram,
            loop_lag_own=self._lag.own,
            log_lines_dropped=logs.dropped_lines(),
            audit_lines_dropped=self.audit.dropped if self.audit is not None else 0,
            client_requests_refused=self.client_limits.refused() if self.client_limits is not None else {},
            certificates=[(each.file, each.role, each.not_after) for each in certificates],
        )
