"""Watch: creation, history, filters, ids, cancellation, compaction, progress, fragments, many watchers a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.client import Client, Refusal, WatchStream, prefix_end

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.members import Member

Create = rpc_pb2.WatchCreateRequest
PUT, DELETE = kv_pb2.Event.PUT, kv_pb2.Event.DELETE
COMPACTED_TEXT = "etcdserver: mvcc: required revision has been compacted"


@pytest.fixture
def watch(client: Client) -> Iterator[WatchStream]:
    with client.watching() as stream:
        yield stream


class TestCreate:
    def test_created_comes_first_with_the_current_revision(
        self, client: Client, watch: WatchStream, prefix: bytes
    ) -> None:
        revision = client.put(prefix, b"before").header.revision
        watch.create(prefix)
        created = watch.next()
        assert (created.created, created.canceled, created.watch_id) == (True, False, 0)
        assert created.header.revision == revision
        assert created.header.cluster_id != 0
        assert list(created.events) == []
        put = client.put(prefix, b"after")
        response = watch.next()
        (event,) = response.events
        assert (event.type, event.kv.key, event.kv.value) == (PUT, prefix, b"after")
        assert event.kv.mod_revision == put.header.revision == response.header.revision
        assert (event.kv.version, event.HasField("prev_kv"), response.created) == (2, False, False)

    def test_ids_count_from_zero_and_skip_those_in_use(self, watch: WatchStream, prefix: bytes) -> None:
        ids = []
        for wanted in (0, 2, 0, 0, 7):
            watch.create(prefix, watch_id=wanted)
            ids.append(watch.next().watch_id)
        assert ids == [0, 2, 1, 3, 7]

    def test_negative_id_is_taken_as_given(self, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix, watch_id=-5)
        assert watch.next().watch_id == -5

    def test_duplicate_id(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix, watch_id=5)
        watch.next()
        watch.create(prefix, watch_id=5)
        refused = watch.next()
        assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
        assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
        client.put(prefix)
        assert watch.next().watch_id == 5

    @pytest.mark.parametrize(("key", "end"), [(b"b", b"a"), (b"b", b"b"), (b"\xff", b"\x01")])
    def test_empty_range(self, watch: WatchStream, key: bytes, end: bytes) -> None:
        watch.create(key, end)
        refused = watch.next()
        assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
        assert refused.cancel_reason == "mvcc: watcher range is empty"
        assert refused.compact_revision == 0

    def test_negative_start_revision(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix, start_revision=-1)
        refused = watch.next()
        assert (refused.created, refused.canceled, refused.watch_id) == (True, True, -1)
        assert (refused.cancel_reason, refused.compact_revision) == (COMPACTED_TEXT, 0)
        assert refused.header.revision == client.revision()

    def test_empty_key_watches_from_the_smallest_key(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(b"", b"\0")
        assert not watch.next().canceled
        client.put(prefix, b"seen")
        assert watch.next().events[0].kv.value == b"seen"

    def test_empty_requests_are_ignored(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.send(rpc_pb2.WatchRequest())
        watch.create(prefix)
        assert watch.next().created


class TestRanges:
    @pytest.mark.parametrize(
        ("key", "end", "seen"),
        [(b"b", b"", b"b"), (b"a", b"c", b"ab"), (b"b", b"\0", b"bcd"), (b"", b"prefix", b"abcd"), (b"bb", b"d", b"c")],
    )
    def test_only_keys_in_range(
        self, client: Client, watch: WatchStream, prefix: bytes, key: bytes, end: bytes, seen: bytes
    ) -> None:
        range_end = prefix_end(prefix) if end == b"prefix" else b"\0" if end == b"\0" else end and prefix + end
        watch.create(prefix + key, range_end)
        watch.next()
        for letter in (b"a", b"b", b"c", b"d"):
            client.put(prefix + letter)
        assert b"".join(event.kv.key[-1:] for event in watch.events(len(seen))) == seen


class TestEvents:
    def test_delete_carries_key_and_revision_only(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        client.put(prefix, b"v", lease=client.grant(60).ID)
        watch.create(prefix)
        watch.next()
        revision = client.delete(prefix).header.revision
        (event,) = watch.next().events
        assert event == kv_pb2.Event(type=DELETE, kv=kv_pb2.KeyValue(key=prefix, mod_revision=revision))

    def test_previous_pair(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix, prev_kv=True)
        watch.next()
        client.put(prefix, b"1")
        client.put(prefix, b"2")
        client.delete(prefix)
        client.put(prefix, b"3")
        previous = [event.prev_kv.value if event.HasField("prev_kv") else None for event in watch.events(4)]
        assert previous == [None, b"1", b"2", None]

    def test_a_transaction_is_one_response(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        client.put(prefix + b"c")
        watch.create(prefix, prefix_end(prefix))
        watch.next()
        operations = [
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=prefix + b"b")),
            rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=prefix + b"c")),
            rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=prefix + b"a")),
        ]
        revision = client.txn(success=operations).header.revision
        response = watch.next()
        assert [(event.type, event.kv.key[-1:]) for event in response.events] == [
            (PUT, b"b"),
            (DELETE, b"c"),
            (PUT, b"a"),
        ]
        assert {event.kv.mod_revision for event in response.events} == {revision}

    @pytest.mark.parametrize(
        ("filters", "seen"),
        [([], [PUT, DELETE]), ([Create.NOPUT], [DELETE]), ([Create.NODELETE], [PUT]), ([9], [PUT, DELETE])],
    )
    def test_filters(
        self, client: Client, watch: WatchStream, prefix: bytes, filters: list[Any], seen: list[Any]
    ) -> None:
        watch.create(prefix, filters=filters)
        watch.next()
        client.put(prefix)
        client.delete(prefix)
        assert [event.type for event in watch.events(len(seen))] == seen

    def test_both_filters_let_nothing_through(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix, filters=[Create.NOPUT, Create.NODELETE])
        watch.next()
        client.put(prefix)
        assert watch.quiet_for(0.3)


class TestHistory:
    def test_from_a_past_revision(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        revisions = [client.put(prefix, b"%d" % number).header.revision for number in range(5)]
        deleted = client.delete(prefix).header.revision
        watch.create(prefix, start_revision=revisions[2], prev_kv=True)
        assert watch.next().created
        events = watch.events(4)
        assert [event.kv.mod_revision for event in events] == [*revisions[2:], deleted]
        assert [event.prev_kv.value for event in events] == [b"1", b"2", b"3", b"4"]
        client.put(prefix, b"live")
        assert watch.next().events[0].kv.value == b"live"

    def test_from_a_future_revision(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        now = client.revision()
        watch.create(prefix, start_revision=now + 3)
        assert watch.next().created
        for number in range(4):
            client.put(prefix, b"%d" % number)
        assert [event.kv.value for event in watch.events(2)] == [b"2", b"3"]

    def test_long_history_comes_whole_and_in_order(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        first = client.put(prefix, b"0").header.revision
        for number in range(1, 1500):
            client.put(prefix, b"%d" % number)
        watch.create(prefix, start_revision=first)
        watch.next()
        revisions = [event.kv.mod_revision for event in watch.events(1500, seconds_max=10)]
        assert revisions == list(range(first, first + 1500))


class TestCancel:
    def test_cancel(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix)
        watch.create(prefix)
        assert [watch.next().watch_id for _ in range(2)] == [0, 1]
        watch.cancel(0)
        cancelled = watch.next()
        assert (cancelled.watch_id, cancelled.canceled, cancelled.created) == (0, True, False)
        assert (cancelled.cancel_reason, cancelled.compact_revision) == ("", 0)
        client.put(prefix)
        assert watch.next().watch_id == 1
        assert watch.quiet_for(0.1)

    def test_unknown_id_is_ignored(self, watch: WatchStream, prefix: bytes) -> None:
        watch.cancel(77)
        watch.create(prefix)
        assert watch.next().created

    def test_half_close_keeps_the_watchers(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix)
        watch.next()
        watch.half_close()
        client.put(prefix, b"still here")
        assert watch.next().events[0].kv.value == b"still here"


class TestProgress:
    def test_on_request_when_all_are_synced(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        watch.create(prefix)
        watch.next()
        revision = client.put(b"elsewhere").header.revision
        watch.request_progress()
        progress = watch.next()
        assert (progress.watch_id, list(progress.events), progress.created) == (-1, [], False)
        assert progress.header.revision >= revision

    def test_a_stream_without_watchers_is_not_answered(self, watch: WatchStream) -> None:
        watch.request_progress()
        assert watch.quiet_for(0.3)

    def test_notify_by_itself(self, member: Member, client: Client, prefix: bytes) -> None:
        """The interval is ten minutes by default: nothing may come soon."""
        with client.watching() as watch:
            watch.create(prefix, progress_notify=True)
            watch.next()
            assert watch.quiet_for(0.3)


class TestManyWatchers:
    def test_each_gets_its_own(self, client: Client, watch: WatchStream, prefix: bytes) -> None:
        for number in range(50):
            watch.create(prefix + b"%02d" % (number % 10))
        assert sorted(watch.next().watch_id for _ in range(50)) == list(range(50))
        client.put(prefix + b"03")
        assert sorted(watch.next().watch_id for _ in range(5)) == [3, 13, 23, 33, 43]
        assert watch.quiet_for(0.1)

    def test_streams_are_apart(self, client: Client, prefix: bytes) -> None:
        with client.watching() as first, client.watching() as second:
            first.create(prefix)
            second.create(prefix)
            assert (first.next().watch_id, second.next().watch_id) == (0, 0)
            first.close()
            client.put(prefix, b"v")
            assert second.next().events[0].kv.value == b"v"


def test_fragments(client: Client, watch: WatchStream, prefix: bytes) -> None:
    """Three values of 1 MiB in one revision of history: more than one message may carry."""
    start = client.put(prefix + b"a", bytes(1 << 20)).header.revision
    client.put(prefix + b"b", bytes(1 << 20))
    client.put(prefix + b"c", bytes(1 << 20))
    watch.create(prefix, prefix_end(prefix), start_revision=start, fragment=True)
    assert watch.next().created
    parts = [watch.next() for _ in range(3)]
    assert [part.fragment for part in parts] == [True, True, False]
    assert [len(part.events) for part in parts] == [1, 1, 1]
    watch.create(prefix, prefix_end(prefix), start_revision=start)
    assert watch.next().created
    whole = watch.next()
    assert (whole.fragment, len(whole.events)) == (False, 3)


def test_a_metadata_that_asks_for_a_leader_is_served(client: Client, prefix: bytes) -> None:
    with client.watching(metadata=(("hasleader", "true"),)) as watch:
        watch.create(prefix)
        assert watch.next().created


def test_start_before_the_compaction(client: Client, watch: WatchStream, prefix: bytes) -> None:
    first = client.put(prefix, b"1").header.revision
    kept = client.put(prefix, b"2").header.revision
    client.put(prefix, b"3")
    client.compact(kept)
    watch.create(prefix, start_revision=first)
    assert watch.next().created
    cancelled = watch.next()
    assert (cancelled.canceled, cancelled.compact_revision, cancelled.cancel_reason) == (True, kept, "")
    assert cancelled.watch_id == 0
    watch.create(prefix, start_revision=kept, prev_kv=True)
    assert watch.next().created
    events = watch.events(2)
    assert [event.kv.value for event in events] == [b"2", b"3"]
    assert [event.HasField("prev_kv") for event in events] == [False, True]


def test_the_server_stops(member: Member, prefix: bytes) -> None:
    with Client.of(member) as other, other.watching() as watch:
        watch.create(prefix)
        watch.next()
        member.stop()
        ended = watch.wait_ended()
    member.start()
    assert isinstance(ended, Refusal)
    assert ended.code in {"Unavailable", "Canceled"}
