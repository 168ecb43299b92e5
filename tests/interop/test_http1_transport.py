"""HTTP/1.1 and listeners, with sockets by hand and the standard library's client."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.listener import Endpoint, open_sockets
from tests.support.transport import TransportThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


async def pieces(count: int, size: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(0)
        yield b"p" * size


async def endless(gone: list[str]) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"tick\n"
            await asyncio.sleep(0.01)
    finally:
        gone.append("gone")


gone: list[str] = []


async def handler(request: HttpRequest) -> HttpResponse:
    if request.path == "/bug":
        raise RuntimeError("a bug")
    if request.path == "/pieces":
        return HttpResponse(200, [], pieces(int(request.query), 1000))
    if request.path == "/endless":
        return HttpResponse(200, [], endless(gone))
    if request.path == "/large":
        return HttpResponse(200, [], b"l" * 5_000_000)
    if request.path == "/empty":
        return HttpResponse(204)
    about = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers,
        "body": request.body.decode(),
        "secure": request.secure,
        "host": request.host,
        "peer": request.peer.address,
        "version": request.version,
    }
    return HttpResponse(200, [("Content-Type", "application/json")], json.dumps(about).encode())


@pytest.fixture(scope="module")
def server() -> Iterator[TransportThread]:
    with TransportThread([], http=handler) as running:
        yield running


@pytest.fixture
def client(server: TransportThread) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    yield connection
    connection.close()


def exchange(port: int, data: bytes) -> bytes:
    """Send, then read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def test_a_request(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/v3/kv/put?a=1&b=%20", b"body", {"X-One": "1"})
    response = client.getresponse()
    about = json.loads(response.read())
    assert (about["method"], about["path"], about["query"], about["body"]) == (
        "POST",
        "/v3/kv/put",
        "a=1&b=%20",
        "body",
    )
    assert about["headers"]["x-one"] == "1"
    assert about["version"] == "HTTP/1.1"
    assert about["host"].startswith("127.0.0.1:")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["date"]
    assert response.reason == "OK"


def test_keep_alive(client: http.client.HTTPConnection) -> None:
    ports = set()
    for _ in range(5):
        client.request("GET", "/")
        ports.add(json.loads(client.getresponse().read())["peer"])
    assert len(ports) == 1


def test_chunked_in(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/", iter([b"one", b"two"]), encode_chunked=True)
    assert json.loads(client.getresponse().read())["body"] == "onetwo"


def test_chunked_out(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/pieces?3000")
    response = client.getresponse()
    assert response.headers["transfer-encoding"] == "chunked"
    assert len(response.read()) == 3_000_000


def test_large_bodies(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/large")
    assert len(client.getresponse().read()) == 5_000_000


def test_head_and_no_content(client: http.client.HTTPConnection) -> None:
    client.request("HEAD", "/large")
    response = client.getresponse()
    assert (response.headers["content-length"], response.read()) == ("5000000", b"")
    client.request("GET", "/empty")
    response = client.getresponse()
    assert (response.status, response.headers["content-length"], response.read()) == (204, None, b"")


def test_expect_continue(server: TransportThread) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hi")
        assert b'"body": "hi"' in connection.recv(4096)


def test_pipelining(server: TransportThread) -> None:
    one = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    received = exchange(server.port, b"".join(one % number for number in range(200)) + last)
    assert received.count(b"HTTP/1.1 200 OK") == 201
    positions = [received.index(b'"path": "/%d"' % number) for number in range(200)]
    assert positions == sorted(positions)


def test_http_1_0_closes(server: TransportThread) -> None:
    assert b'"version": "HTTP/1.0"' in exchange(server.port, b"GET / HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbig: " + b"x" * (limits.HTTP_HEAD_BYTES_MAX + 1000), b"431"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n" + b"x" * 17_000_000, b"413"),
    ],
)
def test_bad_requests(server: TransportThread, data: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        try:
            connection.sendall(data)
        except ConnectionError:
            pass
        else:
            assert connection.recv(4096).startswith(b"HTTP/1.1 " + status)


def test_neither_http_1_nor_2_gets_no_answer(server: TransportThread) -> None:
    assert exchange(server.port, b"HELO there\r\n\r\n") == b""


def test_a_handler_bug_is_a_500(server: TransportThread, client: http.client.HTTPConnection) -> None:
    client.request("GET", "/bug")
    response = client.getresponse()
    assert (response.status, response.read()) == (500, b"Internal Server Error\n")
    assert [str(bug) for bug in server.bugs] == ["a bug"]
    server.bugs.clear()


def test_a_client_that_goes_ends_the_stream_it_was_given(server: TransportThread) -> None:
    gone.clear()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100)
    for _ in range(200):
        if gone:
            break
        server.run(asyncio.sleep(0.01))
    assert gone == ["gone"]


@pytest.mark.parametrize(
    ("limit", "data"),
    [
        ("PREFACE_SECONDS_MAX", b""),
        ("PREFACE_SECONDS_MAX", b"PRI * HT"),
        ("PREFACE_SECONDS_MAX", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("PREFACE_SECONDS_MAX", b"GET / HT"),
        ("HTTP_REQUEST_SECONDS_MAX", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nslow"),
        ("HTTP_IDLE_SECONDS_MAX", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    ],
)
def test_slow_clients_are_dropped(
    server: TransportThread, monkeypatch: pytest.MonkeyPatch, limit: str, data: bytes
) -> None:
    monkeypatch.setattr(limits, limit, 0.1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(data)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_a_client_that_does_not_read_is_dropped(server: TransportThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRITE_STALL_SECONDS_MAX", 0.1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        for count in (1, 0):
            for _ in range(200):
                if server.call(lambda: len(server.server.connections)) == count:
                    break
                server.run(asyncio.sleep(0.02))
            else:
                pytest.fail(f"never {count} connections")


def test_http_2_is_refused_where_only_http_is_served() -> None:
    with TransportThread([], grpc=False, http=handler) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            try:
                answer = connection.recv(100)
            except ConnectionResetError:
                answer = b""
            assert answer == b""
        assert b"200 OK" in exchange(server.port, b"GET / HTTP/1.0\r\n\r\n")


def test_several_urls_and_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    urls = ["http://127.0.0.1:0", "http://localhost:0", f"unix://{path}"]
    with TransportThread([], urls=urls, http=handler) as server:
        for port in server.ports:
            assert b"200 OK" in exchange_any(port)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(path))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b'"peer": "@"' in connection.recv(4096)
    assert not path.exists()


def exchange_any(port: int) -> bytes:
    with socket.create_connection(("localhost", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.recv(4096)


def test_a_dead_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    assert stat.S_ISSOCK(os.stat(path).st_mode)

    async def open_it() -> None:
        endpoint = Endpoint.parse(f"unix://{path}")
        (first,) = await open_sockets(endpoint, reuse_address=True, reuse_port=False)
        with pytest.raises(OSError, match="listen unix"):
            await open_sockets(endpoint, reuse_address=True, reuse_port=False)
        first.close()

    asyncio.run(open_it())


def test_a_taken_port_is_named(server: TransportThread) -> None:
    with (
        pytest.raises(OSError, match=f"listen tcp 127.0.0.1:{server.port}"),
        TransportThread([], urls=["http://127.0.0.1:0", f"http://127.0.0.1:{server.port}"]),
    ):
        pass


def test_accept_errors_do_not_spin(server: TransportThread, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[OSError] = []
    monkeypatch.setattr(server.server, "on_accept_error", errors.append)
    listener = server.server._listeners[0]
    real = listener._socket

    class Full:
        def accept(self) -> None:
            raise OSError(24, "Too many open files")

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

    server.call(lambda: setattr(listener, "_socket", Full()))
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        server.run(asyncio.sleep(0.25))
        assert 1 <= len(errors) <= 4
        server.call(lambda: setattr(listener, "_socket", real))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
