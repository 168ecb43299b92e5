"""A part of the keyspace that looks like a keyspace of its own: its keys begin with a prefix which nobody sees.

Requests are copied, and their keys get the prefix; answers are ours alone, and lose it in place. Ranges without an end
go on to the end of the namespace (as in clientv3's namespace package, whose data these calls share).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from etcdpy.client.keys import NO_END, prefix_end
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    Ranged = rpc_pb2.RangeRequest | rpc_pb2.DeleteRangeRequest | rpc_pb2.Compare

Anything = TypeVar("Anything", bound="Message")


class Namespace:
    """A prefix, and the requests and answers that know of keys."""

    __slots__ = ("_in", "_out", "prefix")

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self._in: dict[type[Message], Callable[[Any], None]] = {
            rpc_pb2.RangeRequest: self._range_in,
            rpc_pb2.PutRequest: self._put_in,
            rpc_pb2.DeleteRangeRequest: self._range_in,
            rpc_pb2.TxnRequest: self._txn_in,
            rpc_pb2.WatchCreateRequest: self._watch_in,
        }
        self._out: dict[type[Message], Callable[[Any], None]] = {
            rpc_pb2.RangeResponse: self._range_out,
            rpc_pb2.RangeStreamResponse: lambda answer: self._range_out(answer.range_response),
            rpc_pb2.PutResponse: lambda answer: self._keys_out([answer.prev_kv]),
            rpc_pb2.DeleteRangeResponse: lambda answer: self._keys_out(answer.prev_kvs),
            rpc_pb2.TxnResponse: self._txn_out,
            rpc_pb2.WatchResponse: self._watch_out,
            rpc_pb2.LeaseTimeToLiveResponse: self._lease_out,
        }

    def into(self, request: Anything) -> Anything:
        """The request as the cluster sees it."""
        change = self._in.get(type(request))
        if change is None:
            return request
        copied = type(request)()
        copied.CopyFrom(request)
        change(copied)
        return copied

    def out_of(self, answer: Anything) -> Anything:
        """The answer as it looks from inside."""
        change = self._out.get(type(answer))
        if change is not None:
            change(answer)
        return answer

    def interval(self, key: bytes, range_end: bytes) -> tuple[bytes, bytes]:
        """Key and range_end as the cluster sees them."""
        if range_end == NO_END:
            return self.prefix + key, prefix_end(self.prefix)
        return self.prefix + key, self.prefix + range_end if range_end else b""

    def _range_in(self, request: Ranged) -> None:
        # An empty key stays one: etcd refuses it, and so it must not become the prefix.
        if request.key:
            request.key, request.range_end = self.interval(request.key, request.range_end)

    def _watch_in(self, request: rpc_pb2.WatchCreateRequest) -> None:
        # etcd takes the empty key of a watcher for the smallest one.
        request.key, request.range_end = self.interval(request.key or NO_END, request.range_end)

    def _put_in(self, request: rpc_pb2.PutRequest) -> None:
        if request.key:
            request.key = self.prefix + request.key

    def _txn_in(self, request: rpc_pb2.TxnRequest) -> None:
        for compare in request.compare:
            self._range_in(compare)
        for part in (*request.success, *request.failure):
            kind = part.WhichOneof("request")
            if kind is not None:
                inner = getattr(part, kind)
                self._in[type(inner)](inner)

    def _range_out(self, answer: rpc_pb2.RangeResponse) -> None:
        self._keys_out(answer.kvs)

    def _keys_out(self, records: Iterable[kv_pb2.KeyValue]) -> None:
        length = len(self.prefix)
        for record in records:
            # An absent prev_kv reads as an empty record, and must not be made one that is there.
            if record.key:
                record.key = record.key[length:]

    def _txn_out(self, answer: rpc_pb2.TxnResponse) -> None:
        for part in answer.responses:
            kind = part.WhichOneof("response")
            if kind is not None:
                self.out_of(getattr(part, kind))

    def _watch_out(self, answer: rpc_pb2.WatchResponse) -> None:
        for event in answer.events:
            self._keys_out((event.kv, event.prev_kv))

    def _lease_out(self, answer: rpc_pb2.LeaseTimeToLiveResponse) -> None:
        keys = [key.removeprefix(self.prefix) for key in answer.keys if key.startswith(self.prefix)]
        del answer.keys[:]
        answer.keys.extend(keys)
