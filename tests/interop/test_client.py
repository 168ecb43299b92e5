"""`etcdpy.client` on real etcd and on etcdpy."""

from __future__ import annotations

import contextlib
import functools
import operator
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc
import pytest

from etcdpy.client import Client, ClientClosed, NotHeld, WatchCompacted, WatchEnded, blocking, op
from etcdpy.errors import Code, EmptyKey, LeaseNotFound, StatusError
from tests.support.client import wait_until
from tests.support.cluster import listener

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.members import Member


@pytest.fixture(scope="module")
def connected(member: Member) -> Iterator[Client]:
    with Client(member.endpoint) as client:
        yield client


@pytest.fixture
def inside(connected: Client, prefix: bytes) -> Client:
    """A client whose keys are its own."""
    return connected.namespace(prefix)


def test_keys(inside: Client) -> None:
    put = inside.put("a", "1")
    assert inside.put("a", b"2", prev_kv=True).prev_kv.value == b"1"
    record = inside.get("a").kvs[0]
    assert (record.key, record.value, record.version) == (b"a", b"2", 2)
    assert inside.get("a", revision=put.header.revision).kvs[0].value == b"1"
    inside.txn(then=[op.put(f"p/{number}") for number in range(3)])
    assert [found.key for found in inside.get("p/", prefix=True, keys_only=True, limit=2).kvs] == [b"p/0", b"p/1"]
    assert inside.get("", prefix=True, count_only=True).count == 4
    assert inside.delete("p/1", from_key=True).deleted == 2
    assert [found.key for found in inside.delete("a", prev_kv=True).prev_kvs] == [b"a"]


def test_transactions(inside: Client) -> None:
    create = op.txn(when=[op.version("a") == 0], then=[op.put("a", "1")], otherwise=[op.get("a")])
    assert inside.do(create).succeeded
    again = inside.do(create)
    assert not again.succeeded
    assert again.responses[0].response_range.kvs[0].key == b"a"


def test_errors_are_etcds(inside: Client, member: Member) -> None:
    with Client(member.endpoint) as client, pytest.raises(EmptyKey):
        client.put("", "x")
    with pytest.raises(LeaseNotFound):
        inside.put("a", lease=12345)


