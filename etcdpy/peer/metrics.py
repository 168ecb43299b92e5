"""What is counted about the network between members, under etcd's names (`etcd_network_*`), by member id in hex."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.histogram import ROUND_TRIP_SECONDS, TRANSFER_SECONDS, Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence


class Counts(defaultdict[str, int]):
    """A counter by label. Labels that strangers choose are bounded: past the limit they count as `other`."""

    def __init__(self) -> None:
        super().__init__(int)

    def add(self, label: str, number: int = 1) -> None:
        """Count."""
        if label not in self and len(self) >= limits.PEER_LABELS_MAX:
            label = "other"
        self[label] += number


class Histograms(dict[str, Histogram]):
    """A histogram by label."""

    def __init__(self, bounds: Sequence[float]) -> None:
        super().__init__()
        self._bounds = bounds

    def observe(self, label: str, value: float) -> None:
        """Count one value."""
        if label not in self:
            if len(self) >= limits.PEER_LABELS_MAX:
                label = "other"
            self.setdefault(label, Histogram(self._bounds))
        self[label].observe(value)


class PeerMetrics:
    """The counters of one PeerNetwork. `remote` labels are `To` where we send and `From` where we receive."""

    def __init__(self) -> None:
        self.sent_bytes = Counts()
        self.sent_failures = Counts()
        self.received_bytes = Counts()
        self.received_failures = Counts()
        self.active_peers = Counts()
        """By remote; the local label is our own id."""
        self.disconnected_peers = Counts()
        self.round_trip_seconds = Histograms(ROUND_TRIP_SECONDS)
        self.clock_difference_seconds: dict[str, float] = {}
        """The last estimate, ours minus theirs. etcd only logs it."""
        self.snapshot_send_success = Counts()
        self.snapshot_send_failures = Counts()
        self.snapshot_send_inflights = Counts()
        self.snapshot_send_seconds = Histograms(TRANSFER_SECONDS)
        self.snapshot_receive_success = Counts()
        self.snapshot_receive_failures = Counts()
        self.snapshot_receive_inflights = Counts()
        self.snapshot_receive_seconds = Histograms(TRANSFER_SECONDS)
