"""Tokens of a discovery service: got once, again when they have ended, and not where users are switched off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest

from etcdpy.client import registry
from etcdpy.client.registry import Registry, RegistryOptions, RegistryUnreachable
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refused(grpc.RpcError, grpc.Call):  # type: ignore[misc]
    """A status, as grpcio raises it."""

    def __init__(self, code: grpc.StatusCode, text: str) -> None:
        self._code, self._text = code, text

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._text


ENDED = Refused(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
NO_USERS = Refused(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
WRONG = Refused(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: authentication failed, invalid user ID or password")


class Service:
    """Both services. `answers` are what reads get in turn, `logins` what logins do."""

    def __init__(self) -> None:
        self.answers: list[Refused | None] = []
        self.logins: list[Refused | str] = []
        self.shown: list[str] = []

    def stub(self, _channel: grpc.Channel) -> Service:
        return self

    def Authenticate(self, _request: object, **_options: Any) -> rpc_pb2.AuthenticateResponse:  # noqa: N802 - as on the wire
        login = self.logins.pop(0)
        if isinstance(login, Refused):
            raise login
        return rpc_pb2.AuthenticateResponse(token=login)

    def Range(self, _request: object, **options: Any) -> rpc_pb2.RangeResponse:  # noqa: N802 - as on the wire
        self.shown.append(dict(options["metadata"]).get("token", ""))
        refusal = self.answers.pop(0)
        if refusal is not None:
            raise refusal
        return rpc_pb2.RangeResponse()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setattr(registry, "KV", made.stub)
    monkeypatch.setattr(registry, "Auth", made.stub)
    return made


@pytest.fixture
def opened(service: Service) -> Iterator[Registry]:
    options = RegistryOptions(
        endpoints=["127.0.0.1:1"],
        user="finder",
        password="secret",
        request_seconds=1,
        dial_seconds=1,
        keepalive_time_seconds=2,
        keepalive_timeout_seconds=6,
    )
    with Registry(options) as made:
        yield made


def test_a_token_that_has_ended_is_replaced(service: Service, opened: Registry) -> None:
    service.logins = ["first", "second"]
    service.answers = [None, ENDED, None]
    opened.log_in()
    assert opened.get(b"k") == []
    assert opened.get(b"k") == []
    assert service.shown == ["first", "first", "second"]


def test_a_new_token_that_is_refused_as_well(service: Service, opened: Registry) -> None:
    service.logins = ["first", "second"]
    service.answers = [ENDED, ENDED]
    opened.log_in()
    with pytest.raises(RegistryUnreachable, match="invalid auth token"):
        opened.get(b"k")
    assert service.shown == ["first", "second"]


def test_a_service_without_users_serves_anybody(service: Service, opened: Registry) -> None:
    service.logins = [NO_USERS, NO_USERS]
    service.answers = [None]
    opened.log_in()
    assert opened.get(b"k") == []
    assert service.shown == [""]


def test_a_login_that_is_refused(service: Service, opened: Registry) -> None:
    service.logins = [WRONG]
    with pytest.raises(RegistryUnreachable, match="invalid user ID or password"):
        opened.log_in()
