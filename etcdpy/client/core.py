"""What both clients share: calls with retries and logins, watchers that resume, leases that are kept alive.

All of it is written once, as coroutines over the small protocols below. The asyncio client awaits them. The blocking
client has protocols whose coroutines do their work at once and never suspend, so that `run` sees them through in one
step: no event loop, no thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import grpc

from etcdpy.client import call as calls
from etcdpy.client.call import Answer, Call, Method
from etcdpy.client.failures import TOKEN_ERRORS, ClientClosed, Failure, deadline_exceeded
from etcdpy.client.keeping import Keeper
from etcdpy.client.namespace import Namespace
from etcdpy.client.retrying import Attempts
from etcdpy.errors import AuthNotEnabled, Code, EtcdError
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Sequence
    from types import TracebackType

    from google.protobuf.message import Message

    from etcdpy.client.balancer import Balancer
    from etcdpy.client.channels import TlsFiles

T = TypeVar("T")
Read = TypeVar("Read", bound="Message", covariant=True)
Anything = TypeVar("Anything", bound="Message")
Metadata = tuple[tuple[str, str], ...]


def run(steps: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        steps.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    steps.close()
    raise AssertionError("work that blocks was suspended")


def run_each(results: AsyncGenerator[T, None]) -> Iterator[T]:
    """What a generator yields that never suspends."""
    try:
        while True:
            try:
                yield run(_next_of(results))
            except StopAsyncIteration:
                return
    finally:
        run(_close(results))


async def _next_of(results: AsyncGenerator[T, None]) -> T:
    return await anext(results)


async def _close(results: AsyncGenerator[T, None]) -> None:
    await results.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a client reaches its cluster. Times are seconds."""

    endpoints: tuple[str, ...]
    tls: TlsFiles | None = None
    server_name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    timeout: float | None = 10.0
    dial_timeout: float = 2.0
    keepalive_time: float = 10.0
    keepalive_timeout: float = 5.0
    send_bytes_max: int = -1
    receive_bytes_max: int = -1

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("no endpoint is given")

    def channel_options(self) -> list[tuple[str, int | str]]:
        """What grpcio is told."""
        options: list[tuple[str, int | str]] = [
            # etcd ends connections whose pings come too often; its own client never pings more often either.
            ("grpc.keepalive_time_ms", round(max(10.0, self.keepalive_time) * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout * 1000)),
            ("grpc.max_send_message_length", self.send_bytes_max),
            ("grpc.max_receive_message_length", self.receive_bytes_max),
            ("grpc.http2.max_pings_without_data", 0),  # a quiet watcher notices a dead connection as well
            # grpcio's name for how long one attempt to connect may take
            ("grpc.min_reconnect_backoff_ms", round(self.dial_timeout * 1000)),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", max(1000, round(self.dial_timeout * 1000))),
        ]
        if self.server_name:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options


class Stream(Protocol[Read]):
    """A call with a stream of answers. Errors are grpcio's."""

    async def send(self, request: Any) -> None:
        """Send one more request."""

    async def read(self) -> Read | None:
        """The next answer; None after the last one."""

    def cancel(self) -> None:
        """Let go of it, and wake who reads."""


@dataclass(frozen=True, slots=True)
class Opening(Generic[Answer]):
    """A stream that is to be opened."""

    method: Method[Any, Answer]
    requests: Sequence[Any]
    seconds: float | None
    metadata: Metadata
    wait_for_ready: bool
    more: bool
    """Whether other requests follow; if not, these are all."""


class Place(Protocol):
    """One endpoint. Errors are grpcio's."""

    def invoke(
        self, call: Call[Answer], seconds: float | None, metadata: Metadata, *, wait_for_ready: bool
    ) -> Awaitable[Answer]:
        """Make a unary call."""

    def stream(self, opening: Opening[Answer]) -> Stream[Answer]:
        """Open a stream."""

    def connect(self) -> None:
        """Connect in the background, and tell the balancer when that is done."""


class AsyncContextManager(Protocol):
    """A lock, of whatever kind."""

    async def __aenter__(self) -> object:
        """Take it."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object:
        """Let it go."""


class Condition(AsyncContextManager, Protocol):
    """A condition variable; while it is held as a context manager nobody else changes what it guards."""

    async def wait_until(self, holds: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until it holds; False where it does not in time."""

    def notify_all(self) -> None:
        """Let all who wait look again."""


