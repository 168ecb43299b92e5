"""etcdserverpb.Watch: many watchers on one stream."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from etcdpy.api.checks import parse
from etcdpy.errors import AuthOldRevision, EtcdError, InvalidAuthToken, PermissionDenied, UserEmpty
from etcdpy.limits import WATCH_OUTBOX_BYTES_MAX, WATCH_REQUESTS_PER_TURN
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.api.callers import Callers
    from etcdpy.auth.store import Rights
    from etcdpy.mvcc.watch import WatchHub
    from etcdpy.mvcc.watch_stream import WatchStream
    from etcdpy.transport.calls import StreamCall


class WatchService:
    """Feeds requests to the hub; the hub writes to the call, which is its outbox."""

    def __init__(self, hub: WatchHub, callers: Callers, clock: Callable[[], float], wake: Callable[[], None]) -> None:
        self._hub = hub
        self._callers = callers
        self._clock = clock
        self._wake = wake
        self._open: dict[StreamCall, _Permission] = {}

    async def watch(self, call: StreamCall) -> None:
        """Watch.Watch. The client's half-close ends nothing: watchers stay until it goes, as on etcd."""
        stream = self._hub.open_stream(call, self._clock())
        permission = self._open[call] = _Permission(self._callers, call, stream)
        stream.forbids = permission.forbids
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
            del self._open[call]
            stream.close()

    def users_changed(self) -> None:
        """End the watchers of those who may not see their keys any more. All earlier events have been handed out.

        etcd lets them go on until the client goes. Streams whose user has the same rights as before cost a comparison.
        """
        for permission in list(self._open.values()):
            permission.judge_again()


class _Permission:
    """What the client of one stream may watch."""

    __slots__ = ("_call", "_callers", "_name", "_rights", "_stream")

    def __init__(self, callers: Callers, call: StreamCall, stream: WatchStream) -> None:
        self._callers = callers
        self._call = call
        self._stream = stream
        self._name = ""
        """The user for whom watchers were made; empty while users were switched off."""
        self._rights: Rights | None = None
        """What that user could do when a watcher was made or all were looked at last; all watchers are within it."""

    def forbids(self, key: bytes, range_end: bytes) -> str:
        """Why a new watcher is refused, in the words of etcd; empty where it is not."""
        callers = self._callers
        if not callers.store.enabled:
            self._rights = None
            return ""
        try:
            who = callers.check_read(self._call, key, range_end)
        except EtcdError as error:
            return _reason(error)
        self._name, self._rights = who.name, callers.store.rights_of(who.name)
        return ""

    def judge_again(self) -> None:
        """Users or roles have changed."""
        store, stream = self._callers.store, self._stream
        if not store.enabled or not stream.watchers:
            return
        if not self._name:  # watchers from before users were switched on
            try:
                self._name = self._callers.identify(self._call).name
            except InvalidAuthToken:
                pass
        rights = store.rights_of(self._name)
        if rights is not None and rights == self._rights:
            return
        self._rights = rights
        stream.forbids = partial(self._forbids_now, _reason(PermissionDenied() if self._name else UserEmpty()))
        stream.cancel_forbidden()
        stream.forbids = self.forbids

    def _forbids_now(self, reason: str, key: bytes, range_end: bytes) -> str:
        """Judged by the name alone: the token that the stream was opened with may have had its time."""
        rights = self._rights
        allowed = rights is not None and (rights.is_root or rights.read.covers_range(key, range_end))
        return "" if allowed else reason


_TOLD = (InvalidAuthToken, AuthOldRevision, UserEmpty)


def _reason(error: EtcdError) -> str:
    """An error as Go prints it, which clients look into; what is none of the usual ones is a lack of permission."""
    told = error if isinstance(error, _TOLD) else PermissionDenied()
    return f"rpc error: code = {told.code.label} desc = {told.message}"
