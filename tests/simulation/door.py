"""The doors of a process to clients with users and tokens: the real services, gate and judge of callers, without a
socket. bcrypt is played: a hash is the password and a salt, and takes a while."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from etcdpy.api.auth import AuthService
from etcdpy.api.gate import Gate
from etcdpy.api.header import HeaderSource
from etcdpy.api.kv import KvService
from etcdpy.api.lease import LeaseService
from etcdpy.api.services import in_task
from etcdpy.api.watch import WatchService
from etcdpy.errors import EtcdError, NoLeader
from etcdpy.histogram import APPLY_SECONDS, Histogram
from etcdpy.server.leader_leases import LeaderLeases
from etcdpy.server.member import Replica
from etcdpy.transport.calls import Kind, Method, Peer
from etcdpy.transport.heads import Memo
from tests.simulation.tasks import TaskLoop
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Generator

    from google.protobuf.message import Message as Request

    from etcdpy.apply.proposal import Outcome
    from tests.simulation.member import Process

HASH_SECONDS_MAX = 0.3
SLICE_PAUSE_SECONDS_MAX = 0.2
SHARE_OF_SLOW_READS = 0.3


class Head:
    """What all calls of one client to one process with one token share, as on a connection."""

    def __init__(self, token: str) -> None:
        self.metadata = {b"token": [token.encode()]} if token else {}
        self.memo = Memo()

    def first(self, name: bytes) -> bytes | None:
        values: list[bytes] = self.metadata.get(name, [])
        return values[0] if values else None


class DoorCall:
    """A unary call; `told` hears of its end once."""

    def __init__(self, door: Door, head: Head, common_name: str, told: Callable[[Any], None]) -> None:
        self.door = door
        self.head = head
        self.peer = Peer("client", common_name or None, bool(common_name))
        self.method = SimpleNamespace(path=b"/played")
        self.done = False
        self.on_cancel: Any = None
        self.asked_at = 0
        """Up to where the member had applied the log when the call came in, and when it was answered."""
        self.answered_at = 0
        self.payload: bytes | None = None
        """The entry's, as soon as the request is on its way into the log."""
        self.body = b""
        self.error: EtcdError | None = None
        self._told = told

    def finish(self, message: bytes) -> None:
        self._end(message, None)

    def finish_parts(self, parts: list[bytes]) -> None:
        self._end(b"".join(parts), None)

    def fail(self, error: EtcdError) -> None:
        self._end(b"", error)

    def crash(self, error: Exception) -> None:
        raise Violation(f"a call breaks: {error!r}") from error

    def _end(self, body: bytes, error: EtcdError | None) -> None:
        if self.done:
            return
        self.done = True
        self.body, self.error, self.answered_at = body, error, self.door.applied
        self._told(self)


