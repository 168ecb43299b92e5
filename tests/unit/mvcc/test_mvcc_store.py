"""The store's smaller promises: what listeners are told, leases, damage, progress, sizes, kept hashes, odd compares."""

from __future__ import annotations

from unittest import mock

import pytest

from etcdpy.errors import Compacted, FutureRevision, LeaseNotFound
from etcdpy.limits import COMPACTION_HASHES_MAX, RESTORE_SLICE_RECORDS
from etcdpy.mvcc.compaction import SCHEDULED_COMPACTION
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.record import key_of, tombstone_record, value_of
from etcdpy.mvcc.record_cache import RecordCache
from etcdpy.mvcc.revision import disk_key, pack
from etcdpy.mvcc.store import NoLeases, Store
from etcdpy.mvcc.txn import apply_put, apply_txn, compare_holds
from etcdpy.proto.kv_pb2 import KeyValue
from etcdpy.proto.rpc_pb2 import Compare, PutRequest, RangeRequest, RequestOp, TxnRequest
from tests.support.memory_backend import MemoryBackend


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about what reaches the backend."""
    monkeypatch.setattr(RecordCache, "add", lambda _self, _packed, _record: None)


@pytest.fixture
def store() -> Store:
    return Store.open(MemoryBackend())


def compact(store: Store, revision: int) -> None:
    store.compact(revision)
    for _ in store.compaction_steps():
        pass


def test_nobody_listens_until_someone_sets_a_list(store: Store) -> None:
    store.put(b"a", b"1")
    assert store.changes is None
    store.changes = []
    store.put(b"a", b"2")
    writer = store.begin()
    writer.put(b"b", b"3")
    writer.delete_range(b"a", b"z")
    assert store.changes == [
        (pack(3), b"a", False, store.record(pack(3))),
        (pack(4), b"b", False, store.record(pack(4))),
        (pack(4, 1), b"a", True, tombstone_record(b"a")),
        (pack(4, 2), b"b", True, tombstone_record(b"b")),
    ]
    assert KeyValue.FromString(store.changes[0][3]).version == 2


def test_put_tells_what_it_replaces(store: Store) -> None:
    assert store.put(b"a", b"") == 0
    assert store.put(b"a", b"") == pack(2)
    assert store.delete_range(b"a") == [pack(3)]
    assert store.put(b"a", b"") == 0
    assert store.delete_range(b"z") == []
    assert store.current_revision == 5


def test_record_at_is_the_record_before(store: Store) -> None:
    store.put(b"a", b"1")
    store.put(b"b", b"")
    store.put(b"a", b"2")
    before = store.record_at(b"a", 3)
    assert before is not None
    assert value_of(before) == b"1"
    assert store.record_at(b"a", 1) is None
    compact(store, 4)
    assert store.record_at(b"a", 3) is None


class Book(NoLeases):
    def __init__(self) -> None:
        self.log: list[tuple[str, int, bytes]] = []

    def exists(self, lease: int) -> bool:
        return lease == 7

    def attach(self, lease: int, key: bytes) -> None:
        self.log.append(("attach", lease, key))

    def detach(self, lease: int, key: bytes) -> None:
        self.log.append(("detach", lease, key))


def test_leases_hear_of_changes_only() -> None:
    book = Book()
    store = Store(MemoryBackend(), book)
    apply_put(store, PutRequest(key=b"a", lease=7))
    apply_put(store, PutRequest(key=b"a", lease=7))
    store.put(b"b", b"", 9)
    store.put(b"a", b"", 9)
    assert store.lease_of(b"a") == 9
    store.put(b"a", b"")
    store.delete_range(b"\0", b"\0")
    assert book.log == [
        ("attach", 7, b"a"),
        ("attach", 9, b"b"),
        ("detach", 7, b"a"),
        ("attach", 9, b"a"),
        ("detach", 9, b"a"),
        ("detach", 9, b"b"),
    ]
    assert list(store.leased_keys()) == []
    with pytest.raises(LeaseNotFound):
        apply_put(store, PutRequest(key=b"a", lease=8))


def test_the_empty_record_of_a_bumped_revision(store: Store) -> None:
    """`etcdutl snapshot restore --bump-revision` leaves one; etcd keeps it, under the empty key, which nobody can ask
    for. The digest is what real etcd says: tests/interop/test_interchange.py."""
    store.put(b"a", b"1")
    store.backend.put(disk_key(pack(1000)), b"")
    store.backend.put(SCHEDULED_COMPACTION, (1000).to_bytes(8, "big"))
    again = Store.open(store.backend)
    assert (again.current_revision, again.compact_revision) == (1000, 1000)
    finish(again.compaction_steps())
    again.put(b"b", b"2")
    assert [key_of(record) for record in again.range(b"\0", b"\0").records] == [b"a", b"b"]
    assert finish(again.hash_kv_steps()).revision == 1001
    changes = BackendHistory(again.backend, again).changes_between(0, 1001)
    assert [(packed, key) for packed, key, _, _ in changes] == [(pack(2), b"a"), (pack(1001), b"b")]


def test_restore_reports_progress() -> None:
    backend = MemoryBackend()
    store = Store.open(backend)
    for number in range(2 * RESTORE_SLICE_RECORDS + 5):
        store.put(b"%d" % number, b"")
    again = Store(backend)
    first, second = again.restore_steps()
    assert RESTORE_SLICE_RECORDS <= first < RESTORE_SLICE_RECORDS + 250
    assert second <= 2 * RESTORE_SLICE_RECORDS + 5
    assert list(again.index.live) == list(store.index.live)


def test_the_revision_survives_a_compaction_that_leaves_nothing() -> None:
    """etcd issue 17780: restarting must not bring the revision back."""
    backend = MemoryBackend()
    store = Store.open(backend)
    store.put(b"a", b"")
    store.delete_range(b"a")
    store.put(b"b", b"")
    store.delete_range(b"b")
    compact(store, 5)
    for key, _ in list(backend.scan(b"r", b"s")):  # as an etcd up to 3.5.15 would have left it
        backend.delete(key)
    assert Store.open(backend).current_revision == 5


def test_a_record_that_is_missing_is_named(store: Store) -> None:
    for number in range(40):
        store.put(b"%d" % number, b"")
    store.backend.delete(disk_key(pack(9)))
    with pytest.raises(AssertionError, match="revision 9 of the index is not on disk"):
        store.get(b"7")
    with pytest.raises(AssertionError, match="1 records of the index are not on disk"):
        store.range(b"\0", b"\0")


def test_revisions_are_checked(store: Store) -> None:
    for number in range(5):
        store.put(b"%d" % number, b"")
    compact(store, 4)
    assert [store.read_revision(revision) for revision in (-3, 0, 4, 6)] == [6, 6, 4, 6]
    with pytest.raises(Compacted):
        store.read_revision(3)
    with pytest.raises(FutureRevision):
        store.read_revision(7)
    for revision, error in ((3, Compacted), (4, Compacted), (7, FutureRevision)):
        with pytest.raises(error):
            store.compact(revision)
        with pytest.raises(error) if revision != 4 else mock.MagicMock():
            finish(store.hash_kv_steps(revision))


def test_only_the_last_compactions_keep_their_hash(store: Store) -> None:
    for number in range(COMPACTION_HASHES_MAX + 3):
        store.put(b"a", b"%d" % number)
        compact(store, store.current_revision)
    kept = store.hashes.all()
    assert [hash_kv.revision for hash_kv in kept] == list(range(5, 5 + COMPACTION_HASHES_MAX))
    assert finish(store.hash_kv_steps(5)) == kept[0]
    with pytest.raises(Compacted):
        finish(store.hash_kv_steps(4))


def test_compactions_queue_and_an_overtaken_one_keeps_no_hash(store: Store) -> None:
    for number in range(30):
        store.put(b"%d" % (number % 3), b"")
    store.compact(10)
    store.compact(20)
    assert sum(store.compaction_steps(4)) == 16
    assert [hash_kv.revision for hash_kv in store.hashes.all()] == [10]
    assert not store.compactions.pending
    assert store.record_count == 14


def test_a_compaction_walk_that_is_given_up_is_done_by_the_next(store: Store) -> None:
    for number in range(30):
        store.put(b"%d" % (number % 3), b"")
    store.compact(31)
    removed = 0
    for stop_after in range(1, 12):
        steps = store.compaction_steps(2)
        for _ in range(stop_after):
            removed += next(steps, 0)
        steps.close()
    assert removed == 27
    assert not store.compactions.pending
    assert store.record_count == 3
    assert store.hashes.all() == []


def test_the_whole_hash_ignores_what_members_do_not_share(store: Store) -> None:
    store.put(b"a", b"")
    before = finish(store.hash_steps())
    store.defragment()
    assert finish(store.hash_steps()) == before
    store.backend.put(b"l12345678", b"a lease")
    assert finish(store.hash_steps()) != before


def test_compares_of_unknown_kinds_do_as_etcds_do(store: Store) -> None:
    store.put(b"a", b"")
    assert compare_holds(store, Compare(key=b"a", result=9), store.current_revision)  # type: ignore[arg-type]
    assert compare_holds(store, Compare(key=b"a", target=9, result=Compare.EQUAL), store.current_revision)  # type: ignore[arg-type]
    assert not compare_holds(store, Compare(key=b"a", target=9, result=Compare.LESS), store.current_revision)  # type: ignore[arg-type]


def test_a_negative_revision_counts_as_compacted_inside_a_transaction_only(store: Store) -> None:
    store.put(b"a", b"")
    ask = TxnRequest(success=[RequestOp(request_range=RangeRequest(key=b"a", revision=-1))])
    apply_txn(store, ask)
    ask.success[0].request_range.revision = -2
    with pytest.raises(Compacted):
        apply_txn(store, ask)
    assert store.read_revision(-2) == 2
