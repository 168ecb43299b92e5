"""gRPC's wire form: message prefixes, compression, status as header blocks. Texts are grpc-go's, clients see them."""

from __future__ import annotations

import zlib
from typing import Final

from etcdpy.errors import Code, EtcdError, StatusError
from etcdpy.transport.hpackglue import encode_block, literal, status_field

# `:status: 200` and `content-type: application/grpc`, the latter by the name's static index, unindexed.
_CONTENT_TYPE: Final = b"\x0f\x10\x10application/grpc"
RESPONSE_HEADERS: Final = b"\x88" + _CONTENT_TYPE
OK_TRAILERS: Final = literal(b"grpc-status", b"0")

ACCEPTED_ENCODINGS: Final = b"gzip"


def percent_encode(text: str) -> bytes:
    """A grpc-message value: UTF-8, everything but printable ASCII (and `%`) percent-coded."""
    return b"".join(
        [b"%c" % byte if 0x20 <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte for byte in text.encode()]
    )


def error_block(code: int, message: str, *, alone: bool, status: int = 200) -> bytes:
    """The header block of an error: trailers, or, `alone`, the whole answer."""
    fields = [(b"grpc-status", b"%d" % code), (b"grpc-message", percent_encode(message))]
    if code == Code.UNIMPLEMENTED and message.startswith("grpc: Decompressor"):
        fields.append((b"grpc-accept-encoding", ACCEPTED_ENCODINGS))
    start = status_field(status) + _CONTENT_TYPE if alone else b""
    return start + encode_block(fields)


def too_large(size: int, limit: int) -> EtcdError:
    """A message over the receive limit."""
    return StatusError(Code.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {limit})")


def unknown_encoding(encoding: bytes) -> EtcdError:
    """A grpc-encoding that we do not have."""
    name = encoding.decode("latin-1")
    return StatusError(Code.UNIMPLEMENTED, f'grpc: Decompressor is not installed for grpc-encoding "{name}"')


def known_encoding(encoding: bytes) -> bool:
    """Whether messages of a call with this grpc-encoding can be read."""
    return encoding in (b"", b"identity", b"gzip")


def single_message(body: bytearray, encoding: bytes, limit: int) -> bytes:
    """The message of a unary request whose bytes are all there. Raises EtcdError."""
    if len(body) < 5:
        raise StatusError(Code.UNKNOWN, "EOF")
    length = int.from_bytes(body[1:5], "big")
    if length > limit:
        raise too_large(length, limit)
    if len(body) < 5 + length:
        raise StatusError(Code.UNKNOWN, "unexpected EOF")
    return plain_message(body[0], bytes(body[5 : 5 + length]), encoding, limit)


def plain_message(flag: int, payload: bytes, encoding: bytes, limit: int) -> bytes:
    """A message without its compression. Raises EtcdError."""
    if flag == 0:
        return payload
    if flag != 1:
        raise StatusError(Code.INTERNAL, f"grpc: received unexpected payload format {flag}")
    if encoding in (b"", b"identity"):
        raise StatusError(Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
    if encoding != b"gzip":
        raise unknown_encoding(encoding)
    inflater = zlib.decompressobj(wbits=31)
    try:
        message = inflater.decompress(payload, limit + 1)
    except zlib.error as error:
        raise StatusError(Code.INTERNAL, f"grpc: failed to decompress the message: {error}") from error
    if len(message) > limit:
        raise StatusError(
            Code.RESOURCE_EXHAUSTED, f"grpc: received message after decompression larger than max {limit}"
        )
    if not inflater.eof:
        raise StatusError(Code.INTERNAL, "grpc: failed to read decompressed data: unexpected EOF")
    return message
