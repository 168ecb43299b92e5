"""Streams and windows of an HTTP/2 connection; h2spec covers the rest of the RFC."""

from __future__ import annotations

from etcdpy import limits
from etcdpy.transport import frames
from etcdpy.transport.frames import PREFACE, ErrorCode, frame
from tests.support.wire import FakeTask, Wire, headers, message


def data_bytes(wire: Wire, stream: int) -> int:
    return sum(len(one.payload) for one in wire.take() if one.kind == frames.DATA and one.stream == stream)


def test_a_unary_call_is_three_frames() -> None:
    wire = Wire()
    wire.request(1, b"hello")
    first, body, last = wire.take()
    assert first.fields == {":status": "200", "content-type": "application/grpc"}
    assert body.payload == message(b"hello")
    assert last.fields == {"grpc-status": "0"}
    assert last.flags & frames.FLAG_END_STREAM
    assert not wire.connection.streams


def test_known_header_blocks_are_parsed_once() -> None:
    wire = Wire()
    for stream in range(1, 20, 2):
        wire.request(stream, path="/t.T/Hold")
    heads = {id(call.head) for call in wire.held}
    assert len(heads) == 1
    assert [call.id for call in wire.held] == list(range(1, 20, 2))


def test_the_memo_is_dropped_when_the_table_changes() -> None:
    wire = Wire()
    wire.request(1, one="first")
    wire.request(3, one="first")
    wire.request(5, one="first", two="second")  # adds an entry: every dynamic index moves by one
    wire.request(7, one="first")
    wire.request(9, one="first", path="/t.T/Hold")
    assert [one.stream for one in wire.take() if one.fields.get("grpc-status") == "0"] == [1, 3, 5, 7]
    assert wire.held[0].head.metadata[b"one"] == [b"first"]
    assert b"two" not in wire.held[0].head.metadata


def test_answers_wait_for_the_stream_window() -> None:
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 10})
    wire.request(1, b"x" * 20)
    assert data_bytes(wire, 1) == 10
    wire.send(frames.window_update(1, 10))
    assert data_bytes(wire, 1) == 10
    wire.send(frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 12}))
    assert data_bytes(wire, 1) == 2
    wire.send(frames.window_update(1, 100))
    body, trailers = (one for one in wire.take() if one.stream == 1)
    assert (len(body.payload), trailers.fields) == (3, {"grpc-status": "0"})


def test_what_cannot_go_asks_for_no_turn() -> None:
    """A thousand readers that never read cost a queue's length each, not a flush."""
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 10})
    wire.request(1, path="/t.T/Hold")
    connection, (call,) = wire.connection, wire.held
    for window_is_the_connections in (False, True):
        if window_is_the_connections:
            wire.send(frames.window_update(1, 1 << 20))
        connection.send_data(call, (bytes(70_000),), 70_000)
        wire.take()
        connection.send_data(call, (b"more",), 4)
        assert not connection.dirty
    wire.send(frames.window_update(0, 1 << 20))
    assert data_bytes(wire, 1) > 70_000
    assert call.outbox is None


def test_a_window_may_become_negative() -> None:
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 10})
    wire.request(1, b"x" * 20)
    assert data_bytes(wire, 1) == 10
    wire.send(frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 2}))
    wire.send(frames.window_update(1, 8))
    assert data_bytes(wire, 1) == 0
    wire.send(frames.window_update(1, 1))
    assert data_bytes(wire, 1) == 1


def test_streams_share_the_connection_window_in_turn() -> None:
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 1 << 20})
    wire.request(1, path="/t.T/Hold")
    wire.request(3, path="/t.T/Hold")
    for call in wire.held:
        call.finish(b"x" * 100_000)
    sent = {1: 0, 3: 0}
    for one in wire.take():
        if one.kind == frames.DATA:
            sent[one.stream] += len(one.payload)
            assert len(one.payload) <= frames.FRAME_BYTES_DEFAULT
    assert sum(sent.values()) == frames.WINDOW_DEFAULT
    assert abs(sent[1] - sent[3]) <= frames.FRAME_BYTES_DEFAULT
    wire.send(frames.window_update(0, 1 << 20))
    ended = [one.stream for one in wire.take() if one.fields.get("grpc-status") == "0"]
    assert sorted(ended) == [1, 3]
    assert wire.connection.pending_bytes == 0


def test_a_large_answer_leaves_in_slices() -> None:
    wire = Wire(settings={frames.SETTING_INITIAL_WINDOW_SIZE: 1 << 30})
    wire.send(frames.window_update(0, 1 << 30))
    wire.request(1, path="/t.T/Hold")
    wire.held[0].finish(b"x" * 5_000_000)
    slices = 0
    while wire.connection.out or wire.connection.more:
        data = wire.connection.take()
        assert len(data) <= limits.WRITE_SLICE_BYTES + 2048
        slices += 1
        wire.connection.pump()
    assert slices >= 5_000_000 // limits.WRITE_SLICE_BYTES


def test_nothing_is_sent_while_the_socket_takes_nothing() -> None:
    wire = Wire()
    wire.connection.set_writable(False)
    wire.request(1, b"hello")
    assert not [one for one in wire.take() if one.kind == frames.DATA]
    wire.connection.set_writable(True)
    assert data_bytes(wire, 1) == 10


