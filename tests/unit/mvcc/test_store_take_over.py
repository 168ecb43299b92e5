"""A store goes over to a later state of its own history, as after a snapshot from the leader."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import RangeOptions
from etcdpy.mvcc.store import Store
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from etcdpy.mvcc.index import KeyIndex


def played(random: Random, store: Store, steps: int) -> None:
    for number in range(steps):
        store.put(b"k%03d" % random.randrange(200), b"%d" % number)
        if number % 5 == 0:
            store.delete_range(b"k%03d" % random.randrange(200))


def content(store: Store) -> tuple[object, ...]:
    return (
        store.range(b"\0", b"\0"),
        store.range(b"\0", b"\0", RangeOptions(revision=store.current_revision - 10)),
        store.current_revision,
        store.compact_revision,
        store.bytes_in_use,
        store.record_count,
        finish(store.hash_kv_steps()),
    )


def index_content(index: KeyIndex) -> tuple[object, ...]:
    return list(index.live), list(index.ghosts), list(index.dirty), set(index.entries)


def test_an_index_built_in_slices_is_the_same() -> None:
    backend = MemoryBackend()
    played(Random(1), Store.open(backend), 3000)
    at_once, aside = Store.open(backend), Store(backend)
    assert sum(1 for _ in aside.restore_aside_steps()) > 6
    assert index_content(aside.index) == index_content(at_once.index)
    assert content(aside) == content(at_once)


def test_it_becomes_the_later_state() -> None:
    """And everything that was kept of the earlier one still holds, compaction and all."""
    backend = MemoryBackend()
    store = Store.open(backend)
    store.changes = []
    played(Random(1), store, 500)
    finish(store.range_steps(b"\0", b"\0"))
    later_backend = backend.copy()
    later = Store.open(later_backend)
    played(Random(2), later, 2000)
    later.compact(later.current_revision - 300)
    finish(later.compaction_steps())
    expected = content(later)

    aside = Store(later_backend)
    finish(aside.restore_aside_steps())
    store.changes.clear()
    store.backend = later_backend
    old = store.take_over(aside)
    assert content(store) == expected
    assert store.times_replaced == 1
    assert not store.changes
    store.put(b"new", b"1")
    assert store.current_revision == later.current_revision + 1

    for _ in old.dispose_steps():
        pass
    assert index_content(old) == ([], [], [], set())


def test_a_pending_compaction_comes_along() -> None:
    backend = MemoryBackend()
    store = Store.open(backend)
    played(Random(1), store, 100)
    later_backend = backend.copy()
    later = Store.open(later_backend)
    played(Random(2), later, 100)
    later.compact(later.current_revision - 10)
    store.backend = later_backend.copy()
    aside = Store(store.backend)
    finish(aside.restore_aside_steps())
    store.take_over(aside)
    assert store.compactions.pending
    finish(store.compaction_steps())
    finish(later.compaction_steps())
    assert content(store) == content(later)
