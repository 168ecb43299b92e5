"""An answer as JSON, as Go's protojson writes it with the .proto file's names: what is not set is not shown, 64-bit
numbers are strings, bytes are base64, enums are names.

A large answer is never a Python object as a whole: its bytes are walked field by field, and what is made of each leaves
before the next is looked at.
"""

from __future__ import annotations

import binascii
import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from etcdpy.limits import JSON_MESSAGE_WHOLE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

_QUOTED: Final = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64)
_HTML: Final = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def quote(text: str) -> str:
    """A JSON string."""
    return json.dumps(text, ensure_ascii=False)


def in_stream(text: str) -> str:
    """JSON as it stands in a line of a stream: Go's own encoder, which makes the lines, keeps HTML out of them."""
    for character, escape in _HTML.items():
        text = text.replace(character, escape)
    return text


def to_json(message: Message) -> str:
    """The whole message at once."""
    parts: list[str] = []
    _write(message, parts)
    return "".join(parts)


def _write(message: Message, parts: list[str]) -> None:
    writers = _writers(message.DESCRIPTOR)
    opening = "{"
    for field, value in message.ListFields():
        parts.append(f'{opening}"{field.name}":')
        opening = ","
        writers[field.number](value, parts)
    parts.append("}" if opening == "," else "{}")


@cache
def _writers(descriptor: Descriptor) -> dict[int, Callable[[Any, list[str]], None]]:
    return {field.number: _writer(field) for field in descriptor.fields}


def _writer(field: FieldDescriptor) -> Callable[[Any, list[str]], None]:
    if field.message_type is not None:
        return _write_list if field.is_repeated else _write
    shown = _shower(field)

    def write(value: Any, parts: list[str]) -> None:
        parts.append(shown(value))

    def write_all(values: Any, parts: list[str]) -> None:
        parts.append(f"[{','.join(map(shown, values))}]")

    return write_all if field.is_repeated else write


def _write_list(values: Any, parts: list[str]) -> None:
    opening = "["
    for value in values:
        parts.append(opening)
        opening = ","
        _write(value, parts)
    parts.append("]")


def _shower(field: FieldDescriptor) -> Callable[[Any], str]:
    """How one value of a field that is no message is written."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: f'"{binascii.b2a_base64(value, newline=False).decode()}"'
    if field.type == FieldDescriptor.TYPE_STRING:
        return quote
    if field.type == FieldDescriptor.TYPE_BOOL:
        return lambda value: "true" if value else "false"
    if field.type == FieldDescriptor.TYPE_ENUM:
        names = {value.number: f'"{value.name}"' for value in field.enum_type.values}  # type: ignore[union-attr]
        return lambda value: names.get(value) or str(value)
    if field.type in _QUOTED:
        return lambda value: f'"{value}"'
    return str


def to_json_steps(descriptor: Descriptor, pieces: Sequence[bytes | memoryview]) -> Generator[str, None, None]:
    """A message, given by its wire form in pieces that may end anywhere, as text in parts. Bounded work a part."""
    size = sum(map(len, pieces))
    if size <= JSON_MESSAGE_WHOLE_BYTES:
        yield to_json(GetMessageClass(descriptor).FromString(b"".join(pieces)))
        return
    opening, current, listed = "{", 0, False
    for number, wire in _fields(pieces):
        field = descriptor.fields_by_number[number]
        listed_now = field.is_repeated
        if number == current and listed_now:
            yield ","
        else:
            # Whoever made the message has put the elements of a list side by side.
            yield f'{"]" if listed else ""}{opening}"{field.name}":{"[" if listed_now else ""}'
        opening, current, listed = ",", number, listed_now
        if field.message_type is not None:
            yield from to_json_steps(field.message_type, [memoryview(wire)[_head_bytes(wire) :]])
        else:
            value = getattr(GetMessageClass(descriptor).FromString(bytes(wire)), field.name)
            yield ",".join(map(_shower(field), value if listed_now else [value]))
    yield "]}" if listed else "}"


def _fields(pieces: Iterable[bytes | memoryview]) -> Generator[tuple[int, bytes | memoryview], None, None]:
    """Every field at the top of a message that is shown: its number, and its wire form with tag and length."""
    rest: bytes | memoryview = b""
    for piece in pieces:
        view = memoryview(b"".join((rest, piece)) if rest else piece)
        position = 0
        while (end := _end_of_field(view, position)) is not None:
            number = _varint(view, position)[0] >> 3  # type: ignore[index]
            field = view[position:end]
            if not _is_default(field):
                yield number, field
            position = end
        rest = view[position:]
    assert not rest, "a message that we made ourselves is whole"


def _is_default(field: memoryview) -> bool:
    """Whether a field is there and says what its absence would: a number that is 0."""
    return field[0] & 7 == 0 and field[-1] == 0


def _varint(view: bytes | memoryview, position: int) -> tuple[int, int] | None:
    """A number and where it ends; None when it is not all there."""
    value = shift = 0
    for index in range(position, len(view)):
        byte = view[index]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, index + 1
        shift += 7
    return None


def _end_of_field(view: memoryview, position: int) -> int | None:
    """Where the field ends that begins there; None when it is not all there."""
    tag = _varint(view, position)
    following = _varint(view, tag[1]) if tag is not None else None
    if tag is None or following is None:
        return None
    if tag[0] & 7 == 0:
        return following[1]
    assert tag[0] & 7 == 2, "etcd's messages have numbers and what has a length"
    end = following[1] + following[0]
    return end if end <= len(view) else None


def _head_bytes(field: bytes | memoryview) -> int:
    """How long a field's tag and length are."""
    tag = _varint(field, 0)
    assert tag is not None
    length = _varint(field, tag[1])
    assert length is not None
    return length[1]
