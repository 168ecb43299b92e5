"""Who may what, told from the log alone: users, roles and keys after each entry, by rules written a second time.

    every entry             takes effect where its signer had the right in the state before it, and nowhere else: so the
                            store's revision, on every member, is the one that follows from the rules
    an answer to a write    is judged by the state before its entry
    an answer to a read     by the state of the member that gave it, and that holds all changes of users that anybody
                            had heard of when it was asked for (unless it is serializable)
    an event of a watcher   by the latest of: the watcher's beginning, the event's entry, the member's state

Who calls is what the outside knows: the user who logged in, and the entry of that login. It counts no more once the
user is deleted or has another password, or users were switched off since.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from etcdpy.errors import (
    AuthOldRevision,
    EtcdError,
    PermissionDenied,
    UserEmpty,
)
from etcdpy.proto import auth_pb2, raft_internal_pb2, rpc_pb2
from tests.simulation.violation import Violation
from tests.support.mvcc_model import Model, in_range

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from etcdpy.raft.entry import Entry

ROOT = "root"
USER_KEYS = (b"a", b"b", b"c", b"d")
PROBES = sorted(point for key in (*USER_KEYS, b"\0", b"e", b"leased/", b"z") for point in (key, key + b"\0"))
"""Keys by which ranges are compared: all that requests and permissions begin or end with, and what is next to them."""
READ, WRITE, READWRITE = auth_pb2.Permission.READ, auth_pb2.Permission.WRITE, auth_pb2.Permission.READWRITE
REFUSALS = (PermissionDenied, AuthOldRevision, UserEmpty)
"""What a request is told that was refused for who asked, by whoever applied it."""


@dataclass(frozen=True)
class User:
    password: str | None
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class State:
    """Of users and roles after an entry."""

    enabled: bool = False
    revision: int = 1
    users: Mapping[str, User] = field(default_factory=dict)
    roles: Mapping[str, frozenset[tuple[int, bytes, bytes]]] = field(default_factory=dict)

    def is_root(self, name: str) -> bool:
        return name in self.users and ROOT in self.users[name].roles

    def may(self, name: str, kind: int, key: bytes, end: bytes = b"") -> bool:
        """Whether a user may read (or write) all of a range."""
        if name not in self.users:
            return False
        if self.is_root(name):
            return True
        granted = [
            permission
            for role in self.users[name].roles
            for permission in self.roles.get(role, ())
            if permission[0] in (kind, READWRITE)
        ]
        points = [point for point in PROBES if in_range(point, key, end)] if end else [key]
        return all(any(in_range(point, start, stop) for _, start, stop in granted) for point in points)


class Caller(NamedTuple):
    """Who asks: nobody (no name), who has a certificate (`since` 0), or who logged in by the entry `since`."""

    name: str
    since: int = 0


@dataclass
class Told:
    """One call that was answered, and what the outside knows of it."""

    who: Caller
    kind: str
    request: Any
    error: EtcdError | None
    payload: bytes | None
    asked_at: int
    answered_at: int
    known: int
    """The last change of users that anybody had been told of when it was asked for."""
    linearizable: bool = False
    detail: Any = None
    """Of a login: name, password, entry. Of a question about a lease: the keys that were shown."""


@dataclass
class Seen:
    """What came to a watcher in one message: keys with their revisions, none for that it was made."""

    who: Caller
    key: bytes
    end: bytes
    begun_at: int
    told_at: int
    revisions: tuple[int, ...] = ()


class RightsLog:
    """The judge. `committed` and `state` raise Violation at once, `judge` when the run is over."""

    def __init__(self) -> None:
        self.states = [State()]
        """After each entry."""
        self.revisions = [1]
        self.allowed: list[bool] = [True]
        """Whether the entry's signer had the right."""
        self.signers = [""]
        self.ends: list[tuple[int, str | None]] = []
        """Where in the log the logins of a user (None: of all) ended."""
        self.store = Model()
        self.places: dict[int, int] = {1: 0}
        """Revision of the store -> the entry that made it."""
        self.payloads: dict[bytes, int] = {}
        self.known = 0
        """The last change of users that somebody was told of."""
        self.told: list[Told] = []
        self.seen: list[Seen] = []

    # --- the log ---

    def committed(self, entries: Sequence[Entry]) -> None:
        """Entries are applied somewhere, in their order."""
        for entry in entries:
            if entry.index == len(self.states):
                self._step(entry)

    def _step(self, entry: Entry) -> None:
        state, allowed, signer = self.states[-1], True, ""
        after = state
        if not entry.type and entry.data:
            request = raft_internal_pb2.InternalRaftRequest.FromString(entry.data)
            kind, body = next(
                (each.name, value) for each, value in request.ListFields() if each.name not in ("header", "ID")
            )
            self.payloads[entry.data], signer = entry.index, request.header.username
            allowed = not state.enabled or self._is_allowed(state, request.header, kind, body)
            if allowed and kind in _CHANGES:
                after = _CHANGES[kind](state, body)
                self._note_ends(kind, body, entry.index, changed=after is not state)
            elif allowed:
                self._write(kind, body)
        self.states.append(after)
        self.allowed.append(allowed)
        self.signers.append(signer)
        self.revisions.append(self.store.revision)
        self.places.setdefault(self.store.revision, entry.index)

    def state(self, member: int, index: int, revision: int, auth_revision: int) -> None:
        """What a member has after applying everything up to an index."""
        expected = self.revisions[index], self.states[index].revision
        if (revision, auth_revision) != expected:
            raise Violation(
                f"{member} is at revision {revision}, of users {auth_revision}, after entry {index}; "
                f"with what its signers may do it is {expected}"
            )

    # --- the rules ---

    def _is_allowed(self, state: State, header: Any, kind: str, body: Any) -> bool:
        name = header.username
        if kind in _CHANGES:
            return state.is_root(name)  # by the name alone, as on etcd

        def may(right: int, key: bytes, end: bytes = b"") -> bool:
            return header.auth_revision == state.revision and state.may(name, right, key, end)

        if kind == "lease_revoke":
            return self._may_end(state, name, body.ID, may)
        check = _NEEDS.get(kind)
        return check is None or check(self, state, name, may, body)

    def _may_end(self, state: State, name: str, lease: int, may: Callable[..., bool]) -> bool:
        return state.is_root(name) or all(may(WRITE, key) for key in self.keys_of(lease, self.store.revision))

    def keys_of(self, lease: int, revision: int) -> list[bytes]:
        """The keys that hang on a lease at a revision of the store."""
        return [key for key, kv in self.store.snapshots[revision].items() if kv.lease == lease]

    def _may_put(self, state: State, name: str, may: Callable[..., bool], body: Any) -> bool:
        if not may(WRITE, body.key) or (body.lease and not self._may_end(state, name, body.lease, may)):
            return False
        return not body.prev_kv or may(READ, body.key)

    def _may_delete(self, _state: State, _name: str, may: Callable[..., bool], body: Any) -> bool:
        return may(WRITE, body.key, body.range_end) and (not body.prev_kv or may(READ, body.key, body.range_end))

    def _may_range(self, _state: State, _name: str, may: Callable[..., bool], body: Any) -> bool:
        return may(READ, body.key, body.range_end)

    def _may_txn(self, state: State, name: str, may: Callable[..., bool], body: Any) -> bool:
        if not all(may(READ, each.key, each.range_end) for each in body.compare):
            return False
        for operation in (*body.success, *body.failure):
            kind = operation.WhichOneof("request")
            check = _NEEDS[kind.removeprefix("request_")]
            if not check(self, state, name, may, getattr(operation, kind)):
                return False
        return True

    # --- what entries do ---

    def _write(self, kind: str, body: Any) -> None:
        try:
            if kind in ("put", "delete_range", "txn"):
                getattr(self.store, kind)(body)
            elif kind == "lease_grant":
                self.store.leases |= {body.ID}
            elif kind == "lease_revoke" and body.ID in self.store.leases:
                keys = sorted(self.keys_of(body.ID, self.store.revision))
                deletions = [rpc_pb2.DeleteRangeRequest(key=key) for key in keys]
                operations = [rpc_pb2.RequestOp(request_delete_range=each) for each in deletions]
                self.store.txn(rpc_pb2.TxnRequest(success=operations))
                self.store.leases -= {body.ID}
        except EtcdError:
            pass  # came to nothing

    def _note_ends(self, kind: str, body: Any, index: int, *, changed: bool) -> None:
        if changed and kind in ("auth_user_delete", "auth_user_change_password"):
            self.ends.append((index, body.name))
        elif changed and kind == "auth_disable":
            self.ends.append((index, None))

    # --- answers ---

    def is_valid(self, who: Caller, index: int) -> bool:
        """Whether who asks is somebody in the state after an entry."""
        if not who.name or who.name not in self.states[index].users:
            return False
        if not who.since:
            return True
        ended = any(who.since < end <= index and name in (None, who.name) for end, name in self.ends)
        return who.since <= index and not ended

    def judge(self) -> None:
        """Everything that was told."""
        for told in self.told:
            place = self.payloads.get(told.payload, 0) if told.payload is not None else 0
            if told.kind == "Authenticate":
                self._judge_login(told)
            elif told.error is None and told.payload is not None:
                self._judge_write(told, place)
            elif told.error is None:
                self._judge_read(told)
            elif place and self.allowed[place] and isinstance(told.error, REFUSALS):
                raise Violation(f"{told} is refused at {place}, where it is allowed: {self.states[place - 1]}")
        for seen in self.seen:
            self._judge_event(seen)

    def _judge_login(self, told: Told) -> None:
        if told.error is not None:
            return
        name, password, place = told.detail
        state = self.states[place - 1]
        if not state.enabled or name not in state.users or state.users[name].password != password:
            raise Violation(f"{told} logs in at {place}, in {state}")

    def _judge_write(self, told: Told, place: int) -> None:
        if not place:
            raise Violation(f"{told} was answered, but is in no log")
        if not self.allowed[place]:
            raise Violation(f"{told} was answered at {place}, which {self.states[place - 1]} forbids")
        before, signer = self.states[place - 1], self.signers[place]
        if signer not in ("", told.who.name):
            raise Violation(f"{told} stands at {place} in the name of {signer!r}")
        # What is judged by the name alone, or needs no right, is judged by who it was when it came in.
        last = max(told.asked_at, told.who.since) if told.kind in _BY_NAME else place - 1
        if self.states[last].enabled and before.enabled and not self._is_somebody(told, last):
            raise Violation(f"{told} was answered at {place}, by when {told.who} was nobody any more: {self.ends}")

    def _is_somebody(self, told: Told, index: int) -> bool:
        """On etcd any common name is somebody to those who ask about leases without keys."""
        any_name = told.kind.startswith("Lease") and told.who.name and not told.who.since
        return bool(any_name) or self.is_valid(told.who, index)

    def _judge_read(self, told: Told) -> None:
        place = told.answered_at
        state = self.states[place]
        if told.linearizable and place < told.known:
            raise Violation(f"{told} does not know of the change of users at {told.known}")
        if not state.enabled:
            return
        if not self._may_now(told, state, place) or not self._is_somebody(told, place):
            raise Violation(f"{told} was answered at {place}, which {state} forbids; logins ended at {self.ends}")

    def _may_now(self, told: Told, state: State, place: int) -> bool:
        def may(right: int, key: bytes, end: bytes = b"") -> bool:
            return state.may(told.who.name, right, key, end)

        if told.kind == "LeaseKeepAlive":
            return state.is_root(told.who.name) or all(
                may(WRITE, key) for key in self.keys_of(told.request.ID, self.revisions[place])
            )
        if told.kind == "LeaseTimeToLive":
            return all(may(READ, key) for key in told.detail)
        check = _NEEDS.get({"Range": "range", "Txn": "txn"}.get(told.kind, ""))
        return check is None or check(self, state, told.who.name, may, told.request)

    def _judge_event(self, seen: Seen) -> None:
        first = max(seen.begun_at, seen.told_at)
        if not seen.revisions and self.states[first].enabled and not self.is_valid(seen.who, first):
            raise Violation(f"{seen} begins at {first}, where {seen.who} is nobody")
        for place in [max(first, self.places[each]) for each in seen.revisions] or [first]:
            state = self.states[place]
            if state.enabled and not state.may(seen.who.name, READ, seen.key, seen.end):
                raise Violation(f"{seen} is told at {place}, which {state} forbids")


