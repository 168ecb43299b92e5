"""What the blocking client does where the shared work waits: calls on grpcio's channels, threads, conditions."""

from __future__ import annotations

import queue
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

import grpc

from etcdpy.client.call import Answer, Call
from etcdpy.client.channels import open_channel
from etcdpy.client.core import run
from etcdpy.client.endpoint import Endpoint
from etcdpy.client.failures import ClientClosed, Ended, read_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from etcdpy.client.balancer import Balancer
    from etcdpy.client.core import Metadata, Opening, Settings

_BELOW: Final = import_module("grpc._cython.cygrpc")
_FRONT: Final = getattr(import_module("grpc._channel"), "_UnaryUnaryMultiCallable", None)
_GOES_BELOW: Final = all(hasattr(_FRONT, name) for name in ("_channel", "_method", "_context")) and all(
    hasattr(_BELOW, name) for name in ("SegregatedCall", "SendInitialMetadataOperation", "InitialMetadataFlags")
)
"""Whether grpcio is inside as it is in 1.85; where it is not, calls are made by its front door."""
_CLOSE: Final = _BELOW.SendCloseFromClientOperation(0) if _GOES_BELOW else None
_DOES_NOT_WAIT: Final = _BELOW.InitialMetadataFlags.wait_for_ready_explicitly_set if _GOES_BELOW else 0
_WAITS: Final = _DOES_NOT_WAIT | _BELOW.InitialMetadataFlags.wait_for_ready if _GOES_BELOW else 0

P = ParamSpec("P")
T = TypeVar("T")
W = TypeVar("W")


class Blocking(Generic[W]):
    """The blocking side of something that is written for both clients."""

    def __init__(self, work: W) -> None:
        self.work = work
        """The same for asyncio, on this client's threads: of no use elsewhere."""