class Io(Protocol):
    """What takes time."""

    @property
    def places(self) -> Sequence[Place]:
        """The endpoints, in the order of the settings."""

    @property
    def login_lock(self) -> AsyncContextManager:
        """Held by who logs in."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def wait_connected(self, seconds: float | None) -> bool:
        """Wait until there is a connection, or the client is closed; False where that is not so in time."""

    async def wait_woken(self, seconds: float | None) -> None:
        """Wait so long, or until `wake`."""

    def wake(self) -> None:
        """End that wait, or the next one."""

    def new_condition(self) -> Condition:
        """Something to wait for."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do that work beside everything else."""


class Core:
    """The connections of one client, and what all of its views share."""

    def __init__(self, settings: Settings, balancer: Balancer, io: Io) -> None:
        self.settings = settings
        self.balancer = balancer
        self.io = io
        self.closed = False
        self.keeper = Keeper(self)
        self._token = settings.token
        self._metadata: dict[bool, Metadata] = {}
        self._can_log_in = bool(settings.user) and not settings.token
        self._logins = 0 if self._can_log_in else 1
        """How often a token was asked for; 0 where that is still to be done."""
        self._dialling = False

    # --- unary calls ---

    async def do(
        self, call: Call[Answer], *, require_leader: bool = False, only: int | None = None, anonymous: bool = False
    ) -> Answer:
        """Make a call by the rules of `retrying`, at endpoint `only` where one is named.

        `anonymous`: without a token. Raises EtcdError, ClientClosed.
        """
        timeout = self.settings.timeout if call.timeout is None else call.timeout
        give_up = None if timeout is None else time.monotonic() + timeout
        attempts: Attempts | None = None
        waits = only is not None or self.balancer.count == 1
        while True:
            number = self.balancer.pick(time.monotonic()) if only is None else only
            if number is None or self.closed or not (anonymous or self._logins):
                number = await self._prepare(give_up, only, anonymous=anonymous)
                timeout = None if give_up is None else max(0.0, give_up - time.monotonic())
            logins = self._logins
            metadata = () if anonymous else self.metadata(require_leader=require_leader)
            try:
                return await self.io.places[number].invoke(call, timeout, metadata, wait_for_ready=waits)
            except grpc.RpcError as error:
                failure = Failure.of(error)
            if attempts is None:
                endpoints = self.balancer.count if only is None else 1
                may_log_in = self._can_log_in and not anonymous
                attempts = Attempts(repeatable=call.repeatable, may_log_in=may_log_in, endpoints=endpoints)
            if self.closed:
                raise ClientClosed
            self.note(number, failure)
            if attempts.needs_login(failure):
                await self._log_in(logins, give_up)
            elif pause := attempts.pause_before_next(failure):
                await self.io.sleep(pause)
            if give_up is not None and (timeout := give_up - time.monotonic()) <= 0:
                raise failure.error

    async def _prepare(self, give_up: float | None, only: int | None, *, anonymous: bool = False) -> int:
        """What a call needs before it can be made: an endpoint, which is returned, and a token."""
        number = await self._choose(give_up, only)
        if not (anonymous or self._logins):
            await self._log_in(0, give_up)
        return number

    async def _choose(self, give_up: float | None, only: int | None) -> int:
        """The endpoint for the next attempt, as soon as there is one."""
        while True:
            if self.closed:
                raise ClientClosed
            number = self.balancer.pick(time.monotonic()) if only is None else only
            if number is not None:
                return number
            if not self._dialling:
                self._dialling = True
                for place in self.io.places:
                    place.connect()
            left = None if give_up is None else give_up - time.monotonic()
            if (left is not None and left <= 0) or not await self.io.wait_connected(left):
                raise deadline_exceeded()

    def note(self, number: int, failure: Failure) -> None:
        """Learn from a failure how an endpoint is."""
        if failure.not_sent:
            self.balancer.disconnected(number)
            if self.balancer.count > 1:
                self.io.places[number].connect()
        elif failure.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
            self.balancer.unwell(number, time.monotonic())

    def metadata(self, *, require_leader: bool) -> Metadata:
        """What goes with a call."""
        found = self._metadata.get(require_leader)
        if found is None:
            pairs = [("token", self._token)] if self._token else []
            if require_leader:
                pairs.append(("hasleader", "true"))
            found = self._metadata[require_leader] = tuple(pairs)
        return found

    # --- users ---

    async def _log_in(self, seen: int, give_up: float | None) -> None:
        """Get another token than that of login number `seen`. Of many calls that want one, one asks for all."""
        async with self.io.login_lock:
            if self._logins != seen or not self._can_log_in:
                return
            settings = self.settings
            timeout = None if give_up is None else max(0.0, give_up - time.monotonic())
            request = rpc_pb2.AuthenticateRequest(name=settings.user, password=settings.password)
            try:
                # Wherever it is made: a login that is made twice does no harm.
                login = Call(calls.AUTHENTICATE, request, timeout, repeatable=True)
                self._token = (await self.do(login, anonymous=True)).token
            except AuthNotEnabled:
                self._token = ""  # a cluster that knows no users serves anybody, as etcd's client takes it
            self._logins += 1
            self._metadata.clear()

    # --- streams ---

    async def open(
        self,
        method: Method[Any, Answer],
        requests: Sequence[Any],
        seconds: float | None = None,
        *,
        require_leader: bool = False,
        only: int | None = None,
        more: bool = False,
    ) -> tuple[int, Stream[Answer]]:
        """A stream, and the endpoint it goes to. Raises EtcdError, ClientClosed."""
        give_up = None if seconds is None else time.monotonic() + seconds
        number = await self._prepare(give_up, only)
        waits = only is not None or self.balancer.count == 1
        metadata = self.metadata(require_leader=require_leader)
        return number, self.io.places[number].stream(Opening(method, requests, seconds, metadata, waits, more))

    async def renew_token(self, failure: EtcdError) -> bool:
        """Whether there is another token after a failure that names it. Raises EtcdError, ClientClosed."""
        if not (self._can_log_in and isinstance(failure, TOKEN_ERRORS)):
            return False
        timeout = self.settings.timeout
        await self._log_in(self._logins, None if timeout is None else time.monotonic() + timeout)
        return True


