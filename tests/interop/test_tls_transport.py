"""Listeners with TLS: one port for http and https, client certificates, ALPN, HTTP over both protocol versions."""

from __future__ import annotations

import http.client
import logging
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import hpack
import pytest

from etcdpy.transport import frames
from etcdpy.transport.calls import Call, Kind, Method
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.transport.frames import frame
from etcdpy.transport.options import TransportOptions
from etcdpy.transport.tls import ServerTls, ServerTlsConfig
from tests.support.certificates import Leaf, TestAuthority, client
from tests.support.transport import TransportThread
from tests.support.wire import Seen, headers, message

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


class Place:
    """A CA, a server certificate, a client that is trusted and one that is not."""

    def __init__(self, directory: Path) -> None:
        self.ca = TestAuthority(directory)
        self.server = self.ca.issue("server", "server")
        self.alice = self.ca.issue("client", "alice")
        (directory / "other").mkdir()
        self.stranger = TestAuthority(directory / "other").issue("client", "mallory")
        self.tls = ServerTls(ServerTlsConfig(self.server.cert, self.server.key, self.ca.path))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("pki"))


def who(call: Call, _body: bytes) -> None:
    call.finish(f"{call.peer.common_name} {call.peer.secure}".encode())


async def handler(request: HttpRequest) -> HttpResponse:
    if request.path == "/large":
        return HttpResponse(200, [], b"l" * 300_000)
    if request.path == "/bug":
        raise RuntimeError("a bug")
    text = (
        f"{request.method} {request.path} {request.version} {request.peer.common_name} {request.secure} {request.host}"
    )
    return HttpResponse(200, [("Content-Type", "text/plain")], text.encode() + b" " + request.body)


@pytest.fixture(scope="module")
def server(place: Place) -> Iterator[TransportThread]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    methods = [Method("t.T", "Who", Kind.UNARY, who)]
    urls = [f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}"]
    with TransportThread(methods, urls=urls, tls=place.tls, http=handler) as running:
        assert running.ports == [port]
        yield running


def secure_socket(server: TransportThread, place: Place, *, alpn: list[str], leaf: Leaf | None) -> ssl.SSLSocket:
    context = client(place.ca.path, leaf)
    if alpn:
        context.set_alpn_protocols(alpn)
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost")


def test_grpc_with_a_client_certificate(server: TransportThread, place: Place) -> None:
    credentials = grpc.ssl_channel_credentials(
        Path(place.ca.path).read_bytes(), Path(place.alice.key).read_bytes(), Path(place.alice.cert).read_bytes()
    )
    with grpc.secure_channel(f"localhost:{server.port}", credentials) as channel:
        call: Any = channel.unary_unary
        assert call("/t.T/Who")(b"", timeout=10) == b"alice True"


def test_grpc_in_plaintext_on_the_same_port(server: TransportThread) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call: Any = channel.unary_unary
        assert call("/t.T/Who")(b"", timeout=10) == b"None False"


