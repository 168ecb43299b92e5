"""HTTP/2 frames into a whole connection: honest conversations with frames changed, moved, repeated and cut."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import hpack

from etcdpy import limits
from etcdpy.errors import Code
from etcdpy.transport import frames
from etcdpy.transport.frames import PREFACE, ErrorCode, frame
from tests.fuzz.damage import BYTES_MAX, cut, mutate
from tests.fuzz.harness import STALL_SECONDS, Watch, Wrong
from tests.support.wire import Wire, headers, message

if TYPE_CHECKING:
    from random import Random

_PATHS: Final = ("/t.T/Echo", "/t.T/Echo", "/t.T/Hold", "/t.T/Talk", "/t.T/Nope", "/other", "*", "")
_NAMES: Final = (
    "grpc-timeout", "content-length", "grpc-encoding", "x-bin", "token", "te", "connection", ":path", ":method",
    "Upper", "a b", "cookie", "host",
)  # fmt: skip
_VALUES: Final = (
    "",
    "5S",
    "99999999n",
    "-1",
    "123456789H",
    "gzip",
    "AAA=",
    "\x00",
    "0",
    "18446744073709551616",
    "x" * 300,
)
_SETTINGS: Final = (0, 1, 2, 3, 4, 5, 6, 8, 255, 65535)
_SETTING_VALUES: Final = (0, 1, 100, 16384, 65535, 2**24 - 1, 2**31 - 1, 2**31, 2**32 - 1)
_INCREMENTS: Final = (0, 1, 1000, 65535, 2**31 - 1)


class Http2:
    """The sans-IO connection, as the socket's protocol feeds it: at most a slice of bytes a turn."""

    name = "http2"
    stall_seconds = STALL_SECONDS

    def play(self, draw: Random, watch: Watch) -> None:
        made = _frames(draw, draw.randint(1, 12))
        if draw.random() < 0.8:
            made = _disorder(draw, made)
        data = b"".join(made)
        if draw.random() < 0.4:
            data = mutate(draw, data, made)
        if draw.random() < 0.95:
            data = PREFACE + (frames.settings({}) if draw.random() < 0.95 else b"") + data
        wire = Wire(greet=False, max_streams=draw.choice((1, 3, 2**32 - 1)))
        sent = wire.connection.take()
        watch.inputs += 1
        for piece in cut(draw, data):
            piece, behind = piece[: limits.READ_SLICE_BYTES], True
            while behind:
                with watch.turn():
                    wire.connection.receive(piece)
                    part = wire.connection.take()
                sent += part
                piece, behind = b"", wire.connection.behind
            if draw.random() < 0.2:
                wire.clock.time += 1
            while wire.connection.more:
                with watch.turn():
                    wire.connection.pump()
                    part = wire.connection.take()
                sent += part
        _answer_held(draw, wire)
        sent += wire.connection.take()
        _judge(wire, sent)


def _frames(draw: Random, count: int) -> list[bytes]:
    encoder = hpack.Encoder()
    made: list[bytes] = []
    for number in range(count):
        stream = 2 * number + 1
        kind = draw.randrange(16)
        if kind < 8:
            made += _request(draw, encoder, stream)
        else:
            made.append(_other(draw, kind, draw.choice((0, 1, stream, max(stream - 2, 1), 2))))
    return made


def _request(draw: Random, encoder: hpack.Encoder, stream: int) -> list[bytes]:
    fields = headers(path=draw.choice(_PATHS))
    for _ in range(draw.choice((0, 0, 0, 1, 1, 3, 60))):
        fields.insert(draw.randint(3, len(fields)), (draw.choice(_NAMES), draw.choice(_VALUES)))
    block = encoder.encode(fields, huffman=draw.random() < 0.5)
    if draw.random() < 0.03:
        encoder.header_table_size = draw.choice((0, 100, 4096, 8192))
    if draw.random() < 0.04:
        block = _bomb(draw, encoder)
    body = message(draw.randbytes(draw.choice((0, 1, 20, 20, 3000))), flag=draw.choice((0, 0, 0, 0, 1, 9)))
    if draw.random() < 0.1:
        body = message(b"abc", length=draw.choice((0, 2, 4, 1 << 20, 2**32 - 1)))
    ends = draw.random() < 0.9
    made = _split_block(draw, stream, block)
    size = draw.choice((len(body) or 1, len(body) or 1, 7, 1000))
    pieces = [body[at : at + size] for at in range(0, len(body), size)][:40]
    made += [frame(0, 1 if ends and piece is pieces[-1] else 0, stream, piece) for piece in pieces]
    return made


