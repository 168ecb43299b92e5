"""The JSON API over WebSocket, on real etcd and on etcdpy."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.client import wait_until
from tests.support.websocket import CLOSE, PING, PONG, TEXT, Frame, WebSocketClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.client import Client
    from tests.support.members import Member


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def ask(websocket: WebSocketClient, request: Mapping[str, Any]) -> None:
    websocket.send(json.dumps(request).encode())


def told(websocket: WebSocketClient) -> Any:
    frame = websocket.receive()
    assert frame is not None
    assert frame.opcode == TEXT
    assert not frame.payload.endswith(b"\n")
    return json.loads(frame.payload)


def open_(member: Member, path: str, **headers: str) -> WebSocketClient:
    return WebSocketClient(member.client_port, path, {name.replace("_", "-"): text for name, text in headers.items()})


def test_a_watch_takes_requests_and_sends_lines(member: Member, client: Client, prefix: bytes) -> None:
    with open_(member, "/v3/watch") as websocket:
        assert websocket.status == 101
        ask(websocket, {"create_request": {"key": b64(prefix + b"1")}})
        assert told(websocket)["result"]["created"]
        client.put(prefix + b"1", b"v")
        (event,) = told(websocket)["result"]["events"]
        assert event["kv"]["value"] == b64(b"v")
        ask(websocket, {"create_request": {"key": b64(prefix + b"2")}})
        second = told(websocket)["result"]
        assert (second["created"], second["watch_id"]) == (True, "1")
        ask(websocket, {"cancel_request": {"watch_id": "1"}})
        assert told(websocket)["result"]["canceled"]


def test_one_request_may_come_in_fragments_with_pings_between(member: Member, client: Client, prefix: bytes) -> None:
    request = json.dumps({"create_request": {"key": b64(prefix)}}).encode()
    with open_(member, "/v3/watch") as websocket:
        websocket.send(request[:9], first=0)
        websocket.send(b"are you there?", PING)
        websocket.send(request[9:20], 0, first=0)
        websocket.send(request[20:], 0)
        assert websocket.receive() == Frame(PONG, b"are you there?")
        assert told(websocket)["result"]["created"]
        client.put(prefix, bytes(100_000))
        (event,) = told(websocket)["result"]["events"]
        assert len(event["kv"]["value"]) > 100_000


def need_single_calls(member: Member) -> None:
    if member.kind == "etcd":
        pytest.skip("real etcd reads on after a single call's request, so it answers only when nobody listens any more")


def test_a_single_call_is_answered_and_the_connection_closed(member: Member, client: Client, prefix: bytes) -> None:
    need_single_calls(member)
    with open_(member, "/v3/kv/put") as websocket:
        ask(websocket, {"key": b64(prefix), "value": b64(b"v")})
        revision = int(told(websocket)["header"]["revision"])
        frame = websocket.receive()
        assert frame is None or frame.opcode == CLOSE
    assert client.range(prefix).kvs[0].mod_revision == revision


def test_keepalives(member: Member, client: Client) -> None:
    lease = client.grant(60).ID
    with open_(member, "/v3/lease/keepalive") as websocket:
        for _ in range(2):
            ask(websocket, {"ID": str(lease)})
            assert told(websocket)["result"]["TTL"] == "60"


@pytest.mark.parametrize(
    ("path", "request_", "answer"),
    [
        ("/v3/kv/range", {"key": 5}, {"code": 3}),
        ("/v3/kv/put", {}, {"code": 3, "message": "etcdserver: key is not provided"}),
        ("/v3/nowhere", {}, {"code": 5, "message": "Not Found"}),
    ],
)
def test_errors_are_messages_too(member: Member, path: str, request_: dict[str, Any], answer: dict[str, Any]) -> None:
    need_single_calls(member)
    with open_(member, path) as websocket:
        ask(websocket, request_)
        said = told(websocket)
        assert {name: said[name] for name in answer} == answer


def test_a_client_that_closes_ends_its_watchers(member: Member, prefix: bytes) -> None:
    name = "etcd_debugging_mvcc_watcher_total"
    before = member.metric(name)
    with open_(member, "/v3/watch") as polite, open_(member, "/v3/watch") as rude:
        for websocket in (polite, rude):
            ask(websocket, {"create_request": {"key": b64(prefix)}})
            assert told(websocket)["result"]["created"]
        assert member.metric(name) == before + 2
        polite.send((1000).to_bytes(2, "big"), CLOSE)
        frame = polite.receive()
        assert frame is None or frame == Frame(CLOSE, (1000).to_bytes(2, "big"))
    wait_until(lambda: member.metric(name) == before)


@pytest.mark.parametrize(
    "frame",
    [
        {"payload": b"{}", "mask": b""},
        {"payload": b"{}", "first": 0xC0},
        {"payload": b"{}", "opcode": 3},
        {"payload": b"{}", "opcode": 0},
        {"payload": b"x" * 126, "opcode": PING},
        {"payload": b"", "opcode": PING, "first": 0},
    ],
)
def test_who_breaks_the_protocol_is_sent_away(member: Member, frame: dict[str, Any]) -> None:
    with open_(member, "/v3/watch") as websocket:
        websocket.send(**frame)
        assert websocket.receive() == Frame(CLOSE, (1002).to_bytes(2, "big")) or websocket.receive() is None


@pytest.mark.parametrize(
    "headers",
    [{"Sec_WebSocket_Version": "8"}, {"Sec_WebSocket_Key": ""}, {"Sec_WebSocket_Key": "c2hvcnQ="}],
)
def test_a_bad_upgrade_is_refused(member: Member, headers: dict[str, str]) -> None:
    with open_(member, "/v3/watch", **headers) as websocket:
        assert (websocket.status, websocket.body()) == (400, b"Bad Request\n")
        assert websocket.headers["sec-websocket-version"] == "13"


def test_the_subprotocol_says_who_asks(member: Member) -> None:
    with open_(member, "/v3/watch", Sec_WebSocket_Protocol="Bearer, nobody.1") as websocket:
        assert websocket.headers["sec-websocket-protocol"] == "Bearer"
        ask(websocket, {"create_request": {"key": b64(b"k")}})
        assert told(websocket)["result"]["created"]
