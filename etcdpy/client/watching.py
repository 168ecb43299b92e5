"""What a watcher offers: its answers, read ahead a little by a worker of their own."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, Self, TypedDict

from etcdpy.client.failures import ClientClosed, deadline_exceeded
from etcdpy.client.following import Following, WatchEnded
from etcdpy.client.keys import Key, key_range
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Unpack

    from etcdpy.client.core import View

UNREAD_MAX: Final = 64
"""Answers of a watcher that wait to be read; with more the stream is not read, and the server holds the rest."""


class WatchFields(TypedDict, total=False):
    """What a watcher may be told beside its keys; a `start_revision` of 0 means from now on."""

    start_revision: int
    prev_kv: bool
    no_put: bool
    no_delete: bool


async def watch(
    view: View,
    key: Key,
    range_end: Key = b"",
    *,
    prefix: bool = False,
    from_key: bool = False,
    progress: bool = False,
    timeout: float | None = None,
    **fields: Unpack[WatchFields],
) -> AsyncWatch:
    """Watch a key or a range as `get` understands it; when it is open the server has taken the watcher.

    `progress`: hand out answers without events too, which tell how far the watcher has come. `timeout`: seconds until
    the watcher must have been taken; None: the client's.
    """
    start, end = key_range(key, range_end, prefix=prefix, from_key=from_key)
    # Told of its progress now and then it keeps ahead of compactions; large answers come in parts.
    request = rpc_pb2.WatchCreateRequest(key=start, range_end=end, progress_notify=True, fragment=True)
    request.start_revision = fields.get("start_revision", 0)
    request.prev_kv = fields.get("prev_kv", False)
    if fields.get("no_put"):
        request.filters.append(rpc_pb2.WatchCreateRequest.NOPUT)
    if fields.get("no_delete"):
        request.filters.append(rpc_pb2.WatchCreateRequest.NODELETE)
    watcher = AsyncWatch(view, request, progress=progress)
    await watcher.wait_created(view.core.settings.timeout if timeout is None else timeout)
    return watcher


class AsyncWatch:
    """Events as they happen, each once and in the order of revisions, whatever happens to connections and members.

    Iterating gives events; `next` gives etcd's whole answers. The iteration ends when the watcher is cancelled or the
    client closed. It raises WatchCompacted where events that it should see are compacted, and any EtcdError with which
    the server refuses it. A context manager.
    """

    def __init__(self, view: View, request: rpc_pb2.WatchCreateRequest, *, progress: bool) -> None:
        self._following = Following(view, request)
        self._progress = progress
        self._answers: deque[rpc_pb2.WatchResponse] = deque()
        self._changed = view.core.io.new_condition()
        self._end: BaseException | None = None
        view.core.io.spawn(self._read())

    @property
    def header(self) -> rpc_pb2.ResponseHeader:
        """Of the answer that created the watcher: it sees what happens after `header.revision`."""
        return self._following.state.header

    async def wait_created(self, seconds: float | None) -> None:
        """Wait until the server has taken the watcher. Raises EtcdError, ClientClosed."""
        async with self._changed:
            taken = await self._changed.wait_until(
                lambda: self._following.state.created or self._end is not None, seconds
            )
        if not taken:
            self.cancel()
            raise deadline_exceeded()
        if self._end is not None and not self._following.state.created:
            raise self._end

    async def next(self, timeout: float | None = None) -> rpc_pb2.WatchResponse | None:
        """The next answer; None where there is none in `timeout` seconds.

        Raises EtcdError, WatchEnded after it was cancelled, ClientClosed.
        """
        async with self._changed:
            if not await self._changed.wait_until(lambda: bool(self._answers) or self._end is not None, timeout):
                return None
            if not self._answers:
                assert self._end is not None
                raise self._end
            if len(self._answers) == UNREAD_MAX:
                self._changed.notify_all()
            return self._answers.popleft()

    async def __aiter__(self) -> AsyncIterator[kv_pb2.Event]:
        try:
            while (answer := await self.next()) is not None:
                for event in answer.events:
                    yield event
        except (WatchEnded, ClientClosed):
            return

    async def request_progress(self) -> None:
        """Ask how far the watcher has come; the answer has no events. A server that is busy catching up gives none."""
        self._progress = True
        await self._following.ask_progress()

    def cancel(self) -> None:
        """End it."""
        self._following.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.cancel()

    async def _read(self) -> None:
        try:
            await self._following.start()
            async with self._changed:
                self._changed.notify_all()
            while True:
                answer = await self._following.next()
                if answer.events or self._progress:
                    await self._hand_over(answer)
        except BaseException as error:
            async with self._changed:
                # What is no Exception is asyncio's way to end a task, as its client does when it is closed.
                self._end = error if isinstance(error, Exception) else ClientClosed()
                self._changed.notify_all()
            if not isinstance(error, Exception):
                raise

    async def _hand_over(self, answer: rpc_pb2.WatchResponse) -> None:
        async with self._changed:
            if len(self._answers) >= UNREAD_MAX:
                await self._changed.wait_until(lambda: len(self._answers) < UNREAD_MAX or self._following.ended, None)
            self._answers.append(answer)
            self._changed.notify_all()
