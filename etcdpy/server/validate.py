"""What a configuration must keep to, beyond each flag's own form. One check a rule, in etcd's order.

Every error is one line that begins with the flag and says the mend; the middle is etcd's text where scripts and
operators search for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.duration import NS_PER_SECOND, DurationError, format_duration, parse_duration
from etcdpy.server.go_values import GoValueError, parse_int, quote
from etcdpy.server.notes import ConfigError, Note
from etcdpy.server.token_options import parse_options
from etcdpy.server.urls import Url, UrlError, check_bindable, check_reachable
from etcdpy.wire import read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.server.config import Config

LOG_LEVELS: Final = ("debug", "info", "warn", "error", "dpanic", "panic", "fatal")
LOG_FORMATS: Final = ("json", "console")
JOURNAL: Final = "systemd/journal"
_NO_FILE: Final = ("default", "stderr", "stdout")
_TLS_VERSIONS: Final = ("TLS1.2", "TLS1.3")
_SAMPLES_MAX: Final = 1_000_000


def check(config: Config, notes: list[Note]) -> None:
    """Raise ConfigError for the first rule that is broken; append what is only worth a warning to `notes`."""
    for rule in _RULES:
        rule(config, notes)


def _check_logging(config: Config, notes: list[Note]) -> None:
    if config.logger == "capnslog":
        raise ConfigError("--logger=capnslog is removed in v3.5; leave it out, or set it to zap")
    if config.logger != "zap":
        raise ConfigError(f"--logger: unknown logger option {quote(config.logger)}; only zap is known")
    if config.log_level.lower() not in LOG_LEVELS:
        known = ", ".join(LOG_LEVELS)
        raise ConfigError(f"--log-level: unrecognized level: {quote(config.log_level)}; use one of {known}")
    if config.log_format not in ("", *LOG_FORMATS):
        raise ConfigError(f"--log-format: unknown log format: {config.log_format}, supported values json, console")
    if len(config.log_outputs) > 1 and "default" in config.log_outputs:
        raise ConfigError(
            '--log-outputs: multi logoutput for "default" is not supported yet; name stderr instead of default'
        )
    if len(config.log_outputs) > 1 and JOURNAL in config.log_outputs:
        raise ConfigError(f"--log-outputs: {JOURNAL} cannot be joined with other outputs; name it alone")
    if config.enable_log_rotation:
        files = [each for each in config.log_outputs if each not in (*_NO_FILE, JOURNAL)]
        if len(files) != 1:
            raise ConfigError(
                "--log-outputs requires a single file path when --log-rotate-config-json is defined; "
                "name one file, or leave out --enable-log-rotation"
            )
        parse_rotation(config.log_rotation_config_json)


def parse_rotation(text: str) -> dict[str, Any]:
    """--log-rotation-config-json with its defaults filled in. Raises ConfigError."""
    try:
        given = read_json(text)
    except ValueError as problem:
        raise ConfigError(
            f"--log-rotation-config-json: improperly formatted log rotation config: {problem}; write a JSON object"
        ) from None
    found: dict[str, Any] = {"maxsize": 0, "maxage": 0, "maxbackups": 0, "localtime": False, "compress": False}
    if not isinstance(given, dict):
        raise ConfigError("--log-rotation-config-json: invalid log rotation config: expected a JSON object")
    for name, value in given.items():
        key = str(name).lower()
        if key not in found:
            continue
        if type(value) is not type(found[key]) or (isinstance(value, int) and value < 0):
            kind = "true or false" if isinstance(found[key], bool) else "a whole number"
            raise ConfigError(f"--log-rotation-config-json: invalid log rotation config: {key} must be {kind}")
        found[key] = value
    found["maxsize"] = found["maxsize"] or 100
    return found


def _check_urls(config: Config, notes: list[Note]) -> None:
    for flag, urls in (
        ("listen-peer-urls", config.listen_peer_urls),
        ("listen-client-urls", config.listen_client_urls),
        ("listen-client-http-urls", config.listen_client_http_urls),
        ("listen-metrics-urls", config.listen_metrics_urls),
    ):
        _with_flag(flag, check_bindable, urls, "bind an IP address or localhost, and advertise the name")
    if not config.listen_client_http_urls:
        text = "Running http and grpc server on single port. This is not recommended for production."
        notes.append(Note("warn", text))
    for flag, urls, form in (
        ("initial-advertise-peer-urls", config.initial_advertise_peer_urls, 'must be "host:port"'),
        (
            "advertise-client-urls",
            config.advertise_client_urls,
            'must be in the format "host:port", "unix:/path/to/socket" or "unixs:/path/to/socket"',
        ),
    ):
        try:
            check_reachable(urls)
        except UrlError as problem:
            raise ConfigError(f"--{flag} {quote(_joined(urls))} {form} ({problem})") from None
    if not config.listen_peer_urls or not config.listen_client_urls:
        name = "listen-client-urls" if config.listen_peer_urls else "listen-peer-urls"
        raise ConfigError(f"--{name} must name at least one URL")


def _with_flag(flag: str, rule: Callable[[Sequence[Url]], None], urls: Sequence[Url], mend: str) -> None:
    try:
        rule(urls)
    except UrlError as problem:
        raise ConfigError(f"--{flag}: {problem}; {mend}") from None


def _joined(urls: Sequence[Url]) -> str:
    return ",".join(map(str, urls))


def _check_bootstrap_flags(config: Config, notes: list[Note]) -> None:
    if config.initial_cluster_state not in ("new", "existing"):
        state = quote(config.initial_cluster_state)
        raise ConfigError(f"--initial-cluster-state: unexpected clusterState {state}; use new or existing")
    if sum(map(bool, (config.initial_cluster, config.discovery_srv, config.discovery_endpoints))) > 1:
        raise ConfigError(
            "multiple discovery or bootstrap flags are set. "
            'Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"'
        )
    if bool(config.discovery_token) != bool(config.discovery_endpoints):
        raise ConfigError("both --discovery-token and --discovery-endpoints must be set")
    if any(not each.strip() for each in config.discovery_endpoints):
        raise ConfigError("--discovery-endpoints must not contain empty endpoints")
    if config.discovery_fallback == "proxy":
        raise ConfigError(
            'v2 proxy is deprecated, and --discovery-fallback can\'t be configured as "proxy"; leave it out'
        )


def _check_timing(config: Config, notes: list[Note]) -> None:
    heartbeat, election = config.heartbeat_interval_ms, config.election_timeout_ms
    if heartbeat == 0:
        raise ConfigError("--heartbeat-interval must be >0 (set to 0ms)")
    if election == 0:
        raise ConfigError("--election-timeout must be >0 (set to 0ms)")
    if 5 * heartbeat > election:
        raise ConfigError(
            f"--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        )
    if election > limits.ELECTION_TIMEOUT_MS_MAX:
        raise ConfigError(
            f"--election-timeout[{election}ms] is too long, "
            f"and should be set less than {limits.ELECTION_TIMEOUT_MS_MAX}ms"
        )


def _check_advertised(config: Config, notes: list[Note]) -> None:
    if not config.advertise_client_urls:
        raise ConfigError("--advertise-client-urls is required when --listen-client-urls is set explicitly")


def _check_compaction(config: Config, notes: list[Note]) -> None:
    if not config.auto_compaction_mode:
        raise ConfigError("--auto-compaction-mode: undefined auto-compaction-mode; use periodic or revision")
    if config.auto_compaction_mode not in ("periodic", "revision"):
        mode = quote(config.auto_compaction_mode)
        raise ConfigError(f"--auto-compaction-mode: unknown auto-compaction-mode {mode}; use periodic or revision")
    parse_retention(config.auto_compaction_mode, config.auto_compaction_retention)
    if config.compaction_batch_limit < 0:
        raise ConfigError(f"--compaction-batch-limit must not be negative (set to {config.compaction_batch_limit})")


def parse_retention(mode: str, text: str) -> int:
    """--auto-compaction-retention: nanoseconds in periodic mode (a bare number is hours), a number of revisions in
    revision mode. As on etcd a span in revision mode counts its nanoseconds. Raises ConfigError.
    """
    try:
        number = parse_int(text or "0", 0, 2**63 - 1)
    except GoValueError:
        pass
    else:
        return number if mode == "revision" else number * 3600 * NS_PER_SECOND
    try:
        span = parse_duration(text)
    except DurationError as problem:
        mend = "write a span such as 30m, or a number of revisions in revision mode"
        raise ConfigError(
            f"--auto-compaction-retention: error parsing CompactionRetention: {problem}; {mend}"
        ) from None
    if span < 0:
        raise ConfigError(f"--auto-compaction-retention must not be negative (set to {format_duration(span)})")
    return span


def _check_tracing(config: Config, notes: list[Note]) -> None:
    if config.enable_distributed_tracing and not 0 <= config.distributed_tracing_sampling_rate <= _SAMPLES_MAX:
        bound = "positive" if config.distributed_tracing_sampling_rate < 0 else f"less than {_SAMPLES_MAX}"
        raise ConfigError(f"--distributed-tracing-sampling-rate: tracing sampling rate must be {bound}")


def _check_gates(config: Config, notes: list[Note]) -> None:
    checkpoint = config.feature_gates.enabled("LeaseCheckpoint")
    persist = config.feature_gates.enabled("LeaseCheckpointPersist")
    if checkpoint and not persist:
        notes.append(
            Note(
                "warn",
                "Detected that checkpointing is enabled without persistence. "
                "Consider enabling feature gate LeaseCheckpointPersist",
            )
        )
    if persist and not checkpoint:
        raise ConfigError(
            "--feature-gates: enabling feature gate LeaseCheckpointPersist requires enabling "
            "feature gate LeaseCheckpoint"
        )


def _check_numbers(config: Config, notes: list[Note]) -> None:
    if config.compact_hash_check_time_seconds <= 0:
        span = format_duration(round(config.compact_hash_check_time_seconds * NS_PER_SECOND))
        raise ConfigError(f"--compact-hash-check-time must be >0 (set to {span})")
    if config.max_learners < 0:
        raise ConfigError(f"--max-learners must not be negative (set to {config.max_learners})")
    if config.name == "default":
        notes.append(
            Note(
                "warn",
                "it isn't recommended to use default name, please set a value for --name. "
                "Note that etcd might run into issue when multiple members have the same default name",
                {"name": config.name},
            )
        )
    if config.max_request_bytes > limits.REQUEST_BYTES_ADVISED_MAX:
        notes.append(
            Note(
                "warn",
                "exceeded recommended request limit",
                {
                    "max-request-bytes": config.max_request_bytes,
                    "recommended-request-bytes": limits.REQUEST_BYTES_ADVISED_MAX,
                },
            )
        )
    if config.quota_backend_bytes > limits.QUOTA_BYTES_ADVISED_MAX:
        notes.append(
            Note(
                "warn",
                "quota exceeds the maximum value",
                {
                    "quota-size-bytes": config.quota_backend_bytes,
                    "quota-maximum-size-bytes": limits.QUOTA_BYTES_ADVISED_MAX,
                },
            )
        )
    if not 4 <= config.bcrypt_cost <= 31:
        text = "use default bcrypt cost instead of the invalid given cost"
        notes.append(Note("warn", text, {"default-cost": 10, "given-cost": config.bcrypt_cost}))


def _check_tls(config: Config, notes: list[Note]) -> None:
    for flag, version in (("tls-min-version", config.tls_min_version), ("tls-max-version", config.tls_max_version)):
        if version not in ("", *_TLS_VERSIONS):
            raise ConfigError(f"--{flag}: unexpected TLS version {quote(version)} (must be one of: TLS1.2, TLS1.3)")
    lowest, highest = config.tls_min_version, config.tls_max_version
    if highest and lowest > highest:
        raise ConfigError(
            f"--tls-min-version: min version ({lowest}) is greater than max version ({highest}); lower it"
        )
    if lowest == "TLS1.3" and config.cipher_suites:
        raise ConfigError(
            "--cipher-suites: cipher suites cannot be configured when only TLS1.3 is enabled; leave it out"
        )
    if config.cipher_suites:
        _check_suites(config.cipher_suites)
    if bool(config.cert_file) != bool(config.key_file) and _any_secure(config):
        missing = "key-file" if config.cert_file else "cert-file"
        raise ConfigError(f"--{missing}: KeyFile and CertFile must both be present; set it too")
    if config.cert_file or config.auto_tls:
        _check_plain_beside_tls(config, notes)
        return
    for url in (*config.listen_client_urls, *config.listen_client_http_urls):
        if url.secure:
            raise ConfigError(
                f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
            )
    if any(url.secure for url in config.listen_metrics_urls):
        raise ConfigError(
            "--listen-metrics-urls: client TLS key/cert (--cert-file, --key-file) must be provided "
            "for metrics secure url"
        )


def _check_suites(names: Sequence[str]) -> None:
    from etcdpy.transport.tls_options import TlsConfigError, check_options  # here: the plain start needs no TLS

    try:
        check_options(names, "", "")
    except TlsConfigError as problem:
        raise ConfigError(f"--cipher-suites: {problem}; use IANA names of TLS 1.2 suites") from None


def _any_secure(config: Config) -> bool:
    return any(
        url.secure for url in (*config.listen_client_urls, *config.listen_client_http_urls, *config.listen_metrics_urls)
    )


def _check_plain_beside_tls(config: Config, notes: list[Note]) -> None:
    if config.auto_tls and config.cert_file:
        notes.append(Note("warn", "ignoring client auto TLS since certs given"))
    for url in (*config.listen_client_urls, *config.listen_client_http_urls):
        if url.secure:
            continue
        text = "scheme is http or unix while key and cert files are present; ignoring key and cert files"
        notes.append(Note("warn", text, {"client-url": str(url)}))
        if config.client_cert_auth:
            text = "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL"
            notes.append(Note("warn", text, {"client-url": str(url)}))


def _check_peer_tls(config: Config, notes: list[Note]) -> None:
    for url in config.listen_peer_urls:
        if url.secure and not config.peer_auto_tls and not (config.peer_cert_file and config.peer_key_file):
            raise ConfigError(
                f"--peer-cert-file, --peer-key-file: cannot listen on TLS for {url.address}: "
                "KeyFile and CertFile are not presented; set both"
            )
    if (
        config.peer_cert_allowed_cn
        and config.peer_cert_allowed_hostname
        and any(url.secure for url in config.listen_peer_urls)
    ):
        raise ConfigError(
            "--peer-cert-allowed-cn and --peer-cert-allowed-hostname: AllowedCNs and AllowedHostnames are mutually "
            "exclusive; choose one"
        )


def _check_http_port(config: Config, notes: list[Note]) -> None:
    grpc = {url.address for url in config.listen_client_urls}
    for url in config.listen_client_http_urls:
        if url.address in grpc:
            raise ConfigError(
                f"cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}; "
                "give HTTP a port of its own"
            )


def _check_token(config: Config, notes: list[Note]) -> None:
    parse_options(config.auth_token)


_RULES: Final = (
    _check_logging,
    _check_urls,
    _check_bootstrap_flags,
    _check_timing,
    _check_advertised,
    _check_compaction,
    _check_tracing,
    _check_gates,
    _check_numbers,
    _check_tls,
    _check_peer_tls,
    _check_http_port,
    _check_token,
)
