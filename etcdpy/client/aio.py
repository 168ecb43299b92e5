"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Protocol, Self, TypeVar

import grpc.aio

from etcdpy.client import leasing, ranges, watching
from etcdpy.client.balancer import Balancer
from etcdpy.client.call import SNAPSHOT
from etcdpy.client.channels import open_async_channel
from etcdpy.client.core import Core, View
from etcdpy.client.endpoint import Endpoint
from etcdpy.client.failures import ClientClosed, Ended, read_answer
from etcdpy.client.handle import (
    DEFAULT_ENDPOINT,
    Handle,
    Options,
    settings_of,
)
from etcdpy.client.recipes import AsyncElection, AsyncLock
from etcdpy.client.snapshot import receiving
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Sequence
    from pathlib import Path
    from typing import Unpack

    from google.protobuf.message import Message

    from etcdpy.client.call import Answer, Call
    from etcdpy.client.core import Metadata, Opening, Settings
    from etcdpy.client.keys import Key
    from etcdpy.client.leasing import AsyncLease
    from etcdpy.client.snapshot import Progress

_EOF: Final[Any] = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs do not know it
_BELOW: Final = import_module("grpc._cython.cygrpc")
_GOES_BELOW: Final = hasattr(getattr(_BELOW, "_AioCall", None), "unary_unary") and hasattr(
    _BELOW, "build_census_context"
)
"""Whether grpcio is inside as it is in 1.85; where it is not, calls are made by its front door."""
_NO_CENSUS: Final = _BELOW.build_census_context() if _GOES_BELOW else None

P = ParamSpec("P")
A = TypeVar("A", bound="Message")
T = TypeVar("T")


class _AsyncStream(Generic[A]):
    """A stream of answers."""

    def __init__(self, call: Any, requests: asyncio.Queue[Any]) -> None:
        self._call = call
        self._requests = requests
        self._cancelled = False

    async def send(self, request: Any) -> None:
        """Send one more request."""
        self._requests.put_nowait(request)

    async def read(self) -> A | None:
        """The next answer; None after the last one."""
        try:
            answer = await self._call.read()
        except asyncio.CancelledError:
            if is_cancelled() or not self._cancelled:
                raise
            return None  # grpcio says so to who reads from a stream that was cancelled, too
        return None if answer is _EOF else answer

    def cancel(self) -> None:
        """Let go of it, and wake who reads."""
        self._cancelled = True
        self._requests.put_nowait(None)
        self._call.cancel()


class _AsyncPlace(Endpoint[grpc.aio.Channel]):
    """One endpoint."""

    def __init__(self, io: _AsyncIo, number: int, name: str) -> None:
        super().__init__(name, io.settings, open_async_channel)
        self._io = io
        self._number = number
        self._connecting = False
        self._under_way: dict[Any, None] = {}

    def invoke(
        self, call: Call[Answer], seconds: float | None, metadata: Metadata, *, wait_for_ready: bool
    ) -> Awaitable[Answer]:
        """Make a unary call."""
        made = self.unary(call.method)
        if _GOES_BELOW:
            return self._invoke_directly(made, call, seconds, metadata, wait_for_ready)
        return self._invoke_plainly(made, call, seconds, metadata, wait_for_ready)

    async def _invoke_plainly(
        self, made: Any, call: Call[Answer], seconds: float | None, metadata: Metadata, wait_for_ready: bool
    ) -> Answer:
        try:
            answer: Answer = await made(call.request, timeout=seconds, metadata=metadata, wait_for_ready=wait_for_ready)
        except asyncio.CancelledError:
            if is_cancelled() or not self._io.closed:
                raise
            raise ClientClosed from None  # grpcio says it so where the channel was closed, too
        return answer

    async def _invoke_directly(
        self, made: Any, call: Call[Answer], seconds: float | None, metadata: Metadata, wait_for_ready: bool
    ) -> Answer:
        """What grpcio's own call object does, without a task for each call: of 100 at once each takes 43 us of CPU
        instead of 49."""
        deadline = None if seconds is None else time.time() + seconds
        below = made._channel.call(made._method, deadline, None, wait_for_ready, made._registered_call_handle)
        self._under_way[below] = None
        try:
            body = await below.unary_unary(call.request.SerializeToString(), metadata, _NO_CENSUS)
        except asyncio.CancelledError:
            below.cancel("the caller was cancelled")
            raise
        finally:
            del self._under_way[below]
        if below.is_ok():
            return read_answer(call.method.answer, body)
        raise Ended(below._status.code(), below._status.details())

    def stream(self, opening: Opening[Answer]) -> _AsyncStream[Answer]:
        """Open a stream."""
        requests: asyncio.Queue[Any] = asyncio.Queue()
        for request in (*opening.requests, *(() if opening.more else (None,))):
            requests.put_nowait(request)
        metadata, waits = opening.metadata, opening.wait_for_ready
        call = self.streaming(opening.method)(
            _all_of(requests), timeout=opening.seconds, metadata=metadata, wait_for_ready=waits
        )
        return _AsyncStream(call, requests)

    def connect(self) -> None:
        """Connect in the background."""
        if not self._connecting:
            self._connecting = True
            self._io.spawn(self._connect())

    async def _connect(self) -> None:
        channel = self.channel
        while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)
        self._connecting = False
        await self._io.connected(self._number)

    async def close(self) -> None:
        """End the connection, and every call on it."""
        for below in list(self._under_way):
            below.cancel("the client was closed")
        if self.opened is not None:
            await self.opened.close(None)


