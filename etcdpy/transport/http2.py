"""An HTTP/2 server connection without I/O (RFC 9113): bytes in, bytes out.

`receive(data)` parses what has come and calls the streams' methods; what is to be sent gathers in `out`, which the
I/O side takes with `take()` and writes at once. The connection never sends more than WRITE_SLICE_BYTES between two
`take()`s: `quota` counts down what may still go straight into `out`, everything else waits in the streams' outboxes
and moves by `pump()`.

    client bytes -> receive -> frame loop -> Stream.on_data / on_end / on_gone
    Call.finish, send_message, end_stream -> out (windows and quota allow) or outbox -> pump -> out -> take
"""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from etcdpy import limits, work_limits
from etcdpy.transport import frames
from etcdpy.transport.calls import Call, Method, Peer
from etcdpy.transport.frames import (
    CONTINUATION,
    FLAG_ACK,
    FLAG_END_HEADERS,
    FLAG_END_STREAM,
    FLAG_PADDED,
    FLAG_PRIORITY,
    FRAME_BYTES_DEFAULT,
    HEADERS,
    MAX_STREAM_ID,
    MAX_WINDOW,
    PREFACE,
    SETTINGS,
    WINDOW_DEFAULT,
    ConnectionFault,
    ErrorCode,
)
from etcdpy.transport.guard import Guard
from etcdpy.transport.heads import HeadReader, MalformedRequest, RequestHead, check_field
from etcdpy.transport.hpackglue import BlockDecoder, HeaderListTooLarge
from etcdpy.transport.sending import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.transport.streams import Stream, StreamOpener

_FRAME: Final = struct.Struct(">IBI").unpack_from
_NO_FAST_ROAD: Final = -1
_DRAIN_PING: Final = b"etcddrai"


