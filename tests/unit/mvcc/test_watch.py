"""The rules of watching, on a hub with a store in memory. tests/interop/test_watch_rules.py asks real etcd the same."""

from __future__ import annotations

from typing import Any

import pytest

from etcdpy import limits
from etcdpy.mvcc.watch_groups import State
from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.watch import CLUSTER_ID, MEMBER_ID, RAFT_TERM, MemoryOutbox, Watched, create

PUT, DELETE = kv_pb2.Event.PUT, kv_pb2.Event.DELETE
NOPUT, NODELETE = rpc_pb2.WatchCreateRequest.NOPUT, rpc_pb2.WatchCreateRequest.NODELETE


def header(revision: int) -> rpc_pb2.ResponseHeader:
    return rpc_pb2.ResponseHeader(cluster_id=CLUSTER_ID, member_id=MEMBER_ID, revision=revision, raft_term=RAFT_TERM)


def seen(outbox: MemoryOutbox) -> list[tuple[int, list[tuple[bytes, int]]]]:
    """(watch id, [(key, mod revision)]) of what arrived."""
    return [(r.watch_id, [(e.kv.key, e.kv.mod_revision) for e in r.events]) for r in outbox.take()]


def test_created_answer() -> None:
    watched = Watched()
    watched.put(b"x")
    stream, outbox = watched.open()
    stream.handle(rpc_pb2.WatchRequest(create_request=create(b"a")))
    assert outbox.take() == [rpc_pb2.WatchResponse(header=header(2), created=True)]


def test_put_and_delete_events() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", watch_id=5))
    outbox.take()
    watched.put(b"a", b"1")
    watched.put(b"b", b"not ours")
    watched.delete(b"a")
    put = kv_pb2.KeyValue(key=b"a", value=b"1", create_revision=2, mod_revision=2, version=1)
    assert outbox.take() == [
        rpc_pb2.WatchResponse(header=header(2), watch_id=5, events=[kv_pb2.Event(kv=put)]),
        rpc_pb2.WatchResponse(
            header=header(4),
            watch_id=5,
            events=[kv_pb2.Event(type=DELETE, kv=kv_pb2.KeyValue(key=b"a", mod_revision=4))],
        ),
    ]
    assert watched.hub.events_total == 2


def test_a_large_record_is_encoded_like_a_small_one() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"k" * 200, prev_kv=True))
    outbox.take()
    watched.put(b"k" * 200, b"1" * 70_000)
    watched.put(b"k" * 200, b"2" * 70_000)
    first, second = outbox.take()
    assert first.events[0].kv.value == b"1" * 70_000
    assert not first.events[0].HasField("prev_kv")
    assert second.events[0].prev_kv == first.events[0].kv


def test_previous_values() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", prev_kv=True))
    stream.create(create(b"a"))
    outbox.take()
    watched.put(b"a", b"1")
    watched.put(b"a", b"2")
    watched.delete(b"a")
    watched.put(b"a", b"3")
    with_previous = [r.events[0] for r in outbox.messages_of(0)]
    assert [e.HasField("prev_kv") for e in with_previous] == [False, True, True, False]
    assert with_previous[1].prev_kv.value == b"1"
    assert with_previous[2].prev_kv.value == b"2"
    assert with_previous[2].kv == kv_pb2.KeyValue(key=b"a", mod_revision=4)
    without = [r.events[0] for r in outbox.messages_of(1)]
    assert not any(e.HasField("prev_kv") for e in without)


def test_previous_value_that_is_compacted_is_left_out() -> None:
    watched = Watched()
    watched.put(b"a", b"1")
    watched.put(b"a", b"2")
    watched.history.compact(3)
    stream, outbox = watched.open()
    stream.create(create(b"a", prev_kv=True, start_revision=3))
    watched.settle()
    assert not outbox.take()[1].events[0].HasField("prev_kv")


@pytest.mark.parametrize(
    ("key", "end", "hits"),
    [
        (b"b", b"", [b"b"]),
        (b"b", b"d", [b"b", b"bb", b"c"]),
        (b"b", b"c", [b"b", b"bb"]),
        (b"b", b"\x00", [b"b", b"bb", b"c", b"d", b"\xff", b"\xff\xff"]),
        (b"\xff", b"\x00", [b"\xff", b"\xff\xff"]),
        (b"", b"\x00", [b"\x00", b"a", b"b", b"bb", b"c", b"d", b"\xff", b"\xff\xff"]),
        (b"", b"b", [b"\x00", b"a"]),
        (b"", b"", [b"\x00"]),
        (b"\xff", b"\xff\xff", [b"\xff"]),
        (b"a\xff", b"b", []),
        (b"ab", b"ba", [b"b"]),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_ranges(key: bytes, end: bytes, hits: list[bytes], late: bool) -> None:
    watched = Watched()
    stream, outbox = watched.open()
    if not late:
        stream.create(create(key, end))
    for name in (b"\x00", b"a", b"b", b"bb", b"c", b"d", b"\xff", b"\xff\xff"):
        watched.put(name)
    if late:
        stream.create(create(key, end, start_revision=1))
        watched.settle()
    assert [e.kv.key for r in outbox.take() for e in r.events] == hits


@pytest.mark.parametrize("end", [b"a", b"b", b"\x00a"])
def test_empty_range_is_refused(end: bytes) -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"b", end))
    assert outbox.take() == [
        rpc_pb2.WatchResponse(
            header=header(1), watch_id=-1, created=True, canceled=True, cancel_reason="mvcc: watcher range is empty"
        )
    ]
    assert watched.hub.watchers == 0
    assert len(watched.hub.groups) == 0


