"""The Backend protocol, on the fake that the pure rooms are tested with and on the real one at each stage of a write.

A new backend joins by adding its subject to SUBJECTS.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

import pytest

from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import RangeOptions
from etcdpy.mvcc.store import Store
from tests.support.memory_backend import MemoryBackend
from tests.support.storage import new_engine, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from etcdpy.backend import Backend
    from etcdpy.storage.job import DiskJob


class Subject(Protocol):
    @property
    def backend(self) -> Backend: ...

    def settle(self) -> None:
        """Let what was written so far reach the next stage."""

    def reopen(self) -> None:
        """What a clean restart does."""

    def close(self) -> None: ...


class InMemory:
    def __init__(self, path: Path) -> None:
        self.backend = MemoryBackend()

    def settle(self) -> None:
        pass

    def reopen(self) -> None:
        self.backend = self.backend.copy()

    def close(self) -> None:
        pass


class OnDisk:
    """Everything that is settled is in LevelDB, the rest in the open batch."""

    def __init__(self, path: Path) -> None:
        self.path = path / "data"
        self.engine = new_engine(self.path)

    @property
    def backend(self) -> Backend:
        return self.engine.state

    def settle(self) -> None:
        if self.engine.has_open_writes:
            run(self.engine, self.engine.take_job(None, ()))

    def reopen(self) -> None:
        self.settle()
        self.engine.close()
        self.engine = new_engine(self.path)

    def close(self) -> None:
        self.engine.close()


class OnItsWay(OnDisk):
    """Everything that is settled has left the open batch and is not in LevelDB yet."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.jobs: list[DiskJob] = []

    def settle(self) -> None:
        if self.engine.has_open_writes:
            self.jobs.append(self.engine.take_job(None, ()))

    def reopen(self) -> None:
        self.settle()
        for job in self.jobs:
            run(self.engine, job)
        self.jobs = []
        super().reopen()

    def close(self) -> None:
        for job in self.jobs:
            run(self.engine, job)
        super().close()


SUBJECTS: list[Callable[[Path], Subject]] = [InMemory, OnDisk, OnItsWay]


@pytest.fixture(params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    subject: Subject = request.param(tmp_path)
    yield subject
    subject.close()


def everything(backend: Backend, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
    return list(backend.scan(b"r", b"s", reverse=reverse))


def test_what_is_put_is_read_at_once(subject: Subject) -> None:
    assert subject.backend.get(b"ra") is None
    subject.backend.put(b"ra", b"1")
    assert subject.backend.get(b"ra") == b"1"
    subject.settle()
    assert subject.backend.get(b"ra") == b"1"
    subject.backend.put(b"ra", b"")
    assert subject.backend.get(b"ra") == b""


def test_what_is_deleted_is_gone_at_once(subject: Subject) -> None:
    subject.backend.delete(b"ra")
    subject.backend.put(b"ra", b"1")
    subject.settle()
    subject.backend.delete(b"ra")
    assert subject.backend.get(b"ra") is None
    assert everything(subject.backend) == []
    subject.settle()
    assert subject.backend.get(b"ra") is None
    subject.backend.put(b"ra", b"2")
    assert everything(subject.backend) == [(b"ra", b"2")]


def test_a_scan_is_ordered_and_bounded(subject: Subject) -> None:
    for key in (b"rb", b"r", b"ra\0", b"s", b"ra", b"q\xff", b"rc"):
        subject.backend.put(key, key)
        subject.settle()
    assert [key for key, _ in subject.backend.scan(b"ra", b"rc")] == [b"ra", b"ra\0", b"rb"]
    assert [key for key, _ in subject.backend.scan(b"ra", b"rc", reverse=True)] == [b"rb", b"ra\0", b"ra"]
    assert list(subject.backend.scan(b"rb", b"ra")) == []
    assert list(subject.backend.scan(b"ra", b"ra")) == []


def test_a_scan_sees_the_moment_of_its_call(subject: Subject) -> None:
    for number in range(6):
        subject.backend.put(b"r%d" % number, b"old")
        if number == 3:
            subject.settle()
    scan = subject.backend.scan(b"r", b"s")
    subject.backend.put(b"r0", b"new")  # before the first pair is asked for
    assert next(scan) == (b"r0", b"old")
    subject.backend.put(b"r00", b"new")
    subject.backend.delete(b"r2")
    subject.settle()
    subject.backend.delete(b"r5")
    subject.backend.put(b"r4", b"new")
    assert list(scan) == [(b"r%d" % number, b"old") for number in range(1, 6)]
    assert [key for key, _ in everything(subject.backend)] == [b"r0", b"r00", b"r1", b"r3", b"r4"]


def test_it_is_a_sorted_dict(subject: Subject) -> None:
    random, model = Random(7), dict[bytes, bytes]()
    for step in range(600):
        key = b"r%02d" % random.randrange(30)
        if random.random() < 0.3:
            subject.backend.delete(key)
            model.pop(key, None)
        else:
            model[key] = value = b"%d" % step
            subject.backend.put(key, value)
        if random.random() < 0.1:
            subject.settle()
        assert subject.backend.get(key) == model.get(key)
        if step % 20 == 0:
            assert everything(subject.backend) == sorted(model.items())
            assert everything(subject.backend, reverse=True) == sorted(model.items(), reverse=True)
    subject.reopen()
    assert everything(subject.backend) == sorted(model.items())


def test_a_store_lives_on_it(subject: Subject) -> None:
    """Writes between the slices of reads and of a compaction, then a restart: the same store again."""
    random, store = Random(3), Store.open(subject.backend)
    for number in range(300):
        store.put(b"k%02d" % random.randrange(40), b"%d" % number)
        if number % 7 == 0:
            store.delete_range(b"k%02d" % random.randrange(40))
        if number % 11 == 0:
            subject.settle()
    expected = store.range(b"\0", b"\0")
    past = RangeOptions(revision=store.current_revision)
    store.compact(store.current_revision - 20)
    for step, _ in enumerate(store.compaction_steps(10)):
        store.put(b"k%02d" % random.randrange(40), b"between")
        if step % 3 == 0:
            subject.settle()
    assert store.range(b"\0", b"\0", past).records == expected.records
    digest = finish(store.hash_kv_steps())
    whole = finish(store.hash_steps())
    now = store.range(b"\0", b"\0")
    subject.reopen()
    again = Store.open(subject.backend)
    assert finish(again.hash_kv_steps()) == digest
    assert finish(again.hash_steps()) == whole
    assert (again.current_revision, again.compact_revision) == (store.current_revision, store.compact_revision)
    assert (again.bytes_in_use, again.size_total) == (store.bytes_in_use, store.size_total)
    assert again.range(b"\0", b"\0") == now
