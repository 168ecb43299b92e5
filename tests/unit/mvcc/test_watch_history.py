"""The history reader on a backend, and the store in memory that the watch tests use, give the same."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.record import key_of
from etcdpy.proto import kv_pb2
from tests.support.memory_backend import MemoryBackend
from tests.support.watch import MemoryHistory

if TYPE_CHECKING:
    from etcdpy.mvcc.watch import Change


def store_changes(backend: MemoryBackend, changes: list[Change]) -> None:
    for packed, _, deleted, record in changes:
        key = b"r" + (packed >> 32).to_bytes(8, "big") + (packed & 0xFFFFFFFF).to_bytes(4, "big")
        backend.put(key + b"t" if deleted else key, record)


def test_same_as_in_memory() -> None:
    random = Random(3)
    memory = MemoryHistory()
    backend = MemoryBackend()
    backend.put(b"s" + bytes(12), b"another bucket")
    for _ in range(300):
        keys = random.sample([b"a", b"b", b"c" * 200], random.randint(1, 3))
        changes = memory.write(*((key, random.choice([b"v", None])) for key in keys))
        store_changes(backend, changes)
    history = BackendHistory(backend, memory)
    last = memory.current_revision
    assert history.current_revision == last
    for first, end in ((0, last), (1, 1), (2, 2), (10, 20), (last, last), (last + 1, last + 5), (5, (1 << 63) - 1)):
        assert list(history.changes_between(first, end)) == list(memory.changes_between(first, end)), (first, end)


def test_record_at_respects_the_compaction() -> None:
    memory = MemoryHistory()
    for value in (b"1", b"2", b"3"):
        memory.write((b"a", value))
    history = BackendHistory(MemoryBackend(), memory)
    assert history.compact_revision == -1
    record = history.record_at(b"a", 2)
    assert record is not None
    assert kv_pb2.KeyValue.FromString(record).value == b"1"
    memory.compact_revision = 3
    assert history.record_at(b"a", 2) is None
    assert history.record_at(b"a", 3) is not None


@pytest.mark.parametrize("size", [1, 127, 128, 300, 16_383, 16_384, 70_000])
def test_key_of_record(size: int) -> None:
    record = kv_pb2.KeyValue(key=b"k" * size, mod_revision=5, value=b"k").SerializeToString()
    assert key_of(record) == b"k" * size
