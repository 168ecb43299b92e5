"""etcdserverpb.Watch: many watchers on one stream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from etcdpy.api.checks import parse
from etcdpy.limits import WATCH_OUTBOX_BYTES_MAX, WATCH_REQUESTS_PER_TURN
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.mvcc.watch import WatchHub
    from etcdpy.transport.calls import StreamCall


class WatchService:
    """Feeds requests to the hub; the hub writes to the call, which is its outbox."""

    def __init__(self, hub: WatchHub, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self._hub = hub
        self._clock = clock
        self._wake = wake

    async def watch(self, call: StreamCall) -> None:
        """Watch.Watch. The client's half-close ends nothing: watchers stay until it goes, as on etcd."""
        stream = self._hub.open_stream(call, self._clock())
        self._wake()  # its progress notices may be due before anything that was known so far
        try:
            handled = 0
            while (body := await call.receive()) is not None:
                stream.handle(parse(rpc_pb2.WatchRequest, body))
                handled += 1
                if handled % WATCH_REQUESTS_PER_TURN == 0:
                    await asyncio.sleep(0)  # receive() does not wait while requests are there
                if self._hub.has_work:
                    self._wake()
                if call.buffered_bytes > WATCH_OUTBOX_BYTES_MAX:
                    # Answers to requests are not held back by the hub, so a client that reads nothing may ask nothing.
                    await call.wait_writable(WATCH_OUTBOX_BYTES_MAX)
            await asyncio.Event().wait()
        finally:
            stream.close()
