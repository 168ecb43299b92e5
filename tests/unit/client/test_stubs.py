from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from etcdpy.client import stubs

STUBS = [value for value in vars(stubs).values() if isinstance(value, type) and issubclass(value, stubs.Stub)][1:]
SERVICES = {
    f"{re.search(r'^package (.+);', text, re.MULTILINE)[1]}.{name}"  # type: ignore[index]
    for text in (path.read_text() for path in Path(stubs.__file__).parents[1].glob("proto/*.proto"))
    for name in re.findall(r"^service (\w+)", text, re.MULTILINE)
}
KINDS = {(False, False): "UnaryUnary", (False, True): "UnaryStream", (True, True): "StreamStream"}


def declared(method: Any) -> str:
    module = method.containing_service.file.name.removeprefix("etcdpy/proto/").removesuffix(".proto") + "_pb2"
    kind = KINDS[method.client_streaming, method.server_streaming]
    return f"{kind}[{module}.{method.input_type.name}, {module}.{method.output_type.name}]"


def test_every_service_has_a_stub() -> None:
    assert {stub.service for stub in STUBS} == SERVICES


@pytest.mark.parametrize("stub", STUBS, ids=lambda stub: stub.__name__)
def test_the_declared_calls_are_those_of_the_descriptor(stub: type[stubs.Stub]) -> None:
    service = descriptor_pool.Default().FindServiceByName(stub.service)
    assert stub.__annotations__ == {method.name: declared(method) for method in service.methods}


class RecordingChannel:
    """Answers each request for a callable with what was asked for."""

    def __getattr__(self, kind: str) -> Any:
        return lambda path, request_serializer, response_deserializer: (kind, path)


def test_calls_have_the_wire_path_and_the_kind_of_stream() -> None:
    channel: Any = RecordingChannel()
    made: list[object] = [
        stubs.KV(channel).Range,
        stubs.KV(channel).RangeStream,
        stubs.Watch(channel).Watch,
        stubs.Lock(channel).Unlock,
    ]
    assert made == [
        ("unary_unary", "/etcdserverpb.KV/Range"),
        ("unary_stream", "/etcdserverpb.KV/RangeStream"),
        ("stream_stream", "/etcdserverpb.Watch/Watch"),
        ("unary_unary", "/v3lockpb.Lock/Unlock"),
    ]
