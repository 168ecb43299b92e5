from __future__ import annotations

import time
from typing import Any

import grpc
import pytest

from etcdpy.client.core import run
from etcdpy.client.keeping import Keeper
from etcdpy.errors import AuthFailed, Code, InvalidAuthToken, StatusError
from etcdpy.proto import rpc_pb2

LEASE = 7


class Refused(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAUTHENTICATED

    def details(self) -> str:
        return InvalidAuthToken.message


class FakeStream:
    """Gives its answers, and breaks if it is told to."""

    def __init__(self, answers: list[rpc_pb2.LeaseKeepAliveResponse], error: Exception | None = None) -> None:
        self._answers = answers
        self._error = error

    async def read(self) -> rpc_pb2.LeaseKeepAliveResponse | None:
        if not self._answers and self._error is not None:
            raise self._error
        return self._answers.pop(0) if self._answers else None

    def cancel(self) -> None:
        pass


class FakeCore:
    """One pass of the worker's loop: the first wait ends it."""

    def __init__(self, *streams: FakeStream | Exception, refuses_login: bool = False) -> None:
        self._streams = list(streams)
        self._refuses_login = refuses_login
        self.closed = False
        self.io = self
        self.waited: list[float | None] = []
        self.work: Any = None

    def spawn(self, work: Any) -> None:
        self.work = work

    async def open(self, *_arguments: Any, **_options: Any) -> tuple[int, FakeStream]:
        stream = self._streams.pop(0)
        if isinstance(stream, Exception):
            raise stream
        return 0, stream

    def note(self, _number: int, _failure: Any) -> None:
        pass

    async def renew_token(self, _error: Any) -> bool:
        if self._refuses_login:
            raise AuthFailed
        return True

    async def wait_woken(self, seconds: float | None) -> None:
        self.waited.append(seconds)
        self.closed = True


def worked(core: Any, ttl: float, asked_ago: float) -> tuple[Keeper, list[str], list[bool]]:
    """A keeper with one lease after one pass, who was told that it is lost, and whether it lived before the end."""
    keeper = Keeper(core)
    told: list[str] = []
    lived: list[bool] = []

    async def lost() -> None:
        told.append("lost")

    wait = core.wait_woken

    async def look(seconds: float | None) -> None:
        lived.append(keeper.lives(LEASE))
        await wait(seconds)

    core.wait_woken = look
    keeper.keep(LEASE, ttl, time.monotonic() - asked_ago, lost)
    run(core.work)
    return keeper, told, lived


def answer(ttl: int) -> rpc_pb2.LeaseKeepAliveResponse:
    return rpc_pb2.LeaseKeepAliveResponse(ID=LEASE, TTL=ttl)


def test_a_renewed_lease_lives_until_nobody_keeps_it() -> None:
    core = FakeCore(FakeStream([answer(30)]))
    keeper, told, lived = worked(core, 9, 8)
    assert lived == [True]
    assert core.waited[0] == pytest.approx(10, abs=1)
    assert told == ["lost"]
    assert not keeper.lives(LEASE)


def test_a_lease_that_the_server_does_not_know_is_lost() -> None:
    _, told, lived = worked(FakeCore(FakeStream([answer(0)])), 9, 5)
    assert (told, lived) == (["lost"], [False])


@pytest.mark.parametrize("refuses_login", [False, True])
def test_what_fails_is_tried_again_soon(refuses_login: bool) -> None:
    core = FakeCore(FakeStream([], Refused()), refuses_login=refuses_login)
    _, _, lived = worked(core, 9, 5)
    assert lived == [True]
    assert core.waited[0] is not None
    assert core.waited[0] < 1


def test_a_lease_that_cannot_be_renewed_in_time_is_lost() -> None:
    _, told, lived = worked(FakeCore(StatusError(Code.UNAVAILABLE, "")), 9, 10)
    assert (told, lived) == (["lost"], [False])
