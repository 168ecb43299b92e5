"""What /metrics reads: one value a room, filled from its plain counters at scrape time by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from etcdpy.api.exposition import Buckets

ByLabels = Mapping[tuple[str, ...], float]
BucketsByLabels = Mapping[tuple[str, ...], Buckets]


@dataclass(slots=True)
class ServerStats:
    """The member as a part of its cluster. None and empty mappings leave their metric out."""

    member_id: int = 0
    server_version: str = ""
    cluster_version: str = ""
    """`3.7`; empty until it is decided."""
    python_version: str = ""
    gates: Sequence[tuple[str, str, bool]] = ()
    """(name, stage, on)."""
    members: Sequence[int] = ()
    alarms: Sequence[tuple[int, str]] = ()
    """(member id, `NOSPACE` or `CORRUPT`)."""
    has_leader: bool = False
    is_leader: bool = False
    is_learner: bool = False
    leader_changes: int = 0
    proposals_committed: int = 0
    """The committed index, not a count; etcd's name is a trap that dashboards rely on."""
    proposals_applied: int = 0
    proposals_pending: int = 0
    proposals_failed: int = 0
    heartbeat_send_failures: int = 0
    slow_applies: int = 0
    slow_reads: int = 0
    failed_reads: int = 0
    learner_promotions: int = 0
    learner_promotion_failures: ByLabels = field(default_factory=dict)
    """By (the error's text,)."""
    applying_snapshot: bool = False
    quota_bytes: int = 0
    apply_durations: BucketsByLabels = field(default_factory=dict)
    """By (operation, `true` or `false` for success), as `("Put", "true")`."""
    request_durations: BucketsByLabels = field(default_factory=dict)
    """By (operation, success)."""
    range_durations: BucketsByLabels = field(default_factory=dict)
    """By (success,)."""
    client_requests: ByLabels = field(default_factory=dict)
    """By (`unary` or `stream`, the client's `client-api-version`)."""


@dataclass(slots=True)
class StoreStats:
    """The keyspace."""

    puts: int = 0
    ranges: int = 0
    deletes: int = 0
    txns: int = 0
    keys: int = 0
    put_bytes: int = 0
    current_revision: int = 1
    compact_revision: int = -1
    size_bytes: int = 0
    in_use_bytes: int = 0
    open_reads: int = 0
    compacted_keys: int = 0
    last_compaction_seconds: float = 0
    """Unix time; 0 when there was none since the start."""
    compaction_pauses_ms: Buckets | None = None
    compactions_ms: Buckets | None = None
    index_compactions_ms: Buckets | None = None
    hashes: Buckets | None = None
    hashes_by_revision: Buckets | None = None


@dataclass(slots=True)
class WatchStats:
    """Watchers and what they are owed."""

    streams: int = 0
    watchers: int = 0
    slow_watchers: int = 0
    pending_events: int = 0
    events: int = 0


@dataclass(slots=True)
class LeaseStats:
    """Leases since the start."""

    granted: int = 0
    revoked: int = 0
    renewed: int = 0
    expired: int = 0
    ttls: Buckets | None = None


@dataclass(slots=True)
class DiskStats:
    """What the disk was asked for, and how long it took."""

    syncs: Buckets | None = None
    log_writes: Buckets | None = None
    log_bytes: int = 0
    commits: Buckets | None = None
    defragmentations: Buckets | None = None
    defragmenting: bool = False
    snapshots: Buckets | None = None
    snapshot_saves: Buckets | None = None
    snapshot_syncs: Buckets | None = None
    state_saves: Buckets | None = None


@dataclass(slots=True)
class EncryptionStats:
    """Encryption at rest."""

    done: ByLabels = field(default_factory=dict)
    """By database: the part that has the form in which records are written now."""
    rewritten: int = 0


@dataclass(slots=True)
class HealthStats:
    """Answers of the health paths."""

    successes: int = 0
    failures: int = 0
    results: ByLabels = field(default_factory=dict)
    """The last result by (`livez` or `readyz`, check): 1 or 0."""
    checks: ByLabels = field(default_factory=dict)
    """Counts by (`livez` or `readyz`, check, `success` or `error`)."""


@dataclass(slots=True)
class AuthStats:
    """Users and roles."""

    revision: int = 1


@dataclass(slots=True)
class ProcessStats:
    """The process, as far as prometheus-client does not look at it itself."""

    descriptor_limit: int = 0
    descriptors_used: int = 0
    virtual_memory_max_bytes: float = -1
    loop_lag: Buckets | None = None
    loop_lag_own: Buckets | None = None
    log_lines_dropped: int = 0
    audit_lines_dropped: int = 0
    client_requests_refused: ByLabels = field(default_factory=dict)
    """By (`requests` or `watches`,)."""
    certificates: Sequence[tuple[str, str, float]] = ()
    """(file, role, Unix time after which it is not valid)."""
