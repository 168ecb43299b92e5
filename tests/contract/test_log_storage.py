"""raft's LogStorage, on the real log and on the one in memory that raft's own tests use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import LogCompacted, LogUnavailable
from etcdpy.raft.types import ConfState, HardState, LogStorage
from tests.support.raft_network import MemoryLog
from tests.support.storage import new_engine, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from etcdpy.storage.engine import Engine


class Subject(Protocol):
    @property
    def storage(self) -> LogStorage: ...
    def append(self, hard_state: HardState, entries: Sequence[Entry]) -> None: ...
    def truncate(self, index: int) -> None: ...
    def reopen(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.storage = MemoryLog(ConfState((1,)), HardState(1, 1, 0))

    def append(self, hard_state: HardState, entries: Sequence[Entry]) -> None:
        self.storage.append(hard_state, entries)

    def truncate(self, index: int) -> None:
        self.storage.truncate(index)

    def reopen(self) -> None:
        pass


class OnDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: Engine = new_engine(path)

    @property
    def storage(self) -> LogStorage:
        return self.engine.log

    def append(self, hard_state: HardState, entries: Sequence[Entry]) -> None:
        run(self.engine, self.engine.take_job(hard_state, entries, must_sync=True))

    def truncate(self, index: int) -> None:
        self.engine.state.put(b"rx", b"")
        self.engine.set_applied(index, self.storage.term(index))
        run(self.engine, self.engine.take_job(None, ()))
        self.engine._truncate_to = index
        run(self.engine, self.engine.take_job(None, ()))

    def reopen(self) -> None:
        self.engine.close()
        self.engine = new_engine(self.path)


@pytest.fixture(params=["memory", "disk"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "memory":
        yield InMemory()
        return
    on_disk = OnDisk(tmp_path / "data")
    yield on_disk
    on_disk.engine.close()


def entries(*pairs: tuple[int, int]) -> list[Entry]:
    return [Entry(b"%d/%d" % (term, index), None, term, index) for term, index in pairs]


NO_LIMIT = 1 << 60


def test_empty(subject: Subject) -> None:
    for _ in range(2):
        storage = subject.storage
        assert storage.initial_state() == (HardState(1, 1, 0), ConfState((1,)))
        assert (storage.first_index(), storage.last_index(), storage.term(0)) == (1, 0, 0)
        with pytest.raises(LogUnavailable):
            storage.term(1)
        with pytest.raises(LogUnavailable):
            storage.entries(1, 2, NO_LIMIT)
        subject.reopen()


def test_append_and_read(subject: Subject) -> None:
    written = entries((1, 1), (1, 2), (2, 3), (2, 4), (5, 5))
    subject.append(HardState(5, 2, 3), written)
    for _ in range(2):
        storage = subject.storage
        assert storage.initial_state()[0] == HardState(5, 2, 3)
        assert (storage.first_index(), storage.last_index()) == (1, 5)
        assert storage.entries(1, 6, NO_LIMIT) == written
        assert storage.entries(2, 4, NO_LIMIT) == written[1:3]
        assert [storage.term(index) for index in range(6)] == [0, 1, 1, 2, 2, 5]
        subject.reopen()


def test_sizes_cut_but_give_one(subject: Subject) -> None:
    subject.append(HardState(1, 1, 0), entries((1, 1), (1, 2), (1, 3)))
    for _ in range(2):
        assert [entry.index for entry in subject.storage.entries(1, 4, 0)] == [1]
        assert [entry.index for entry in subject.storage.entries(1, 4, 6)] == [1, 2]
        assert [entry.index for entry in subject.storage.entries(2, 4, 8)] == [2, 3]
        subject.reopen()


def test_a_conflicting_end_is_replaced(subject: Subject) -> None:
    subject.append(HardState(1, 1, 0), entries((1, 1), (1, 2), (1, 3), (2, 4), (2, 5)))
    subject.append(HardState(3, 1, 0), entries((3, 3)))
    for _ in range(2):
        assert subject.storage.last_index() == 3
        assert subject.storage.entries(1, 4, NO_LIMIT) == entries((1, 1), (1, 2), (3, 3))
        assert [subject.storage.term(index) for index in range(4)] == [0, 1, 1, 3]
        with pytest.raises(LogUnavailable):
            subject.storage.term(4)
        subject.reopen()
    subject.append(HardState(4, 1, 0), entries((4, 1)))
    assert subject.storage.entries(1, 2, NO_LIMIT) == entries((4, 1))
    subject.append(HardState(4, 1, 0), entries((4, 2), (4, 3)))
    assert [subject.storage.term(index) for index in range(4)] == [0, 4, 4, 4]


def test_truncation(subject: Subject) -> None:
    subject.append(HardState(3, 1, 5), entries((1, 1), (1, 2), (2, 3), (2, 4), (3, 5)))
    subject.truncate(3)
    for _ in range(2):
        storage = subject.storage
        assert (storage.first_index(), storage.last_index()) == (4, 5)
        assert [storage.term(index) for index in (3, 4, 5)] == [2, 2, 3]
        with pytest.raises(LogCompacted):
            storage.term(2)
        with pytest.raises(LogCompacted):
            storage.entries(3, 5, NO_LIMIT)
        assert storage.entries(4, 6, NO_LIMIT) == entries((2, 4), (3, 5))
        subject.reopen()
    subject.truncate(5)
    for _ in range(2):
        assert (subject.storage.first_index(), subject.storage.last_index(), subject.storage.term(5)) == (6, 5, 3)
        subject.reopen()
    subject.append(HardState(4, 1, 5), entries((4, 6)))
    assert subject.storage.entries(6, 7, NO_LIMIT) == entries((4, 6))
    assert subject.storage.term(5) == 3
