"""What a gRPC client sees of each mistake. The texts and codes were observed on real etcd 3.7 with the same frames."""

from __future__ import annotations

import gzip

import pytest

from etcdpy.errors import Code, KeyNotFound, StatusError
from etcdpy.transport.frames import frame
from etcdpy.transport.framing import percent_encode
from etcdpy.transport.heads import parse_timeout
from tests.support.wire import Wire, headers, message


def answer(wire: Wire, body: bytes, **changes: str | None) -> tuple[str, str]:
    block = wire.encoder.encode(headers(**changes))
    wire.send(frame(1, 4, 1, block) + frame(0, 1, 1, body))
    return wire.status(1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ("2", "EOF")),
        (b"\0\0", ("2", "EOF")),
        (message(b"abc", length=100), ("2", "unexpected EOF")),
        (message(b"abc", flag=1), ("13", "grpc: compressed flag set with identity or empty encoding")),
        (message(b"abc", flag=2), ("13", "grpc: received unexpected payload format 2")),
        (message(b"", length=50_000_000), ("8", "grpc: received message larger than max (50000000 vs. 1048576)")),
        (message(b"one") + message(b"two"), ("0", "")),
    ],
)
def test_bodies(body: bytes, expected: tuple[str, str]) -> None:
    assert answer(Wire(), body) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"path": "/a.B/C"}, ("12", "unknown service a.B")),
        ({"path": "/t.T/C"}, ("12", "unknown method C for service t.T")),
        ({"path": "/foo"}, ("12", 'malformed method name: "/foo"')),
        ({"path": "foo/bar"}, ("12", 'malformed method name: "foo/bar"')),
        ({"content_type": "text/plain"}, ("3", 'invalid gRPC request content-type "text/plain"')),
        ({"content_type": "application/grpc-web"}, ("3", 'invalid gRPC request content-type "application/grpc-web"')),
        ({"content_type": None}, ("3", 'invalid gRPC request content-type ""')),
        ({"content_type": "application/grpc+proto"}, ("0", "")),
        ({"authority": None}, ("13", "no host or :authority header present")),
        ({"authority": None, "host": "x"}, ("0", "")),
        ({"method": "PUT"}, ("13", 'Received a HEADERS frame with :method "PUT" which should be POST')),
        (
            {"grpc_timeout": "5x"},
            ("13", 'malformed grpc-timeout: transport: timeout unit is not recognized: "5x"'),
        ),
        ({"grpc_timeout": "0S"}, ("4", "context deadline exceeded")),
        ({"grpc_timeout": "5S"}, ("0", "")),
        (
            {"grpc_encoding": "snappy"},
            ("12", 'grpc: Decompressor is not installed for grpc-encoding "snappy"'),
        ),
        ({"grpc_encoding": "gzip"}, ("0", "")),
    ],
)
def test_heads(changes: dict[str, str | None], expected: tuple[str, str]) -> None:
    assert answer(Wire(), message(b"hi"), **changes) == expected


def test_an_unknown_encoding_is_told_the_known_ones() -> None:
    wire = Wire()
    wire.request(1, grpc_encoding="snappy")
    assert wire.take()[0].fields["grpc-accept-encoding"] == "gzip"


def test_wrong_content_type_is_http_415() -> None:
    wire = Wire()
    wire.request(1, content_type="text/plain")
    assert wire.take()[0].fields[":status"] == "415"


def test_gzip_messages() -> None:
    wire = Wire()
    assert answer(wire, message(gzip.compress(b"hello"), flag=1), grpc_encoding="gzip") == ("0", "")
    assert wire.bodies == [b"hello"]


def test_gzip_bombs_stop_at_the_message_limit() -> None:
    bomb = message(gzip.compress(b"\0" * (1 << 20 | 1)), flag=1)
    assert answer(Wire(), bomb, grpc_encoding="gzip") == (
        "8",
        "grpc: received message after decompression larger than max 1048576",
    )


def test_broken_gzip() -> None:
    code, text = answer(Wire(), message(b"nonsense", flag=1), grpc_encoding="gzip")
    assert code == "13"
    assert text.startswith("grpc: failed to decompress the message:")
    cut = message(gzip.compress(b"hello world")[:-6], flag=1)
    assert answer(Wire(), cut, grpc_encoding="gzip") == (
        "13",
        "grpc: failed to read decompressed data: unexpected EOF",
    )


