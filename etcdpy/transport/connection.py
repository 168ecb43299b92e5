"""A client's connection on the event loop: which protocol it speaks, and HTTP/2's reading and writing.

    accept -> Sniffer --PRI * HTTP/2.0--> Http2Protocol (over http2.Http2Connection)
                      --anything else---> Http1Protocol

Back-pressure: while the socket's write buffer is over its high mark nothing more is read, so a client that does not
read gets no work done; if the buffer does not shrink for WRITE_STALL_SECONDS_MAX the connection is dropped.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from etcdpy import limits
from etcdpy.transport.calls import Kind, Peer, StreamCall
from etcdpy.transport.frames import PREFACE, ErrorCode
from etcdpy.transport.http1 import Http1Protocol
from etcdpy.transport.http2 import Http2Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine

    from etcdpy.transport.grpc import GrpcService
    from etcdpy.transport.listener import Serves, TlsSource
    from etcdpy.transport.server import Server


class Sniffer(asyncio.Protocol):
    """Looks at the first bytes and hands the connection on."""

    def __init__(
        self,
        server: Server,
        address: str,
        serves: Serves,
        tls: TlsSource | None,
    ) -> None:
        self._server = server
        self._peer = Peer(address)
        self._serves = serves
        self._tls = tls
        self._seen = b""
        self._held = False
        """Whether its turn is still to come, or it is still being found out if the client may come from its address."""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        if self._server.draining:
            # It was accepted before the end. uvloop closes it under us when its set-up is cancelled, without a word.
            self._transport.abort()
            return
        self._server.add_connection(self)
        if self._tls is not None and not self._check_tls(self._tls):
            return
        self._timer = self._server.loop.call_later(limits.PREFACE_SECONDS_MAX, self._transport.abort)

    def _check_tls(self, tls: TlsSource) -> bool:
        transport = self._transport
        assert transport is not None
        ssl_object: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            tls.check_peer(ssl_object)
            pending = tls.check_address(ssl_object, self._peer.address)
        except (OSError, ValueError) as error:
            # ssl.SSLError and PermissionError are OSErrors; the reason reaches the log, the client only the close.
            tls.log_refused(self._peer.address, error)
            transport.abort()
            return False
        if pending is not None:
            self._held = True
            transport.pause_reading()
            self._server.spawn(self._finish_check(tls, pending, transport))
        self._peer = Peer(self._peer.address, common_name(ssl_object), secure=True)
        return True

    async def _finish_check(
        self, tls: TlsSource, pending: Coroutine[None, None, None], transport: asyncio.Transport
    ) -> None:
        """Nothing is read until names are resolved; a resolver that hangs costs the client its connection."""
        try:
            async with asyncio.timeout(limits.PREFACE_SECONDS_MAX):
                await pending
        except (OSError, TimeoutError) as error:
            tls.log_refused(self._peer.address, error)
            transport.abort()
        else:
            self._look_late()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._seen += data
        if self._held:
            return
        if self._server.turns.is_over():
            assert self._transport is not None
            self._held = True
            self._transport.pause_reading()
            self._server.turns.later(self._look_late)
        else:
            self._look()

    def _look_late(self) -> None:
        self._held = False
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.resume_reading()
            if self._seen:
                self._look()

    def _look(self) -> None:
        if PREFACE.startswith(self._seen[: len(PREFACE)]):
            if len(self._seen) >= len(PREFACE):
                self._hand_on(http2=True)
        else:
            self._hand_on(http2=False)

    def _hand_on(self, *, http2: bool) -> None:
        transport = self._transport
        assert transport is not None
        if transport.is_closing():
            return
        protocol: Http2Protocol | Http1Protocol
        serves = self._serves
        if http2 and serves.grpc is not None:
            protocol = Http2Protocol(self._server, self._peer, serves.grpc)
        elif serves.http is not None and not http2 and looks_like_http1(self._seen):
            protocol = Http1Protocol(self._server, self._peer, serves.http, serves.streamed, endless=serves.endless)
        else:
            transport.abort()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        self._forget()
        protocol.data_received(self._seen)
        self._seen = b""

    def eof_received(self) -> bool:
        """The client sends no more."""
        return self._server.close_later(self._transport, self._peer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._forget()

    def _forget(self) -> None:
        self._server.remove_connection(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # A connection that has said nothing yet is closed at once when the server drains.

    def drain(self) -> None:
        """Close: nothing has been asked."""
        self.abort()

    def finish_drain(self) -> None:
        """As `drain`."""
        self.abort()

    def end_endless(self) -> None:
        """Nothing runs."""

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


def looks_like_http1(start: bytes) -> bool:
    """False if the first line is complete and names no HTTP/1 version: such a client is closed without an answer."""
    line, ending, _ = start.partition(b"\r\n")
    return not ending or b" HTTP/1." in line


def common_name(ssl_object: ssl.SSLObject) -> str | None:
    """The subject's common name of the client's verified certificate, empty where it has none; None without one."""
    certificate = ssl_object.getpeercert()
    if not certificate:
        return None
    subject = cast("tuple[tuple[tuple[str, str], ...], ...]", certificate.get("subject", ()))
    for part in subject:
        for name, value in part:
            if name == "commonName":
                return value
    return ""


class Http2Protocol(asyncio.Protocol):
    """Reading and writing of one HTTP/2 connection."""

    def __init__(self, server: Server, peer: Peer, service: GrpcService) -> None:
        options = server.options
        self._server = server
        self._loop = server.loop
        self._transport: asyncio.Transport | None = None
        self.connection = Http2Connection(
            service,
            peer,
            max_streams=options.max_concurrent_streams,
            ping_min_seconds=options.keepalive_min_time_seconds,
        )
        self.connection.on_dirty = self._on_dirty
        self._unparsed = b""
        self._reading = True
        self._last_read = self._loop.time()
        self._pinged_at: float | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._stalled_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_SLICE_BYTES, low=limits.WRITE_SLICE_BYTES >> 2)
        self.connection.socket_backlog = self._transport.get_write_buffer_size
        self._server.add_connection(self)
        self._keepalive = self._loop.call_later(limits.PREFACE_SECONDS_MAX, self._check_preface)
        if self._server.draining:
            self.drain()

    # --- reading ---

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._last_read = self._loop.time()
        if self._unparsed or self.connection.behind:
            self._unparsed += data
            if len(self._unparsed) > limits.READ_SLICE_BYTES:
                self._update_reading()
        elif self._server.turns.is_over():
            self._unparsed = data
            self._server.turns.later(self._parse_more)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        if len(data) > limits.READ_SLICE_BYTES:
            data, self._unparsed = data[: limits.READ_SLICE_BYTES], data[limits.READ_SLICE_BYTES :]
        connection = self.connection
        connection.dirty = True
        connection.receive(data)
        if self._unparsed or connection.behind:
            self._server.turns.later(self._parse_more)
            self._update_reading()
        if connection.out and len(connection.out) == connection.ping_acks and not connection.wants_close:
            # Go's client sends a ping with every few requests, to measure; its answer goes out with theirs, which
            # spares a write and a wake-up of the client for each of them.
            connection.dirty = False
            self._server.add_unhurried(self)
        else:
            self.flush()

    def _parse_more(self) -> None:
        data = b""
        if not self.connection.behind:
            data, self._unparsed = self._unparsed, b""
        if not self.connection.wants_close:
            self._parse(data)
            self._update_reading()

    def _update_reading(self) -> None:
        transport = self._transport
        assert transport is not None
        reading = self.connection.writable and not self._unparsed and not self.connection.behind
        if reading != self._reading and not transport.is_closing():
            self._reading = reading
            if reading:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more."""
        return self._server.close_later(self._transport, self.connection.peer)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._server.remove_connection(self)
        for timer in (self._keepalive, self._stall):
            if timer is not None:
                timer.cancel()
        self._unparsed = b""
        if self.connection.offended:
            self._server.offenders.note(self.connection.peer.address, self._loop.time())
        self.connection.lose()
        self.connection.detach()

    # --- writing ---

    def _on_dirty(self) -> None:
        self._server.add_dirty(self)

    def flush(self) -> None:
        """Write what the connection has to say; at most a slice."""
        connection = self.connection
        transport = self._transport
        assert transport is not None
        data = connection.take()
        if transport.is_closing():
            return
        if data:
            transport.write(data)
            connection.sent(len(data))
        if connection.wants_close or (connection.draining and connection.drained):
            transport.close()
        elif connection.more:
            connection.pump()

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self.connection.set_writable(False)
        self._update_reading()
        self._arm_stall()

    def resume_writing(self) -> None:
        """The socket takes bytes again."""
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self.connection.set_writable(True)
        self._update_reading()

    def _arm_stall(self) -> None:
        assert self._transport is not None
        self._stalled_bytes = self._transport.get_write_buffer_size()
        self._stall = self._loop.call_later(limits.WRITE_STALL_SECONDS_MAX, self._check_stall)

    def _check_stall(self) -> None:
        assert self._transport is not None
        if self._transport.get_write_buffer_size() >= self._stalled_bytes:
            self.abort()
        else:
            self._arm_stall()

    # --- keepalive (grpc-go's: a ping after an interval without a byte, the end if nothing comes in the timeout) ---

    def _check_preface(self) -> None:
        if not self.connection.ready:
            self.abort()
            return
        self._check_keepalive()

    def _arm_keepalive(self, seconds: float) -> None:
        self._keepalive = self._loop.call_later(seconds, self._check_keepalive)

    def _check_keepalive(self) -> None:
        options = self._server.options
        now = self._loop.time()
        if self._pinged_at is not None and self._last_read < self._pinged_at:
            self.abort()
            return
        self._pinged_at = None
        quiet = now - self._last_read
        if quiet < options.keepalive_interval_seconds and self._reading:
            self._arm_keepalive(options.keepalive_interval_seconds - quiet)
            return
        if not self._reading:
            # We have stopped reading ourselves: silence says nothing, and the write stall has its own timer.
            self._arm_keepalive(options.keepalive_interval_seconds)
            return
        self._pinged_at = now
        self.connection.send_ping()
        self._arm_keepalive(options.keepalive_timeout_seconds)

    # --- ends ---

    def drain(self) -> None:
        """Tell the client to go elsewhere; the connection closes when its last call is answered."""
        self.connection.drain()
        self._loop.call_later(limits.DRAIN_PING_SECONDS, self.finish_drain)

    def finish_drain(self) -> None:
        """Accept no more streams from now on."""
        self.connection.finish_drain()
        self.connection.wake()

    def end_endless(self) -> None:
        """End the calls that go on for as long as their client likes, such as watches."""
        for stream in list(self.connection.streams.values()):
            if isinstance(stream, StreamCall) and stream.method.kind is Kind.BIDI:
                stream.end_by_server()

    def terminate(self) -> None:
        """Close now, with a GOAWAY."""
        self.connection.terminate(ErrorCode.NO_ERROR)
        self.flush()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