_NEEDS: dict[str, Callable[..., bool]] = {
    "put": RightsLog._may_put,
    "delete_range": RightsLog._may_delete,
    "range": RightsLog._may_range,
    "txn": RightsLog._may_txn,
}


# --- changes of users and roles: each gives the state after it, the same one where it came to nothing ---


def _password(hashed: str) -> str:
    return base64.b64decode(hashed).decode().rpartition("/")[0]


def _counted(state: State, **changes: Any) -> State:
    return replace(state, revision=state.revision + 1, **changes)


def _enable(state: State, _body: Any) -> State:
    return replace(state, enabled=True) if not state.enabled and state.is_root(ROOT) else state


def _disable(state: State, _body: Any) -> State:
    return _counted(state, enabled=False) if state.enabled else state


def _user_add(state: State, body: Any) -> State:
    if not body.name or body.name in state.users:
        return state
    password = None if body.options.no_password else _password(body.hashedPassword)
    return _counted(state, users={**state.users, body.name: User(password)})


def _user_delete(state: State, body: Any) -> State:
    if body.name not in state.users or (state.enabled and body.name == ROOT):
        return state
    return _counted(state, users={name: user for name, user in state.users.items() if name != body.name})


def _change_password(state: State, body: Any) -> State:
    user = state.users.get(body.name)
    if user is None:
        return state
    changed = user if user.password is None else replace(user, password=_password(body.hashedPassword))
    return _counted(state, users={**state.users, body.name: changed})


