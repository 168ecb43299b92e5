"""Store.put_run is `put` for each: the same records, changes, sizes and leases, whatever came before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.mvcc.store import Store
from tests.support.memory_backend import MemoryBackend

KEYS = st.sampled_from([b"a", b"b", b"c", b"d" * 200])
VALUES = st.sampled_from([b"", b"1", b"v" * 300, b"w" * 5000])
PUTS = st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=12)
STEPS = st.lists(PUTS | KEYS | st.tuples(st.just(7), KEYS), max_size=8)


class Leases:
    """Two leases that exist, and which keys hang on them."""

    def __init__(self) -> None:
        self.keys: set[tuple[int, bytes]] = set()

    def __len__(self) -> int:
        return 1

    def exists(self, lease: int) -> bool:
        return lease == 7

    def attach(self, lease: int, key: bytes) -> None:
        self.keys.add((lease, key))

    def detach(self, lease: int, key: bytes) -> None:
        self.keys.remove((lease, key))


def run(steps: list[object], *, together: bool) -> tuple[object, ...]:
    backend, leases = MemoryBackend(), Leases()
    store = Store(backend, leases)
    store.changes = []
    for step in steps:
        match step:
            case bytes():
                store.delete_range(step)
            case (int(), bytes(key)):
                store.put(key, b"leased", 7)
            case list() if together:
                first = store.current_revision + 1
                assert store.put_run([key for key, _ in step], [value for _, value in step]) == first
            case list():
                for key, value in step:
                    store.put(key, value)
    reads = [store.get(key) for key in (b"a", b"b", b"c", b"d" * 200)]
    # sizes from both roads, and what the cache gives, must be the same too
    counts = (store.current_revision, store.record_count, store.bytes_in_use, store.puts, store.put_bytes)
    return backend.items(), store.changes, counts, reads, leases.keys


@given(STEPS)
def test_a_run_is_each_put_after_the_other(steps: list[object]) -> None:
    assert run(steps, together=True) == run(steps, together=False)
