"""HTTP/1.1 on the client port: health, liveness, readiness, version, metrics."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.client import Client
    from tests.support.members import Member


@pytest.mark.parametrize("query", ["", "?serializable=true", "?exclude=NOSPACE", "?exclude=NOSPACE&exclude=CORRUPT"])
def test_health(member: Member, query: str) -> None:
    answer = member.http("GET", f"/health{query}")
    assert answer.status == 200
    assert json.loads(answer.body) == {"health": "true", "reason": ""}


CHECKS = {
    "/livez": "ok\n",
    "/readyz": "ok\n",
    "/livez?verbose": "[+]serializable_read ok\nok\n",
    "/readyz?verbose": (
        "[+]linearizable_read ok\n[+]non_learner ok\n[+]data_corruption ok\n[+]serializable_read ok\nok\n"
    ),
    "/readyz?verbose&exclude=data_corruption": (
        "[+]linearizable_read ok\n[+]non_learner ok\n[+]serializable_read ok\nok\n"
    ),
    "/readyz?verbose&exclude=no_such_check&exclude=non_learner": (
        "[+]linearizable_read ok\n[+]data_corruption ok\n[+]serializable_read ok\nok\n"
    ),
    "/livez/serializable_read": "ok\n",
    "/readyz/serializable_read": "ok\n",
    "/readyz/linearizable_read": "ok\n",
    "/readyz/data_corruption": "ok\n",
    "/readyz/non_learner": "ok\n",
}


@pytest.mark.parametrize("path", CHECKS)
def test_checks(member: Member, path: str) -> None:
    answer = member.http("GET", path)
    assert answer.status == 200
    assert sorted(answer.body.decode().splitlines()) == sorted(CHECKS[path].splitlines())
    assert answer.body.decode().endswith("ok\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_version(member: Member) -> None:
    answer = member.http("GET", "/version")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == {"etcdserver": "3.7.3", "etcdcluster": "3.7.0", "storage": "3.7.0"}


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz", "/version"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_get(member: Member, method: str, path: str) -> None:
    answer = member.http(method, path)
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert answer.body == b"Method Not Allowed\n"


@pytest.mark.parametrize("path", ["/", "/nope", "/readyz/nope", "/livez/linearizable_read", "/v2/keys"])
def test_not_found(member: Member, path: str) -> None:
    answer = member.http("GET", path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_browsers_may_ask_from_anywhere(member: Member) -> None:
    headers = member.http("GET", "/health").headers
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "POST, GET, OPTIONS, PUT, DELETE"
    assert headers["access-control-allow-headers"] == "accept, content-type, authorization"


# What alerts, dashboards and `etcdctl check` read, of what a single member fills.
NEEDED = [
    'etcd_cluster_version{cluster_version="3.7"}',
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_lease_granted_total",
    "etcd_disk_backend_commit_duration_seconds_count",
    "etcd_disk_wal_fsync_duration_seconds_count",
    "etcd_disk_wal_write_bytes_total",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_txn_total",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_server_has_leader",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_quota_backend_bytes",
    "etcd_server_slow_apply_total",
    "etcd_server_health_success",
    'etcd_server_version{server_version="3.7.3"}',
    "os_fd_limit",
    "os_fd_used",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    'grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
    'grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}',
    'grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
    'grpc_server_handled_total{grpc_code="OutOfRange",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
    'grpc_server_msg_received_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
    'grpc_server_msg_sent_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}',
]


def samples(text: str) -> dict[str, float]:
    """Sample name, its labels sorted, to value."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[sorted_labels(name)] = float(value)
    return found


def sorted_labels(name: str) -> str:
    base, brace, labels = name.partition("{")
    return base + brace + ",".join(sorted(re.findall(r'[a-zA-Z_]+="[^"]*"', labels))) + "}" * bool(brace)


class TestMetrics:
    def test_names_that_others_read(self, member: Member) -> None:
        answer = member.http("GET", "/metrics")
        assert answer.status == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4; charset=utf-8")
        present = samples(answer.body.decode())
        assert [name for name in NEEDED if sorted_labels(name) not in present] == []

    def test_counters_count(self, member: Member, client: Client) -> None:
        def now() -> dict[str, float]:
            return samples(member.http("GET", "/metrics").body.decode())

        before = now()
        for number in range(3):
            client.put(b"metric", b"%d" % number)
        client.range(b"metric")
        client.delete(b"metric")
        client.grant(60)
        after = now()

        def gained(name: str) -> float:
            return after[sorted_labels(name)] - before[sorted_labels(name)]

        assert gained("etcd_mvcc_put_total") == 3
        assert gained("etcd_mvcc_delete_total") == 1
        assert gained("etcd_mvcc_range_total") >= 1
        assert gained("etcd_debugging_mvcc_current_revision") == 4
        assert gained("etcd_debugging_lease_granted_total") == 1
        assert gained("etcd_server_proposals_applied_total") == 5
        assert gained("etcd_disk_wal_fsync_duration_seconds_count") >= 5
        put = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
        assert gained("grpc_server_started_total{" + put + "}") == 3
        assert gained('grpc_server_handled_total{grpc_code="OK",' + put + "}") == 3
        assert gained("etcd_network_client_grpc_received_bytes_total") > 0
        assert after["etcd_server_has_leader"] == after["etcd_server_is_leader"] == 1
        assert after["etcd_server_quota_backend_bytes"] == 2_147_483_648