def test_request_windows_are_given_back_as_bytes_are_read() -> None:
    wire = Wire(max_receive_bytes=1 << 24)
    wire.request(1, None, end=False)
    body = message(b"x" * 3_000_000)
    updates = 0
    for start in range(0, len(body), 16384):
        wire.send(frame(frames.DATA, 0, 1, body[start : start + 16384]))
        updates += sum(
            int.from_bytes(one.payload, "big")
            for one in wire.take()
            if one.kind == frames.WINDOW_UPDATE and one.stream == 1
        )
        if wire.bodies:
            break
    assert wire.bodies == [b"x" * 3_000_000]
    assert updates > 2_000_000
    assert wire.connection.held_bytes == 0


def test_an_answer_before_the_end_of_the_request_stops_the_client() -> None:
    wire = Wire()
    wire.request(1, end=False)
    kinds = [(one.kind, one.code) for one in wire.take()]
    assert kinds[-1] == (frames.RST_STREAM, ErrorCode.NO_ERROR)
    wire.send(frame(frames.DATA, 1, 1, b"late"))
    assert wire.take() == []


def test_reset_frees_what_a_call_holds() -> None:
    wire = Wire()
    gone: list[int] = []
    wire.request(1, path="/t.T/Hold", grpc_timeout="10S")
    call = wire.held[0]
    call.on_cancel = lambda: gone.append(1)
    assert call.slot is not None
    wire.send(frames.rst_stream(1, ErrorCode.CANCEL))
    assert gone == [1]
    assert call.done
    assert call.slot is None
    assert not wire.connection.streams
    call.finish(b"late")
    assert wire.take() == []
    assert call.method.handled[1] == 1


def test_a_lost_connection_reaches_every_call() -> None:
    wire = Wire()
    gone: list[int] = []
    for stream in (1, 3):
        wire.request(stream, path="/t.T/Hold")
        wire.held[-1].on_cancel = lambda stream=stream: gone.append(stream)
    wire.request(5, None, path="/t.T/Talk", end=False)
    task = wire.streaming[0]._task
    wire.connection.lose()
    assert gone == [1, 3]
    assert isinstance(task, FakeTask)
    assert task.cancelled


def test_draining_answers_what_is_open_and_refuses_the_rest() -> None:
    wire = Wire()
    wire.request(1, path="/t.T/Hold")
    wire.connection.drain()
    first, ping = wire.take()
    assert (first.kind, int.from_bytes(first.payload[:4], "big"), first.code) == (7, 2**31 - 1, 0)
    wire.request(3, path="/t.T/Hold")  # was on its way
    wire.send(frames.ping(ping.payload, ack=True))
    (second,) = wire.take()
    assert (second.kind, int.from_bytes(second.payload[:4], "big")) == (7, 3)
    wire.request(5)  # too late: ignored, and no protocol error
    wire.request(5, b"more", end=False)
    assert wire.take() == []
    assert not wire.connection.drained
    for call in wire.held:
        call.finish(b"")
    assert wire.connection.drained
    assert [one.stream for one in wire.take() if one.fields.get("grpc-status") == "0"] == [1, 3]


def test_pings_are_forgiven_when_data_was_sent() -> None:
    wire = Wire()
    ping = frames.ping(b"12345678", ack=False)
    for stream in range(1, 21, 2):
        wire.request(stream)
        wire.send(ping + ping + ping)
        assert wire.goaway() is None
    wire.send(ping)
    assert wire.goaway() == (ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_pings_with_a_stream_may_come_every_min_time() -> None:
    wire = Wire()
    wire.request(1, path="/t.T/Hold")
    for _ in range(10):
        wire.clock.time += 5
        wire.send(frames.ping(b"12345678", ack=False))
    assert wire.goaway() is None
    for _ in range(3):
        wire.send(frames.ping(b"12345678", ack=False))
    assert wire.goaway() == (ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")


def test_a_preface_in_pieces() -> None:
    wire = Wire(greet=False)
    for byte in PREFACE + frames.settings({}):
        assert not wire.connection.ready
        wire.send(bytes([byte]))
    assert wire.connection.ready


def test_trailers_of_a_request_end_it() -> None:
    wire = Wire()
    wire.request(1, None, end=False, path="/t.T/Echo")
    wire.send(frame(frames.DATA, 0, 1, message(b"hello")[:7]))
    wire.send(frame(frames.HEADERS, 5, 1, wire.encoder.encode([("x-trailer", "1")])))
    assert wire.status(1) == ("2", "unexpected EOF")


def test_content_length_holds_on_the_fast_road() -> None:
    wire = Wire()
    for stream in (1, 3):
        wire.request(stream, b"hi", content_length="7")
        assert wire.status(stream) == ("0", "")
    block = wire.encoder.encode(headers(content_length="7"))
    wire.send(frame(1, 4, 5, block) + frame(0, 1, 5, message(b"hello")))
    assert [(one.stream, one.code) for one in wire.take()] == [(5, ErrorCode.PROTOCOL_ERROR)]


def test_nothing_comes_between_the_parts_of_a_header_block() -> None:
    wire = Wire()
    wire.request(1, None, path="/t.T/Hold", end=False)
    wire.send(frame(frames.HEADERS, 0, 3, b"") + frame(0, 1, 1, message(b"hi")))
    assert wire.goaway() == (ErrorCode.PROTOCOL_ERROR, b"frame inside a header block")
    assert not wire.bodies
