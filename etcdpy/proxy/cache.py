"""Answers to ranges, for serializable ranges that ask the same again.

As on etcd's proxy an answer stays until a write through this proxy touches its keys, whatever is written elsewhere:
who asks for a serializable read takes an old answer. Answers are kept apart by caller, so that nobody sees what only
another may read, and one that was under way while its keys were written is not kept.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.errors import Compacted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.proto import rpc_pb2
    from etcdpy.proxy.upstream import Caller

    Key = tuple[Caller, bytes]
    Interval = tuple[bytes, bytes]

_NO_END = b"\0"


def _overlap(one: Interval, other: Interval) -> bool:
    """Whether two ranges as etcd writes them have keys in common; an empty end is one key, `\\0` all from the start."""
    return _begins_before_end(one[0], other) and _begins_before_end(other[0], one)


def _begins_before_end(key: bytes, interval: Interval) -> bool:
    start, end = interval
    if end == _NO_END:
        return True
    return key < end if end else key <= start


class RangeCache:
    """Bounded by number and by bytes; the longest unused goes first."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, tuple[bytes, Interval, int]] = OrderedDict()
        self._bytes = 0
        self._intervals: dict[Interval, set[Key]] = {}
        """Of answers about the present, which writes make wrong."""
        self._ranges: set[Interval] = set()
        """Those of the intervals that are more than one key."""
        self._writes: deque[Interval] = deque(maxlen=limits.PROXY_CACHE_WRITES_KEPT)
        self.writes = 0
        """How often something was invalidated; `add` wants to know it from before the range was asked for."""
        self._compacted = -1
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, request: rpc_pb2.RangeRequest, caller: Caller) -> bytes | None:
        """The answer to a serializable request, if there is one. Raises Compacted."""
        key = (caller, request.SerializeToString(deterministic=True))
        if 0 < request.revision < self._compacted:
            self._drop(key)
            self.hits += 1
            raise Compacted
        found = self._answers.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._answers.move_to_end(key)
        return found[0]

    def add(self, request: rpc_pb2.RangeRequest, caller: Caller, answer: bytes, writes: int) -> None:
        """Keep an answer, also to a linearizable request. `writes`: what `self.writes` was when it was asked for."""
        interval = (request.key, request.range_end)
        if len(answer) > limits.PROXY_CACHE_ANSWER_BYTES_MAX or 0 < request.revision <= self._compacted:
            return
        if not request.revision and self._written_since(writes, interval):
            return
        serializable = request.serializable
        request.serializable = True
        key = (caller, request.SerializeToString(deterministic=True))
        request.serializable = serializable
        self._drop(key)
        self._answers[key] = (answer, interval, request.revision)
        self._bytes += len(answer)
        if not request.revision:
            self._intervals.setdefault(interval, set()).add(key)
            if interval[1]:
                self._ranges.add(interval)
        while len(self._answers) > limits.PROXY_CACHE_ANSWERS_MAX or self._bytes > limits.PROXY_CACHE_BYTES_MAX:
            self._drop(next(iter(self._answers)))

    def invalidate(self, key: bytes, range_end: bytes = b"") -> None:
        """Something is written there: forget what overlaps."""
        written = (key, range_end)
        self.writes += 1
        self._writes.append(written)
        for interval in list(self._touched(written)):
            for each in list(self._intervals[interval]):
                self._drop(each)

    def compact(self, revision: int) -> None:
        """What is older than that is gone."""
        self._compacted = max(self._compacted, revision)

    def _touched(self, written: Interval) -> Iterator[Interval]:
        if written[1]:
            yield from (interval for interval in self._intervals if _overlap(interval, written))
            return
        if written in self._intervals:
            yield written
        yield from (interval for interval in self._ranges if _overlap(interval, written))

    def _written_since(self, writes: int, interval: Interval) -> bool:
        since = self.writes - writes
        if since > len(self._writes):
            return True
        return any(_overlap(self._writes[-number], interval) for number in range(1, since + 1))

    def _drop(self, key: Key) -> None:
        found = self._answers.pop(key, None)
        if found is None:
            return
        answer, interval, revision = found
        self._bytes -= len(answer)
        if not revision:
            keys = self._intervals[interval]
            keys.discard(key)
            if not keys:
                del self._intervals[interval]
                self._ranges.discard(interval)
