"""--config-file: etcd's keys and types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.server.config import Config, load
from etcdpy.server.notes import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def read(tmp_path: Path):  # type: ignore[no-untyped-def]
    def reader(text: str, argv: list[str] | None = None, environ: dict[str, str] | None = None) -> Config:
        path = tmp_path / "etcd.yml"
        path.write_text(text)
        return load(["--config-file", str(path), *(argv or [])], environ or {})

    return reader


def test_flags_and_environment_are_ignored(read) -> None:  # type: ignore[no-untyped-def]
    config = read("name: a", ["--data-dir=/d", "--heartbeat-interval=0"], {"ETCD_DATA_DIR": "/e", "ETCD_NAME": "b"})
    assert (config.name, config.data_dir) == ("a", "a.etcd")
    assert config.explicit == {"name"}


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "etcd.json"
    path.write_text('{"name": "j"}')
    assert load([], {"ETCD_CONFIG_FILE": str(path)}).name == "j"


def test_everything(read) -> None:  # type: ignore[no-untyped-def]
    config = read("""
Name: a
snapshot-count: 7
heartbeat-interval: 1e2
quota-backend-bytes: -1
pre-vote: no
listen-client-urls: https://127.0.0.1:1,https://127.0.0.1:2
advertise-client-urls: https://h:1
watch-progress-notify-interval: 600000000000
grpc-keepalive-min-time: 1m30s
cipher-suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]
log-outputs: [stdout, /dev/null]
cors: http://x:1
host-whitelist: a,b
feature-gates: LeaseCheckpoint=true
auto-compaction-retention: "5"
client-transport-security:
  cert-file: c
  key-file: k
  client-cert-auth: true
  trusted-ca-file: t
  allowed-cn: [x, z]
  allowed-hostname: [h]
peer-transport-security: {auto-tls: true, allowed-cn: [p], skip-client-san-verification: true}
socket-options: {reuse-port: true, reuse-address: true}
""")
    assert (config.name, config.snapshot_count, config.heartbeat_interval_ms) == ("a", 7, 100)
    assert (config.quota_backend_bytes, config.pre_vote) == (-1, False)
    assert [str(url) for url in config.listen_client_urls] == ["https://127.0.0.1:1", "https://127.0.0.1:2"]
    assert config.watch_progress_notify_interval_seconds == 600
    assert config.grpc_keepalive_min_time_seconds == 90
    assert config.log_outputs == ("/dev/null", "stdout")
    assert (config.cors, config.host_whitelist) == (("http://x:1",), ("a", "b"))
    assert config.feature_gates.enabled("LeaseCheckpoint")
    assert config.auto_compaction_retention_seconds == 5 * 3600
    assert (config.cert_file, config.key_file, config.trusted_ca_file) == ("c", "k", "t")
    assert config.client_cert_auth
    assert (config.client_cert_allowed_cn, config.client_cert_allowed_hostname) == (("x", "z"), ("h",))
    assert config.peer_auto_tls
    assert config.peer_cert_allowed_cn == ("p",)
    assert config.peer_skip_client_san_verification
    assert config.socket_reuse_port
    assert config.socket_reuse_address


def test_discovery(read) -> None:  # type: ignore[no-untyped-def]
    config = read("""
discovery-config:
  token: t
  client:
    endpoints: [b, a]
    dial-timeout: 5000000000
    secure: {cert: c, insecure-transport: false, server-name: s}
    auth: {username: u, password: hunter2, token: hunter3}
""")
    assert (config.discovery_token, config.discovery_endpoints) == ("t", ("a", "b"))
    assert config.discovery_dial_timeout_seconds == 5
    assert (config.discovery_cert, config.discovery_insecure_transport) == ("c", False)
    assert config.discovery_server_name == "s"
    assert config.initial_cluster == ""
    assert "hunter" not in repr(config)


def test_an_empty_file_is_all_defaults(read) -> None:  # type: ignore[no-untyped-def]
    assert read("").data_dir == "default.etcd"
    assert read("name: null\ninitial-cluster-state: ''").initial_cluster_state == "new"


def test_listening_elsewhere_keeps_the_advertised_default(read) -> None:  # type: ignore[no-untyped-def]
    # Unlike on the command line; as on etcd.
    config = read("listen-client-urls: http://127.0.0.1:1")
    assert [str(url) for url in config.advertise_client_urls] == ["http://localhost:2379"]


@pytest.mark.parametrize("key", ["cert-file: a", "client-crl-file: x", "raft-read-timeout: 9000000000", "nonsense: 1"])
def test_what_a_file_cannot_set_is_warned_of(read, key: str) -> None:  # type: ignore[no-untyped-def]
    config = read(key)
    assert [note.fields["key"] for note in config.notes if "unknown key" in note.message] == [key.partition(":")[0]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: [1", "is no YAML"),
        ("- a", "must hold `key: value` lines"),
        ("name: 3", "name in .*: expected text; put it in quotes, found a number"),
        ("name: true", "expected text; put it in quotes, found true or false"),
        ("auto-compaction-retention: 5", "expected text; put it in quotes"),
        ('heartbeat-interval: "100"', "expected a whole number, found text"),
        ("heartbeat-interval: 1.5", "expected a whole number"),
        ("max-txn-ops: -1", "expected a number from 0"),
        ("max-concurrent-streams: 4294967296", "expected a number from 0 to 4294967295"),
        ('pre-vote: "true"', "expected true or false, found text"),
        ("grpc-keepalive-min-time: 10x", "whole nanoseconds, or a span"),
        ("cipher-suites: a,b", r"expected a list of texts, such as \[a, b\], found text"),
        ("log-outputs: stderr", "expected a list of texts"),
        ("listen-client-urls: [http://127.0.0.1:1]", "expected text"),
        ("listen-client-urls: foo", "unexpected error setting up listen-client-urls"),
        ("cors: foo", "unexpected error setting up cors"),
        ("peer-transport-security: 3", "expected an object of keys and values, found a number"),
        ("client-transport-security: {client-cert-auth: 1}", "client-transport-security.client-cert-auth in"),
        ("feature-gates: Foo=true", "unrecognized feature gate: Foo"),
        ("initial-cluster-state: foo", 'unexpected clusterState "foo"'),
        ("heartbeat-interval: 0", "--heartbeat-interval must be >0"),
        ("discovery-config: {token: x}", "both --discovery-token and --discovery-endpoints"),
    ],
)
def test_what_is_refused(read, text: str, complaint: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=complaint) as caught:
        read(text)
    assert (caught.value.exit_code, caught.value.usage) == (1, False)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"open .*nope: no such file or directory"):
        load(["--config-file", str(tmp_path / "nope")], {})
    large = tmp_path / "large"
    large.write_text("#" * (limits.CONFIG_FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="is larger than"):
        load(["--config-file", str(large)], {})


def test_scalars_are_those_of_go(read) -> None:  # type: ignore[no-untyped-def]
    # Python's YAML would make a date and a base-60 number of these.
    assert read("name: 2020-01-01").name == "2020-01-01"
    assert read("name: 12:30").name == "12:30"
    assert read("max-txn-ops: 010").max_txn_ops == 8
    assert read("max-txn-ops: 0x10").max_txn_ops == 16
    assert read("pre-vote: y").pre_vote is True
