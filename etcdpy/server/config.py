"""The server's configuration: one frozen value, made from flags, the environment or a file by etcd's rules.

    load(argv, environ) -> Config

A flag beats its environment variable, and both beat the default; giving both is refused. A configuration file replaces
all of them. What was odd on the way but no reason to stop is kept in `notes` and logged once there is a log.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.duration import NS_PER_SECOND, format_duration
from etcdpy.server import environment, validate
from etcdpy.server.flag_table import FLAGS
from etcdpy.server.flags import CommandLine, Kind, UsageError, default_values, parse_command_line
from etcdpy.server.notes import ConfigError, Note
from etcdpy.server.urls import Url

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etcdpy.server.feature_gates import FeatureGates


class HelpRequested(Exception):
    """The command line asks for the help text."""


class VersionRequested(Exception):
    """The command line asks for the version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything an operator can set. Fields are named as flags; spans are seconds, and defaults that etcd writes as 0
    are filled in. Made by `load` (checked) or `default` (for tests).
    """

    # Member
    name: str
    data_dir: str
    wal_dir: str
    snapshot_count: int
    heartbeat_interval_ms: int
    election_timeout_ms: int
    initial_election_tick_advance: bool
    listen_peer_urls: tuple[Url, ...]
    listen_client_urls: tuple[Url, ...]
    listen_client_http_urls: tuple[Url, ...]
    max_snapshots: int
    max_wals: int
    memory_mlock: bool
    quota_backend_bytes: int
    backend_bbolt_freelist_type: str
    backend_batch_interval_seconds: float
    backend_batch_limit: int
    max_txn_ops: int
    max_request_bytes: int
    max_concurrent_streams: int
    grpc_keepalive_min_time_seconds: float
    grpc_keepalive_interval_seconds: float
    grpc_keepalive_timeout_seconds: float
    socket_reuse_port: bool
    socket_reuse_address: bool
    enable_grpc_gateway: bool
    raft_read_timeout_seconds: float
    raft_write_timeout_seconds: float
    feature_gates: FeatureGates
    config_file: str
    # Clustering
    initial_advertise_peer_urls: tuple[Url, ...]
    initial_cluster: str
    initial_cluster_state: str
    initial_cluster_token: str
    advertise_client_urls: tuple[Url, ...]
    discovery_token: str
    discovery_endpoints: tuple[str, ...]
    discovery_dial_timeout_seconds: float
    discovery_request_timeout_seconds: float
    discovery_keepalive_time_seconds: float
    discovery_keepalive_timeout_seconds: float
    discovery_insecure_transport: bool
    discovery_insecure_skip_tls_verify: bool
    discovery_cert: str
    discovery_key: str
    discovery_cacert: str
    discovery_user: str = field(repr=False)
    discovery_password: str = field(repr=False)
    discovery_fallback: str
    discovery_srv: str
    discovery_srv_name: str
    strict_reconfig_check: bool
    pre_vote: bool
    auto_compaction_retention: str
    auto_compaction_mode: str
    v2_deprecation: str
    # Security
    cert_file: str
    key_file: str
    client_cert_auth: bool
    trusted_ca_file: str
    client_cert_file: str
    client_key_file: str
    client_crl_file: str
    client_cert_allowed_hostname: tuple[str, ...]
    auto_tls: bool
    peer_cert_file: str
    peer_key_file: str
    peer_client_cert_auth: bool
    peer_trusted_ca_file: str
    peer_client_cert_file: str
    peer_client_key_file: str
    peer_cert_allowed_cn: tuple[str, ...]
    peer_cert_allowed_hostname: tuple[str, ...]
    peer_auto_tls: bool
    self_signed_cert_validity: int
    peer_crl_file: str
    cipher_suites: tuple[str, ...]
    tls_min_version: str
    tls_max_version: str
    cors: tuple[str, ...]
    host_whitelist: tuple[str, ...]
    encryption_key_file: str
    # Auth
    auth_token: str
    bcrypt_cost: int
    auth_token_ttl: int
    # Monitoring
    enable_pprof: bool
    metrics: str
    listen_metrics_urls: tuple[Url, ...]
    # Logging
    logger: str
    log_outputs: tuple[str, ...]
    log_level: str
    log_format: str
    enable_log_rotation: bool
    log_rotation_config_json: str
    warning_unary_request_duration_seconds: float
    # Distributed tracing
    enable_distributed_tracing: bool
    distributed_tracing_address: str
    distributed_tracing_service_name: str
    distributed_tracing_instance_id: str
    distributed_tracing_sampling_rate: int
    # Features
    corrupt_check_time_seconds: float
    compact_hash_check_time_seconds: float
    compaction_batch_limit: int
    compaction_sleep_interval_seconds: float
    peer_skip_client_san_verification: bool
    watch_progress_notify_interval_seconds: float
    warning_apply_duration_seconds: float
    bootstrap_defrag_threshold_megabytes: int
    max_learners: int
    downgrade_check_time_seconds: float
    snapshot_catchup_entries: int
    # Beyond etcd
    auto_space_reclaim: bool
    auto_alarm_disarm: bool
    client_requests_per_second: int
    client_watches_per_second: int
    audit_log_file: str
    audit_log_keys: str
    audit_log_max_megabytes: int
    # Unsafe
    force_new_cluster: bool
    unsafe_no_fsync: bool
    # Only a configuration file has these
    client_cert_allowed_cn: tuple[str, ...] = ()
    client_skip_client_san_verification: bool = False
    discovery_server_name: str = ""
    discovery_auth_token: str = field(default="", repr=False)

    explicit: frozenset[str] = frozenset()
    """Names of the flags that somebody set, whichever way."""
    notes: tuple[Note, ...] = ()
    """What the log should say about how this came about, in order."""

    @property
    def is_new_cluster(self) -> bool:
        """Whether a member without data founds a cluster rather than joins one."""
        return self.initial_cluster_state == "new"

    @property
    def election_ticks(self) -> int:
        """Heartbeat ticks without a leader until an election."""
        return self.election_timeout_ms // self.heartbeat_interval_ms

    @property
    def request_timeout_seconds(self) -> float:
        """How long a request may wait: 5 s for queue and disk, and two elections. etcd's rule."""
        return 5 + 2 * self.election_ticks * self.heartbeat_interval_ms / 1000

    @property
    def quota_bytes(self) -> int:
        """--quota-backend-bytes with its default filled in; negative means no quota."""
        return self.quota_backend_bytes or limits.QUOTA_BYTES_DEFAULT

    @property
    def auto_compaction_retention_ns(self) -> int:
        """How much history periodic compaction keeps; 0 keeps all. In revision mode the number is one of revisions."""
        return validate.parse_retention(self.auto_compaction_mode, self.auto_compaction_retention)

    @property
    def auto_compaction_retention_seconds(self) -> float:
        """Periodic mode: the span of history to keep; 0 in revision mode or when off."""
        return self.auto_compaction_retention_ns / NS_PER_SECOND if self.auto_compaction_mode == "periodic" else 0

    @property
    def auto_compaction_retention_revisions(self) -> int:
        """Revision mode: how many revisions to keep; 0 in periodic mode or when off."""
        return self.auto_compaction_retention_ns if self.auto_compaction_mode == "revision" else 0