class View:
    """A way to look at the cluster: a part of the keyspace, one endpoint, only while there is a leader."""

    __slots__ = ("_namespace", "core", "only", "require_leader")

    def __init__(
        self,
        core: Core,
        namespace: Namespace | None = None,
        *,
        only: int | None = None,
        require_leader: bool = False,
    ) -> None:
        self.core = core
        self._namespace = namespace
        self.only = only
        self.require_leader = require_leader

    def inside(self, prefix: bytes) -> View:
        """The part of this view's keyspace whose keys begin so."""
        outer = self._namespace.prefix if self._namespace else b""
        return View(self.core, Namespace(outer + prefix), only=self.only, require_leader=self.require_leader)

    def at(self, endpoint: str) -> View:
        """The same at one endpoint alone. Raises ValueError where the client does not know it."""
        only = self.core.settings.endpoints.index(endpoint)
        return View(self.core, self._namespace, only=only, require_leader=self.require_leader)

    def with_leader(self) -> View:
        """The same, refused at once by members that have no leader."""
        return View(self.core, self._namespace, only=self.only, require_leader=True)

    def into(self, request: Anything) -> Anything:
        """A request as the cluster sees it."""
        return self._namespace.into(request) if self._namespace else request

    def out_of(self, answer: Anything) -> Anything:
        """An answer as it looks from here."""
        return self._namespace.out_of(answer) if self._namespace else answer

    def do(self, call: Call[Answer]) -> Coroutine[Any, Any, Answer]:
        """Make a call. Raises EtcdError, ClientClosed."""
        if self._namespace is None:
            return self.core.do(call, require_leader=self.require_leader, only=self.only)
        return self._do_inside(self._namespace, call)

    async def _do_inside(self, namespace: Namespace, call: Call[Answer]) -> Answer:
        inner = Call(call.method, namespace.into(call.request), call.timeout, repeatable=call.repeatable)
        return namespace.out_of(await self.core.do(inner, require_leader=self.require_leader, only=self.only))