def test_negative_start_revision_is_refused() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"b", start_revision=-1))
    assert outbox.take() == [
        rpc_pb2.WatchResponse(
            header=header(1),
            watch_id=-1,
            created=True,
            canceled=True,
            cancel_reason="etcdserver: mvcc: required revision has been compacted",
        )
    ]


def test_ids() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    for watch_id in (0, 1, 3, 0, 0, 1, -7):
        stream.create(create(b"a", watch_id=watch_id))
    answers = outbox.take()
    assert [r.watch_id for r in answers] == [0, 1, 3, 2, 4, -1, -7]
    assert answers[5].canceled
    assert answers[5].created
    assert answers[5].cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    stream.cancel(1)
    stream.create(create(b"a", watch_id=1))
    stream.create(create(b"a"))
    assert [r.watch_id for r in outbox.take()] == [1, 1, 5]
    watched.put(b"a")
    assert {r.watch_id for r in outbox.take()} == {0, 1, 2, 3, 4, 5, -7}


def test_cancel() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", watch_id=4))
    stream.handle(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=9)))
    stream.handle(rpc_pb2.WatchRequest(cancel_request=rpc_pb2.WatchCancelRequest(watch_id=4)))
    stream.handle(rpc_pb2.WatchRequest())
    watched.put(b"a")
    assert outbox.take()[1:] == [rpc_pb2.WatchResponse(header=header(1), watch_id=4, canceled=True)]
    assert (watched.hub.watchers, len(watched.hub.groups)) == (0, 0)


@pytest.mark.parametrize(
    ("filters", "wanted"), [([NOPUT], [3]), ([NODELETE], [2, 4]), ([NOPUT, NODELETE], []), ([7], [2, 3, 4])]
)
@pytest.mark.parametrize("late", [False, True])
def test_filters(filters: list[int], wanted: list[int], late: bool) -> None:
    watched = Watched()
    stream, outbox = watched.open()
    if not late:
        stream.create(create(b"a", filters=filters))
    watched.put(b"a")
    watched.delete(b"a")
    watched.put(b"a")
    if late:
        stream.create(create(b"a", filters=filters, start_revision=1))
        watched.settle()
    responses = outbox.take()[1:]
    assert [e.kv.mod_revision for r in responses for e in r.events] == wanted
    assert all(r.events for r in responses), "what is filtered out must not leave an empty response"


def test_past_is_served_from_history() -> None:
    watched = Watched()
    for number in range(5):
        watched.put(b"a", b"%d" % number)
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=3))
    assert watched.hub.slow_watchers == 1
    assert [r.created for r in outbox.take()] == [True]
    watched.settle()
    (response,) = outbox.take()
    assert response.header == header(6)
    assert [e.kv.mod_revision for e in response.events] == [3, 4, 5, 6]
    assert watched.hub.slow_watchers == 0
    watched.put(b"a")
    assert seen(outbox) == [(0, [(b"a", 7)])]


def test_future_start() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", b"c", start_revision=4))
    outbox.take()
    watched.put(b"a")
    watched.put(b"b")
    assert seen(outbox) == []
    watched.put(b"a")
    watched.put(b"a")
    assert seen(outbox) == [(0, [(b"a", 4)]), (0, [(b"a", 5)])]


def test_future_start_within_a_batch() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=4))
    outbox.take()
    watched.write_batch([[(b"a", b"2")], [(b"a", b"3")], [(b"a", b"4")], [(b"a", b"5")]])
    watched.put(b"a")
    assert seen(outbox) == [(0, [(b"a", 4), (b"a", 5)]), (0, [(b"a", 6)])]


def test_future_start_passed_by_other_keys() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=3))
    outbox.take()
    watched.put(b"x")
    watched.put(b"x")
    stream.request_progress()
    assert [(r.watch_id, r.header.revision) for r in outbox.take()] == [(-1, 3)]
    watched.put(b"a")
    assert seen(outbox) == [(0, [(b"a", 4)])]


