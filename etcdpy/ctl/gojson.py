"""JSON as etcd's tools print it: Go's encoding/json over the generated structs, not protobuf's own mapping.

Numbers are numbers, bytes are base64, enums are integers, names are the .proto files'; what has its zero value is left
out, except a message that is present.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

_ESCAPES = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})
"""Go makes JSON safe to stand in HTML; none of these occurs in JSON outside of a string."""


def dumps(value: Any) -> str:
    """One line, without spaces."""
    import json  # most answers are shown otherwise, and a start counts

    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def plain(message: Message) -> dict[str, Any]:
    """The message as a dict that `dumps` takes, fields in the order of the .proto file."""
    present: dict[FieldDescriptor, Any] = dict(message.ListFields())
    fields = sorted(present, key=lambda field: field.index)
    return {field.name: _value(field, present[field]) for field in fields}


def _value(field: FieldDescriptor, value: Any) -> Any:
    if field.is_repeated:
        return [_single(field, each) for each in value]
    return _single(field, value)


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.type == field.TYPE_MESSAGE:
        return plain(value)
    return base64.b64encode(value).decode() if field.type == field.TYPE_BYTES else value
