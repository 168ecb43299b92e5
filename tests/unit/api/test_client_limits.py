"""How often a user or client may ask: who shares what, what is refused and what waits."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from etcdpy import limits
from etcdpy.api.client_limits import Allowance, ClientLimits
from etcdpy.errors import ClientRateExceeded, Code
from etcdpy.proto import rpc_pb2
from etcdpy.transport.calls import Kind, Method, Peer


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Stream:
    def __init__(self, peer: Peer, *bodies: bytes) -> None:
        self.peer = peer
        self.sent: list[bytes] = []
        self._bodies = deque(bodies)

    async def receive(self) -> bytes | None:
        return self._bodies.popleft() if self._bodies else None

    def send(self, message: bytes) -> None:
        self.sent.append(message)


def call(name: str | None = None, address: str = "10.0.0.7:4711") -> Any:
    return SimpleNamespace(peer=Peer(address, name))


def make(requests: int = 0, watches: int = 0) -> tuple[ClientLimits, Clock]:
    clock = Clock()
    return ClientLimits(
        lambda call: call.peer.common_name or "",
        clock,
        lambda: b"",
        requests_per_second=requests,
        watches_per_second=watches,
    ), clock


def unary(found: ClientLimits, service: str = "etcdserverpb.KV") -> Any:
    """A limited handler, and what reaches the handler behind it."""
    reached: list[bytes] = []
    method = Method(service, "Put", Kind.UNARY, lambda _call, body: reached.append(body))
    found.wrap({b"": method})
    return SimpleNamespace(call=method.handler, reached=reached)


def test_an_allowance_grows_by_the_second_and_no_further() -> None:
    allowance = Allowance(2, 0.0)
    assert [allowance.take(0.0) for _ in range(3)] == [True, True, False]
    assert not allowance.take(0.4)
    assert allowance.take(0.5)
    assert [allowance.take(1000.0) for _ in range(3)] == [True, True, False]


def test_what_is_reserved_is_waited_for() -> None:
    allowance = Allowance(2, 0.0)
    assert [allowance.reserve(0.0) for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    assert not allowance.take(1.0)
    assert allowance.take(1.5)
    assert Allowance(0, 0.0).reserve(0.0) == 0.0


def test_the_second_request_too_many_is_refused_at_once() -> None:
    found, clock = make(requests=2)
    method = unary(found)
    for _ in range(2):
        method.call(call("ann"), b"x")
    with pytest.raises(ClientRateExceeded) as caught:
        method.call(call("ann"), b"x")
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert (len(method.reached), found.refused()) == (2, {("requests",): 1, ("watches",): 0})
    clock.now += 0.5
    method.call(call("ann"), b"x")


def test_names_have_each_their_own_and_the_nameless_share_by_address() -> None:
    found, _ = make(requests=1)
    method = unary(found)
    method.call(call("ann", "10.0.0.7:1"), b"")
    method.call(call("bob", "10.0.0.7:2"), b"")
    method.call(call(None, "10.0.0.7:3"), b"")
    method.call(call(None, "10.0.0.8:3"), b"")
    for again in (call("ann", "10.0.0.9:9"), call(None, "10.0.0.7:4")):
        with pytest.raises(ClientRateExceeded):
            method.call(again, b"")


def test_a_name_cannot_pass_for_an_address() -> None:
    found, _ = make(requests=1)
    assert found.allowances(call("10.0.0.7"))[0] is not found.allowances(call(None, "10.0.0.7:1"))[0]


def test_the_health_service_is_not_counted() -> None:
    found, _ = make(requests=1)
    method = unary(found, "grpc.health.v1.Health")
    for _ in range(5):
        method.call(call("ann"), b"")
    assert len(method.reached) == 5


def test_clients_are_remembered_up_to_a_bound_the_quiet_ones_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS_LIMITED_MAX", 2)
    found, _ = make(requests=1)
    ann, bob = (found.allowances(call(name)) for name in ("ann", "bob"))
    assert found.allowances(call("ann")) is ann
    found.allowances(call("eve"))
    assert found.allowances(call("ann")) is ann
    assert found.allowances(call("bob")) is not bob


def stream(found: ClientLimits, name: str, *bodies: bytes) -> tuple[list[bytes], list[rpc_pb2.WatchResponse]]:
    """What reaches a stream's handler, and what is sent to the client."""
    reached: list[bytes] = []

    async def handler(inner: Any) -> None:
        while (body := await inner.receive()) is not None:
            reached.append(body)

    method = Method("etcdserverpb.Watch", name, Kind.BIDI, handler)
    found.wrap({b"": method})
    outer = Stream(Peer("10.0.0.7:1", "ann"), *bodies)
    asyncio.run(cast("Any", method.handler)(outer))
    return reached, [rpc_pb2.WatchResponse.FromString(each) for each in outer.sent]


def create(key: bytes) -> bytes:
    return rpc_pb2.WatchRequest(create_request=rpc_pb2.WatchCreateRequest(key=key)).SerializeToString()


def test_watches_too_many_are_cancelled_one_by_one_and_the_stream_goes_on() -> None:
    found, _ = make(watches=2)
    progress = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()).SerializeToString()
    bodies = [create(b"a"), create(b"b"), create(b"c"), progress]
    reached, sent = stream(found, "Watch", *bodies)
    assert reached == [bodies[0], bodies[1], progress]
    (refusal,) = sent
    assert (refusal.watch_id, refusal.created, refusal.canceled) == (-1, True, True)
    assert refusal.cancel_reason == (
        "rpc error: code = ResourceExhausted desc = etcdpy: too many watches a second from this user or client"
    )
    assert found.refused()["watches",] == 1


def test_messages_of_a_stream_wait_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = make(requests=2)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    reached, _ = stream(found, "LeaseKeepAlive", b"1", b"2", b"3", b"4")
    assert reached == [b"1", b"2", b"3", b"4"]
    assert slept == [0.5, 1.0]


def test_opening_a_stream_is_a_request() -> None:
    found, _ = make(requests=1)
    stream(found, "Watch")
    with pytest.raises(ClientRateExceeded):
        stream(found, "Watch")
