"""Watch rules that clients rarely meet and that are easily got wrong; the common ones are in test_watch.py.

tests/unit/mvcc/test_watch.py holds the same rules on the hub alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.client import Client, WatchStream, prefix_end
from tests.support.members import Kind, Member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DUPLICATE_ID = "mvcc: duplicate watch ID provided on the WatchStream"


@pytest.fixture
def watch(client: Client) -> Iterator[WatchStream]:
    with client.watching() as stream:
        yield stream


def test_a_compacted_watcher_keeps_its_id_and_holds_up_progress(
    client: Client, watch: WatchStream, prefix: bytes
) -> None:
    first = client.put(prefix, b"1").header.revision
    client.put(prefix, b"2")
    current = client.put(prefix, b"3").header.revision
    client.compact(current)
    watch.create(prefix, watch_id=9, start_revision=first)
    created, canceled = watch.next(), watch.next()
    assert (created.created, created.canceled, created.header.revision) == (True, False, current)
    assert canceled.watch_id == 9
    assert canceled.header.revision == 0
    assert (canceled.header.cluster_id, canceled.header.raft_term) == (
        created.header.cluster_id,
        created.header.raft_term,
    )
    assert (canceled.canceled, canceled.created, canceled.compact_revision) == (True, False, current)
    watch.create(prefix, watch_id=9)
    assert watch.next().cancel_reason == DUPLICATE_ID
    watch.create(prefix, watch_id=10)
    assert watch.next().created
    watch.request_progress()
    assert watch.quiet_for(0.3)
    watch.cancel(9)
    answer = watch.next()
    assert (answer.watch_id, answer.canceled, answer.compact_revision) == (9, True, 0)
    watch.request_progress()
    assert watch.next().watch_id == -1


def test_no_progress_before_a_watcher_has_started(client: Client, watch: WatchStream, prefix: bytes) -> None:
    """A watcher that starts at the next revision, as after a list, counts as not started until that revision."""
    current = client.put(prefix, b"1").header.revision
    watch.create(prefix + b"x", start_revision=current + 1)
    watch.next()
    watch.request_progress()
    assert watch.quiet_for(0.3)
    client.put(prefix, b"2")
    watch.request_progress()
    progress = watch.next()
    assert (progress.watch_id, progress.header.revision) == (-1, current + 1)


def test_history_comes_with_the_current_revision(client: Client, watch: WatchStream, prefix: bytes) -> None:
    start = client.put(prefix, b"1").header.revision
    current = client.put(prefix + b"other", b"1").header.revision
    watch.create(prefix, start_revision=start)
    assert watch.next().header.revision == current
    response = watch.next()
    assert response.header.revision == current
    assert [event.kv.mod_revision for event in response.events] == [start]


def test_history_joins_revisions_in_one_response(client: Client, watch: WatchStream, prefix: bytes) -> None:
    start = client.put(prefix, b"1").header.revision
    for number in range(20):
        client.put(prefix, b"%d" % number)
    client.delete(prefix)
    watch.create(prefix, start_revision=start, prev_kv=True)
    watch.next()
    events = watch.next().events
    assert [event.kv.mod_revision for event in events] == list(range(start, start + 22))
    assert [event.HasField("prev_kv") for event in events] == [False] + [True] * 21
    assert events[-1].type == kv_pb2.Event.DELETE
    assert events[-1].kv == kv_pb2.KeyValue(key=prefix, mod_revision=start + 21)
    assert events[-1].prev_kv == events[-2].kv


def test_neighbours_with_other_options(client: Client, watch: WatchStream, prefix: bytes) -> None:
    """Watchers of one range share their events, not their options."""
    no_put, no_delete = rpc_pb2.WatchCreateRequest.NOPUT, rpc_pb2.WatchCreateRequest.NODELETE
    end = prefix_end(prefix)
    watch.create(prefix, end, watch_id=1)
    watch.create(prefix, end, watch_id=2, prev_kv=True)
    watch.create(prefix, end, watch_id=3, filters=[no_put], prev_kv=True)
    watch.create(prefix, end, watch_id=4, filters=[no_delete])
    watch.create(prefix, end, watch_id=5, filters=[no_delete, no_put])
    watch.create(prefix, watch_id=6, fragment=True)
    for _ in range(6):
        watch.next()

    def responses(count: int) -> dict[int, rpc_pb2.WatchResponse]:
        return {response.watch_id: response for response in (watch.next() for _ in range(count))}

    client.put(prefix, b"1")
    assert sorted(responses(4)) == [1, 2, 4, 6]
    client.put(prefix, b"2")
    got = responses(4)
    assert {i: r.events[0].HasField("prev_kv") for i, r in got.items()} == {1: False, 2: True, 4: False, 6: False}
    client.delete(prefix)
    got = responses(4)
    assert {i: r.events[0].HasField("prev_kv") for i, r in got.items()} == {1: False, 2: True, 3: True, 6: False}
    assert watch.quiet_for(0.1)


def test_filtered_history_moves_progress_on(client: Client, watch: WatchStream, prefix: bytes) -> None:
    start = client.put(prefix, b"1").header.revision
    watch.create(prefix, start_revision=start, filters=[rpc_pb2.WatchCreateRequest.NOPUT])
    watch.next()
    assert watch.quiet_for(0.3)
    watch.request_progress()
    assert watch.next().header.revision == start


def test_watch_from_a_compacted_tombstone(client: Client, watch: WatchStream, prefix: bytes) -> None:
    client.put(prefix, b"1")
    deleted = client.delete(prefix).header.revision
    client.compact(deleted)
    watch.create(prefix, start_revision=deleted, prev_kv=True)
    watch.next()
    (event,) = watch.next().events
    assert (event.type, event.kv.mod_revision, event.HasField("prev_kv")) == (kv_pb2.Event.DELETE, deleted, False)


@pytest.mark.parametrize(
    ("start_revision", "range_end", "reason"),
    [
        (-5, b"a", "etcdserver: mvcc: required revision has been compacted"),
        (0, b"a", "mvcc: watcher range is empty"),
        (5, b"k", "mvcc: watcher range is empty"),
        (0, b"", DUPLICATE_ID),
    ],
)
def test_what_is_refused_first(
    client: Client, watch: WatchStream, start_revision: int, range_end: bytes, reason: str
) -> None:
    watch.create(b"k", watch_id=3)
    watch.next()
    watch.create(b"k", range_end, watch_id=3, start_revision=start_revision)
    refused = watch.next()
    assert refused.cancel_reason == reason
    assert (refused.watch_id, refused.created, refused.canceled, refused.compact_revision) == (-1, True, True, 0)
    assert refused.header.revision == client.revision()


def test_picked_ids_do_not_come_back(watch: WatchStream, prefix: bytes) -> None:
    ids = []
    for wanted in (0, 0, 1, 0):
        watch.create(prefix, watch_id=wanted)
        ids.append(watch.next().watch_id)
    watch.cancel(0)
    watch.next()
    watch.create(prefix)
    ids.append(watch.next().watch_id)
    assert ids == [0, 1, -1, 2, 3]


def test_fragments_of_one_revision(client: Client, watch: WatchStream, prefix: bytes) -> None:
    """Cut where a piece with its mark would reach --max-request-bytes + 512 KiB, 2 MiB by default."""
    old = bytes(700 * 1024)
    for letter in (b"a", b"b", b"c", b"d"):
        client.put(prefix + letter, old)
    watch.create(prefix, prefix_end(prefix), watch_id=4, prev_kv=True, fragment=True)
    watch.create(prefix, prefix_end(prefix), watch_id=5, prev_kv=True)
    watch.next()
    watch.next()
    client.delete(prefix, prefix_end(prefix))
    responses = [watch.next() for _ in range(3)]
    whole = next(response for response in responses if response.watch_id == 5)
    pieces = [response for response in responses if response.watch_id == 4]
    assert [(piece.fragment, len(piece.events)) for piece in pieces] == [(True, 2), (False, 2)]
    assert (whole.fragment, len(whole.events)) == (False, 4)
    assert [event for piece in pieces for event in piece.events] == list(whole.events)
    assert {response.header.revision for response in responses} == {whole.events[0].kv.mod_revision}


def test_progress_notices(kind: Kind, tmp_path: Path) -> None:
    with (
        Member(kind, tmp_path, flags=["--watch-progress-notify-interval=300ms"]) as member,
        Client.of(member) as client,
        client.watching() as watch,
    ):
        current = client.put(b"k", b"1").header.revision
        watch.create(b"k", watch_id=1, progress_notify=True)
        watch.create(b"k", watch_id=2)
        watch.create(b"future", watch_id=3, progress_notify=True, start_revision=current + 100)
        for _ in range(3):
            watch.next()
        for _ in range(3):
            notice = watch.next()
            assert (notice.watch_id, notice.header.revision, len(notice.events)) == (1, current, 0)
            assert (notice.created, notice.canceled) == (False, False)
