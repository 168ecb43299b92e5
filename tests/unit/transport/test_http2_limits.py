"""Every flood ends in a named refusal, at its bound and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.transport import frames
from etcdpy.transport.frames import ErrorCode, frame
from tests.support.wire import Wire, message

if TYPE_CHECKING:
    import pytest

CALM = ErrorCode.ENHANCE_YOUR_CALM


def flood(wire: Wire, one: bytes, bound: int, reason: bytes) -> None:
    """`bound` frames pass, the next one ends the connection."""
    for _ in range(bound):
        wire.send(one)
    assert wire.goaway() is None
    wire.send(one)
    assert wire.goaway() == (CALM, reason)
    assert wire.connection.wants_close


def test_rapid_reset() -> None:
    wire = Wire()
    for number in range(limits.RESETS_BURST + 1):
        assert not wire.connection.wants_close
        wire.request(2 * number + 1, path="/t.T/Hold")
        wire.send(frames.rst_stream(2 * number + 1, ErrorCode.CANCEL))
    assert wire.goaway() == (CALM, b"too many resets")
    assert not wire.connection.streams


def test_resets_are_allowed_again_with_time() -> None:
    wire = Wire()
    for number in range(limits.RESETS_BURST):
        wire.request(2 * number + 1, path="/t.T/Hold")
        wire.send(frames.rst_stream(2 * number + 1, ErrorCode.CANCEL))
    wire.clock.time += 1
    for number in range(limits.RESETS_BURST, limits.RESETS_BURST + limits.RESETS_PER_SECOND):
        wire.request(2 * number + 1, path="/t.T/Hold")
        wire.send(frames.rst_stream(2 * number + 1, ErrorCode.CANCEL))
    assert wire.goaway() is None


def test_resets_that_the_client_provokes_count_too() -> None:
    wire = Wire()
    for number in range(limits.RESETS_BURST + 1):
        wire.request(2 * number + 1, path="/t.T/Hold", end=False)
        wire.send(frames.window_update(2 * number + 1, 0))
    assert wire.goaway() == (CALM, b"too many resets")


def test_settings_flood() -> None:
    flood(Wire(), frames.settings({}), limits.SETTINGS_BURST - 1, b"too many settings")


def test_ping_flood_without_streams() -> None:
    wire = Wire()
    flood(wire, frames.ping(b"12345678", ack=False), 3, b"too_many_pings")


def test_ping_flood_where_pings_are_free() -> None:
    """What answers them earns nothing."""
    wire = Wire(ping_min_seconds=0)
    wire.request(1, path="/t.T/Hold")
    one = frames.ping(b"12345678", ack=False)
    for _ in range(limits.CONTROL_FRAMES_BURST - 1):
        wire.send(one)
        wire.connection.sent(len(frames.ping(b"12345678", ack=True)))
    flood(wire, one, 1, b"too many control frames")


def test_window_update_flood() -> None:
    flood(Wire(), frames.window_update(0, 1), limits.CONTROL_FRAMES_BURST, b"too many control frames")


def test_what_is_sent_earns_control_frames() -> None:
    wire = Wire()
    for _ in range(limits.CONTROL_FRAMES_BURST):
        wire.send(frames.window_update(0, 1))
    wire.connection.sent(10 * limits.CONTROL_FRAME_PER_SENT_BYTES)
    flood(wire, frames.window_update(0, 1), 10, b"too many control frames")


def test_a_window_update_for_each_answer_is_no_flood() -> None:
    wire = Wire()
    for _ in range(5 * limits.CONTROL_FRAMES_BURST):
        wire.send(frames.window_update(0, 1))
        wire.connection.sent(51)
    assert wire.goaway() is None


def test_priority_and_unknown_frame_flood() -> None:
    one = frame(frames.PRIORITY, 0, 3, b"\0\0\0\0\1")
    flood(Wire(), one, limits.CONTROL_FRAMES_BURST, b"too many control frames")
    flood(Wire(), frame(77, 0, 3, b"?"), limits.CONTROL_FRAMES_BURST, b"too many control frames")


def test_empty_data_flood() -> None:
    wire = Wire()
    wire.request(1, None, end=False)
    flood(wire, frame(frames.DATA, 0, 1, b""), limits.EMPTY_FRAMES_BURST, b"too many empty frames")


def test_continuation_flood() -> None:
    wire = Wire()
    wire.send(frame(frames.HEADERS, 0, 1, b"\x00"))
    flood(
        wire,
        frame(frames.CONTINUATION, 0, 1, b"\x00"),
        limits.CONTINUATION_FRAMES_MAX,
        b"too many CONTINUATION frames",
    )


def test_header_block_too_large() -> None:
    wire = Wire()
    wire.send(frame(frames.HEADERS, 0, 1, b"\0" * 16384))
    for _ in range(limits.HEADER_BLOCK_BYTES_MAX // 16384 - 1):
        wire.send(frame(frames.CONTINUATION, 0, 1, b"\0" * 16384))
    assert not wire.connection.wants_close
    wire.send(frame(frames.CONTINUATION, 0, 1, b"\0"))
    assert wire.goaway() == (CALM, b"header block too large")


def test_header_bomb_costs_its_stream_and_leaves_the_table_in_step() -> None:
    wire = Wire()
    wire.request(1, bomb="v" * 3000)  # indexed; then referred to again and again
    assert wire.status(1) == ("0", "")
    block = wire.encoder.encode([("bomb", "v" * 3000)]) * 40
    wire.send(frame(frames.HEADERS, frames.FLAG_END_HEADERS | frames.FLAG_END_STREAM, 3, block))
    assert [(one.stream, one.code) for one in wire.take()] == [(3, ErrorCode.FRAME_SIZE_ERROR)]
    wire.request(5)
    assert wire.status(5) == ("0", "")


def test_too_many_streams_are_refused() -> None:
    wire = Wire(max_streams=2)
    for stream in (1, 3, 5, 7):
        wire.request(stream, path="/t.T/Hold")
    assert [(one.stream, one.code) for one in wire.take()] == [
        (5, ErrorCode.REFUSED_STREAM),
        (7, ErrorCode.REFUSED_STREAM),
    ]
    wire.held[0].finish(b"")
    wire.request(9, path="/t.T/Hold")
    assert len(wire.connection.streams) == 2


def test_the_stream_limit_is_advertised_only_if_there_is_one() -> None:
    def advertised(wire: Wire) -> dict[int, int]:
        (settings,) = [one for one in wire.take() if one.kind == frames.SETTINGS]
        return dict(frames.parse_settings(settings.payload))

    assert advertised(Wire(max_streams=7, greet=False))[frames.SETTING_MAX_CONCURRENT_STREAMS] == 7
    assert frames.SETTING_MAX_CONCURRENT_STREAMS not in advertised(Wire(greet=False))


def test_a_stream_that_is_not_read_stops_at_its_window() -> None:
    wire = Wire()
    wire.request(1, None, path="/t.T/Talk", end=False)
    chunk = frame(frames.DATA, 0, 1, message(b"x" * 16379))
    for _ in range(limits.STREAM_WINDOW_BYTES // 16384):
        wire.send(chunk)
    assert not [one for one in wire.take() if one.kind == frames.WINDOW_UPDATE and one.stream == 1]
    wire.send(chunk)
    assert [one.code for one in wire.take() if one.kind == frames.RST_STREAM] == [ErrorCode.FLOW_CONTROL_ERROR]
    assert wire.connection.held_bytes == 0


def test_what_a_connection_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_REQUEST_BYTES_MAX", 40_000)
    wire = Wire()
    for stream in (1, 3, 5):
        wire.request(stream, None, end=False)
        wire.send(frame(frames.DATA, 0, stream, message(b"x" * 16000, length=500_000)))
    assert [(one.stream, one.code) for one in wire.take()] == [(5, CALM)]
    assert wire.connection.held_bytes == 2 * 16005


def test_new_streams_are_refused_while_too_much_waits_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_ANSWER_BYTES_MAX", 100_000)
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 0})
    wire.request(1, path="/t.T/Hold")
    wire.held[0].finish(b"x" * 200_000)
    wire.request(3)
    assert (3, ErrorCode.REFUSED_STREAM) in [(one.stream, one.code) for one in wire.take()]
    wire.send(frames.window_update(1, 300_000) + frames.window_update(0, 300_000))
    wire.take()
    wire.request(5, b"")
    assert wire.connection.pending_bytes == 5  # the answer to stream 5, whose window is still zero


def test_known_blocks_are_refused_while_too_much_waits_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_ANSWER_BYTES_MAX", 1000)
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 0})
    for stream in (1, 3):
        wire.request(stream, b"x" * 600)
    wire.request(5)
    assert [(one.stream, one.code) for one in wire.take() if one.kind == frames.RST_STREAM] == [
        (5, ErrorCode.REFUSED_STREAM)
    ]


def test_a_client_that_reads_nothing_is_dropped_at_the_hard_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_ANSWER_BYTES_HARD_MAX", 10_000)
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 0})
    for stream in range(1, 41, 2):
        wire.request(stream, b"x" * 600)
    assert wire.goaway() == (CALM, b"too many bytes wait to be read")
    assert not wire.connection.streams
    assert wire.connection.pending_bytes == 0
