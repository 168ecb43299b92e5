"""The index by itself: what an entry costs, how counts of older revisions are found, what restore rebuilds."""

from __future__ import annotations

import tracemalloc
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdpy.limits import INDEX_UNSORTED_KEYS_MAX
from etcdpy.mvcc import index as index_module
from etcdpy.mvcc.index import KeyHistory, KeyIndex, KeyState
from etcdpy.mvcc.revision import pack


def test_a_key_costs_far_less_than_an_object() -> None:
    count = 20_000
    keys = [b"/registry/pods/default/%09d" % number for number in range(count)]
    index = KeyIndex()
    tracemalloc.start()
    for number, key in enumerate(keys):
        index.put(key, pack(number + 2))
    entries = tracemalloc.get_traced_memory()[0]
    journal = 2 * 8 * len(index._journal_keys)
    tracemalloc.stop()
    assert (entries - journal) / count < 115, "bytes a key beside the key itself (80) and the bounded journal"


def test_one_put_is_an_int_and_compaction_brings_it_back_to_one() -> None:
    index = KeyIndex()
    for main in (2, 3, 4):
        index.put(b"a", pack(main))
    index.put(b"b", pack(5))
    assert isinstance(index.entries[b"a"], KeyHistory)
    assert isinstance(index.entries[b"b"], int)
    assert list(index.dirty) == [b"a"]
    removed: list[int] = []
    index.begin_compaction()
    while index.compact_slice(4, removed, 1):
        pass
    assert removed == [pack(2), pack(3)]
    assert isinstance(index.entries[b"a"], int)
    assert index.current(b"a") == index.at(b"a", 4) == KeyState(pack(4), 2, 3)
    assert index.at(b"a", 3) is None
    assert not index.dirty
    history = index.put(b"a", pack(6))
    assert history is not None
    assert (history.create, history.version) == (2, 4)
    assert index.mods([b"a", b"b"]) == [pack(6), pack(5)]


def test_a_walk_that_was_given_up_is_taken_up() -> None:
    index = KeyIndex()
    for main in range(2, 12):
        index.put(b"%d" % (main % 3), pack(main))
    removed: list[int] = []
    index.begin_compaction()
    index.compact_slice(11, removed, 1)
    index.begin_compaction()
    assert not index.compact_slice(11, removed, 100)
    assert sorted(removed) == [pack(main) for main in range(2, 9)]


def test_count_follows_the_journal_as_far_as_it_goes() -> None:
    index = KeyIndex()
    index.finish_restore(1)
    for main, key in enumerate((b"a", b"b", b"c"), start=2):
        index.put(key, pack(main))
    index.delete(b"b", pack(5))
    assert [index.count_at(b"a", None, main) for main in (1, 2, 3, 4, 5)] == [0, 1, 2, 3, 2]
    assert [index.count_at(b"b", b"c", main) for main in (2, 3, 4, 5)] == [0, 1, 1, 0]
    with mock.patch.object(index_module, "INDEX_JOURNAL_ENTRIES_MAX", 4):
        index.put(b"b", pack(6))
    assert [index.count_at(b"a", None, main) for main in (2, 3, 5, 6)] == [None, 2, 2, 3]
    index.put(b"b", pack(7))  # neither came nor went
    assert index.count_at(b"a", None, 3) == 2


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([b"a", b"b", b"c", b"d"])), min_size=1, max_size=30))
def test_what_is_left_of_the_journal_counts_right(steps: list[tuple[bool, bytes]]) -> None:
    """Whatever was dropped of it: a count is right, or it is not told."""
    index, now, counts = KeyIndex(), set[bytes](), {1: 0}
    index.finish_restore(1)
    with mock.patch.object(index_module, "INDEX_JOURNAL_ENTRIES_MAX", 5):
        for main, (puts, key) in enumerate(steps, start=2):
            if puts:
                index.put_run([key], [pack(main)])
                now.add(key)
            elif key in now:
                index.delete(key, pack(main))
                now.remove(key)
            counts[main] = len(now)
    told = {main: index.count_at(b"a", None, main) for main in counts}
    assert {main: count for main, count in told.items() if count is not None}.items() <= counts.items()
    assert all(told[main] is not None for main in list(counts)[-2:])


def test_few_keys_wait_to_be_sorted() -> None:
    """Whoever reads first sorts them, and holds the loop for that long."""
    index = KeyIndex()
    keys = [b"%d" % number for number in range(3 * INDEX_UNSORTED_KEYS_MAX)]
    for start in range(0, len(keys), 100):
        some = keys[start : start + 100]
        index.put_run(some, [pack(start + 2 + number) for number in range(len(some))])
        assert len(index._unsorted) < INDEX_UNSORTED_KEYS_MAX
    index.put(b"last", pack(len(keys) + 2))
    assert list(index.live) == sorted([*keys, b"last"])
    assert not index._unsorted


def test_a_key_that_waits_to_be_sorted_can_go_again() -> None:
    index = KeyIndex()
    index.put_run([b"b", b"a"], [pack(2), pack(3)])
    index.delete(b"a", pack(4))
    index.put(b"a", pack(5))
    index.put_run([b"c"], [pack(6)])
    assert index.delete_many([b"b", b"c"], pack(7)) == [pack(2), pack(6)]
    assert (list(index.live), list(index.ghosts)) == ([b"a"], [b"b", b"c"])


def test_count_does_not_reach_before_the_restart() -> None:
    index = KeyIndex()
    index.restore(b"a", pack(5), deleted=False, create=5, version=1)
    index.finish_restore(5)
    assert index.count_at(b"a", None, 4) is None
    assert index.count_at(b"a", None, 5) == 1


@pytest.mark.parametrize("position", range(6))
def test_restore_rebuilds_from_any_point_on(position: int) -> None:
    """A compaction may have taken any number of a key's first revisions."""
    whole, part = KeyIndex(), KeyIndex()
    writes = [(2, False, 2, 1), (3, False, 2, 2), (4, True, 0, 0), (5, False, 5, 1), (6, True, 0, 0), (7, False, 7, 1)]
    for number, (main, deleted, create, version) in enumerate(writes):
        if deleted:
            whole.delete(b"a", pack(main))
        else:
            whole.put(b"a", pack(main))
        if number >= position:
            part.restore(b"a", pack(main), deleted=deleted, create=create, version=version)
    part.finish_restore(7)
    assert list(part.live) == [b"a"]
    assert [part.at(b"a", main) for main in range(2 + position, 8)] == [
        whole.at(b"a", main) for main in range(2 + position, 8)
    ]


def test_delete_many_is_many_deletes() -> None:
    one, many = KeyIndex(), KeyIndex()
    for index in (one, many):
        for main, key in enumerate((b"a", b"b", b"c", b"d"), start=2):
            index.put(key, pack(main))
        index.put(b"b", pack(6))
    previous = [one.delete(key, pack(7, sub)) for sub, key in enumerate((b"b", b"c"))]
    assert many.delete_many([b"b", b"c"], pack(7)) == previous == [pack(6), pack(4)]
    assert list(one.live) == list(many.live) == [b"a", b"d"]
    assert list(one.ghosts) == list(many.ghosts) == [b"b", b"c"]
    assert [many.at(b"c", main) for main in (6, 7)] == [KeyState(pack(4), 4, 1), None]