def is_cancelled() -> bool:
    """Whether the CancelledError that was just caught is for this task, and not about a call of grpcio's."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _all_of(requests: asyncio.Queue[Any]) -> AsyncGenerator[Any, None]:
    while (request := await requests.get()) is not None:
        yield request


class _AsyncCondition(asyncio.Condition):
    """asyncio's, with a time limit."""

    async def wait_until(self, holds: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until it holds; False where it does not in time."""
        if holds():
            return True
        try:
            async with asyncio.timeout(seconds):
                return await self.wait_for(holds)
        except TimeoutError:
            return False


class _AsyncIo:
    """All endpoints, and the tasks of one client."""

    def __init__(self, settings: Settings, balancer: Balancer) -> None:
        self.settings = settings
        self._balancer = balancer
        self._changed = _AsyncCondition()
        self._woken = asyncio.Event()
        self.closed = False
        self._tasks: asyncio.TaskGroup | None = None
        self._running: dict[asyncio.Task[None], None] = {}
        self.places: Sequence[_AsyncPlace] = [
            _AsyncPlace(self, number, name) for number, name in enumerate(settings.endpoints)
        ]
        self.login_lock = asyncio.Lock()

    async def open(self) -> None:
        """Begin; tasks belong to who calls this."""
        self._tasks = await asyncio.TaskGroup().__aenter__()

    async def close(self) -> None:
        """End all connections and tasks."""
        self.closed = True
        for task in list(self._running):
            task.cancel()
        if self._tasks is not None:
            # Without an error of the caller's: a group would wrap it, and it goes on by itself anyway.
            await self._tasks.__aexit__(None, None, None)
            self._tasks = None
        for place in self.places:
            await place.close()
        async with self._changed:
            self._changed.notify_all()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def wait_connected(self, seconds: float | None) -> bool:
        """Wait until there is a connection, or the client is closed; False where that is not so in time."""
        clock = asyncio.get_running_loop().time
        async with self._changed:
            return await self._changed.wait_until(
                lambda: self.closed or self._balancer.pick(clock()) is not None, seconds
            )

    async def connected(self, number: int) -> None:
        """There is a connection to that endpoint."""
        async with self._changed:
            self._balancer.connected(number)
            self._changed.notify_all()

    async def wait_woken(self, seconds: float | None) -> None:
        """Wait so long, or until `wake`."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def wake(self) -> None:
        """End that wait, or the next one."""
        self._woken.set()

    def new_condition(self) -> _AsyncCondition:
        """Something to wait for."""
        return _AsyncCondition()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do that work in a task of its own. Raises RuntimeError outside the client's context."""
        if self._tasks is None:
            work.close()
            raise RuntimeError("an AsyncClient works inside `async with`")
        task = self._tasks.create_task(work)
        self._running[task] = None
        task.add_done_callback(self._running.pop)


class _Manager(Protocol):
    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *error: object) -> None: ...


