"""v3lockpb.Lock: a lock that lives as long as its holder's lease, kept as etcd's clients keep theirs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from etcdpy.api.checks import parse
from etcdpy.api.recipes import Inside, oldest_under, own_key, when_created_at
from etcdpy.errors import Code, EtcdError, StatusError
from etcdpy.proto import lock_pb2, rpc_pb2

if TYPE_CHECKING:
    from etcdpy.transport.calls import Call


class LockService:
    """Thin over the keys: who holds a lock, and who waits for it, is what is stored."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    async def lock(self, call: Call, body: bytes) -> None:
        """Lock.Lock: answers once the caller's session owns the lock. A caller who goes before loses its place."""
        request = parse(lock_pb2.LockRequest, body)
        inside, prefix = self._inside, request.name + b"/"
        lease = await inside.session(call, request.lease)
        key = own_key(prefix, lease)
        entered = await inside.enter(call, _enter(key, prefix, lease), key)
        created = entered.header.revision
        if not entered.succeeded:
            created = entered.responses[0].response_range.kvs[0].create_revision
        owners = entered.responses[1].response_range.kvs
        if not owners or owners[0].create_revision == created:
            header = entered.header
        else:
            header = await self._wait(call, prefix, key, created)
        call.finish(lock_pb2.LockResponse(header=header, key=key).SerializeToString())

    async def _wait(self, call: Call, prefix: bytes, key: bytes, created: int) -> rpc_pb2.ResponseHeader:
        inside = self._inside
        try:
            await inside.wait_until_oldest(call, prefix, created - 1)
            found = await inside.range(call, rpc_pb2.RangeRequest(key=key))
        except (EtcdError, asyncio.CancelledError):
            inside.spawn(self._release(call, key))
            raise
        if not found.kvs:
            raise StatusError(Code.UNKNOWN, "mutex: session is expired")
        return found.header

    async def _release(self, call: Call, key: bytes) -> None:
        try:
            await self._inside.delete(call, key)
        except EtcdError:
            pass  # the key goes with its lease

    async def unlock(self, call: Call, body: bytes) -> None:
        """Lock.Unlock: deletes the key that Lock gave."""
        request = parse(lock_pb2.UnlockRequest, body)
        deleted = await self._inside.delete(call, request.key)
        call.finish(lock_pb2.UnlockResponse(header=deleted.header).SerializeToString())


def _enter(key: bytes, prefix: bytes, lease: int) -> rpc_pb2.TxnRequest:
    """Take a place in the queue, or find the one that the session has; and see who owns the lock."""
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, lease=lease))
    get = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key))
    owner = rpc_pb2.RequestOp(request_range=oldest_under(prefix))
    return rpc_pb2.TxnRequest(compare=[when_created_at(key, 0)], success=[put, owner], failure=[get, owner])