def _grant_role(state: State, body: Any) -> State:
    user = state.users.get(body.user)
    if user is None or body.role in user.roles or (body.role != ROOT and body.role not in state.roles):
        return state
    return _counted(state, users={**state.users, body.user: replace(user, roles=user.roles | {body.role})})


def _revoke_role(state: State, body: Any) -> State:
    user = state.users.get(body.name)
    if user is None or body.role not in user.roles or (state.enabled and body.name == body.role == ROOT):
        return state
    return _counted(state, users={**state.users, body.name: replace(user, roles=user.roles - {body.role})})


def _role_add(state: State, body: Any) -> State:
    if not body.name or body.name in state.roles:
        return state
    return _counted(state, roles={**state.roles, body.name: frozenset()})


def _role_delete(state: State, body: Any) -> State:
    if body.role not in state.roles or (state.enabled and body.role == ROOT):
        return state
    users = {name: replace(user, roles=user.roles - {body.role}) for name, user in state.users.items()}
    return _counted(state, users=users, roles={name: each for name, each in state.roles.items() if name != body.role})


def _grant_permission(state: State, body: Any) -> State:
    role = state.roles.get(body.name)
    if role is None:
        return state
    place = body.perm.key, body.perm.range_end
    others = frozenset(each for each in role if each[1:] != place)
    return _counted(state, roles={**state.roles, body.name: others | {(body.perm.permType, *place)}})


