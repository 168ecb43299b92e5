"""The proxy's connections to a cluster whose TLS files are renewed, against a server of grpcio's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from etcdpy.client.channels import TlsFiles
from etcdpy.proxy.run_proxy import ClusterFiles
from etcdpy.proxy.upstream import NOBODY, Upstream
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig
from tests.support.certificates import TestAuthority, nameless

if TYPE_CHECKING:
    import pytest

PATH = "/etcdserverpb.KV/Range"


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it takes none at run time
    def service(self, _call: object) -> Any:
        async def answer(body: bytes, _context: object) -> bytes:
            return body

        return grpc.unary_unary_rpc_method_handler(answer)


def server_pair(authority: TestAuthority) -> tuple[bytes, bytes]:
    pair = authority.issue("server", "server")
    return Path(pair.key).read_bytes(), Path(pair.cert).read_bytes()


async def serve(authority: TestAuthority, port: int) -> tuple[Any, int]:
    """A server that asks for a certificate of the authority; it and its port."""
    credentials = grpc.ssl_server_credentials([server_pair(authority)], authority.pem, require_client_auth=True)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Echo(),))
    bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    return server, bound


class Files:
    """What the proxy is given, which its operator replaces."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca, self.cert, self.key = (
            directory / name for name in ("trusted.pem", "nameless.pem", "nameless-key.pem")
        )
        self.config = ClientTlsConfig(trusted_ca_file=str(self.ca), cert_file=str(self.cert), key_file=str(self.key))

    def write(self, authority: TestAuthority) -> None:
        self.ca.write_bytes(authority.pem)
        nameless(authority, self.directory)

    def write_named(self, authority: TestAuthority) -> None:
        pair = authority.issue("client", "somebody")
        for path, source in ((self.cert, pair.cert), (self.key, pair.key)):
            path.write_bytes(Path(source).read_bytes())


def test_renewed_files_are_shown_from_the_next_connection_on(tmp_path: Path) -> None:
    authorities = [TestAuthority(tmp_path, name) for name in ("old", "new")]
    files = Files(tmp_path)
    files.write(authorities[0])

    async def main() -> None:
        server, port = await serve(authorities[0], 0)
        upstream = Upstream(
            [f"127.0.0.1:{port}"],
            TlsFiles(files.ca, files.cert, files.key),
            max_send_bytes=1 << 20,
            options=[("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50)],
            renewals=ClusterFiles(ClientTls(files.config)).renewals,
        )
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(20):
            upstream.start(tasks)
            assert await upstream.ask(PATH, b"first", NOBODY) == b"first"
            await server.stop(None)
            waiting = asyncio.create_task(upstream.ask(PATH, b"second", NOBODY))
            await asyncio.sleep(0.1)
            files.write(authorities[1])
            server, _ = await serve(authorities[1], port)
            assert await waiting == b"second"
            await upstream.close()
        await server.stop(None)

    asyncio.run(main())


def test_a_renewed_certificate_may_not_have_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With one, every client of the proxy would be that user."""
    authority = TestAuthority(tmp_path)
    files = Files(tmp_path)
    files.write(authority)
    cluster = ClusterFiles(ClientTls(files.config))
    assert cluster.renewals() == 0
    files.write_named(authority)
    assert cluster.renewals() == 0
    assert "cannot be renewed" in caplog.text
    files.write(authority)
    assert cluster.renewals() == 1
