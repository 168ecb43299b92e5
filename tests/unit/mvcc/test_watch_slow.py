"""Watchers whose streams do not take their events: bounded, nothing lost, caught up from history."""

from __future__ import annotations

from etcdpy import limits
from tests.support.watch import MemoryOutbox, Watched, create


def revisions(outbox: MemoryOutbox, watch_id: int = 0) -> list[int]:
    return [e.kv.mod_revision for r in outbox.take() if r.watch_id == watch_id for e in r.events]


def slow() -> Watched:
    return Watched(outbox_bytes_max=1000, outbox_bytes_resume=250)


def test_a_slow_stream_is_bounded_and_caught_up() -> None:
    watched = slow()
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    for _ in range(200):
        watched.put(b"a", b"x" * 100)
        watched.hub.sync_slice()
    assert outbox.buffered_bytes < 1000 + 200
    hub = watched.hub
    assert (hub.slow_watchers, hub.blocked_streams, hub.has_work) == (1, 1, False)
    got = revisions(outbox)
    for _ in range(100):
        watched.settle()
        got += revisions(outbox)
    assert got == list(range(2, 202))
    assert (hub.slow_watchers, hub.blocked_streams) == (0, 0)


def test_a_slow_stream_does_not_hold_up_others() -> None:
    watched = slow()
    stuck, _ = watched.open()
    stuck.create(create(b"a"))
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    got = []
    for _ in range(50):
        watched.put(b"a", b"x" * 100)
        watched.settle()
        got += revisions(outbox)
    assert got == list(range(2, 52))


def test_it_waits_until_the_outbox_has_drained_well() -> None:
    watched = slow()
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    for _ in range(20):
        watched.put(b"a", b"x" * 100)
    watched.settle()
    before = len(outbox.messages)
    outbox.take(3)
    watched.settle()
    assert outbox.buffered_bytes > 250
    assert len(outbox.messages) == before - 3, "over the resume mark nothing is added"


def test_a_start_that_is_reached_with_a_full_outbox() -> None:
    watched = slow()
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=3))
    outbox.buffered_bytes += 2000
    watched.write_batch([[(b"a", b"2")], [(b"a", b"3")], [(b"a", b"4")]])
    assert watched.hub.slow_watchers == 1
    outbox.take()
    watched.settle()
    assert revisions(outbox) == [3, 4]


def test_many_watchers_of_streams_that_have_drained_need_no_second_look() -> None:
    """`has_work` stays true while a drained stream has parked watchers: waiting for the next look cost 10 ms for each
    512 of them."""
    watched = Watched()
    outboxes = []
    for _ in range(2):
        stream, outbox = watched.open()
        for _ in range(2000):
            stream.create(create(b"a"))
        outbox.take()
        outbox.buffered_bytes = limits.WATCH_OUTBOX_BYTES_MAX + 1
        outboxes.append(outbox)
    watched.put(b"a")
    watched.settle()
    assert (watched.hub.slow_watchers, watched.hub.blocked_streams) == (4000, 2)
    for outbox in outboxes:
        outbox.take()
    served = []
    while watched.hub.sync_slice():
        served.append([len(outbox.messages) for outbox in outboxes])
    assert [len(outbox.take()) for outbox in outboxes] == [2000, 2000]
    assert served[1] == [512, 512], "streams take turns"
    assert len(served) == 7


def test_a_parked_watcher_that_is_overtaken_by_a_compaction_is_told() -> None:
    watched = slow()
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    for _ in range(20):
        watched.put(b"a", b"x" * 100)
    watched.settle()
    watched.history.compact(21)
    watched.settle()
    assert not any(r.canceled for r in outbox.take())
    watched.settle()
    (canceled,) = outbox.take()
    assert (canceled.canceled, canceled.compact_revision) == (True, 21)
    watched.put(b"a")
    watched.settle()
    assert outbox.take() == []


def test_cancel_while_parked() -> None:
    watched = slow()
    stream, outbox = watched.open()
    stream.create(create(b"a"))
    for _ in range(20):
        watched.put(b"a", b"x" * 100)
    watched.settle()
    stream.cancel(0)
    outbox.take()
    watched.settle()
    assert outbox.take() == []
    assert (watched.hub.slow_watchers, watched.hub.blocked_streams) == (0, 0)


def test_no_progress_from_a_full_outbox() -> None:
    watched = Watched(outbox_bytes_max=1000, outbox_bytes_resume=250, progress_interval_seconds=1.0)
    stream, outbox = watched.open(now=0.0)
    stream.create(create(b"b", progress_notify=True))
    outbox.buffered_bytes += 2000
    stream.request_progress()
    watched.hub.progress_tick(2.0)
    assert len(outbox.messages) == 1