M = TypeVar("M", bound=_Manager)


class Opened(Generic[M]):
    """Something that takes a while to open: `async with client.watch("a") as watch`, or `await client.watch("a")`."""

    def __init__(self, opening: Coroutine[Any, Any, M]) -> None:
        self._opening = opening
        self._open: M | None = None

    def __await__(self) -> Generator[Any, Any, M]:
        return self._opening.__await__()

    async def __aenter__(self) -> M:
        self._open = await self._opening
        return await self._open.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        assert self._open is not None, "not entered"
        await self._open.__aexit__(*error)


def _opened(
    open_: Callable[Concatenate[View, P], Coroutine[Any, Any, M]],
) -> Callable[Concatenate[AsyncClient, P], Opened[M]]:
    """A method that opens something."""

    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> Opened[M]:
        return Opened(open_(self._view, *args, **kwargs))

    method.__name__, method.__doc__ = open_.__name__, open_.__doc__
    return method


def _each(
    parts: Callable[Concatenate[View, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]]:
    """A method that gives one part of an answer after the other."""

    def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[T, None]:
        return parts(self._view, *args, **kwargs)

    method.__name__, method.__doc__ = parts.__name__, parts.__doc__
    return method


class AsyncClient(Handle):
    """A client of one cluster, for the event loop in which it is entered: `async with AsyncClient(...) as client`.

    Calls raise EtcdError (`etcdpy.errors` has a class for each of etcd's errors), and ClientClosed. Leaving the context
    ends connections, watchers, and the keeping of leases, which live on until their time is over.
    """

    def __init__(self, endpoints: str | Sequence[str] = DEFAULT_ENDPOINT, **options: Unpack[Options]) -> None:
        """`endpoints`: `host:port` or URLs, a list or with commas between; calls go to all that are well, in turn.

        Nothing is connected before the first call. Raises ValueError where there is no endpoint.
        """
        settings = settings_of(endpoints, options)
        balancer = Balancer(len(settings.endpoints))
        self._io = _AsyncIo(settings, balancer)
        self._view = View(Core(settings, balancer, self._io))

    async def __aenter__(self) -> Self:
        await self._io.open()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._view.core.closed = True
        await self._io.close()

    def do(self, call: Call[Answer]) -> Coroutine[Any, Any, Answer]:
        """Make a call that a function of `etcdpy.client.op` has made up."""
        return self._view.do(call)

    watch = _opened(watching.watch)
    lease = _opened(leasing.lease)
    range_stream = _each(ranges.range_stream)
    pages = _each(ranges.pages)

    async def snapshot(
        self, path: Path, progress: Progress = lambda _done, _total: None, *, timeout: float | None = None
    ) -> str:
        """Save the whole state of the member that answers in a file that etcdctl and etcdutl understand.

        `progress(done, total)` is told of bytes now and then. Returns the version that can read it. The file is written
        on the loop, a part at a time. Raises EtcdError, SnapshotFailed, OSError; then no file is left.
        """
        with receiving(path, progress) as receiver:
            async for part in ranges.streamed(self._view, SNAPSHOT, rpc_pb2.SnapshotRequest(), timeout):
                receiver.add(part)
        return receiver.version

    def lock(self, name: Key, *, ttl: int = 60, lease: AsyncLease | None = None) -> AsyncLock:
        """The lock of that name, with `ttl` seconds until others get it if this process dies; see `AsyncLock`."""
        return AsyncLock(self._view, name, ttl, lease)

    def election(self, name: Key, *, ttl: int = 60, lease: AsyncLease | None = None) -> AsyncElection:
        """The election of that name; see `AsyncElection`."""
        return AsyncElection(self._view, name, ttl, lease)
