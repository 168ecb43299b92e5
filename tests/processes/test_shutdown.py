"""SIGTERM: no new calls, those under way are answered, and the process ends with 0 within 1.5 s."""

from __future__ import annotations

import queue
import signal
import threading
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.support.client import Client, Refusal, prefix_end, refusal_of
from tests.support.members import Member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcdpy.proto import rpc_pb2

STOP_SECONDS_MAX = 1.5


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    running = Member("etcdpy", tmp_path)
    running.start()
    yield running
    running.kill()


def stop(member: Member, number: signal.Signals = signal.SIGTERM) -> float:
    """Signal it and wait; returns the seconds that the end took."""
    assert member.process is not None
    begun = time.monotonic()
    member.process.send_signal(number)
    status = member.wait_ended()
    took = time.monotonic() - begun
    assert status == 0, f"ended with {status}:\n{member.log_tail()}"
    return took


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_member_ends_promptly(member: Member, number: signal.Signals) -> None:
    assert stop(member, number) < STOP_SECONDS_MAX
    assert '"level":"error"' not in member.log_text()


def test_open_streams_do_not_hold_it_up(member: Member) -> None:
    """A watch, a keepalive and an idle connection are open; the streams are told that the server goes."""
    with Client.of(member) as client, client.watching() as watch:
        watch.create(b"k", b"\0")
        watch.next()
        still: queue.SimpleQueue[rpc_pb2.LeaseKeepAliveRequest | None] = queue.SimpleQueue()
        keepalive = client.lease.LeaseKeepAlive(iter(still.get, None))
        client.put(b"k", b"v")
        assert watch.next().events
        assert stop(member) < STOP_SECONDS_MAX
        ended = watch.wait_ended()
        assert ended.code in {"Unavailable", "Canceled"}, ended
        still.put(None)
        keepalive.cancel()  # type: ignore[no-untyped-call]


def test_calls_under_way_are_answered_and_what_was_answered_is_kept(member: Member) -> None:
    answered: dict[bytes, int] = {}
    refused: list[Refusal] = []
    go = threading.Event()

    def write(index: int) -> None:
        with Client(member.endpoint) as client:
            number = 0
            while True:
                number += 1
                key = b"/drain/%d/%06d" % (index, number)
                try:
                    answered[key] = client.put(key, bytes(100)).header.revision
                except grpc.RpcError as error:
                    refused.append(refusal_of(error))
                    return
                if number > 30:
                    go.set()

    writers = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for writer in writers:
        writer.start()
    assert go.wait(20)
    took = stop(member)
    for writer in writers:
        writer.join()
    assert took < STOP_SECONDS_MAX
    assert {refusal.code for refusal in refused} <= {"Unavailable", "Canceled"}, refused
    member.start()
    with Client.of(member) as client:
        kept = {kv.key: kv.mod_revision for kv in client.range(b"/drain/", prefix_end(b"/drain/")).kvs}
    assert {key: kept.get(key) for key in answered} == answered
    # A write that was cut off may have been stored, but at most the one that each writer had under way.
    assert len(kept) - len(answered) <= len(writers)


def test_it_starts_again_after_a_stop(member: Member) -> None:
    with Client.of(member) as client:
        revision = client.put(b"kept", b"v").header.revision
    stop(member)
    member.start()
    with Client.of(member) as client:
        answer = client.range(b"kept")
    assert (answer.kvs[0].mod_revision, answer.header.revision) == (revision, revision)


def test_a_second_member_on_the_same_data_is_refused(member: Member, tmp_path: Path) -> None:
    """The data directory is locked while a member runs; the second waits or says so, and harms nothing."""
    second = Member("etcdpy", tmp_path, name="m2")
    second.data_dir = member.data_dir
    second.launch()
    try:
        deadline = time.monotonic() + 3
        while second.running and time.monotonic() < deadline:
            assert "ready to serve client requests" not in second.log_text()
            time.sleep(0.05)
    finally:
        second.kill()
    with Client.of(member) as client:
        client.put(b"still", b"here")
