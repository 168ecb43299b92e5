"""What becomes of flags and environment together."""

from __future__ import annotations

from dataclasses import fields

import pytest

from etcdpy.server import config as configuration
from etcdpy.server import environment
from etcdpy.server.config import Config, HelpRequested, VersionRequested, default, load, no_effect_notes
from etcdpy.server.flag_table import FLAGS
from etcdpy.server.flags import Kind
from etcdpy.server.notes import ConfigError


def messages(config: Config) -> list[str]:
    return [note.message for note in config.notes]


def refused(argv: list[str], environ: dict[str, str] | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(argv, environ or {})
    return caught.value


def test_every_flag_has_its_field() -> None:
    names = {each.name for each in fields(Config)}
    flags = {flag.field for flag in FLAGS.values() if flag.kind is not Kind.IGNORED and flag.name != "version"}
    assert flags <= names
    assert names - flags == {
        "client_cert_allowed_cn",
        "client_skip_client_san_verification",
        "discovery_server_name",
        "discovery_auth_token",
        "explicit",
        "notes",
    }


def test_defaults() -> None:
    config = load([], {})
    assert config.name == "default"
    assert config.data_dir == "default.etcd"
    assert [str(url) for url in config.listen_client_urls] == ["http://localhost:2379"]
    assert config.initial_cluster == "default=http://localhost:2380"
    assert config.request_timeout_seconds == 7
    assert config.election_ticks == 10
    assert config.quota_bytes == 2 * 1024**3
    assert config.watch_progress_notify_interval_seconds == 600
    assert config.compaction_batch_limit == 1000
    assert config.compaction_sleep_interval_seconds == 0.01
    assert config.explicit == frozenset()
    assert no_effect_notes(config) == []
    assert default(name="x").name == "x"


def test_the_name_makes_data_dir_and_cluster() -> None:
    config = load(["--name=a", "--initial-advertise-peer-urls=http://h:2,http://h:1"], {})
    assert config.data_dir == "a.etcd"
    assert config.initial_cluster == "a=http://h:1,a=http://h:2"


def test_zero_stands_for_the_default_where_etcd_says_so() -> None:
    config = load(["--snapshot-count=0", "--warning-unary-request-duration=0", "--quota-backend-bytes=-1"], {})
    assert config.snapshot_count == 10_000
    assert config.warning_unary_request_duration_seconds == 0.3
    assert config.quota_bytes == -1


def test_least_values() -> None:
    config = load(["--watch-progress-notify-interval=1ms", "--raft-read-timeout=1s"], {})
    assert config.watch_progress_notify_interval_seconds == 0.1
    assert config.raft_read_timeout_seconds == 5
    assert "raft-read-timeout increased to minimum value: 5s" in messages(config)


class TestEnvironment:
    def test_it_fills_what_flags_leave_open(self) -> None:
        config = load(["--name=a"], {"ETCD_DATA_DIR": "/d", "ETCD_PRE_VOTE": "", "PATH": "x"})
        assert (config.name, config.data_dir) == ("a", "/d")
        assert config.explicit == {"name", "data-dir"}
        assert "recognized and used environment variable" in messages(config)

    def test_flag_and_variable_together_are_refused(self) -> None:
        for value in ("a", ""):
            problem = refused(["--name=a"], {"ETCD_NAME": value})
            assert problem.exit_code == 1
            assert "conflicting environment variable is shadowed by corresponding command-line flag" in str(problem)
            assert problem.fields == {"environment-variable": "ETCD_NAME"}

    def test_a_bad_value(self) -> None:
        problem = refused([], {"ETCD_HEARTBEAT_INTERVAL": "abc"})
        assert str(problem) == 'invalid value "abc" for ETCD_HEARTBEAT_INTERVAL: parse error'
        assert (problem.exit_code, problem.usage) == (1, False)

    def test_unknown_variables_are_warned_of_without_their_value(self) -> None:
        config = load([], {"ETCD_TOKEN": "hunter2", "ETCD_VERSION": "3.7"})
        assert "unrecognized environment variable" in messages(config)
        assert "cannot set special environment variable" in messages(config)
        assert "hunter2" not in repr(config.notes)

    def test_secrets_stay_out_of_sight(self) -> None:
        given = {"ETCD_DISCOVERY_PASSWORD": "hunter2", "ETCD_DISCOVERY_USER": "root:hunter2"}
        config = load([], given)
        assert config.discovery_password == "hunter2"
        assert "hunter2" not in repr(config)

    def test_old_names_are_taken_in_silence(self) -> None:
        assert "unrecognized environment variable" not in messages(load([], {"ETCD_FORCE": "1", "ETCD_V": "2"}))


def test_a_wildcard_is_advertised_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "default_host", lambda: "192.0.2.7")
    argv = ["--name=a", "--listen-peer-urls=http://0.0.0.0:7", "--listen-client-urls=http://0.0.0.0:8"]
    config = load([*argv, "--advertise-client-urls=http://localhost:2379"], {})
    assert [str(url) for url in config.advertise_client_urls] == ["http://192.0.2.7:8"]
    assert config.initial_cluster == "a=http://192.0.2.7:7"
    assert "detected default host for advertise" in messages(config)


