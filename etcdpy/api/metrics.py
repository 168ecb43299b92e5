"""/metrics: etcd's names, types, labels and buckets, filled from plain integers at scrape time.

The rooms count in their own attributes; the composition root gives one function a group that copies them into the
values of `stats.py`. A metric that nothing can fill yet is not served at all, rather than as a zero that is no
measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from etcdpy.api.exposition import Buckets, bucket_rows
from etcdpy.api.stats import (
    AuthStats,
    DiskStats,
    EncryptionStats,
    HealthStats,
    LeaseStats,
    ProcessStats,
    ServerStats,
    StoreStats,
    WatchStats,
)

if TYPE_CHECKING:
    from etcdpy.transport.calls import Method


class Spec(NamedTuple):
    """One metric: its name, type, help, the field it is read from, and its labels where it has some."""

    name: str
    kind: str
    help: str
    field: str
    labels: tuple[str, ...] = ()


_SERVER: Final = (
    Spec("etcd_server_has_leader", "gauge", "1 when the member knows a leader.", "has_leader"),
    Spec("etcd_server_is_leader", "gauge", "1 when the member leads.", "is_leader"),
    Spec("etcd_server_is_learner", "gauge", "1 when the member has no vote.", "is_learner"),
    Spec("etcd_server_leader_changes_seen_total", "counter", "Leader changes seen.", "leader_changes"),
    Spec("etcd_server_proposals_committed_total", "gauge", "Index committed last.", "proposals_committed"),
    Spec("etcd_server_proposals_applied_total", "gauge", "Index applied last.", "proposals_applied"),
    Spec("etcd_server_proposals_pending", "gauge", "Proposals that wait to be committed.", "proposals_pending"),
    Spec("etcd_server_proposals_failed_total", "counter", "Proposals that failed.", "proposals_failed"),
    Spec(
        "etcd_server_heartbeat_send_failures_total",
        "counter",
        "Heartbeats of the leader that went out late.",
        "heartbeat_send_failures",
    ),
    Spec("etcd_server_slow_apply_total", "counter", "Requests that took long to apply.", "slow_applies"),
    Spec("etcd_server_slow_read_indexes_total", "counter", "Confirmations of reads that came late.", "slow_reads"),
    Spec("etcd_server_read_indexes_failed_total", "counter", "Confirmations of reads that failed.", "failed_reads"),
    Spec("etcd_server_learner_promote_successes", "counter", "Learners promoted.", "learner_promotions"),
    Spec(
        "etcd_server_learner_promote_failures",
        "counter",
        "Learners that could not be promoted, by the reason.",
        "learner_promotion_failures",
        ("Reason",),
    ),
    Spec(
        "etcd_server_snapshot_apply_in_progress_total",
        "gauge",
        "1 while a snapshot from the leader is taken in.",
        "applying_snapshot",
    ),
    Spec("etcd_server_quota_backend_bytes", "gauge", "Bytes the database may hold.", "quota_bytes"),
    Spec(
        "etcd_server_request_duration_seconds",
        "histogram",
        "From the arrival of a write to its answer.",
        "request_durations",
        ("type", "success"),
    ),
    Spec("etcd_server_range_duration_seconds", "histogram", "How long ranges took.", "range_durations", ("success",)),
    Spec(
        "etcd_server_client_requests_total",
        "counter",
        "Requests by the API version of the client.",
        "client_requests",
        ("type", "client_api_version"),
    ),
)

_STORE: Final = (
    Spec("etcd_mvcc_put_total", "counter", "Puts.", "puts"),
    Spec("etcd_mvcc_range_total", "counter", "Ranges.", "ranges"),
    Spec("etcd_mvcc_delete_total", "counter", "Deletes.", "deletes"),
    Spec("etcd_mvcc_txn_total", "counter", "Transactions.", "txns"),
    Spec("etcd_mvcc_db_total_size_in_bytes", "gauge", "Size of the database, as the quota counts it.", "size_bytes"),
    Spec("etcd_mvcc_db_total_size_in_use_in_bytes", "gauge", "The part of it that is in use.", "in_use_bytes"),
    Spec("etcd_mvcc_db_open_read_transactions", "gauge", "Reads that hold a revision.", "open_reads"),
    Spec("etcd_mvcc_hash_duration_seconds", "histogram", "How long hashes of the store took.", "hashes"),
    Spec(
        "etcd_mvcc_hash_rev_duration_seconds",
        "histogram",
        "How long hashes up to a revision took.",
        "hashes_by_revision",
    ),
    Spec("etcd_debugging_mvcc_keys_total", "gauge", "Keys.", "keys"),
    Spec("etcd_debugging_mvcc_total_put_size_in_bytes", "gauge", "Bytes put since the start.", "put_bytes"),
    Spec("etcd_debugging_mvcc_current_revision", "gauge", "The current revision.", "current_revision"),
    Spec("etcd_debugging_mvcc_compact_revision", "gauge", "The last compacted revision.", "compact_revision"),
    Spec("etcd_debugging_mvcc_db_compaction_keys_total", "counter", "Records compacted.", "compacted_keys"),
    Spec(
        "etcd_debugging_mvcc_db_compaction_last",
        "gauge",
        "Unix time of the last compaction; 0 since the start.",
        "last_compaction_seconds",
    ),
    Spec(
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
        "histogram",
        "How long one piece of a compaction took.",
        "compaction_pauses_ms",
    ),
    Spec(
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "histogram",
        "How long compactions took.",
        "compactions_ms",
    ),
    Spec(
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "histogram",
        "How long compactions of the index took.",
        "index_compactions_ms",
    ),
)

_WATCH: Final = (
    Spec("etcd_debugging_mvcc_watch_stream_total", "gauge", "Watch streams.", "streams"),
    Spec("etcd_debugging_mvcc_watcher_total", "gauge", "Watchers.", "watchers"),
    Spec("etcd_debugging_mvcc_slow_watcher_total", "gauge", "Watchers that are behind.", "slow_watchers"),
    Spec("etcd_debugging_mvcc_pending_events_total", "gauge", "Events not yet sent.", "pending_events"),
    Spec("etcd_debugging_mvcc_events_total", "counter", "Events sent.", "events"),
)

_LEASE: Final = (
    Spec("etcd_debugging_lease_granted_total", "counter", "Leases granted.", "granted"),
    Spec("etcd_debugging_lease_revoked_total", "counter", "Leases revoked.", "revoked"),
    Spec("etcd_debugging_lease_renewed_total", "counter", "Renewals on the leader.", "renewed"),
    Spec("etcd_debugging_lease_ttl_total", "histogram", "Time to live of granted leases, in seconds.", "ttls"),
    Spec("etcd_debugging_server_lease_expired_total", "counter", "Leases that expired.", "expired"),
)

_DISK: Final = (
    Spec("etcd_disk_wal_fsync_duration_seconds", "histogram", "Synced writes of the raft log.", "syncs"),
    Spec("etcd_disk_wal_write_duration_seconds", "histogram", "Writes of the raft log.", "log_writes"),
    Spec("etcd_disk_wal_write_bytes_total", "gauge", "Bytes written to the raft log.", "log_bytes"),
    Spec("etcd_disk_backend_commit_duration_seconds", "histogram", "Batches of applied requests written.", "commits"),
    Spec("etcd_disk_backend_defrag_duration_seconds", "histogram", "How long defragmenting took.", "defragmentations"),
    Spec("etcd_disk_defrag_inflight", "gauge", "1 while the member defragments.", "defragmenting"),
    Spec(
        "etcd_disk_backend_snapshot_duration_seconds",
        "histogram",
        "How long making a snapshot took.",
        "snapshots",
    ),
    Spec(
        "etcd_snap_db_save_total_duration_seconds",
        "histogram",
        "How long receiving and storing a snapshot took.",
        "snapshot_saves",
    ),
    Spec("etcd_snap_db_fsync_duration_seconds", "histogram", "Syncs of received snapshots.", "snapshot_syncs"),
    Spec(
        "etcd_debugging_snap_save_total_duration_seconds",
        "histogram",
        "How long making the applied state durable took, before the log is cut.",
        "state_saves",
    ),
    Spec("etcd_snap_fsync_duration_seconds", "histogram", "The same: all of it is syncing.", "state_saves"),
)

_ENCRYPTION: Final = (
    Spec(
        "etcdpy_encryption_done_ratio",
        "gauge",
        "Part of each database that has the form in which records are written now.",
        "done",
        ("database",),
    ),
    Spec("etcdpy_encryption_rewritten_records_total", "counter", "Records re-encrypted.", "rewritten"),
)

_HEALTH: Final = (
    Spec("etcd_server_health_success", "counter", "Answers of /health that were good.", "successes"),
    Spec("etcd_server_health_failures", "counter", "Answers of /health that were not.", "failures"),
    Spec("etcd_server_healthcheck", "gauge", "The last result of each check.", "results", ("type", "name")),
    Spec("etcd_server_healthchecks_total", "counter", "Results of the checks.", "checks", ("type", "name", "status")),
)

_AUTH: Final = (Spec("etcd_debugging_auth_revision", "gauge", "The revision of users and roles.", "revision"),)

_PROCESS: Final = (
    Spec("os_fd_limit", "gauge", "Files the process may open.", "descriptor_limit"),
    Spec("os_fd_used", "gauge", "Files it has open.", "descriptors_used"),
    Spec(
        "process_virtual_memory_max_bytes",
        "gauge",
        "Most virtual memory the process may have.",
        "virtual_memory_max_bytes",
    ),
    Spec("etcdpy_loop_lag_seconds", "histogram", "How late the event loop was.", "loop_lag"),
    Spec("etcdpy_loop_lag_own_seconds", "histogram", "How much of that at least was its own work.", "loop_lag_own"),
    Spec("etcdpy_log_lines_dropped_total", "counter", "Log lines that could not be written.", "log_lines_dropped"),
    Spec("etcdpy_audit_lines_dropped_total", "counter", "Lines the audit log has lost.", "audit_lines_dropped"),
    Spec(
        "etcdpy_client_requests_refused_total",
        "counter",
        "Requests and watches over what one user or client may ask a second.",
        "client_requests_refused",
        ("kind",),
    ),
)

_GROUPS: Final = {
    "server": _SERVER,
    "store": _STORE,
    "watch": _WATCH,
    "lease": _LEASE,
    "disk": _DISK,
    "encryption": _ENCRYPTION,
    "health": _HEALTH,
    "auth": _AUTH,
    "process": _PROCESS,
}

Methods = Mapping[bytes, "Method"]
Handling = Mapping[tuple[str, str], Buckets]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where each group is read from, at each scrape. A group that is None is left out."""

    server: Callable[[], ServerStats] | None = None
    store: Callable[[], StoreStats] | None = None
    watch: Callable[[], WatchStats] | None = None
    lease: Callable[[], LeaseStats] | None = None
    disk: Callable[[], DiskStats] | None = None
    encryption: Callable[[], EncryptionStats] | None = None
    health: Callable[[], HealthStats] | None = None
    auth: Callable[[], AuthStats] | None = None
    process: Callable[[], ProcessStats] | None = None
    methods: Callable[[], Methods] | None = None
    network: Callable[[], Iterable[Metric]] | None = None
    """The families of the network between members (`network_metrics.py`)."""
    handling: Callable[[], Handling] | None = None
    """Durations of calls by (service, method); only with --metrics=extensive."""