def test_a_message_in_many_frames() -> None:
    wire = Wire()
    wire.request(1, None, end=False)
    for byte in message(b"hello"):
        wire.send(frame(0, 0, 1, bytes([byte])))
    assert wire.bodies == [b"hello"]
    assert wire.status(1) == ("0", "")


def test_metadata() -> None:
    wire = Wire()
    wire.request(1, path="/t.T/Hold", token="abc", raw_bin="AAEC/w", grpc_timeout="5S", user_agent="me")
    head = wire.held[0].head
    assert head.metadata == {b"token": [b"abc"], b"raw-bin": [b"\0\1\2\xff"], b"user-agent": [b"me"]}
    assert head.first(b"token") == b"abc"
    assert head.timeout_seconds == 5.0


def test_bad_binary_metadata() -> None:
    code, text = answer(Wire(), message(b""), raw_bin="%%%")
    assert code == "13"
    assert text.startswith('malformed binary metadata "%25%25%25" in header "raw-bin":')


def test_deadline() -> None:
    wire = Wire()
    expired: list[bool] = []
    wire.request(1, path="/t.T/Hold", grpc_timeout="100m")
    wire.held[0].on_cancel = lambda: expired.append(True)
    wire.clock.advance(0.09)
    assert not expired
    wire.clock.advance(0.03)
    assert expired == [True]
    assert wire.status(1) == ("4", "context deadline exceeded")
    wire.clock.advance(10)
    assert expired == [True]


def test_every_call_has_its_own_deadline() -> None:
    wire = Wire()
    for number, timeout in enumerate(("200m", "100m", "4999894u", "100m")):
        wire.request(2 * number + 1, path="/t.T/Hold", grpc_timeout=timeout)
    wire.clock.advance(0.15)
    assert [call.done for call in wire.held] == [False, True, False, True]
    wire.held[0].finish(b"")
    wire.clock.advance(4.8)
    assert not wire.held[2].done
    wire.clock.advance(0.1)
    assert wire.held[2].done


def test_handler_errors() -> None:
    wire = Wire()
    wire.request(1, path="/t.T/Hold")
    wire.held[0].fail(KeyNotFound())
    assert wire.status(1) == ("3", "etcdserver: key not found")
    wire.request(3, path="/t.T/Hold")
    wire.held[1].fail(StatusError(Code.UNKNOWN, "50% of ü\n"))
    assert wire.status(3) == ("2", "50%25 of %C3%BC%0A")
    assert wire.methods[b"/t.T/Hold"].handled[Code.INVALID_ARGUMENT] == 1


def test_a_bug_in_a_handler_answers_internal() -> None:
    wire = Wire()
    wire.request(1, path="/t.T/Bug")
    assert wire.status(1) == ("13", "internal error")
    assert [str(bug) for bug in wire.bugs] == ["a bug"]


def test_counters() -> None:
    wire = Wire()
    for stream in (1, 3, 5):
        wire.request(stream, b"four")
    method = wire.methods[b"/t.T/Echo"]
    assert (method.started, method.received, method.sent, method.handled[Code.OK]) == (3, 3, 3, 3)
    assert (method.received_bytes, method.sent_bytes) == (12, 12)


def test_long_error_messages_need_continuation_frames() -> None:
    wire = Wire()
    wire.request(1, path="/t.T/Hold")
    wire.held[0].fail(StatusError(Code.UNKNOWN, "x" * 40_000))
    first, second, third = wire.take()
    assert [one.kind for one in (first, second, third)] == [1, 9, 9]
    fields = wire.decoder.decode(first.payload + second.payload + third.payload)
    assert [len(field[1]) for field in fields if str(field[0]) == "grpc-message"] == [40_000]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1H", 3600), (b"2M", 120), (b"3S", 3), (b"4m", 0.004), (b"5u", 5e-6), (b"6n", 6e-9), (b"99999999S", 99999999)],
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert parse_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"S", b"5", b"123456789S", b"-1S", b"1.5S", b"+1S", b" 1S", b"1s"])
def test_bad_timeouts(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"timeout|ParseUint"):
        parse_timeout(text)


def test_percent_coding() -> None:
    assert percent_encode("plain ~text!") == b"plain ~text!"
    assert percent_encode("a%b\x7f") == b"a%25b%7F"
