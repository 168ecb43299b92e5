"""The cluster as the proxy asks it: calls by path and bytes, on grpcio's asyncio channels, one an endpoint.

Who gets a call, when a failed one is made again, and what counts as down, are the client's rules (`client.balancer`,
`client.retrying`). The proxy has no user of its own: each call carries what its caller sent to prove who it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc import aio

from etcdpy import limits
from etcdpy.client import call as calls
from etcdpy.client.aio import is_cancelled
from etcdpy.client.balancer import Balancer
from etcdpy.client.channels import TlsFiles, open_async_channel, target_of
from etcdpy.client.failures import Failure
from etcdpy.client.retrying import Attempts
from etcdpy.client.unverified import UnverifiedRelay
from etcdpy.errors import Code, InvalidAuthToken, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from google.protobuf.message import Message

    from etcdpy.transport.calls import Call

    Caller = tuple[tuple[str, str], ...]
    """The metadata that goes with a call: who asks, and whether only a member with a leader may answer."""

_REPEATABLE: Final = {
    method.path: method.repeatable for method in vars(calls).values() if isinstance(method, calls.Method)
}
_PASSED: Final = (b"token", b"hasleader")
_EOF: Final = aio.EOF  # type: ignore[attr-defined]  # grpcio has it, its stubs have not
NOBODY: Final[Caller] = ()


def caller_of(call: Call) -> Caller:
    """What of a call's metadata the cluster is to see: who asks, and the wish for a leader. Raises InvalidAuthToken."""
    metadata = call.head.metadata
    found = [(name, metadata[name][0]) for name in _PASSED if metadata.get(name)]
    if not all(value.isascii() for _, value in found):
        raise InvalidAuthToken  # nobody has issued it, and grpcio would not send it
    return tuple((name.decode(), value.decode()) for name, value in found)


def _as_it_is(body: bytes) -> bytes:
    return body


class _Endpoint:
    """A channel, and its calls by path."""

    def __init__(self, endpoint: str, tls: TlsFiles | None, options: Sequence[tuple[str, int]], verify: bool) -> None:
        target, secure = target_of(endpoint)
        self.relay: UnverifiedRelay | None = None
        if not verify and (secure or (secure is None and tls is not None)):
            self.relay = UnverifiedRelay(target, tls or TlsFiles())
            # It starts its own event loop, which a thread that runs one may not.
            starting = threading.Thread(target=self.relay.__enter__)
            starting.start()
            starting.join()
            endpoint = self.relay.target
        self.channel = open_async_channel(endpoint, tls, options)
        self.unary: dict[str, Any] = {}

    async def close(self) -> None:
        await self.channel.close(None)
        if self.relay is not None:
            self.relay.__exit__(None, None, None)


