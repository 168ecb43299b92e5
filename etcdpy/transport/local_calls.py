"""Calls from within the process: a handler is asked as if a client had called, without a connection in between.

The JSON gateway and the recipes (locks, elections) ask the other services this way, so checks, permissions and texts
are the same as for everybody. A call that is `counted` shows in the gRPC metrics, as a client's would.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from etcdpy.errors import Code, EtcdError, StatusError
from etcdpy.transport.calls import Call, Peer, StreamCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from etcdpy.transport.calls import StreamHandler
    from etcdpy.transport.heads import RequestHead

    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class LocalCall(Call):
    """A unary call. `outcome` gets the answer in parts, or the EtcdError; nothing once the call is gone."""

    __slots__ = ("_counted", "_on_bug", "_peer", "outcome")

    def __init__(
        self, head: RequestHead, peer: Peer, on_bug: Callable[[Exception], None], *, counted: bool = False
    ) -> None:
        self.head = head
        self._peer = peer
        self._on_bug = on_bug
        self._counted = counted
        self.done = False
        self.on_cancel = None
        self.inbox = None
        self.slot = None
        self.outcome: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._peer

    # --- the caller's side ---

    def begin(self, handler: Callable[[Call, bytes], Any], body: bytes) -> None:
        """Call `handler`, whose answer `outcome` gets."""
        if self._counted:
            method = self.method
            method.started += 1
            method.received += 1
            method.received_bytes += len(body)
            self.head.tally.count += 1
        try:
            handler(self, body)
        except EtcdError as error:
            self.fail(error)
        except Exception as error:
            self.crash(error)

    async def ask(self, handler: Callable[[Call, bytes], Any], body: bytes) -> list[bytes]:
        """The answer, in parts. Raises EtcdError; when the waiter is cancelled, so is the call."""
        self.begin(handler, body)
        try:
            return await self.outcome
        except asyncio.CancelledError:
            self.on_gone()
            raise

    def on_gone(self) -> None:
        """Whoever asked wants no answer any more."""
        if self.done:
            return
        self.done = True
        self._note(Code.CANCELLED)
        callback = self.on_cancel
        self._settle()
        if callback is not None:
            callback()

    # --- the handler's side ---

    def finish(self, message: bytes) -> None:
        """See Call."""
        self.finish_parts([message])

    def finish_parts(self, parts: list[bytes]) -> None:
        """See Call."""
        if self.done:
            return
        self.done = True
        self._note(Code.OK)
        if self._counted:
            self.method.sent += 1
            self.method.sent_bytes += sum(map(len, parts))
        self._settle()
        if not self.outcome.done():
            self.outcome.set_result(parts)

    def fail(self, error: EtcdError) -> None:
        """See Call."""
        if self.done:
            return
        self.done = True
        self._note(error.code)
        self._settle()
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def crash(self, error: Exception) -> None:
        """See Call."""
        self.fail(StatusError(Code.INTERNAL, "internal error"))
        self._on_bug(error)

    def _note(self, code: Code) -> None:
        if self._counted:
            self.method.handled[code] += 1


class LocalStreamCall(StreamCall):
    """A streaming call. The handler takes its requests from `requests`; the caller takes the answers with `next`."""

    __slots__ = ("_counted", "_drained", "_failure", "_news", "_on_bug", "_outbox", "_peer", "_requests")

    def __init__(
        self,
        head: RequestHead,
        peer: Peer,
        requests: AsyncIterator[bytes],
        on_bug: Callable[[Exception], None],
        *,
        counted: bool = False,
    ) -> None:
        self.head = head
        self._peer = peer
        self._requests = requests
        self._on_bug = on_bug
        self._counted = counted
        self.done = False
        self.on_cancel = None
        self.inbox = None
        self.slot = None
        self._messages = deque()
        self._task = None
        self._outbox: deque[bytes] = deque()
        self.outbox_bytes = 0
        self._failure: EtcdError | None = None
        self._news = asyncio.Event()
        self._drained = asyncio.Event()

    @property
    def peer(self) -> Peer:
        """Who calls."""
        return self._peer

    # --- the caller's side ---

    def begin(self, handler: StreamHandler, spawn: Spawn) -> None:
        """Run the handler in a task."""
        if self._counted:
            self.method.started += 1
            self.head.tally.count += 1
        self._task = spawn(self._run(handler))

    async def next(self) -> bytes | None:
        """The next answer; None after the last. Raises the EtcdError that the call ended with."""
        while not self._outbox:
            if self._failure is not None:
                raise self._failure
            if self.done:
                return None
            self._news.clear()
            await self._news.wait()
        message = self._outbox.popleft()
        self.outbox_bytes -= len(message)
        self._drained.set()
        return message

    def on_gone(self) -> None:
        """Whoever asked wants no more."""
        if not self.done:
            self._end(Code.CANCELLED)
        self._outbox.clear()
        self.outbox_bytes = 0
        self._cancel_task()

    # --- the handler's side ---

    async def receive(self) -> bytes | None:
        """See StreamCall."""
        message = await anext(self._requests, None)
        if message is not None and self._counted:
            self.method.received += 1
            self.method.received_bytes += len(message)
        return message

    def _send(self, parts: Sequence[bytes], length: int) -> None:
        if self.done:
            return
        if self._counted:
            self.method.sent += 1
            self.method.sent_bytes += length
        self._outbox.append(b"".join(parts))
        self.outbox_bytes += length
        self._news.set()

    @property
    def buffered_bytes(self) -> int:
        """Bytes that the caller has not taken."""
        return self.outbox_bytes

    async def wait_writable(self, limit_bytes: int) -> None:
        """See StreamCall."""
        while self.outbox_bytes > limit_bytes and not self.done:
            self._drained.clear()
            await self._drained.wait()

    def end(self) -> None:
        """See StreamCall."""
        if not self.done:
            self._end(Code.OK)

    def fail(self, error: EtcdError) -> None:
        """See Call."""
        if not self.done:
            self._failure = error
            self._end(error.code)

    def crash(self, error: Exception) -> None:
        """See Call."""
        self.fail(StatusError(Code.INTERNAL, "internal error"))
        self._on_bug(error)

    def _end(self, code: Code) -> None:
        self.done = True
        if self._counted:
            self.method.handled[code] += 1
        self._news.set()
        self._drained.set()
