"""A request's JSON as the message that it stands for, by the rules and with the error texts of Go's protojson.

Both the name in the .proto file and its lowerCamel form are taken; unknown fields are passed over; null is absence;
64-bit numbers may be strings; bytes are base64 of either alphabet, padded or not; enums are names or numbers. What
comes in is a JSON value that the scanner has found, so its punctuation is right already.
"""

from __future__ import annotations

import binascii
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from etcdpy.gateway.scanner import JsonError
from etcdpy.limits import JSON_MESSAGES_DEPTH_MAX, JSON_STEPS_PER_SLICE

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_TOKEN: Final = re.compile(rb'[ \t\r\n,:]*("(?:[^"\\]++|\\.)*+"|[{}\[\]]|[^ \t\r\n,:{}\[\]"]+)', re.DOTALL)
_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?(?![-+._a-zA-Z0-9])")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_URL_SAFE: Final = re.compile(r"[A-Za-z0-9_-]*={0,2}")
_GO_SPACE: Final = " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_GO_SPACES: Final = _GO_SPACE + "\u2028\u2029\u202f\u205f\u3000"
_DIGITS_MAX: Final = 20
_EXPONENT_MAX: Final = 2**31 - 1

_KINDS: Final = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_MESSAGE: "message",
}
"""What etcd's messages are made of."""

_RANGES: Final = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
_ABSENT: Final = object()
"""An enum's value that the enum does not know."""


class _Invalid(Exception):
    """A value that a field cannot have."""


class _Token(NamedTuple):
    raw: bytes
    start: int


@cache
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """The fields of a message by every name that they may have."""
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def from_json_steps(value: bytes, message: Message) -> Generator[None, None, None]:
    """Read a JSON value into an empty message. Yields now and then. Raises JsonError."""
    yield from _Reader(value).message(message, 1)


class _Reader:
    def __init__(self, value: bytes) -> None:
        self._value = value
        self._position = 0
        self._count = 0

    # --- tokens ---

    def _next(self) -> _Token:
        """The next token; commas and colons are where the scanner saw them, so they say nothing."""
        match = _TOKEN.match(self._value, self._position)
        assert match is not None, "the scanner has found a value"
        self._position = match.end()
        self._count += 1
        return _Token(match[1], match.start(1))

    def _place(self, position: int) -> str:
        before = self._value[:position]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        return f"(line {line}:{column})"

    def _error(self, token: _Token, text: str) -> JsonError:
        return JsonError(f"proto: {self._place(token.start)}: {text}")

    def _syntax_error(self, token: _Token, text: str) -> JsonError:
        return JsonError(f"proto: syntax error {self._place(token.start)}: {text}")

    def _unexpected(self, token: _Token) -> JsonError:
        if token.raw.startswith(b'"'):
            self._text(token)  # a string that is none is said first
        return self._syntax_error(token, f"unexpected token {_shown(token)}")

    def _text(self, token: _Token) -> str:
        """The text of a string. Raises JsonError where it is none that UTF-8 can have."""
        try:
            if b"\\" not in token.raw:
                return token.raw[1:-1].decode()
            text = token.raw.decode()
        except UnicodeDecodeError as error:
            raise self._syntax_error(token, "invalid UTF-8 in string") from error
        parsed: str = json.loads(text)
        if any("\ud800" <= character <= "\udfff" for character in parsed):
            raise self._lone_surrogate(token, text)
        return parsed

    def _lone_surrogate(self, token: _Token, text: str) -> JsonError:
        """Half a character: the error shows the six characters where its other half should be."""
        position = 1
        while True:
            position = text.index("\\", position)
            if text[position + 1] != "u":
                position += 2
                continue
            first, position = int(text[position + 2 : position + 6], 16), position + 6
            if not 0xD800 <= first <= 0xDFFF:
                continue
            rest = text[position:] + self._value[token.start + len(token.raw) :].decode("utf-8", "replace")
            other = re.match(r"\\u([0-9a-fA-F]{4})", rest)
            if first < 0xDC00 and other is not None and 0xDC00 <= int(other[1], 16) <= 0xDFFF:
                position += 6
                continue
            if len(rest.encode()) < 6:
                return JsonError("proto: unexpected EOF")
            shown = json.dumps(rest.encode()[:6].decode("utf-8", "replace"), ensure_ascii=False)
            return self._syntax_error(token, f"invalid escape code {shown} in string")

    # --- values ---

    def message(self, message: Message, depth: int) -> Generator[None, None, None]:
        """An object, as the fields of a message."""
        opened = self._next()
        if opened.raw != b"{":
            raise self._unexpected(opened)
        if depth > JSON_MESSAGES_DEPTH_MAX:
            raise JsonError("proto: exceeded max recursion depth")
        fields = _fields(message.DESCRIPTOR)
        seen: set[str] = set()
        while (token := self._next()).raw != b"}":
            if self._count % JSON_STEPS_PER_SLICE == 0:
                yield
            field = fields.get(self._text(token))
            if field is None:
                yield from self._skip()
                continue
            if field.name in seen:
                raise self._error(token, f"duplicate field {_shown(token)}")
            seen.add(field.name)
            if self._skip_null():
                continue
            one_of = field.containing_oneof
            if one_of is not None:
                if one_of.full_name in seen:
                    text = f"error parsing {_shown(token)}, oneof {one_of.full_name} is already set"
                    raise self._error(token, text)
                seen.add(one_of.full_name)
            yield from self._field(message, field, depth)

    def _field(self, message: Message, field: FieldDescriptor, depth: int) -> Generator[None, None, None]:
        if field.is_repeated:
            yield from self._list(getattr(message, field.name), field, depth)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            yield from self.message(inner, depth + 1)
        else:
            value = self._scalar(field)
            if value is not _ABSENT:
                setattr(message, field.name, value)

    def _list(self, values: Any, field: FieldDescriptor, depth: int) -> Generator[None, None, None]:
        opened = self._next()
        if opened.raw != b"[":
            raise self._unexpected(opened)
        while not self._at(b"]"):
            if self._count % JSON_STEPS_PER_SLICE == 0:
                yield
            if field.message_type is not None:
                yield from self.message(values.add(), depth + 1)
            elif (value := self._scalar(field)) is not _ABSENT:
                values.append(value)
        self._next()

    def _at(self, mark: bytes) -> bool:
        match = _TOKEN.match(self._value, self._position)
        return match is not None and match[1] == mark

    def _skip_null(self) -> bool:
        if not self._at(b"null"):
            return False
        self._next()
        return True

    def _skip(self) -> Generator[None, None, None]:
        """Pass over the value of an unknown field."""
        depth = 0
        while True:
            token = self._next()
            if token.raw in b"{[":
                depth += 1
            elif token.raw in b"}]":
                depth -= 1
            elif token.raw.startswith(b'"'):
                self._text(token)
            if depth == 0:
                return
            if self._count % JSON_STEPS_PER_SLICE == 0:
                yield

    def _scalar(self, field: FieldDescriptor) -> Any:
        token = self._next()
        kind = _KINDS[field.type]
        text = self._text(token) if token.raw.startswith(b'"') else None
        try:
            return _scalar(kind, field, token.raw, text)
        except _Invalid:
            shown = f"invalid value for {kind} field {field.json_name}: {_shown(token)}"
            raise self._error(token, shown) from None


