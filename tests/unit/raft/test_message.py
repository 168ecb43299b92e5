"""The wire form by hand against the generated class, which real peers' forms agree with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy import work_limits
from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import MalformedMessage
from etcdpy.raft.message import Message, decode_message, encode_message, type_name

NUMBER = st.integers(0, (1 << 64) - 1)
ENTRIES = st.builds(
    lambda data, term, index, kind: Entry(data, None, term, index, kind),
    st.binary(max_size=200),
    NUMBER,
    NUMBER,
    st.integers(0, 2),
)
SNAPSHOTS = st.builds(
    lambda index, voters: raft_pb2.Snapshot(
        metadata=raft_pb2.SnapshotMetadata(index=index, conf_state=raft_pb2.ConfState(voters=voters))
    ),
    NUMBER,
    st.lists(NUMBER, max_size=3),
)
MESSAGES = st.builds(
    Message,
    type=st.integers(0, 23),
    to=NUMBER,
    from_=NUMBER,
    term=st.integers(0, work_limits.RAFT_TERM_MAX),
    log_term=NUMBER,
    index=NUMBER,
    entries=st.lists(ENTRIES, max_size=4),
    commit=NUMBER,
    vote=NUMBER,
    reject=st.booleans(),
    reject_hint=NUMBER,
    context=st.binary(max_size=20),
    snapshot=st.none() | SNAPSHOTS,
)


def generated(message: Message) -> raft_pb2.Message:
    fields: dict[str, Any] = {
        "type": message.type,
        "to": message.to,
        "from": message.from_,
        "term": message.term,
        "logTerm": message.log_term,
        "index": message.index,
        "commit": message.commit,
        "reject": message.reject,
        "rejectHint": message.reject_hint,
    }
    if message.context:
        fields["context"] = message.context
    if message.vote:
        fields["vote"] = message.vote
    if message.snapshot is not None:
        fields["snapshot"] = message.snapshot
    made = raft_pb2.Message(**fields)
    for entry in message.entries:
        made.entries.append(
            raft_pb2.Entry(Term=entry.term, Index=entry.index, Type=entry.type, Data=entry.data)  # type: ignore[arg-type]
        )
    return made


@given(MESSAGES)
def test_by_hand_equals_the_generated_class(message: Message) -> None:
    value = b"".join(encode_message(message))
    assert raft_pb2.Message.FromString(value) == generated(message)
    assert decode_message(value) == message
    assert decode_message(generated(message).SerializeToString()) == message


def test_absent_fields_are_zero_and_unknown_ones_are_skipped() -> None:
    sparse = raft_pb2.Message(type=raft_pb2.MsgApp, entries=[raft_pb2.Entry(Term=3)]).SerializeToString()
    unknown = b"\xa0\x06\x05" + b"\xa9\x06" + bytes(8) + b"\xb2\x06\x02ab" + b"\xbd\x06" + bytes(4)
    message = decode_message(unknown + sparse)
    assert message == Message(raft_pb2.MsgApp, entries=[Entry(b"", None, 3, 0)])
    assert message.entries[0].wire == b"\x10\x03", "the bytes that came are the bytes that are kept"


@given(MESSAGES, st.data())
def test_a_cut_message_is_refused_or_means_what_is_left(message: Message, data: st.DataObject) -> None:
    value = b"".join(encode_message(message))
    cut = value[: data.draw(st.integers(0, len(value) - 1))]
    try:
        decoded = decode_message(cut)
    except MalformedMessage:
        return
    assert decoded.entries == message.entries[: len(decoded.entries)]
    assert decoded.term in (0, message.term)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        decode_message(data)
    except MalformedMessage:
        return


@pytest.mark.parametrize(
    "data",
    [b"\x08", b"\x08" + b"\xff" * 11, b"\x3a\x05\x08", b"\x3a\x01\xff", b"\x0b", b"\x49\x00", b"\xff"],
    ids=["no value", "endless number", "cut entry", "bad entry", "group", "cut fixed", "no tag"],
)
def test_what_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_message(data)


def test_entries_are_encoded_once() -> None:
    entry = Entry(b"x", None, 1, 1)
    first, second = (encode_message(Message(raft_pb2.MsgApp, to=member, entries=[entry])) for member in (2, 3))
    assert any(piece is entry.wire for piece in first)
    assert any(piece is entry.wire for piece in second)


def test_names() -> None:
    assert type_name(raft_pb2.MsgApp) == "MsgApp"
    assert type_name(99) == "type 99"


def test_a_term_that_no_election_reaches_is_refused() -> None:
    """Found by tests/fuzz: the next election of a member that believed it ended the process."""
    data = b"".join(encode_message(Message(raft_pb2.MsgVote, to=1, from_=2, term=work_limits.RAFT_TERM_MAX)))
    assert decode_message(data).term == work_limits.RAFT_TERM_MAX
    data = b"".join(encode_message(Message(raft_pb2.MsgVote, to=1, from_=2, term=2**64 - 1)))
    with pytest.raises(MalformedMessage, match="no election reaches"):
        decode_message(data)
