"""A watcher that goes on: from stream to stream and endpoint to endpoint, each revision once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import grpc

from etcdpy.client.call import WATCH
from etcdpy.client.failures import Failure
from etcdpy.client.retrying import PAUSE_SECONDS
from etcdpy.client.watch_state import WatchState
from etcdpy.errors import Code
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from etcdpy.client.core import Stream, View
    from etcdpy.errors import EtcdError

PAUSE_SECONDS_MAX: Final = 0.1
"""Between two attempts to open the stream again, as in etcd's own client."""

RESUMABLE: Final = (Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN, Code.CANCELLED)
"""How a stream ends that can go on elsewhere; grpcio says CANCELLED where a server resets it."""


class WatchEnded(Exception):
    """The watcher was cancelled by its owner."""


class Following:
    """One watcher. Who reads is one at a time; `end` and `ask_progress` may come from elsewhere."""

    def __init__(self, view: View, request: rpc_pb2.WatchCreateRequest, timeout: float | None = None) -> None:
        """`timeout`: seconds until it ends by itself, with DEADLINE_EXCEEDED."""
        self._core = view.core
        self._view = view
        self._give_up = None if timeout is None else time.monotonic() + timeout
        self.state = WatchState(view.into(request))
        self._stream: Stream[rpc_pb2.WatchResponse] | None = None
        self._endpoint = 0
        self._pause = PAUSE_SECONDS
        self._renewed = False
        self.ended = False
        """Whether its owner has cancelled it."""

    async def start(self) -> None:
        """Wait until the server has taken the watcher: what happens from now on is seen. Raises as `next`."""
        while not self.state.created:
            await self._step()

    async def next(self) -> rpc_pb2.WatchResponse:
        """The next answer: whole revisions, or progress.

        Raises the EtcdError that ends the watcher for good (WatchCompacted, where events are lost), WatchEnded,
        ClientClosed.
        """
        while (answer := await self._step()) is None:
            pass
        return self._view.out_of(answer)

    def end(self) -> None:
        """Let the server forget it; who reads gets WatchEnded."""
        self.ended = True
        if self._stream is not None:
            self._stream.cancel()

    async def ask_progress(self) -> None:
        """Ask the server how far this watcher has come; the answer is one without events."""
        if self._stream is not None:
            await self._stream.send(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    async def _step(self) -> rpc_pb2.WatchResponse | None:
        """Read one message, or open another stream instead of one that broke."""
        stream = self._stream or await self._open()
        if self.ended:
            stream.cancel()
            raise WatchEnded
        try:
            answer = await stream.read()
        except grpc.RpcError as error:
            await self._broke(Failure.of(error))
            return None
        if answer is None:
            await self._broke(None)
            return None
        whole = self.state.received(answer)
        if self.state.failed is not None:
            await self._refused(self.state.failed)
        elif answer.created:
            self._pause, self._renewed = PAUSE_SECONDS, False
        return whole

    async def _open(self) -> Stream[rpc_pb2.WatchResponse]:
        self.state.disconnected()
        timeout = None if self._give_up is None else max(0.0, self._give_up - time.monotonic())
        # A member without a leader ends the stream, instead of being silent for as long as it has none.
        self._endpoint, self._stream = await self._core.open(
            WATCH, [self.state.create_request()], timeout, require_leader=True, only=self._view.only, more=True
        )
        return self._stream

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None
        if self.ended:
            raise WatchEnded

    async def _broke(self, failure: Failure | None) -> None:
        """The stream is over; `failure` None where the server ended it without an error."""
        self._close()
        if failure is not None:
            self._core.note(self._endpoint, failure)
            if failure.code not in RESUMABLE:
                await self._refused(failure.error)
        await self._core.io.sleep(self._pause)
        self._pause = min(self._pause * 1.25, PAUSE_SECONDS_MAX)

    async def _refused(self, error: EtcdError) -> None:
        """Go on with another token where that may help, once."""
        self._close()
        if self._renewed or not await self._core.renew_token(error):
            raise error
        self._renewed = True
