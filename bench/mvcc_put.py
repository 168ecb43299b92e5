"""What the store costs: puts, gets, ranges, restore and memory, without transport, Raft or disk syncs.

    python -m bench.mvcc_put [--keys 1000000] [--leveldb]

The backend of the put figures is a dict, as the open batch of the real one is; ranges and restore run over LevelDB
with --leveldb. Prints microseconds of CPU an operation.
"""

from __future__ import annotations

import argparse
import gc
import random
import resource
import tempfile
import time
from typing import TYPE_CHECKING, Any

from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import RangeOptions, range_part_steps
from etcdpy.mvcc.store import Store
from etcdpy.mvcc.txn import apply_put, apply_txn
from etcdpy.proto.rpc_pb2 import Compare, PutRequest, RangeRequest, RequestOp, TxnRequest
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class LevelBackend:
    """LevelDB without batches or encryption: what a read costs at least."""

    def __init__(self, directory: str) -> None:
        import plyvel

        self._db = plyvel.DB(directory, create_if_missing=True, write_buffer_size=16 << 20)

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._db.get(key)
        return value

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        pairs: Iterator[tuple[bytes, bytes]] = self._db.iterator(start=start, stop=end, reverse=reverse)
        return pairs

    def put(self, key: bytes, value: bytes) -> None:
        self._db.put(key, value)

    def put_many(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        for key, value in zip(keys, values, strict=True):
            self._db.put(key, value)

    def delete(self, key: bytes) -> None:
        self._db.delete(key)


class BatchBackend(MemoryBackend):
    """Puts as the real backend's open batch takes them: into a dict that is given away from time to time."""

    def put(self, key: bytes, value: bytes) -> None:
        self._values[key] = value
        if len(self._values) >= 512:
            self._values = {}


def timed(name: str, count: int, work: Callable[[], Any]) -> Any:
    gc.collect()
    start = time.thread_time()
    result = work()
    seconds = time.thread_time() - start
    print(f"{name:<42} {seconds / count * 1e6:8.2f} us   {seconds * 1e3:9.1f} ms in all")
    return result


def key_names(count: int) -> list[bytes]:
    names = [b"/registry/bench/%016d" % number for number in range(count)]
    random.Random(1).shuffle(names)
    return names


def puts(count: int) -> None:
    value = bytes(256)
    names = key_names(count)
    store = Store(BatchBackend())

    def put_all() -> None:
        put = store.put
        for name in names:
            put(name, value)

    timed(f"put of a new key, {count:,} keys, random order", count, put_all)
    some = [bytes(bytearray(name)) for name in random.Random(2).sample(names, min(count, 100_000))]

    def put_some() -> None:
        put = store.put
        for name in some:
            put(name, value)

    def put_runs() -> None:
        for start in range(0, len(names), 32):
            run = names[start : start + 32]
            store.put_run(run, [value] * len(run))

    timed("put of an existing key, first time", len(some), put_some)
    timed("put of an existing key, again", len(some), put_some)
    store = Store(BatchBackend())
    timed(f"put of a new key, {count:,} keys, in runs of 32", count, put_runs)
    timed("put of an existing key, in runs of 32", count, put_runs)
    store.changes = []
    timed("put of an existing key, someone listens", len(some), put_some)
    store.changes = None

    def transactions() -> None:
        for name in some:
            store.begin().put(name, value)

    timed("begin, put", len(some), transactions)
    few = some[: len(some) // 10]
    timed("delete", len(few), lambda: [store.delete_range(name) for name in few])
    requests(names[:20_000])


def requests(names: list[bytes]) -> None:
    """What apply calls, protobuf messages in, response bodies out."""
    store = Store(MemoryBackend())
    for name in names:
        store.put(name, bytes(256))
    timed("get", len(names), lambda: [store.get(name) for name in names])
    timed("range of one key", len(names), lambda: [store.range(name) for name in names])
    put_requests = [PutRequest(key=name, value=bytes(256)) for name in names]
    timed("apply_put", len(names), lambda: [apply_put(store, request) for request in put_requests])
    updates = [
        TxnRequest(
            compare=[Compare(key=name, target=Compare.MOD, mod_revision=store.index.mod(name) >> 32)],
            success=[RequestOp(request_put=request)],
            failure=[RequestOp(request_range=RangeRequest(key=name))],
        )
        for name, request in zip(names, put_requests, strict=True)
    ]
    timed("apply_txn, Kubernetes' update", len(names), lambda: [apply_txn(store, update) for update in updates])


def memory(count: int) -> None:
    class NoBackend(MemoryBackend):
        def put(self, key: bytes, value: bytes) -> None:
            pass

    store = Store(NoBackend())
    gc.collect()
    before = resident_bytes()
    for number in range(count):
        store.put(b"/registry/pods/default/%09d" % (number * 7919 % count), b"")
    gc.collect()
    print(f"{'index memory, 32 byte keys':<42} {(resident_bytes() - before) / count:8.1f} bytes a key, key included")


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def ranges(count: int, step: int, order: str) -> None:
    print(f"-- LevelDB, {count:,} records of 1 KB, keys written {order}")
    with tempfile.TemporaryDirectory() as directory:
        backend = LevelBackend(directory)
        store = Store(backend)
        for number in range(count):
            store.put(b"/registry/pods/default/%09d" % (number * step % count), bytes(1024))
        restored = timed("restore, a record", count, lambda: Store.open(backend))
        assert restored.current_revision == store.current_revision
        start, stop = b"/registry/pods/default/000000000", b"/registry/pods/default/000010000"
        timed("range of 10,000, a record", 10_000, lambda: finish(range_part_steps(restored.range(start, stop))))
        bare = RangeOptions(keys_only=True)
        timed("the same, keys only, a key", 10_000, lambda: finish(range_part_steps(restored.range(start, stop, bare))))
        page = RangeOptions(limit=500)
        everything = b"/registry/pods/default0"
        timed("page of 500, a record", 500, lambda: finish(range_part_steps(restored.range(start, everything, page))))
        restored.put(b"/registry/pods/default/x", b"")
        past = RangeOptions(limit=500, revision=restored.current_revision - 1)
        timed("page of 500, older revision, a record", 500, lambda: restored.range(start, everything, past))
        counted = RangeOptions(count_only=True)
        timed("count only", 1, lambda: restored.range(start, everything, counted))
        slowest, result = 0.0, None
        steps = restored.range_steps(b"\0", b"\0")
        while result is None:
            begun = time.thread_time()
            try:
                next(steps)
            except StopIteration as stop:
                result = stop.value
            slowest = max(slowest, time.thread_time() - begun)
        print(f"{'longest slice of a range of everything':<42} {slowest * 1e3:8.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--leveldb", action="store_true", help="also ranges and restore, over LevelDB")
    options = parser.parse_args()
    # As a server does that makes few cycles: the default of 700 spends a third of a put on looking for garbage.
    gc.set_threshold(50_000, 20, 100)
    memory(options.keys)
    puts(options.keys)
    if options.leveldb:
        ranges(min(options.keys, 200_000), 1, "in order")
        ranges(min(options.keys, 200_000), 7919, "scattered")


if __name__ == "__main__":
    main()
