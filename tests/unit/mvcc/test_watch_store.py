"""The hub and the lessor on a real store: history, previous values and compaction as they are on disk."""

from __future__ import annotations

from random import Random

from etcdpy.lease.lessor import Lessor
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.txn import delete_range_in_slices
from etcdpy.mvcc.watch import WatchHub
from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.memory_backend import MemoryBackend
from tests.support.watch import MemoryOutbox, create


class Member:
    """Store, lessor and hub, put together as a server does."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.lessor = Lessor(self.backend, minimum_ttl=2)
        self.store = Store.open(self.backend, self.lessor)
        self.store.changes = []
        self.hub = WatchHub(BackendHistory(self.backend, self.store), cluster_id=1, member_id=2, random=Random(1))

    def notify(self) -> None:
        assert self.store.changes is not None
        changes, self.store.changes = self.store.changes, []
        self.hub.notify(changes)

    def compact(self, revision: int) -> None:
        self.store.compact(revision)
        for _ in self.store.compaction_steps():
            pass

    def settle(self) -> None:
        while self.hub.sync_slice():
            pass


def test_history_equals_what_was_seen_live() -> None:
    member = Member()
    random = Random(5)
    live = MemoryOutbox()
    for prev_kv in (False, True):
        member.hub.open_stream(live, 0.0).create(create(b"k", b"l", prev_kv=prev_kv, watch_id=1 + prev_kv))
    live.take()
    for number in range(400):
        key = b"k%d" % random.randrange(5)
        if random.random() < 0.3:
            member.store.delete_range(key, random.choice([b"", b"l"]))
        else:
            member.store.put(key, b"%d" % number)
        member.notify()
    late = MemoryOutbox()
    for prev_kv in (False, True):
        stream = member.hub.open_stream(late, 0.0)
        stream.create(create(b"k", b"l", prev_kv=prev_kv, watch_id=1 + prev_kv, start_revision=1))
    member.settle()
    for watch_id in (1, 2):
        seen = [event for response in live.messages_of(watch_id) for event in response.events]
        assert len(seen) > 300
        assert [event for response in late.messages_of(watch_id) for event in response.events] == seen
    assert any(event.HasField("prev_kv") for response in live.messages_of(2) for event in response.events)


def test_after_a_compaction() -> None:
    member = Member()
    for value in (b"2", b"3", b"4"):
        member.store.put(b"k", value)
    member.store.delete_range(b"k")
    member.store.put(b"k", b"6")
    member.compact(5)
    outbox = MemoryOutbox()
    stream = member.hub.open_stream(outbox, 0.0)
    stream.create(create(b"k", watch_id=1, start_revision=4))
    stream.create(create(b"k", watch_id=2, start_revision=5, prev_kv=True))
    member.settle()
    responses = outbox.take()[2:]
    assert [(r.watch_id, r.canceled, r.compact_revision) for r in responses] == [(1, True, 5), (2, False, 0)]
    deleted, put = responses[1].events
    assert deleted == kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv_pb2.KeyValue(key=b"k", mod_revision=5))
    assert (put.kv.value, put.HasField("prev_kv")) == (b"6", False)


def test_a_revoked_lease_is_one_response() -> None:
    member = Member()
    member.lessor.promote(0.0, 0.0)
    member.lessor.grant(7, 10, 0.0)
    outbox = MemoryOutbox()
    member.hub.open_stream(outbox, 0.0).create(create(b"", b"\x00", filters=[0]))
    for key in (b"c", b"a", b"b", b"d"):
        member.store.put(key, b"v", 7)
    member.store.put(b"d", b"without a lease")
    member.notify()
    outbox.take()
    assert member.lessor.expired(10.0, 10) == [7]
    transaction = member.store.begin()
    for key in member.lessor.revoke(7):
        transaction.delete_range(key)
    member.notify()
    (response,) = outbox.take()
    assert [(event.kv.key, event.kv.mod_revision) for event in response.events] == [(b"a", 7), (b"b", 7), (b"c", 7)]
    assert member.store.current_revision == 7
    assert member.store.get(b"d") is not None
    assert member.lessor.expired_total == 1


def test_leases_over_a_restart() -> None:
    member = Member()
    member.lessor.grant(7, 10, 0.0)
    member.store.put(b"a", b"v", 7)
    member.store.put(b"b", b"v", 7)
    member.store.put(b"b", b"v")
    lessor = Lessor(member.backend, minimum_ttl=2)
    lessor.restore()
    store = Store.open(member.backend, lessor)
    for key, lease in store.leased_keys():
        lessor.attach(lease, key)
    assert lessor.keys_of(7) == [b"a"]


KEYS = 12_000


class Endless(MemoryOutbox):
    """Takes whatever comes."""

    def send(self, message: bytes) -> None:
        self.messages.append(message)


def watchers_of(member: Member) -> MemoryOutbox:
    outbox = Endless()
    stream = member.hub.open_stream(outbox, 0.0)
    for number, request in enumerate(
        (
            create(b"k", b"l"),
            create(b"k", b"l", prev_kv=True, fragment=True),
            create(b"\0", b"\0", filters=[rpc_pb2.WatchCreateRequest.NOPUT]),
            create(b"\0", b"\0", filters=[rpc_pb2.WatchCreateRequest.NODELETE]),
            create(b"k00500", b"k00700"),
            create(b"k00000", b"k07000"),
            create(b"k00042"),
            create(b"other"),
            create(b"a", b"b"),
            create(b"k", b"l", start_revision=KEYS + 2),
            create(b"k", b"l", start_revision=KEYS + 3),
        )
    ):
        request.watch_id = number + 1
        stream.create(request)
    outbox.take()
    return outbox


def test_a_revision_of_many_changes_reaches_watchers_in_slices() -> None:
    """A watcher gets the same as from a revision that is handed out in one piece: one response, or fragments of it."""
    seen = []
    for in_slices in (False, True):
        member = Member()
        member.store.put_run([b"k%05d" % number for number in range(KEYS)], [b"v" * 300] * KEYS)
        member.notify()
        outbox = watchers_of(member)
        if in_slices:
            finish(delete_range_in_slices(member.store, rpc_pb2.DeleteRangeRequest(key=b"k", range_end=b"l")))
            assert member.store.unnoted is not None
            member.hub.leave_to_history(*member.store.unnoted)
            assert member.hub.slow_watchers == 8, "all but those of other keys and of later revisions"
        else:
            member.store.delete_range(b"k", b"l")
            member.notify()
        slices = 0
        for key in (b"k00042", b"a", b"other"):  # goes on meanwhile
            member.store.put(key, b"w")
            member.notify()
            slices += member.hub.sync_slice()
        while member.hub.sync_slice():
            slices += 1
        assert not in_slices or slices > 20
        assert member.hub.slow_watchers == 0
        assert bool(outbox.sent_in_parts) == in_slices, "joining what is large would hold the loop as well"
        responses = {number: outbox.messages_of(number) for number in range(1, 12)}
        seen.append({number: [event for each in found for event in each.events] for number, found in responses.items()})
        assert len(responses[1][0].events) in (KEYS, KEYS + 1)
        marks = [each.fragment for each in responses[2]]
        assert True in marks
        assert len(seen[-1][2]) == KEYS + 1
    assert seen[0] == seen[1]
    assert [len(seen[0][number]) for number in range(1, 12)] == [
        KEYS + 1, KEYS + 1, KEYS, 3, 200, 7001, 2, 1, 1, KEYS + 1, 1
    ]  # fmt: skip
