"""The network between members for /metrics, under etcd's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import Metric

from etcdpy.api.exposition import bucket_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from etcdpy.histogram import Histogram
    from etcdpy.peer.metrics import PeerMetrics

_PREFIX: Final = "etcd_network_"


def network_families(metrics: PeerMetrics, own_id: int) -> Iterator[Metric]:
    """Every family; one without samples has none, as on etcd."""
    own = {"Local": f"{own_id:x}"}
    yield _counts("active_peers", "gauge", "Members that can be reached.", metrics.active_peers, "Remote", own)
    text = "Members that could not be reached any more."
    yield _counts("disconnected_peers_total", "counter", text, metrics.disconnected_peers, "Remote", own)
    yield _counts("peer_sent_bytes_total", "counter", "Bytes sent to members.", metrics.sent_bytes, "To")
    yield _counts("peer_sent_failures_total", "counter", "Sendings that failed.", metrics.sent_failures, "To")
    yield _counts("peer_received_bytes_total", "counter", "Bytes from members.", metrics.received_bytes, "From")
    text = "Messages that could not be read or taken."
    yield _counts("peer_received_failures_total", "counter", text, metrics.received_failures, "From")
    text = "How long the way to a member and back takes, smoothed."
    yield _histograms("peer_round_trip_time_seconds", text, metrics.round_trip_seconds, "To")
    yield _counts("snapshot_send_success", "counter", "Snapshots sent.", metrics.snapshot_send_success, "To")
    yield _counts("snapshot_send_failures", "counter", "Snapshots not sent.", metrics.snapshot_send_failures, "To")
    text = "Snapshots being sent."
    yield _counts("snapshot_send_inflights_total", "gauge", text, metrics.snapshot_send_inflights, "To")
    text = "How long sending a snapshot took."
    yield _histograms("snapshot_send_total_duration_seconds", text, metrics.snapshot_send_seconds, "To")
    yield _counts("snapshot_receive_success", "counter", "Snapshots taken.", metrics.snapshot_receive_success, "From")
    text = "Snapshots that could not be taken."
    yield _counts("snapshot_receive_failures", "counter", text, metrics.snapshot_receive_failures, "From")
    text = "Snapshots being received."
    yield _counts("snapshot_receive_inflights_total", "gauge", text, metrics.snapshot_receive_inflights, "From")
    text = "How long receiving a snapshot took."
    yield _histograms("snapshot_receive_total_duration_seconds", text, metrics.snapshot_receive_seconds, "From")


def _counts(
    name: str, kind: str, text: str, counts: Mapping[str, int], label: str, more: Mapping[str, str] | None = None
) -> Metric:
    family = Metric(_PREFIX + name, text, kind)
    for value, count in sorted(counts.items()):
        family.add_sample(family.name, {**(more or {}), label: value}, count)
    return family


def _histograms(name: str, text: str, histograms: Mapping[str, Histogram], label: str) -> Metric:
    family = Metric(_PREFIX + name, text, "histogram")
    for value, histogram in sorted(histograms.items()):
        for sample, labels, count in bucket_rows(family.name, {label: value}, histogram):
            family.add_sample(sample, labels, count)
    return family
