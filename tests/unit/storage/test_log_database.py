"""The raft log's database: segments made ahead, removed when nothing in them counts, and damage named."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from etcdpy import limits
from etcdpy.storage import segments
from etcdpy.storage.errors import DamagedError, StorageError
from etcdpy.storage.log_database import LogDatabase, create_log, open_log
from etcdpy.storage.segment_format import ALIGNMENT, CONTENT_END, batches, pack_batch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEGMENT_BYTES = 4096


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LOG_SEGMENT_BYTES", SEGMENT_BYTES)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogDatabase]:
    database = create_log(tmp_path / "log")
    yield database
    database.close()


def key(index: int) -> bytes:
    return index.to_bytes(8, "big")


def write(log: LogDatabase, index: int, value: bytes, *, sync: bool = True, delete: int = 0) -> None:
    batch = log.write_batch(sync=sync)
    batch.put(b"meta/last", key(index))
    batch.put(key(index), value)
    if delete > 0:
        batch.delete(key(delete))
    batch.write()


def names(path: Path) -> list[int]:
    """The numbers of the segments that are there, the prepared one included."""
    return segments.numbers_in(path)


def value(index: int) -> bytes:
    return b"%d." % index * 100


def settled(log: LogDatabase) -> LogDatabase:
    """Nothing is being made beside it any more."""
    if log._preparation is not None:
        log._preparation.segment()
    return log


# --- segments ---


def test_it_goes_from_segment_to_segment_and_removes_what_is_dead(tmp_path: Path, log: LogDatabase) -> None:
    log.put(b"meta/identity", b"written once")
    for index in range(1, 101):
        write(log, index, value(index), delete=index - 20)
        assert len(names(tmp_path / "log")) <= 4
    found = names(settled(log)._path)
    assert found[0] > 5, "the oldest are gone"
    assert sorted(os.listdir(tmp_path / "log")) == [segments.path_of(tmp_path, number).name for number in found]
    assert found == list(range(found[0], found[-1] + 1))
    log.close()
    again = open_log(tmp_path / "log")
    assert list(again.iterator(stop=b"meta/")) == [(key(index), value(index)) for index in range(81, 101)]
    assert again.get(b"meta/identity") == b"written once"
    assert again.get(b"meta/last") == key(100)
    assert names(tmp_path / "log") == found
    write(again, 101, value(101))
    again.close()


def test_a_dead_segment_stays_until_that_is_durable(tmp_path: Path, log: LogDatabase) -> None:
    for index in range(1, 30):
        write(log, index, value(index), sync=False)
    first = names(tmp_path / "log")[0]
    batch = log.write_batch()
    for index in range(1, 29):
        batch.delete(key(index))
    batch.write()
    assert names(tmp_path / "log")[0] == first == 1
    log.put(b"meta/x", b"", sync=True)
    assert names(tmp_path / "log")[0] > first


def test_the_next_segment_is_made_ahead(tmp_path: Path, log: LogDatabase) -> None:
    made: list[int] = []
    while len(names(tmp_path / "log")) == 1:
        write(log, len(made) + 1, b"x" * 100)
        settled(log)
        made.append(log._current.end)
    assert SEGMENT_BYTES / 2 < made[-1] < SEGMENT_BYTES / 2 + 300
    assert (tmp_path / "log" / "0000000000000002.segment").stat().st_size == SEGMENT_BYTES
    log.close()
    again = open_log(tmp_path / "log")
    assert again._prepared is not None
    while again._current.number == 1:
        write(again, 1, b"x" * 100)
    assert names(tmp_path / "log") == [1, 2]
    again.close()


def test_a_segment_that_could_not_be_made_ahead_is_tried_again(
    tmp_path: Path, log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, tried = segments.create, []

    def full(*_: object) -> segments.Segment:
        tried.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segments, "create", full)
    while log._preparation is None:
        write(log, 1, value(1))
    settled(log)
    with pytest.raises(OSError, match="No space left"):
        write(log, 2, bytes(SEGMENT_BYTES // 2))
    assert len(tried) == 2
    monkeypatch.setattr(segments, "create", create)
    log.close()
    again = open_log(tmp_path / "log")
    for index in range(2, 40):
        write(again, index, value(index))
    assert again.get(key(1)) == value(1)
    again.close()


def test_a_batch_larger_than_a_segment_has_one_of_its_own(tmp_path: Path, log: LogDatabase) -> None:
    large = os.urandom(3 * SEGMENT_BYTES)
    write(log, 1, b"before")
    write(log, 2, large)
    write(log, 3, b"after")
    numbers = [log._places[key(index)][0] for index in (1, 2, 3)]
    assert numbers == [1, 2, 3]
    log.close()
    again = open_log(tmp_path / "log")
    assert [again.get(key(index)) for index in (1, 2, 3)] == [b"before", large, b"after"]
    again.close()


def test_an_interrupted_making_leaves_nothing(tmp_path: Path, log: LogDatabase) -> None:
    log.close()
    (tmp_path / "log" / "next.tmp").write_bytes(b"x" * 100)
    open_log(tmp_path / "log").close()
    assert os.listdir(tmp_path / "log") == ["0000000000000001.segment"]


def test_a_write_that_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(log, 1, b"whole")
    pwrite = os.pwrite
    calls = []

    def half(descriptor: int, data: bytes, position: int) -> int:
        calls.append(len(data))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, data[: len(data) // 2] if len(calls) == 1 else data, position)

    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(OSError, match="No space left"):
        write(log, 2, b"y" * 100)
    log.close()
    again = open_log(tmp_path / "log")
    assert list(again.iterator(stop=b"meta/")) == [(key(1), b"whole")]
    again.close()


def test_a_write_in_two_parts_is_whole(tmp_path: Path, log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, position: pwrite(descriptor, data[:50], position))
    write(log, 1, value(1))
    log.close()
    monkeypatch.undo()
    again = open_log(tmp_path / "log")
    assert again.get(key(1)) == value(1)
    again.close()


def test_making_all_files_anew(tmp_path: Path, log: LogDatabase) -> None:
    for index in range(1, 40):
        write(log, index, value(index), delete=index - 25)
    before = set(names(settled(log)._path)) - {log._current.number + 1}
    first, steps = log.begin_renewal(), 0
    while not log.renew(first, 500):
        steps += 1
        write(log, 40 + steps, b"meanwhile")
    assert steps == 13, "two of 25 entries in each"
    assert not before & set(names(tmp_path / "log"))
    log.close()
    again = open_log(tmp_path / "log")
    assert [again.get(key(index)) for index in range(14, 40)] == [None, *map(value, range(15, 40))]
    assert again.get(key(40 + steps)) == b"meanwhile"
    again.close()


# --- reading ---


def test_what_is_read_is_in_order_whatever_the_order_of_writing(log: LogDatabase) -> None:
    for index in (5, 3, 9, 4):
        write(log, index, value(index))
    keys = list(log.iterator(start=key(4), stop=b"meta/", include_value=False))
    assert keys == [key(4), key(5), key(9)]
    assert list(log.iterator(reverse=True, include_value=False)) == [b"meta/last", key(9), key(5), key(4), key(3)]
    assert log.get(key(6)) is None
    assert log.approximate_size(key(4), key(9)) == len(value(4) + value(5))


def test_damage_under_an_open_log_is_named(log: LogDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log, 1, value(1))
    place = log._places[key(1)]
    os.pwrite(log._current.descriptor, b"!", place[1] + 60)
    with pytest.raises(DamagedError, match=rf"0001.segment: the batch at byte {place[1]} cannot be read back"):
        log.get(key(1))
    os.pwrite(log._current.descriptor, b"\xff" * 4, place[1] + 4)  # the size in its head
    pread = os.pread
    asked: list[int] = []

    def counted(descriptor: int, size: int, position: int) -> bytes:
        asked.append(size)
        return pread(descriptor, size, position)

    monkeypatch.setattr(os, "pread", counted)
    with pytest.raises(DamagedError, match="cannot be read back"):
        log.get(key(1))
    assert max(asked) < 1000, "memory for no more than there is"


def test_a_record_that_goes_while_others_are_read(log: LogDatabase) -> None:
    for index in range(1, 30):
        write(log, index, value(index))
    pairs = log.iterator()
    assert next(pairs)[0] == key(1)
    batch = log.write_batch(sync=True)
    for index in range(2, 29):
        batch.delete(key(index))
    batch.write()
    assert [pair[0] for pair in pairs] == [key(29), b"meta/last"]


# --- damage ---


@pytest.fixture
def stopped(tmp_path: Path, log: LogDatabase) -> Path:
    """Three segments, the last of them with some batches, and one made ahead."""
    while log._current.number < 3 or log._current.end < SEGMENT_BYTES * 0.6:
        last = log.get(b"meta/last") or key(0)
        write(log, int.from_bytes(last, "big") + 1, value(7))
    log.close()
    assert names(tmp_path / "log") == [1, 2, 3, 4]
    return tmp_path / "log"


def refused(path: Path, words: str) -> None:
    """Twice the same, so nothing was changed."""
    for _ in range(2):
        with pytest.raises(StorageError, match=words) as caught:
            open_log(path)
        assert "\n" not in str(caught.value)


def test_a_segment_that_is_missing(stopped: Path) -> None:
    shutil.copytree(stopped, stopped.with_name("copy"))
    segments.path_of(stopped, 2).unlink()
    refused(stopped, r"0002.segment is missing although later ones are there; replace this member")
    refused(stopped.with_name("none"), "No such file or directory")
    stopped.with_name("empty").mkdir()
    refused(stopped.with_name("empty"), "holds no segment of the raft log")


@pytest.mark.parametrize("position", [3, 17, 24, 32, 62])
def test_a_damaged_header(stopped: Path, position: int) -> None:
    path = segments.path_of(stopped, 4)
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    refused(stopped, r"0004.segment: its header is damaged")


def test_a_segment_that_is_too_long(stopped: Path) -> None:
    os.truncate(segments.path_of(stopped, 2), limits.LOG_SEGMENT_BYTES_MAX + 1)
    refused(stopped, r"0002.segment is longer than any segment")


def test_another_segment_under_its_name(stopped: Path) -> None:
    shutil.copy(segments.path_of(stopped, 1), segments.path_of(stopped, 2))
    refused(stopped, r"0002.segment: its header is damaged")


@pytest.mark.parametrize("number", [1, 3])
def test_a_segment_that_is_cut(stopped: Path, number: int) -> None:
    os.truncate(segments.path_of(stopped, number), SEGMENT_BYTES - 1)
    refused(stopped, rf"000{number}.segment is cut: 4095 bytes instead of 4096")
    os.truncate(segments.path_of(stopped, number), 10)
    refused(stopped, r"its header is damaged")


def zero(path: Path, start: int, stop: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:start] + bytes(stop - start) + content[stop:])


def test_a_segment_whose_end_is_gone(stopped: Path) -> None:
    """Zeros in place of the last batches of one that others follow."""
    path = segments.path_of(stopped, 2)
    segment, content = segments.open_segment(stopped, 2)
    *_, last = batches(segment.salt, content)
    segment.close()
    zero(path, last.position, SEGMENT_BYTES)
    refused(stopped, rf"0003.segment: batch {last.number} is missing although batch {last.number + 1} is there")
    path.write_bytes(content)
    zero(path, last.position, last.position + 32)
    refused(stopped, rf"0002.segment: batch {last.number} is missing although 0{{15}}3.segment goes on")
    zero(path, 64, SEGMENT_BYTES)
    refused(stopped, r"0002.segment: batch \d+ is missing although 0{15}3.segment goes on")


def test_a_first_batch_that_is_gone(tmp_path: Path, log: LogDatabase) -> None:
    write(log, 1, value(1))
    log.close()
    path = segments.path_of(tmp_path / "log", 1)
    content = path.read_bytes()
    path.write_bytes(content[:64] + bytes(32) + content[96:])
    refused(tmp_path / "log", r"0001.segment: its first batch is damaged")


@pytest.mark.parametrize("content", [b"\x08\x09\0\0\0" + key(2) + b"too short", b"\x08\0"])
def test_a_batch_that_says_nothing(tmp_path: Path, log: LogDatabase, content: bytes) -> None:
    """Its checksums hold, so it was written wrongly."""
    write(log, 1, value(1))
    log._append(content[:-1] + CONTENT_END)
    log.close()
    refused(tmp_path / "log", rf"0001.segment: batch {log._next - 1} cannot be read")


def test_every_bit_of_the_last_batch_counts(tmp_path: Path, log: LogDatabase) -> None:
    """It is whole on the disk, so a bit that changed is no loss of power."""
    write(log, 1, b"first")
    begin = log._current.end
    write(log, 2, value(2))
    number, end = log._next - 1, begin + 32 + 5 + 14 + 5 + 8 + len(value(2)) + 1
    log.close()
    path = segments.path_of(tmp_path / "log", 1)
    content = path.read_bytes()
    for position in range(begin, end):
        path.write_bytes(content[:position] + bytes((content[position] ^ 0x10,)) + content[position + 1 :])
        refused(tmp_path / "log", rf"0001.segment: batch {number}, at byte {begin}, is damaged")


def test_a_value_that_looks_like_a_batch_is_none(tmp_path: Path, log: LogDatabase) -> None:
    """A client may send what a batch looks like: after a loss of power it must not pass for one that came later."""
    forged = pack_batch(0, 9, 8, b"\x08\0\0\0\0forged!!\xff")
    assert len(forged) % ALIGNMENT == 0
    for pad in range(ALIGNMENT):
        write(log, 1, b"durable")
        begin = log._current.end
        write(log, 2, b"x" * (1200 + pad) + forged)
        log.close()
        path = segments.path_of(tmp_path / "log", 1)
        content = path.read_bytes()
        path.write_bytes(
            content[: begin + 32]
            + bytes(-(begin + 32) % 512 + 512)
            + content[begin + 32 :][-(begin + 32) % 512 + 512 :]
        )
        again = open_log(tmp_path / "log")
        assert list(again.iterator(stop=b"meta/")) == [(key(1), b"durable")]
        again.close()
        shutil.rmtree(tmp_path / "log")
        log = create_log(tmp_path / "log")
    log.close()


# --- loss of power ---


def test_a_segment_has_its_name_once_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And that name is durable before anything is written to it."""
    done: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    segments.create(tmp_path, 7, SEGMENT_BYTES).close()
    assert done == [str(tmp_path / "next.tmp"), str(tmp_path)]
    assert os.listdir(tmp_path) == ["0000000000000007.segment"]


