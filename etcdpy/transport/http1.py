"""HTTP/1.1 for one connection, over h11: one request at a time, bounded in size and time."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, cast

import h11

from etcdpy import limits, work_limits
from etcdpy.transport.exchange import (
    INTERNAL_ERROR,
    TOO_LARGE,
    HttpHandler,
    HttpRequest,
    HttpResponse,
    body_forbidden,
    build_request,
)
from etcdpy.transport.http1_known import KnownHead, KnownHeads, http_date, reason, whole_answer
from etcdpy.transport.http1_stream import AnswerOwner, EndlessAnswer, RequestBody
from etcdpy.transport.websocket import Upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from etcdpy.transport.calls import Peer
    from etcdpy.transport.server import Server

_BAD_REQUEST = HttpResponse(400, [("content-type", "text/plain; charset=utf-8")], b"400 Bad Request")
_NO_TUNNEL = HttpResponse(405, [("content-type", "text/plain; charset=utf-8")], b"405 Method Not Allowed")
_HEAD_TOO_LARGE = HttpResponse(
    431, [("content-type", "text/plain; charset=utf-8")], b"431 Request Header Fields Too Large"
)


# h11's pattern goes back over every blank of a line, and takes 0.1 s for 20,000 of them. This one is the same, but what
# it has matched it does not try in another way.
_readers: Any = h11._readers
_readers.header_field_re = re.compile(
    rb"(?P<field_name>[-!#$%&'*+.^_`|~0-9a-zA-Z]+):[ \t]*+"
    rb"(?P<field_value>([^\x00\s]++(?:[ \t]++[^\x00\s]++)*+)?)[ \t]*"
)


def _is_plain(response: HttpResponse, draining: bool) -> bool:
    """Whether an answer needs no header but its own, date and length."""
    return not draining and response.status >= 200 and response.status not in (204, 304)


class Http1Protocol(asyncio.Protocol):
    """Reads a request, runs the handler in a task, writes the answer, then looks at the next request.

    While a handler runs the connection reads on, to learn that the client has gone, but keeps at most
    HTTP_PIPELINED_BYTES_MAX of further requests before it stops. On the paths in `streamed` the handler starts with the
    head of a request and takes the body as it comes.
    """

    def __init__(
        self,
        server: Server,
        peer: Peer,
        handler: HttpHandler,
        streamed: frozenset[str] = frozenset(),
        *,
        endless: bool = False,
    ) -> None:
        self._server = server
        self._peer = peer
        self._handler = handler
        self._streamed = streamed
        self._endless = endless
        self._request_stream: RequestBody | None = None
        """The body of a streamed request, for its handler."""
        self._inflow: RequestBody | None = None
        """The same while more of it is to come."""
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX)
        self._heads = KnownHeads()
        self._known: KnownHead | None = None
        """The head of the request that is being answered, where h11 did not have to read it."""
        self._held = b""
        """A request with a known head whose body is not whole, or is looked at by its handler now."""
        self._transport: asyncio.Transport | None = None
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        """Tells the handler that the client has closed its side."""
        self._streaming = False
        self._lingering = False
        self._next = b""
        """What has come while a request is answered."""
        self._paused_reading = False
        self._behind = False
        """Whether events or bytes are left that would have held the loop for too long; the next turn takes them."""
        self._late = b""
        """Such bytes."""
        self._at_eof = False
        self._draining = False
        self._lost = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_SLICE_BYTES)
        self._server.add_connection(self)
        self._set_timer(limits.PREFACE_SECONDS_MAX)
        self._draining = self._server.draining

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._lost = True
        self._server.remove_connection(self)
        self._cancel_timer()
        self._writable.set()
        if self._inflow is not None:
            self._inflow.fail("unexpected EOF")
        elif self._task is not None:
            self._task.cancel()

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._lingering:
            return
        if self._task is not None and self._inflow is None:
            self._next += data
            if len(self._next) > limits.HTTP_PIPELINED_BYTES_MAX and not self._paused_reading:
                self._paused_reading = True
                self._open_transport().pause_reading()
            return
        if self._late:
            self._late += data
        elif self._behind:
            self._http.receive_data(data)
        elif self._server.turns.is_over():
            self._late = data
            self._read_on_later()
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if not self._take_known(data):
            self._http.receive_data(data)
            self._read_events()

    def _take_known(self, data: bytes) -> bool:
        """Begin a request whose head is known, or wait for the rest of its body."""
        if self._http.their_state is not h11.IDLE:
            return False
        waited = bool(self._held)
        if waited:
            data, self._held = self._held + data, b""
        elif self._http.trailing_data[0]:
            self._heads.forget_new()
            return False
        found = self._heads.find(data)
        if found is None:
            return False
        known, start = found
        missing = start + known.body_bytes - len(data)
        if missing < 0:
            # Another request follows at once.
            self._http.receive_data(data)
            self._read_events()
            return True
        self._held = data
        if missing:
            if not waited:
                self._set_timer(limits.HTTP_REQUEST_SECONDS_MAX)
            return True
        self._cancel_timer()
        self._known = known
        self._start(self._run_known(known, start))
        return True

    def eof_received(self) -> bool:
        """The client sends no more."""
        self._at_eof = True
        if self._inflow is not None:
            self._inflow.fail("unexpected EOF")
        if self._task is None:
            return self._behind and not self._peer.secure
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self._streaming:
            self._task.cancel()
            return False
        # TLS has no half-closed connection to keep.
        return not self._peer.secure

    def _open_transport(self) -> asyncio.Transport:
        assert self._transport is not None
        return self._transport

    def _read_events(self) -> None:
        """Take events until a request is complete, more bytes are needed, or others must have their turn."""
        left = work_limits.HTTP_EVENTS_PER_TURN
        try:
            while self._task is None or self._inflow is not None:
                left -= 1
                if left < 0:
                    self._read_on_later()
                    return
                if self._http.their_state is h11.IDLE and self._has_too_many_lines():
                    self._refuse(_HEAD_TOO_LARGE)
                    return
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
                    if self._at_eof and self._task is None:
                        self._close()
                    return
                if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                    self._close()
                    return
                self._take_event(event)
        except h11.RemoteProtocolError as error:
            if self._inflow is not None:
                self._inflow.fail(str(error))
                self._inflow = None
                return
            self._refuse(_HEAD_TOO_LARGE if error.error_status_hint == 431 else _BAD_REQUEST)

    def _has_too_many_lines(self) -> bool:
        """Whether the head that is coming has so many lines that h11 would hold the loop with them."""
        waiting = self._http.trailing_data[0]
        if len(waiting) < work_limits.HTTP_HEAD_LINES_MAX:
            return False
        ends = [at for at in (waiting.find(b"\n\r\n"), waiting.find(b"\n\n")) if at >= 0]
        return waiting.count(b"\n", 0, min(ends, default=len(waiting))) > work_limits.HTTP_HEAD_LINES_MAX

    def _read_on_later(self) -> None:
        self._behind = True
        if not self._open_transport().is_closing():
            self._open_transport().pause_reading()
        self._server.turns.later(self._read_on)

    def _read_on(self) -> None:
        self._behind = False
        transport = self._open_transport()
        if self._lost or transport.is_closing():
            return
        late, self._late = self._late, b""
        if late:
            self._take(late)
        else:
            self._read_events()
        held = self._behind or self._paused_reading or (self._inflow is not None and self._inflow.is_full)
        if not held and not transport.is_closing():
            transport.resume_reading()

    def _take_event(self, event: object) -> None:
        if isinstance(event, h11.Request):
            self._request = event
            self._body = bytearray()
            if event.method == b"CONNECT":
                # h11 would take a good answer for the beginning of a tunnel.
                self._refuse(_NO_TUNNEL)
                return
            if event.target.partition(b"?")[0].decode("latin-1") in self._streamed:
                self._cancel_timer()
                self._request_stream = self._inflow = RequestBody(self._open_transport(), endless=self._endless)
                self._start(self._run())
                return
            self._set_timer(limits.HTTP_REQUEST_SECONDS_MAX)
        elif isinstance(event, h11.Data) and self._inflow is not None:
            self._inflow.feed(bytes(event.data))
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > limits.HTTP_BODY_BYTES_MAX:
                self._refuse(TOO_LARGE)
        elif isinstance(event, h11.EndOfMessage) and self._inflow is not None:
            self._inflow.end()
            self._inflow = None
        elif isinstance(event, h11.EndOfMessage):
            self._cancel_timer()
            self._start(self._run())

    def _refuse(self, response: HttpResponse) -> None:
        """Answer without a handler. What is wrong may come after a head, and a HEAD gets no body."""
        self._start(self._answer(response, self._request.method.decode("latin-1") if self._request else "GET"))

    def _start(self, work: asyncio.Future[None] | object) -> None:
        self._task = self._server.spawn(work)  # type: ignore[arg-type]
        self._task.add_done_callback(self._finished)

    def _finished(self, _task: asyncio.Task[None]) -> None:
        self._task = None
        known, self._known, self._held = self._known, None, b""
        self._streaming = False
        cut_short = self._inflow is not None
        self._request_stream = self._inflow = None
        transport = self._open_transport()
        if transport.is_closing() or transport.get_protocol() is not self:
            return
        if cut_short:
            self._linger()
            return
        if self._draining:
            self._close()
            return
        if known is None:
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                self._close()
                return
            self._http.start_next_cycle()
            self._request = None
        self._set_timer(limits.HTTP_IDLE_SECONDS_MAX)
        if self._paused_reading:
            self._paused_reading = False
            transport.resume_reading()
        following, self._next = self._next, b""
        if following and not self._http.trailing_data[0]:
            self.data_received(following)
            return
        if following:
            self._http.receive_data(following)
        self._read_events()

    # --- answering ---

    async def _run(self) -> None:
        request = self._request
        assert request is not None
        headers = list(request.headers)
        host = next((value for name, value in headers if name == b"host"), b"")
        version = "HTTP/" + request.http_version.decode()
        self._gone = self._server.loop.create_future()
        built = build_request(
            request.method,
            request.target,
            headers,
            bytes(self._body),
            self._peer,
            host,
            version,
            self._request_stream,
            self._gone,
        )
        self._body = bytearray()
        if self._request_stream is None:
            self._heads.learn(request, built)
        else:
            self._heads.forget_new()
        await self._answer(await self._handle(built), built.method)

    async def _run_known(self, known: KnownHead, start: int) -> None:
        self._gone = self._server.loop.create_future()
        request = known.request_of(self._held[start:], self._peer, self._gone)
        response = await self._handle(request)
        body = response.body
        if isinstance(body, bytes) and len(body) <= limits.WRITE_SLICE_BYTES and _is_plain(response, self._draining):
            if not self._lost:
                self._write(whole_answer(response.status, response.headers, body))
                await self._writable.wait()
            return
        self._let_h11_read()
        await self._answer(response, request.method)

    def _let_h11_read(self) -> None:
        """The request again, for an answer that needs what h11 knows of it."""
        self._known = None
        self._http.receive_data(self._held)
        while not isinstance(self._http.next_event(), h11.EndOfMessage):
            pass

    async def _handle(self, request: HttpRequest) -> HttpResponse:
        try:
            return await self._handler(request)
        except Exception as error:
            self._server.on_bug(error)
            return INTERNAL_ERROR

    async def _answer(self, response: HttpResponse, method: str) -> None:
        if self._lost or self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = response.body
        if isinstance(body, Upgrade):
            self._upgrade(response, body)
            return
        headers = list(response.headers)
        names = {name.lower() for name, _ in headers}
        if "date" not in names:
            headers.append(("date", http_date()))
        if isinstance(body, bytes) and response.status != 204 and "content-length" not in names:
            headers.append(("content-length", str(len(body))))
        if self._draining:
            headers.append(("connection", "close"))
        start = self._http.send(
            h11.Response(status_code=response.status, headers=headers, reason=reason(response.status))
        )
        if body_forbidden(method, response.status):
            self._write(start, self._http.send(h11.EndOfMessage()))
        elif isinstance(body, bytes):
            await self._write_body(start, body)
        elif isinstance(body, AnswerOwner):
            self._write(start)
            self._hand_over(body)
        else:
            self._write(start)
            await self._stream(body)

    async def _write_body(self, start: bytes | None, body: bytes) -> None:
        """A body in slices: a join of all of it would hold the loop for 0.5 ms a megabyte."""
        first, rest = body[: limits.WRITE_SLICE_BYTES], memoryview(body)[limits.WRITE_SLICE_BYTES :]
        self._write(start, self._http.send(h11.Data(data=first)) if first else None)
        while rest:
            await self._writable.wait()
            if self._open_transport().is_closing():
                return
            self._write(self._http.send(h11.Data(data=bytes(rest[: limits.WRITE_SLICE_BYTES]))))
            rest = rest[limits.WRITE_SLICE_BYTES :]
        self._write(self._http.send(h11.EndOfMessage()))
        await self._writable.wait()

    async def _stream(self, body: AsyncIterator[bytes]) -> None:
        self._streaming = True
        if self._at_eof:
            self._open_transport().abort()
            return
        try:
            async for chunk in body:
                if chunk:
                    self._write(self._http.send(h11.Data(data=chunk)))
                    await self._writable.wait()
        except Exception as error:
            # The answer has begun: only a cut connection tells the client that it is not whole.
            self._server.on_bug(error)
            self._open_transport().abort()
            return
        self._write(self._http.send(h11.EndOfMessage()))

    def _hand_over(self, owner: AnswerOwner) -> None:
        """Give the connection to an answer without an end."""
        transport = self._open_transport()
        if transport.is_closing() or self._at_eof or self._http.their_http_version == b"1.0":
            transport.abort()
            owner.closed("closed by the remote side")
            return
        answer = EndlessAnswer(self._server, transport, owner)
        self._server.remove_connection(self)
        self._cancel_timer()
        transport.set_protocol(answer)
        owner.begin(answer)

    def _upgrade(self, response: HttpResponse, owner: Upgrade) -> None:
        """Give the connection to another protocol. What the client has sent behind its request is for that one."""
        transport = self._open_transport()
        if transport.is_closing() or self._at_eof:
            transport.abort()
            return
        start = self._http.send(
            h11.InformationalResponse(
                status_code=response.status, headers=response.headers, reason=reason(response.status)
            )
        )
        self._write(start)
        self._server.remove_connection(self)
        self._cancel_timer()
        owner.take_over(self._server, transport, self._http.trailing_data[0] + self._next)

    def _write(self, *parts: bytes | None) -> None:
        transport = self._open_transport()
        if not transport.is_closing():
            transport.write(b"".join([part for part in parts if part]))

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self._writable.clear()
        self._set_timer(limits.WRITE_STALL_SECONDS_MAX)

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        self._writable.set()
        self._cancel_timer()

    # --- ends ---

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self._server.loop.call_later(seconds, self.abort)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        self._open_transport().close()

    def _linger(self) -> None:
        """The answer came before the end of a streamed body: take what is still on its way, for a moment.

        Closing with unread bytes makes the kernel reset the connection, and the answer may be lost with it.
        """
        self._lingering = True
        transport = self._open_transport()
        transport.resume_reading()
        if transport.can_write_eof():
            transport.write_eof()
        self._set_timer(limits.HTTP_LINGER_SECONDS)

    def drain(self) -> None:
        """Close now if idle, else after the answer."""
        self._draining = True
        if self._task is None:
            self._close()

    def finish_drain(self) -> None:
        """As `drain`."""

    def end_endless(self) -> None:
        """Answers over HTTP/1.1 come to an end by themselves."""

    def abort(self) -> None:
        """Drop the connection."""
        self._open_transport().abort()
