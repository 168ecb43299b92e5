"""The same TLS under the event loops: their way of wrapping keeps what a refusal needs to know."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from etcdpy.transport.tls import ServerTls, ServerTlsConfig
from tests.support.certificates import Leaf, TestAuthority, client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]
HANDSHAKE_SECONDS = 5.0


class Place:
    """A listener's TLS and a client certificate that it trusts."""

    def __init__(self, directory: Path) -> None:
        self.ca = TestAuthority(directory)
        server = self.ca.issue("server", "server")
        self.alice = self.ca.issue("client", "alice")
        self.tls = ServerTls(ServerTlsConfig(server.cert, server.key, self.ca.path))

    async def serve(self, ours: socket.socket, seconds: float = HANDSHAKE_SECONDS) -> str:
        """Accept one connection as the listener does; returns what the client said first."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader),
                ours,
                ssl=self.tls.context(),
                ssl_handshake_timeout=seconds,
            )
            self.tls.check_peer(transport.get_extra_info("ssl_object"))
        except OSError as error:
            self.tls.log_refused("192.0.2.7:1", error)
            return ""
        said = await reader.read(100)
        peer = transport.get_extra_info("ssl_object").getpeercert()
        transport.close()
        return f"{said.decode()} from {peer['subject'][0][0][1]}"

    async def call(self, theirs: socket.socket, context: ssl.SSLContext) -> None:
        try:
            _, writer = await asyncio.open_connection(sock=theirs, ssl=context, server_hostname="localhost")
            writer.write(b"hello")
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.close()
        except OSError:
            pass  # the server's log is what is looked at

    def meet(self, new_loop: Callable[[], asyncio.AbstractEventLoop], leaf: Leaf | None) -> str:
        async def both() -> str:
            ours, theirs = pair()
            served = asyncio.ensure_future(self.serve(ours))
            await self.call(theirs, client(self.ca.path, leaf))
            return await served

        with asyncio.Runner(loop_factory=new_loop) as runner:
            return runner.run(both())


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours, theirs


@pytest.fixture
def place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Place:
    caplog.set_level(logging.DEBUG, "etcdpy.transport.tls")
    return Place(tmp_path)


def last_fields(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    records = [record for record in caplog.records if record.name == "etcdpy.transport.tls"]
    assert len(records) == 1
    fields: dict[str, Any] = vars(records[0])["fields"]
    return {"level": records[0].levelname, **fields}


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_welcome_client(place: Place, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    assert place.meet(new_loop, place.alice) == "hello from alice"


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_refused_client_is_named(
    place: Place,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    mallory = TestAuthority(tmp_path, "other-ca").issue("client", "mallory")
    assert place.meet(new_loop, mallory) == ""
    fields = last_fields(caplog)
    assert (fields["subject"], fields["server-name"]) == ("CN=mallory", "localhost")
    assert "client certificate signed by unknown authority" in fields["error"]


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize(
    ("sent", "level", "text"),
    [
        (b"", "DEBUG", "EOF; "),
        (b"GET / HTTP/1.1\r\n\r\n", "WARNING", "plain HTTP to a TLS port"),
        (None, "WARNING", "i/o timeout; "),
    ],
)
def test_other_visitors(
    place: Place,
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    caplog: pytest.LogCaptureFixture,
    sent: bytes | None,
    level: str,
    text: str,
) -> None:
    async def visit() -> None:
        ours, theirs = pair()
        if sent is not None:
            theirs.send(sent)
            theirs.shutdown(socket.SHUT_WR)
        await place.serve(ours, seconds=0.05 if sent is None else HANDSHAKE_SECONDS)
        theirs.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(visit())
    fields = last_fields(caplog)
    assert fields["level"] == level
    assert text in fields["error"]
