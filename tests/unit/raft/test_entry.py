from __future__ import annotations

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType, decode_entry, encode_entries, well_formed


def generated(entry: Entry) -> raft_pb2.Entry:
    return raft_pb2.Entry(Term=entry.term, Index=entry.index, Type=entry.type, Data=entry.data)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [1, 126, 127, 128, 16_382, 1 << 21, (1 << 40) - 2])
def test_encoding_by_hand_equals_the_generated_one(first: int) -> None:
    sizes = [0, 1, 127, 128, 4095, 4096, 70_000]
    entries = [Entry(b"x" * size, object(), 3 + size // 4096, first + number) for number, size in enumerate(sizes)]
    entries[3].type = EntryType.CONF_CHANGE
    for entry, value in zip(entries, encode_entries(entries), strict=True):
        assert decode_entry(value) == entry
        assert value == generated(entry).SerializeToString(deterministic=True)


def test_every_field_is_on_the_wire_even_when_zero() -> None:
    # Go peers read absent fields as nil pointers in some versions.
    assert encode_entries([Entry()]) == [b"\x08\x00\x10\x00\x18\x00\x22\x00"]


def test_the_proposal_stays_at_home() -> None:
    (value,) = encode_entries([Entry(b"a", {"secret": 1}, 1, 2)])
    assert decode_entry(value).proposal is None


def test_the_wire_form_is_made_once_and_kept_as_received() -> None:
    entry = Entry(b"a", None, 1, 2)
    (value,) = encode_entries([entry])
    assert encode_entries([entry])[0] is entry.wire is value
    foreign = b"\x22\x01a\x18\x02\x10\x01"
    received = decode_entry(foreign)
    assert received == entry
    assert encode_entries([received])[0] is foreign


def test_well_formed() -> None:
    def entries(*pairs: tuple[int, int]) -> list[Entry]:
        return [Entry(b"", None, term, index) for term, index in pairs]

    assert well_formed([], 5, 2)
    assert well_formed(entries((2, 6), (2, 7), (3, 8)), 5, 2)
    assert not well_formed(entries((2, 7)), 5, 2), "a gap before the first"
    assert not well_formed(entries((2, 6), (2, 8)), 5, 2), "a gap inside"
    assert not well_formed(entries((1, 6)), 5, 2), "a term below the one before"
    assert not well_formed(entries((3, 6), (2, 7)), 5, 2), "a term that falls"
    assert not well_formed([Entry(b"", None, 2, 6, 9)], 5, 2), "an unknown type"
