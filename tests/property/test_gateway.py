"""JSON that comes in pieces, goes out in pieces, and there and back: nothing changes on the way."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.gateway import plain_json, to_json
from etcdpy.gateway.from_json import from_json_steps
from etcdpy.gateway.scanner import JsonError, Scanner
from etcdpy.proto import election_pb2, rpc_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

MESSAGES = [
    rpc_pb2.RangeRequest,
    rpc_pb2.RangeResponse,
    rpc_pb2.TxnRequest,
    rpc_pb2.TxnResponse,
    rpc_pb2.WatchRequest,
    rpc_pb2.WatchResponse,
    rpc_pb2.StatusResponse,
    rpc_pb2.LeaseTimeToLiveResponse,
    rpc_pb2.MemberListResponse,
    rpc_pb2.HashKVResponse,
    election_pb2.CampaignResponse,
]
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_STRING: st.text(max_size=8),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=8),
}


def fill(draw: st.DrawFn, message: Message, depth: int) -> None:
    """Set some of its fields; one of those that exclude each other is left."""
    for field in message.DESCRIPTOR.fields:
        if (field.message_type is not None and depth == 0) or not draw(st.booleans()):
            continue
        if field.is_repeated:
            for _ in range(draw(st.integers(1, 3))):
                if field.message_type is not None:
                    fill(draw, getattr(message, field.name).add(), depth - 1)
                else:
                    getattr(message, field.name).append(draw(value_of(field)))
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill(draw, inner, depth - 1)
        else:
            setattr(message, field.name, draw(value_of(field)))


def value_of(field: Any) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_ENUM:
        assert field.enum_type is not None
        return st.sampled_from([value.number for value in field.enum_type.values])
    return _SCALARS[field.type]


@st.composite
def messages(draw: st.DrawFn) -> Message:
    message: Message = draw(st.sampled_from(MESSAGES))()
    fill(draw, message, 3)
    return message


def parse(text: bytes, message: Message) -> Message:
    for _ in from_json_steps(text, message):
        pass
    return message


@given(messages())
def test_there_and_back(message: Message) -> None:
    text = to_json.to_json(message)
    assert json.loads(text) == json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert parse(text.encode(), type(message)()) == message
    lower_camel = json_format.MessageToJson(message)
    assert parse(lower_camel.encode(), type(message)()) == message
    assert json.loads(to_json.in_stream(text)) == json.loads(text)


@given(messages(), st.lists(st.integers(0, 200), max_size=5))
def test_large_answers_say_the_same_field_by_field(message: Message, cuts: list[int]) -> None:
    wire = message.SerializeToString(deterministic=True)
    places = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    pieces = [wire[start:end] for start, end in itertools.pairwise(places)] or [b""]
    with patch.object(to_json, "JSON_MESSAGE_WHOLE_BYTES", 0 if wire else 1):
        text = "".join(to_json.to_json_steps(cast("Any", message.DESCRIPTOR), pieces))
    assert json.loads(text) == json.loads(to_json.to_json(message))


_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=12,
)


def scan(scanner: Scanner) -> bool:
    steps = scanner.steps()
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return bool(stop.value)


def values_in(pieces: list[bytes]) -> list[bytes | str]:
    """What a scanner finds; an error is the last, by its text."""
    scanner, found = Scanner(), list[bytes | str]()
    try:
        for piece in pieces:
            scanner.feed(piece)
            while scan(scanner):
                found.append(scanner.take())
        scanner.ended = True
        while scan(scanner):
            found.append(scanner.take())
    except JsonError as error:
        found.append(str(error))
    return found


@given(st.lists(_json, max_size=4), st.booleans(), st.sampled_from([" ", "\n", " \t\r\n"]))
def test_values_are_found_however_they_come(values: list[Any], ascii_only: bool, space: str) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii_only, indent=None if ascii_only else 1) for value in values]
    whole = space.join(texts).encode("utf-8", "surrogatepass")
    found = values_in([whole])
    assert [json.loads(each) for each in found] == values
    assert values_in([bytes((byte,)) for byte in whole]) == found


@given(st.binary(max_size=30) | st.text('{}[]":,tfnrue0123456789.-+eE \\', max_size=40).map(str.encode))
def test_nonsense_is_told_alike_however_it_comes(data: bytes) -> None:
    assert values_in([bytes((byte,)) for byte in data]) == values_in([data])


@given(st.text('{}[]":,tfnrue0123456789.-+eE \\ke', max_size=40).map(str.encode), st.sampled_from(MESSAGES))
def test_what_the_scanner_lets_through_is_read_or_refused(data: bytes, kind: Any) -> None:
    for value in values_in([data]):
        if isinstance(value, bytes):
            try:
                parse(value, kind())
            except JsonError as error:
                assert str(error).startswith("proto: ")  # noqa: PT017 - some values are right


@pytest.mark.parametrize("size", [1, 1000, 100_000])
def test_many_elements_in_few_parts(size: int) -> None:
    response = rpc_pb2.LeaseTimeToLiveResponse(ID=1, keys=[b"k%d" % number for number in range(size)])
    text = "".join(to_json.to_json_steps(response.DESCRIPTOR, [response.SerializeToString()]))
    assert len(json.loads(text)["keys"]) == size


@given(messages(), st.data())
def test_the_quick_reader_and_the_exact_one_never_differ(message: Message, data: st.DataObject) -> None:
    """Of JSON that may be damaged the quick reader makes the same message, or none."""
    text = to_json.to_json(message).encode()
    quick = type(message)()
    assert plain_json.read_plain(text, quick)
    assert quick == message
    pieces = [
        b"null",
        b'"',
        b"{}",
        b"[]",
        b"1e3",
        b"-0",
        b"NaN",
        b"\\ud800",
        b"=",
        b",",
        b" ",
        b"\xff",
        b'"key":"YQ=="',
    ]
    start = data.draw(st.integers(0, len(text)))
    damaged = text[:start] + data.draw(st.sampled_from(pieces)) + text[start + data.draw(st.integers(0, 3)) :]
    if plain_json.read_plain(damaged, quick):
        assert quick == exactly(damaged, type(message)())
    else:
        assert quick == type(message)()


def exactly(text: bytes, message: Message) -> Message:
    """What the reader that knows Go's rules makes of the whole text."""
    scanner = Scanner()
    scanner.feed(text)
    scanner.ended = True
    for _ in scanner.steps():
        pass
    for _ in from_json_steps(scanner.take(), message):
        pass
    return message
