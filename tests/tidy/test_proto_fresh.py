"""The generated message modules belong to the .proto files, and the .proto files to etcd's published interface."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from google.protobuf.descriptor import FieldDescriptor

from etcdpy.proto import http_pb2
from tests.tidy.sources import ROOT, report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

PROTO: Final = ROOT / "etcdpy" / "proto"
SNAPSHOT: Final = ROOT / "tests" / "tidy" / "descriptors.txt"
"""Every name and number on the wire. Written by `pytest tests/tidy/test_proto_fresh.py --rewrite`."""

_KINDS = {
    value: name.removeprefix("TYPE_").lower() for name, value in vars(FieldDescriptor).items() if name[:5] == "TYPE_"
}


def generate(into: Path) -> None:
    """What `make proto` does, to another place."""
    names = sorted(str(path.relative_to(ROOT)) for path in PROTO.glob("*.proto"))
    plugin = ROOT.joinpath(sys.executable).with_name("protoc-gen-mypy")
    outputs = [f"--python_out={into}", f"--plugin=protoc-gen-mypy={plugin}", f"--mypy_out=quiet:{into}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *names]
    subprocess.run(command, cwd=ROOT, check=True, stdin=subprocess.DEVNULL)


def stale(committed: Path, generated: Path) -> list[str]:
    """Names of generated files that differ, are missing or are left over."""
    here, there = (
        {path.name: path.read_bytes() for path in place.glob("*_pb2.py*")} for place in (committed, generated)
    )
    return sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    generate(tmp_path)
    found = stale(PROTO, tmp_path / "etcdpy" / "proto")
    assert not found, f"run `make proto`: {found}"


def test_stale_code_would_be_found(tmp_path: Path) -> None:
    committed, generated = tmp_path / "a", tmp_path / "b"
    for place, names in (
        (committed, ("x_pb2.py", "y_pb2.pyi", "left_over_pb2.py")),
        (generated, ("x_pb2.py", "new_pb2.py")),
    ):
        place.mkdir()
        for name in names:
            (place / name).write_text(name)
    (generated / "y_pb2.pyi").write_text("changed")
    assert stale(committed, generated) == ["left_over_pb2.py", "new_pb2.py", "y_pb2.pyi"]


def kind(field: FieldDescriptor) -> str:
    """`repeated message mvccpb.KeyValue`, `bytes`: what decides how the field is read."""
    repeated = "repeated " if field.is_repeated else ""
    type_of = field.message_type or field.enum_type
    return f"{repeated}{_KINDS[field.type]}" + (f" {type_of.full_name}" if type_of else "")


def message_lines(message: Descriptor) -> Iterator[str]:
    yield f"message {message.full_name}"
    for field in message.fields:
        one_of = f" in {field.containing_oneof.name}" if field.containing_oneof else ""
        yield f"{message.full_name}.{field.name} = {field.number} {kind(field)}{one_of}"
    for nested in message.nested_types:
        yield from message_lines(nested)
    for enum in message.enum_types:
        yield from enum_lines(enum)


def enum_lines(enum: EnumDescriptor) -> Iterator[str]:
    yield from (f"{enum.full_name}.{value.name} = {value.number}" for value in enum.values)


def file_lines(file: FileDescriptor) -> Iterator[str]:
    for message in file.message_types_by_name.values():
        yield from message_lines(message)
    for enum in file.enum_types_by_name.values():
        yield from enum_lines(enum)
    for service in file.services_by_name.values():
        for method in service.methods:
            asks = ("stream " if method.client_streaming else "") + method.input_type.full_name
            answers = ("stream " if method.server_streaming else "") + method.output_type.full_name
            yield f"rpc /{service.full_name}/{method.name} ({asks}) ({answers})"
            for path in method.GetOptions().Extensions[http_pb2.http_path]:
                yield f"http {path} = {service.full_name}/{method.name}"


def descriptor_lines() -> list[str]:
    """One line for every message, field, enum value and call, sorted."""
    modules = [importlib.import_module(f"etcdpy.proto.{path.stem}_pb2") for path in PROTO.glob("*.proto")]
    return sorted(line for module in modules for line in file_lines(module.DESCRIPTOR))


def test_names_and_numbers_are_those_recorded(*, rewrite: bool) -> None:
    now = descriptor_lines()
    if rewrite:
        SNAPSHOT.write_text("\n".join(now) + "\n")
    recorded = SNAPSHOT.read_text().splitlines()
    changed = [f"- {line}" for line in recorded if line not in now] + [
        f"+ {line}" for line in now if line not in recorded
    ]
    assert not changed, report(changed)


def test_the_record_knows_kinds_and_streams() -> None:
    lines = descriptor_lines()
    assert "etcdserverpb.RangeResponse.kvs = 2 repeated message mvccpb.KeyValue" in lines
    assert "etcdserverpb.RequestOp.request_put = 2 message etcdserverpb.PutRequest in request" in lines
    assert "mvccpb.Event.EventType.DELETE = 1" in lines
    assert (
        "rpc /etcdserverpb.Watch/Watch (stream etcdserverpb.WatchRequest) (stream etcdserverpb.WatchResponse)" in lines
    )
