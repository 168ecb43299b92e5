"""What took too long: etcd's lines, how many of them, and no value in them."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from etcdpy import limits
from etcdpy.apply.entry_data import EntryEncoder
from etcdpy.apply.plain_put import PlainPut
from etcdpy.apply.proposal import Proposal
from etcdpy.proto import rpc_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.server.slow_requests import SlowRequests
from etcdpy.transport.calls import Kind, Method, Peer

SECRET = b"hunter2"
ENCODER = EntryEncoder(7)
CALLER = ("10.0.0.7:4711", "/etcdserverpb.KV/Put")


class Asked(Proposal):
    __slots__ = ("_caller",)

    def __init__(self, kind: str, request: Any, caller: tuple[str, str] | None = CALLER) -> None:
        self.kind = kind
        self.request = request
        self.data = b""
        self._caller = caller

    def caller(self) -> tuple[str, str] | None:
        return self._caller


class World:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 100.0
        self.slow = SlowRequests(0.1, 0.3, lambda: self.now)
        self._caplog = caplog
        caplog.set_level(logging.WARNING, "etcdpy")

    @property
    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        return [(record.getMessage(), record.fields) for record in self._caplog.records]  # type: ignore[attr-defined]


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(logging.getLogger("etcdpy"), "propagate", True)
    return World(caplog)


def entry(kind: str, request: Any) -> Entry:
    return Entry(ENCODER.encode(kind, request.SerializeToString()))


def test_a_slow_apply_shows_what_most_likely_took_the_time(world: World) -> None:
    put = entry("put", rpc_pb2.PutRequest(key=b"k", value=SECRET * 100))
    delete = entry("delete_range", rpc_pb2.DeleteRangeRequest(key=b"a", range_end=b"b"))
    world.slow.applied(0.25, [put, delete, Entry(b"", None, 2, 1, EntryType.CONF_CHANGE), Entry(b"")])
    ((message, fields),) = world.lines
    assert message == "apply request took too long"
    assert fields == {
        "took": "250ms",
        "expected-duration": "100ms",
        "prefix": "",
        "request": 'delete_range:<key: "a" range_end: "b">',
        "response": "",
        "entries": 4,
    }
    assert world.slow.applies == 1


def test_an_entry_without_a_request_may_be_slow_too(world: World) -> None:
    world.slow.applied(0.25, [Entry(b""), Entry(b"no request")])
    assert world.lines[0][1]["request"] == ""


def test_a_call_that_took_long(world: World) -> None:
    world.slow.answered(0.5, [Asked("put", PlainPut(b"k", SECRET)), Asked("put", PlainPut(b"k", b"v"), None)])
    ((message, fields),) = world.lines
    assert message == "request stats"
    assert fields.pop("start time").endswith("Z")
    assert fields == {
        "time spent": "500ms",
        "remote": "10.0.0.7:4711",
        "response type": "/etcdserverpb.KV/Put",
        "request count": 1,
        "request size": 12,
        "response count": -1,
        "response size": -1,
        "request content": 'key:"k" value_size:7 ',
    }


def test_a_call_about_users_shows_nothing_of_its_request(world: World) -> None:
    world.slow.answered(0.5, [Asked("auth_user_add", rpc_pb2.AuthUserAddRequest(name="ann", password="hunter2"))])
    ((_, fields),) = world.lines
    assert (fields["request content"], fields["request size"], fields["request count"]) == ("", -1, -1)


@pytest.mark.parametrize(
    ("seconds", "messages"),
    [
        (0.1, []),
        (0.2, ["apply request took too long"]),
        (0.4, ["apply request took too long", "request stats"]),
    ],
)
def test_a_read(world: World, seconds: float, messages: list[str]) -> None:
    method = Method("etcdserverpb.KV", "Range", Kind.UNARY, print)
    call: Any = SimpleNamespace(peer=Peer("10.0.0.7:4711"), method=method)
    world.slow.read(call, "range", rpc_pb2.RangeRequest(key=b"a", range_end=b"b"), seconds, 7, 900)
    assert [message for message, _ in world.lines] == messages
    assert world.slow.applies == len(messages[:1])
    if messages:
        fields = world.lines[0][1]
        assert (fields["prefix"], fields["request"]) == ("read-only range ", 'key: "a" range_end: "b"')
        assert fields["response"] == "range_response_count:7 size:900"
    if len(messages) > 1:
        fields = world.lines[1][1]
        assert (fields["response type"], fields["response count"]) == ("/etcdserverpb.KV/Range", 7)


def test_after_a_stall_so_many_lines_are_written_and_the_others_counted(world: World) -> None:
    proposals = [Asked("put", PlainPut(b"k", b"v"))] * 1000
    world.slow.answered(0.5, proposals)
    assert len(world.lines) == limits.SLOW_REQUESTS_LOGGED_PER_SECOND
    world.now += 1
    world.slow.answered(0.5, proposals[:1])
    assert world.lines[-1][1]["others-not-logged"] == 1000 - limits.SLOW_REQUESTS_LOGGED_PER_SECOND
    world.slow.answered(0.5, proposals[:1])
    assert "others-not-logged" not in world.lines[-1][1]
