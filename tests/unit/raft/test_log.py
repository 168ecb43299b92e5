from __future__ import annotations

import pytest

from etcdpy.raft.entry import Entry
from etcdpy.raft.errors import LogCompacted, LogUnavailable
from etcdpy.raft.log import Log
from tests.support.raft_network import MemoryLog

NO_LIMIT = 1 << 60


def entries(*pairs: tuple[int, int], data: bytes = b"x") -> list[Entry]:
    return [Entry(data, None, term, index) for term, index in pairs]


def make(stored: list[Entry], applied: int = 0) -> tuple[Log, MemoryLog]:
    storage = MemoryLog()
    storage.append(None, stored)
    return Log(storage, applied), storage


def stabilise(log: Log, storage: MemoryLog) -> None:
    written = log.unstable()
    storage.append(None, written)
    log.stable_to(written[-1].index, written[-1].term)


def test_new_entries_are_numbered_and_unstable() -> None:
    log, _ = make(entries((1, 1), (1, 2)))
    fresh = [Entry(b"a"), Entry(b"b")]
    assert log.append_new(fresh, 2, NO_LIMIT)
    assert [(entry.term, entry.index) for entry in fresh] == [(2, 3), (2, 4)]
    assert log.unstable() == fresh
    assert (log.last_index, log.stable, log.last_term()) == (4, 2, 2)


def test_committed_entries_are_the_objects_proposed() -> None:
    log, storage = make([])
    fresh = [Entry(b"a", "context"), Entry(b"b")]
    log.append_new(fresh, 1, NO_LIMIT)
    log.commit_to(2)
    assert log.next_committed(NO_LIMIT) == [], "not durable here yet"
    stabilise(log, storage)
    committed = log.next_committed(NO_LIMIT)
    assert committed[0] is fresh[0]
    assert committed[1] is fresh[1]
    log.applied_to(2)
    assert log.next_committed(NO_LIMIT) == []
    assert log.term(2) == 1, "from storage, after the tail let it go"


def test_limits_cut_slices_but_give_one_entry() -> None:
    log, _ = make([])
    log.append_new([Entry(b"12345") for _ in range(5)], 1, NO_LIMIT)
    assert len(log.slice(1, 6, NO_LIMIT)) == 5
    assert len(log.slice(1, 6, 15)) == 3
    assert len(log.slice(1, 6, 14)) == 2
    assert len(log.slice(2, 6, 1)) == 1
    assert [entry.index for entry in log.slice(3, 5, 10)] == [3, 4]


def test_uncommitted_bytes_are_bounded_and_freed_by_committing() -> None:
    log, storage = make([])
    assert log.append_new([Entry(b"x" * 50)], 1, 10), "anything goes while nothing waits"
    assert not log.append_new([Entry(b"x")], 1, 50)
    assert log.last_index == 1
    assert log.append_new([Entry(b"")], 1, 50), "empty entries always fit"
    assert log.uncommitted_bytes() == 50
    stabilise(log, storage)
    log.commit_to(1)
    assert log.uncommitted_bytes() == 0
    log.applied_to(1)
    assert log.uncommitted_bytes() == 0
    assert log.append_new([Entry(b"x" * 20)], 1, 50)
    assert log.append_new([Entry(b"x" * 30)], 1, 50)
    assert log.uncommitted_bytes() == 50


def test_a_conflicting_end_is_replaced() -> None:
    log, storage = make(entries((1, 1), (1, 2), (1, 3)), applied=1)
    log.append_from_leader(entries((2, 3), (2, 4)))
    assert (log.stable, log.last_index) == (2, 4)
    assert [(entry.term, entry.index) for entry in log.unstable()] == [(2, 3), (2, 4)]
    assert log.term(3) == 2
    stabilise(log, storage)
    log.append_from_leader(entries((3, 4)))
    assert [(entry.term, entry.index) for entry in log.unstable()] == [(3, 4)]
    assert log.slice(1, 5, NO_LIMIT)[-1].index == 2, "storage serves what it has, the tail the rest"
    assert [entry.term for entry in log.slice(3, 5, NO_LIMIT)] == [2, 3]


def test_a_write_that_was_overtaken_counts_for_nothing() -> None:
    log, _ = make(entries((1, 1)))
    log.append_from_leader(entries((1, 2), (1, 3)))
    written = log.unstable()
    log.append_from_leader(entries((2, 3)))
    log.stable_to(written[-1].index, written[-1].term)
    assert log.stable == 1
    assert [(entry.term, entry.index) for entry in log.unstable()] == [(1, 2), (2, 3)]


def test_committed_entries_are_never_replaced() -> None:
    log, _ = make(entries((1, 1), (1, 2)))
    log.commit_to(2)
    with pytest.raises(AssertionError):
        log.append_from_leader(entries((2, 2)))
    with pytest.raises(AssertionError):
        log.commit_to(3)


def test_out_of_bounds() -> None:
    storage = MemoryLog()
    storage.append(None, entries((1, 1), (1, 2), (2, 3)))
    storage.truncate(2)
    log = Log(storage, 2)
    assert (log.first_index(), log.committed, log.applied) == (3, 2, 2)
    assert log.term(2) == 1, "the point of truncation is still known"
    with pytest.raises(LogCompacted):
        log.term(1)
    with pytest.raises(LogUnavailable):
        log.term(4)
    assert not log.matches(1, 1)
    assert not log.matches(4, 2)
    assert log.matches(3, 2)


def test_up_to_date_is_term_first() -> None:
    log, _ = make(entries((1, 1), (3, 2)))
    assert log.is_up_to_date(2, 3)
    assert log.is_up_to_date(1, 4)
    assert log.is_up_to_date(9, 3)
    assert not log.is_up_to_date(1, 3)
    assert not log.is_up_to_date(9, 2)


@pytest.mark.parametrize(
    ("index", "term", "expected"),
    [(6, 5, (6, 5)), (6, 4, (4, 2)), (3, 9, (3, 2)), (6, 1, (1, 1)), (6, 0, (0, 0)), (0, 3, (0, 0)), (9, 3, (9, 0))],
)
def test_find_conflict_by_term(index: int, term: int, expected: tuple[int, int]) -> None:
    log, _ = make(entries((1, 1), (2, 2), (2, 3), (2, 4), (5, 5), (5, 6)))
    assert log.find_conflict_by_term(index, term) == expected
