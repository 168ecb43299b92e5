"""Clients with users: each asks one thing at a time of any member, with whatever it has in hand to say who it is, an
old token now and then; and watchers, and who administers them.

Nothing is judged here: what was told goes to `rights.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etcdpy.errors import AuthOldRevision, InvalidAuthToken, UserEmpty
from etcdpy.proto import auth_pb2, rpc_pb2
from tests.simulation.door import DoorCall, DoorStream, Head
from tests.simulation.rights import READ, READWRITE, ROOT, USER_KEYS, WRITE, Caller, RightsLog, Seen, Told

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.clock import Handle, Time
    from tests.simulation.member import Process

USERS = ("u1", "u2", "u3")
CERTIFIED = "u3"
"""Has a certificate as well."""
ROLES = ("r1", "r2", "r3")
RANGES = ((b"a", b"c"), (b"b", b""), (b"c", b"e"), (b"d", b"\0"), (b"\0", b"\0"))
USER_CLIENTS = 5
ADMINISTRATORS = 2
USER_WATCHERS = 3
TOKENS_KEPT = 4


@dataclass
class World:
    """What clients with users share: `choose` gives a live process, or None."""

    time: Time
    draw: Random
    choose: Callable[[], Process | None]
    log: RightsLog
    trace: Callable[[str], None]


def any_password(draw: Random, user: str) -> str:
    """One of few, so that a login often succeeds."""
    return f"{user}'s {draw.randrange(2)}"


class Asker:
    """Asks one thing at a time, and goes on when it was answered, or has waited long enough."""

    patience = 1.0

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.draw = world.draw
        self.tokens: list[tuple[Caller, str]] = []
        """The newest last."""
        self.answers = 0
        self.stopped = False
        self.process: Process | None = None
        self._call: DoorCall | None = None
        self._timer: Handle | None = None
        self._heads: dict[str, Head] = {}
        self._head_of: Process | None = None

    @property
    def pause(self) -> float:
        """Mean seconds between two questions."""
        return 0.1

    @property
    def busy(self) -> bool:
        return self._call is not None

    def begin(self) -> None:
        self.world.time.after(self.draw.random() * self.pause, self._next)

    def _next(self) -> None:
        if self.stopped:
            return
        process = self.world.choose()
        if process is None:
            self.begin()
            return
        self.process = process
        self.act(process)

    def act(self, process: Process) -> None:
        """Ask something of it."""
        raise NotImplementedError

    def said(self, who: Caller, kind: str, request: Any, call: DoorCall) -> None:
        """The call was answered."""

    def head(self, process: Process, token: str) -> Head:
        """The same one for all calls to a process with a token."""
        if self._head_of is not process:
            self._head_of, self._heads = process, {}
        return self._heads.setdefault(token, Head(token))

    def who(self) -> tuple[Caller, str]:
        """Whom to be this time, and the token to show for it."""
        return self.tokens[-1] if self.tokens else (Caller(""), "")

    def ask(self, process: Process, kind: str, request: Any, *, linearizable: bool = False, detail: Any = None) -> None:
        who, token = (Caller(""), "") if kind == "Authenticate" else self.who()
        common_name = who.name if who.name and not who.since else ""
        known = self.world.log.known

        def told(call: DoorCall) -> None:
            if call is not self._call:
                return
            self._note(
                Told(
                    who,
                    kind,
                    request,
                    call.error,
                    call.payload,
                    call.asked_at,
                    call.answered_at,
                    known,
                    linearizable,
                    self._detail(kind, call) if detail is None else detail,
                )
            )
            self.said(who, kind, request, call)
            self._over()

        self._start(DoorCall(process.door, self.head(process, token), common_name, told), f"{kind} as {who}")
        assert self._call is not None
        process.door.call(kind, request, self._call)

    def _note(self, told: Told) -> None:
        self.answers += 1
        self.world.trace(f"{self.name} is told {told.error.message if told.error else 'well'} at {told.answered_at}")
        self.world.log.told.append(told)

    def _detail(self, kind: str, call: DoorCall) -> Any:
        if kind == "LeaseTimeToLive" and call.error is None:
            return list(rpc_pb2.LeaseTimeToLiveResponse.FromString(call.body).keys)
        return None

    def log_in(self, process: Process, name: str) -> None:
        """With a password that the user may have."""
        password = any_password(self.draw, name)

        def told(call: DoorCall) -> None:
            if call is not self._call:
                return
            place = 0
            if call.error is None:
                token = rpc_pb2.AuthenticateResponse.FromString(call.body).token
                place = int(token.rpartition(".")[2]) + 1
                self.tokens.append((Caller(name, place), token))
                del self.tokens[:-TOKENS_KEPT]
            detail = name, password, place
            self._note(
                Told(
                    Caller(name),
                    "Authenticate",
                    None,
                    call.error,
                    None,
                    call.asked_at,
                    call.answered_at,
                    0,
                    False,
                    detail,
                )
            )
            self._over()

        self._start(DoorCall(process.door, self.head(process, ""), "", told), f"log in as {name}")
        assert self._call is not None
        process.door.call("Authenticate", rpc_pb2.AuthenticateRequest(name=name, password=password), self._call)

    def _start(self, call: DoorCall, what: str) -> None:
        assert self.process is not None
        self.world.trace(f"{self.name} asks {self.process.id}: {what}")
        self._call = call
        self._timer = self.world.time.after(self.patience, self.lost)

    def lost(self) -> None:
        """The member that was asked is gone, or has taken too long."""
        if self._call is not None:
            if self._call.on_cancel is not None and self.process is not None and self.process.alive:
                self._call.on_cancel()
            self._call.done = True
            self._over()

    def _over(self) -> None:
        self._call = self.process = None
        if self._timer is not None:
            self._timer.cancel()
        self.begin()


class UserClient(Asker):
    def __init__(self, name: str, world: World, user: str) -> None:
        super().__init__(name, world)
        self._user = user
        self._leases: list[int] = []
        self._number = 0
        self._must_log_in = False

    def who(self) -> tuple[Caller, str]:
        chance = self.draw.random()
        if self._user == CERTIFIED and chance < 0.4:
            return Caller(CERTIFIED), ""
        if chance < 0.03:
            return Caller(""), ""
        if self.tokens and chance < 0.25:
            return self.draw.choice(self.tokens)
        return super().who()

    def said(self, who: Caller, kind: str, request: Any, call: DoorCall) -> None:
        stale = isinstance(call.error, InvalidAuthToken | AuthOldRevision | UserEmpty)
        self._must_log_in = stale and self.draw.random() < 0.8
        if kind == "LeaseGrant" and call.error is None:
            self._leases.append(request.ID)
            del self._leases[:-3]

    def act(self, process: Process) -> None:
        if self._must_log_in:
            self._must_log_in = False
            self.log_in(process, self._user)
            return
        kinds = (
            self._put,
            self._get,
            self._range,
            self._delete,
            self._txn,
            self._read_txn,
            self._grant,
            self._use_lease,
        )
        self.draw.choices(kinds, (30, 25, 8, 6, 12, 4, 4, 10))[0](process)

    def _value(self) -> bytes:
        self._number += 1
        return f"{self.name}.{self._number}".encode()

    def _key(self) -> bytes:
        return self.draw.choice(USER_KEYS)

    def _put(self, process: Process) -> None:
        request = rpc_pb2.PutRequest(key=self._key(), value=self._value(), prev_kv=self.draw.random() < 0.2)
        if self._leases and self.draw.random() < 0.2:
            request.lease = self.draw.choice(self._leases)
        self.ask(process, "Put", request)

    def _get(self, process: Process) -> None:
        serializable = self.draw.random() < 0.3
        request = rpc_pb2.RangeRequest(key=self._key(), serializable=serializable)
        self.ask(process, "Range", request, linearizable=not serializable)

    def _range(self, process: Process) -> None:
        start, end = self.draw.choice(RANGES)
        serializable = self.draw.random() < 0.3
        request = rpc_pb2.RangeRequest(key=start, range_end=end, serializable=serializable)
        self.ask(process, "Range", request, linearizable=not serializable)

    def _delete(self, process: Process) -> None:
        request = rpc_pb2.DeleteRangeRequest(key=self._key(), prev_kv=self.draw.random() < 0.3)
        self.ask(process, "DeleteRange", request)

    def _txn(self, process: Process) -> None:
        request = rpc_pb2.TxnRequest()
        request.compare.add(key=self._key(), target=rpc_pb2.Compare.VERSION, version=self.draw.randrange(3))
        request.success.add(request_put=rpc_pb2.PutRequest(key=self._key(), value=self._value()))
        inner = request.failure.add().request_txn if self.draw.random() < 0.3 else request
        inner.failure.add(request_range=rpc_pb2.RangeRequest(key=self._key()))
        inner.failure.add(request_delete_range=rpc_pb2.DeleteRangeRequest(key=self._key()))
        self.ask(process, "Txn", request)

    def _read_txn(self, process: Process) -> None:
        request = rpc_pb2.TxnRequest()
        for _ in range(2):
            request.success.add(request_range=rpc_pb2.RangeRequest(key=self._key()))
        self.ask(process, "Txn", request, linearizable=True)

    def _grant(self, process: Process) -> None:
        self.ask(process, "LeaseGrant", rpc_pb2.LeaseGrantRequest(ID=self.draw.getrandbits(40) | 1, TTL=5))

    def _use_lease(self, process: Process) -> None:
        if not self._leases:
            self._grant(process)
            return
        lease, chance = self.draw.choice(self._leases), self.draw.random()
        if chance < 0.4:
            self._renew(process, lease)
        elif chance < 0.7:
            self.ask(process, "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True))
        else:
            self.ask(process, "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease))

    def _renew(self, process: Process, lease: int) -> None:
        """By a stream of its own, which ends with the first answer."""
        who, token = self.who()
        request = rpc_pb2.LeaseKeepAliveRequest(ID=lease)

        def answered(message: bytes, place: int) -> None:
            if stream is self._call:
                ttl = rpc_pb2.LeaseKeepAliveResponse.FromString(message).TTL
                if ttl:
                    self._note(Told(who, "LeaseKeepAlive", request, None, None, stream.asked_at, place, 0))
                stream.leave()
                self._over()

        def refused(call: DoorCall) -> None:
            if call is self._call:
                self._note(Told(who, "LeaseKeepAlive", request, call.error, None, call.asked_at, call.answered_at, 0))
                self.said(who, "LeaseKeepAlive", request, call)
                self._over()

        common_name = who.name if who.name and not who.since else ""
        stream = DoorStream(process.door, self.head(process, token), common_name, refused, answered)
        self._start(stream, f"renew {lease} as {who}")
        stream.on_cancel = stream.leave
        stream.ask(request)
        process.door.open("LeaseKeepAlive", stream)


class Administrator(Asker):
    """Makes users and roles, switches users on, and from then on changes now this, now that."""

    patience = 2.0

    def __init__(self, name: str, world: World) -> None:
        super().__init__(name, world)
        self._steps = self._first_steps() if name == "admin0" else []
        self._must_log_in = False

    @property
    def pause(self) -> float:
        """At first all is made in a hurry."""
        return 0.03 if self._steps else 0.3

    def _first_steps(self) -> list[tuple[str, Any]]:
        *steps, last = self._way_to_users()
        for role in ROLES:
            steps += [("RoleAdd", rpc_pb2.AuthRoleAddRequest(name=role)), self._grant_permission(role)]
        for user in USERS:
            steps.append(("UserAdd", rpc_pb2.AuthUserAddRequest(name=user, password=any_password(self.draw, user))))
            steps.append(("UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=self.draw.choice(ROLES))))
        return [*steps, last][::-1]

    def _way_to_users(self) -> list[tuple[str, Any]]:
        return [
            ("UserAdd", rpc_pb2.AuthUserAddRequest(name=ROOT, password=any_password(self.draw, ROOT))),
            ("UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=ROOT, role=ROOT)),
            ("AuthEnable", rpc_pb2.AuthEnableRequest()),
        ]

    def _grant_permission(self, role: str) -> tuple[str, Any]:
        key, end = self.draw.choice(RANGES)
        kind = self.draw.choice((READ, WRITE, READWRITE, READWRITE))
        permission = auth_pb2.Permission(permType=kind, key=key, range_end=end)
        return "RoleGrantPermission", rpc_pb2.AuthRoleGrantPermissionRequest(name=role, perm=permission)

    def said(self, who: Caller, kind: str, request: Any, call: DoorCall) -> None:
        self._must_log_in = isinstance(call.error, InvalidAuthToken | AuthOldRevision | UserEmpty)
        log = self.world.log
        if call.error is None and call.payload is not None:
            log.known = max(log.known, log.payloads[call.payload])

    def act(self, process: Process) -> None:
        if self._must_log_in:
            self._must_log_in = False
            self.log_in(process, ROOT)
            return
        kind, request = self._steps.pop() if self._steps else self._pick()
        self.ask(process, kind, request)

    def _pick(self) -> tuple[str, Any]:
        draw = self.draw
        if not self.world.log.states[-1].enabled and draw.random() < 0.6:
            return draw.choice(self._way_to_users())
        user, role, chance = draw.choice(USERS), draw.choice(ROLES), draw.random()
        if chance < 0.2:
            return self._grant_permission(role)
        if chance < 0.4:
            key, end = draw.choice(RANGES)
            return "RoleRevokePermission", rpc_pb2.AuthRoleRevokePermissionRequest(role=role, key=key, range_end=end)
        if chance < 0.55:
            return "UserGrantRole", rpc_pb2.AuthUserGrantRoleRequest(user=user, role=draw.choice((*ROLES, ROOT)))
        if chance < 0.67:
            return "UserRevokeRole", rpc_pb2.AuthUserRevokeRoleRequest(name=user, role=draw.choice((*ROLES, ROOT)))
        if chance < 0.73:
            return "UserDelete", rpc_pb2.AuthUserDeleteRequest(name=user)
        if chance < 0.82:
            return "UserAdd", rpc_pb2.AuthUserAddRequest(name=user, password=any_password(draw, user))
        if chance < 0.9:
            user = draw.choice((*USERS, ROOT))
            return "UserChangePassword", rpc_pb2.AuthUserChangePasswordRequest(
                name=user, password=any_password(draw, user)
            )
        if chance < 0.92:
            return "RoleDelete", rpc_pb2.AuthRoleDeleteRequest(role=role)
        if chance < 0.95:
            return "RoleAdd", rpc_pb2.AuthRoleAddRequest(name=role)
        return "AuthDisable", rpc_pb2.AuthDisableRequest()


class UserWatcher:
    """Watches a range as some user for a while, then another elsewhere."""

    def __init__(self, number: int, world: World, clients: list[UserClient]) -> None:
        self._name = f"uw{number}"
        self._world = world
        self._clients = clients
        self.process: Process | None = None
        self._stream: DoorStream | None = None
        self.cancelled = 0

    def begin(self) -> None:
        self._world.time.after(self._world.draw.random() * 0.5, self._open)

    def _open(self) -> None:
        process = self._world.choose()
        if process is None:
            self.begin()
            return
        self.process = process
        draw = self._world.draw
        client = draw.choice(self._clients)
        who, token = client.who()
        key, end = draw.choice((*RANGES, (b"a", b""), (b"c", b"")))
        begun: list[int] = []

        def heard(message: bytes, place: int) -> None:
            response = rpc_pb2.WatchResponse.FromString(message)
            if response.canceled:
                self.cancelled += 1
                if self._stream is stream:
                    self.lost()
                return
            if response.created:
                begun.append(place)
            revisions = tuple(event.kv.mod_revision for event in response.events)
            if response.created or revisions:
                self._world.log.seen.append(Seen(who, key, end, begun[0], place, revisions))

        common_name = who.name if who.name and not who.since else ""
        stream = DoorStream(process.door, Head(token), common_name, lambda _call: None, heard)
        self._stream = stream
        self._world.trace(f"{self._name} watches {key!r} to {end!r} at {process.id} as {who}")
        start = draw.choice((0, 0, 1, max(process.store.current_revision - 3, 1)))
        create = rpc_pb2.WatchCreateRequest(key=key, range_end=end, start_revision=start)
        stream.ask(rpc_pb2.WatchRequest(create_request=create))
        process.door.open("Watch", stream)
        self._world.time.after(0.5 + draw.random() * 5, self._leave, stream)

    def _leave(self, stream: DoorStream) -> None:
        if stream is self._stream:
            self.lost()

    def lost(self) -> None:
        """The member is gone, or the client goes."""
        stream, process = self._stream, self.process
        self._stream = self.process = None
        if stream is not None and process is not None and process.alive:
            stream.leave()
        self.begin()
