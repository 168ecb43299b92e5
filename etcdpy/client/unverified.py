"""TLS to a server that is not verified, which grpcio does not offer: a relay in this process speaks TLS for it.

grpcio connects to a socket of the relay's in a directory that only this user may enter, in plain HTTP/2; each
connection is carried on over TLS. Expired certificates, wrong names and unknown authorities are all taken: this is for
tests alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from etcdpy.client.channels import TlsFiles

_CHUNK: Final = 64 * 1024


class UnverifiedRelay:
    """From a socket of this machine to grpcio's `target` over TLS. A context manager; connect to its own `target`."""

    def __init__(self, far: str, files: TlsFiles) -> None:
        """`far` is what `channels.target_of` makes. Raises OSError for a file that cannot be read or used."""
        self._far = far
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._context.set_alpn_protocols(["h2"])
        if files.certificate is not None:
            self._context.load_cert_chain(files.certificate, files.key)
        self._place = tempfile.TemporaryDirectory(prefix="etcdpy-", ignore_cleanup_errors=True)
        self._path = Path(self._place.name) / "relay"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.target = f"unix:{self._path}"

    def __enter__(self) -> Self:
        self._loop.run_until_complete(asyncio.start_unix_server(self._serve, self._path))
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.cleanup()

    def _run(self) -> None:
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> None:
        # What goes wrong ends the connection; grpcio sees that and says so in its own words.
        with contextlib.suppress(OSError):
            far_in, far_out = await self._connect()
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry(near_in, far_out))
                both.create_task(_carry(far_in, near_out))
        near_out.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._far.startswith("unix:"):
            path = self._far.removeprefix("unix:")
            return await asyncio.open_unix_connection(path, ssl=self._context, server_hostname="localhost")
        address = urlsplit(f"//{self._far}")
        return await asyncio.open_connection(address.hostname, address.port, ssl=self._context)


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            sink.write(data)
            await sink.drain()
    sink.close()  # the other direction then reads its end
