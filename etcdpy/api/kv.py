"""etcdserverpb.KV: reads, writes, transactions, compaction.

Hot road. A put and a read of one key pass here for every request, so they touch as few attributes and objects as they
can: measured by `make bench`, where the whole way of a put has 28 us of server CPU.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf.message import DecodeError

from etcdpy.api.checks import (
    check_delete,
    check_put,
    check_range,
    check_range_stream,
    check_txn,
    not_a_message,
    parse,
)
from etcdpy.api.proposals import Waiting
from etcdpy.apply.plain_put import PlainPut, read_put
from etcdpy.errors import EtcdError
from etcdpy.mvcc import txn
from etcdpy.mvcc.read import RangeOptions, range_part_steps, range_steps
from etcdpy.mvcc.record import key_of, length_delimited, repeated_field
from etcdpy.proto import rpc_pb2
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from etcdpy.api.callers import Callers
    from etcdpy.api.cluster import LinearizableReads
    from etcdpy.api.header import HeaderSource
    from etcdpy.api.proposals import Proposer
    from etcdpy.apply.proposal import Outcome
    from etcdpy.auth.identity import Identity
    from etcdpy.histogram import Histogram
    from etcdpy.mvcc.store import Store
    from etcdpy.transport.calls import Call, StreamCall

_STREAM_FIRST_CHUNK_KEYS = 10
"""etcd's first chunk of a RangeStream; each later one doubles or halves towards the size of a request."""


class Slices(Protocol):
    """Runs work that is cut into slices without holding the loop."""

    def run(self, call: Call, steps: Generator[Any, None, list[bytes]]) -> None:
        """Run the first slice now and the others between other work; answer the call with the parts that come out."""
        ...

    async def wait(self, steps: Generator[Any, None, Any]) -> Any:
        """Run all slices, other work between them; gives what the generator returns. Raises what it raises."""
        ...


class Compactions(Protocol):
    """Where a physical compaction learns that its work is done."""

    def when_compacted(self, done: Callable[[], None]) -> None:
        """Call `done` when nothing scheduled by now is left to do, and what was done is on disk."""
        ...


class SlowReads(Protocol):
    """Where reads that took long are written down."""

    @property
    def read_seconds(self) -> float:
        """What took no longer than this need not be told."""
        ...

    def read(self, call: Call, kind: str, request: Any, seconds: float, count: int, size: int) -> None:
        """A read was answered so long after its arrival, with so many keys and bytes (-1: nobody counted)."""
        ...