def _shown(token: _Token) -> str:
    return token.raw.decode("utf-8", "replace")


def _scalar(kind: str, field: FieldDescriptor, raw: bytes, text: str | None) -> Any:
    """The value of one token; `text` is that of a string. Raises _Invalid."""
    if kind in _RANGES:
        return _integer(kind, text if text is not None else raw.decode("utf-8", "replace"), quoted=text is not None)
    if kind == "bool" and raw in (b"true", b"false"):
        return raw == b"true"
    if kind == "string" and text is not None:
        return text
    if kind == "bytes" and text is not None:
        return _bytes(text)
    if kind == "enum":
        if text is None:
            return _integer("int32", raw.decode("utf-8", "replace"), quoted=False)
        known = field.enum_type.values_by_name.get(text)  # type: ignore[union-attr]
        return known.number if known is not None else _ABSENT
    raise _Invalid


def _integer(kind: str, text: str, *, quoted: bool) -> int:
    if quoted and text != text.strip(_GO_SPACES):
        raise _Invalid
    match = _NUMBER.match(text)
    if match is None:
        raise _Invalid
    minus, whole, fraction, exponent = match.groups()
    number = _whole_number("" if whole == "0" else whole, (fraction or "").rstrip("0"), int(exponent or "0"))
    low, high = _RANGES[kind]
    if minus:
        # "-0" is 0 for unsigned numbers too, as no digit is left of it.
        if number and low == 0:
            raise _Invalid
        number = -number
    if not low <= number <= high:
        raise _Invalid
    return number


def _whole_number(whole: str, fraction: str, exponent: int) -> int:
    """whole.fraction times ten to the exponent. Raises _Invalid where that is no whole number, or too long a one."""
    if not whole and not fraction:
        return 0
    if abs(exponent) > _EXPONENT_MAX:
        raise _Invalid
    if exponent >= 0:
        if len(fraction) > exponent or len(whole) + exponent > _DIGITS_MAX:
            raise _Invalid
        return int(whole + fraction + "0" * (exponent - len(fraction)))
    kept = len(whole) + exponent
    if fraction or kept <= 0 or whole[kept:].strip("0"):
        raise _Invalid
    return int(whole[:kept]) if kept <= _DIGITS_MAX else _too_long()


def _too_long() -> int:
    raise _Invalid


def _bytes(text: str) -> bytes:
    url_safe = "-" in text or "_" in text
    padded = len(text) % 4 == 0
    digits = text.replace("\r", "").replace("\n", "")  # Go's decoder does not see them
    if not (_URL_SAFE if url_safe else _BASE64).fullmatch(digits):
        raise _Invalid
    if padded:
        if len(digits) % 4:
            raise _Invalid
    elif digits.endswith("=") or len(digits) % 4 == 1:
        raise _Invalid
    if url_safe:
        digits = digits.replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(digits + "=" * (-len(digits) % 4))
