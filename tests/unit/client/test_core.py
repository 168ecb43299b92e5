from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest

from etcdpy.client import op
from etcdpy.client.balancer import Balancer
from etcdpy.client.call import AUTHENTICATE, Call
from etcdpy.client.core import Core, Settings, View, run
from etcdpy.client.failures import ClientClosed
from etcdpy.errors import AuthNotEnabled, EtcdError, InvalidAuthToken, NoLeader, StatusError
from etcdpy.proto import rpc_pb2

REFUSED = (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: refused")
RESET = (grpc.StatusCode.UNAVAILABLE, "recvmsg:Connection reset by peer (104)")


class Error(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        super().__init__()
        self._answer = code, text

    def code(self) -> grpc.StatusCode:
        return self._answer[0]

    def details(self) -> str:
        return self._answer[1]


def raised(kind: type[EtcdError]) -> Error:
    code = next(code for code in grpc.StatusCode if code.value[0] == kind.code)
    return Error(code, kind.message)


class FakePlace:
    """Answers, or fails as often as it is told to."""

    def __init__(self, *errors: Error) -> None:
        self.errors = list(errors)
        self.asked: list[tuple[Any, Any]] = []
        self.dialled = 0
        self.seconds: float | None = None

    async def invoke(self, call: Any, seconds: Any, metadata: Any, *, wait_for_ready: bool) -> Any:
        self.asked.append((type(call.request), metadata))
        self.seconds = seconds
        if call.method is AUTHENTICATE:
            return rpc_pb2.AuthenticateResponse(token=f"token {len(self.asked)}")
        if self.errors:
            raise self.errors.pop(0)
        return call.method.answer()

    def connect(self) -> None:
        self.dialled += 1


class FakeIo:
    """Never waits."""

    def __init__(self, *places: FakePlace) -> None:
        self.places = places
        self.login_lock = asyncio.Lock()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def wait_connected(self, _seconds: float | None) -> bool:
        return False


def core_of(*places: FakePlace, connected: bool = True, **options: Any) -> Core:
    io: Any = FakeIo(*places)
    balancer = Balancer(len(places))
    for number in range(len(places) if connected else 0):
        balancer.connected(number)
    names = tuple(f"host{number}:1" for number in range(len(places)))
    return Core(Settings(endpoints=names, **options), balancer, io)


def do(core: Core, call: Call[Any]) -> Any:
    return run(View(core).do(call))


def test_a_put_that_was_never_sent_goes_to_the_next_endpoint() -> None:
    first, second = FakePlace(Error(*REFUSED)), FakePlace()
    core = core_of(first, second)
    do(core, op.put("a"))
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert first.dialled == 1, "it gets no calls until there is a connection again"
    for _ in range(3):
        do(core, op.put("a"))
    assert len(first.asked) == 1


@pytest.mark.parametrize("error", [Error(*RESET), raised(NoLeader)])
def test_a_put_that_may_have_arrived_is_not_made_again(error: Error) -> None:
    first, second = FakePlace(error), FakePlace()
    core = core_of(first, second)
    with pytest.raises(EtcdError):
        do(core, op.put("a"))
    assert second.asked == []
    do(core, op.get("a"))
    do(core, op.get("a"))
    assert len(first.asked) == 1, "it sits out"


def test_a_read_is_made_until_there_is_an_answer() -> None:
    places = [FakePlace(Error(*RESET), raised(NoLeader)) for _ in range(3)]
    core = core_of(*places)
    io: Any = core.io
    do(core, op.get("a"))
    assert sum(len(place.asked) for place in places) == 7
    assert len(io.slept) == 3, "after each quorum"


def test_without_a_connection_the_time_runs_out() -> None:
    place, other = FakePlace(), FakePlace()
    with pytest.raises(StatusError, match="context deadline exceeded"):
        do(core_of(place, other, connected=False), op.put("a"))
    assert (place.dialled, other.dialled) == (1, 1)
    assert place.asked == []


def test_one_login_serves_all_calls() -> None:
    place = FakePlace()
    core = core_of(place, user="u", password="p")
    for _ in range(3):
        do(core, op.get("a"))
    assert [metadata for _, metadata in place.asked] == [(), *[(("token", "token 1"),)] * 3]


def test_a_token_that_is_refused_is_replaced_once() -> None:
    place = FakePlace(raised(InvalidAuthToken))
    core = core_of(place, user="u", password="p")
    do(core, op.put("a"))
    assert [metadata for _, metadata in place.asked] == [(), (("token", "token 1"),), (), (("token", "token 3"),)]
    place.errors = [raised(InvalidAuthToken), raised(InvalidAuthToken)]
    with pytest.raises(InvalidAuthToken):
        do(core, op.put("a"))


def test_a_given_token_is_the_callers_own() -> None:
    place = FakePlace(raised(InvalidAuthToken))
    with pytest.raises(InvalidAuthToken):
        do(core_of(place, token="mine"), op.put("a"))
    assert [metadata for _, metadata in place.asked] == [(("token", "mine"),)]


def test_views() -> None:
    places = [FakePlace() for _ in range(3)]
    core = core_of(*places)
    view = View(core)
    for _ in range(4):
        run(view.at("host1:1").do(op.status()))
    assert [len(place.asked) for place in places] == [0, 4, 0]
    run(view.at("host2:1").with_leader().do(op.get("a")))
    assert places[2].asked == [(rpc_pb2.RangeRequest, (("hasleader", "true"),))]
    with pytest.raises(ValueError, match="not in tuple"):
        view.at("elsewhere:1")


def test_a_closed_client_makes_no_calls() -> None:
    place = FakePlace()
    core = core_of(place)
    core.closed = True
    for view in (View(core), View(core).at("host0:1")):
        with pytest.raises(ClientClosed):
            run(view.do(op.get("a")))
    assert place.asked == []


class WithoutUsers(FakePlace):
    async def invoke(self, call: Any, seconds: Any, metadata: Any, *, wait_for_ready: bool) -> Any:
        if call.method is AUTHENTICATE:
            self.asked.append((type(call.request), metadata))
            await asyncio.sleep(0)
            raise raised(AuthNotEnabled)
        return await super().invoke(call, seconds, metadata, wait_for_ready=wait_for_ready)


def test_a_cluster_without_users_is_asked_for_a_token_once() -> None:
    place = WithoutUsers()

    async def play() -> None:
        view = View(core_of(place, user="u", password="p"))
        await asyncio.gather(*(view.do(op.get("a")) for _ in range(5)))

    asyncio.run(play())
    assert [kind for kind, _ in place.asked] == [rpc_pb2.AuthenticateRequest, *[rpc_pb2.RangeRequest] * 5]


def test_what_a_connection_took_is_not_there_for_the_call() -> None:
    place = FakePlace()
    core = core_of(place, FakePlace(), connected=False, timeout=5.0)

    async def connect_late(_seconds: float | None) -> bool:
        time.sleep(0.05)  # noqa: ASYNC251
        core.balancer.connected(0)
        return True

    io: Any = core.io
    io.wait_connected = connect_late
    do(core, op.get("a"))
    assert place.seconds is not None
    assert place.seconds < 4.96


def test_the_password_is_in_no_text() -> None:
    settings = Settings(endpoints=("a:1",), user="u", password="secret", token="hidden")
    assert "secret" not in repr(settings)
    assert "hidden" not in repr(settings)


def test_there_must_be_an_endpoint() -> None:
    with pytest.raises(ValueError, match="no endpoint"):
        Settings(endpoints=())