def test_watchers_share_one_scan() -> None:
    watched = Watched()
    for _ in range(500):
        watched.put(b"a")
    outboxes = []
    for number in range(300):
        stream, outbox = watched.open()
        stream.create(create(b"a", b"b", start_revision=2 + number))
        outbox.take()
        outboxes.append(outbox)
    watched.settle()
    assert watched.history.scans == 1
    for number, outbox in enumerate(outboxes):
        assert revisions(outbox) == list(range(2 + number, 502))


def test_a_slice_is_bounded() -> None:
    watched = Watched()
    for _ in range(30):
        watched.put(b"a")
    streams = []
    for _ in range(1200):
        stream, outbox = watched.open()
        stream.create(create(b"a", start_revision=1))
        outbox.take()
        streams.append(outbox)
    assert watched.hub.sync_slice()
    served = sum(1 for outbox in streams if outbox.messages)
    assert served == limits.WATCH_SLICE_WATCHERS_MAX
    assert watched.settle() == 2
    assert all(revisions(outbox) == list(range(2, 32)) for outbox in streams)
    assert watched.history.scans == 1


def test_a_slice_ends_when_its_time_is_up() -> None:
    watched = Watched()
    watched.put(b"a")
    for _ in range(200):
        stream, _ = watched.open()
        stream.create(create(b"a", start_revision=1))
    assert watched.hub.sync_slice(lambda: True)
    assert 200 - 64 < watched.hub.slow_watchers < 200


def test_a_slice_of_large_responses_is_bounded_by_bytes() -> None:
    watched = Watched()
    for _ in range(3):
        watched.put(b"a", b"x" * 1_000_000)
    for _ in range(10):
        stream, _ = watched.open()
        stream.create(create(b"a", start_revision=1))
    assert watched.hub.sync_slice()
    assert watched.hub.slow_watchers == 8


def test_previous_values_are_read_in_portions() -> None:
    watched = Watched()
    for _ in range(700):
        watched.put(b"a")
    stream, outbox = watched.open()
    stream.create(create(b"a", start_revision=1, prev_kv=True))
    outbox.take()
    assert watched.settle() == 4
    events = [e for r in outbox.take() for e in r.events]
    assert [e.prev_kv.mod_revision for e in events] == [0, *range(2, 701)]


def test_large_values_with_many_watchers_are_left_to_slices() -> None:
    watched = Watched()
    outboxes = []
    for number in range(40):
        stream, outbox = watched.open()
        stream.create(create(b"a", watch_id=number + 1))
        outbox.take()
        outboxes.append(outbox)
    watched.put(b"a", b"x" * 1_000_000)
    assert watched.hub.slow_watchers > 0
    assert sum(len(o.messages) for o in outboxes) * 1_000_000 <= limits.WATCH_NOTIFY_COPIED_BYTES_MAX + 2_000_000
    watched.settle()
    watched.put(b"a", b"y")
    watched.settle()
    for number, outbox in enumerate(outboxes):
        assert revisions(outbox, number + 1) == [2, 3]


def test_history_is_dropped_when_nobody_is_behind() -> None:
    watched = Watched()
    watched.put(b"a")
    stream, _ = watched.open()
    stream.create(create(b"a", start_revision=1))
    watched.settle()
    assert watched.hub._behind._window is None


def test_late_comers_do_not_hold_up_those_who_are_nearly_there() -> None:
    watched = Watched()
    for _ in range(5000):
        watched.put(b"a")
    first, first_outbox = watched.open()
    first.create(create(b"a", start_revision=2))
    slices = 0
    while first.behind:
        watched.hub.sync_slice()
        late, _ = watched.open()
        late.create(create(b"a", start_revision=2))
        slices += 1
        assert slices < 20
    assert slices == 5
    assert revisions(first_outbox) == list(range(2, 5002))


def test_writes_while_catching_up() -> None:
    watched = Watched()
    for _ in range(1500):
        watched.put(b"a")
    outboxes = []
    for _ in range(1100):
        stream, outbox = watched.open()
        stream.create(create(b"a", b"b", start_revision=1))
        outboxes.append(outbox)
    for _ in range(5):
        watched.hub.sync_slice()
        watched.put(b"a")
    watched.settle()
    assert all(revisions(outbox) == list(range(2, 1507)) for outbox in outboxes)
