"""Users and roles over a backend: what is stored, what is concluded, and what is forgotten when it changes."""

from __future__ import annotations

import base64

import pytest

from etcdpy.auth import rules
from etcdpy.auth.identity import NOBODY, Identity
from etcdpy.auth.store import AuthStore
from etcdpy.auth.tokens import Found, SimpleTokens
from etcdpy.errors import AuthOldRevision, PermissionDenied, UserEmpty, UserNotFound
from etcdpy.proto import auth_pb2, rpc_pb2
from tests.support.memory_backend import MemoryBackend

READ, READWRITE = auth_pb2.Permission.READ, auth_pb2.Permission.READWRITE
HASH = base64.b64encode(b"$2a$04$hash").decode()


class NoLeases:
    def keys_of(self, lease_id: int) -> list[bytes]:
        return []


@pytest.fixture
def store() -> AuthStore:
    """With root, and a user who may read [a, c)."""
    store = AuthStore(MemoryBackend(), SimpleTokens(300))
    store.add_user("root", HASH, no_password=False)
    store.grant_role("root", "root")
    store.add_user("u", HASH, no_password=False)
    store.add_role("r")
    store.grant_permission("r", auth_pb2.Permission(permType=READ, key=b"a", range_end=b"c"))
    store.grant_role("u", "r")
    store.enable()
    return store


def reopened(store: AuthStore) -> AuthStore:
    backend = store._backend
    assert isinstance(backend, MemoryBackend)
    again = AuthStore(backend.copy(), SimpleTokens(300))
    again.restore()
    return again


def test_everything_survives_a_restart(store: AuthStore) -> None:
    again = reopened(store)
    assert again.enabled
    assert again.revision == store.revision == 7
    assert again.users == ["root", "u"]
    assert again.roles_of("u") == ["r"]
    assert again.password_of("u") == b"$2a$04$hash"
    assert [(each.key, each.range_end) for each in again.permissions_of("r")] == [(b"a", b"c")]
    assert again.rights_of("u") == store.rights_of("u")


def test_an_old_revision_is_old_after_a_restart_too(store: AuthStore) -> None:
    """etcd issue 11651: members that came back with another revision than the others applied other requests."""
    before = store.identity("u")
    store.add_role("other")
    again = reopened(store)
    with pytest.raises(AuthOldRevision):
        rules.check_read(again, before, b"a")
    rules.check_read(again, again.identity("u"), b"a")


def test_a_new_store_counts_from_one_and_writes_nothing() -> None:
    backend = MemoryBackend()
    store = AuthStore(backend, SimpleTokens(300))
    store.restore()
    assert store.revision == 1
    assert not backend.items()
    store.add_role("r")
    assert store.revision == 2


def test_stored_as_etcd_stores_it(store: AuthStore) -> None:
    backend = store._backend
    assert backend.get(b"uauth\0authEnabled") == b"\x01"
    assert backend.get(b"uauth\0authRevision") == (7).to_bytes(8, "big")
    user = auth_pb2.User.FromString(backend.get(b"uauthUsers\0u") or b"")
    assert user == auth_pb2.User(name=b"u", password=b"$2a$04$hash", roles=["r"], options=auth_pb2.UserAddOptions())
    assert user.HasField("options")
    store.delete_user("u")
    assert backend.get(b"uauthUsers\0u") is None


def test_rights_follow_every_change(store: AuthStore) -> None:
    def may_read(key: bytes) -> bool:
        try:
            rules.check_read(store, store.identity("u"), key)
        except PermissionDenied:
            return False
        return True

    assert may_read(b"b")
    assert not may_read(b"c")
    store.grant_permission("r", auth_pb2.Permission(permType=READWRITE, key=b"c"))
    assert may_read(b"c")
    store.revoke_permission("r", b"a", b"c")
    assert not may_read(b"b")
    store.grant_role("u", "root")
    assert may_read(b"z")
    store.revoke_role("u", "root")
    store.delete_role("r")
    assert not may_read(b"c")
    store.delete_user("u")
    assert not may_read(b"c")


