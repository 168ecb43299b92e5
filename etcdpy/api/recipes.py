"""What the recipes (locks, elections) are made of: requests to the other services in the name of whoever called.

etcd runs its client library's recipes inside the server. What a client would see of its requests is kept: the caller's
rights count for each of them, and an error of etcd's table reaches the caller as Unknown, with its text alone.

    key = prefix/lease in hexadecimal, attached to the lease; the oldest key (by create revision) under the prefix owns
    who comes later waits until the youngest of the older keys is gone, then looks again
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from etcdpy.errors import Code, Compacted, EtcdError, StatusError, TimeoutAppliedIndex
from etcdpy.proto import kv_pb2, rpc_pb2
from etcdpy.transport.local_calls import LocalCall, LocalStreamCall

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine

    from google.protobuf.message import Message

    from etcdpy.api.kv import KvService
    from etcdpy.api.lease import LeaseService
    from etcdpy.api.watch import WatchService
    from etcdpy.transport.calls import Call

    M = TypeVar("M", bound=Message)
    Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

SESSION_TTL_SECONDS: Final = 60
"""The lease of a caller who names none. Nobody keeps it alive but the caller."""

_KEPT: Final = (StatusError, TimeoutAppliedIndex)
"""Errors that etcd's client library does not know by their text, so that they keep their code."""


def told(error: EtcdError) -> EtcdError:
    """An error of a request as whoever asked for the recipe hears it."""
    return error if isinstance(error, _KEPT) else StatusError(Code.UNKNOWN, error.message)