def build_registry(sources: Sources) -> CollectorRegistry:
    """A registry of etcd's metrics and of prometheus-client's own about the process, Python and its collector."""
    from prometheus_client.gc_collector import GCCollector
    from prometheus_client.platform_collector import PlatformCollector

    from etcdpy.api.process_metrics import ProcessMetrics

    registry = CollectorRegistry(auto_describe=False)
    registry.register(EtcdCollector(sources))
    ProcessMetrics(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class EtcdCollector(Collector):
    """Reads every source and makes the families of it."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Every family that can be filled."""
        for group, specs in _GROUPS.items():
            source = getattr(self._sources, group)
            if source is None:
                continue
            stats = source()
            for spec in specs:
                value = getattr(stats, spec.field)
                if value is not None:
                    yield _family(spec, value)
            if isinstance(stats, ServerStats):
                yield from _server_families(stats)
            elif isinstance(stats, ProcessStats):
                yield _certificates(stats)
        if self._sources.methods is not None:
            handling = self._sources.handling() if self._sources.handling is not None else None
            yield from call_families(self._sources.methods(), handling)
        if self._sources.network is not None:
            yield from self._sources.network()


def _family(spec: Spec, value: Any) -> Metric:
    family = Metric(spec.name, spec.help, spec.kind)
    rows = value.items() if spec.labels else (((), value),)
    for key, each in rows:
        labels = dict(zip(spec.labels, key, strict=True))
        if spec.kind == "histogram":
            for name, labelled, count in bucket_rows(spec.name, labels, each):
                family.add_sample(name, labelled, count)
        else:
            family.add_sample(spec.name, labels, float(each))
    return family


def _labelled(name: str, kind: str, text: str, rows: Sequence[tuple[dict[str, str], float]]) -> Metric:
    family = Metric(name, text, kind)
    for labels, value in rows:
        family.add_sample(name, labels, value)
    return family


def _server_families(stats: ServerStats) -> Iterator[Metric]:
    own = f"{stats.member_id:x}"
    yield _labelled("etcd_server_id", "gauge", "The member's id.", [({"server_id": own}, 1)])
    yield _labelled(
        "etcd_server_version", "gauge", "The version served.", [({"server_version": stats.server_version}, 1)]
    )
    yield _labelled(
        "etcd_server_go_version",
        "gauge",
        "What the server runs on; Python here.",
        [({"server_go_version": stats.python_version}, 1)],
    )
    if stats.cluster_version:
        rows = [({"cluster_version": stats.cluster_version}, 1.0)]
        yield _labelled("etcd_cluster_version", "gauge", "The version of the cluster.", rows)
    rows = [({"name": name, "stage": stage}, float(on)) for name, stage, on in stats.gates]
    yield _labelled("etcd_server_feature_enabled", "gauge", "1 when the feature gate is on.", rows)
    rows = [({"Local": own, "Remote": f"{each:x}"}, 1.0) for each in stats.members]
    yield _labelled("etcd_network_known_peers", "gauge", "Members this one knows.", rows)
    rows = [({"server_id": f"{member:x}", "alarm_type": alarm}, 1.0) for member, alarm in stats.alarms]
    yield _labelled("etcd_debugging_server_alarms", "gauge", "Alarms that are raised.", rows)
    applied = {("v3", *key): buckets for key, buckets in stats.apply_durations.items()}
    text = "How long requests took to apply."
    spec = Spec("etcd_server_apply_duration_seconds", "histogram", text, "", ("version", "op", "success"))
    yield _family(spec, applied)


def _certificates(stats: ProcessStats) -> Metric:
    # Several certificates of one file share a role; the first to expire is the one to know of.
    first: dict[tuple[str, str], float] = {}
    for file, role, moment in stats.certificates:
        first[file, role] = min(moment, first.get((file, role), moment))
    rows = [({"file": file, "role": role}, moment) for (file, role), moment in sorted(first.items())]
    text = "Unix time after which the certificate is no longer valid."
    return _labelled("etcdpy_certificate_not_after_seconds", "gauge", text, rows)


_UNUSED_BEFORE_FIRST_CALL: Final = frozenset(("v3lockpb.Lock", "v3electionpb.Election"))
"""Services that etcd counts only once they were used."""


def call_families(methods: Methods, handling: Handling | None = None) -> Iterator[Metric]:
    """The calls of gRPC clients, by method; `handling` has their times, where they are taken."""
    started = Metric("grpc_server_started_total", "Calls that began.", "counter")
    handled = Metric("grpc_server_handled_total", "Calls that ended, by their code.", "counter")
    received = Metric("grpc_server_msg_received_total", "Messages received.", "counter")
    sent = Metric("grpc_server_msg_sent_total", "Messages sent.", "counter")
    times = Metric("grpc_server_handling_seconds", "How long calls took.", "histogram")
    bytes_in = bytes_out = 0
    for method in methods.values():
        bytes_in += method.received_bytes
        bytes_out += method.sent_bytes
        if method.service in _UNUSED_BEFORE_FIRST_CALL and not method.started:
            continue
        labels = {"grpc_method": method.name, "grpc_service": method.service, "grpc_type": method.kind.value}
        started.add_sample(started.name, labels, method.started)
        received.add_sample(received.name, labels, method.received)
        sent.add_sample(sent.name, labels, method.sent)
        for code, count in method.handled.items():
            handled.add_sample(handled.name, {"grpc_code": code.label, **labels}, count)
        if handling is not None and (method.service, method.name) in handling:
            for name, labelled, value in bucket_rows(times.name, labels, handling[method.service, method.name]):
                times.add_sample(name, labelled, value)
    yield from (started, handled, received, sent, times)
    name = "etcd_network_client_grpc_{}_bytes_total"
    yield _labelled(name.format("received"), "counter", "Bytes received from clients.", [({}, float(bytes_in))])
    yield _labelled(name.format("sent"), "counter", "Bytes sent to clients.", [({}, float(bytes_out))])