def test_an_identity_is_as_old_as_the_revision_it_names(store: AuthStore) -> None:
    who = store.identity("u")
    assert store.identity("u") is who
    store.add_role("other")
    assert store.identity("u").revision == who.revision + 1
    with pytest.raises(AuthOldRevision):
        rules.check_read(store, who, b"a")
    with pytest.raises(UserEmpty):
        rules.check_read(store, NOBODY, b"a")
    with pytest.raises(PermissionDenied):
        rules.check_read(store, store.identity("gone"), b"a")


def test_administration_is_judged_by_name_alone(store: AuthStore) -> None:
    old = Identity("root", 1)
    rules.check_admin(store, old)
    for name, error in (("", UserEmpty), ("gone", UserNotFound), ("u", PermissionDenied)):
        with pytest.raises(error):
            rules.check_admin(store, Identity(name, store.revision))


def test_stamps_name_the_identity() -> None:
    who = Identity("käthe", 300)
    again = Identity.from_stamp(who.stamp)
    assert (again.name, again.revision, again.stamp) == (who.name, who.revision, who.stamp)
    assert NOBODY.stamp == b""


def test_each_change_is_told_when_it_counts(store: AuthStore) -> None:
    told: list[tuple[bool, int]] = []
    store.on_change = lambda: told.append((store.enabled, store.revision))
    store.disable()
    store.disable()
    store.enable()
    store.add_role("x")
    store.grant_role("u", "r")  # held already
    assert told == [(False, 8), (True, 8), (True, 9)]


def test_tokens_end_with_their_user(store: AuthStore) -> None:
    token = store.log_in("u", "letters", 5, now=0.0)
    assert token == "letters.5"
    assert store.tokens.find(token, 1.0, 0.0) == Found("u", None, 1.0)
    store.change_password("u", HASH)
    assert store.tokens.find(token, 1.0, 0.0) is None
    token = store.log_in("u", "letters", 6, now=0.0)
    store.delete_user("u")
    assert store.tokens.find(token, 1.0, 0.0) is None
    token = store.log_in("root", "letters", 7, now=0.0)
    store.disable()
    store.enable()
    assert store.tokens.find(token, 1.0, 0.0) is None


def test_tokens_end_where_another_members_state_has_other_users(store: AuthStore) -> None:
    """Whoever was deleted and made anew in the entries that were passed over is somebody else."""
    backend = store._backend
    assert isinstance(backend, MemoryBackend)
    token = store.log_in("u", "letters", 5, now=0.0)
    store.restore()
    assert store.tokens.find(token, 1.0, 0.0) is not None
    other = reopened(store)
    other.delete_user("u")
    other.add_user("u", HASH, no_password=False)
    assert isinstance(other._backend, MemoryBackend)
    for key, value in other._backend.scan(b"", b"\xff"):
        backend.put(key, value)
    store.restore()
    assert store.exists("u")
    assert store.tokens.find(token, 1.0, 0.0) is None
    assert store.log_in("u", "letters", 9, now=1.0) == "letters.9"
    assert store.tokens.find("letters.9", 1.0, 0.0) is not None


def test_a_transaction_is_judged_whole(store: AuthStore) -> None:
    nested = rpc_pb2.TxnRequest(
        failure=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"b", range_end=b"d"))]
    )
    request = rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_txn=nested)])
    who = store.identity("u")
    with pytest.raises(PermissionDenied):
        rules.check_txn(store, NoLeases(), who, request)
    nested.failure[0].request_range.range_end = b"c"
    request.success[0].request_txn.CopyFrom(nested)
    rules.check_txn(store, NoLeases(), who, request)


def test_a_role_that_was_granted_and_is_not_stored_grants_nothing(store: AuthStore) -> None:
    """etcd's own members leave none behind, but a backend file may hold one."""
    user = auth_pb2.User(name=b"u", roles=["ghost"])
    store._backend.put(b"uauthUsers\0u", user.SerializeToString())
    role = auth_pb2.Role(name=b"empty", keyPermission=[auth_pb2.Permission(permType=READWRITE, range_end=b"\0")])
    store._backend.put(b"uauthRoles\0empty", role.SerializeToString())
    again = reopened(store)
    again.grant_role("u", "empty")
    with pytest.raises(PermissionDenied):
        rules.check_read(again, again.identity("u"), b"a")
