"""`etcdpy.client` with users, on real etcd and on etcdpy: it logs in by itself, and again when its token is no good."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from etcdpy.client import AsyncClient, Client
from etcdpy.errors import AuthFailed, InvalidAuthToken, PermissionDenied, UserEmpty
from etcdpy.proto import auth_pb2
from tests.interop.conftest import BOTH_KINDS
from tests.support.client import Client as RawClient
from tests.support.client import wait_until
from tests.support.members import Member
from tests.support.users import ROOT_PASSWORD, As

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN_SECONDS = 1


@pytest.fixture(scope="module", params=BOTH_KINDS)
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A member with users, whose tokens do not live long."""
    flags = [f"--auth-token-ttl={TOKEN_SECONDS}", "--bcrypt-cost=4"]
    with Member(request.param, tmp_path_factory.mktemp("secured"), flags=flags) as member:
        with RawClient.of(member) as raw:
            As(raw).enable()
        yield member


@pytest.fixture(scope="module")
def root(secured: Member) -> Iterator[Client]:
    with Client(secured.endpoint, user="root", password=ROOT_PASSWORD) as client:
        client.role_add("keys")
        client.role_grant_permission("keys", auth_pb2.Permission.READWRITE, "keys/", prefix=True)
        client.user_add("alice", "secret")
        client.user_grant_role("alice", "keys")
        yield client


def alice(member: Member) -> Client:
    return Client(member.endpoint, user="alice", password="secret")


def test_who_one_is_decides(secured: Member, root: Client) -> None:
    assert root.auth_status().enabled
    with alice(secured) as client:
        client.put("keys/a", "1")
        with pytest.raises(PermissionDenied):
            client.put("other")
        with pytest.raises(PermissionDenied):
            client.watch("other")
    with Client(secured.endpoint) as nobody, pytest.raises(UserEmpty):
        nobody.get("keys/a")
    with Client(secured.endpoint, user="alice", password="wrong") as client, pytest.raises(AuthFailed):
        client.get("keys/a")


def test_a_token_that_has_ended_is_renewed(secured: Member, root: Client) -> None:
    token = root.authenticate("alice", "secret").token
    with alice(secured) as client, Client(secured.endpoint, token=token) as bound, client.lease(2) as lease:
        client.put("keys/a", "1", lease=lease.id)
        assert bound.get("keys/a").kvs
        time.sleep(TOKEN_SECONDS + 2.5)  # etcd's simple tokens end on a second's tick after their time
        with pytest.raises(InvalidAuthToken):
            bound.get("keys/a")
        assert client.put("keys/b", "2").header.revision
        with client.watch("keys/", prefix=True) as watch:
            client.put("keys/c")
            assert next(iter(watch)).kv.key == b"keys/c"
        assert lease.alive


def test_changes_of_users_are_lived_through(secured: Member, root: Client) -> None:
    with alice(secured) as client:
        client.put("keys/a")
        root.role_add("another")
        root.role_delete("another")
        client.put("keys/a")
        assert [part.count for part in client.range_stream("keys/", prefix=True)]


def test_many_calls_ask_for_one_token(secured: Member, root: Client) -> None:
    async def play() -> None:
        async with AsyncClient(secured.endpoint, user="alice", password="secret") as client:
            await asyncio.gather(*(client.put(f"keys/{number}") for number in range(50)))

    labels = 'grpc_code="OK",grpc_method="Authenticate",grpc_service="etcdserverpb.Auth",grpc_type="unary"'
    logins = f"grpc_server_handled_total{{{labels}}}"
    before = secured.metric(logins)
    asyncio.run(play())
    wait_until(lambda: secured.metric(logins) > before)
    assert secured.metric(logins) == before + 1


def test_a_user_for_a_cluster_without_users_does_no_harm(member: Member, prefix: bytes) -> None:
    with Client(member.endpoint, user="alice", password="secret") as client:
        client.put(prefix)
