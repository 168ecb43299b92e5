"""Keys that this proxy owns, each with what stands there: nobody else writes them before the proxy has let go of them.

    own(key)       the cluster has taken this proxy for the owner
    writing        a write through this proxy is under way; whoever reads waits for its answer
    changed(key)   a write's answer says what stands there now
    let_go(key)    owned no more, and for some time not to be owned again: somebody else writes there

Answers to writes may come in another order than the writes were made in, so the one of the newest revision counts.
"""

from __future__ import annotations

import operator
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.client.keys import NO_END
from etcdpy.proto import kv_pb2, rpc_pb2

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

_RESULTS: Final[dict[int, Callable[[Any, Any], bool]]] = {
    rpc_pb2.Compare.EQUAL: operator.eq,
    rpc_pb2.Compare.NOT_EQUAL: operator.ne,
    rpc_pb2.Compare.GREATER: operator.gt,
    rpc_pb2.Compare.LESS: operator.lt,
}
_TARGETS: Final[dict[int, str]] = {
    rpc_pb2.Compare.VERSION: "version",
    rpc_pb2.Compare.CREATE: "create_revision",
    rpc_pb2.Compare.MOD: "mod_revision",
    rpc_pb2.Compare.VALUE: "value",
    rpc_pb2.Compare.LEASE: "lease",
}
"""Where in a compare its operand stands, and in a record what it is compared with."""


class Owned:
    """One key. Its record is None where the key is not there, which can be owned as well."""

    __slots__ = ("_plain", "header", "record", "since", "writing")

    def __init__(self, since: int, answer: rpc_pb2.RangeResponse) -> None:
        """`since`: the revision that made the proxy the owner; `answer`: to a range of the key, no older."""
        self.since = since
        self.header = answer.header
        self.record = answer.kvs[0] if answer.kvs else None
        self.writing: set[asyncio.Future[None]] = set()
        """Done when the answers to the writes under way have come."""
        self._plain = b""

    @property
    def size(self) -> int:
        """Bytes, or nearly so."""
        return len(self.record.key) + len(self.record.value) if self.record is not None else 0

    def take(self, header: rpc_pb2.ResponseHeader, record: kv_pb2.KeyValue | None) -> None:
        """What a write at the header's revision left there."""
        if header.revision > self.header.revision:
            self.header, self.record, self._plain = header, record, b""

    def answer(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """The cluster's answer to a range of this key, as `ranged` shapes it."""
        return ranged(self.header, self.record, request)

    def encoded(self, request: rpc_pb2.RangeRequest) -> bytes:
        """The same, encoded; what most ask for is encoded once."""
        if len(request.ListFields()) > 1:
            return self.answer(request).SerializeToString()
        if not self._plain:
            self._plain = self.answer(request).SerializeToString()
        return self._plain

    def holds(self, compare: rpc_pb2.Compare) -> bool | None:
        """Whether a compare of this key holds; None for a strange one, about which the cluster decides."""
        result, target = _RESULTS.get(compare.result), _TARGETS.get(compare.target)
        if result is None or target is None or compare.WhichOneof("target_union") != target:
            return None
        operand = getattr(compare, str(target))
        if self.record is None:
            return target != "value" and result(0, operand)  # an absent value is not an empty one
        return result(getattr(self.record, str(target)), operand)


def ranged(
    header: rpc_pb2.ResponseHeader, record: kv_pb2.KeyValue | None, request: rpc_pb2.RangeRequest
) -> rpc_pb2.RangeResponse:
    """What a range of one key at the present answers, from what stands there."""
    answer = rpc_pb2.RangeResponse(header=header)
    if record is None:
        return answer
    answer.count = 1
    if not request.count_only and _in_bounds(record, request):
        shown = answer.kvs.add()
        shown.CopyFrom(record)
        if request.keys_only:
            shown.ClearField("value")
    return answer


def _in_bounds(record: kv_pb2.KeyValue, request: rpc_pb2.RangeRequest) -> bool:
    return (
        request.min_mod_revision <= record.mod_revision
        and request.min_create_revision <= record.create_revision
        and record.mod_revision <= (request.max_mod_revision or record.mod_revision)
        and record.create_revision <= (request.max_create_revision or record.create_revision)
    )


class OwnedKeys:
    """Bounded by number and by bytes; those that were longest not read go first, and `drop` is told."""

    def __init__(self, drop: Callable[[bytes, Owned], None]) -> None:
        self._drop = drop
        self._owned: OrderedDict[bytes, Owned] = OrderedDict()
        self._bytes = 0
        self._let_go: OrderedDict[bytes, float] = OrderedDict()
        """When keys were let go of, the latest last."""

    def __len__(self) -> int:
        return len(self._owned)

    def get(self, key: bytes) -> Owned | None:
        """What is owned there."""
        owned = self._owned.get(key)
        if owned is not None:
            self._owned.move_to_end(key)
        return owned

    def within(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, Owned]]:
        """What is owned in a range that has an end."""
        for key, owned in self._owned.items():
            if start <= key and (end == NO_END or key < end):
                yield key, owned

    def may_own(self, key: bytes) -> bool:
        """Whether enough time has passed since it was let go of, so that a writer elsewhere is not held up again."""
        return time.monotonic() - self._let_go.get(key, float("-inf")) > limits.PROXY_LEASING_BACKOFF_SECONDS

    def own(self, key: bytes, owned: Owned) -> None:
        """The proxy owns a key, which it did not."""
        self._owned[key] = owned
        self._bytes += owned.size
        self._shrink()

    def changed(self, key: bytes, owned: Owned, header: rpc_pb2.ResponseHeader, record: kv_pb2.KeyValue | None) -> None:
        """A write at the header's revision left that record, or nothing; nothing to do where it is owned no more."""
        if self._owned.get(key) is not owned:
            return
        before = owned.size
        owned.take(header, record)
        self._bytes += owned.size - before
        if owned.record is not None and owned.record.lease:
            self.let_go(key)  # it may go at any time, whoever owns it
        self._shrink()

    def let_go(self, key: bytes) -> Owned | None:
        """Own it no more, if it is owned; what was owned there."""
        self._let_go[key] = time.monotonic()
        self._let_go.move_to_end(key)
        if len(self._let_go) > limits.PROXY_LEASED_KEYS_MAX:
            self._let_go.popitem(last=False)
        owned = self._owned.pop(key, None)
        if owned is not None:
            self._bytes -= owned.size
            self._drop(key, owned)
        return owned

    def clear(self) -> None:
        """Own nothing."""
        self._owned.clear()
        self._bytes = 0

    def _shrink(self) -> None:
        while len(self._owned) > limits.PROXY_LEASED_KEYS_MAX or self._bytes > limits.PROXY_LEASED_BYTES_MAX:
            self.let_go(next(iter(self._owned)))