class KvService:
    """Checks requests, proposes writes, answers reads."""

    def __init__(
        self,
        store: Store,
        proposer: Proposer,
        reads: LinearizableReads,
        slices: Slices,
        compactions: Compactions,
        callers: Callers,
        header: HeaderSource,
        range_seconds: Histogram,
        slow: SlowReads,
        *,
        stopwatch: Callable[[], float],
        max_txn_ops: int,
        max_request_bytes: int,
    ) -> None:
        self._store = store
        self._proposer = proposer
        self._reads = reads
        self._slices = slices
        self._compactions = compactions
        self._callers = callers
        self._users = callers.store
        self._header = header
        self._range_seconds = range_seconds
        self._slow = slow
        self._stopwatch = stopwatch
        self._max_txn_ops = max_txn_ops
        self._max_request_bytes = max_request_bytes

    # --- writes ---

    def put(self, call: Call, body: bytes) -> None:
        """KV.Put. The client's bytes go into the log as they are."""
        try:
            request = read_put(body)
        except DecodeError as error:
            raise not_a_message() from error
        if not isinstance(request, PlainPut):
            check_put(request)
        proposer = self._proposer
        proposer.propose(Waiting("put", request, proposer.encode("put", body), call, self._header))

    def delete_range(self, call: Call, body: bytes) -> None:
        """KV.DeleteRange."""
        request = parse(rpc_pb2.DeleteRangeRequest, body)
        check_delete(request)
        data = self._proposer.encode("delete_range", body)
        self._proposer.propose(Waiting("delete_range", request, data, call, self._header))

    def txn(self, call: Call, body: bytes) -> None:
        """KV.Txn. One that only reads needs no entry in the log."""
        request = parse(rpc_pb2.TxnRequest, body)
        check_txn(request, self._max_txn_ops)
        if is_read_only(request):
            self._when_readable(
                call, is_serializable(request), partial(self._answer_txn, call, request, self._stopwatch())
            )
        else:
            self._proposer.propose(Waiting("txn", request, self._proposer.encode("txn", body), call, self._header))

    def compact(self, call: Call, body: bytes) -> None:
        """KV.Compact. A physical one is answered when the disk has forgotten too."""
        request = parse(rpc_pb2.CompactionRequest, body)
        data = self._proposer.encode("compaction", body)
        waiting = Waiting("compaction", request, data, call, self._header)
        if request.physical:
            waiting = _PhysicalCompaction("compaction", request, data, call, self._header)
            waiting.compactions = self._compactions
        self._proposer.propose(waiting)

    # --- reads ---

    def range(self, call: Call, body: bytes) -> None:
        """KV.Range. Most are for one key at the current revision, told by a body that holds nothing but the key."""
        request = parse(rpc_pb2.RangeRequest, body)
        key = request.key
        rest = len(body) - len(key) - 2
        serializable = request.serializable
        if (rest == 0 or (rest == 2 and serializable)) and key:
            if serializable or self._reads.reads_are_current:
                self._answer_one(call, key)
            else:
                self._reads.when_linearizable(partial(self._read_one_later, call, request, self._stopwatch()))
            return
        check_range(request)
        self._when_readable(call, serializable, partial(self._answer_range, call, request, self._stopwatch()))

    async def range_stream(self, call: StreamCall) -> None:
        """KV.RangeStream: a range in chunks at one pinned revision; the last chunk carries header, more and count."""
        body = await call.receive()
        request = parse(rpc_pb2.RangeRequest, body or b"")
        check_range_stream(request)
        if not request.serializable:
            await self._reads.wait_linearizable()
        who = self._callers.check_read(call, request.key, request.range_end)
        store = self._store
        header_revision = store.current_revision
        main = store.read_revision(request.revision)
        if request.count_only:
            result = await self._slices.wait(
                range_steps(store, request.key, request.range_end, txn.range_options(request))
            )
            self._callers.check_unchanged(who)
            call.send(_stream_chunk(self._header.embed(header_revision), b"", more=False, count=result.count))
            return
        with store.pin(main):
            await self._stream_chunks(call, request, main, header_revision, who)

    async def _stream_chunks(
        self, call: StreamCall, request: rpc_pb2.RangeRequest, main: int, header_revision: int, who: Identity
    ) -> None:
        key, limit, sent = request.key, request.limit, 0
        chunk = _STREAM_FIRST_CHUNK_KEYS
        while True:
            wanted = min(chunk, limit - sent) if limit > 0 else chunk
            options = RangeOptions(limit=wanted, revision=main, keys_only=request.keys_only, with_count=False)
            steps = range_steps(self._store, key, request.range_end, options)
            result = await self._slices.wait(steps)
            sent += len(result.records)
            kvs = repeated_field(b"\x12", result.records)
            if not result.more or sent == limit:
                count = sent
                if result.more:
                    count += await self._count_after(key_of(result.records[-1]), request.range_end, main)
                self._callers.check_unchanged(who)
                call.send(_stream_chunk(self._header.embed(header_revision), kvs, more=result.more, count=count))
                return
            self._callers.check_unchanged(who)
            call.send(_stream_chunk(b"", kvs, more=False, count=0))
            key = key_of(result.records[-1]) + b"\0"
            if len(kvs) < self._max_request_bytes // 2:
                chunk *= 2
            elif len(kvs) > self._max_request_bytes * 2:
                chunk = max(chunk // 2, 1)
            await call.wait_writable(self._max_request_bytes)

    async def _count_after(self, key: bytes, end: bytes, main: int) -> int:
        options = RangeOptions(revision=main, count_only=True)
        result = await self._slices.wait(range_steps(self._store, key + b"\0", end, options))
        return int(result.count)

    def _when_readable(self, call: Call, serializable: bool, answer: Callable[[], None]) -> None:
        if serializable or self._reads.reads_are_current:
            answer()
        else:
            self._reads.when_linearizable(partial(self._read_later, call, answer))

    def _read_later(self, call: Call, answer: Callable[[], None], error: EtcdError | None) -> None:
        if error is None:
            try:
                answer()
                return
            except EtcdError as refused:
                error = refused
        call.fail(error)

    def _read_one_later(
        self, call: Call, request: rpc_pb2.RangeRequest, arrived: float, error: EtcdError | None
    ) -> None:
        self._read_later(call, partial(self._answer_one, call, request.key), error)
        self._look_at_time(call, "range", request, arrived)

    def _look_at_time(
        self, call: Call, kind: str, request: Any, arrived: float, count: int = -1, parts: list[bytes] | None = None
    ) -> None:
        seconds = self._stopwatch() - arrived
        if seconds > self._slow.read_seconds:
            size = -1 if parts is None else sum(map(len, parts))
            self._slow.read(call, kind, request, seconds, count, size)

    def _answer_one(self, call: Call, key: bytes) -> None:
        """The newest record of one key. One read in sixteen is timed, and counts for all of them."""
        if self._users.enabled:
            self._callers.check_key_read(call, key)
        if not self._store.ranges & 15:
            began = self._stopwatch()
            self._answer_record(call, key)
            self._range_seconds.observe_many(self._stopwatch() - began, 16)
        else:
            self._answer_record(call, key)

    def _answer_record(self, call: Call, key: bytes) -> None:
        store = self._store
        header = self._header.embed(store.current_revision)
        store.ranges += 1
        record = store.get(key)
        if record is None:
            call.finish(header)
        else:
            call.finish(b"".join((header, b"\x12", varint(len(record)), record, b"\x20\x01")))

    def _answer_range(self, call: Call, request: rpc_pb2.RangeRequest, arrived: float) -> None:
        who = self._callers.check_read(call, request.key, request.range_end)
        self._slices.run(call, self._range_steps(call, request, who, arrived))

    def _range_steps(
        self, call: Call, request: rpc_pb2.RangeRequest, who: Identity, arrived: float
    ) -> Generator[None, None, list[bytes]]:
        began = self._stopwatch()
        result = yield from range_steps(self._store, request.key, request.range_end, txn.range_options(request))
        self._range_seconds.observe(self._stopwatch() - began)
        parts = yield from range_part_steps(result)
        self._callers.check_unchanged(who)
        self._look_at_time(call, "range", request, arrived, result.count, parts)
        return [self._header.embed(result.revision), *parts]

    def _answer_txn(self, call: Call, request: rpc_pb2.TxnRequest, arrived: float) -> None:
        who = self._callers.check_txn(call, request)
        self._slices.run(call, self._txn_steps(call, request, who, arrived))

    def _txn_steps(
        self, call: Call, request: rpc_pb2.TxnRequest, who: Identity, arrived: float
    ) -> Generator[None, None, list[bytes]]:
        revision = self._store.current_revision  # writes may come between the slices
        body = yield from txn.read_only_steps(self._store, request)
        self._callers.check_unchanged(who)
        self._look_at_time(call, "txn", request, arrived)
        return [self._header.embed(revision), body]


class _PhysicalCompaction(Waiting):
    __slots__ = ("compactions",)

    compactions: Compactions

    def answer(self, outcome: Outcome) -> None:
        self.compactions.when_compacted(partial(super().answer, outcome))


def is_read_only(request: rpc_pb2.TxnRequest) -> bool:
    """Whether both branches do nothing but read. One with a nested transaction counts as writing, as on etcd."""
    return all(op.HasField("request_range") for branch in (request.success, request.failure) for op in branch)


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """Whether every read of a read-only transaction may be answered from what this member has."""
    return all(op.request_range.serializable for branch in (request.success, request.failure) for op in branch)


def _stream_chunk(header: bytes, kvs: bytes, *, more: bool, count: int) -> bytes:
    """A RangeStreamResponse: its field 1 is a RangeResponse."""
    parts = [header, kvs]
    if more:
        parts.append(b"\x18\x01")
    if count > 0:
        parts.append(b"\x20" + varint(count))
    return length_delimited(b"\x0a", b"".join(parts))
