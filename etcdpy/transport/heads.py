"""Request heads: a decoded header block, checked and made ready for dispatch, remembered per connection.

Most clients send the same header block for every call of one method. Where a block changes nothing in the HPACK
table, its bytes are the key of a memo and a request costs one dictionary look-up. A call with a deadline carries a
new `grpc-timeout` each time; its other fields are the key of a second memo, so only the timeout is parsed.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from etcdpy import limits
from etcdpy.errors import Code

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.transport.calls import Method
    from etcdpy.transport.hpackglue import BlockDecoder, Field

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_BAD_VALUE: Final = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z").search
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_RESERVED: Final = frozenset(
    (b"content-type", b"grpc-message-type", b"grpc-encoding", b"grpc-message", b"grpc-status", b"grpc-timeout", b"te")
)
"""Headers of the protocol itself, which handlers do not see as metadata (grpc-go's list)."""

_TIMEOUT_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


class MalformedRequest(Exception):
    """A request that HTTP/2 calls malformed: its stream ends with PROTOCOL_ERROR (RFC 9113, 8.1.1)."""


class Refusal:
    """An answer decided by the head alone: HTTP status, gRPC code and message."""

    __slots__ = ("code", "message", "status")

    def __init__(self, status: int, code: Code, message: str) -> None:
        self.status = status
        self.code = code
        self.message = message


class Tally:
    """Counts requests whose heads have something in common."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


_UNTOLD: Final = Tally()


class Memo:
    """What handlers have found out about all requests with the same head, and until when that stands."""

    __slots__ = ("caller", "until")

    def __init__(self) -> None:
        self.caller: Any = None
        self.until = 0.0


class RequestHead:
    """What the header block of a request says. Shared by every call with the same block: read only.

    `metadata` holds every custom header by its lower-case name, `-bin` values decoded. `method` is the registered
    method, or None; `refusal` is set where the head alone decides the answer. `content_length` is -1 when absent.
    `plain_unary` marks the calls the connection dispatches without further questions: a registered unary method that
    nothing forbids.
    """

    __slots__ = (
        "authority",
        "content_length",
        "content_type",
        "encoding",
        "fields",
        "http_method",
        "is_grpc",
        "memo",
        "metadata",
        "method",
        "path",
        "plain_unary",
        "refusal",
        "scheme",
        "tally",
        "timeout_seconds",
    )

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.http_method = b""
        self.scheme = b""
        self.authority = b""
        self.path = b""
        self.content_type = b""
        self.content_length = -1
        self.encoding = b""
        self.timeout_seconds: float | None = None
        self.is_grpc = False
        self.memo = Memo()
        self.metadata: dict[bytes, list[bytes]] = {}
        self.method: Method | None = None
        self.refusal: Refusal | None = None
        self.plain_unary = False
        self.tally = _UNTOLD
        """Where the requests with this head are counted."""

    def first(self, name: bytes) -> bytes | None:
        """The first value of a metadata key, or None."""
        values = self.metadata.get(name)
        return values[0] if values else None

    def with_timeout(self, seconds: float) -> RequestHead:
        """The same head with a deadline."""
        copy = RequestHead()
        copy.fields = self.fields
        copy.http_method = self.http_method
        copy.scheme = self.scheme
        copy.authority = self.authority
        copy.path = self.path
        copy.content_type = self.content_type
        copy.content_length = self.content_length
        copy.encoding = self.encoding
        copy.timeout_seconds = seconds
        copy.is_grpc = self.is_grpc
        copy.memo = self.memo
        copy.metadata = self.metadata
        copy.method = self.method
        copy.refusal = self.refusal
        copy.plain_unary = self.plain_unary
        copy.tally = self.tally
        return copy


class HeadReader:
    """Turns header blocks into heads, for one connection. `resolve` completes a parsed head (sets method, refusal)."""

    __slots__ = ("_by_fields", "_decoder", "_generation", "_resolve", "by_block")

    def __init__(self, decoder: BlockDecoder, resolve: Callable[[RequestHead], None]) -> None:
        self._decoder = decoder
        self._resolve = resolve
        self._generation = decoder.generation
        self._by_fields: dict[tuple[Field, ...], RequestHead] = {}
        self.by_block: dict[bytes, RequestHead] = {}
        """The memo, looked into by the frame loop itself. Cleared whenever the HPACK table may have changed."""

    def decode(self, block: bytes) -> list[Field]:
        """The raw fields of any block (trailers, or a request that is to be refused), keeping the memo honest."""
        try:
            return self._decoder.decode(block)
        finally:
            if self._decoder.generation != self._generation:
                self._generation = self._decoder.generation
                self.by_block.clear()

    def read(self, block: bytes) -> RequestHead:
        """The head of a request. Raises MalformedRequest, HeaderListTooLarge or ConnectionFault."""
        before = self._decoder.generation
        fields = self.decode(block)
        timeout: bytes | None = None
        for position in range(len(fields) - 1, -1, -1):
            if fields[position][0] == b"grpc-timeout":
                timeout = fields.pop(position)[1]
                break
        key = tuple(fields)
        head = self._by_fields.get(key)
        if head is None:
            head = parse_request(fields)
            self._resolve(head)
            if len(self._by_fields) >= limits.MEMOISED_HEADS:
                self._by_fields.clear()
            if sum([len(name) + len(value) for name, value in key]) <= limits.MEMOISED_BLOCK_BYTES:
                self._by_fields[key] = head
        if timeout is not None:
            head = self._with_timeout(head, timeout)
        if before == self._decoder.generation and len(block) <= limits.MEMOISED_BLOCK_BYTES:
            if len(self.by_block) >= limits.MEMOISED_HEADS:
                self.by_block.clear()
            self.by_block[block] = head
        return head

    @staticmethod
    def _with_timeout(head: RequestHead, text: bytes) -> RequestHead:
        if not head.is_grpc:
            seen = head.with_timeout(0.0)  # for an HTTP handler it is a header like any other
            seen.timeout_seconds = None
            seen.fields = [*head.fields, (b"grpc-timeout", text)]
            return seen
        if head.refusal is not None:
            return head
        try:
            return head.with_timeout(parse_timeout(text))
        except ValueError as error:
            refused = head.with_timeout(0.0)
            refused.timeout_seconds = None
            refused.plain_unary = False
            refused.refusal = Refusal(400, Code.INTERNAL, f"malformed grpc-timeout: {error}")
            return refused


def parse_timeout(text: bytes) -> float:
    """Seconds of a grpc-timeout value. Raises ValueError with grpc-go's text."""
    shown = '"' + text.decode("latin-1") + '"'
    if len(text) < 2:
        raise ValueError(f"transport: timeout string is too short: {shown}")
    if len(text) > 9:
        raise ValueError(f"transport: timeout string is too long: {shown}")
    unit = _TIMEOUT_UNITS.get(text[-1:])
    if unit is None:
        raise ValueError(f"transport: timeout unit is not recognized: {shown}")
    digits = text[:-1]
    if not digits.isdigit():
        raise ValueError(f'strconv.ParseUint: parsing "{digits.decode("latin-1")}": invalid syntax')
    return int(digits) * unit


def parse_request(fields: list[Field]) -> RequestHead:
    """Check the fields of a request by RFC 9113, section 8, and sort them. Raises MalformedRequest."""
    head = RequestHead()
    head.fields = fields
    regular = _pseudo_headers(head, fields)
    metadata = head.metadata
    for name, value in fields[regular:]:
        check_field(name, value)
        if name == b"content-type":
            head.content_type = value
        elif name == b"content-length":
            if not value.isdigit() or head.content_length not in (-1, int(value)):
                raise MalformedRequest("bad content-length")
            head.content_length = int(value)
        elif name == b"grpc-encoding":
            head.encoding = value
        elif name == b"host" and not head.authority:
            head.authority = value
        if name not in _RESERVED:
            metadata.setdefault(name, []).append(value)
    head.is_grpc = is_grpc_content_type(head.content_type)
    if head.is_grpc:
        _decode_binary_metadata(head)
    return head


def _pseudo_headers(head: RequestHead, fields: list[Field]) -> int:
    """Read the pseudo-headers; return where the regular ones start."""
    seen: dict[bytes, bytes] = {}
    regular = 0
    for name, value in fields:
        if not name.startswith(b":"):
            break
        if name not in _PSEUDO or name in seen or _BAD_VALUE(value):
            raise MalformedRequest("bad pseudo-header")
        seen[name] = value
        regular += 1
    head.http_method = seen.get(b":method", b"")
    head.scheme = seen.get(b":scheme", b"")
    head.path = seen.get(b":path", b"")
    head.authority = seen.get(b":authority", b"")
    if not head.http_method:
        raise MalformedRequest("no :method")
    if head.http_method == b"CONNECT":
        if b":scheme" in seen or b":path" in seen or not head.authority:
            raise MalformedRequest("bad CONNECT")
    elif not head.scheme or not head.path:
        raise MalformedRequest("no :scheme or :path")
    return regular


def check_field(name: bytes, value: bytes) -> None:
    """Check one regular field. Raises MalformedRequest."""
    if not _NAME(name):
        raise MalformedRequest("bad field name")
    if _BAD_VALUE(value):
        raise MalformedRequest("bad field value")
    if name in _CONNECTION_SPECIFIC:
        raise MalformedRequest("connection-specific field")
    if name == b"te" and value != b"trailers":
        raise MalformedRequest("te other than trailers")


def is_grpc_content_type(value: bytes) -> bool:
    """Whether a content type is gRPC's, with any subtype or parameter."""
    return value.startswith(b"application/grpc") and value[16:17] in (b"", b"+", b";")


def _decode_binary_metadata(head: RequestHead) -> None:
    for name, values in head.metadata.items():
        if name.endswith(b"-bin"):
            try:
                head.metadata[name] = [decode_binary(part) for value in values for part in value.split(b",")]
            except binascii.Error:
                shown = values[0].decode("latin-1"), name.decode("latin-1")
                text = f'malformed binary metadata "{shown[0]}" in header "{shown[1]}": illegal base64 data'
                head.refusal = Refusal(400, Code.INTERNAL, text)


def decode_binary(value: bytes) -> bytes:
    """One `-bin` metadata value: base64, padded or not. Raises binascii.Error."""
    value = value.strip()
    return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
