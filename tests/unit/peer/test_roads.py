"""The small parts between the codec and the network: URLs, status, headers, clocks."""

from __future__ import annotations

import asyncio
import json
import logging
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from etcdpy.peer.connections import Answer, PeerUnreachable
from etcdpy.peer.metrics import PeerMetrics
from etcdpy.peer.names import minor_version, parse_id, request_headers, sender_refusal
from etcdpy.peer.prober import Prober, parse_timestamp, probe_answer
from etcdpy.peer.roads import Roads
from etcdpy.peer.status import PeerStatus, UrlPicker
from etcdpy.proto import raft_pb2
from etcdpy.raft.message import Message

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_the_picker_goes_on_when_its_url_fails() -> None:
    picker = UrlPicker(["a", "b", "c"])
    picker.unreachable("b")  # not the one in use
    assert picker.pick() == "a"
    picker.unreachable("a")
    picker.unreachable("a")  # the second road that noticed
    assert picker.pick() == "b"
    picker.unreachable("b")
    picker.unreachable("c")
    assert picker.pick() == "a"
    picker.unreachable("a")
    picker.update(["x"])
    assert picker.pick() == "x"


def test_status_counts_and_logs_each_change_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="etcdpy.peer")
    metrics, now = PeerMetrics(), 5.0
    status = PeerStatus(0x2A, metrics, lambda: now)
    status.deactivate("pipeline", "write", "EOF")
    status.activate()
    now = 6.0
    status.activate()
    assert (status.active_since, metrics.active_peers["2a"]) == (5.0, 1)
    status.deactivate("stream Message", "dial", "connection refused")
    status.deactivate("stream Message", "dial", "connection refused")
    assert (status.active_since, metrics.active_peers["2a"], metrics.disconnected_peers["2a"]) == (None, 0, 1)
    status.activate()
    status.forget()
    status.forget()
    assert (metrics.active_peers["2a"], metrics.disconnected_peers["2a"]) == (0, 1)
    assert [record.message for record in caplog.records] == [
        "peer deactivated again",
        "peer became active",
        "peer became inactive (message send to peer failed)",
        "peer deactivated again",
        "peer became active",
    ]
    fields: dict[str, Any] = vars(caplog.records[2])["fields"]
    assert fields["error"] == "failed to dial 2a on stream Message (connection refused)"


def lower(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"x-server-version": "3.0.0"}, ""),
        ({"x-server-version": "3.8.0-alpha.0", "x-min-cluster-version": "3.7.0"}, ""),
        ({"x-server-version": "2.3.7"}, "incompatible version"),
        ({"x-server-version": ""}, "incompatible version"),
        ({"x-server-version": "new"}, "incompatible version"),
        ({"x-min-cluster-version": "3.8.0"}, "incompatible version"),
        ({"x-etcd-cluster-id": "c2"}, "cluster ID mismatch"),
        ({"x-etcd-cluster-id": ""}, "cluster ID mismatch"),
    ],
)
def test_who_is_one_of_us(changed: dict[str, str], reason: str) -> None:
    headers = {**lower(request_headers(2, 0xC1, ["http://a:1"])), **changed}
    assert sender_refusal(headers, 1, 0xC1) == reason


@pytest.mark.parametrize("text", ["", "0x1", "g", "1" * 17, "-1", "+1", "1_0", " 1"])
def test_what_is_no_id(text: str) -> None:
    assert parse_id(text) is None


def test_ids_and_versions_are_read() -> None:
    assert parse_id("ffffffffffffffff") == (1 << 64) - 1
    assert minor_version("3.10.2+git") == (3, 10)
    assert minor_version("3.10") is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:01.123456789Z", 1.123456789),
        ("1970-01-01T02:00:01.25+02:00", 1.25),
    ],
)
def test_gos_times_are_read(text: str, seconds: float) -> None:
    assert parse_timestamp(text) == pytest.approx(seconds, abs=1e-6)


def test_what_is_no_time() -> None:
    with pytest.raises(ValueError, match="no time"):
        parse_timestamp("yesterday")


class Asked:
    """Connections whose other end is this object."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)

    async def request(self, *_: object, **__: object) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def prober(asked: Asked, *, wall: float, ticks: list[float]) -> Prober:
    times = iter(ticks)
    return Prober(
        0x2A,
        connections=asked,  # type: ignore[arg-type]
        picker=UrlPicker(["a"]),
        metrics=PeerMetrics(),
        read_seconds=5,
        wall=lambda: wall,
        clock=lambda: next(times),
    )


def test_round_trip_and_clock_difference_are_smoothed(caplog: pytest.LogCaptureFixture) -> None:
    answer = Answer(200, {}, probe_answer(1000.0))
    assert json.loads(answer.body) == {"OK": True, "Now": "1970-01-01T00:16:40.000000Z"}
    probing = prober(Asked(answer, answer), wall=1003.0, ticks=[0, 0.1, 1, 1.2])
    asyncio.run(probing.probe())
    assert probing.round_trip_seconds == pytest.approx(0.1)
    asyncio.run(probing.probe())
    assert probing.round_trip_seconds == pytest.approx(0.1 * 0.875 + 0.2 * 0.125)
    assert probing.clock_difference_seconds == pytest.approx(3.0 - probing.round_trip_seconds / 2)
    probing.report()
    assert [record.message for record in caplog.records] == ["prober found high clock drift"]
    assert probing._metrics.round_trip_seconds["2a"].count == 1


@pytest.mark.parametrize(
    "answer",
    [
        PeerUnreachable("connection refused"),
        Answer(404, {}, b""),
        Answer(200, {}, b"nonsense"),
        Answer(200, {}, b'{"OK":false,"Now":"1970-01-01T00:00:01Z"}'),
        Answer(200, {}, b'{"OK":true,"Now":"never"}'),
    ],
)
def test_a_member_that_does_not_answer_well_is_logged(
    answer: Answer | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    probing = prober(Asked(answer), wall=1.0, ticks=[0, 1])
    asyncio.run(probing.probe())
    assert not probing.healthy
    assert probing.error
    probing.report()
    assert [record.message for record in caplog.records] == ["prober detected unhealthy status"]


def test_a_snapshot_without_its_state_is_not_delivered() -> None:
    taken: list[Message] = []
    receiver = SimpleNamespace(is_removed=lambda _member: False, receive=taken.append)
    roads = SimpleNamespace(receiver=receiver, own_id=1)
    roads.refusal = partial(Roads.refusal, cast("Roads", roads))
    for kind in (raft_pb2.MsgSnap, raft_pb2.MsgVote):
        Roads.deliver(cast("Roads", roads), Message(kind, to=1, from_=2))
    assert [message.type for message in taken] == [raft_pb2.MsgVote]
