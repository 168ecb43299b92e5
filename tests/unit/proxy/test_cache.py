"""What the proxy's cache keeps, and what makes it forget."""

from __future__ import annotations

from typing import Any

import pytest

from etcdpy import limits
from etcdpy.errors import Compacted
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.cache import RangeCache

NOBODY: tuple[tuple[str, str], ...] = ()


def ask(key: bytes = b"k", end: bytes = b"", **fields: Any) -> rpc_pb2.RangeRequest:
    return rpc_pb2.RangeRequest(key=key, range_end=end, serializable=True, **fields)


def filled(*requests: rpc_pb2.RangeRequest) -> RangeCache:
    cache = RangeCache()
    for request in requests:
        cache.add(request, NOBODY, b"answer", cache.writes)
    return cache


def test_a_linearizable_answer_serves_a_serializable_request() -> None:
    linearizable = ask()
    linearizable.serializable = False
    cache = filled(linearizable)
    assert not linearizable.serializable
    assert cache.get(ask(), NOBODY) == b"answer"
    assert cache.get(ask(limit=1), NOBODY) is None
    assert (cache.hits, cache.misses, len(cache)) == (1, 1, 1)


def test_nobody_gets_the_answer_to_another() -> None:
    assert filled(ask()).get(ask(), (("token", "other"),)) is None


@pytest.mark.parametrize(
    ("written", "forgotten"),
    [
        ((b"k", b""), {b"k", b"j-l", b"k-", b"all"}),
        ((b"j", b""), {b"j-l", b"all"}),
        ((b"l", b""), {b"k-", b"all"}),
        ((b"j", b"k"), {b"j-l", b"all"}),
        ((b"k", b"\0"), {b"k", b"j-l", b"k-", b"all"}),
        ((b"z", b"zz"), {b"k-", b"all"}),
        ((b"a", b"b"), {b"all"}),
    ],
)
def test_a_write_makes_it_forget_what_overlaps(written: tuple[bytes, bytes], forgotten: set[bytes]) -> None:
    requests = {b"k": ask(), b"j-l": ask(b"j", b"l"), b"k-": ask(b"k", b"\0"), b"all": ask(b"\0", b"\0")}
    cache = filled(*requests.values())
    cache.invalidate(*written)
    assert {name for name, request in requests.items() if cache.get(request, NOBODY) is None} == forgotten


def test_the_past_stays_until_it_is_compacted() -> None:
    cache = filled(ask(revision=5))
    cache.invalidate(b"k")
    assert cache.get(ask(revision=5), NOBODY) == b"answer"
    cache.compact(7)
    with pytest.raises(Compacted):
        cache.get(ask(revision=5), NOBODY)
    cache.add(ask(revision=6), NOBODY, b"answer", cache.writes)
    assert len(cache) == 0


def test_an_answer_that_a_write_overtook_is_not_kept() -> None:
    cache = RangeCache()
    writes = cache.writes
    cache.invalidate(b"a")
    cache.invalidate(b"k")
    cache.add(ask(), NOBODY, b"old", writes)
    cache.add(ask(b"b"), NOBODY, b"still true", writes)
    assert cache.get(ask(), NOBODY) is None
    assert cache.get(ask(b"b"), NOBODY) == b"still true"
    for _ in range(limits.PROXY_CACHE_WRITES_KEPT + 1):
        cache.invalidate(b"z")
    cache.add(ask(b"c"), NOBODY, b"nobody knows", writes)
    assert cache.get(ask(b"c"), NOBODY) is None


def test_it_is_bounded_by_number_and_by_bytes() -> None:
    keys = [b"%d" % number for number in range(limits.PROXY_CACHE_ANSWERS_MAX)]
    cache = filled(*map(ask, keys))
    assert cache.get(ask(keys[0]), NOBODY) is not None  # which keeps it
    cache.add(ask(b"one more"), NOBODY, b"", cache.writes)
    assert len(cache) == limits.PROXY_CACHE_ANSWERS_MAX
    assert cache.get(ask(keys[1]), NOBODY) is None
    assert cache.get(ask(keys[0]), NOBODY) is not None
    large = bytes(limits.PROXY_CACHE_ANSWER_BYTES_MAX)
    for number in range(limits.PROXY_CACHE_BYTES_MAX // len(large) + 3):
        cache.add(ask(b"large%d" % number), NOBODY, large, cache.writes)
    assert len(cache) <= limits.PROXY_CACHE_BYTES_MAX // len(large)
    cache.add(ask(b"too large"), NOBODY, large + b"x", cache.writes)
    assert cache.get(ask(b"too large"), NOBODY) is None
