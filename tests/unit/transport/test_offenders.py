"""Who floods is slowed down; who stands beside is not; and what is gone is gone at once."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from etcdpy import limits, work_limits
from etcdpy.transport import frames
from etcdpy.transport.frames import PREFACE
from etcdpy.transport.offenders import Offenders
from etcdpy.transport.server import Server
from tests.support.wire import Wire


def test_new_connections_of_an_offender_come_one_after_the_other() -> None:
    box = Offenders()
    assert box.wait_seconds("h:1", 0.0) == 0
    box.note("h:1", 0.0)
    assert box.wait_seconds("other:1", 1.0) == 0
    pace = work_limits.OFFENDER_PACE_SECONDS
    assert [box.wait_seconds(f"h:{port}", 1.0) for port in range(3)] == pytest.approx([0, pace, 2 * pace])
    waits = [box.wait_seconds("h:9", 1.0) for _ in range(100)]
    assert waits[-1] is None, "too many wait"
    assert box.wait_seconds("h:9", work_limits.OFFENCE_SECONDS) == 0, "forgotten"


def test_few_offenders_are_remembered() -> None:
    box = Offenders()
    for number in range(work_limits.OFFENDERS_MAX + 10):
        box.note(f"h{number}:1", 0.0)
    assert box.wait_seconds("h0:1", 0.1) == 0
    assert box.wait_seconds("@", 0.1) == 0


def test_who_resets_many_streams_gets_short_turns() -> None:
    wire = Wire()
    for number in range(work_limits.SUSPECT_RESETS + 2):
        wire.request(2 * number + 1, path="/t.T/Hold")
        wire.send(frames.rst_stream(2 * number + 1, 8))
    before = wire.connection.last_stream
    blocks = b"".join(frames.frame(1, 4, before + 2 * number, wire.encoder.encode([])) for number in range(1, 100))
    wire.connection.receive(blocks)
    assert wire.connection.behind
    assert (wire.connection.last_stream - before) // 2 <= work_limits.SUSPECT_REQUESTS_PER_TURN + 1


def test_a_flood_is_an_offence_and_an_error_is_none() -> None:
    wire = Wire()
    for _ in range(limits.SETTINGS_BURST + 1):
        wire.send(frames.settings({}))
    assert wire.connection.offended
    wire = Wire()
    wire.send(frames.frame(frames.PUSH_PROMISE, 0, 1, b""))
    assert wire.connection.wants_close
    assert not wire.connection.offended


def test_lost_connections_need_no_garbage_collector() -> None:
    """Found by the flood of idle connections: old objects that refer to themselves are never collected here."""

    async def scenario() -> None:
        server = Server({})
        listeners = await server.listen(["http://127.0.0.1:0"])
        port = int(listeners[0].address[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(PREFACE + frames.settings({}))
        await asyncio.sleep(0.1)
        gone: list[weakref.ref[object]] = [weakref.ref(each) for each in server.connections]
        gone += [weakref.ref(each.connection) for each in server.connections]  # type: ignore[attr-defined]
        writer.close()
        await asyncio.sleep(0.1)
        assert [each() for each in gone] == [None, None]
        await server.close()

    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()