def _revoke_permission(state: State, body: Any) -> State:
    role = state.roles.get(body.role)
    if role is None:
        return state
    others = frozenset(each for each in role if each[1:] != (body.key, body.range_end))
    return state if len(others) == len(role) else _counted(state, roles={**state.roles, body.role: others})


_CHANGES: dict[str, Callable[[State, Any], State]] = {
    "auth_enable": _enable,
    "auth_disable": _disable,
    "auth_user_add": _user_add,
    "auth_user_delete": _user_delete,
    "auth_user_change_password": _change_password,
    "auth_user_grant_role": _grant_role,
    "auth_user_revoke_role": _revoke_role,
    "auth_role_add": _role_add,
    "auth_role_delete": _role_delete,
    "auth_role_grant_permission": _grant_permission,
    "auth_role_revoke_permission": _revoke_permission,
}

_BY_NAME = frozenset(
    (
        *("LeaseGrant", "LeaseRevoke", "AuthEnable", "AuthDisable"),
        *(f"User{each}" for each in ("Add", "Delete", "ChangePassword", "GrantRole", "RevokeRole")),
        *(f"Role{each}" for each in ("Add", "Delete", "GrantPermission", "RevokePermission")),
    )
)
"""Methods that, where they are applied, need no right, or the name of their signer alone."""