def test_compacted_start_is_created_then_canceled_without_a_reason() -> None:
    watched = Watched()
    for _ in range(5):
        watched.put(b"a")
    watched.history.compact(4)
    stream, outbox = watched.open()
    stream.create(create(b"a", watch_id=9, start_revision=3))
    stream.create(create(b"a", watch_id=10, start_revision=4))
    watched.settle()
    created, created_too, canceled, events = outbox.take()
    assert created == rpc_pb2.WatchResponse(header=header(6), watch_id=9, created=True)
    assert created_too.created
    assert canceled == rpc_pb2.WatchResponse(header=header(0), watch_id=9, canceled=True, compact_revision=4)
    assert [e.kv.mod_revision for e in events.events] == [4, 5, 6]
    # On etcd the id stays taken, and the stream counts as behind, until the client cancels it.
    stream.create(create(b"a", watch_id=9))
    stream.request_progress()
    stream.cancel(9)
    stream.request_progress()
    refused, answer, progress = outbox.take()
    assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    assert answer == rpc_pb2.WatchResponse(header=header(6), watch_id=9, canceled=True)
    assert progress.watch_id == -1
    assert watched.hub.watchers == 1


def test_compaction_does_not_touch_synced_watchers() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=1))
    watched.settle()
    for _ in range(5):
        watched.put(b"b")
    watched.history.compact(6)
    watched.settle()
    watched.put(b"a")
    assert seen(outbox) == [(0, []), (0, [(b"a", 7)])]


def test_progress_request() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.request_progress()
    assert outbox.take() == [], "a stream without watchers gets no answer"
    watched.put(b"a")
    stream.create(create(b"a"))
    stream.create(create(b"b", start_revision=2))
    outbox.take()
    stream.handle(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))
    assert outbox.take() == [], "one watcher is behind"
    watched.settle()
    stream.request_progress()
    assert outbox.take() == [rpc_pb2.WatchResponse(header=header(2), watch_id=-1)]


def test_progress_request_while_a_watcher_waits_for_the_next_revision() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=2))
    stream.create(create(b"b", watch_id=8, start_revision=10))
    outbox.take()
    stream.request_progress()
    watched.put(b"x")
    stream.request_progress()
    assert outbox.take() == []
    stream.cancel(8)
    outbox.take()
    stream.request_progress()
    assert [r.header.revision for r in outbox.take()] == [2]


def test_progress_notices() -> None:
    watched = Watched(progress_interval_seconds=10.0)
    hub = watched.hub
    assert hub.progress_tick(0.0) is None
    stream, outbox = watched.open(now=0.0)
    stream.create(create(b"a", watch_id=1, progress_notify=True))
    stream.create(create(b"b", watch_id=2, progress_notify=True))
    stream.create(create(b"b", watch_id=3))
    stream.create(create(b"c", watch_id=4, progress_notify=True, start_revision=99))
    outbox.take()
    due = hub.progress_tick(9.9)
    assert due is not None
    assert 10.0 <= due <= 11.0
    watched.put(b"a")
    outbox.take()
    due = hub.progress_tick(11.0)
    assert outbox.take() == [rpc_pb2.WatchResponse(header=header(2), watch_id=2)]
    assert due is not None
    assert 21.0 <= due <= 22.0
    hub.progress_tick(22.0)
    assert [r.watch_id for r in outbox.take()] == [1, 2]
    stream.cancel(2)
    outbox.take()
    hub.progress_tick(33.0)
    assert [r.watch_id for r in outbox.take()] == [1]


def test_progress_interval_has_a_floor() -> None:
    watched = Watched(progress_interval_seconds=0.001)
    watched.open(now=0.0)
    due = watched.hub.progress_tick(0.0)
    assert due is not None
    assert due >= limits.WATCH_PROGRESS_INTERVAL_SECONDS_MIN


def test_progress_notices_come_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdpy.mvcc.watch.WATCH_PROGRESS_SLICE_WATCHERS_MAX", 2)
    watched = Watched(progress_interval_seconds=10.0)
    stream, outbox = watched.open(now=0.0)
    for _ in range(5):
        stream.create(create(b"a", progress_notify=True))
    outbox.take()
    told: list[int] = []
    due: float | None = 11.0
    while due == 11.0:
        due = watched.hub.progress_tick(11.0)
        batch = [r.watch_id for r in outbox.take()]
        assert len(batch) <= 2
        told += batch
    assert sorted(told) == [0, 1, 2, 3, 4]


def test_streams_that_come_and_go_leave_nothing_behind() -> None:
    watched = Watched()
    for _ in range(1000):
        stream, _ = watched.open(now=0.0)
        stream.create(create(b"a", b"b", progress_notify=True))
        stream.close()
        stream.close()
    hub = watched.hub
    assert (hub.streams, hub.watchers, len(hub.groups), hub.slow_watchers) == (0, 0, 0, 0)
    assert len(hub._progress_due) < 200