class Inside:
    """Requests to the member's own services. All raise EtcdError as `told`."""

    def __init__(
        self,
        kv: KvService,
        lease: LeaseService,
        watch: WatchService,
        spawn: Spawn,
        on_bug: Callable[[Exception], None],
    ) -> None:
        self._kv = kv
        self._lease = lease
        self._watch = watch
        self.spawn = spawn
        self._on_bug = on_bug

    # --- requests ---

    async def session(self, caller: Call, lease: int) -> int:
        """The lease to work with: the caller's, or a new one."""
        if lease:
            return lease
        request = rpc_pb2.LeaseGrantRequest(TTL=SESSION_TTL_SECONDS)
        return (await self._ask(caller, self._lease.grant, request, rpc_pb2.LeaseGrantResponse)).ID

    async def range(self, caller: Call, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """KV.Range."""
        return await self._ask(caller, self._kv.range, request, rpc_pb2.RangeResponse)

    async def txn(self, caller: Call, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """KV.Txn."""
        return await self._ask(caller, self._kv.txn, request, rpc_pb2.TxnResponse)

    async def delete(self, caller: Call, key: bytes) -> rpc_pb2.DeleteRangeResponse:
        """KV.DeleteRange of one key."""
        request = rpc_pb2.DeleteRangeRequest(key=key)
        return await self._ask(caller, self._kv.delete_range, request, rpc_pb2.DeleteRangeResponse)

    async def enter(self, caller: Call, request: rpc_pb2.TxnRequest, key: bytes) -> rpc_pb2.TxnResponse:
        """KV.Txn that makes `key`. If the caller goes while it is under way, a key that it makes is removed again."""
        asked = LocalCall(caller.head, caller.peer, self._on_bug)
        asked.begin(self._kv.txn, request.SerializeToString())
        try:
            parts = await asyncio.shield(asked.outcome)
        except EtcdError as error:
            raise told(error) from error
        except asyncio.CancelledError:
            self.spawn(self._undo(caller, asked.outcome, key))
            raise
        return rpc_pb2.TxnResponse.FromString(b"".join(parts))

    async def _undo(self, caller: Call, outcome: asyncio.Future[list[bytes]], key: bytes) -> None:
        try:
            response = rpc_pb2.TxnResponse.FromString(b"".join(await outcome))
            if response.succeeded:
                await self.txn(caller, delete_own(key, response.header.revision))
        except EtcdError:
            pass  # the key goes with its lease

    async def _ask(self, caller: Call, handler: Callable[[Call, bytes], Any], request: Message, kind: type[M]) -> M:
        call = LocalCall(caller.head, caller.peer, self._on_bug)
        try:
            parts = await call.ask(handler, request.SerializeToString())
        except EtcdError as error:
            raise told(error) from error
        return kind.FromString(b"".join(parts))

    # --- watching ---

    async def watch(self, caller: Call, create: rpc_pb2.WatchCreateRequest) -> AsyncGenerator[rpc_pb2.WatchResponse]:
        """Responses with events, until the reader stops. Raises EtcdError when the watch is cancelled or ends."""
        request = rpc_pb2.WatchRequest(create_request=create).SerializeToString()
        call = LocalStreamCall(caller.head, caller.peer, _one(request), self._on_bug)
        call.begin(self._watch.watch, self.spawn)
        try:
            while (body := await call.next()) is not None:
                response = rpc_pb2.WatchResponse.FromString(body)
                if response.compact_revision:
                    raise told(Compacted())
                if response.canceled:
                    raise StatusError(Code.UNKNOWN, _bare(response.cancel_reason))
                if response.events:
                    yield response
        except EtcdError as error:
            raise told(error) from error
        finally:
            call.on_gone()

    # --- waiting ---

    async def wait_until_oldest(self, caller: Call, prefix: bytes, max_create_revision: int) -> None:
        """Return once no key under `prefix` is left that was created at that revision or before."""
        newest_first = rpc_pb2.RangeRequest(
            key=prefix,
            range_end=prefix_end(prefix),
            limit=1,
            sort_target=rpc_pb2.RangeRequest.CREATE,
            sort_order=rpc_pb2.RangeRequest.DESCEND,
            max_create_revision=max_create_revision,
        )
        while (response := await self.range(caller, newest_first)).kvs:
            await self._wait_deleted(caller, response.kvs[0].key, response.header.revision)

    async def _wait_deleted(self, caller: Call, key: bytes, revision: int) -> None:
        async with aclosing(self.watch(caller, rpc_pb2.WatchCreateRequest(key=key, start_revision=revision))) as watch:
            async for response in watch:
                if any(event.type == kv_pb2.Event.DELETE for event in response.events):
                    return
        raise StatusError(Code.UNKNOWN, "lost watcher waiting for delete")


async def _one(message: bytes) -> AsyncIterator[bytes]:
    yield message


def _bare(reason: str) -> str:
    """The text of an error that a cancelled watcher shows as Go prints a status."""
    return reason.partition(" desc = ")[2] or reason


def prefix_end(prefix: bytes) -> bytes:
    """The range_end of all keys that begin with `prefix`, which ends in a slash."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def own_key(prefix: bytes, lease: int) -> bytes:
    """The key of a session under a prefix."""
    return b"%b%b" % (prefix, f"{lease:x}".encode())


def oldest_under(prefix: bytes) -> rpc_pb2.RangeRequest:
    """The range that gives the owner's key."""
    return rpc_pb2.RangeRequest(
        key=prefix,
        range_end=prefix_end(prefix),
        limit=1,
        sort_target=rpc_pb2.RangeRequest.CREATE,
        sort_order=rpc_pb2.RangeRequest.ASCEND,
    )


def when_created_at(key: bytes, revision: int) -> rpc_pb2.Compare:
    """The condition that a key is there since that revision; 0: that it is not there."""
    return rpc_pb2.Compare(
        result=rpc_pb2.Compare.EQUAL, target=rpc_pb2.Compare.CREATE, key=key, create_revision=revision
    )


def delete_own(key: bytes, revision: int) -> rpc_pb2.TxnRequest:
    """Delete a key if it is still the one that was created at that revision."""
    delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key))
    return rpc_pb2.TxnRequest(compare=[when_created_at(key, revision)], success=[delete])