class Http2Connection(Sender):
    """One connection. `ping_min_seconds` is the client's shortest ping interval, `max_streams` the advertised bound."""

    def __init__(self, service: StreamOpener, peer: Peer, *, max_streams: int, ping_min_seconds: float) -> None:
        super().__init__()
        self.peer = peer
        self.service = service
        self.last_stream = -1
        self.draining = False
        self._max_streams = min(max_streams, limits.STREAMS_PER_CONNECTION_MAX)
        self._heads = HeadReader(BlockDecoder(limits.HEADER_LIST_BYTES_MAX, limits.HEADER_TABLE_BYTES), service.resolve)
        self._guard = Guard(ping_min_seconds)
        self._rest = b""
        self.behind = False
        """Whether whole frames are left that would have held the loop for too long: call `receive` again, next turn."""
        self.offended = False
        """Whether the connection was ended for flooding."""
        self._work = 0
        self._greeted = False
        self._settled = False  # the client's first SETTINGS has come
        self._next_fast = _NO_FAST_ROAD  # the id of the next stream, where the fast road is open to it
        self._block_stream = 0  # the stream whose header block is incomplete; 0: none
        self._block_flags = 0
        self._block: list[bytes] = []
        self._gaps: list[tuple[int, int]] = []  # ranges of stream ids that the client skipped
        self._closed_early: dict[int, None] = {}
        self._unacked = 0
        self._last_accepted = MAX_STREAM_ID
        settings = {
            frames.SETTING_INITIAL_WINDOW_SIZE: limits.STREAM_WINDOW_BYTES,
            frames.SETTING_MAX_HEADER_LIST_SIZE: limits.HEADER_LIST_BYTES_MAX,
        }
        if self._max_streams == max_streams:
            # As grpc-go: a server without a limit advertises none; the hard bound then answers REFUSED_STREAM.
            settings[frames.SETTING_MAX_CONCURRENT_STREAMS] = max_streams
        self.out.append(frames.settings(settings))
        self.out.append(frames.window_update(0, limits.CONNECTION_WINDOW_BYTES - WINDOW_DEFAULT))

    # --- the road in ---

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. Never raises for what the client sent.

        Look at `wants_close` and `behind` afterwards.
        """
        self.behind = False
        suspect = self._guard.suspects
        self._work = work_limits.FRAME_WORK_PER_TURN - work_limits.SUSPECT_WORK_PER_TURN if suspect else 0
        requests = work_limits.SUSPECT_REQUESTS_PER_TURN if suspect else work_limits.REQUESTS_PER_TURN
        if self.wants_close:
            return
        try:
            position = 0
            if self._rest:
                data = self._rest + data
                self._rest = b""
            if not self._greeted:
                if not self._greet(data):
                    return
                position = len(PREFACE)
            self._parse(data, position, self.last_stream + 2 * requests)
        except ConnectionFault as fault:
            self.offended = fault.code == ErrorCode.ENHANCE_YOUR_CALM
            self.terminate(fault.code, fault.reason.encode())

    def _parse(self, data: bytes, position: int, last_this_turn: int) -> None:
        size = len(data)
        streams, by_block, max_receive = self.streams, self._heads.by_block, self.service.max_receive_bytes
        from_bytes, pending_max = int.from_bytes, limits.PENDING_ANSWER_BYTES_MAX
        taken = 0  # bytes of DATA frames on the fast road
        while size - position >= 9:
            word, flags, stream_id = _FRAME(data, position)
            length = word >> 8
            start = position + 9
            end = start + length
            if length > FRAME_BYTES_DEFAULT:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "frame too large")
            if end > size:
                break
            # The fast road, 3 us a request less than the general one: a header block already known, then the whole
            # message in one DATA frame. Whatever is unusual falls through.
            if flags == FLAG_END_STREAM:
                call = streams.get(stream_id)
                if call.__class__ is Call and not word & 255 and length >= 5 and not call.body_bytes:
                    message_bytes = from_bytes(data[start + 1 : start + 5])
                    expected = call.head.content_length
                    if (
                        not data[start]
                        and message_bytes == length - 5
                        and message_bytes <= max_receive
                        and (expected < 0 or expected == length)
                        and not self._block_stream
                    ):
                        taken += length
                        position = end
                        call.read_done = True
                        call.body_bytes = length
                        method: Method = call.head.method  # type: ignore[assignment]
                        method.received += 1
                        method.received_bytes += message_bytes
                        try:
                            method.handler(call, data[start + 5 : end])
                        except Exception as error:
                            call.fail_with(error)
                        continue
            elif stream_id == self._next_fast and flags == FLAG_END_HEADERS and word & 255 == HEADERS:
                head = by_block.get(data[start:end])
                if (
                    head is not None
                    and head.plain_unary
                    and stream_id < last_this_turn
                    and len(streams) < self._max_streams
                    and self.pending_bytes <= pending_max
                ):
                    self.last_stream = stream_id
                    self._next_fast = stream_id + 2
                    position = end
                    call = streams[stream_id] = Call(self, stream_id, head)
                    head.method.started += 1  # type: ignore[union-attr]
                    head.tally.count += 1
                    if head.timeout_seconds is not None:
                        call.start_clock()
                    continue
            position = end
            self._one_frame(word & 255, flags, stream_id & MAX_STREAM_ID, data[start:end])
            if self.wants_close:
                return
            if self._work > work_limits.FRAME_WORK_PER_TURN or self.last_stream >= last_this_turn:
                self.behind = size - position >= 9
                break
        if position < size:
            self._rest = data[position:] if position else data
        self._unacked += taken
        self._give_connection_back()

    def _give_connection_back(self) -> None:
        if self._unacked >= limits.CONNECTION_WINDOW_BYTES >> 2:
            self.out.append(frames.window_update(0, self._unacked))
            self._unacked = 0

    def _greet(self, data: bytes) -> bool:
        if len(data) < len(PREFACE):
            if not PREFACE.startswith(data):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad preface")
            self._rest = data
            return False
        if not data.startswith(PREFACE):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad preface")
        self._greeted = True
        return True

    @property
    def ready(self) -> bool:
        """Whether the client has sent its preface and its first SETTINGS."""
        return self._settled

    def _one_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self.wants_close:
            return
        self._work += work_limits.FRAME_WORK + len(payload) // work_limits.FRAME_WORK_PER_BYTES
        if not self._settled and kind != SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "first frame is not SETTINGS")
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "frame inside a header block")
        on_frame = _SLOW.get(kind)
        if on_frame is None:
            self._guard.control.take(self.service.now())
            return
        on_frame(self, flags, stream_id, payload)

    # --- DATA ---

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        flow = len(payload)
        self._unacked += flow
        if self._unacked > limits.CONNECTION_WINDOW_BYTES:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window exceeded")
        self._give_connection_back()
        if flags & FLAG_PADDED:
            payload = _unpad(payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_closed_stream(stream_id)
            return
        if stream.read_done:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        ends = flags & FLAG_END_STREAM
        if not payload and not ends:
            self._guard.empty.take(self.service.now())
        stream.unacked += flow
        stream.body_bytes += len(payload)
        if stream.unacked > limits.STREAM_WINDOW_BYTES:
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        expected = stream.head.content_length
        if expected >= 0 and (stream.body_bytes > expected or (ends and stream.body_bytes < expected)):
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if flow > len(payload):
            self.give_back(stream, flow - len(payload))
        if ends:
            stream.read_done = True
        if payload:
            stream.on_data(payload)
        if ends and self.streams.get(stream_id) is stream:
            stream.on_end()

    def _on_closed_stream(self, stream_id: int) -> None:
        """A DATA frame for a stream that is not open."""
        if stream_id == 0 or self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "frame on an idle stream")
        if stream_id not in self._closed_early and stream_id <= self._last_accepted:
            self._guard.resets.take(self.service.now())
            self.out.append(frames.rst_stream(stream_id, ErrorCode.STREAM_CLOSED))

    def _is_idle(self, stream_id: int) -> bool:
        return self.last_stream < stream_id <= self._last_accepted or not stream_id & 1

    def give_back(self, stream: Stream, count: int) -> None:
        """`count` bytes of the stream's request are consumed: the client may send as many more, in due time."""
        stream.consumed += count
        if stream.consumed >= limits.STREAM_WINDOW_BYTES >> 2 and not stream.read_done:
            self.out.append(frames.window_update(stream.id, stream.consumed))
            stream.unacked -= stream.consumed
            stream.consumed = 0
            self.wake()

    def check_held(self, stream: Stream) -> None:
        """After a stream has kept request bytes: refuse to keep more than the connection's bound."""
        if self.held_bytes > limits.HELD_REQUEST_BYTES_MAX:
            self.reset(stream, ErrorCode.ENHANCE_YOUR_CALM)

    # --- HEADERS and CONTINUATION ---

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on an even stream")
        if flags & FLAG_PADDED:
            payload = _unpad(payload)
        if flags & FLAG_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "short HEADERS")
            if int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")
            payload = payload[5:]
        if flags & FLAG_END_HEADERS:
            self._on_block(flags, stream_id, payload)
            return
        if not payload:
            self._guard.empty.take(self.service.now())
        self._block_stream, self._block_flags, self._block = stream_id, flags, [payload]
        self._next_fast = _NO_FAST_ROAD

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        if not payload:
            self._guard.empty.take(self.service.now())
        self._block.append(payload)
        if len(self._block) > limits.CONTINUATION_FRAMES_MAX + 1:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")
        if sum(map(len, self._block)) > limits.HEADER_BLOCK_BYTES_MAX:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header block too large")
        if flags & FLAG_END_HEADERS:
            block, self._block, self._block_stream = b"".join(self._block), [], 0
            self._on_block(self._block_flags, stream_id, block)

    def _on_block(self, flags: int, stream_id: int, block: bytes) -> None:
        self._work += work_limits.FRAME_WORK_HEADERS + len(block) // (work_limits.FRAME_WORK_PER_BYTES // 2)
        self._reopen_fast_road()
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._on_trailers(flags, stream, block)
            return
        if stream_id <= self.last_stream:
            self._skip_block(block)
            if stream_id in self._closed_early:
                return
            skipped = any(low <= stream_id <= high for low, high in self._gaps)
            code = ErrorCode.PROTOCOL_ERROR if skipped else ErrorCode.STREAM_CLOSED
            raise ConnectionFault(code, "HEADERS on a closed stream")
        if stream_id > self._last_accepted:
            self._skip_block(block)
            return
        if stream_id != self.last_stream + 2 and len(self._gaps) < limits.CLOSED_STREAMS_REMEMBERED:
            self._gaps.append((self.last_stream + 2, stream_id - 2))
        self.last_stream = stream_id
        self._reopen_fast_road()
        try:
            head = self._heads.read(block)
        except MalformedRequest:
            self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        except HeaderListTooLarge:
            self._refuse(stream_id, ErrorCode.FRAME_SIZE_ERROR)
            return
        if len(self.streams) >= self._max_streams or self.pending_bytes > limits.PENDING_ANSWER_BYTES_MAX:
            self._refuse(stream_id, ErrorCode.REFUSED_STREAM)
            return
        self._open(flags, stream_id, head)

    def _open(self, flags: int, stream_id: int, head: RequestHead) -> None:
        ends = bool(flags & FLAG_END_STREAM)
        if ends and head.content_length > 0:
            self._refuse(stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        stream = self.service.open(self, stream_id, head)
        self.streams[stream_id] = stream
        stream.read_done = ends
        stream.on_open()
        if ends and self.streams.get(stream_id) is stream:
            stream.on_end()

    def _skip_block(self, block: bytes) -> None:
        """Decode a block that nobody wants, because the next one builds on its table."""
        with suppress(HeaderListTooLarge):
            self._heads.decode(block)

    def _on_trailers(self, flags: int, stream: Stream, block: bytes) -> None:
        try:
            fields = self._heads.decode(block)
        except HeaderListTooLarge:
            self.reset(stream, ErrorCode.FRAME_SIZE_ERROR)
            return
        if stream.read_done:
            self.reset(stream, ErrorCode.STREAM_CLOSED)
            return
        try:
            for name, value in fields:
                check_field(name, value)
        except MalformedRequest:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        if not flags & FLAG_END_STREAM or 0 <= stream.head.content_length != stream.body_bytes:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.read_done = True
        stream.on_end()

    def _reopen_fast_road(self) -> None:
        self._next_fast = self.last_stream + 2 if self.last_stream + 2 <= self._last_accepted else _NO_FAST_ROAD

    # --- the other frames ---

    def _on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        self._guard.control.take(self.service.now())
        if stream_id == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad PRIORITY length")
        if int.from_bytes(payload[:4], "big") & MAX_STREAM_ID == stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "stream depends on itself")

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad RST_STREAM length")
        if stream_id == 0 or self._is_idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self._guard.resets.take(self.service.now())
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.forget(stream)
            stream.on_gone()

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        # The client opens no more streams; what is open goes on and the client closes the connection.
        self._guard.control.take(self.service.now())
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "short GOAWAY")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & FLAG_ACK:
            if payload:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS acknowledgement with a payload")
            self._guard.control.take(self.service.now())
            return
        if len(payload) % 6:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad SETTINGS length")
        self._guard.settings.take(self.service.now())
        for name, value in frames.parse_settings(payload):
            self._apply_setting(name, value)
        self.out.append(frames.SETTINGS_ACK)
        if not self._settled:
            self._settled = True
            self._reopen_fast_road()
        self.pump()

    def _apply_setting(self, name: int, value: int) -> None:
        if name == frames.SETTING_INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "initial window too large")
            self.set_peer_window(value)
        elif name == frames.SETTING_MAX_FRAME_SIZE:
            if not FRAME_BYTES_DEFAULT <= value <= frames.FRAME_BYTES_MAX:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad maximum frame size")
            self.peer_frame_bytes = value
        elif name == frames.SETTING_ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "bad ENABLE_PUSH")

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad PING length")
        self._guard.control.take(self.service.now())
        if flags & FLAG_ACK:
            if payload == _DRAIN_PING:
                self.finish_drain()
            return
        answer = frames.ping(payload, ack=True)
        self._guard.control.earn(-len(answer) / limits.CONTROL_FRAME_PER_SENT_BYTES)  # what `sent` gives for it
        self.out.append(answer)
        self.ping_acks += 1
        sent = self.take_sent_mark()
        self._guard.ping(self.service.now(), has_streams=bool(self.streams), sent_since=sent)

    def _on_window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "bad WINDOW_UPDATE length")
        self._guard.control.take(self.service.now())
        increment = int.from_bytes(payload, "big") & MAX_STREAM_ID
        if stream_id == 0:
            if increment == 0:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of zero")
            self.send_window += increment
            if self.send_window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "connection window overflow")
            self.pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
            return
        if increment == 0:
            self.reset(stream, ErrorCode.PROTOCOL_ERROR)
        elif not self.widen(stream, increment):
            self.reset(stream, ErrorCode.FLOW_CONTROL_ERROR)

    # --- ends ---

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream at once with RST_STREAM, for what the client did; counted like a reset of the client's."""
        self._guard.resets.take(self.service.now())
        self.abort(stream, code)
        stream.on_gone()

    def abort(self, stream: Stream, code: ErrorCode) -> None:
        """End a stream at once with RST_STREAM, for the server's own reasons."""
        self.forget(stream)
        self.out.append(frames.rst_stream(stream.id, code))
        if not stream.read_done:
            self._remember_closed(stream.id)
        self.wake()

    def _refuse(self, stream_id: int, code: ErrorCode) -> None:
        self._guard.resets.take(self.service.now())
        self.out.append(frames.rst_stream(stream_id, code))
        self._remember_closed(stream_id)

    def _remember_closed(self, stream_id: int) -> None:
        self._closed_early[stream_id] = None
        if len(self._closed_early) > limits.CLOSED_STREAMS_REMEMBERED:
            del self._closed_early[next(iter(self._closed_early))]

    def close_early(self, stream: Stream) -> None:
        """The answer is complete and the client still sends: tell it to stop (RFC 9113, 8.1)."""
        self.abort(stream, ErrorCode.NO_ERROR)

    def drain(self) -> None:
        """Begin to close: no new streams after those already on their way. Then `finish_drain` after a while."""
        if not self.draining:
            self.draining = True
            self.out.append(frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR) + frames.ping(_DRAIN_PING, ack=False))
            self.wake()

    def finish_drain(self) -> None:
        """Name the last stream that will be answered. The connection wants to close when the last one is done."""
        if self.draining and self._last_accepted == MAX_STREAM_ID:
            self._last_accepted = max(self.last_stream, 0)
            self._next_fast = _NO_FAST_ROAD
            self.out.append(frames.goaway(self._last_accepted, ErrorCode.NO_ERROR))
            self.wake()

    @property
    def drained(self) -> bool:
        """Whether a drain has run its course."""
        return self._last_accepted != MAX_STREAM_ID and not self.streams

    def send_ping(self) -> None:
        """A keepalive ping; any bytes from the client count as its answer."""
        self.out.append(frames.ping(b"etcdping", ack=False))
        self.wake()

    def sent(self, count: int) -> None:
        """The I/O side has written `count` bytes."""
        self._guard.control.earn(count / limits.CONTROL_FRAME_PER_SENT_BYTES)

    def terminate(self, code: ErrorCode, debug: bytes = b"") -> None:
        """GOAWAY and close, at once."""
        if not self.wants_close:
            self.out.append(frames.goaway(max(self.last_stream, 0), code, debug))
            self.wake()
            self.lose()

    def lose(self) -> None:
        """The connection is gone: every stream learns it."""
        self.wants_close = True
        self._next_fast = _NO_FAST_ROAD
        while self.streams:
            stream = next(iter(self.streams.values()))
            self.forget(stream)
            stream.on_gone()


_SLOW: Final[dict[int, Callable[[Http2Connection, int, int, bytes], None]]] = {
    frames.DATA: Http2Connection._on_data,
    frames.HEADERS: Http2Connection._on_headers,
    frames.PRIORITY: Http2Connection._on_priority,
    frames.RST_STREAM: Http2Connection._on_rst_stream,
    frames.SETTINGS: Http2Connection._on_settings,
    frames.PUSH_PROMISE: Http2Connection._on_push_promise,
    frames.PING: Http2Connection._on_ping,
    frames.GOAWAY: Http2Connection._on_goaway,
    frames.WINDOW_UPDATE: Http2Connection._on_window_update,
    frames.CONTINUATION: Http2Connection._on_continuation,
}
"""Not bound to a connection: it would refer to itself, and the garbage collector leaves old objects alone."""


def _unpad(payload: bytes) -> bytes:
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "padded frame without a length")
    padding = payload[0]
    if padding >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than the frame")
    return payload[1 : len(payload) - padding]