class Upstream:
    """Belongs to the running loop. Everything raises EtcdError for what the cluster refuses."""

    def __init__(
        self,
        endpoints: Sequence[str],
        tls: TlsFiles | None,
        *,
        verify: bool = True,
        max_send_bytes: int,
        options: Sequence[tuple[str, int]] = (),
        renewals: Callable[[], int] = lambda: 0,
    ) -> None:
        """`renewals`: how often the TLS files were renewed. It is asked while an endpoint cannot be connected to.

        Raises OSError for a TLS file that cannot be read."""
        self._tls = tls
        self._renewals = renewals
        self._verify = verify
        self._options = options
        self._max_send_bytes = max_send_bytes
        self._news = asyncio.Event()
        self._watches: list[asyncio.Task[None]] = []
        self._tasks: asyncio.TaskGroup
        self.endpoints: tuple[str, ...] = ()
        self._places: list[_Endpoint] = []
        self._replaced: list[_Endpoint] = []
        self._balancer: Balancer
        self._open(endpoints)

    def _open(self, endpoints: Sequence[str]) -> None:
        self.endpoints = tuple(endpoints)
        self._places = [self._opened(name) for name in endpoints]
        self._balancer = Balancer(len(endpoints))

    def _opened(self, endpoint: str) -> _Endpoint:
        return _Endpoint(endpoint, self._tls, self._options, self._verify)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Connect, and stay connected, in tasks of that group."""
        self._tasks = tasks
        balancer = self._balancer
        self._watches = [
            tasks.create_task(self._follow(self._places, number, balancer)) for number in range(len(self._places))
        ]

    async def close(self) -> None:
        """Let go of the connections. For the end: who asks afterwards is told so."""
        for task in self._watches:
            task.cancel()
        for place in [*self._places, *self._replaced]:
            await place.close()
        self._replaced.clear()

    async def replace(self, endpoints: Sequence[str]) -> None:
        """Take other endpoints from the next call on; calls under way end where they are."""
        if not endpoints or set(endpoints) == set(self.endpoints):
            return
        before, self._replaced = self._replaced, self._places
        for task in self._watches:
            task.cancel()
        self._open(endpoints)
        self.start(self._tasks)
        self._news.set()
        for place in before:
            await place.close()

    async def _follow(self, places: list[_Endpoint], number: int, balancer: Balancer) -> None:
        """Tell the balancer how an endpoint is; open it anew while it is down and there are other TLS files."""
        opened_with = self._renewals()
        while True:
            channel = places[number].channel
            state = channel.get_state(try_to_connect=True)
            down = state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.CONNECTING)
            if state is grpc.ChannelConnectivity.READY:
                balancer.connected(number)
                self._news.set()
            elif down:
                balancer.disconnected(number)
            changing = self._tasks.create_task(_changed(channel, state))
            try:
                while not changing.done() and not (down and self._renewals() != opened_with):
                    # It stays down, without a word, while attempt after attempt fails.
                    await asyncio.wait([changing], timeout=limits.PROXY_TLS_LOOK_SECONDS if down else None)
            finally:
                changing.cancel()
            if down and self._renewals() != opened_with:
                opened_with = self._renewals()
                before, places[number] = places[number], self._opened(self.endpoints[number])
                await before.close()

    async def _choose(self) -> tuple[int, _Endpoint]:
        while (number := self._balancer.pick(time.monotonic())) is None:
            self._news.clear()
            await self._news.wait()
        return number, self._places[number]

    # --- calls ---

    async def ask(self, path: str, body: bytes, caller: Caller) -> bytes:
        """Make a unary call, by the client's rules again where it failed. It waits for as long as its task lives."""
        if len(body) > self._max_send_bytes:
            text = f"trying to send message larger than max ({len(body)} vs. {self._max_send_bytes})"
            raise StatusError(Code.RESOURCE_EXHAUSTED, text)
        attempts = None
        while True:
            number, place = await self._choose()
            callable_ = place.unary.get(path)
            if callable_ is None:
                callable_ = place.unary[path] = place.channel.unary_unary(path, _as_it_is, _as_it_is)
            try:
                answer: bytes = await callable_(body, metadata=caller, wait_for_ready=self._balancer.count == 1)
                return answer
            except aio.AioRpcError as error:
                failure = Failure.of(error)
            except (aio.UsageError, asyncio.CancelledError):
                if is_cancelled():
                    raise
                if place in self._places:
                    raise StatusError(Code.UNAVAILABLE, "the client connection is closing") from None
                continue  # its channel was closed because there is another in its place now
            if attempts is None:
                repeatable = _REPEATABLE.get(path, False)
                attempts = Attempts(repeatable=repeatable, may_log_in=False, endpoints=self._balancer.count)
            self.note(number, failure)
            await asyncio.sleep(attempts.pause_before_next(failure))

    async def call(
        self, method: calls.Method[Any, calls.Answer], request: Message, caller: Caller = NOBODY
    ) -> calls.Answer:
        """`ask` with messages."""
        return method.answer.FromString(await self.ask(method.path, request.SerializeToString(), caller))

    async def encoded(self, method: calls.Method[Any, Any], request: Message, caller: Caller) -> bytes:
        """`call`, with the answer as it came: a large one costs nothing to pass on."""
        return await self.ask(method.path, request.SerializeToString(), caller)

    async def open(self, path: str, caller: Caller) -> UpstreamStream:
        """A stream at one endpoint; when it breaks it is for its owner to open another."""
        number, place = await self._choose()
        make = place.channel.stream_stream(path, _as_it_is, _as_it_is)
        return UpstreamStream(self, number, make(None, metadata=caller, wait_for_ready=False))

    def note(self, number: int, failure: Failure) -> None:
        """Learn from a failure how an endpoint is."""
        if number >= self._balancer.count:
            return
        if failure.not_sent:
            self._balancer.disconnected(number)
        elif failure.code is Code.UNAVAILABLE:
            self._balancer.unwell(number, time.monotonic())


async def _changed(channel: aio.Channel, state: grpc.ChannelConnectivity) -> None:
    """Until the channel is in another state, or closed."""
    with contextlib.suppress(aio.UsageError):
        await channel.wait_for_state_change(state)


class UpstreamStream:
    """A stream of messages both ways, as bytes."""

    def __init__(self, upstream: Upstream, number: int, call: aio.StreamStreamCall[bytes, bytes]) -> None:
        self._upstream = upstream
        self._number = number
        self._call = call

    async def send(self, body: bytes) -> None:
        """Send a message. A broken stream takes it too: reading tells."""
        with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(body)

    async def done_sending(self) -> None:
        """There is no more to send."""
        with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.done_writing()

    async def read(self) -> bytes | None:
        """The next message; None after the last. Raises StreamBroken."""
        try:
            message = await self._call.read()
            if message is _EOF:
                code = await self._call.code()
                if code is not grpc.StatusCode.OK:
                    raise StreamBroken(Failure(Code(code.value[0]), await self._call.details() or ""))
                return None
        except asyncio.CancelledError:
            if is_cancelled():
                raise
            raise StreamBroken(Failure(Code.UNAVAILABLE, "the client connection is closing")) from None
        except aio.AioRpcError as error:
            failure = Failure.of(error)
            self._upstream.note(self._number, failure)
            raise StreamBroken(failure) from None
        return message  # type: ignore[return-value]

    async def exchange(
        self, send: Callable[[UpstreamStream], Coroutine[None, None, None]], take: Callable[[bytes], None]
    ) -> StreamBroken | None:
        """Send in a task of its own and take what comes, until the stream is over; how it broke, if it did."""
        async with asyncio.TaskGroup() as both:
            sending = both.create_task(send(self))
            try:
                while (body := await self.read()) is not None:
                    take(body)
            except StreamBroken as broken:
                return broken
            finally:
                sending.cancel()
                self.cancel()
        return None

    def cancel(self) -> None:
        """Let go of it."""
        self._call.cancel()


class StreamBroken(Exception):
    """A stream ended with an error."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure
