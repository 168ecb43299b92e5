"""What one turn of the loop takes from a connection is bounded by its cost, not by its bytes alone.

Found by tests/fuzz, where 64 KiB of small requests held the loop for 25 to 57 ms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy import work_limits
from etcdpy.transport import frames
from etcdpy.transport.frames import frame
from tests.support.wire import Wire, headers, message

if TYPE_CHECKING:
    from collections.abc import Callable


def known_heads(wire: Wire, number: int) -> bytes:
    block = wire.encoder.encode(headers(path="/t.T/Echo"))
    return frame(1, 4, 2 * number + 1, block) + frame(0, 1, 2 * number + 1, message(b""))


def new_heads(wire: Wire, number: int) -> bytes:
    block = wire.encoder.encode(headers(path="/t.T/Echo", x=str(number)))
    return frame(1, 4, 2 * number + 1, block) + frame(0, 1, 2 * number + 1, message(b""))


def unknown_methods(wire: Wire, number: int) -> bytes:
    block = wire.encoder.encode(headers(path="/t.T/Nope"))
    return frame(1, 4, 2 * number + 1, block) + frame(0, 1, 2 * number + 1, message(b""))


@pytest.mark.parametrize("make", [known_heads, new_heads, unknown_methods])
def test_requests(make: Callable[[Wire, int], bytes]) -> None:
    wire, count = Wire(), 1500
    connection = wire.connection
    connection.receive(b"".join(make(wire, number) for number in range(count)))
    turns, before = 1, -1
    while connection.behind:
        taken = (connection.last_stream - before) // 2
        assert 0 < taken <= work_limits.REQUESTS_PER_TURN + 1
        before = connection.last_stream
        connection.receive(b"")
        turns += 1
    assert turns >= count // work_limits.REQUESTS_PER_TURN
    assert connection.last_stream == 2 * count - 1
    assert not connection.streams


def test_small_frames_and_small_messages() -> None:
    for made in (frames.window_update(0, 1) * 4000, frame(0, 0, 1, message(b"") * 3000) * 4):
        wire = Wire()
        wire.request(1, None, path="/t.T/Talk", end=False)
        wire.connection.receive(made)
        assert wire.connection.behind
        while wire.connection.behind:
            wire.connection.receive(b"")
        assert not wire.connection.wants_close


def test_a_few_requests_and_a_large_one_take_one_turn() -> None:
    wire = Wire()
    wire.connection.receive(b"".join(known_heads(wire, number) for number in range(200)))
    assert not wire.connection.behind
    wire.connection.receive(frame(0, 0, 401, b"")[:5])
    assert not wire.connection.behind, "half a frame is nothing to come back for"
