"""Which metrics come of which numbers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from etcdpy import limits
from etcdpy.api.client_versions import ClientVersions
from etcdpy.api.exposition import BucketCounts, scrape
from etcdpy.api.metrics import Sources, build_registry
from etcdpy.api.services import method_table
from etcdpy.api.stats import (
    AuthStats,
    DiskStats,
    HealthStats,
    LeaseStats,
    ProcessStats,
    ServerStats,
    StoreStats,
    WatchStats,
)
from etcdpy.api.timing import time_calls
from etcdpy.errors import Code
from etcdpy.histogram import COMMIT_SECONDS, HANDLING_SECONDS, LEASE_TTL_SECONDS, Histogram
from etcdpy.transport.heads import RequestHead


def handler(*_arguments: Any) -> None:
    return None


HANDLERS = {"Health.Check": handler, "Health.List": handler, "Health.Watch": handler, "KV.Put": handler}


def samples(sources: Sources) -> dict[str, float]:
    text = asyncio.run(scrape(build_registry(sources))).decode()
    rows = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in rows}


def test_a_group_without_a_source_is_not_there() -> None:
    found = samples(Sources())
    assert not [name for name in found if name.startswith(("etcd", "grpc"))]
    assert "process_resident_memory_bytes" in found
    assert [name for name in found if name.startswith("python_info")]


def test_the_server() -> None:
    stats = ServerStats(
        member_id=0x8E9E,
        server_version="3.7.3",
        cluster_version="3.7",
        python_version="python3.11",
        gates=[("LeaseCheckpoint", "ALPHA", True)],
        members=[0x8E9E, 0xAB],
        alarms=[(0xAB, "NOSPACE")],
        has_leader=True,
        proposals_committed=7,
        apply_durations={("Put", "true"): BucketCounts((1.0,), (1, 2), 3.5)},
        range_durations={("true",): BucketCounts((1.0,), (1, 0), 0.5)},
        client_requests={("unary", "3.7"): 5},
    )
    found = samples(Sources(server=lambda: stats))
    assert found["etcd_server_has_leader"] == 1
    assert found["etcd_server_is_leader"] == 0
    assert found["etcd_server_proposals_committed_total"] == 7
    assert found['etcd_server_id{server_id="8e9e"}'] == 1
    assert found['etcd_cluster_version{cluster_version="3.7"}'] == 1
    assert found['etcd_server_version{server_version="3.7.3"}'] == 1
    assert found['etcd_server_feature_enabled{name="LeaseCheckpoint",stage="ALPHA"}'] == 1
    assert found['etcd_network_known_peers{Local="8e9e",Remote="ab"}'] == 1
    assert found['etcd_debugging_server_alarms{alarm_type="NOSPACE",server_id="ab"}'] == 1
    assert found['etcd_server_apply_duration_seconds_bucket{le="+Inf",op="Put",success="true",version="v3"}'] == 3
    assert found['etcd_server_range_duration_seconds_sum{success="true"}'] == 0.5
    assert found['etcd_server_client_requests_total{client_api_version="3.7",type="unary"}'] == 5
    unknown = samples(Sources(server=ServerStats))
    assert not [name for name in unknown if name.startswith("etcd_cluster_version")]


def test_the_rooms() -> None:
    commits = Histogram(COMMIT_SECONDS)
    commits.observe(0.002)
    found = samples(
        Sources(
            store=lambda: StoreStats(puts=3, current_revision=9, size_bytes=20480),
            watch=lambda: WatchStats(watchers=2),
            lease=lambda: LeaseStats(granted=1, ttls=BucketCounts(LEASE_TTL_SECONDS, [1] + [0] * 24, 1)),
            disk=lambda: DiskStats(commits=commits, defragmenting=True),
            health=lambda: HealthStats(1, 2, {("livez", "x"): 0}, {("livez", "x", "error"): 4}),
            auth=AuthStats,
            process=lambda: ProcessStats(
                descriptor_limit=1024,
                certificates=[("a.pem", "server", 20.0), ("a.pem", "server", 10.0), ("ca.pem", "trusted-ca", 30.0)],
            ),
        )
    )
    assert found["etcd_mvcc_put_total"] == 3
    assert found["etcd_debugging_mvcc_current_revision"] == 9
    assert found["etcd_debugging_mvcc_watcher_total"] == 2
    assert found['etcd_debugging_lease_ttl_total_bucket{le="1"}'] == 1
    assert found['etcd_disk_backend_commit_duration_seconds_bucket{le="0.001"}'] == 0
    assert found['etcd_disk_backend_commit_duration_seconds_bucket{le="0.002"}'] == 1
    assert "etcd_disk_wal_fsync_duration_seconds_count" not in found
    assert found["etcd_disk_defrag_inflight"] == 1
    assert (found["etcd_server_health_success"], found["etcd_server_health_failures"]) == (1, 2)
    assert found['etcd_server_healthcheck{name="x",type="livez"}'] == 0
    assert found['etcd_server_healthchecks_total{name="x",status="error",type="livez"}'] == 4
    assert found["etcd_debugging_auth_revision"] == 1
    assert found["os_fd_limit"] == 1024
    assert found['etcdpy_certificate_not_after_seconds{file="a.pem",role="server"}'] == 10
    assert found['etcdpy_certificate_not_after_seconds{file="ca.pem",role="trusted-ca"}'] == 30


def test_grpc_counts_stand_at_zero_from_the_start() -> None:
    methods = method_table(HANDLERS)
    put = methods[b"/etcdserverpb.KV/Put"]
    put.started, put.received_bytes, put.sent_bytes = 2, 100, 50
    put.handled[Code.OK] = 1
    put.handled[Code.CANCELLED] = 1
    found = samples(Sources(methods=lambda: methods))
    labels = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
    assert found[f"grpc_server_started_total{{{labels}}}"] == 2
    assert found[f'grpc_server_handled_total{{grpc_code="OK",{labels}}}'] == 1
    assert found[f'grpc_server_handled_total{{grpc_code="Canceled",{labels}}}'] == 1
    assert found[f'grpc_server_handled_total{{grpc_code="DataLoss",{labels}}}'] == 0
    watch = 'grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"'
    assert found[f"grpc_server_started_total{{{watch}}}"] == 0
    assert found["etcd_network_client_grpc_received_bytes_total"] == 100
    assert found["etcd_network_client_grpc_sent_bytes_total"] == 50
    assert not [name for name in found if name.startswith("grpc_server_handling_seconds")]


class FakeCall:
    """What a handler may do with a call."""

    def __init__(self, metadata: dict[bytes, Any] | None = None) -> None:
        self.done = False
        self.on_cancel: Any = None
        self.head = SimpleNamespace(metadata=metadata or {})
        self.answers: list[Any] = []

    def finish(self, message: bytes) -> None:
        self.answers.append(message)
        self.done = True

    def finish_parts(self, parts: list[bytes]) -> None:
        self.finish(b"".join(parts))

    def fail(self, error: Exception) -> None:
        self.answers.append(error)
        self.done = True


class TestTiming:
    def test_a_call_is_timed_until_its_answer(self) -> None:
        now = [10.0]
        waiting: list[Any] = []
        methods = method_table({**HANDLERS, "KV.Put": lambda call, _body: waiting.append(call)})
        times = time_calls(methods, clock=lambda: now[0])
        call = FakeCall()
        methods[b"/etcdserverpb.KV/Put"].handler(call, b"")
        histogram = times["etcdserverpb.KV", "Put"]
        assert histogram.count == 0
        now[0] += 0.3
        gone: list[bool] = []
        waiting[0].on_cancel = lambda: gone.append(waiting[0].done)
        call.on_cancel()
        assert gone == [True]
        assert waiting[0].head is call.head
        waiting[0].finish(b"x")
        waiting[0].finish(b"y")
        assert call.answers == [b"x", b"y"]
        assert (histogram.count, histogram.bounds) == (1, HANDLING_SECONDS)
        assert abs(histogram.total - 0.3) < 1e-9
        found = samples(Sources(methods=lambda: methods, handling=lambda: times))
        labels = 'grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"'
        assert found[f'grpc_server_handling_seconds_bucket{{{labels},le="0.5"}}'] == 1

    def test_an_answer_in_parts_counts_as_well(self) -> None:
        """Every range that takes more than one look into the store is answered so."""
        methods = method_table({**HANDLERS, "KV.Range": lambda call, _body: call.finish_parts([b"a", b"b"])})
        times = time_calls(methods)
        call = FakeCall()
        methods[b"/etcdserverpb.KV/Range"].handler(call, b"")
        assert call.answers == [b"ab"]
        assert times["etcdserverpb.KV", "Range"].count == 1

    def test_an_error_counts_too(self) -> None:
        def fails(_call: Any, _body: bytes) -> None:
            raise ValueError

        methods = method_table({**HANDLERS, "KV.Put": fails, "KV.Range": lambda call, _body: call.fail(ValueError())})
        times = time_calls(methods)
        for path in (b"/etcdserverpb.KV/Put", b"/etcdserverpb.KV/Range"):
            call = FakeCall()
            try:
                methods[path].handler(call, b"")
            except ValueError:
                assert path.endswith(b"Put")
        assert times["etcdserverpb.KV", "Put"].count == times["etcdserverpb.KV", "Range"].count == 1


class TestClientVersions:
    @staticmethod
    def counted(method: bytes, *versions: list[bytes]) -> dict[tuple[str, ...], float]:
        methods = method_table(HANDLERS)
        found = ClientVersions()
        for values in versions:
            head = RequestHead()
            head.method = methods[method]
            head.metadata = {b"client-api-version": values} if values else {}
            found.join(head)
            head.tally.count += 1
        return found.counts()

    def test_counts(self) -> None:
        versions: list[list[bytes]] = [[b"3.7"], [b"3.7"], [], [b"3.6"], [b"\xff"]]
        assert self.counted(b"/etcdserverpb.KV/Put", *versions) == {
            ("unary", "3.7"): 2,
            ("unary", "unknown"): 1,
            ("unary", "3.6"): 1,
            ("unary", "\ufffd"): 1,
        }

    def test_the_client_cannot_make_series_without_end(self) -> None:
        found = self.counted(b"/etcdserverpb.KV/Put", *([b"%d" % each] for each in range(1000)), [b"x" * 1000])
        assert len(found) == limits.CLIENT_VERSIONS_COUNTED_MAX
        assert sum(found.values()) == 1001

    def test_streams(self) -> None:
        found = self.counted(b"/grpc.health.v1.Health/Watch", [b"3.7", b"3.6"])
        assert found == {("stream", "3.7"): 1}
