"""Requests of every gRPC method: any values in any fields, then damaged bytes, against a whole member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import hpack
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from etcdpy.errors import Code
from etcdpy.proto import rpc_pb2
from etcdpy.transport import frames
from etcdpy.transport.frames import PREFACE, frame
from tests.fuzz.damage import mutate
from tests.fuzz.harness import Watch, Wrong
from tests.fuzz.member import MemberSurface, MemoryTransport
from tests.support.wire import headers, message

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
    from google.protobuf.message import Message

    from tests.fuzz.member import FuzzedMember

_KEYS: Final = (b"", b"\0", b"a", b"a", b"b", b"k1", b"k2", b"\xff", b"\xff\xff", b"k" * 300)
_NUMBERS: Final = (0, 0, 1, 1, 2, 3, 10, 128, -1, 2**31 - 1, 2**53, 2**63 - 1, -(2**63))
_DEPTH_MAX: Final = 4
_METHODS: Final = [
    (service.full_name, method)
    for service in rpc_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
_TXN: Final = next(pair for pair in _METHODS if pair[1].name == "Txn")
ENDING: Final = ("MemberAdd", "MemberRemove", "MemberPromote", "MemberUpdate", "MoveLeader")
"""They may leave a cluster of one without a quorum: nothing is asked after them."""
_NOT_PARSED: Final = "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"


class Requests(MemberSurface):
    """A conversation of some tens of calls with a fresh member."""

    name = "grpc"
    calls = 150

    def talk(self, draw: Random, watch: Watch, member: FuzzedMember) -> None:
        transport = member.grpc_connection()
        reader = Answers()
        wide = frames.settings({frames.SETTING_INITIAL_WINDOW_SIZE: 1 << 30}) + frames.window_update(0, 1 << 30)
        member.work(Watch(), lambda: transport.feed(PREFACE + wide), lambda: True)
        for number in range(self.calls):
            service, method = draw.choice(_METHODS) if draw.random() < 0.8 else _TXN
            if method.name in ENDING and number < self.calls - 1:
                continue
            body = _body(draw, method)
            stream = 2 * number + 1
            data = _call(service, method, stream, body)
            watch.inputs += 1
            _ask(member, watch, transport, data, _answered(reader, transport, stream, method))
            reader.judge(transport, stream, method, body)
        if transport.is_closing():
            raise Wrong("the connection was closed")


def _answered(reader: Answers, transport: MemoryTransport, stream: int, method: MethodDescriptor) -> Callable[[], bool]:
    """Whether nothing more is to be waited for. What a stream says first may be long in coming."""
    return lambda: method.client_streaming or reader.ended(transport, stream)


def _ask(member: FuzzedMember, watch: Watch, transport: MemoryTransport, data: bytes, done: Callable[[], bool]) -> None:
    member.work(watch, lambda: transport.feed(data), done)


def _call(service: str, method: MethodDescriptor, stream: int, body: bytes) -> bytes:
    block = hpack.Encoder().encode(headers(path=f"/{service}/{method.name}"))
    data = message(body)
    made = frame(frames.HEADERS, frames.FLAG_END_HEADERS, stream, block)
    size = frames.FRAME_BYTES_DEFAULT
    for at in range(0, len(data), size):
        made += frame(frames.DATA, 1 if at + size >= len(data) else 0, stream, data[at : at + size])
    return made


def _body(draw: Random, method: MethodDescriptor) -> bytes:
    if method.name == "Txn" and draw.random() < 0.05:
        return nested_bomb(draw.choice((8, 32)), draw.choice((2, 3)))
    body = any_message(draw, method.input_type).SerializeToString()
    if draw.random() < 0.4:
        body = mutate(draw, body, [any_message(draw, method.input_type).SerializeToString()])
    return body


def any_message(draw: Random, kind: Descriptor, depth: int = 0) -> Message:
    """Any values in some of the fields."""
    made = GetMessageClass(kind)()
    for field in kind.fields:
        if draw.random() < 0.35:
            continue
        if field.message_type is None:
            values = [_scalar(draw, field) for _ in range(draw.choice((0, 1, 2)))]
            if field.is_repeated:
                getattr(made, field.name).extend(values)
            elif values:
                setattr(made, field.name, values[0])
        elif depth < _DEPTH_MAX:
            _set_message(draw, made, field, depth)
    return made


def _set_message(draw: Random, made: Message, field: FieldDescriptor, depth: int) -> None:
    assert field.message_type is not None
    if field.is_repeated:
        count = draw.choice((0, 1, 1, 2, 3)) if draw.random() < 0.97 or depth else 130
        items = [any_message(draw, field.message_type, depth + 1) for _ in range(count)]
        getattr(made, field.name).extend(items)
    elif field.containing_oneof is None or draw.random() < 0.4:
        getattr(made, field.name).CopyFrom(any_message(draw, field.message_type, depth + 1))


def _scalar(draw: Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind == field.CPPTYPE_BOOL:
        return draw.random() < 0.5
    if kind == field.CPPTYPE_ENUM:
        return draw.choice((0, 1, 2, 3, 4, 7, 2**31 - 1, -1))
    if kind == field.CPPTYPE_STRING:
        value = draw.choice(_KEYS)
        return value if field.type == field.TYPE_BYTES else value.decode("latin-1")
    number = draw.choice(_NUMBERS)
    if kind in (field.CPPTYPE_UINT64, field.CPPTYPE_UINT32):
        number = abs(number)
    bits = 31 if kind in (field.CPPTYPE_INT32, field.CPPTYPE_UINT32) else 63
    return max(min(number, 2**bits - 1), -(2**bits))


def nested_bomb(width: int, depth: int) -> bytes:
    """Transactions inside transactions: each list is short, all of them together are not."""
    request = rpc_pb2.TxnRequest()
    inner = rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=b"a"))
    for _ in range(depth):
        request = rpc_pb2.TxnRequest(success=[inner] * width)
        inner = rpc_pb2.RequestOp(request_txn=request)
    return request.SerializeToString()


class Answers:
    """What came back on a connection, by streams."""

    def __init__(self) -> None:
        self._decoder = hpack.Decoder()
        self._read = 0
        self._statuses: dict[int, tuple[str, str]] = {}
        self._messages: dict[int, int] = {}

    def ended(self, transport: Any, stream: int) -> bool:
        """Whether a call has its answer, or a stream its first message."""
        self._parse(transport.written)
        return stream in self._statuses or bool(self._messages.get(stream)) or transport.is_closing()

    def _parse(self, written: bytearray) -> None:
        while len(written) - self._read >= 9:
            length = int.from_bytes(written[self._read : self._read + 3], "big")
            kind = written[self._read + 3]
            stream = int.from_bytes(written[self._read + 5 : self._read + 9], "big")
            if len(written) - self._read < 9 + length:
                return
            payload = bytes(written[self._read + 9 : self._read + 9 + length])
            self._read += 9 + length
            if kind == frames.HEADERS:
                fields = {str(name): str(value) for name, value in self._decoder.decode(payload)}
                if "grpc-status" in fields:
                    self._statuses[stream] = fields["grpc-status"], fields.get("grpc-message", "")
            elif kind == frames.DATA:
                self._messages[stream] = self._messages.get(stream, 0) + length
            elif kind == frames.RST_STREAM:
                self._statuses.setdefault(stream, ("0", ""))

    def judge(self, transport: Any, stream: int, method: MethodDescriptor, body: bytes) -> None:
        """Raises Wrong."""
        self._parse(transport.written)
        status, text = self._statuses.get(stream, ("0", ""))
        if not status.isdigit() or int(status) not in list(Code):
            raise Wrong(f"{method.name}: grpc-status {status!r}")
        if text == "internal error":
            raise Wrong(f"{method.name}: internal error")
        try:
            GetMessageClass(method.input_type).FromString(body)
        except DecodeError:
            if not method.client_streaming and status not in (str(int(Code.INTERNAL)), str(int(Code.UNIMPLEMENTED))):
                raise Wrong(f"{method.name}: what is no message got status {status} {text!r}") from None
        else:
            if text.replace("%25", "%") == _NOT_PARSED:
                raise Wrong(f"{method.name}: a message was called none")
