"""--discovery-insecure-skip-tls-verify: TLS to a server that nobody verifies, which grpcio, whose every TLS connection
verifies, cannot do by itself.

    grpcio -> plain, socket in a directory that only this process may enter -> here -> TLS -> discovery service
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.client.channels import target_of
from etcdpy.server import logs
from etcdpy.transport.tls_client import ClientTls, ClientTlsConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from etcdpy.client.channels import TlsFiles

    Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

log = logs.get("discovery")


@contextlib.asynccontextmanager
async def unverified(endpoints: Sequence[str], files: TlsFiles, server_name: str) -> AsyncIterator[list[str]]:
    """Endpoints to dial plainly in the place of these. Those of `http` and `unix` stay as they are.

    The client certificate of `files` is shown; its authorities must be readable, as on etcd, and are not asked.
    Raises TlsConfigError, OSError.
    """
    if files.trusted_ca is not None:
        files.trusted_ca.read_bytes()
    certificate, key = (str(path) if path is not None else "" for path in (files.certificate, files.key))
    tls = ClientTls(ClientTlsConfig(cert_file=certificate, key_file=key, verify=False, alpn=("h2",)))
    async with contextlib.AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdpy-"))
        plain = []
        for number, endpoint in enumerate(endpoints):
            target, secure = target_of(endpoint)
            if secure is False:
                plain.append(endpoint)
                continue
            path = Path(directory, str(number))
            dial = functools.partial(_dial, target, tls, server_name)
            server = await asyncio.start_unix_server(functools.partial(_relay, dial), path)
            stack.callback(server.close)
            plain.append(f"unix:{path}")
        yield plain


async def _dial(target: str, tls: ClientTls, server_name: str) -> Pair:
    """Raises OSError."""
    if target.startswith("unix:"):
        name = server_name or "localhost"
        return await asyncio.open_unix_connection(target.removeprefix("unix:"), ssl=tls.context(), server_hostname=name)
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit():
        raise OSError(f"address {target}: missing port in address")
    return await asyncio.open_connection(host, int(port), ssl=tls.context(), server_hostname=server_name or host)


async def _relay(
    dial: Callable[[], Coroutine[None, None, Pair]], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with contextlib.closing(writer):
        try:
            far_reader, far_writer = await dial()
        except OSError as error:
            log.warn("failed to connect to discovery service", error=str(error))
            return
        with contextlib.closing(far_writer):
            async with asyncio.TaskGroup() as both:
                there = both.create_task(_pump(reader, far_writer))
                back = both.create_task(_pump(far_reader, writer))
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
                there.cancel()
                back.cancel()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the reader's end, or the writer's."""
    with contextlib.suppress(OSError):
        while piece := await reader.read(limits.DISCOVERY_RELAY_BYTES):
            writer.write(piece)
            await writer.drain()
