"""Heads that have come before on a connection: the same requests and answers as through h11, however they come."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from tests.unit.transport.test_http1_streams import run, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def post(body: bytes, path: str = "/echo", more: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nX-Y: 1\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Echo:
    """Answers with what it got, and notes whether a head was known."""

    def __init__(self) -> None:
        self.known: list[bool] = []
        self.seen: list[tuple[str, str, str, dict[str, str], bytes]] = []

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        self.known.append(request.memo is not None)
        self.seen.append((request.method, request.path, request.query, request.headers, request.body))
        if request.path == "/slow":
            await asyncio.sleep(0.01)
        if request.path == "/pieces":
            return HttpResponse(200, [("x-kind", "pieces")], pieces(request.body))
        if request.path == "/empty":
            return HttpResponse(204)
        return HttpResponse(200, [("x-kind", "echo")], request.body)


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body
    yield body


async def ask(port: int, *segments: bytes, answers: int) -> list[bytes]:
    """Send the segments one by one; the answers, without their dates."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for segment in segments:
        writer.write(segment)
        await writer.drain()
        await asyncio.sleep(0)
    found = []
    for _ in range(answers):
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        chunked = b"transfer-encoding: chunked" in head.lower()
        body = await reader.readuntil(b"0\r\n\r\n") if chunked else b""
        body += await reader.readexactly(int(length[1])) if length else b""
        found.append(re.sub(rb"date: [^\r]*", b"date: x", head) + body)
    writer.close()
    return found


@pytest.mark.parametrize("path", ["/echo", "/echo?q=1", "/pieces", "/empty", "/slow"])
def test_answers_are_those_of_h11(path: str) -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            request = post(b"body", path)
            first, *others = await ask(port, request, request, request, answers=3)
            assert others == [first, first]
            assert echo.seen[1:] == [echo.seen[0]] * 2
            assert echo.known[0] is False

    run(scenario())


def test_a_head_is_read_once() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for body in (b"abcd", b"efgh", b"ijkl"):
                writer.write(post(body))
                assert (await reader.readuntil(body)).endswith(b"\r\n\r\n" + body)
            assert echo.known == [False, True, True]
            writer.close()

    run(scenario())


def test_a_request_may_come_in_any_pieces() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            request = post(b"twelve bytes")
            for cut in range(len(request) + 1):
                found = await ask(port, request, request[:cut], request[cut:], answers=2)
                assert found[0] == found[1], cut
        assert {body for *_, body in echo.seen} == {b"twelve bytes"}

    run(scenario())


def test_requests_that_come_at_once_are_answered_in_order() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            bodies = [b"%04d" % number for number in range(20)]
            found = await ask(port, post(b"0000"), b"".join(map(post, bodies)), post(b"last"), answers=22)
            assert [answer.rpartition(b"\r\n\r\n")[2] for answer in found] == [b"0000", *bodies, b"last"]

    run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        post(b"body", more="Connection: keep-alive\r\n"),
        post(b"x" * (limits.HTTP_BODY_KNOWN_BYTES_MAX + 1)),
        post(b"body", more=f"X-Long: {'x' * limits.HTTP_HEAD_KNOWN_BYTES_MAX}\r\n"),
        b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        # The head ends before the place where lines end as they should.
        b"POST /echo HTTP/1.1\nHost: a\nContent-Length: 8\n\nab\r\n\r\ncd",
    ],
)
def test_what_is_never_known(request_: bytes) -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            await ask(port, request_, request_, request_, answers=3)
        assert True not in echo.known
        assert len(set(map(repr, echo.seen))) == 1

    run(scenario())


def test_a_streamed_request_teaches_nothing_about_the_next() -> None:
    """Its head is not remembered, nor taken for that of the request behind it."""

    async def scenario() -> None:
        async def handler(request: HttpRequest) -> HttpResponse:
            if request.stream is not None:
                body = b"".join([piece async for piece in request.stream])
                return HttpResponse(200, [], b"stream:" + body)
            return HttpResponse(200, [], request.path.encode() + request.body)

        async with serving(handler) as (_, port):
            streamed, plain = post(b"abcd", "/in"), post(b"efgh", "/x")
            found = await ask(port, streamed + plain, streamed, plain, streamed, answers=5)
            bodies = [answer.rpartition(b"\r\n\r\n")[2] for answer in found]
            assert bodies == [b"stream:abcd", b"/xefgh", b"stream:abcd", b"/xefgh", b"stream:abcd"]

    run(scenario())


def test_a_connection_remembers_few_heads() -> None:
    async def scenario() -> None:
        echo = Echo()
        async with serving(echo) as (_, port):
            requests = [post(b"", f"/{number}") for number in range(limits.HTTP_HEADS_KNOWN_MAX + 1)]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for request in [*requests, requests[-1], requests[0]]:
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
            writer.close()
        assert echo.known == [False] * len(requests) + [True, False]

    run(scenario())
