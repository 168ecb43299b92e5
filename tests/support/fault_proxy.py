"""A TCP proxy before the peer port of every member of a cluster: slow, stalled, one-way and cut links between them.

A member has one peer address that all others use, so the proxy cannot tell by the port who calls. It asks the kernel:
the connection's other end belongs to a socket, and the socket to a process. That works for TLS as well.

    member a --- dials b's advertised port --> [ proxy of b ] --> b's own peer port

Both ways of a connection belong to a link: what the caller sends to `link(caller, owner)`, what it is answered to
`link(owner, caller)`. A stalled link keeps its bytes, as a network that loses packets does by way of retransmission,
and hands them over when it flows again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

CHUNK_BYTES_MAX: Final = 65_536
CHUNKS_HELD_MAX: Final = 64
"""What a stalled or slow link holds in one connection; beyond that the sender's own buffers fill, as they would."""
STOP_SECONDS_MAX: Final = 5.0


def process_of_connection(port: int, processes: Mapping[str, int]) -> str:
    """Which of `processes` (name to process id) has the loopback connection that comes from `port`; "" for none."""
    wanted = f"0100007F:{port:04X}"
    with open("/proc/net/tcp") as table:
        inodes = [fields[9] for line in table if (fields := line.split())[1] == wanted]
    links = {f"socket:[{inode}]" for inode in inodes}
    for name, pid in processes.items():
        with contextlib.suppress(OSError):  # it ends just now
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(descriptor.path) in links:
                        return name
    return ""


def reset(end: asyncio.StreamWriter) -> None:
    """Let the other end see a reset."""
    if not end.transport.is_closing():
        end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.transport.abort()


@dataclass
class Link:
    """What goes from one member to another. Changed on the proxy's loop only."""

    delay_seconds: float = 0.0
    bytes_per_second: float = 0.0
    """0: as fast as it goes."""
    refused: bool = False
    flowing: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.flowing.set()

    def heal(self) -> None:
        """As new."""
        self.delay_seconds = self.bytes_per_second = 0.0
        self.refused = False
        self.flowing.set()


class Pipe:
    """One direction of a connection: bytes are read ahead, each chunk is handed on when the link lets it.

    A reset is handed on as an end, and as late as bytes are: a member that is cut off must not hear of it.
    """

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._link = link
        self._reader = reader
        self._writer = writer
        self._chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_HELD_MAX)

    async def run(self) -> None:
        """Until the sender has ended, and the receiver was told."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read())
            group.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        data = b"?"
        while data:
            try:
                data = await self._reader.read(CHUNK_BYTES_MAX)
            except OSError:
                data = b""
            await self._chunks.put((loop.time(), data))

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        data = b"?"
        while data:
            came, data = await self._chunks.get()
            if (wait := came + self._link.delay_seconds - loop.time()) > 0:
                await asyncio.sleep(wait)
            await self._link.flowing.wait()
            if self._link.bytes_per_second:
                await asyncio.sleep(len(data) / self._link.bytes_per_second)
            if self._writer.transport.is_closing():
                continue  # the receiver is gone, which the sender learns from the other pipe
            with contextlib.suppress(OSError):
                if data:
                    self._writer.write(data)
                    await self._writer.drain()
                else:
                    self._writer.write_eof()


class FaultProxy:
    """The proxies of all members, on a loop in a thread of their own. Its methods may be called from any thread."""

    def __init__(self, processes: Callable[[], Mapping[str, int]]) -> None:
        """`processes` gives the running members' names and process ids."""
        self._processes = processes
        self._links: dict[tuple[str, str], Link] = {}
        self._connections: dict[asyncio.Task[None], tuple[str, str]] = {}
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()

    # --- set up, tear down ---

    def add(self, owner: str, listener: socket.socket, target_port: int) -> None:
        """Serve `listener` as the advertised peer address of member `owner`, which itself listens on `target_port`."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(owner, target_port, reader, writer)

        async def begin() -> None:
            self._servers.append(await asyncio.start_server(accept, sock=listener))

        asyncio.run_coroutine_threadsafe(begin(), self._loop).result(STOP_SECONDS_MAX)

    def close(self) -> None:
        """End every connection and the thread."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            tasks = list(self._connections)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(STOP_SECONDS_MAX)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS_MAX)
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- faults ---

    def stall(self, source: str, target: str) -> None:
        """Nothing arrives at `target` from `source` any more; the other way is as before."""
        self._change(lambda: self._link(source, target).flowing.clear())

    def isolate(self, group: Iterable[str], others: Iterable[str]) -> None:
        """Nothing goes between the members of `group` and the `others`, in either direction."""
        pairs = [(one, other) for one in group for other in others]

        def change() -> None:
            for one, other in pairs:
                self._link(one, other).flowing.clear()
                self._link(other, one).flowing.clear()

        self._change(change)

    def cut(self, one: str, other: str) -> None:
        """Reset the connections between two members, and refuse new ones."""

        def change() -> None:
            for link in (self._link(one, other), self._link(other, one)):
                link.refused = True
                link.flowing.set()
            for task, ends in self._connections.items():
                if set(ends) == {one, other}:
                    task.cancel()

        self._change(change)

    def slow(self, source: str, target: str, *, delay_seconds: float = 0.0, bytes_per_second: float = 0.0) -> None:
        """What `source` sends to `target` takes longer, and at most so many bytes pass in a second (0: any)."""

        def change() -> None:
            link = self._link(source, target)
            link.delay_seconds, link.bytes_per_second = delay_seconds, bytes_per_second

        self._change(change)

    def heal(self) -> None:
        """All links are as new; what stalled ones held arrives."""

        def change() -> None:
            for link in self._links.values():
                link.heal()

        self._change(change)

    def _link(self, source: str, target: str) -> Link:
        return self._links.setdefault((source, target), Link())

    def _change(self, change: Callable[[], None]) -> None:
        """Run it on the loop, and wait until it is done."""

        async def run() -> None:
            change()

        done: Future[None] = asyncio.run_coroutine_threadsafe(run(), self._loop)
        done.result(STOP_SECONDS_MAX)

    # --- connections ---

    async def _serve(
        self, owner: str, target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        caller = process_of_connection(writer.get_extra_info("peername")[1], self._processes())
        self._connections[task] = caller, owner
        ends = [writer]
        try:
            if self._link(caller, owner).refused:
                reset(writer)
            else:
                back, inner = await asyncio.open_connection("127.0.0.1", target_port)
                ends.append(inner)
                async with asyncio.TaskGroup() as group:
                    group.create_task(Pipe(self._link(caller, owner), reader, inner).run())
                    group.create_task(Pipe(self._link(owner, caller), back, writer).run())
        except (OSError, asyncio.CancelledError):
            for end in ends:  # the member is not there, or the connection was cut
                reset(end)
        finally:
            del self._connections[task]
            for end in ends:
                end.close()
