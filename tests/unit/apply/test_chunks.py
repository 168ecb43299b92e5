"""What is applied between two looks at the clock."""

from __future__ import annotations

from collections import deque

from etcdpy import limits
from etcdpy.apply.chunks import take_chunk
from etcdpy.apply.entry_data import EntryEncoder
from etcdpy.proto import rpc_pb2
from etcdpy.raft.entry import Entry

ENCODER = EntryEncoder(1)


def put(value_bytes: int) -> Entry:
    body = rpc_pb2.PutRequest(key=b"key", value=b"v" * value_bytes).SerializeToString()
    return Entry(ENCODER.encode("put", body))


def small_transaction() -> Entry:
    return Entry(ENCODER.encode("txn", rpc_pb2.TxnRequest().SerializeToString()))


def chunk_sizes(entries: list[Entry]) -> list[int]:
    queue = deque(entries)
    sizes: list[int] = []
    while queue:
        chunk = take_chunk(queue)
        assert chunk == entries[sum(sizes) : sum(sizes) + len(chunk)]
        sizes.append(len(chunk))
    return sizes


def test_many_puts_go_together_and_few_of_anything_else() -> None:
    puts = limits.APPLY_CHUNK_BYTES // limits.APPLY_CHUNK_PUT_BYTES
    others = limits.APPLY_CHUNK_BYTES // limits.APPLY_CHUNK_ENTRY_BYTES
    assert puts > others > 1
    assert chunk_sizes([put(256)] * (2 * puts + 1)) == [puts, puts, 1]
    assert chunk_sizes([small_transaction()] * (others + 1)) == [others, 1]
    assert chunk_sizes([Entry()] * (others + 1)) == [others, 1], "a new leader's entry holds nothing"


def test_a_large_put_ends_a_chunk_and_one_that_is_beyond_it_is_alone() -> None:
    assert chunk_sizes([put(2 * limits.APPLY_CHUNK_BYTES)] * 3) == [1, 1, 1]
    assert chunk_sizes([put(8 * limits.APPLY_CHUNK_BYTES), put(1)]) == [1, 1]
