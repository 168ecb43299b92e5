"""Entries are read by hand where that is possible: it must say what the generated class says, of any bytes."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, decode_entry, encode_entries

NUMBERS = st.integers(0, 300) | st.integers(0, (1 << 64) - 1)
ENTRIES = st.builds(Entry, st.binary(max_size=300), st.none(), NUMBERS, NUMBERS, st.integers(0, 2))


def check(value: bytes) -> None:
    try:
        expected = raft_pb2.Entry.FromString(value)
    except DecodeError:
        with pytest.raises(DecodeError):
            decode_entry(value)
        return
    entry = decode_entry(value)
    found = entry.term, entry.index, entry.type, entry.data
    assert found == (expected.Term, expected.Index, expected.Type, expected.Data)
    assert entry.wire is value


@given(ENTRIES)
def test_an_entry_is_read_as_the_generated_class_reads_it(entry: Entry) -> None:
    check(encode_entries([entry])[0])


@given(ENTRIES, st.integers(0, 400), st.integers(0, 255))
@example(Entry(b"a", None, 1, 2), 4, 0x80)
def test_so_is_one_with_another_byte_in_it_and_one_that_is_cut_off(entry: Entry, place: int, byte: int) -> None:
    (value,) = encode_entries([entry])
    place %= len(value)
    check(value[:place] + bytes((byte,)) + value[place + 1 :])
    check(value[:place])
    check(value + bytes((byte,)))


@given(st.binary(max_size=40))
def test_so_are_bytes_that_are_no_entry(value: bytes) -> None:
    check(value)
