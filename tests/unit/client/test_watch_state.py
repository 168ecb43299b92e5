from __future__ import annotations

from etcdpy.client.watch_state import WatchCompacted, WatchState
from etcdpy.errors import PermissionDenied
from etcdpy.proto import kv_pb2, rpc_pb2


def event(revision: int) -> kv_pb2.Event:
    return kv_pb2.Event(kv=kv_pb2.KeyValue(key=b"k", mod_revision=revision))


def answer(revision: int, *revisions: int, fragment: bool = False) -> rpc_pb2.WatchResponse:
    header = rpc_pb2.ResponseHeader(revision=revision)
    return rpc_pb2.WatchResponse(header=header, events=map(event, revisions), fragment=fragment)


def created(start: int = 0, at: int = 10) -> WatchState:
    state = WatchState(rpc_pb2.WatchCreateRequest(key=b"k", start_revision=start, prev_kv=True))
    header = rpc_pb2.ResponseHeader(revision=at)
    assert state.received(rpc_pb2.WatchResponse(header=header, created=True)) is None
    return state


def test_a_watcher_from_now_on_goes_on_where_the_store_stood() -> None:
    state = created()
    assert state.header.revision == 10
    again = state.create_request().create_request
    assert (again.start_revision, again.prev_kv) == (11, True)


def test_a_watcher_of_the_future_waits_for_it() -> None:
    state = created(start=50)
    assert state.received(answer(20)) is not None
    assert state.next_revision == 50


def test_progress_moves_it() -> None:
    state = created()
    state.received(answer(99))
    assert state.next_revision == 100
    state.received(answer(120, 101))
    assert state.next_revision == 102, "the store may be ahead of what was sent"


def test_parts_are_joined_and_half_a_revision_is_forgotten() -> None:
    state = created()
    assert state.received(answer(11, 11, fragment=True)) is None
    whole = state.received(answer(11, 11))
    assert whole is not None
    assert len(whole.events) == 2
    assert not whole.fragment
    assert state.received(answer(12, 12, fragment=True)) is None
    state.disconnected()
    assert state.next_revision == 12
    whole = state.received(answer(12, 12))
    assert whole is not None
    assert len(whole.events) == 1


def test_what_was_passed_on_is_not_passed_on_again() -> None:
    state = created()
    state.received(answer(12, 11, 12))
    assert state.received(answer(12, 11, 12)) is None
    whole = state.received(answer(13, 12, 13))
    assert whole is not None
    assert [found.kv.mod_revision for found in whole.events] == [13]


def test_what_is_compacted_is_told_and_the_place_is_kept() -> None:
    state = created(start=3)
    assert state.received(rpc_pb2.WatchResponse(canceled=True, compact_revision=8)) is None
    assert isinstance(state.failed, WatchCompacted)
    assert state.failed.compact_revision == 8
    state.disconnected()
    assert state.failed is None
    assert state.create_request().create_request.start_revision == 3


def test_the_reason_of_a_refusal_is_an_error_of_the_table() -> None:
    state = WatchState(rpc_pb2.WatchCreateRequest(key=b"k"))
    reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    state.received(rpc_pb2.WatchResponse(created=True, canceled=True, watch_id=-1, cancel_reason=reason))
    assert isinstance(state.failed, PermissionDenied)
    assert not state.created
