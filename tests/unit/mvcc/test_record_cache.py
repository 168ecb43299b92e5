"""The cache of recent records: what it gives is right, what it holds is bounded."""

from __future__ import annotations

from etcdpy.mvcc.record_cache import OVERHEAD_BYTES, RecordCache
from etcdpy.mvcc.store import Store
from tests.support.memory_backend import MemoryBackend


def test_what_was_added_comes_back_until_two_generations_have_passed() -> None:
    cache = RecordCache(bytes_max=20 * (OVERHEAD_BYTES + 10))
    for packed in range(10):
        cache.add(packed, b"%010d" % packed)
    assert cache.get_many([3, 99, 9]) == [b"%010d" % 3, None, b"%010d" % 9]
    for packed in range(10, 40):
        cache.add(packed, b"%010d" % packed)
        assert len(cache) <= 22
    assert cache.get(3) is None
    assert cache.get(39) == b"%010d" % 39


def test_a_run_is_taken_apart_by_who_reads_of_it() -> None:
    cache = RecordCache(bytes_max=40 * (OVERHEAD_BYTES + 10))
    for first in range(0, 60, 10):
        run = range(first, first + 10)
        cache.add_run(run, [b"%010d" % packed for packed in run], 100)
        assert cache.get(first + 3) == b"%010d" % (first + 3)
        assert cache.get(first + 10) is None
        assert len(cache) <= 60
    assert cache.get(3) is None
    assert cache.get_many([39, 5, 58, 41, 99]) == [b"%010d" % 39, None, b"%010d" % 58, b"%010d" % 41, None]


def test_reads_fill_it_and_compaction_does_not_confuse_it() -> None:
    store = Store(MemoryBackend())
    store.put(b"k", b"1")
    store.put(b"k", b"2")
    store.cache.clear()
    first = store.get(b"k")
    assert first is not None
    assert store.cache.get(3 << 32) == first
    store.compact(3)
    for _ in store.compaction_steps():
        pass
    assert store.get(b"k") == first


def test_a_list_larger_than_the_cache_leaves_it_alone() -> None:
    store = Store(MemoryBackend())
    for number in range(20):
        store.put(b"%03d" % number, bytes(1 << 20))
    store.put(b"hot", b"v")
    store.cache.clear()
    store.get(b"hot")
    assert len(store.range(b"0", b"1").records) == 20
    assert store.cache.get(store.index.mod(b"hot")) is not None
    assert len(store.cache) == 1
