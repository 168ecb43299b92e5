"""The peer network on /metrics has etcd's names, labels and buckets."""

from __future__ import annotations

from etcdpy.api.network_metrics import network_families
from etcdpy.peer.metrics import PeerMetrics


def test_names_labels_and_values_are_etcds() -> None:
    metrics = PeerMetrics()
    metrics.sent_bytes.add("2a", 10)
    metrics.sent_bytes.add("2a", 5)
    metrics.active_peers.add("2a")
    metrics.round_trip_seconds.observe("2a", 0.00015)
    families = {family.name: family for family in network_families(metrics, 0x1F)}
    assert families.keys() == {
        f"etcd_network_{name}"
        for name in (
            "active_peers", "disconnected_peers_total", "peer_sent_bytes_total", "peer_sent_failures_total",
            "peer_received_bytes_total", "peer_received_failures_total", "peer_round_trip_time_seconds",
            "snapshot_send_success", "snapshot_send_failures", "snapshot_send_inflights_total",
            "snapshot_send_total_duration_seconds", "snapshot_receive_success", "snapshot_receive_failures",
            "snapshot_receive_inflights_total", "snapshot_receive_total_duration_seconds",
        )
    }  # fmt: skip
    sent = families["etcd_network_peer_sent_bytes_total"].samples
    assert [(sample.labels, sample.value) for sample in sent] == [({"To": "2a"}, 15)]
    active = families["etcd_network_active_peers"].samples[0]
    assert (active.labels, active.value) == ({"Local": "1f", "Remote": "2a"}, 1)
    times = {
        sample.labels.get("le"): sample.value
        for sample in families["etcd_network_peer_round_trip_time_seconds"].samples
        if sample.name.endswith("_bucket")
    }
    assert (len(times), times["0.0001"], times["0.0002"], times["+Inf"]) == (17, 0, 1, 1)


def test_labels_of_strangers_are_bounded() -> None:
    metrics = PeerMetrics()
    for number in range(1000):
        metrics.received_failures.add(f"10.0.0.{number}:1")
        metrics.snapshot_receive_seconds.observe(str(number), 1.0)
    assert len(metrics.received_failures) <= 257
    assert metrics.received_failures["other"] == 1000 - 256
    assert metrics.snapshot_receive_seconds["other"].count == 1000 - 256
