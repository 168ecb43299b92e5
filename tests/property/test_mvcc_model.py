"""The store against full snapshots per revision: any writes, reads, compactions and restarts agree with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from etcdpy.backend import REVISION_BUCKET
from etcdpy.errors import EtcdError
from etcdpy.mvcc import fetch, read
from etcdpy.mvcc.compaction import WAITS
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.hashing import HashKv
from etcdpy.mvcc.index import KeyHistory
from etcdpy.mvcc.read import RangeResult, range_part_steps
from etcdpy.mvcc.revision import BUCKET_END, disk_key, pack
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.txn import (
    apply_delete_range,
    apply_put,
    apply_txn,
    delete_range_in_slices,
    range_options,
    read_only_steps,
    txn_in_slices,
)
from etcdpy.proto.rpc_pb2 import (
    Compare,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    RequestOp,
    TxnRequest,
    TxnResponse,
)
from tests.support.memory_backend import MemoryBackend
from tests.support.mvcc_model import Model

if TYPE_CHECKING:
    from collections.abc import Generator

LEASES = frozenset({7, 8})
keys = st.sampled_from([b"a", b"aa", b"b", b"c", b"d", b"dd", b"e", b"\xff"])
ends = st.sampled_from([b"", b"", b"\0", b"a", b"b", b"c", b"e", b"zz", b"\xff\xff"])
values = st.sampled_from([b"", b"v", b"w", b"longer value"])
small = st.integers(0, 25)

put_requests = st.builds(
    PutRequest, key=keys, value=values, lease=st.sampled_from([0, 0, 0, 7, 8, 9]), prev_kv=st.booleans()
) | st.builds(PutRequest, key=keys, ignore_value=st.booleans(), ignore_lease=st.booleans())
delete_requests = st.builds(DeleteRangeRequest, key=keys, range_end=ends, prev_kv=st.booleans())
range_requests = st.builds(
    RangeRequest,
    key=keys | st.just(b"\0"),
    range_end=ends,
    limit=st.sampled_from([0, 0, 1, 2, 3, 100, -1]),
    revision=small | st.just(0),
    sort_order=st.integers(0, 2),
    sort_target=st.integers(0, 4),
    keys_only=st.booleans(),
    count_only=st.sampled_from([False, False, False, True]),
    min_mod_revision=st.just(0) | small,
    max_mod_revision=st.just(0) | small,
    min_create_revision=st.just(0) | small,
    max_create_revision=st.just(0) | small,
) | st.builds(RangeRequest, key=keys, range_end=ends, revision=small | st.just(0), limit=st.integers(0, 4))


@st.composite
def compares(draw: st.DrawFn) -> Compare:
    compare = Compare(
        key=draw(keys),
        range_end=draw(ends),
        target=draw(st.sampled_from(Compare.CompareTarget.values())),
        result=draw(st.sampled_from(Compare.CompareResult.values())),
    )
    operands: list[Any] = [draw(small), draw(small), draw(small), draw(values), draw(st.sampled_from([0, 7, 8]))]
    # The member of the oneof that the target means, or another.
    operand = compare.target if draw(st.booleans()) else draw(st.integers(0, 4))
    setattr(compare, ["version", "create_revision", "mod_revision", "value", "lease"][operand], operands[operand])
    return compare


def operations(nested: st.SearchStrategy[TxnRequest] | None) -> st.SearchStrategy[list[RequestOp]]:
    # etcd's rule against a key that is deleted and put is checked before requests get here; so puts and deletions
    # keep to keys of their own.
    puts = put_requests.filter(lambda request: request.key < b"d")
    deletes = delete_requests.filter(lambda request: request.key >= b"d" and request.range_end in (b"", b"e", b"zz"))
    choices = [
        st.builds(RequestOp, request_put=puts),
        st.builds(RequestOp, request_delete_range=deletes),
        st.builds(RequestOp, request_range=range_requests),
    ]
    if nested is not None:
        choices.append(st.builds(RequestOp, request_txn=nested))
    return st.lists(st.one_of(choices), max_size=3)


def transactions(nested: st.SearchStrategy[TxnRequest] | None) -> st.SearchStrategy[TxnRequest]:
    return st.builds(
        TxnRequest,
        compare=st.lists(compares(), max_size=2),
        success=operations(nested),
        failure=operations(nested),
    )


read_only_transactions = st.builds(
    TxnRequest,
    compare=st.lists(compares(), max_size=2),
    success=st.lists(st.builds(RequestOp, request_range=range_requests), max_size=2),
    failure=st.lists(st.builds(RequestOp, request_range=range_requests), max_size=2),
)


class LeaseBook:
    """Remembers what hangs where, as the lease room does."""

    def __init__(self) -> None:
        self.attached: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(LEASES)

    def exists(self, lease: int) -> bool:
        return lease in LEASES

    def attach(self, lease: int, key: bytes) -> None:
        assert key not in self.attached
        self.attached[key] = lease

    def detach(self, lease: int, key: bytes) -> None:
        assert self.attached.pop(key) == lease


def outcome(call: Any, *arguments: Any) -> Any:
    """The call's result, or the class of its error."""
    try:
        return call(*arguments)
    except EtcdError as error:
        return type(error)


class MvccMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.model = Model(LEASES)
        self.backend = MemoryBackend()
        self.leases = LeaseBook()
        self.store = Store.open(self.backend, self.leases)
        self.compaction: Generator[int, None, None] | None = None
        self.walks: list[tuple[Generator[None, None, RangeResult], RangeResponse]] = []
        self.compaction_hashes: dict[int, HashKv] = {}
        self.expected_hash: HashKv | None = None
        self.store.slice_keys = 1

    # --- writes ---

    def same_answer(self, seen: Any, expected: Any, kind: Any) -> None:
        if isinstance(expected, type):
            assert seen is expected
        else:
            assert isinstance(seen, bytes), seen
            assert kind.FromString(seen) == expected
            assert self.store.current_revision == self.model.revision

    @rule(request=put_requests)
    def put(self, request: PutRequest) -> None:
        self.same_answer(outcome(apply_put, self.store, request), outcome(self.model.put, request), PutResponse)

    @rule(request=delete_requests)
    def delete(self, request: DeleteRangeRequest) -> None:
        expected = self.model.delete_range(request)
        self.same_answer(apply_delete_range(self.store, request), expected, DeleteRangeResponse)

    @rule(request=transactions(transactions(None)))
    def txn(self, request: TxnRequest) -> None:
        self.same_answer(outcome(apply_txn, self.store, request), outcome(self.model.txn, request), TxnResponse)

    # --- writes in slices: until the last, everybody sees the revision before ---

    @rule(request=delete_requests.filter(lambda request: bool(request.range_end)), data=st.data())
    def delete_in_slices(self, request: DeleteRangeRequest, data: st.DataObject) -> None:
        steps = delete_range_in_slices(self.store, request)
        seen = self.step_write(steps, data)
        self.same_answer(seen, self.model.delete_range(request), DeleteRangeResponse)

    @rule(request=transactions(transactions(None)), data=st.data())
    def txn_in_slices(self, request: TxnRequest, data: st.DataObject) -> None:
        seen = outcome(self.step_write, txn_in_slices(self.store, request), data)
        self.same_answer(seen, outcome(self.model.txn, request), TxnResponse)

    def step_write(self, steps: Generator[None, None, list[bytes]], data: st.DataObject) -> bytes:
        while True:
            try:
                next(steps)
            except StopIteration as stop:
                return b"".join(stop.value)
            assert self.store.current_revision == self.model.revision
            self.look(data)

    def look(self, data: st.DataObject) -> None:
        what = data.draw(st.integers(0, 6))
        if what == 0:
            self.open_walk(data.draw(range_requests))
        elif what == 1 and self.walks:
            self.step_walk(*self.walks.pop())
        elif what == 2:
            request = data.draw(read_only_transactions)
            seen = outcome(finish, read_only_steps(self.store, request))
            self.same_answer(seen, outcome(self.model.txn, request), TxnResponse)
        elif what == 3:
            self.hash_kv(0)
        elif what == 4 and self.compaction is not None:
            self.step_compaction(1)
        elif what == 5:
            key = data.draw(keys)
            kv = self.model.snapshots[-1].get(key)
            assert self.store.get(key) == (kv.SerializeToString() if kv else None)
        else:
            self.look_at_range(data.draw(range_requests))

    # --- reads ---

    @rule(request=range_requests)
    def range(self, request: RangeRequest) -> None:
        self.look_at_range(request)

    def look_at_range(self, request: RangeRequest) -> None:
        expected = outcome(self.model.range, request)
        seen = outcome(self.store.range, request.key, request.range_end, range_options(request))
        self.same_range(seen, expected)

    def same_range(self, seen: Any, expected: Any) -> None:
        if isinstance(expected, type):
            assert seen is expected
            return
        assert seen.revision == expected.header.revision
        answer = RangeResponse.FromString(b"".join(finish(range_part_steps(seen))))
        expected.ClearField("header")
        assert answer == expected

    @rule(request=range_requests)
    def begin_walk(self, request: RangeRequest) -> None:
        self.open_walk(request)

    def open_walk(self, request: RangeRequest) -> None:
        expected = outcome(self.model.range, request)
        steps = self.store.range_steps(request.key, request.range_end, range_options(request))
        if isinstance(expected, type):
            assert outcome(finish, steps) is expected
        else:
            self.step_walk(steps, expected)

    def step_walk(self, steps: Generator[None, None, RangeResult], expected: RangeResponse) -> None:
        try:
            next(steps)
        except StopIteration as stop:
            self.same_range(stop.value, expected)
        else:
            self.walks.append((steps, expected))

    @precondition(lambda self: self.walks)
    @rule(data=st.data())
    def continue_walk(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.walks) - 1))
        self.step_walk(*self.walks.pop(position))

    @precondition(lambda self: self.walks)
    @rule()
    def give_up_walk(self) -> None:
        self.walks.pop()[0].close()

    @rule(key=keys, revision=small)
    def record_at(self, key: bytes, revision: int) -> None:
        if max(self.model.compacted, 0) <= revision <= self.model.revision:
            kv = self.model.snapshots[revision].get(key)
            assert self.store.record_at(key, revision) == (kv.SerializeToString() if kv else None)

    @rule(revision=small)
    def hash_at(self, revision: int) -> None:
        self.hash_kv(revision)

    def hash_kv(self, revision: int) -> None:
        seen = outcome(finish, self.store.hash_kv_steps(revision))
        cached = self.compaction_hashes.get(revision)
        if cached is not None:
            assert seen == cached
            return
        expected = outcome(self.model.read_revision, revision)
        if isinstance(expected, type):
            assert seen is expected
        elif self.compaction is None:  # a hash over an empty filter shows how far the compaction is, in etcd too
            assert seen == HashKv(self.model.hash(expected, self.model.compacted), self.model.compacted, expected)

    # --- compaction and restart ---

    @rule(revision=small)
    def compact(self, revision: int) -> None:
        previous = self.model.compacted
        expected = outcome(self.model.compact, revision)
        assert outcome(self.store.compact, revision) == expected
        if expected is None and self.compaction is None:
            self.compaction = self.store.compaction_steps(2)
            self.expected_hash = HashKv(self.model.hash(revision, previous), previous, revision)

    @precondition(lambda self: self.compaction is not None)
    @rule(count=st.integers(1, 4))
    def continue_compaction(self, count: int) -> None:
        self.step_compaction(count)

    def step_compaction(self, count: int) -> None:
        assert self.compaction is not None
        for _ in range(count):
            try:
                waits = next(self.compaction) == WAITS
            except StopIteration:
                self.compaction = None
                self.compacted()
                return
            assert not waits or self.walks, "waits for a reader, but there is none"

    def compacted(self) -> None:
        assert not self.store.compactions.pending
        assert not self.store.compactions.garbage
        # Of a write that is under way some records may be there already; readers see none of them.
        whole = disk_key(pack(self.model.revision + 1))
        on_disk = [record for _, record in self.backend.scan(REVISION_BUCKET, whole)]
        assert on_disk == [written.record for written in self.model.kept(self.model.compacted)]
        seen = self.store.hashes.all()
        if self.expected_hash is not None:
            assert self.expected_hash in seen
            self.compaction_hashes = {kept.revision: kept for kept in seen}
        else:
            assert all(kept.revision < self.model.compacted for kept in seen), "taken with records missing"
        for revision in range(max(self.model.compacted, 1), self.model.revision + 1):
            self.hash_kv(revision)

    @rule()
    def restart(self) -> None:
        for steps, _ in self.walks:
            steps.close()
        self.walks.clear()
        self.backend = self.backend.copy()
        self.leases = LeaseBook()
        was_pending = self.store.compactions.pending
        size_total = self.store.size_total
        self.store = Store.open(self.backend, self.leases)
        self.store.slice_keys = 1
        for key, lease in self.store.leased_keys():
            self.leases.attach(lease, key)
        self.compaction_hashes.clear()
        self.expected_hash = None
        assert self.store.compactions.pending == was_pending
        assert self.store.size_total == size_total
        self.compaction = self.store.compaction_steps(1) if was_pending else None

    # --- always ---

    @invariant()
    def agrees(self) -> None:
        store, now = self.store, self.model.snapshots[-1]
        assert store.current_revision == self.model.revision
        assert store.compact_revision == self.model.compacted
        assert list(store.index.live) == sorted(now)
        assert not set(store.index.ghosts) & set(now)
        assert set(store.index.ghosts) | set(now) == set(store.index.entries)
        assert self.leases.attached == {key: kv.lease for key, kv in now.items() if kv.lease}
        records = [record for _, record in self.backend.scan(REVISION_BUCKET, BUCKET_END)]
        assert (store.record_count, store._record_bytes) == (len(records), sum(map(len, records)))
        if self.compaction is None:
            histories = {key for key, entry in store.index.entries.items() if isinstance(entry, KeyHistory)}
            assert sorted(store.index.dirty) == sorted(histories)


@pytest.fixture(autouse=True, scope="module")
def tiny_slices() -> Generator[None, None, None]:
    """Slices of a few records, so that walks of these small stores are interrupted, and both ways of reading happen."""
    small_fetches = mock.patch.multiple(
        fetch,
        RANGE_SLICE_KEYS_MAX=2,
        READ_SLICE_WORK_MAX=4,
        _FEW_RECORDS=1,
        _SCAN_SPARSENESS_MAX=2,
        _RUN_GAP_MAX=2,
        _RUN_BLOCK=3,
    )
    with small_fetches, mock.patch.multiple(read, RANGE_SLICE_KEYS_MAX=2, SORT_RUN_ROWS_MAX=2):
        yield


MvccMachine.TestCase.settings = settings(stateful_step_count=40)
TestMvcc = pytest.mark.usefixtures("tiny_slices")(MvccMachine.TestCase)
