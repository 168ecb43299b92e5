"""etcd's write-ahead log: what is written is read, and damage is told from a torn end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from etcdpy.interchange import wal
from etcdpy.raft.entry import Entry, encode_entries
from etcdpy.raft.types import ConfState, HardState
from etcdpy.wire import varint

if TYPE_CHECKING:
    from pathlib import Path

STATE = HardState(term=3, vote=7, commit=14)


def entries(first: int, last: int, term: int = 3) -> list[Entry]:
    return [Entry(b"data %d" % index * (index % 5), None, term, index) for index in range(first, last + 1)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "wal"
    wal.write(path, (1 << 63, 9), (10, 2, ConfState((1, 2), (3,))), STATE, entries(11, 15))
    return path


def test_what_is_written_is_read(log: Path) -> None:
    found = wal.read(log, 10)
    assert (found.member_id, found.cluster_id, found.hard_state) == (1 << 63, 9, STATE)
    assert found.entries == entries(11, 15)
    assert found.snapshots == [(0, 0), (10, 2)]
    assert found.term_at is None
    later = wal.read(log, 13)
    assert (later.term_at, later.entries) == (3, entries(14, 15))
    assert wal.exists(log)
    assert not wal.exists(log.parent)


def test_a_gap_is_refused(log: Path) -> None:
    with pytest.raises(wal.WalError, match="entry 11 follows on entry 5"):
        wal.read(log, 5)


def test_later_entries_take_the_place_of_earlier_ones(log: Path) -> None:
    writer = wal._Writer()
    writer._crc = crc_of(log)
    for entry in entries(13, 13, term=4):
        writer.add(wal.ENTRY, encode_entries((entry,))[0])
    with (log / wal.FIRST_FILE).open("ab") as file:
        file.write(writer.take())
    assert wal.read(log, 10).entries == [*entries(11, 12), *entries(13, 13, term=4)]


def crc_of(log: Path) -> int:
    content = (log / wal.FIRST_FILE).read_bytes()
    return [crc for _, _, crc, _ in wal._frames(log, content, is_last=True)][-1]


def test_a_second_file_goes_on(log: Path) -> None:
    crc = crc_of(log)
    writer = wal._Writer()
    writer._crc = crc
    writer.add(wal.ENTRY, encode_entries(entries(16, 16))[0])
    head = b"\x08\x04\x10" + varint(crc)
    padding = -len(head) % 8
    length = len(head) | ((0x80 | padding) << 56 if padding else 0)
    second = log / f"{1:016x}-{16:016x}.wal"
    second.write_bytes(length.to_bytes(8, "little") + head + bytes(padding) + writer.take() + bytes(4096))
    assert wal.read(log, 10).entries == entries(11, 16)
    second.rename(log / f"{2:016x}-{16:016x}.wal")
    with pytest.raises(wal.WalError, match="a file is missing"):
        wal.read(log, 10)


def test_a_cut_or_torn_end_is_passed_over(log: Path) -> None:
    path = log / wal.FIRST_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert wal.read(log, 10).entries == entries(11, 15)
    path.write_bytes(content + (3000).to_bytes(8, "little") + b"x" * 100 + bytes(8000))
    assert wal.read(log, 10).entries == entries(11, 15)


def test_every_changed_byte_is_noticed_or_changes_nothing(log: Path) -> None:
    path = log / wal.FIRST_FILE
    content = path.read_bytes()
    whole = wal.read(log, 10)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 0x10
        path.write_bytes(changed)
        try:
            found = wal.read(log, 10)
        except wal.WalError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        assert found.entries == whole.entries[: len(found.entries)]
        assert len(found.entries) == len(whole.entries) or place_is_length(content, place)


def place_is_length(content: bytes, place: int) -> bool:
    """A length that leads behind the end of the last file looks like a record that was being written."""
    start = 0
    while start < len(content):
        if start <= place < start + 8:
            return True
        length = int.from_bytes(content[start : start + 8], "little")
        start += 8 + (length & (1 << 56) - 1) + (length >> 56 & 7 if length >> 63 else 0)
    return False


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(wal.WalError, match="--wal-dir"):
        wal.read(tmp_path, 0)
