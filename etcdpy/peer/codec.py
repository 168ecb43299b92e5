"""The two streams' framing, as etcd's members write and read it.

message stream   8 bytes length | message                                                (everything but appends)
msgapp stream    0                                                                       link heartbeat
                 1 | 8 bytes count | count x (8 bytes length | entry) | 8 bytes commit   an append that follows the last
                 2 | 8 bytes length | message                                            any other append

Numbers are big-endian. An append "follows" when its previous entry is the last of the append before and all terms are
equal: then everything else about it is known, and both sides keep the term and index that make it so.

Hot road: a leader writes two frames a batch, a follower reads them. Measured for an append of one entry of 256 bytes:
1.4 us to write, 2.6 us to read.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from etcdpy import limits, work_limits
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import decode_entry, encode_entries
from etcdpy.raft.errors import MalformedMessage
from etcdpy.raft.message import Message, decode_message, encode_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.raft.entry import Entry

_NUMBER: Final = Struct(">Q")
_pack, _unpack = _NUMBER.pack, _NUMBER.unpack_from

MSG_APP: Final = int(raft_pb2.MsgApp)
MSG_SNAP: Final = int(raft_pb2.MsgSnap)
_MSG_HEARTBEAT: Final = int(raft_pb2.MsgHeartbeat)

_LINK_HEARTBEAT, _APP_ENTRIES, _APP = 0, 1, 2


class MalformedFrame(ValueError):
    """The other side of a stream does not keep to the framing; the stream is of no more use."""


def frame_message(message: Message) -> list[bytes]:
    """The message with its length before it, in pieces."""
    pieces = encode_message(message)
    return [_pack(sum(map(len, pieces))), *pieces]


class MessageEncoder:
    """Writes the message stream."""

    link_heartbeat: Final = (_pack(2), b"\x08\x08")
    """A heartbeat from nobody to nobody, which says that the connection lives."""

    def encode(self, messages: Sequence[Message], pieces: list[bytes]) -> None:
        """Append the wire form of `messages` to `pieces`."""
        for message in messages:
            pieces += frame_message(message)


class AppEncoder:
    """Writes the msgapp stream. One for each connection: it remembers the last append."""

    link_heartbeat: Final = (b"\x00",)

    def __init__(self) -> None:
        self._term = 0
        self._index = 0

    def encode(self, messages: Sequence[Message], pieces: list[bytes]) -> None:
        """Append the wire form of `messages`, all of them appends, to `pieces`."""
        for message in messages:
            entries = message.entries
            if message.index == self._index and message.log_term == self._term == message.term:
                pieces.append(b"\x01" + _pack(len(entries)))
                for wire in encode_entries(entries):
                    pieces += (_pack(len(wire)), wire)
                pieces.append(_pack(message.commit))
                self._index += len(entries)
            else:
                pieces.append(b"\x02")
                pieces += frame_message(message)
                self._term = message.term
                self._index = message.index + len(entries)


class MessageDecoder:
    """Reads the message stream."""

    __slots__ = ("_limit", "_need", "_rest")

    def __init__(self, limit: int = limits.PEER_MESSAGE_BYTES_MAX) -> None:
        self._limit = limit
        self._need = 8
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now, link heartbeats left out. Raises MalformedFrame."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
        messages: list[Message] = []
        position, end = 0, len(data)
        while end - position >= 8:
            size = _checked(_unpack(data, position)[0], self._limit)
            if end - position < 8 + size:
                self._need = 8 + size
                break
            message = _message(data[position + 8 : position + 8 + size])
            position += 8 + size
            if message.type != _MSG_HEARTBEAT or message.from_ or message.to:
                messages.append(message)
        else:
            self._need = 8
        self._rest = bytearray(data[position:]) if position < end else bytearray()
        return messages


class AppDecoder:
    """Reads the msgapp stream from member `remote` to us, `local`."""

    __slots__ = ("_entries", "_expected", "_index", "_limit", "_local", "_need", "_remote", "_rest", "_room", "_term")

    def __init__(self, local: int, remote: int, limit: int = limits.PEER_MESSAGE_BYTES_MAX) -> None:
        self._local = local
        self._remote = remote
        self._limit = limit
        self._need = 1
        self._rest = bytearray()
        self._term = 0
        self._index = 0
        self._expected = 0
        """Entries still to come of the append that is being read."""
        self._entries: list[Entry] | None = None
        """Those that have come; None between two frames."""
        self._room = 0
        """Bytes that this append may still have."""

    def feed(self, data: bytes) -> list[Message]:
        """The messages that are whole now, link heartbeats left out. Raises MalformedFrame."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
        messages: list[Message] = []
        position, end = 0, len(data)
        while position < end:
            step = self._read_frame if self._entries is None else self._read_entries
            taken = step(data, position, messages)
            if taken < 0:
                break
            position = taken
        self._rest = bytearray(data[position:]) if position < end else bytearray()
        return messages

    # Each reader returns where it stopped, or -1 when it needs `_need` bytes from `position` on.

    def _read_frame(self, data: bytes, position: int, messages: list[Message]) -> int:
        kind = data[position]
        if kind == _LINK_HEARTBEAT:
            return position + 1
        if len(data) - position < 9:
            self._need = 9
            return -1
        number: int = _unpack(data, position + 1)[0]
        position += 9
        if kind == _APP_ENTRIES:
            if number > work_limits.RAFT_MESSAGE_ENTRIES_MAX:
                raise MalformedFrame("rafthttp: error limit exceeded")
            self._entries = []
            self._expected = number
            self._room = self._limit
            # Appends mostly come whole, so their entries are read in the same call.
            taken = self._read_entries(data, position, messages)
            return position if taken < 0 else taken
        if kind != _APP:
            raise MalformedFrame(f"unknown frame type {kind} on the msgapp stream")
        size = _checked(number, self._limit)
        if len(data) - position < size:
            self._need = 9 + size
            return -1
        message = _message(data[position : position + size])
        self._term = message.term
        self._index = message.entries[-1].index if message.entries else message.index
        messages.append(message)
        return position + size

    def _read_entries(self, data: bytes, position: int, messages: list[Message]) -> int:
        entries = self._entries
        assert entries is not None
        start, end = position, len(data)
        while self._expected:
            if end - position < 8:
                return self._wait(start, position, 8)
            size = _checked(_unpack(data, position)[0], self._room)
            if end - position < 8 + size:
                return self._wait(start, position, 8 + size)
            if size < work_limits.RAFT_ENTRY_BYTES_MIN:
                raise MalformedFrame("an entry is too short to be one")
            entries.append(_entry(data[position + 8 : position + 8 + size]))
            self._expected -= 1
            self._room -= size
            position += 8 + size
        if end - position < 8:
            return self._wait(start, position, 8)
        term, index = self._term, self._index
        messages.append(
            Message(
                MSG_APP,
                to=self._local,
                from_=self._remote,
                term=term,
                log_term=term,
                index=index,
                entries=entries,
                commit=_unpack(data, position)[0],
            )
        )
        self._index = index + len(entries)
        self._entries = None
        return position + 8

    def _wait(self, start: int, position: int, need: int) -> int:
        self._need = need
        return position if position > start else -1


def _checked(size: int, limit: int) -> int:
    if size > limit:
        raise MalformedFrame("rafthttp: error limit exceeded")
    return size


def _message(data: bytes) -> Message:
    try:
        return decode_message(data)
    except MalformedMessage as error:
        raise MalformedFrame(str(error)) from error


def _entry(data: bytes) -> Entry:
    try:
        return decode_entry(data)
    except DecodeError as error:
        raise MalformedFrame(f"an entry cannot be read: {error}") from error