class DoorStream(DoorCall):
    """A call of a stream; `heard` gets each message, with where the member was in the log."""

    buffered_bytes = 0

    def __init__(
        self,
        door: Door,
        head: Head,
        common_name: str,
        told: Callable[[Any], None],
        heard: Callable[[bytes, int], None],
    ) -> None:
        super().__init__(door, head, common_name, told)
        self._messages: deque[bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._heard = heard
        self.task: asyncio.Task[None] | None = None

    def ask(self, request: Request) -> None:
        """What the client sends."""
        self._messages.append(request.SerializeToString())
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def receive(self) -> bytes:
        while not self._messages:
            self._reader = self.door.tasks.create_future()
            await self._reader
        return self._messages.popleft()

    def send(self, message: bytes) -> None:
        if not self.done:
            self._heard(message, self.door.applied)

    async def wait_writable(self, limit_bytes: int) -> None:
        """Whatever is sent is taken at once."""

    def leave(self) -> None:
        """The client goes."""
        self.done = True
        if self.task is not None:
            self.task.cancel()


class _PlayedPasswords:
    def __init__(self, door: Door) -> None:
        self._door = door

    async def hash(self, password: str) -> bytes:
        await self._door.pause(HASH_SECONDS_MAX)
        return f"{password}/{self._door.process.random.getrandbits(32)}".encode()

    async def matches(self, password: str, hashed: bytes | None) -> bool:
        await self._door.pause(HASH_SECONDS_MAX)
        return hashed is not None and hashed.rpartition(b"/")[0] == password.encode()


class _Leader(LeaderLeases):
    """The process's own leases; who asks another member than the leader is refused."""

    async def _at_leader(self, ask: Callable[[str], Awaitable[Any]]) -> Any:
        raise NoLeader


class _Slices:
    """Other work comes between the slices of some reads, and before the first."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def run(self, call: Any, steps: Generator[Any, None, list[bytes]]) -> None:
        self._door.spawn(self._answer(call, steps))

    async def _answer(self, call: Any, steps: Generator[Any, None, list[bytes]]) -> None:
        try:
            call.finish_parts(await self.wait(steps))
        except EtcdError as error:
            call.fail(error)

    async def wait(self, steps: Generator[Any, None, Any]) -> Any:
        if self._door.process.random.random() < SHARE_OF_SLOW_READS:
            await self._door.pause(SLICE_PAUSE_SECONDS_MAX)
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value


class Door:
    """Implements the api room's Proposer and LinearizableReads over one process."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.node, self.config, self.users = process.node, process.config, process.users
        self.tasks = self._loop = TaskLoop(process.loop)
        self.spawn = self.tasks.create_task
        self.encode = process.encoder.encode
        self.propose = process.users.propose
        self.when_linearizable = process.node.when_linearizable
        self.header = HeaderSource(process.membership.cluster_id, process.id)
        methods = self._make_methods()
        self._methods = {method.name: method for method in methods}
        self._gate = Gate({method.path: method for method in methods}, self.users.waits)
        self.users_changed()

    def _make_methods(self) -> list[Method]:
        process, callers, header = self.process, self.users.callers, self.header
        stands_for: Any = self
        slow: Any = SimpleNamespace(read_seconds=1e9)
        kv = KvService(
            process.store,
            stands_for,
            stands_for,
            _Slices(self),
            stands_for,
            callers,
            header,
            Histogram(APPLY_SECONDS),
            slow,
            stopwatch=lambda: 0.0,
            max_txn_ops=128,
            max_request_bytes=1 << 20,
        )
        lease = LeaseService(
            process.lessor,
            process.store,
            stands_for,
            _Leader(stands_for, stands_for),
            callers,
            header,
            clock=process.loop.time,
            random=process.random,
            fast_keep_alive=True,
        )
        auth = AuthService(
            process.auth,
            stands_for,
            stands_for,
            _PlayedPasswords(self),
            header,
            random=process.random,
            wall_clock=process.loop.time,
        )
        self.watch = WatchService(process.hub, callers, process.loop.time, process.serve_watchers)
        unary: dict[str, Callable[..., Any]] = {
            "Range": kv.range,
            "Put": kv.put,
            "DeleteRange": kv.delete_range,
            "Txn": kv.txn,
            "LeaseGrant": lease.grant,
            "LeaseRevoke": lease.revoke,
            "LeaseTimeToLive": in_task(self.spawn, lease.time_to_live),
            **auth.handlers(),
            "UserAdd": in_task(self.spawn, auth.user_add),
            "UserChangePassword": in_task(self.spawn, auth.user_change_password),
            "Authenticate": in_task(self.spawn, auth.authenticate),
        }
        streams: dict[str, Any] = {"Watch": self.watch.watch, "LeaseKeepAlive": lease.keep_alive}
        return [Method("played", name, Kind.UNARY, handler) for name, handler in unary.items()] + [
            Method("played", name, Kind.BIDI, handler) for name, handler in streams.items()
        ]

    # --- what clients do ---

    def call(self, name: str, request: Request, call: DoorCall) -> None:
        """Ask; the process hears of it when its loop comes round."""
        self.tasks.call_soon(self._answer, name, request.SerializeToString(), call)

    def _answer(self, name: str, body: bytes, call: Any) -> None:
        call.asked_at = self.applied
        try:
            self._methods[name].handler(call, body)
        except EtcdError as error:
            call.fail(error)

    def open(self, name: str, call: DoorStream) -> None:
        """Begin a stream."""
        self.tasks.call_soon(self._open, name, call)

    def _open(self, name: str, call: Any) -> None:
        if not call.done:
            call.asked_at = self.applied
            call.task = self.spawn(self._stream(self._methods[name], call))

    async def _stream(self, method: Method, call: Any) -> None:
        try:
            running: Any = method.handler(call)
            await running
        except EtcdError as error:
            call.fail(error)

    async def pause(self, seconds_max: float) -> None:
        """Something takes a while."""
        over = self.tasks.create_future()

        def end() -> None:
            if not over.done():
                over.set_result(None)

        self.tasks.call_later(self.process.random.random() * seconds_max, end)
        await over

    # --- what services ask ---

    @property
    def applied(self) -> int:
        """Up to where the log is applied."""
        return self.process.applier.applied_index

    applied_index = applied

    @property
    def committed_index(self) -> int:
        """Up to where the log is committed."""
        return self.process.raw.committed

    async def run(self, kind: str, request: Request) -> Outcome:
        """See Proposer."""
        outcome: asyncio.Future[Outcome] = self.tasks.create_future()

        def told(result: Outcome | EtcdError) -> None:
            if outcome.done():
                return
            if isinstance(result, EtcdError):
                outcome.set_exception(result)
            else:
                outcome.set_result(result)

        self.process.propose(kind, request, told)
        return await outcome

    @property
    def reads_are_current(self) -> bool:
        """See LinearizableReads."""
        return self.process.raw.read_index_now() is not None

    wait_linearizable: Any = Replica.wait_linearizable

    # --- what the process tells ---

    def users_changed(self) -> None:
        """As a member's doors are told: after the watchers have what came before."""
        self.watch.users_changed()
        self._gate.set(has_leader=True, is_learner=False, has_users=self.users.store.enabled)

    def ticked(self) -> None:
        """Now and then."""
        self.users.waits.expire()
