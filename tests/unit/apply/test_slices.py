"""Entries that are applied in slices: the same result as in one go, and nobody sees half of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.errors import LeaseNotFound, Timeout
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import RangeOptions
from etcdpy.proto import rpc_pb2
from etcdpy.raft.entry import Entry
from tests.unit.apply.test_applier import Recorded, World, put

if TYPE_CHECKING:
    from google.protobuf.message import Message

SLICE_KEYS = 3
ALL = (b"\0", b"\0")
RANGE = rpc_pb2.DeleteRangeRequest(key=b"k", range_end=b"l", prev_kv=True)


class Patient(World):
    """A world whose clock goes on by more than a slice may take each time somebody looks, so each slice is a call."""

    def __init__(self, slice_keys: int) -> None:
        super().__init__()
        self.store.slice_keys = slice_keys
        self.store.changes = []
        self.applier._stopwatch = self._tick
        self.applier.apply_all([])
        for lease in (7, 8):
            self.do("lease_grant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=100))
        for number in range(10):
            self.do("put", put(b"k%d" % number, b"%d" % number, lease=7))
        self.do("put", put(b"z", b"stays", lease=8))

    def _tick(self) -> float:
        self.now += 0.0015
        return self.now

    def begin(self, kind: str, request: Message) -> Recorded:
        """Hand an entry over, and one behind it."""
        proposal, later = Recorded(kind, request), Recorded("put", put(b"later"))
        index = self.applier.applied_index + 1
        self.applier.apply_all([Entry(proposal.data, proposal, 2, index), Entry(later.data, later, 2, index + 1)])
        assert later.outcome is None or not self.applier.under_way
        return proposal

    def look(self) -> tuple[object, ...]:
        """All that a reader can see."""
        store = self.store
        return (
            store.current_revision,
            store.range(*ALL).records,
            store.range(b"k", b"l", RangeOptions(limit=2)),
            store.range(b"k", b"l", RangeOptions(count_only=True)),
            [store.get(b"k%d" % number) for number in range(10)],
            store.range(b"k3", b"", RangeOptions(keys_only=True)),
            finish(store.hash_steps()),
            finish(store.hash_kv_steps()),
        )


DELETES_AND_MORE = rpc_pb2.TxnRequest(
    compare=[rpc_pb2.Compare(key=b"k", range_end=b"l", target=rpc_pb2.Compare.LEASE, lease=7)],
    success=[
        rpc_pb2.RequestOp(request_put=put(b"y", lease=8)),
        rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k", range_end=b"k5", prev_kv=True)),
        rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a", range_end=b"zz")),
        rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"k7", range_end=b"\0")),
        rpc_pb2.RequestOp(
            request_txn=rpc_pb2.TxnRequest(
                compare=[rpc_pb2.Compare(key=b"k1", target=rpc_pb2.Compare.VERSION, version=1)],
                success=[rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"k", range_end=b"l"))],
            )
        ),
    ],
)
CASES = [
    pytest.param("delete_range", RANGE, id="delete"),
    pytest.param("txn", DELETES_AND_MORE, id="txn"),
    pytest.param("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=7), id="revoke"),
]


@pytest.mark.parametrize(("kind", "request_"), CASES)
def test_nobody_sees_a_part_and_the_result_is_that_of_one_go(kind: str, request_: Message) -> None:
    whole, sliced = Patient(1000), Patient(SLICE_KEYS)
    expected = whole.do(kind, request_)
    assert not whole.applier.under_way
    before, applied = sliced.look(), sliced.applier.applied_index
    sliced.store.changes = []
    proposal = sliced.begin(kind, request_)
    slices = 0
    while sliced.applier.under_way:
        assert (sliced.look(), sliced.applier.applied_index) == (before, applied)
        assert proposal.outcome is None
        assert sliced.lessor.exists(7)
        sliced.applier.go_on()
        slices += 1
    assert slices >= 10 // SLICE_KEYS
    assert proposal.outcome == expected.outcome
    assert sliced.applier.applied_index == applied + 1
    assert sliced.look() == whole.look()
    assert sliced.backend.items() == whole.backend.items()
    assert sliced.lessor.exists(7) == whole.lessor.exists(7)
    assert sorted(sliced.lessor.keys_of(7)) == sorted(whole.lessor.keys_of(7))
    assert sliced.applier.counts == whole.applier.counts
    # Watchers are served from history, which they must be told of.
    assert sliced.store.changes == []
    last = b"z" if kind == "txn" else b"k9"
    assert sliced.store.unnoted == (whole.store.current_revision, b"k0", last)


def test_what_is_refused_changes_nothing() -> None:
    world = Patient(SLICE_KEYS)
    before = world.look()
    delete = rpc_pb2.RequestOp(request_delete_range=RANGE)
    put_on_no_lease = rpc_pb2.RequestOp(request_put=put(b"x", lease=99))
    proposal = world.begin("txn", rpc_pb2.TxnRequest(success=[delete, put_on_no_lease]))
    assert world.applier.under_way
    while world.applier.under_way:
        world.applier.go_on()
    assert proposal.refusals == [LeaseNotFound]
    assert world.look() == before
    assert world.store.unnoted is None
    assert world.applier.applied_index == 14
    assert world.do("put", put(b"k1")).outcome is not None


def test_a_snapshot_may_come_in_between() -> None:
    world = Patient(SLICE_KEYS)
    before = world.look()
    proposal = world.begin("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=7))
    for _ in range(3):
        world.applier.go_on()
    assert world.store.unpublished
    world.applier.abandon()
    assert not world.applier.under_way
    assert proposal.refusals == [Timeout], "it may have been applied elsewhere"
    assert world.look() == before, "until the other state is there"
    world.applier.abandon()