def test_close_in_every_state() -> None:
    watched = Watched(outbox_bytes_max=10, outbox_bytes_resume=5)
    for _ in range(3):
        watched.put(b"a")
    watched.history.compact(3)
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    stream.create(create(b"a", b"b", start_revision=90))
    outbox.take()
    stream.create(create(b"a", start_revision=2))
    outbox.take()
    watched.settle()
    stream.create(create(b"a", start_revision=3))
    watched.settle()
    stream.create(create(b"a", start_revision=3))
    states = [watcher.state for watcher in stream.watchers.values()]
    assert states == [State.SYNCED, State.WAITING, State.COMPACTED, State.PARKED, State.LAGGING]
    outbox.take()
    stream.close()
    watched.settle()
    watched.put(b"a")
    hub = watched.hub
    assert outbox.take() == []
    assert (hub.streams, hub.watchers, len(hub.groups), hub.slow_watchers, hub.blocked_streams) == (0, 0, 0, 0, 0)


def test_a_batch_is_one_response_a_watcher() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a", b"c"))
    stream.create(create(b"b"))
    outbox.take()
    watched.write_batch([[(b"a", b"1"), (b"b", b"1")], [(b"x", b"1")], [(b"b", b"2"), (b"a", None)]])
    first, second = outbox.take()
    assert [(e.kv.key, e.kv.mod_revision) for e in first.events] == [(b"a", 2), (b"b", 2), (b"b", 4), (b"a", 4)]
    assert [(e.kv.key, e.kv.mod_revision) for e in second.events] == [(b"b", 2), (b"b", 4)]
    assert first.header.revision == second.header.revision == 4


def test_identical_responses_are_one_object() -> None:
    watched = Watched()
    outboxes = []
    for _ in range(3):
        stream, outbox = watched.open()
        stream.create(create(b"a"))
        outbox.take()
        outboxes.append(outbox)
    watched.put(b"a")
    assert len({id(outbox.messages[0]) for outbox in outboxes}) == 1


def test_large_batches_are_cut_at_revisions() -> None:
    watched = Watched(outbox_bytes_max=1 << 40)
    stream, outbox = watched.open()
    stream.create(create(b"a", b"c"))
    outbox.take()
    value = b"x" * (limits.WATCH_RESPONSE_BYTES_MAX // 2 - 10)
    revisions = [[(b"a", value), (b"b", value), (b"bb", value)], [(b"a", b"")], [(b"a", value)], [(b"a", value)]]
    watched.write_batch([*revisions, *revisions])
    whole = [(0, [(b"a", 2), (b"b", 2), (b"bb", 2)]), (0, [(b"a", 3), (b"a", 4)]), (0, [(b"a", 5)])]
    again = [(0, [(b"a", 6), (b"b", 6), (b"bb", 6)]), (0, [(b"a", 7), (b"a", 8)]), (0, [(b"a", 9)])]
    assert [(i, e) for i, e in seen(outbox)] == [*whole, *again]
    stream.create(create(b"a", b"c", watch_id=0, start_revision=1))
    outbox.take()
    watched.settle()
    assert [e for _, e in seen(outbox)] == [e for _, e in (*whole, *again)]


def test_batches_of_many_revisions_are_cut() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    outbox.take()
    watched.write_batch([[(b"a", b"")]] * 2500)
    assert [len(r.events) for r in outbox.take()] == [1000, 1000, 500]


def test_notify_without_watchers_reads_nothing() -> None:
    watched = Watched()

    class Untouchable:
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: object) -> Any:
            raise AssertionError("looked at")

    watched.hub.notify(Untouchable())  # type: ignore[arg-type]


def test_notify_refuses_what_was_handed_out() -> None:
    watched = Watched()
    stream, _ = watched.open()
    stream.create(create(b"a"))
    changes = watched.history.write((b"a", b"1"))
    stream.create(create(b"a"))
    with pytest.raises(AssertionError, match="handed out"):
        watched.hub.notify(changes)


def test_resync_after_a_snapshot() -> None:
    watched = Watched()
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    stream.create(create(b"a", start_revision=4))
    stream.create(create(b"a", start_revision=40))
    outbox.take()
    before = watched.history.current_revision
    for _ in range(4):
        watched.history.write((b"a", b"from the leader"))
    watched.hub.resync(before)
    watched.settle()
    got = sorted(seen(outbox))
    assert got == [(0, [(b"a", r) for r in (2, 3, 4, 5)]), (1, [(b"a", 4), (b"a", 5)])]
    watched.put(b"a")
    assert sorted(seen(outbox)) == [(0, [(b"a", 6)]), (1, [(b"a", 6)])]