_FIELDS: Final = frozenset(each.name for each in fields(Config))

_FILLED_IN: Final = {
    "snapshot-count": limits.SNAPSHOT_COUNT_DEFAULT,
    "compaction-batch-limit": limits.COMPACTION_BATCH_REVISIONS_DEFAULT,
    "compaction-sleep-interval": limits.COMPACTION_SLEEP_NS_DEFAULT,
    "watch-progress-notify-interval": limits.WATCH_PROGRESS_NS_DEFAULT,
    "warning-unary-request-duration": limits.WARNING_UNARY_NS_DEFAULT,
    "self-signed-cert-validity": 1,
}
"""What 0 stands for where it does not mean zero."""

_LEAST: Final = {
    "raft-read-timeout": 5 * NS_PER_SECOND,
    "raft-write-timeout": 5 * NS_PER_SECOND,
    "watch-progress-notify-interval": limits.WATCH_PROGRESS_NS_MIN,
}


def default(**overrides: Any) -> Config:
    """The configuration of `etcdpy` without any flag, with fields replaced. For tests; nothing is checked."""
    return _build(CommandLine(default_values(FLAGS)), [], overrides)


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The configuration that a command line (without the program's name) and an environment ask for.

    Raises ConfigError, whose `exit_code` and `usage` say how etcd would end; HelpRequested; VersionRequested.
    """
    try:
        line = parse_command_line(argv, FLAGS)
    except UsageError as problem:
        raise ConfigError(str(problem), exit_code=2, usage=True) from None
    if line.help:
        raise HelpRequested
    if line.positional is not None:
        raise ConfigError(f'"{line.positional}" is not a valid flag; flags begin with --')
    if line.values["version"]:
        raise VersionRequested
    notes: list[Note] = []
    try:
        path = line.values["config-file"] or environ.get(FLAGS["config-file"].env, "")
        extra: dict[str, Any] = {}
        if path:
            from etcdpy.server import config_file  # here, so that a start without a file does without YAML

            line, extra = config_file.read(path, notes)
            extra["config_file"] = path
        else:
            environment.apply(line, environ, notes)
            _forget_defaults(line)
        _note_deprecated(line, notes)
        config = _build(line, notes, extra)
        notes = [*config.notes]
        validate.check(config, notes)
    except ConfigError as problem:
        raise problem.with_notes(notes) from None
    return replace(config, notes=tuple(notes))


def no_effect_notes(config: Config) -> list[str]:
    """One line for each flag and gate that was set and changes nothing here, with the reason."""
    lines = [f"--{name}: {FLAGS[name].inert}" for name in sorted(config.explicit) if FLAGS[name].inert]
    gates = config.feature_gates
    lines += [
        f"--feature-gates={gate.name}={str(on).lower()}: {gate.inert}"
        for gate, on in gates
        if gate.inert and gate.name in gates.given
    ]
    return lines


def _forget_defaults(line: CommandLine) -> None:
    """Some defaults hold only while other flags are not given."""
    if "listen-client-urls" in line.explicit and "advertise-client-urls" not in line.explicit:
        line.values["advertise-client-urls"] = ()
    discovers = any(line.values[name] for name in ("discovery-srv", "discovery-srv-name", "discovery-endpoints"))
    if discovers and "initial-cluster" not in line.explicit:
        line.values["initial-cluster"] = ""


def _note_deprecated(line: CommandLine, notes: list[Note]) -> None:
    texts = [FLAGS[name].deprecated for name in sorted(line.explicit)]
    notes.extend(Note("warn", text) for text in texts if text)


def _build(line: CommandLine, notes: list[Note], extra: Mapping[str, Any]) -> Config:
    values: dict[str, Any] = {"v2-deprecation": "", **line.values}
    noted = list(notes)
    for name, filled in _FILLED_IN.items():
        values[name] = values[name] or filled
    for name, least in _LEAST.items():
        if values[name] < least:
            noted.append(Note("warn", f"{name} increased to minimum value: {format_duration(least)}"))
            values[name] = least
    _fill_addresses(values, noted)
    if not values["data-dir"]:
        values["data-dir"] = f"{values['name']}.etcd"
        noted.append(Note("warn", "'data-dir' was empty; using default", {"data-dir": values["data-dir"]}))
    by_field: dict[str, Any] = {}
    for name, value in values.items():
        flag = FLAGS[name]
        if flag.field in _FIELDS:
            by_field[flag.field] = value / NS_PER_SECOND if flag.kind is Kind.DURATION else value
    by_field["explicit"] = frozenset(line.explicit)
    by_field["notes"] = tuple(noted)
    return Config(**{**by_field, **extra})


def _fill_addresses(values: dict[str, Any], notes: list[Note]) -> None:
    """Advertise this machine's address where a wildcard is bound and nothing else was said, as etcd does."""
    from_default = values["initial-cluster"] == FLAGS["initial-cluster"].default
    changed = [
        _advertise_machine(values, listen, advertise)
        for listen, advertise in (
            ("listen-peer-urls", "initial-advertise-peer-urls"),
            ("listen-client-urls", "advertise-client-urls"),
        )
    ]
    host = changed[0] or changed[1]
    if host:
        notes.append(Note("info", "detected default host for advertise", {"host": host}))
    if from_default and values["name"] != FLAGS["name"].default:
        name = values["name"] or FLAGS["name"].default
        values["initial-cluster"] = ",".join(f"{name}={url}" for url in values["initial-advertise-peer-urls"])


def _advertise_machine(values: dict[str, Any], listen: str, advertise: str) -> str:
    bound: tuple[Url, ...] = values[listen]
    if not bound or bound[0].host != "0.0.0.0" or [*map(str, values[advertise])] != [FLAGS[advertise].default]:  # noqa: S104
        return ""
    host = environment.default_host()
    if host:
        text = f"{values[advertise][0].scheme}://{host}:{bound[0].port}"
        values[advertise] = (Url(values[advertise][0].scheme, host, bound[0].port, "", text),)
    return host