@pytest.mark.parametrize("goes_below", [True, False])
def test_calls_end_alike_by_both_ways_into_grpcio(goes_below: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers here, then somebody answers nonsense."""
    assert blocking._GOES_BELOW, "grpcio has changed inside: calls are slower than they could be"
    monkeypatch.setattr(blocking, "_GOES_BELOW", goes_below)
    with listener() as silent, Client(f"127.0.0.1:{silent.getsockname()[1]}", timeout=30) as client:
        with pytest.raises(StatusError) as raised:
            client.get("a", timeout=0.05)
        assert raised.value.code is Code.DEADLINE_EXCEEDED
        ended: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

        def call() -> None:
            try:
                client.get("a")
            except ClientClosed as error:
                ended.put(error)

        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        caller.join(0.05)
        client.close()
        assert isinstance(ended.get(timeout=5), ClientClosed)
        with pytest.raises(ClientClosed):
            client.get("a")
    with answering(b"\xff") as endpoint, Client(endpoint) as client, pytest.raises(StatusError) as raised:
        client.get("a")
    assert (raised.value.code, raised.value.message) == (Code.INTERNAL, "Exception deserializing response!")


@contextlib.contextmanager
def answering(body: bytes) -> Iterator[str]:
    """The endpoint of a server that answers each read so."""
    handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: body)
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("etcdserverpb.KV", {"Range": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_without_a_server_the_time_of_a_call_runs_out() -> None:
    with Client("127.0.0.1:1", timeout=0.1) as client, pytest.raises(StatusError) as raised:
        client.get("a")
    assert raised.value.code is Code.DEADLINE_EXCEEDED


def test_a_watcher_sees_what_happens_after_it_was_made(inside: Client) -> None:
    inside.put("w/0")
    with inside.watch("w/", prefix=True, prev_kv=True) as watch:
        inside.put("w/1", "a")
        inside.put("other")
        inside.put("w/1", "b")
        inside.delete("w/1")
        events = iter(watch)
        seen = [next(events) for _ in range(3)]
    assert [(event.type, event.kv.key, event.prev_kv.value) for event in seen] == [
        (0, b"w/1", b""),
        (0, b"w/1", b"a"),
        (1, b"w/1", b"b"),
    ]
    assert next(events, None) is None
    with pytest.raises(WatchEnded):
        watch.next()


def test_a_watcher_is_told_of_its_progress_when_asked(inside: Client) -> None:
    with inside.watch("w") as watch:
        assert watch.next(timeout=0.01) is None
        inside.put("x")
        deadline = time.monotonic() + 10
        while (answer := watch.next(timeout=0.2)) is None:
            assert time.monotonic() < deadline
            watch.request_progress()
        assert not answer.events
        assert answer.header.revision > watch.header.revision


def test_a_watcher_of_what_is_compacted_is_told_so(inside: Client, connected: Client) -> None:
    first = inside.put("c").header.revision
    last = inside.put("c").header.revision
    connected.compact(last)
    with inside.watch("c", start_revision=first) as watch, pytest.raises(WatchCompacted) as raised:
        watch.next(timeout=10)
    assert raised.value.compact_revision == last


def test_a_lease_is_kept_until_it_is_revoked(inside: Client) -> None:
    with inside.lease(2) as lease:
        inside.put("l", lease=lease.id)
        time.sleep(lease.ttl + 0.7)
        assert lease.alive
        assert list(inside.time_to_live(lease.id, keys=True).keys) == [b"l"]
    assert not lease.alive
    assert not inside.get("l").kvs
    assert not lease.lost


def test_an_owner_is_told_that_the_lease_is_gone(inside: Client) -> None:
    lease = inside.lease(2)
    inside.revoke(lease.id)
    assert lease.wait_lost(5)
    assert lease.lost
    assert not lease.alive
    lease.revoke()


def test_a_range_in_parts(inside: Client) -> None:
    for start in range(0, 250, 50):
        inside.txn(then=[op.put(b"r/%04d" % number, b"v" * 100) for number in range(start, start + 50)])
    keys = [b"r/%04d" % number for number in range(250)]
    pages = []
    for page in inside.pages("r/", prefix=True, size=100):
        pages.append([record.key for record in page.kvs])
        inside.put("r/9", "seen by no later page")
    assert [len(page) for page in pages] == [100, 100, 50]
    assert functools.reduce(operator.iadd, pages, []) == keys
    parts = list(inside.range_stream("r/", prefix=True))
    assert len(parts) > 1
    assert [record.key for part in parts for record in part.kvs] == [*keys, b"r/9"]
    assert parts[-1].count == 251


def test_a_snapshot(inside: Client, tmp_path: Path) -> None:
    inside.put("s", "saved")
    path = tmp_path / "saved.db"
    wait_until(lambda: bool(inside.status().storageVersion))  # a new etcd has none for some seconds
    assert inside.snapshot(path).startswith("3.")
    assert path.stat().st_size % 512 == 32
    assert b"saved" in path.read_bytes()


def test_a_lock_is_held_by_one(inside: Client) -> None:
    first, second = inside.lock("l", ttl=5), inside.lock("l", ttl=5)
    with first:
        assert first.held
        assert inside.get(first.key).kvs
        assert inside.txn([first.is_held()], [op.put("guarded")]).succeeded
        assert not second.try_acquire()
        with pytest.raises(StatusError) as raised:
            second.acquire(timeout=0.2)
        assert raised.value.code is Code.DEADLINE_EXCEEDED
        waiter = threading.Thread(target=second.acquire, daemon=True)
        waiter.start()
        wait_until(lambda: inside.get("l/", prefix=True, count_only=True).count == 2)
        assert not second.held
    waiter.join(10)
    assert second.held
    assert not first.held
    second.release()
    assert inside.get("l/", prefix=True, count_only=True).count == 0


def test_who_lost_a_lock_is_told(inside: Client) -> None:
    lock = inside.lock("l", ttl=5)
    lock.acquire()
    inside.delete(lock.key)
    with pytest.raises(NotHeld):
        lock.release()
    with pytest.raises(NotHeld):
        lock.is_held()
    with inside.lease(5) as lease:
        lock = inside.lock("l", lease=lease)
        lock.acquire()
        inside.revoke(lease.id)
        assert lease.wait_lost(10)
        assert not lock.held


def test_an_election(inside: Client) -> None:
    first, second = inside.election("e", ttl=5), inside.election("e", ttl=5)
    assert first.leader() is None
    seen: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def observe() -> None:
        for leader in inside.election("e").observe():
            seen.put(leader.value)
            if leader.value == b"end":
                return

    observer = threading.Thread(target=observe, daemon=True)
    observer.start()
    first.campaign("one")
    assert seen.get(timeout=10) == b"one"
    leader = second.leader()
    assert leader is not None
    assert (leader.key, leader.value) == (first.key, b"one")
    first.proclaim("two")
    assert seen.get(timeout=10) == b"two"
    candidate = threading.Thread(target=second.campaign, args=("three",), daemon=True)
    candidate.start()
    wait_until(lambda: inside.get("e/", prefix=True, count_only=True).count == 2)
    first.resign()
    candidate.join(10)
    assert second.held
    assert seen.get(timeout=10) == b"three"
    second.proclaim("end")
    observer.join(10)
    assert not observer.is_alive()
    with pytest.raises(NotHeld):
        first.proclaim("four")
    second.resign()


def test_a_closed_client_wakes_who_waits(member: Member) -> None:
    client = Client(member.endpoint)
    watch = client.watch("never")
    ended: list[object] = []
    reader = threading.Thread(target=lambda: ended.append(list(watch)), daemon=True)
    reader.start()
    client.close()
    wait_until(lambda: ended == [[]])
    with pytest.raises(ClientClosed):
        client.get("a")
