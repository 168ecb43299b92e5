"""What the blocking client does where the shared work waits: calls on grpcio's channels, threads, conditions."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Generic, Self

import grpc

from etcdpy.client.call import Answer, Call, Method
from etcdpy.client.channels import open_channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from etcdpy.client.balancer import Balancer
    from etcdpy.client.core import Metadata, Settings


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


class BlockingPlace:
    """One endpoint; the channel is opened by its first use."""

    def __init__(self, io: BlockingIo, number: int, endpoint: str) -> None:
        self._io = io
        self._number = number
        self._endpoint = endpoint
        self._opening = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._unary: dict[str, Any] = {}
        self._connecting = False

    @property
    def channel(self) -> grpc.Channel:
        """The connection. Raises OSError for a TLS file that cannot be read."""
        if self._channel is None:
            with self._opening:
                if self._channel is None:
                    settings = self._io.settings
                    self._channel = open_channel(self._endpoint, settings.tls, settings.channel_options())
        return self._channel

    async def invoke(
        self, call: Call[Answer], seconds: float | None, metadata: Metadata, *, wait_for_ready: bool
    ) -> Answer:
        """Make a unary call."""
        method = call.method
        made = self._unary.get(method.path)
        if made is None:
            made = self._unary[method.path] = self.channel.unary_unary(
                method.path, method.request.SerializeToString, method.answer.FromString
            )
        answer: Answer = made(call.request, timeout=seconds, metadata=metadata, wait_for_ready=wait_for_ready)
        return answer

    def stream(
        self,
        method: Method[Any, Answer],
        requests: Sequence[Any],
        seconds: float | None,
        metadata: Metadata,
        *,
        wait_for_ready: bool,
        more: bool,
    ) -> BlockingStream[Answer]:
        """Open a stream with these requests; `more`: others follow."""
        make = self.channel.stream_stream(method.path, method.request.SerializeToString, method.answer.FromString)
        waiting: queue.SimpleQueue[Any] | None = None
        feed: Iterator[Any] = iter(requests)
        if more:
            waiting = queue.SimpleQueue()
            for request in requests:
                waiting.put(request)
            feed = iter(waiting.get, None)
        call = make(feed, timeout=seconds, metadata=metadata, wait_for_ready=wait_for_ready)
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
        if self._channel is not None:
            self._channel.close()


class _Lock:
    """A lock of threads for work that is written as a coroutine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> Self:
        self._lock.acquire()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._lock.release()


class BlockingIo:
    """All endpoints."""

    def __init__(self, settings: Settings, balancer: Balancer) -> None:
        self.settings = settings
        self._balancer = balancer
        self._changed = threading.Condition()
        self.places: Sequence[BlockingPlace] = [
            BlockingPlace(self, number, name) for number, name in enumerate(settings.endpoints)
        ]
        self.login_lock = _Lock()
        self._closed = False

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)  # noqa: ASYNC251  # nothing else runs here

    async def wait_connected(self, seconds: float | None) -> bool:
        """Wait until there is a connection; False where there is none in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or self._balancer.pick(time.monotonic()) is not None, seconds
            )

    def connected(self, number: int) -> None:
        """There is a connection to that endpoint."""
        with self._changed:
            self._balancer.connected(number)
            self._changed.notify_all()

    def close(self) -> None:
        """End all connections, and wake who waits for one."""
        for place in self.places:
            place.close()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
