"""grpc.health.v1, what the transport answers to calls that do not exist, and what it accepts."""

from __future__ import annotations

import grpc
import pytest

from tests.support.client import CALL_SECONDS_MAX, Client, Refusal, refusal_of


def raw_call(client: Client, path: str, body: bytes = b"", timeout: float = CALL_SECONDS_MAX) -> bytes | Refusal:
    """A unary call by path, with the message as bytes."""
    call = client.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    try:
        answer: bytes = call(body, timeout=timeout)
    except grpc.RpcError as error:
        return refusal_of(error)
    return answer


def test_check_of_the_whole_server(client: Client) -> None:
    assert raw_call(client, "/grpc.health.v1.Health/Check") == b"\x08\x01"  # SERVING


def test_check_of_an_unknown_service(client: Client) -> None:
    assert raw_call(client, "/grpc.health.v1.Health/Check", b"\x0a\x03kv2") == Refusal("NotFound", "unknown service")


def test_watch_sends_the_status_at_once(client: Client) -> None:
    call = client.channel.unary_stream(
        "/grpc.health.v1.Health/Watch", request_serializer=bytes, response_deserializer=bytes
    )(b"", timeout=CALL_SECONDS_MAX)
    assert next(iter(call)) == b"\x08\x01"
    call.cancel()  # type: ignore[no-untyped-call]


def test_watch_of_an_unknown_service(client: Client) -> None:
    call = client.channel.unary_stream(
        "/grpc.health.v1.Health/Watch", request_serializer=bytes, response_deserializer=bytes
    )(b"\x0a\x03kv2", timeout=CALL_SECONDS_MAX)
    assert next(iter(call)) == b"\x08\x03"  # SERVICE_UNKNOWN
    call.cancel()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etcdserverpb.KV/Nothing", "unknown method Nothing for service etcdserverpb.KV"),
        ("/no.such.Service/Nothing", "unknown service no.such.Service"),
        ("/grpc.reflection.v1.ServerReflection/X", "unknown service grpc.reflection.v1.ServerReflection"),
    ],
)
def test_calls_that_do_not_exist(client: Client, path: str, text: str) -> None:
    assert raw_call(client, path) == Refusal("Unimplemented", text)


def test_a_body_that_is_no_message(client: Client) -> None:
    answer = raw_call(client, "/etcdserverpb.KV/Range", b"\x0a\xff")
    assert isinstance(answer, Refusal)
    assert answer.code == "Internal"
    assert answer.text.startswith("grpc: error unmarshalling request: ")


def test_unknown_fields_are_skipped(client: Client) -> None:
    client.put(b"unknown-field")
    body = b"\x0a\x0dunknown-field" + b"\xf8\x07\x01"  # field 127, varint
    answer = raw_call(client, "/etcdserverpb.KV/Range", body)
    assert isinstance(answer, bytes)
    assert b"unknown-field" in answer


def test_gzip_requests_are_read(client: Client) -> None:
    call = client.channel.unary_unary("/etcdserverpb.KV/Range", request_serializer=bytes, response_deserializer=bytes)
    assert call(b"\x0a\x40" + b"k" * 64, compression=grpc.Compression.Gzip, timeout=CALL_SECONDS_MAX)