def test_help_and_version() -> None:
    with pytest.raises(HelpRequested):
        load(["--help"], {})
    with pytest.raises(VersionRequested):
        load(["--version", "--heartbeat-interval=0"], {})
    assert refused(["--version", "foo"]).exit_code == 1


def test_usage_errors_end_with_two() -> None:
    problem = refused(["--nope"])
    assert (problem.exit_code, problem.usage) == (2, True)


OURS = ["--advertise-client-urls=http://a:1"]
WRONG = {
    "expected IP in URL for binding (http://example.com:1)": ["--listen-client-urls=http://example.com:1", *OURS],
    "expected IP in URL for binding (http://x:2)": ["--listen-metrics-urls=http://x:2"],
    "--advertise-client-urls is required when --listen-client-urls is set": ["--listen-client-urls=http://127.0.0.1:1"],
    "unexpected empty host (http://:1)": ["--advertise-client-urls=http://:1"],
    '--initial-advertise-peer-urls "http://:1" must be "host:port"': ["--initial-advertise-peer-urls=http://:1"],
    "multiple discovery or bootstrap flags are set": ["--initial-cluster=a=http://h:1", "--discovery-srv=x"],
    "both --discovery-token and --discovery-endpoints must be set": ["--discovery-token=x"],
    "--discovery-endpoints must not contain empty endpoints": ["--discovery-token=x", "--discovery-endpoints=a,"],
    "v2 proxy is deprecated": ["--discovery-fallback=proxy"],
    "--heartbeat-interval must be >0": ["--heartbeat-interval=0"],
    "--election-timeout must be >0": ["--election-timeout=0"],
    "should be at least as 5 times as --heartbeat-interval[100ms]": ["--election-timeout=499"],
    "--election-timeout[50001ms] is too long": ["--election-timeout=50001"],
    "unknown auto-compaction-mode": ["--auto-compaction-mode=x"],
    "undefined auto-compaction-mode": ["--auto-compaction-mode="],
    'invalid duration "x"': ["--auto-compaction-retention=x"],
    'missing unit in duration "-1"': ["--auto-compaction-retention=-1"],
    "--auto-compaction-retention must not be negative": ["--auto-compaction-retention=-1h"],
    "--compaction-batch-limit must not be negative": ["--compaction-batch-limit=-1"],
    "tracing sampling rate must be positive": [
        "--enable-distributed-tracing",
        "--distributed-tracing-sampling-rate=-1",
    ],
    "requires enabling feature gate LeaseCheckpoint": ["--feature-gates=LeaseCheckpointPersist=true"],
    "--compact-hash-check-time must be >0 (set to -1s)": ["--compact-hash-check-time=-1s"],
    "--max-learners must not be negative": ["--max-learners=-1"],
    "unexpected TLS version": ["--tls-min-version=TLS1.0"],
    "min version (TLS1.3) is greater than max version (TLS1.2)": [
        "--tls-min-version=TLS1.3",
        "--tls-max-version=TLS1.2",
    ],
    "cipher suites cannot be configured when only TLS1.3": ["--tls-min-version=TLS1.3", "--cipher-suites=x"],
    'unexpected TLS cipher suite "x"': ["--cipher-suites=x"],
    "must be provided for client url https://127.0.0.1:1": ["--listen-client-urls=https://127.0.0.1:1", *OURS],
    "--key-file: KeyFile and CertFile must both be present": [
        "--listen-client-urls=https://127.0.0.1:1",
        "--cert-file=x",
        *OURS,
    ],
    "must be provided for metrics secure url": ["--listen-metrics-urls=https://127.0.0.1:1"],
    "--peer-cert-file, --peer-key-file": ["--listen-peer-urls=https://127.0.0.1:1"],
    "AllowedCNs and AllowedHostnames are mutually exclusive": [
        "--listen-peer-urls=https://127.0.0.1:1",
        "--peer-auto-tls",
        "--peer-cert-allowed-cn=a",
        "--peer-cert-allowed-hostname=b",
    ],
    "cannot bind both --listen-client-urls and --listen-client-http-urls": [
        "--listen-client-http-urls=http://localhost:2379"
    ],
    "--auth-token: auth: invalid auth options (foo)": ["--auth-token=foo"],
    "sign-method is none of": ["--auth-token=jwt,pub-key=x"],
    "--logger=capnslog is removed": ["--logger=capnslog"],
    "unknown logger option": ["--logger=x"],
    "unrecognized level": ["--log-level=x"],
    "unknown log format: x": ["--log-format=x"],
    'multi logoutput for "default"': ["--log-outputs=default,stderr"],
    "requires a single file path": ["--enable-log-rotation"],
    "improperly formatted log rotation config": [
        "--enable-log-rotation",
        "--log-outputs=/x",
        "--log-rotation-config-json=x",
    ],
    "maxsize must be a whole number": [
        "--enable-log-rotation",
        "--log-outputs=/x",
        '--log-rotation-config-json={"maxsize": true}',
    ],
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_refused(text: str) -> None:
    problem = refused(WRONG[text])
    assert text in str(problem)
    assert (problem.exit_code, problem.usage) == (1, False)
    assert "\n" not in str(problem)


@pytest.mark.parametrize(
    "argv",
    [
        ["--auth-token=jwt,sign-method=RS256,pub-key=a,priv-key=b,ttl=10m"],
        ["--auto-tls", "--listen-client-urls=https://127.0.0.1:1", *OURS],
        ["--cert-file=/x"],
        ["--max-txn-ops=0"],
        ["--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"],
        ["--discovery-srv=example.com"],
        ["--metrics=foo"],
        ["--cipher-suites=TLS_AES_128_GCM_SHA256"],
    ],
)
def test_what_passes_as_on_etcd(argv: list[str]) -> None:
    load(argv, {})


@pytest.mark.parametrize(
    ("mode", "text", "seconds", "revisions"),
    [
        ("periodic", "0", 0, 0),
        ("periodic", "2", 7200, 0),
        ("periodic", "30m", 1800, 0),
        ("periodic", "", 0, 0),
        ("revision", "1000", 0, 1000),
        ("revision", "1us", 0, 1000),
    ],
)
def test_retention(mode: str, text: str, seconds: float, revisions: int) -> None:
    config = load([f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={text}"], {})
    assert config.auto_compaction_retention_seconds == seconds
    assert config.auto_compaction_retention_revisions == revisions


def test_flags_without_effect_say_so() -> None:
    argv = [
        "--max-wals=9",
        "--name=a",
        "--pre-vote=false",
        "--feature-gates=TxnModeWriteWithSharedBuffer=true,PriorityRequest=true",
    ]
    lines = no_effect_notes(load(argv, {}))
    assert [line.partition(":")[0] for line in lines] == [
        "--max-wals",
        "--feature-gates=TxnModeWriteWithSharedBuffer=true",
    ]
    assert all(len(line.partition(": ")[2]) > 10 for line in lines)


def test_deprecated_flags_are_warned_of() -> None:
    config = load(["--max-snapshots=3", "--v2-deprecation=gone"], {})
    assert sum("deprecated" in text for text in messages(config)) == 2


def test_loading_needs_no_yaml() -> None:
    # A start without a file should not pay for reading YAML.
    assert "yaml" not in vars(configuration)