def in_first_segment(log: LogDatabase, sizes: list[int], *, sync: bool) -> tuple[Path, list[int]]:
    """Write values of those sizes and close; returns the file and where each batch begins."""
    begins = []
    for index, size in enumerate(sizes, 1):
        begins.append(log._current.end)
        write(log, index, b"v" * size, sync=sync)
    assert log._current.number == 1
    log.close()
    return log._current.path, begins


def entries(path: Path) -> list[int]:
    again = open_log(path.parent)
    found = [int.from_bytes(each, "big") for each in again.iterator(stop=b"meta/", include_value=False)]
    again.close()
    return found


def test_a_lost_sector_before_one_that_was_written(log: LogDatabase) -> None:
    """Neither is known to be durable: the disk may write the later one first."""
    path, _ = in_first_segment(log, [300, 1500, 300], sync=False)
    zero(path, 1024, 1536)
    assert entries(path) == [1]
    assert not path.read_bytes()[1024:].strip(b"\0"), "what was behind it is no part of the log any more"


def test_a_lost_sector_of_a_batch_that_was_durable(log: LogDatabase) -> None:
    """The next one was written after its sync, and says so."""
    path, begins = in_first_segment(log, [300, 1500, 300], sync=True)
    zero(path, 1024, 1536)
    refused(path.parent, rf"0001.segment: batch 3, at byte {begins[1]}, is damaged")