@pytest.mark.parametrize("alpn", [[], ["http/1.1"]])
def test_http_1_over_tls(server: TransportThread, place: Place, alpn: list[str]) -> None:
    with secure_socket(server, place, alpn=alpn, leaf=place.alice) as connection:
        assert connection.selected_alpn_protocol() is None
        connection.sendall(b"GET /x HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        received = b""
        while chunk := connection.recv(4096):
            received += chunk
        assert received.endswith(b"GET /x HTTP/1.1 alice True here ")


def test_http_1_in_plaintext_on_the_same_port(server: TransportThread) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/x")
    assert connection.getresponse().read().startswith(b"GET /x HTTP/1.1 None False")
    connection.close()


class Http2OverTls:
    """One HTTP/2 connection by hand."""

    def __init__(self, connection: ssl.SSLSocket, settings: dict[int, int] | None = None) -> None:
        self.connection = connection
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.buffer = b""
        connection.sendall(frames.PREFACE + frames.settings(settings or {}))

    def ask(self, stream: int, body: bytes | None, **changes: str | None) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer."""
        block = self.encoder.encode(headers(**changes))
        data = frame(frames.HEADERS, 5 if body is None else 4, stream, block)
        if body is not None:
            data += frame(frames.DATA, 1, stream, body)
        self.connection.sendall(data)
        fields: dict[str, str] = {}
        received = b""
        while True:
            one = self.next_frame()
            if one.stream != stream:
                continue
            assert one.kind != frames.RST_STREAM
            fields |= one.fields
            if one.kind == frames.DATA:
                received += one.payload
                if one.payload:
                    size = len(one.payload)
                    self.connection.sendall(frames.window_update(0, size) + frames.window_update(stream, size))
            if one.flags & frames.FLAG_END_STREAM and one.kind in (frames.DATA, frames.HEADERS):
                return fields, received

    def next_frame(self) -> Seen:
        while len(self.buffer) < 9 or len(self.buffer) < 9 + int.from_bytes(self.buffer[:3], "big"):
            chunk = self.connection.recv(65536)
            assert chunk
            self.buffer += chunk
        length = int.from_bytes(self.buffer[:3], "big")
        kind, flags, stream = self.buffer[3], self.buffer[4], int.from_bytes(self.buffer[5:9], "big")
        payload, self.buffer = self.buffer[9 : 9 + length], self.buffer[9 + length :]
        fields = {}
        if kind == frames.HEADERS:
            fields = {str(name): str(value) for name, value in self.decoder.decode(payload)}
        return Seen(kind, flags, stream, payload, fields)


def test_http_2_over_tls_serves_grpc_and_http(server: TransportThread, place: Place) -> None:
    with secure_socket(server, place, alpn=["h2", "http/1.1"], leaf=place.alice) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        http2 = Http2OverTls(connection)
        fields, body = http2.ask(1, None, method="GET", path="/x?y", content_type=None, te=None)
        assert (fields[":status"], fields["content-type"]) == ("200", "text/plain")
        assert body == b"GET /x HTTP/2.0 alice True x "
        assert fields["content-length"] == str(len(body))
        fields, body = http2.ask(3, b"the body", path="/p", content_type="application/json")
        assert body.endswith(b" the body")
        fields, body = http2.ask(5, message(b""), path="/t.T/Who")
        assert (fields["grpc-status"], body) == ("0", message(b"alice True"))
        fields, body = http2.ask(7, None, method="HEAD", path="/large", content_type=None)
        assert (fields["content-length"], body) == ("300000", b"")
        fields, body = http2.ask(9, None, method="GET", path="/large", content_type=None)
        assert len(body) == 300_000
        fields, body = http2.ask(11, None, method="GET", path="/bug", content_type=None)
        assert fields[":status"] == "500"
    assert [str(bug) for bug in server.bugs] == ["a bug"]
    server.bugs.clear()


def refused_talk(server: TransportThread, place: Place, leaf: Leaf | None) -> None:
    """The handshake fails, or with TLS 1.3 what follows it."""
    with secure_socket(server, place, alpn=["h2"], leaf=leaf) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        if not connection.recv(100):
            raise ConnectionResetError


@pytest.mark.parametrize("known", [False, True], ids=["none", "stranger"])
def test_clients_without_a_good_certificate_are_refused_and_logged(
    server: TransportThread, place: Place, caplog: pytest.LogCaptureFixture, *, known: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(OSError):
        refused_talk(server, place, place.stranger if known else None)
    for _ in range(100):
        if caplog.records:
            break
        time.sleep(0.02)
    assert any("127.0.0.1:" in record.getMessage() or "127.0.0.1:" in str(record.__dict__) for record in caplog.records)


def test_a_silent_handshake_is_dropped(place: Place) -> None:
    methods = [Method("t.T", "Who", Kind.UNARY, who)]
    options = TransportOptions(tls_handshake_seconds=0.1)
    with (
        TransportThread(methods, urls=["https://127.0.0.1:0"], tls=place.tls, options=options) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection,
    ):
        connection.sendall(b"\x16\x03\x01")
        try:
            assert connection.recv(100) == b""
        except ConnectionResetError:
            pass


def test_a_context_that_cannot_be_made_refuses_one_connection(place: Place) -> None:
    class Broken:
        broken = True
        refused: list[Exception] = []  # noqa: RUF012

        def context(self) -> ssl.SSLContext:
            if self.broken:
                raise FileNotFoundError("no certificate")
            return place.tls.context()

        def check_peer(self, ssl_object: ssl.SSLObject) -> None:
            raise PermissionError("not you")

        def check_address(self, ssl_object: ssl.SSLObject, address: str) -> None:
            return None

        def log_refused(self, address: str, error: Exception) -> None:
            self.refused.append(error)

    source = Broken()
    with TransportThread([], urls=["https://127.0.0.1:0"], tls=source, http=handler) as server:
        for broken in (True, False):
            source.broken = broken
            with pytest.raises(OSError):
                refused_talk(server, place, place.alice)
    assert [str(error) for error in source.refused] == ["no certificate", "not you"]


def test_https_without_tls_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs TLS"), TransportThread([], urls=["https://127.0.0.1:0"]):
        pass
