"""Stored revisions become the index that taking them in one by one would make, in whatever order they come."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from etcdpy.mvcc.index import KeyHistory, KeyIndex
from etcdpy.mvcc.record import put_record, tombstone_record
from etcdpy.mvcc.restoring import Intake
from etcdpy.mvcc.revision import disk_key, pack, tombstone_key
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Iterator

Described = tuple[list[int], int, int, bool, object]


class OneByOne:
    """Writes records, and notes each in an index at once."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.index = KeyIndex()
        self.leases: dict[bytes, int] = {}

    def put(self, packed: int, key: bytes, create: int, version: int, value: bytes = b"", lease: int = 0) -> None:
        self.backend.put(disk_key(packed), put_record(key, create, packed >> 32, version, value, lease))
        self.index.restore(key, packed, deleted=False, create=create, version=version)
        if lease:
            self.leases[key] = lease
        else:
            self.leases.pop(key, None)

    def delete(self, packed: int, key: bytes) -> None:
        self.backend.put(tombstone_key(packed), tombstone_record(key))
        self.index.restore(key, packed, deleted=True, create=0, version=0)
        self.leases.pop(key, None)

    def bump(self, packed: int) -> None:
        self.backend.put(disk_key(packed), b"")
        self.index.restore(b"", packed, deleted=False, create=0, version=0)

    def check(self, slice_records: int) -> None:
        index, leases = KeyIndex(), dict[bytes, int]()
        intake = Intake(index, leases)
        for _ in intake.steps(self.backend, slice_records):
            pass
        records = dict(self.backend.scan(b"r", b"s"))
        assert (intake.records, intake.size) == (len(records), sum(map(len, records.values())))
        assert intake.last == int.from_bytes(max(records)[1:13], "big")
        assert leases == self.leases
        assert list(leases) == list(self.leases)
        assert described(index) == described(self.index)
        assert index.dirty == self.index.dirty
        for each in (index, self.index):
            each.finish_restore(intake.last >> 32)
        assert (list(index.live), list(index.ghosts)) == (list(self.index.live), list(self.index.ghosts))


def described(index: KeyIndex) -> dict[bytes, object]:
    return {key: history(entry) if isinstance(entry, KeyHistory) else entry for key, entry in index.entries.items()}


def history(entry: KeyHistory) -> Described:
    older = history(entry.older) if entry.older is not None else None
    return entry.revisions, entry.create, entry.version, entry.ended, older


def test_any_order_of_records() -> None:
    """Also what no store writes: a key created twice, deleted twice, put with a version after its deletion."""
    for seed in range(30):
        random, records = Random(seed), OneByOne()
        keys = [b"k%03d" % number * random.choice((1, 1, 40)) for number in range(60)]
        main = random.choice((2, 100, 16_000, 1 << 33))
        for _ in range(1000):
            sub = random.randrange(3)
            main += random.randrange(1, 3)
            for each in range(sub + 1):
                key, packed = random.choice(keys), pack(main, each)
                match random.randrange(20):
                    case 0 | 1 | 2:
                        records.delete(packed, key)
                    case 3 | 4 | 5 | 6:
                        create = random.choice((main, main - 1, 1))
                        records.put(packed, key, create, random.randrange(1, 300), lease=random.choice((0, 9)))
                    case 7:
                        records.bump(packed)
                    case _:
                        value = bytes(random.choice((0, 5, 300)))
                        records.put(packed, key, main, 1, value, random.choice((0, 0, 7, -3)))
        records.check(random.choice((250, 20_000)))


def test_thousands_of_new_keys_at_once() -> None:
    """Keys that were there before and, as only damage has it, keys that are created twice among them."""
    records = OneByOne()
    records.put(pack(2), b"before", 2, 1)
    records.delete(pack(3), b"before")
    for main in range(4, 6_000):
        key = b"before" if main == 3_000 else b"twice" if main in (2_000, 4_000) else b"%d" % (main * 7919 % 6_007)
        records.put(pack(main), key, main, 1)
    records.check(20_000)


def test_large_records_come_in_short_chunks_and_slices() -> None:
    """A value may have megabytes, and hundreds of them would take the memory and the time that they have together."""
    records = OneByOne()
    for main in range(2, 2000):
        records.put(pack(main), b"%d" % main, main, 1, bytes(5 if main < 1500 else 200_000))
    read = handed = 0

    class Watched(MemoryBackend):
        def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
            nonlocal read
            for pair in records.backend.scan(start, end, reverse=reverse):
                read += 1
                yield pair

    intake = Intake(KeyIndex(), {})
    slices = []
    for count in intake.steps(Watched(), 500):
        assert count == read
        slices.append(count - handed)
        handed = count
    assert slices[0] >= 500
    assert 10 <= max(slices[-20:]) <= 15  # 2 MB each
