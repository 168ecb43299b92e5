"""etcdserverpb.KV at the proxy: ranges from the cache where they may be, everything else from the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.api.checks import parse
from etcdpy.client.call import COMPACT, DELETE_RANGE, PUT, RANGE, TXN
from etcdpy.errors import Code, StatusError
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.upstream import caller_of
from etcdpy.proxy.written import compared, written

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from etcdpy.proxy.asking import Asker
    from etcdpy.proxy.cache import RangeCache
    from etcdpy.proxy.upstream import Caller
    from etcdpy.transport.calls import Call, StreamCall


class KvService:
    """Handlers; each is a coroutine over one call."""

    def __init__(self, asker: Asker, cache: RangeCache) -> None:
        self._asker = asker
        self._cache = cache

    async def range(self, call: Call, body: bytes) -> None:
        """KV.Range."""
        request, caller = parse(rpc_pb2.RangeRequest, body), caller_of(call)
        cached = self._cache.get(request, caller) if request.serializable else None
        call.finish(cached if cached is not None else await self.read(request, caller))

    async def read(self, request: rpc_pb2.RangeRequest, caller: Caller) -> bytes:
        """The cluster's answer to a range, which the cache then has."""
        writes = self._cache.writes
        answer = await self._asker.encoded(RANGE, request, caller)
        self._cache.add(request, caller, answer, writes)
        return answer

    async def range_stream(self, call: StreamCall) -> None:
        """KV.RangeStream. As on etcd's proxy there is none."""
        raise StatusError(Code.UNIMPLEMENTED, "RangeStream is not supported by the gRPC proxy")

    async def put(self, call: Call, body: bytes) -> None:
        """KV.Put."""
        request = parse(rpc_pb2.PutRequest, body)
        asked = self._asker.encoded(PUT, request, caller_of(call))
        call.finish(await self._writing([(request.key, b"")], asked))

    async def delete_range(self, call: Call, body: bytes) -> None:
        """KV.DeleteRange."""
        request = parse(rpc_pb2.DeleteRangeRequest, body)
        asked = self._asker.encoded(DELETE_RANGE, request, caller_of(call))
        call.finish(await self._writing([(request.key, request.range_end)], asked))

    async def txn(self, call: Call, body: bytes) -> None:
        """KV.Txn."""
        request = parse(rpc_pb2.TxnRequest, body)
        asked = self._asker.encoded(TXN, request, caller_of(call))
        # What it compares may be known wrongly here: a client that tries again after a failed one must see the truth.
        call.finish(await self._writing([*compared(request), *written(request)], asked))

    async def compact(self, call: Call, body: bytes) -> None:
        """KV.Compact."""
        request = parse(rpc_pb2.CompactionRequest, body)
        answer = await self._asker.encoded(COMPACT, request, caller_of(call))
        self._cache.compact(request.revision)
        call.finish(answer)

    async def _writing(self, touched: Iterable[tuple[bytes, bytes]], asked: Awaitable[bytes]) -> bytes:
        """Forget what is written before it is and once it was, so that no answer from in between is kept."""
        places = list(touched)
        try:
            for key, end in places:
                self._cache.invalidate(key, end)
            return await asked
        finally:
            for key, end in places:
                self._cache.invalidate(key, end)