def test_the_last_sector_of_a_batch_is_never_zero(log: LogDatabase) -> None:
    """So damage elsewhere in it is not taken for a loss of power. Only the end lies in the third sector."""
    overhead = 64 + 64 + 32 + 5 + 9 + 8 + 5 + 8
    path, begins = in_first_segment(log, [1024 - overhead], sync=True)
    content = bytearray(path.read_bytes())
    assert content[1023:1025] == b"v\xff"
    content[begins[0] + 100] ^= 1
    path.write_bytes(content)
    refused(path.parent, "is damaged")


def test_a_batch_beyond_the_segment_that_was_cut(tmp_path: Path, log: LogDatabase) -> None:
    write(log, 1, b"before")
    write(log, 2, os.urandom(3 * SEGMENT_BYTES), sync=False)
    log.close()
    path = segments.path_of(tmp_path / "log", 2)
    os.truncate(path, 2 * SEGMENT_BYTES + 100)
    assert entries(path) == [1]
    assert path.stat().st_size == SEGMENT_BYTES


def test_a_segment_whose_first_batch_was_lost_is_begun_again(tmp_path: Path, log: LogDatabase) -> None:
    """Or else the records that are written again at the head of each would be missing there."""
    log.put(b"meta/identity", b"written once")
    while log._current.number == 1:
        write(settled(log), 1, value(1) * 4, sync=False)
    log.close()
    zero(segments.path_of(tmp_path / "log", 2), 64, 512)
    again = open_log(tmp_path / "log")
    assert again._current.number == 1
    assert again._prepared is not None
    while names(tmp_path / "log")[0] < 3:
        write(settled(again), 1, value(1))
    again.close()
    again = open_log(tmp_path / "log")
    assert (again.get(b"meta/identity"), again.get(key(1))) == (b"written once", value(1))
    again.close()


def test_what_a_killed_process_wrote_is_durable_before_it_is_used(
    tmp_path: Path, log: LogDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(log, 1, value(1), sync=False)
    log.close()
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    open_log(tmp_path / "log").close()
    assert synced == [str(segments.path_of(tmp_path / "log", 1))]


def test_renewal_of_a_log_without_entries(tmp_path: Path, log: LogDatabase) -> None:
    log.put(b"meta/identity", b"secret", sync=True)
    assert log.renew(log.begin_renewal(), 100)
    assert names(tmp_path / "log") == [2]
    assert log.get(b"meta/identity") == b"secret"
