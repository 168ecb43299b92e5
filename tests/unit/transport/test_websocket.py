"""Frames of a WebSocket client, however they come, and a connection whose client reads or sends as it likes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy import limits
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.websocket import (
    Frame,
    FrameReader,
    Opcode,
    Upgrade,
    WebSocket,
    WebSocketError,
    encode_frame,
    upgrade_headers,
)
from tests.unit.transport.test_http1_streams import run, serving

HEAD = (
    b"GET /up HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
"""With the key of RFC 6455, 1.3, whose answer stands there too."""


def frame(opcode: Opcode, payload: bytes, *, final: bool = True, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """As a client sends it."""
    length = len(payload)
    first = opcode | (0x80 if final else 0)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 1 << 16:
        head = bytes((first, 0x80 | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, 0x80 | 127)) + length.to_bytes(8, "big")
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


@given(
    st.lists(st.tuples(st.lists(st.binary(max_size=200), min_size=1, max_size=3), st.binary(max_size=20)), max_size=4),
    st.integers(1, 50),
)
def test_messages_are_found_however_they_come(messages: list[tuple[list[bytes], bytes]], step: int) -> None:
    """In any number of fragments, with pings between those, and bytes in any pieces."""
    wire, expected = b"", []
    for parts, ping in messages:
        for number, part in enumerate(parts):
            opcode = Opcode.CONTINUATION if number else Opcode.TEXT
            wire += frame(opcode, part, final=number == len(parts) - 1)
            if number < len(parts) - 1:
                wire += frame(Opcode.PING, ping)
                expected.append(Frame(Opcode.PING, ping))
        expected.append(Frame(Opcode.TEXT, b"".join(parts)))
    reader = FrameReader(1000)
    found = [each for start in range(0, len(wire), step) for each in reader.feed(wire[start : start + step])]
    assert found == expected


def test_lengths_of_every_form() -> None:
    for length in (0, 125, 126, 65_535, 65_536):
        payload = bytes(range(256)) * (length // 256) + bytes(length % 256)
        assert FrameReader(length).feed(frame(Opcode.BINARY, payload)) == [Frame(Opcode.BINARY, payload)]
        sent = encode_frame(Opcode.TEXT, payload)
        assert sent.endswith(payload)
        assert len(sent) - length == (2 if length < 126 else 4 if length < 65_536 else 10)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (frame(Opcode.TEXT, b"x" * 101), 1009),
        (frame(Opcode.TEXT, b"x" * 60, final=False) + frame(Opcode.CONTINUATION, b"x" * 60), 1009),
        (b"\x81\xff" + (1 << 63).to_bytes(8, "big"), 1009),
        (frame(Opcode.TEXT, b"a", final=False) + frame(Opcode.TEXT, b"b"), 1002),
        (frame(Opcode.CONTINUATION, b"a"), 1002),
        (b"\x81\x01x", 1002),
    ],
)
def test_what_is_wrong_has_its_code(wire: bytes, code: int) -> None:
    """A length is judged before the bytes come that it speaks of."""
    with pytest.raises(WebSocketError) as raised:
        FrameReader(100).feed(wire)
    assert raised.value.code == code


def test_the_answer_to_a_key_is_that_of_the_rfc() -> None:
    async def scenario() -> None:
        async def handler(request: HttpRequest) -> HttpResponse:
            headers = upgrade_headers(request)
            assert headers is not None
            return HttpResponse(101, headers, Upgrade(begin, 1000))

        def begin(websocket: WebSocket) -> None:
            server.spawn(echo(websocket))

        async def echo(websocket: WebSocket) -> None:
            while (message := await websocket.receive()) is not None:
                await websocket.send(message)

        async with serving(handler) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD + frame(Opcode.TEXT, b"early"))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
            assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
            assert await reader.readexactly(7) == encode_frame(Opcode.TEXT, b"early")
            writer.write(frame(Opcode.CLOSE, b""))
            assert await reader.read() == encode_frame(Opcode.CLOSE, (1000).to_bytes(2, "big"))
            writer.close()

    run(scenario())


def test_unread_messages_hold_back_the_socket() -> None:
    async def scenario() -> None:
        opened: list[WebSocket] = []

        async def handler(request: HttpRequest) -> HttpResponse:
            return HttpResponse(101, upgrade_headers(request) or [], Upgrade(opened.append, 1 << 20))

        async with serving(handler) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(HEAD)
            await reader.readuntil(b"\r\n\r\n")
            piece, count = frame(Opcode.TEXT, bytes(100_000)), 200
            writer.write(piece * count)
            await asyncio.sleep(0.1)
            assert opened[0]._waiting_bytes < limits.HTTP_STREAMED_BYTES_WAITING_MAX + 1_000_000
            for _ in range(count):
                assert await opened[0].receive() == bytes(100_000)
            writer.close()

    run(scenario())
