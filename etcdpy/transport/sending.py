"""The sending half of an HTTP/2 connection: windows, the queue of streams with something to send, slices.

Invariants: `quota` <= `send_window` and <= WRITE_SLICE_BYTES; a stream with an outbox or a final block that has not
gone out is in exactly one of `_ready` (may send) and `_stalled` (its own window is used up).
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.transport import frames
from etcdpy.transport.frames import (
    FLAG_END_STREAM,
    FRAME_BYTES_DEFAULT,
    MAX_WINDOW,
    WINDOW_DEFAULT,
    ConnectionFault,
    ErrorCode,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.transport.streams import Chunk, Stream

_FRAME: Final = struct.Struct(">IBI").pack


def _no_wake() -> None:
    """Nobody listens: the bytes stay in `out` until taken."""


def _no_backlog() -> int:
    return 0


class Sender:
    """What a connection may send, and what waits."""

    def __init__(self) -> None:
        self.out: list[Chunk] = []
        """Frames to write, in order."""
        self.streams: dict[int, Stream] = {}
        self.wants_close = False
        """Write what `out` holds and close the socket."""
        self.dirty = False
        """Whether somebody already knows that `out` is to be taken."""
        self.on_dirty: Callable[[], None] = _no_wake
        self.socket_backlog: Callable[[], int] = _no_backlog
        self.peer_window = WINDOW_DEFAULT
        self.peer_frame_bytes = FRAME_BYTES_DEFAULT
        self.send_window = WINDOW_DEFAULT
        self.direct_bytes = FRAME_BYTES_DEFAULT
        """The longest message that goes out in one frame on a stream that has sent nothing yet."""
        self.quota = WINDOW_DEFAULT
        """DATA bytes that may go straight to `out` now; 0 while the socket takes nothing."""
        self.pending_bytes = 0
        """Sum of the outboxes."""
        self.held_bytes = 0
        """Request bytes in incomplete and unread messages."""
        self.ping_acks = 0
        """How many chunks of `out` answer pings. They may wait a moment for company: see Http2Protocol."""
        self.writable = True
        self._quota_given = WINDOW_DEFAULT
        self._sent_mark = False
        self._marked_bytes = 0
        self._ready: dict[Stream, None] = {}
        self._stalled: dict[Stream, None] = {}
        self._waiting: dict[Stream, asyncio.Future[None]] = {}

    def detach(self) -> None:
        """Let go of who listens, who refers to this connection: the garbage collector leaves old objects alone."""
        self.on_dirty = _no_wake
        self.socket_backlog = _no_backlog

    def wake(self) -> None:
        """Have `out` taken soon, if that is not already on its way."""
        if not self.dirty:
            self.dirty = True
            self.on_dirty()

    # --- the I/O side ---

    def take(self) -> bytes:
        """Everything that is to be written now. Opens the next slice; call `pump` if there is `more` afterwards."""
        self.dirty = False
        self.ping_acks = 0
        self._sent_mark |= self._quota_given - self.quota > self._marked_bytes
        self._marked_bytes = 0
        data = self.out[0] if len(self.out) == 1 else b"".join(self.out)
        self.out.clear()
        self._quota_given = self.quota = min(limits.WRITE_SLICE_BYTES, self.send_window) if self.writable else 0
        if self._waiting:
            self._wake_waiting()
        return data if type(data) is bytes else bytes(data)

    @property
    def more(self) -> bool:
        """Whether streams have bytes that the windows allow to go."""
        return bool(self._ready) and self.quota > 0

    def _extend_quota(self) -> None:
        """Follow a change of the connection's window; what `out` has taken since `take` stays counted."""
        if self.writable:
            emitted = self._quota_given - self.quota
            self.quota = min(limits.WRITE_SLICE_BYTES - emitted, self.send_window)
            self._quota_given = self.quota + emitted

    def set_writable(self, writable: bool) -> None:
        """The socket's buffer is over its high mark (False) or under its low mark again (True)."""
        self.writable = writable
        if writable:
            self.pump()
        else:
            self._sent_mark |= self._quota_given - self.quota > self._marked_bytes
            self.quota = self._quota_given = self._marked_bytes = 0

    def take_sent_mark(self) -> bool:
        """Whether data or headers went out since the last call."""
        emitted = self._quota_given - self.quota
        marked = self._sent_mark or emitted > self._marked_bytes
        self._sent_mark = False
        self._marked_bytes = emitted
        return marked

    def buffered_bytes(self, stream: Stream) -> int:
        """Bytes of a stream that wait, with what its connection has not got rid of yet."""
        backlog = self._quota_given - self.quota if self.writable else self.socket_backlog()
        return stream.outbox_bytes + backlog

    async def wait_writable(self, stream: Stream, limit_bytes: int) -> None:
        """Return when at most `limit_bytes` of a stream are buffered, or it is gone."""
        while self.streams.get(stream.id) is stream and self.buffered_bytes(stream) > limit_bytes:
            future = asyncio.get_running_loop().create_future()
            self._waiting[stream] = future
            try:
                await future
            finally:
                self._waiting.pop(stream, None)

    def _wake_waiting(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)

    # --- windows ---

    def set_peer_window(self, size: int) -> None:
        """SETTINGS_INITIAL_WINDOW_SIZE: changes the window of every stream (RFC 9113, 6.9.2)."""
        if size > self.peer_window and any(size + stream.window > MAX_WINDOW for stream in self.streams.values()):
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "stream window overflow")
        self.peer_window = size
        self.direct_bytes = min(FRAME_BYTES_DEFAULT, size)
        self._ready.update(self._stalled)
        self._stalled.clear()

    def widen(self, stream: Stream, increment: int) -> bool:
        """WINDOW_UPDATE of a stream. False: its window is over the maximum."""
        stream.window += increment
        if self.peer_window + stream.window > MAX_WINDOW:
            return False
        if stream in self._stalled:
            del self._stalled[stream]
            self._ready[stream] = None
            self.pump()
        return True

    # --- what streams call ---

    def send_headers(self, stream: Stream, block: bytes) -> None:
        """The response headers; nothing of the stream has been sent or queued before."""
        self.out.append(frames.header_frames(stream.id, block, end_stream=False, max_frame_bytes=self.peer_frame_bytes))
        self._sent_mark = True
        self.wake()

    def send_data(self, stream: Stream, chunks: tuple[Chunk, ...], size: int) -> None:
        """Body bytes, `size` in all: now if everything allows, else after what waits already."""
        if (
            stream.outbox is None
            and size <= self.quota
            and size <= FRAME_BYTES_DEFAULT
            and size <= self.peer_window + stream.window
        ):
            stream.window -= size
            self.send_window -= size
            self.quota -= size
            self.out.append(_FRAME(size << 8, 0, stream.id))
            self.out += chunks
        else:
            if stream.outbox is None:
                stream.outbox = deque()
            stream.outbox += chunks
            stream.outbox_bytes += size
            self.pending_bytes += size
            if self.pending_bytes > limits.PENDING_ANSWER_BYTES_HARD_MAX:
                self.terminate(ErrorCode.ENHANCE_YOUR_CALM, b"too many bytes wait to be read")
                return
            if stream in self._stalled:
                return  # it goes on with the client's WINDOW_UPDATE; a turn for nothing would cost 4 us
            self._ready[stream] = None
            if self.quota <= 0:
                return  # with the turn that is due anyhow, or when the socket or the connection's window opens
        self.wake()

    def end_stream(self, stream: Stream, trailers: bytes) -> None:
        """End our side after everything queued, with a trailer block, or without one if it is empty."""
        if self.wants_close:
            return
        stream.final = trailers
        if not stream.outbox:
            self._write_final(stream)
        self.wake()

    # --- the pump ---

    def pump(self) -> None:
        """Move bytes from outboxes to `out`, a frame of each stream in turn, as far as windows and quota go."""
        self._extend_quota()
        ready = self._ready
        if not ready:
            return
        while ready and self.quota > 0:
            stream = next(iter(ready))
            del ready[stream]
            self._send_some(stream)
        self.wake()

    def _send_some(self, stream: Stream) -> None:
        """One frame of a stream's outbox; puts the stream where it belongs afterwards."""
        room = min(self.quota, self.peer_window + stream.window, self.peer_frame_bytes, limits.WRITE_SLICE_BYTES >> 2)
        if room <= 0:
            self._stalled[stream] = None
            return
        size, parts = self._cut(stream, room)
        stream.window -= size
        self.send_window -= size
        self.quota -= size
        ends = not stream.outbox and stream.final == b""
        self.out.append(_FRAME(size << 8, FLAG_END_STREAM if ends else 0, stream.id))
        self.out += parts
        if stream.outbox:
            self._ready[stream] = None
        else:
            stream.outbox = None
            if ends:
                self._closed(stream)
            elif stream.final is not None:
                self._write_final(stream)

    def _cut(self, stream: Stream, room: int) -> tuple[int, list[Chunk]]:
        outbox = stream.outbox
        assert outbox
        parts: list[Chunk] = []
        size = 0
        while outbox and size < room:
            chunk = outbox.popleft()
            left = room - size
            if len(chunk) > left:
                view = memoryview(chunk)
                outbox.appendleft(view[left:])
                chunk = view[:left]
            parts.append(chunk)
            size += len(chunk)
        stream.outbox_bytes -= size
        self.pending_bytes -= size
        return size, parts

    def _write_final(self, stream: Stream) -> None:
        if stream.final:
            block = frames.header_frames(
                stream.id, stream.final, end_stream=True, max_frame_bytes=self.peer_frame_bytes
            )
        else:
            block = frames.frame(frames.DATA, FLAG_END_STREAM, stream.id, b"")
        self.out.append(block)
        self._sent_mark = True
        self._closed(stream)

    def _closed(self, stream: Stream) -> None:
        if stream.read_done:
            self.forget(stream)
        else:
            self.close_early(stream)

    def close_early(self, stream: Stream) -> None:
        """The answer is complete and the client still sends."""
        raise NotImplementedError

    def terminate(self, code: ErrorCode, debug: bytes = b"") -> None:
        """GOAWAY and close, at once."""
        raise NotImplementedError

    def forget(self, stream: Stream) -> None:
        """Take a stream out of every table, with what it still had to send."""
        self.streams.pop(stream.id, None)
        self._ready.pop(stream, None)
        self._stalled.pop(stream, None)
        self.pending_bytes -= stream.outbox_bytes
        stream.outbox_bytes = 0
        stream.outbox = None
        if stream in self._waiting:
            self._wake_waiting()
