"""What of an HTTP request reaches a call as gRPC metadata, by grpc-gateway's rules."""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from etcdpy.errors import Code, StatusError
from etcdpy.transport.heads import RequestHead

if TYPE_CHECKING:
    from etcdpy.transport.calls import Method
    from etcdpy.transport.exchange import HttpRequest

_PREFIX: Final = "grpc-metadata-"
_PERMANENT: Final = frozenset(
    (
        "accept", "accept-charset", "accept-language", "accept-ranges", "authorization", "cache-control",
        "content-type", "cookie", "date", "expect", "from", "host", "if-match", "if-modified-since", "if-none-match",
        "if-schedule-tag-match", "if-unmodified-since", "max-forwards", "origin", "pragma", "referer", "user-agent",
        "via", "warning",
    )
)  # fmt: skip
"""Headers that pass under a name of their own, `grpcgateway-accept`."""

_MARK: Final = b"grpcgateway-accept"
"""Says that a call comes from the gateway. Real etcd's has it only if the client sent Accept; whoever leaves that out
must not be taken for the owner of the connection's certificate, so it is always there."""

_NAME: Final = re.compile(r"[a-z0-9._-]+")
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_TIMEOUT: Final = re.compile(r"([+-]?[0-9]+)([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_RESERVED: Final = frozenset(("grpc-timeout", "te", "content-type"))


def head_of(request: HttpRequest, method: Method) -> RequestHead:
    """The head of the call that a request stands for. Raises StatusError for a bad timeout or binary header."""
    head = RequestHead()
    head.method = method
    head.path = method.path
    head.http_method = b"POST"
    head.is_grpc = True
    head.timeout_seconds = _timeout(request.headers.get("grpc-timeout", ""))
    metadata = head.metadata
    for name, value in request.headers.items():
        if name == "authorization":
            metadata[b"authorization"] = [value.encode("latin-1"), *metadata.get(b"authorization", [])]
        if name in _PERMANENT:
            _add(metadata, f"grpcgateway-{name}", value, name)
        elif name.startswith(_PREFIX):
            _add(metadata, name.removeprefix(_PREFIX), value, name)
    metadata.setdefault(_MARK, [b""])
    metadata[b"x-forwarded-host"] = [request.headers.get("x-forwarded-host", request.host).encode("latin-1")]
    passed = request.headers.get("x-forwarded-for")
    address = request.peer.address.rpartition(":")[0].strip("[]")
    metadata[b"x-forwarded-for"] = [", ".join(filter(None, (passed, address))).encode("latin-1")]
    return head


def _add(metadata: dict[bytes, list[bytes]], name: str, value: str, header: str) -> None:
    if not _NAME.fullmatch(name) or name in _RESERVED:
        return
    if name.endswith("-bin"):
        metadata.setdefault(name.encode(), []).append(_binary(value, header))
    elif _VALUE.fullmatch(value):
        metadata.setdefault(name.encode(), []).append(value.encode())


def _binary(value: str, header: str) -> bytes:
    try:
        return binascii.a2b_base64(value + "=" * (-len(value) % 4), strict_mode=True)
    except (binascii.Error, ValueError) as error:
        shown = "-".join(part.capitalize() for part in header.split("-"))
        text = f"invalid binary header {shown}: illegal base64 data at input byte 0"
        raise StatusError(Code.INVALID_ARGUMENT, text) from error


def _timeout(text: str) -> float | None:
    if not text:
        return None
    match = _TIMEOUT.fullmatch(text)
    if match is None or not -(2**63) <= int(match[1]) < 2**63:
        raise StatusError(Code.INVALID_ARGUMENT, f"invalid grpc-timeout: {text}")
    return int(match[1]) * _UNITS[match[2]] or None
