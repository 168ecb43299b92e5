"""Who calls, and who may: by token, by certificate, through the gateway, and when nobody tells."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from etcdpy.api.callers import Callers, TokenWaits, fingerprint
from etcdpy.auth.identity import NOBODY
from etcdpy.auth.store import AuthStore
from etcdpy.auth.tokens import SimpleTokens
from etcdpy.errors import AuthOldRevision, InvalidAuthToken, PermissionDenied, UserEmpty
from etcdpy.limits import LEASE_KEYS_CHECKED_PER_SLICE
from etcdpy.proto import auth_pb2
from etcdpy.transport.calls import Peer
from etcdpy.transport.heads import Memo
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Coroutine

HASH = base64.b64encode(b"hash").decode()


class Leases:
    """Lease 1 has many keys, the last of which is not for everybody; others have none."""

    keys: ClassVar = [*[b"a"] * (5 * LEASE_KEYS_CHECKED_PER_SLICE), b"b"]

    def keys_of(self, lease_id: int) -> list[bytes]:
        return self.keys if lease_id == 1 else []


class World:
    """Users root and u, switched on; `now` is the clock."""

    def __init__(self, *, by_certificate: bool = False) -> None:
        self.now = 0.0
        self.store = AuthStore(MemoryBackend(), SimpleTokens(10))
        for name in ("root", "u"):
            self.store.add_user(name, HASH, no_password=False)
        self.store.grant_role("root", "root")
        self.store.add_role("r")
        self.store.grant_permission("r", auth_pb2.Permission(permType=auth_pb2.Permission.READ, key=b"a"))
        self.store.grant_role("u", "r")
        self.store.enable()
        self.callers = Callers(
            self.store,
            Leases(),
            clock=lambda: self.now,
            wall_clock=lambda: 0.0,
            by_certificate=by_certificate,
        )
        self.applied = 5
        self.waits = TokenWaits(self.store, lambda: self.applied, lambda: self.now, seconds=7)

    def token(self, name: str) -> str:
        return self.store.log_in(name, "letters" + name, self.applied - 1, self.now)


def call(token: str = "", *, cn: str | None = None, memo: Memo | None = None, **metadata: str) -> Any:
    fields = {name.replace("_", "-").encode(): [value.encode()] for name, value in metadata.items()}
    if token:
        fields[b"token"] = [token.encode()]
    failed: list[Any] = []
    return SimpleNamespace(
        head=SimpleNamespace(metadata=fields, memo=memo or Memo()),
        peer=Peer("addr", cn, cn is not None),
        done=False,
        fail=failed.append,
        failed=failed,
    )


def test_tokens_name_the_user() -> None:
    world = World()
    token = world.token("u")
    assert world.callers.identify(call(token)).name == "u"
    assert world.callers.identify(call(authorization=token)).name == "u"
    assert world.callers.identify(call(authorization=f"Bearer {token}")).name == "u"
    assert world.callers.identify(call()) is NOBODY
    with pytest.raises(InvalidAuthToken):
        world.callers.identify(call("x.1"))
    world.store.disable()
    assert world.callers.identify(call("x.1")) is NOBODY


def test_the_keys_of_a_lease_are_checked_in_slices() -> None:
    world = World()
    caller = call(world.token("u"))

    async def turns_until_refused(check: Coroutine[Any, Any, object]) -> int:
        checking = asyncio.ensure_future(check)
        turns = 0
        while not checking.done():
            await asyncio.sleep(0)
            turns += 1
        assert isinstance(checking.exception(), PermissionDenied)
        return turns

    async def run() -> None:
        who = await world.callers.check_lease_read(caller, 2)
        assert await turns_until_refused(world.callers.check_lease_read(caller, 2, 1)) > 5
        assert await turns_until_refused(world.callers.check_keys_shown(who, Leases.keys)) > 5
        await world.callers.check_keys_shown(who, Leases.keys[:-1])

    asyncio.run(run())


def test_certificates_name_the_user_where_the_flag_says_so() -> None:
    assert World().callers.identify(call(cn="u")) is NOBODY
    world = World(by_certificate=True)
    assert world.callers.identify(call(cn="u")).name == "u"
    assert world.callers.identify(call(world.token("root"), cn="u")).name == "root"
    assert world.callers.identify(call(cn="u", grpcgateway_accept="*/*")) is NOBODY
    with pytest.raises(UserEmpty):
        world.callers.require_user(call(cn=""))
    with pytest.raises(PermissionDenied):
        world.callers.check_read(call(cn=""), b"a")


def test_what_is_remembered_of_a_head_ends_with_any_change() -> None:
    world = World()
    memo = Memo()
    token = world.token("u")
    world.callers.check_key_read(call(token, memo=memo), b"a")
    assert memo.caller is not None
    world.callers.check_key_read(call(token, memo=memo), b"a")
    with pytest.raises(PermissionDenied):
        world.callers.check_key_read(call(token, memo=memo), b"b")
    world.store.revoke_permission("r", b"a", b"")
    with pytest.raises(PermissionDenied):
        world.callers.check_key_read(call(token, memo=memo), b"a")
    world.store.change_password("u", HASH)
    with pytest.raises(InvalidAuthToken):
        world.callers.identify(call(token, memo=memo))


def test_what_nobody_began_is_not_answered_once_users_are_switched_on() -> None:
    world = World()
    world.store.disable()
    before = world.callers.check_read(call(), b"a")
    assert before is NOBODY
    world.callers.check_unchanged(before)
    world.store.enable()
    with pytest.raises(AuthOldRevision):
        world.callers.check_unchanged(before)


def test_what_is_remembered_of_a_head_keeps_no_token_alive_and_ends_none() -> None:
    world = World()
    memo = Memo()
    token = world.token("u")
    for _ in range(30):
        world.now += 0.9
        assert world.callers.identify(call(token, memo=memo)).name == "u"
    world.now += 11.5
    with pytest.raises(InvalidAuthToken):
        world.callers.identify(call(token, memo=memo))


def test_the_name_for_limits_and_audit_refuses_nobody() -> None:
    world = World()
    assert world.callers.name_of(call(world.token("u"), cn="machine")) == "u"
    assert world.callers.name_of(call("x.1", cn="machine")) == ""
    assert world.callers.name_of(call(cn="machine")) == "machine"
    assert world.callers.name_of(call(cn="machine", grpcgateway_accept="*/*")) == ""
    assert world.callers.name_of(call()) == ""
    world.store.disable()
    assert world.callers.name_of(call("x.1", cn="machine")) == "machine"


def test_a_call_waits_for_its_login() -> None:
    world = World()
    went_on: list[str] = []
    early = call("lettersu.7")
    assert world.waits.entry_for(early) == 8
    world.waits.wait(8, early, lambda: went_on.append(world.callers.identify(early).name))
    world.waits.serve()
    assert not went_on
    world.applied = 8
    world.token("u")
    world.waits.serve()
    assert went_on == ["u"]
    assert world.waits.entry_for(call("lettersu.7")) == 0
    assert world.waits.entry_for(call("other.7")) == 0, "that entry is applied: the token is none"


def test_a_call_waits_no_longer_than_a_request() -> None:
    world = World()
    late, gone = call("x.1000000"), call("y.1000000")
    for each in (late, gone):
        world.waits.wait(1_000_000, each, partial(world.callers.check_admin, each))
    world.now = 6.9
    world.waits.expire()
    assert len(world.waits) == 2
    gone.done = True
    world.now = 7.0
    world.waits.expire()
    assert len(world.waits) == 0
    assert [type(error) for error in late.failed] == [InvalidAuthToken]
    assert gone.failed == []


def test_only_so_many_calls_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdpy.api.callers.TOKEN_WAITS_MAX", 1)
    world = World()
    world.waits.wait(9, call("x.8"), lambda: None)
    assert world.waits.entry_for(call("y.8")) == 0


def test_a_fingerprint_shows_nothing_of_the_token() -> None:
    assert fingerprint("letters.5") == fingerprint("letters.5") != fingerprint("letters.6")
    assert len(fingerprint("letters.5")) == 12
