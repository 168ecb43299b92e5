"""What members say to each other, and its wire form (raftpb.Message).

A plain slotted class: a member makes and reads thousands a second. Numbers and flags are always on the wire, even when
zero, as etcd's peers of every version write them; bytes, snapshot and vote only when there are any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from etcdpy import work_limits
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import decode_entry, encode_entries
from etcdpy.raft.errors import MalformedMessage
from etcdpy.wire import varint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etcdpy.raft.entry import Entry


_FIELDS: Final = (
    "commit",
    "context",
    "entries",
    "from_",
    "index",
    "log_term",
    "reject",
    "reject_hint",
    "snapshot",
    "term",
    "to",
    "type",
    "vote",
)


class Message:
    """One message. Which fields count depends on the type; `from_` is the sender.

    `entries` may be shared with the log and with messages to other members: nobody changes the list.
    """

    __slots__ = _FIELDS

    def __init__(
        self,
        type: int,  # noqa: A002 (raftpb's name for the field)
        *,
        to: int = 0,
        from_: int = 0,
        term: int = 0,
        log_term: int = 0,
        index: int = 0,
        entries: list[Entry] | None = None,
        commit: int = 0,
        vote: int = 0,
        reject: bool = False,
        reject_hint: int = 0,
        context: bytes = b"",
        snapshot: raft_pb2.Snapshot | None = None,
    ) -> None:
        self.type = type
        self.to = to
        self.from_ = from_
        self.term = term
        self.log_term = log_term
        self.index = index
        self.entries = entries if entries is not None else []
        self.commit = commit
        self.vote = vote
        self.reject = reject
        self.reject_hint = reject_hint
        self.context = context
        self.snapshot = snapshot

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Message):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Message({self.from_:x}->{self.to:x} {type_name(self.type)} term={self.term} index={self.index})"


def type_name(kind: int) -> str:
    """The type's name as in raftpb; a number when it is none."""
    return _NAMES.get(kind, f"type {kind}")


_NAMES: Final[dict[int, str]] = {number: name for name, number in raft_pb2.MessageType.items()}


# --- the wire form ---

_ENTRY_TAG: Final = b"\x3a"


def encode_message(message: Message) -> list[bytes]:
    """The wire form in pieces, to be joined or written one after the other. An entry's own form is never made twice."""
    pieces = [
        b"".join(
            (
                b"\x08",
                varint(message.type),
                b"\x10",
                varint(message.to),
                b"\x18",
                varint(message.from_),
                b"\x20",
                varint(message.term),
                b"\x28",
                varint(message.log_term),
                b"\x30",
                varint(message.index),
            )
        )
    ]
    if message.entries:
        for wire in encode_entries(message.entries):
            pieces += (_ENTRY_TAG, varint(len(wire)), wire)
    tail = [b"\x40", varint(message.commit)]
    if message.snapshot is not None:
        tail += _field(b"\x4a", message.snapshot.SerializeToString())
    tail += (b"\x50\x01" if message.reject else b"\x50\x00", b"\x58", varint(message.reject_hint))
    if message.context:
        tail += _field(b"\x62", message.context)
    if message.vote:
        tail += (b"\x68", varint(message.vote))
    pieces.append(b"".join(tail))
    return pieces


def _field(tag: bytes, value: bytes) -> Iterable[bytes]:
    return tag, varint(len(value)), value


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_ENTRIES, _SNAPSHOT, _REJECT, _CONTEXT = 7, 9, 10, 12
_NUMBERS: Final = {
    1: "type",
    2: "to",
    3: "from_",
    4: "term",
    5: "log_term",
    6: "index",
    8: "commit",
    11: "reject_hint",
    13: "vote",
}


def decode_message(data: bytes) -> Message:
    """The message in `data`, each entry with its wire form as received. Raises MalformedMessage.

    By hand, because the generated class would take the entries apart and lose their bytes: 4 us and 0.9 us an entry.
    Fields that are not known are skipped, as protobuf demands.
    """
    message = Message(raft_pb2.MsgHup)
    position, end = 0, len(data)
    left = work_limits.RAFT_MESSAGE_FIELDS_MAX
    try:
        while position < end:
            tag, position = _number(data, position)
            field, kind = tag >> 3, tag & 7
            if field != _ENTRIES:
                left -= 1
            if left < 0:
                raise MalformedMessage("a raft message has too many fields")
            if kind == _VARINT:
                value, position = _number(data, position)
                _take_number(message, field, value)
            elif kind == _BYTES:
                size, position = _number(data, position)
                start, position = position, position + size
                if size < work_limits.RAFT_ENTRY_BYTES_MIN and field == _ENTRIES:
                    left -= 1
                if position > end:
                    raise MalformedMessage(f"field {field} of a raft message is cut off")
                _take_bytes(message, field, data[start:position])
            elif kind in (_FIXED64, _FIXED32):
                position += 8 if kind == _FIXED64 else 4
            else:
                raise MalformedMessage(f"a raft message has a field of wire type {kind}")
    except IndexError as error:
        raise MalformedMessage("a raft message is cut off") from error
    except DecodeError as error:
        raise MalformedMessage(f"a part of a raft message cannot be read: {error}") from error
    if position > end:
        raise MalformedMessage("a raft message is cut off")
    if message.term > work_limits.RAFT_TERM_MAX:
        raise MalformedMessage("a raft message has a term that no election reaches")
    return message


def _take_number(message: Message, field: int, value: int) -> None:
    name = _NUMBERS.get(field)
    if name is not None:
        setattr(message, name, value)
    elif field == _REJECT:
        message.reject = value != 0


def _take_bytes(message: Message, field: int, value: bytes) -> None:
    if field == _ENTRIES:
        if len(message.entries) >= work_limits.RAFT_MESSAGE_ENTRIES_MAX:
            raise MalformedMessage("a raft message has too many entries")
        message.entries.append(decode_entry(value))
    elif field == _CONTEXT:
        message.context = value
    elif field == _SNAPSHOT:
        message.snapshot = raft_pb2.Snapshot.FromString(value)


def _number(data: bytes, position: int) -> tuple[int, int]:
    """The varint at `position` and where it ends. Raises IndexError when it is cut off."""
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    number, shift = byte & 0x7F, 7
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > 63:
            raise MalformedMessage("a number in a raft message is longer than 64 bits")
    return number & 0xFFFF_FFFF_FFFF_FFFF, position
