"""Whatever happens, a watcher sees every matching change exactly once, in order, or is told of the compaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.mvcc import watch_catchup, watch_delivery, watch_events, watch_window
from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.watch import MemoryHistory, MemoryOutbox, Watched, create

if TYPE_CHECKING:
    from etcdpy.mvcc.watch import WatchStream

Create = rpc_pb2.WatchCreateRequest
KEYS = [b"a", b"ab", b"ac", b"b", b"ba", b"c"]
ENDS = [b"", b"", b"\x00", b"b", b"ac", b"c", b"bb"]

_operation = st.tuples(st.sampled_from(KEYS), st.sampled_from([b"1", b"2" * 50, None]))
_revision = st.lists(_operation, min_size=1, max_size=3, unique_by=lambda operation: operation[0])
_step = st.one_of(
    st.tuples(st.just("write"), st.lists(_revision, min_size=1, max_size=4)),
    st.tuples(st.just("write"), st.lists(_revision, min_size=1, max_size=1)),
    st.tuples(
        st.just("create"),
        st.fixed_dictionaries(
            {
                "stream": st.integers(0, 2),
                "key": st.sampled_from(KEYS),
                "range_end": st.sampled_from(ENDS),
                "start": st.integers(-12, 4),
                "prev_kv": st.booleans(),
                "fragment": st.booleans(),
                "filters": st.sampled_from([[], [], [Create.NOPUT], [Create.NODELETE]]),
            }
        ),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 4)),
    st.tuples(st.just("slice"), st.integers(1, 3)),
    st.tuples(st.just("compact"), st.integers(0, 8)),
    st.tuples(st.just("progress"), st.integers(0, 2)),
    st.tuples(st.just("tick"), st.just(0)),
    st.tuples(st.just("reopen"), st.integers(0, 2)),
)


class Seen:
    """What the client knows of one watcher."""

    def __init__(self, request: Any, first_revision: int) -> None:
        self.request = request
        self.first_revision = first_revision
        self.events: list[kv_pb2.Event] = []
        self.compact_revision = 0
        self.in_fragment = False


class World:
    """A hub, three slow clients, and the whole history kept aside to compare with."""

    def __init__(self) -> None:
        self.watched = Watched(
            outbox_bytes_max=120,
            outbox_bytes_resume=40,
            max_request_bytes=-(512 * 1024) + 150,
            progress_interval_seconds=1,
        )
        self.log: list[tuple[int, bytes, bool, bytes]] = []
        self.now = 0.0
        self.streams: list[tuple[WatchStream, MemoryOutbox]] = [self.watched.open(0.0) for _ in range(3)]
        self.seen: list[dict[int, Seen]] = [{}, {}, {}]
        self.requested: list[list[Seen]] = [[], [], []]

    @property
    def history(self) -> MemoryHistory:
        return self.watched.history

    def step(self, name: str, *arguments: Any) -> None:
        getattr(self, f"do_{name}")(*arguments)

    def do_write(self, revisions: Any) -> None:
        changes = [change for revision in revisions for change in self.history.write(*revision)]
        self.log += changes
        self.watched.hub.notify(changes)

    def do_create(self, wanted: Any) -> None:
        index = wanted["stream"]
        current = self.history.current_revision
        start = max(0, current + wanted["start"])
        request = create(
            wanted["key"],
            wanted["range_end"],
            start_revision=start,
            prev_kv=wanted["prev_kv"],
            fragment=wanted["fragment"],
            filters=wanted["filters"],
            progress_notify=True,
        )
        end = wanted["range_end"]
        if end in (b"", b"\x00") or end > wanted["key"]:
            self.requested[index].append(Seen(request, start or current + 1))
        self.streams[index][0].create(request)

    def do_cancel(self, index: int, watch_id: int) -> None:
        self.streams[index][0].cancel(watch_id)

    def do_take(self, index: int, count: int) -> None:
        for response in self.streams[index][1].take(count):
            self.receive(index, response)

    def do_slice(self, count: int) -> None:
        for _ in range(count):
            self.watched.hub.sync_slice()

    def do_compact(self, back: int) -> None:
        revision = self.history.current_revision - back
        if revision > max(0, self.history.compact_revision):
            self.history.compact(revision)

    def do_progress(self, index: int) -> None:
        self.streams[index][0].request_progress()

    def do_tick(self, _: int) -> None:
        self.now += 1.2
        self.watched.hub.progress_tick(self.now)

    def do_reopen(self, index: int) -> None:
        stream, _ = self.streams[index]
        stream.close()
        self.streams[index] = self.watched.open(self.now)
        self.seen[index] = {}
        self.requested[index] = []

    def receive(self, index: int, response: rpc_pb2.WatchResponse) -> None:
        known = self.seen[index]
        if response.created:
            if not response.canceled:
                known[response.watch_id] = self.requested[index].pop(0)
            return
        if response.watch_id == -1:
            for seen in known.values():
                self.check_complete(seen, response.header.revision)
            return
        seen = known[response.watch_id]
        if response.canceled:
            if response.compact_revision:
                seen.compact_revision = response.compact_revision
                # Told of the compaction only when it needed something below it.
                assert len(seen.events) == 0 or seen.events[-1].kv.mod_revision < response.compact_revision
                assert seen.first_revision < response.compact_revision
            else:
                del known[response.watch_id]
            return
        assert not seen.compact_revision, "nothing comes after the compaction"
        if not response.events:
            self.check_complete(seen, response.header.revision)
            return
        revisions = [event.kv.mod_revision for event in response.events]
        assert response.header.revision >= revisions[-1]
        if not seen.in_fragment and seen.events:
            assert seen.events[-1].kv.mod_revision < revisions[0], "a revision was split"
        assert not response.fragment or seen.request.fragment
        seen.in_fragment = response.fragment
        seen.events += response.events
        self.check_prefix(seen)

    def expected(self, seen: Seen) -> list[tuple[bytes, int, bool]]:
        request = seen.request
        found = []
        for packed, key, deleted, _ in self.log:
            if packed >> 32 < seen.first_revision:
                continue
            end = request.range_end
            inside = key == request.key if not end else key >= request.key and (end == b"\x00" or key < end)
            if inside and (Create.NODELETE if deleted else Create.NOPUT) not in request.filters:
                found.append((key, packed >> 32, deleted))
        return found

    def check_prefix(self, seen: Seen) -> None:
        got = [(e.kv.key, e.kv.mod_revision, e.type == kv_pb2.Event.DELETE) for e in seen.events]
        assert got == self.expected(seen)[: len(got)]
        for event in seen.events:
            if not event.HasField("prev_kv"):
                continue
            assert seen.request.prev_kv
            assert event.prev_kv.key == event.kv.key
            assert event.prev_kv.mod_revision < event.kv.mod_revision

    def check_complete(self, seen: Seen, revision: int) -> None:
        """A progress notice: everything up to its revision was handed out before it."""
        wanted = [entry for entry in self.expected(seen) if entry[1] <= revision]
        assert len(seen.events) >= len(wanted)

    def finish(self) -> None:
        hub = self.watched.hub
        for _ in range(10_000):
            for index in range(3):
                self.do_take(index, 1_000_000)
            if not hub.sync_slice() and not hub.blocked_streams:
                break
        else:
            raise AssertionError("never catches up")
        for index in range(3):
            self.do_take(index, 1_000_000)
            assert self.streams[index][0].behind == sum(1 for s in self.seen[index].values() if s.compact_revision)
            for seen in self.seen[index].values():
                self.check_prefix(seen)
                if not seen.compact_revision:
                    assert len(seen.events) == len(self.expected(seen))
        assert hub.slow_watchers == 0
        assert hub.watchers == sum(len(stream.watchers) for stream, _ in self.streams)
        for stream, _ in self.streams:
            stream.close()
            assert not stream.progress
            assert not stream.parked
        assert (hub.watchers, hub.streams, len(hub.groups)) == (0, 0, 0)


def play(steps: list[tuple[Any, ...]]) -> None:
    world = World()
    for step in steps:
        world.step(*step)
    world.finish()


@given(st.lists(_step, max_size=60))
def test_every_watcher_sees_every_change_once_in_order(steps: list[tuple[Any, ...]]) -> None:
    play(steps)


@given(st.lists(_step, max_size=60))
def test_the_same_with_every_bound_within_reach(steps: list[tuple[Any, ...]]) -> None:
    """Responses, slices and windows of a few events each, so that all of them end in the middle of something."""
    with (
        patch.multiple(watch_events, WATCH_RESPONSE_BYTES_MAX=130, WATCH_RESPONSE_REVISIONS_MAX=4),
        patch.multiple(
            watch_window,
            WATCH_RESPONSE_BYTES_MAX=200,
            WATCH_RESPONSE_REVISIONS_MAX=5,
            WATCH_HISTORY_EVENTS_TARGET=4,
            WATCH_WINDOW_KEPT_BYTES_MAX=150,
        ),
        patch.multiple(watch_delivery, WATCH_NOTIFY_COPIED_BYTES_MAX=400),
        patch.multiple(
            watch_catchup,
            WATCH_SLICE_WATCHERS_MAX=3,
            WATCH_SLICE_SENT_BYTES_MAX=150,
            WATCH_SLICE_PREVIOUS_READS_MAX=2,
        ),
    ):
        play(steps)
