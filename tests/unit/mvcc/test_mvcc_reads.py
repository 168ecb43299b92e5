"""How ranges read: in bounded slices, by scan or by point reads, undisturbed by what happens between the slices."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.errors import Compacted
from etcdpy.limits import RANGE_SLICE_KEYS_MAX, READ_SLICE_BYTES_MAX, READ_SLICE_WORK_MAX
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import RangeOptions, RangeResult, range_part_steps
from etcdpy.mvcc.record import key_of
from etcdpy.mvcc.record_cache import RecordCache
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.txn import apply_txn, read_only_steps
from etcdpy.proto.kv_pb2 import KeyValue
from etcdpy.proto.rpc_pb2 import Compare, RangeRequest, RangeResponse, RequestOp, TxnRequest
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about what reaches the backend."""
    for name in ("add", "add_many"):
        monkeypatch.setattr(RecordCache, name, lambda _self, _packed, _record: None)


ALL = (b"\0", b"\0")


class CountingBackend(MemoryBackend):
    """Counts what is read of it, and knows which scans are open."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = self.scans = self.scanned = self.scanned_bytes = self.open_scans = 0

    def get(self, key: bytes) -> bytes | None:
        self.gets += 1
        return super().get(key)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self.scans += 1
        return self._counted(super().scan(start, end, reverse=reverse))

    def _counted(self, pairs: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        self.open_scans += 1
        try:
            for pair in pairs:
                self.scanned += 1
                self.scanned_bytes += len(pair[1])
                yield pair
        finally:
            self.open_scans -= 1


def filled(count: int, *, size: int = 10, shuffled: bool = False) -> tuple[Store, CountingBackend]:
    backend = CountingBackend()
    store = Store.open(backend)
    numbers = list(range(count))
    if shuffled:
        Random(1).shuffle(numbers)
    for number in numbers:
        store.put(b"k%06d" % number, bytes(size))
    backend.gets = backend.scans = backend.scanned = backend.scanned_bytes = 0
    return store, backend


def slices(steps: Generator[None, None, Any]) -> tuple[int, Any]:
    count = 0
    while True:
        count += 1
        try:
            next(steps)
        except StopIteration as stop:
            return count, stop.value


def body_of(result: RangeResult) -> bytes:
    """As protobuf writes it."""
    kvs = [KeyValue.FromString(record) for record in result.records]
    return RangeResponse(kvs=kvs, more=result.more, count=result.count).SerializeToString()


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_dense_range_is_one_scan(shuffled: bool) -> None:
    store, backend = filled(3000, shuffled=shuffled)
    result = store.range(*ALL)
    assert [key_of(record) for record in result.records] == [b"k%06d" % number for number in range(3000)]
    assert (backend.gets, backend.scans, backend.scanned) == (0, 1, 3000)


def test_a_few_records_are_point_reads() -> None:
    store, backend = filled(3000, shuffled=True)
    assert len(store.range(b"k000000", b"k000016").records) == 16
    assert (backend.gets, backend.scans) == (16, 0)


def test_scattered_records_are_point_reads() -> None:
    store, backend = filled(20_000, shuffled=True)
    assert len(store.range(b"k000000", b"k000100").records) == 100
    assert backend.gets == 100
    assert backend.scanned == 0


def test_runs_of_neighbours_are_scans_between_point_reads() -> None:
    store, backend = filled(20_000)
    for number in range(0, 500, 50):
        store.put(b"k%06d" % number, b"moved far away")
    result = store.range(b"k000000", b"k000500")
    assert [key_of(record) for record in result.records] == [b"k%06d" % number for number in range(500)]
    assert backend.gets == 10  # those that moved
    assert backend.scans == 1
    assert backend.scanned < 520


def test_no_slice_reads_more_than_its_share() -> None:
    store, backend = filled(10_000)
    steps = store.range_steps(*ALL)
    read = 0
    for _ in steps:
        assert backend.scanned - read <= READ_SLICE_WORK_MAX + 16  # the first block shows how large records are
        read = backend.scanned
    count, result = slices(store.range_steps(*ALL))
    assert len(result.records) == 10_000
    assert count >= 10_000 / READ_SLICE_WORK_MAX + 10_000 / RANGE_SLICE_KEYS_MAX


def test_what_was_read_is_taken_into_the_cache_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = filled(10_000)
    taken: list[int] = []
    monkeypatch.setattr(RecordCache, "add_many", lambda _self, mods, _records: taken.append(len(list(mods))))
    before = 0
    for _ in store.range_steps(*ALL):
        assert sum(taken) - before <= RANGE_SLICE_KEYS_MAX
        before = sum(taken)
    assert sum(taken) == 10_000


def test_large_values_make_short_slices() -> None:
    store, backend = filled(100, size=100_000)
    read = 0
    for number, _ in enumerate(store.range_steps(*ALL)):
        assert backend.scanned_bytes - read <= (READ_SLICE_BYTES_MAX if number else 16 * 100_100)
        read = backend.scanned_bytes


@pytest.mark.parametrize(
    "options",
    [
        RangeOptions(keys_only=True),
        RangeOptions(sort_target=3, sort_order=2),
        RangeOptions(sort_target=4, sort_order=1, limit=7),
        RangeOptions(sort_target=4, sort_order=2),
        RangeOptions(min_mod_revision=50),
        RangeOptions(sort_order=2),
        RangeOptions(limit=4500),
        RangeOptions(sort_target=2, limit=4900, sort_order=1),
    ],
    ids=str,
)
def test_writes_between_slices_change_nothing(options: RangeOptions) -> None:
    store, _ = filled(5000, shuffled=True)
    expected = store.range(*ALL, options)
    random = Random(2)
    steps = store.range_steps(*ALL, options)
    writes = 0

    def write_between() -> Generator[None, None, Any]:
        nonlocal writes
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return stop.value
            for _ in range(5):
                store.put(b"k%06d" % random.randrange(6000), b"new")
            store.delete_range(b"k%06d" % random.randrange(5000))
            writes += 1
            yield

    assert finish(write_between()) == expected
    assert writes > 1


def test_a_compaction_between_slices_changes_nothing() -> None:
    store, _ = filled(5000)
    expected = store.range(*ALL)
    steps = store.range_steps(*ALL)
    next(steps)
    for number in range(5000):
        store.put(b"k%06d" % number, b"new")
    store.compact(store.current_revision)
    removal = store.compaction_steps()
    assert next(removal) == -1
    with pytest.raises(Compacted):
        next(store.range_steps(*ALL, RangeOptions(revision=expected.revision)))
    assert finish(steps) == expected
    assert sum(removal) == 5000


def test_giving_up_lets_go_of_everything() -> None:
    store, backend = filled(5000)
    steps = store.range_steps(*ALL)
    while not backend.open_scans:
        next(steps)
    assert store.oldest_pin() == store.current_revision
    steps.close()
    assert backend.open_scans == 0
    assert store.oldest_pin() is None


def test_a_page_costs_the_same_wherever_it_is() -> None:
    store, backend = filled(5000)
    page = store.range(b"k002000", b"l", RangeOptions(limit=10))
    assert (len(page.records), page.count, page.more) == (10, 3000, True)
    assert backend.gets == 10
    count, _ = slices(store.range_steps(b"k", b"l", RangeOptions(sort_order=2, limit=3)))
    assert count == 1


def test_counting_reads_nothing() -> None:
    store, backend = filled(5000)
    store.delete_range(b"k000001")
    for options, expected in (
        (RangeOptions(count_only=True), 4999),
        (RangeOptions(count_only=True, revision=5001), 5000),
        (RangeOptions(count_only=True, revision=2001), 2000),
    ):
        count, result = slices(store.range_steps(*ALL, options))
        assert (count, result.count, result.records) == (1, expected, [])
    assert (backend.gets, backend.scans) == (0, 0)
    again = Store.open(backend)  # its journal starts now, so it has to walk
    count, result = slices(again.range_steps(*ALL, RangeOptions(count_only=True, revision=5001)))
    assert (count, result.count) == (3, 5000)


def test_without_count_nothing_is_walked_for_it() -> None:
    _, backend = filled(5000)
    store = Store.open(backend)
    store.put(b"x", b"")
    options = RangeOptions(limit=3, revision=4990, with_count=False)
    count, result = slices(store.range_steps(*ALL, options))
    assert (count, result.count, result.more, len(result.records)) == (1, -1, True, 3)


def test_the_body_in_slices_is_the_body() -> None:
    store, _ = filled(5000)
    result = store.range(*ALL)
    count, parts = slices(range_part_steps(result))
    assert count > 1
    assert b"".join(parts) == body_of(result)


def test_large_records_are_pieces_of_an_answer_without_a_copy() -> None:
    store, _ = filled(60, size=100_000)
    result = store.range(b"\0", b"\0")
    _, parts = slices(range_part_steps(result))
    assert b"".join(parts) == body_of(result)
    pieces = {id(part) for part in parts}
    assert all(id(record) in pieces for record in result.records)


def test_a_read_only_transaction_in_slices_is_one() -> None:
    store, _ = filled(5000)
    ranges = [RangeRequest(key=b"\0", range_end=b"\0"), RangeRequest(key=b"k000001", revision=5000)]
    request = TxnRequest(
        compare=[Compare(key=b"k000001", target=Compare.VERSION, version=1)],
        success=[RequestOp(request_range=request) for request in ranges * 2],
    )
    expected = apply_txn(store, request)
    steps = read_only_steps(store, request)
    next(steps)
    store.put(b"k000001", b"new")
    store.compact(store.current_revision)
    assert finish(steps) == expected
    assert store.oldest_pin() is None
