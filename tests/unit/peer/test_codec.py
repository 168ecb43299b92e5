"""The streams' framing: what etcd writes is read, cut anywhere, and what we write is what etcd writes."""

from __future__ import annotations

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.peer.codec import (
    AppDecoder,
    AppEncoder,
    MalformedFrame,
    MessageDecoder,
    MessageEncoder,
    frame_message,
)
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.message import Message, encode_message

APP = raft_pb2.MsgApp


def append(index: int, *data: bytes, term: int = 3, log_term: int = 3, commit: int = 1) -> Message:
    entries = [Entry(value, term=term, index=index + number) for number, value in enumerate(data, 1)]
    return Message(APP, to=1, from_=2, term=term, log_term=log_term, index=index, entries=entries, commit=commit)


def written(*messages: Message) -> bytes:
    pieces: list[bytes] = []
    AppEncoder().encode(messages, pieces)
    return b"".join(pieces)


APPENDS = [
    append(4, b"a", log_term=2), append(5, b"b", b"c" * 300), append(7), append(7, commit=7), append(9, b"d" * 5000),
    append(10, b"", term=4), append(11, b"e", term=4, log_term=4),
]  # fmt: skip


def test_an_append_that_follows_is_written_short() -> None:
    stream = written(append(4, b"a", log_term=2), append(5, b"b", commit=9))
    first = b"".join(encode_message(append(4, b"a", log_term=2)))
    entry = raft_pb2.Entry(Term=3, Index=6, Type=raft_pb2.EntryNormal, Data=b"b").SerializeToString()
    expected = b"\x02" + pack(">Q", len(first)) + first
    expected += b"\x01" + pack(">Q", 1) + pack(">Q", len(entry)) + entry + pack(">Q", 9)
    assert stream == expected


def test_a_new_term_or_a_gap_is_written_whole() -> None:
    kinds = [written(*APPENDS[: number + 1])[len(written(*APPENDS[:number])) :][0] for number in range(len(APPENDS))]
    assert kinds == [2, 1, 1, 1, 2, 2, 1]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 100_000])
def test_appends_are_read_however_they_are_cut(size: int) -> None:
    stream = b"\0" + b"\0".join([written(*APPENDS[:3])]) + b"\0"
    decoder, found = AppDecoder(1, 2), []
    for start in range(0, len(stream), size):
        found += decoder.feed(stream[start : start + size])
    assert found == APPENDS[:3]
    assert [entry.wire for message in found for entry in message.entries] == [
        entry.wire for message in APPENDS[:3] for entry in message.entries
    ]


@given(st.lists(st.integers(1, 40), max_size=200))
def test_any_cut_of_the_msgapp_stream_is_as_good(sizes: list[int]) -> None:
    stream = written(*APPENDS)
    decoder, found, position = AppDecoder(1, 2), [], 0
    for size in [*sizes, len(stream)]:
        found += decoder.feed(stream[position : position + size])
        position += size
    assert found == APPENDS


def test_messages_are_read_one_byte_at_a_time() -> None:
    messages = [
        Message(raft_pb2.MsgHeartbeat, to=1, from_=2, term=3, commit=4, context=b"x"),
        Message(raft_pb2.MsgVote, to=1, from_=2, term=5, log_term=3, index=9),
        append(3, b"z" * 1000),
    ]
    pieces: list[bytes] = [*MessageEncoder.link_heartbeat]
    MessageEncoder().encode(messages, pieces)
    stream = b"".join((*pieces, *MessageEncoder.link_heartbeat))
    assert MessageDecoder().feed(stream) == messages
    decoder = MessageDecoder()
    assert [found for byte in stream for found in decoder.feed(bytes((byte,)))] == messages


def test_link_heartbeats_of_old_members_carry_zeros() -> None:
    old = Message(raft_pb2.MsgHeartbeat)
    assert MessageDecoder().feed(b"".join(frame_message(old))) == []


def test_lengths_are_bounded_before_anything_is_kept() -> None:
    with pytest.raises(MalformedFrame, match="limit exceeded"):
        MessageDecoder().feed(pack(">Q", 512 * 1024 * 1024 + 1))
    with pytest.raises(MalformedFrame, match="limit exceeded"):
        AppDecoder(1, 2).feed(b"\x02" + pack(">Q", 1 << 63))
    with pytest.raises(MalformedFrame, match="limit exceeded"):
        AppDecoder(1, 2).feed(b"\x01" + pack(">Q", 1 << 60) + pack(">Q", 1 << 60))
    entry = raft_pb2.Entry(Term=1, Index=1, Data=b"x" * 50).SerializeToString()
    frame = pack(">Q", len(entry)) + entry
    decoder = AppDecoder(1, 2, limit=100)
    with pytest.raises(MalformedFrame, match="limit exceeded"):
        decoder.feed(b"\x01" + pack(">Q", 9) + frame * 9)


@pytest.mark.parametrize(
    "stream",
    [
        b"\x03" + bytes(8),
        b"\x02" + pack(">Q", 2) + b"\x0a\xff",
        b"\x01" + pack(">Q", 1) + pack(">Q", 2) + b"\x0a\xff",
    ],
)
def test_nonsense_on_the_msgapp_stream_is_named(stream: bytes) -> None:
    with pytest.raises(MalformedFrame):
        AppDecoder(1, 2).feed(stream)


def test_nonsense_on_the_message_stream_is_named() -> None:
    with pytest.raises(MalformedFrame):
        MessageDecoder().feed(pack(">Q", 2) + b"\x08\xff")


def test_entries_without_bytes_are_refused() -> None:
    """Found by tests/fuzz: each costs 8 bytes to send and 200 to hold, and their number had no bound."""
    with pytest.raises(MalformedFrame, match="limit exceeded"):
        AppDecoder(1, 2).feed(b"\x01" + pack(">Q", 2**40))
    with pytest.raises(MalformedFrame, match="too short"):
        AppDecoder(1, 2).feed(b"\x01" + pack(">Q", 1000) + bytes(8))


@pytest.mark.parametrize("field", [b"\x08\x01", b"\x62\x00", b"\xfa\x01\x00", b"\x3a\x00"])
def test_a_message_of_repeated_fields_is_refused(field: bytes) -> None:
    """Found by tests/fuzz: 40 KB of them held the loop for 16 ms."""
    body = field * 1000
    with pytest.raises(MalformedFrame, match="too many fields"):
        MessageDecoder().feed(pack(">Q", len(body)) + body)
