"""Watchers that share an upstream watcher: who joins whom, and what each is sent."""

from __future__ import annotations

from typing import Any

from etcdpy.proto import kv_pb2, rpc_pb2
from etcdpy.proxy.broadcast import Broadcast, Counts, Range, Ranges, Watcher

KEYS = Range(b"k", b"", ())


class Sink:
    """A client's stream that remembers."""

    def __init__(self) -> None:
        self.got: list[rpc_pb2.WatchResponse] = []

    def send(self, message: bytes) -> None:
        self.got.append(rpc_pb2.WatchResponse.FromString(message))

    def revisions(self, watch_id: int = 0) -> list[int]:
        return [event.kv.mod_revision for got in self.got if got.watch_id == watch_id for event in got.events]


class Scene:
    """Broadcasts without a cluster; the test says what the cluster answers."""

    def __init__(self) -> None:
        self.upstream: list[Broadcast] = []
        self.ranges = Ranges(self.upstream.append, self.upstream.remove, Counts())

    def watch(self, range_: Range = KEYS, watch_id: int = 0, **fields: Any) -> tuple[Sink, Watcher]:
        sink = Sink()
        watcher = Watcher(sink, watch_id, range_, rpc_pb2.WatchCreateRequest(**fields))
        self.ranges.add(watcher)
        return sink, watcher

    def created(self, broadcast: Broadcast, revision: int) -> None:
        header = rpc_pb2.ResponseHeader(revision=revision)
        self.ranges.received(broadcast, rpc_pb2.WatchResponse(header=header, created=True))

    def happened(self, broadcast: Broadcast, *revisions: int, kind: Any = kv_pb2.Event.PUT) -> None:
        header = rpc_pb2.ResponseHeader(revision=revisions[-1])
        events = [
            kv_pb2.Event(
                type=kind,
                kv=kv_pb2.KeyValue(key=b"k", mod_revision=revision),
                prev_kv=kv_pb2.KeyValue(key=b"k", value=b"before"),
            )
            for revision in revisions
        ]
        self.ranges.received(broadcast, rpc_pb2.WatchResponse(header=header, events=events))


def test_watchers_from_now_on_end_up_on_one_upstream_watcher() -> None:
    scene = Scene()
    first, _ = scene.watch()
    scene.created(scene.upstream[0], 10)
    others = []
    for revision in (10, 10, 12):
        others.append(scene.watch()[0])
        assert len(scene.upstream) == 2  # until the cluster says where it stands
        scene.created(scene.upstream[1], revision)
        assert len(scene.upstream) == 1
    scene.happened(scene.upstream[0], 11, 12)
    scene.happened(scene.upstream[0], 13)
    assert first.revisions() == [11, 12, 13]
    assert [sink.revisions() for sink in others] == [[11, 12, 13], [11, 12, 13], [13]]
    assert scene.ranges.counts.watchers == 3
    assert scene.ranges.counts.events == 6


def test_who_waits_for_the_same_first_answer_shares_it_at_once() -> None:
    scene = Scene()
    sinks = [scene.watch(watch_id=number)[0] for number in range(3)]
    assert len(scene.upstream) == 1
    scene.created(scene.upstream[0], 10)
    assert [[got.created for got in sink.got] for sink in sinks] == [[True]] * 3
    assert [sink.got[0].watch_id for sink in sinks] == [0, 1, 2]


def test_a_watcher_of_the_future_joins_and_gets_nothing_from_before() -> None:
    scene = Scene()
    scene.watch()
    scene.created(scene.upstream[0], 10)
    late, _ = scene.watch(start_revision=13)
    assert len(scene.upstream) == 1
    assert late.got[0].created
    scene.happened(scene.upstream[0], 12, 13)
    assert late.revisions() == [13]


def test_a_watcher_of_the_past_has_an_upstream_watcher_until_it_has_caught_up() -> None:
    scene = Scene()
    scene.watch()
    now = scene.upstream[0]
    scene.created(now, 10)
    past, _ = scene.watch(start_revision=3)
    behind = scene.upstream[1]
    assert behind.state.create_request().create_request.start_revision == 3
    scene.created(behind, 10)
    scene.happened(behind, 3, 5)
    assert scene.upstream == [now, behind]
    scene.happened(behind, 10)
    assert scene.upstream == [now]
    scene.happened(now, 11)
    assert past.revisions() == [3, 5, 10, 11]


def test_a_large_group_stays_where_it_is() -> None:
    scene = Scene()
    scene.watch()
    scene.created(scene.upstream[0], 10)
    for _ in range(5):
        scene.watch()
    scene.created(scene.upstream[1], 10)
    assert len(scene.upstream) == 2


def test_callers_and_ranges_are_kept_apart() -> None:
    scene = Scene()
    for range_ in (KEYS, Range(b"k", b"l", ()), Range(b"k", b"", (("token", "a"),))):
        scene.watch(range_)
    assert len(scene.upstream) == 3


def test_each_gets_what_it_asked_for() -> None:
    scene = Scene()
    plain, _ = scene.watch()
    before, _ = scene.watch(prev_kv=True)
    no_put, _ = scene.watch(filters=[rpc_pb2.WatchCreateRequest.NOPUT])
    no_delete, _ = scene.watch(filters=[rpc_pb2.WatchCreateRequest.NODELETE])
    progress, _ = scene.watch(progress_notify=True)
    (upstream,) = scene.upstream
    scene.created(upstream, 10)
    scene.happened(upstream, 11)
    scene.happened(upstream, 12, kind=kv_pb2.Event.DELETE)
    header = rpc_pb2.ResponseHeader(revision=20)
    scene.ranges.received(upstream, rpc_pb2.WatchResponse(header=header))
    assert [sink.revisions() for sink in (plain, before, no_put, no_delete)] == [[11, 12], [11, 12], [12], [11]]
    assert not plain.got[1].events[0].HasField("prev_kv")
    assert before.got[1].events[0].prev_kv.value == b"before"
    assert [got.header.revision for got in progress.got] == [10, 11, 12, 20]
    assert [got.header.revision for got in plain.got] == [10, 11, 12]


def test_a_broken_upstream_stream_is_gone_on_with_where_it_was() -> None:
    scene = Scene()
    sink, _ = scene.watch()
    (upstream,) = scene.upstream
    scene.created(upstream, 10)
    scene.happened(upstream, 11)
    upstream.state.disconnected()
    assert upstream.state.create_request().create_request.start_revision == 12
    scene.created(upstream, 15)
    scene.happened(upstream, 14)
    assert sink.revisions() == [11, 14]
    assert [got.created for got in sink.got] == [True, False, False]


def test_the_end_of_an_upstream_watcher_is_told_to_all() -> None:
    scene = Scene()
    sinks = [scene.watch(start_revision=1)[0] for _ in range(2)]
    (upstream,) = scene.upstream
    scene.created(upstream, 10)
    answer = rpc_pb2.WatchResponse(canceled=True, compact_revision=5, header=rpc_pb2.ResponseHeader(revision=10))
    scene.ranges.received(upstream, answer)
    assert [(sink.got[-1].canceled, sink.got[-1].compact_revision) for sink in sinks] == [(True, 5)] * 2
    assert scene.ranges.counts.watchers == 0


def test_the_last_one_to_leave_ends_the_upstream_watcher() -> None:
    scene = Scene()
    _, one = scene.watch()
    _, other = scene.watch()
    scene.ranges.remove(one)
    assert len(scene.upstream) == 1
    scene.ranges.remove(other)
    scene.ranges.remove(other)
    assert scene.upstream == []
    assert scene.ranges.counts.watchers == 0
