"""How long the way to a member takes, and how far its clock is from ours: GET /raft/probing every few seconds."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import re
import time
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.peer.connections import PeerUnreachable
from etcdpy.peer.names import id_text
from etcdpy.wire import read_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.peer.connections import Connections
    from etcdpy.peer.metrics import PeerMetrics
    from etcdpy.peer.status import UrlPicker

logger = logging.getLogger("etcdpy.peer")

PROBING_PATH: Final = "/raft/probing"
_WEIGHT: Final = 0.125
_REPORT_EARLY_SECONDS: Final = 5.0
_TIMESTAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def probe_answer(now: float) -> bytes:
    """What a probed member says: its wall clock, in Go's form."""
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return json.dumps({"OK": True, "Now": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}).encode() + b"\n"


def parse_timestamp(text: str) -> float:
    """Unix seconds of a time in RFC 3339, with Go's nanoseconds. Raises ValueError."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise ValueError(f"no time: {text[:64]!r}")
    whole = datetime.datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3]))
    return whole.timestamp() + float(match[2] or 0)


class Prober:
    """The estimate for one member: smoothed round trip, and clock difference (ours minus theirs)."""

    def __init__(
        self,
        remote: int,
        *,
        connections: Connections,
        picker: UrlPicker,
        metrics: PeerMetrics,
        read_seconds: float,
        wall: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = id_text(remote)
        self._connections = connections
        self._picker = picker
        self._metrics = metrics
        self._read_seconds = read_seconds
        self._wall = wall
        # Not the loop's clock, which knows milliseconds: a round trip in one rack takes less.
        self._clock = clock
        self.round_trip_seconds = 0.0
        self.clock_difference_seconds = 0.0
        self.error = ""
        self.healthy = False

    async def run(self) -> None:
        """Probe and report until cancelled."""
        loop = asyncio.get_running_loop()
        report_at = loop.time() + _REPORT_EARLY_SECONDS
        while True:
            await asyncio.sleep(limits.PEER_PROBE_SECONDS)
            await self.probe()
            if loop.time() >= report_at:
                self.report()
                pause = limits.PEER_PROBE_REPORT_SECONDS if self.healthy else _REPORT_EARLY_SECONDS
                report_at = loop.time() + pause

    async def probe(self) -> None:
        """Ask once."""
        url = self._picker.pick()
        started = self._clock()
        try:
            answer = await self._connections.request(
                "GET", url, PROBING_PATH, seconds=self._read_seconds, limit=limits.PEER_REQUEST_BYTES_MAX
            )
            if answer.status != 200:
                raise ValueError(f"got unexpected HTTP status code {answer.status} from {url}{PROBING_PATH}")
            told = read_json(answer.body)
            if not isinstance(told, dict) or told.get("OK") is not True:
                raise ValueError("the member says that it is not well")
            theirs = parse_timestamp(str(told.get("Now")))
        except (PeerUnreachable, ValueError) as error:
            self.healthy, self.error = False, str(error)
            return
        self._record(self._clock() - started, theirs)

    def _record(self, seconds: float, theirs: float) -> None:
        self.healthy, self.error = True, ""
        before = self.round_trip_seconds or seconds
        self.round_trip_seconds = (1 - _WEIGHT) * before + _WEIGHT * seconds
        self.clock_difference_seconds = self._wall() - theirs - self.round_trip_seconds / 2

    def report(self) -> None:
        """Observe the estimate, and log what is wrong, as often as etcd does."""
        fields = {
            "round-tripper-name": "ROUND_TRIPPER_RAFT_MESSAGE",
            "remote-peer-id": self._label,
            "rtt": f"{self.round_trip_seconds:.6f}s",
            "error": self.error,
        }
        if not self.healthy:
            logger.warning("prober detected unhealthy status", extra={"fields": fields})
        if abs(self.clock_difference_seconds) > limits.PEER_CLOCK_DIFFERENCE_LOGGED_SECONDS:
            fields["clock-drift"] = f"{self.clock_difference_seconds:.6f}s"
            logger.warning("prober found high clock drift", extra={"fields": fields})
        self._metrics.round_trip_seconds.observe(self._label, self.round_trip_seconds)
        self._metrics.clock_difference_seconds[self._label] = self.clock_difference_seconds