def _split_block(draw: Random, stream: int, block: bytes) -> list[bytes]:
    if draw.random() < 0.85 and len(block) <= frames.FRAME_BYTES_DEFAULT:
        return [frame(frames.HEADERS, frames.FLAG_END_HEADERS, stream, block)]
    size = draw.choice((1, 10, 100, frames.FRAME_BYTES_DEFAULT))
    size = max(size, len(block) // 30 + 1)
    parts = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
    made = [frame(frames.HEADERS, 0, stream, parts[0][: frames.FRAME_BYTES_DEFAULT])]
    made += [frame(frames.CONTINUATION, 0, stream, part[: frames.FRAME_BYTES_DEFAULT]) for part in parts[1:]]
    made.append(frame(frames.CONTINUATION, frames.FLAG_END_HEADERS, stream, b""))
    return made


def _bomb(draw: Random, encoder: hpack.Encoder) -> bytes:
    """One large field kept in the table and named again and again, or thousands of small ones."""
    kind = draw.randrange(3)
    if kind == 0:
        return bytes(encoder.encode([("bomb", "v" * 3000)])) + b"\xbe" * draw.choice((10, 100, 15_000))
    if kind == 1:
        return b"\x82" * draw.choice((100, 15_000, 60_000))
    return b"\x40\x01a\x01b" * draw.choice((100, 3000))


def _other(draw: Random, kind: int, stream: int) -> bytes:
    match kind:
        case 8:
            return frames.ping(draw.randbytes(draw.choice((8, 8, 7))), ack=draw.random() < 0.3)
        case 9:
            pairs = b"".join(
                struct.pack(">HI", draw.choice(_SETTINGS), draw.choice(_SETTING_VALUES))
                for _ in range(draw.randint(0, 3))
            )
            return frame(frames.SETTINGS, draw.choice((0, 0, 0, 1)), draw.choice((0, 0, 0, stream)), pairs)
        case 10:
            return frames.window_update(stream, draw.choice(_INCREMENTS))
        case 11:
            return frames.rst_stream(stream, draw.choice((0, 7, 8, 99)))
        case 12:
            return frame(frames.PRIORITY, 0, stream, draw.randbytes(draw.choice((5, 5, 4))))
        case 13:
            return frames.goaway(stream, ErrorCode.NO_ERROR, b"bye")
        case 14:
            return frame(
                frames.DATA, draw.choice((0, 1, 8, 9)), stream, draw.randbytes(draw.choice((0, 1, 100, 16_384)))
            )
        case _:
            return frame(draw.randrange(256), draw.randrange(256), stream, draw.randbytes(draw.choice((0, 4, 8, 50))))


def _disorder(draw: Random, made: list[bytes]) -> list[bytes]:
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(made))
        match draw.randrange(7):
            case 0:
                made.insert(draw.randrange(len(made) + 1), made[at])
            case 1 if len(made) > 1:
                made.pop(at)
            case 2:
                other = draw.randrange(len(made))
                made[at], made[other] = made[other], made[at]
            case 3:
                made[at] = made[at][:4] + bytes([draw.randrange(256)]) + made[at][5:]
            case 4:
                made[at] = (
                    made[at][:5]
                    + struct.pack(">I", draw.choice((0, 1, 2, 3, 5, 99, 2**31 - 1, 2**32 - 1)))
                    + made[at][9:]
                )
            case 5:
                made[at] = made[at][:3] + bytes([draw.randrange(12)]) + made[at][4:]
            case _:
                made[at : at + 1] = [made[at]] * min(draw.choice((2, 20, 600)), 1 + BYTES_MAX // len(made[at]))
    return made


def _answer_held(draw: Random, wire: Wire) -> None:
    """Handlers answer late; what came meanwhile must not matter to them."""
    for call in wire.held:
        if draw.random() < 0.5:
            call.finish(bytes(draw.choice((0, 10, 20_000))))
    for stream in wire.streaming:
        stream.send(b"event")
        if draw.random() < 0.5:
            stream.end()
    wire.clock.advance(10)


def _judge(wire: Wire, sent: bytes) -> None:
    if wire.bugs:
        raise wire.bugs[0]
    connection = wire.connection
    for one in wire.parse(sent):
        if len(one.payload) > frames.FRAME_BYTES_MAX or one.kind not in range(10):
            raise Wrong(f"the server sent frame type {one.kind} with {len(one.payload)} bytes")
        if one.kind in (frames.RST_STREAM, frames.GOAWAY) and one.code not in list(ErrorCode):
            raise Wrong(f"the server sent error code {one.code}")
        status = one.fields.get("grpc-status")
        if status is not None and (not status.isdigit() or int(status) not in list(Code)):
            raise Wrong(f"grpc-status {status!r}")
        if one.fields.get("grpc-message") == "internal error":
            raise Wrong("a call ended with an internal error")
    if connection.wants_close and b"".join(connection.out) + sent == b"":
        raise Wrong("closed without a word")
    connection.lose()
    for held in ("held_bytes", "pending_bytes"):
        if getattr(connection, held):
            raise Wrong(f"a lost connection still counts {getattr(connection, held)} {held}")
    if connection.streams:
        raise Wrong("a lost connection still has streams")