def seen_through(
    method: Callable[Concatenate[W, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Blocking[W], P], T]:
    """A method that does that work to its end."""

    def blocking(self: Blocking[W], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(self.work, *args, **kwargs))

    blocking.__name__, blocking.__doc__ = method.__name__, method.__doc__
    return blocking


class BlockingStream(Generic[Answer]):
    """A stream of answers, read by one thread at a time."""

    def __init__(self, call: Any, requests: queue.SimpleQueue[Any] | None) -> None:
        self._call = call
        self._requests = requests

    async def send(self, request: Any) -> None:
        """Send one more request."""
        assert self._requests is not None, "opened without `more`"
        self._requests.put(request)

    async def read(self) -> Answer | None:
        """The next answer; None after the last one."""
        answer: Answer | None = next(self._call, None)
        return answer

    def cancel(self) -> None:
        """Let go of it, and wake who reads."""
        if self._requests is not None:
            self._requests.put(None)  # ends the thread that grpcio feeds the stream with
        self._call.cancel()


def _invoke_directly(
    made: Any, call: Call[Answer], seconds: float | None, metadata: Metadata, wait_for_ready: bool
) -> Answer:
    """What grpcio does for a call, without the objects by which others could watch it: a read takes 44 us of CPU of
    the caller's thread instead of 63."""
    body, status = _BELOW.ReceiveMessageOperation(0), _BELOW.ReceiveStatusOnClientOperation(0)
    operations = (
        _BELOW.SendInitialMetadataOperation(metadata, _WAITS if wait_for_ready else _DOES_NOT_WAIT),
        _BELOW.SendMessageOperation(call.request.SerializeToString(), 0),
        _CLOSE,
        _BELOW.ReceiveInitialMetadataOperation(0),
        body,
        status,
    )
    under_way = made._channel.segregated_call(
        _BELOW.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
        made._method,
        None,
        None if seconds is None else time.time() + seconds,
        metadata,
        None,
        ((operations, None),),
        made._context,
        made._registered_call_handle,
    )
    under_way.next_event()
    if status.code() != 0:
        raise Ended(status.code(), status.details())
    return read_answer(call.method.answer, body.message())


class BlockingPlace(Endpoint[grpc.Channel]):
    """One endpoint."""

    def __init__(self, io: BlockingIo, number: int, name: str) -> None:
        super().__init__(name, io.settings, open_channel)
        self._io = io
        self._number = number
        self._connecting = False

    async def invoke(
        self, call: Call[Answer], seconds: float | None, metadata: Metadata, *, wait_for_ready: bool
    ) -> Answer:
        """Make a unary call."""
        made = self.unary(call.method)
        try:
            if _GOES_BELOW:
                return _invoke_directly(made, call, seconds, metadata, wait_for_ready)
            answer: Answer = made(call.request, timeout=seconds, metadata=metadata, wait_for_ready=wait_for_ready)
        except ValueError:
            self._check_open()
            raise
        return answer

    def _check_open(self) -> None:
        """Raises ClientClosed: grpcio says ValueError where another thread has closed the channel."""
        if self._io.closed:
            raise ClientClosed from None

    def stream(self, opening: Opening[Answer]) -> BlockingStream[Answer]:
        """Open a stream."""
        waiting: queue.SimpleQueue[Any] | None = None
        feed: Iterator[Any] = iter(opening.requests)
        if opening.more:
            waiting = queue.SimpleQueue()
            for request in opening.requests:
                waiting.put(request)
            feed = iter(waiting.get, None)
        make = self.streaming(opening.method)
        metadata, waits = opening.metadata, opening.wait_for_ready
        try:
            call = make(feed, timeout=opening.seconds, metadata=metadata, wait_for_ready=waits)
        except ValueError:
            self._check_open()
            raise
        return BlockingStream(call, waiting)

    def connect(self) -> None:
        """Connect in the background; grpcio has a thread for it, until there is a connection."""
        with self._opening:
            if self._connecting:
                return
            self._connecting = True
        channel = self.channel

        def changed(state: grpc.ChannelConnectivity) -> None:
            if state is grpc.ChannelConnectivity.READY:
                channel.unsubscribe(changed)
                self._connecting = False
                self._io.connected(self._number)

        channel.subscribe(changed, try_to_connect=True)

    def close(self) -> None:
        """End the connection, and every call on it."""
        if self.opened is not None:
            self.opened.close()


class BlockingCondition:
    """A condition of threads, for work that is written as a coroutine; it serves as a lock, too."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    async def __aenter__(self) -> Self:
        self._condition.acquire()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._condition.release()

    async def wait_until(self, holds: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until it holds; False where it does not in time."""
        return self._condition.wait_for(holds, seconds)

    def notify_all(self) -> None:
        """Let all who wait look again."""
        self._condition.notify_all()


class BlockingIo:
    """All endpoints."""

    def __init__(self, settings: Settings, balancer: Balancer) -> None:
        self.settings = settings
        self._balancer = balancer
        self._changed = threading.Condition()
        self.places: Sequence[BlockingPlace] = [
            BlockingPlace(self, number, name) for number, name in enumerate(settings.endpoints)
        ]
        self.login_lock = BlockingCondition()
        self._woken = threading.Event()
        self.closed = False

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251  # nothing else runs here

    async def wait_connected(self, seconds: float | None) -> bool:
        """Wait until there is a connection; False where there is none in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self.closed or self._balancer.pick(time.monotonic()) is not None, seconds
            )

    async def wait_woken(self, seconds: float | None) -> None:
        """Wait so long, or until `wake`."""
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        """End that wait, or the next one."""
        self._woken.set()

    def new_condition(self) -> BlockingCondition:
        """Something to wait for."""
        return BlockingCondition()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do that work in a thread of its own."""
        threading.Thread(target=run, args=(work,), name="etcdpy-client", daemon=True).start()

    def connected(self, number: int) -> None:
        """There is a connection to that endpoint."""
        with self._changed:
            self._balancer.connected(number)
            self._changed.notify_all()

    def close(self) -> None:
        """End all connections, and wake who waits for one."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        self.wake()
        for place in self.places:
            place.close()
