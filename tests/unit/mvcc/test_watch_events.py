"""The hand-made wire bytes against the generated classes, and where responses are cut."""

from __future__ import annotations

import pytest

from etcdpy.mvcc.watch_events import (
    CANCELED,
    CREATED,
    Event,
    Headers,
    Part,
    cancel_reason_field,
    compact_revision_field,
    fragments,
    id_field,
)
from etcdpy.proto import kv_pb2, rpc_pb2
from etcdpy.wire import varint

NUMBERS = [0, 1, 127, 128, 300, 16_383, 16_384, (1 << 63) - 1, -1, -(1 << 63)]


@pytest.mark.parametrize("number", NUMBERS)
def test_fields(number: int) -> None:
    message = id_field(number) + CREATED + CANCELED + compact_revision_field(number) + cancel_reason_field("r" * 200)
    expected = rpc_pb2.WatchResponse(
        watch_id=number, created=True, canceled=True, compact_revision=number, cancel_reason="r" * 200
    )
    assert rpc_pb2.WatchResponse.FromString(message) == expected


def test_varint_takes_uint64() -> None:
    assert varint((1 << 64) - 1) == b"\xff" * 9 + b"\x01"


def test_headers() -> None:
    headers = Headers((1 << 64) - 1, 5)
    for revision, term in ((7, 0), (7, 2), (7, 2), (0, 2), (300, 1 << 40)):
        headers.raft_term = term
        expected = rpc_pb2.WatchResponse(
            header=rpc_pb2.ResponseHeader(cluster_id=(1 << 64) - 1, member_id=5, revision=revision, raft_term=term)
        )
        assert headers.encode(revision) == expected.SerializeToString()


@pytest.mark.parametrize("key_size", [1, 127, 128, 20_000])
@pytest.mark.parametrize("value_size", [0, 100, 4096, 70_000])
@pytest.mark.parametrize("main", [2, 1 << 40])
def test_events(key_size: int, value_size: int, main: int) -> None:
    key = b"k" * key_size
    kv = kv_pb2.KeyValue(key=key, create_revision=main - 1, mod_revision=main, version=2, value=b"v" * value_size)
    previous = kv_pb2.KeyValue(key=key, create_revision=main - 1, mod_revision=main - 1, version=1, value=b"p")
    asked: list[tuple[bytes, int]] = []

    def previous_record(key: bytes, main: int) -> bytes:
        asked.append((key, main))
        return previous.SerializeToString()

    put = Event(main << 32 | 3, key, False, kv.SerializeToString())
    assert put.plain() == rpc_pb2.WatchResponse(events=[kv_pb2.Event(kv=kv)]).SerializeToString()
    expected = rpc_pb2.WatchResponse(events=[kv_pb2.Event(kv=kv, prev_kv=previous)])
    assert put.with_previous(previous_record) == put.with_previous(previous_record) == expected.SerializeToString()
    assert asked == [(key, main - 1)], "read once"
    deleted = Event(main << 32, key, True, kv_pb2.KeyValue(key=key).SerializeToString())
    gone = kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=kv_pb2.KeyValue(key=key, mod_revision=main))
    assert deleted.plain() == rpc_pb2.WatchResponse(events=[gone]).SerializeToString()
    gone.prev_kv.CopyFrom(previous)
    assert deleted.with_previous(previous_record) == rpc_pb2.WatchResponse(events=[gone]).SerializeToString()


@pytest.mark.parametrize(("create", "main"), [(5, 5), (300, 300), (5, 6), (2, 258), (1 << 40, 1 << 40)])
def test_creates_are_told_from_updates(create: int, main: int) -> None:
    record = kv_pb2.KeyValue(key=b"k", create_revision=create, mod_revision=main, version=1).SerializeToString()
    assert Event(main << 32, b"k", False, record).is_create() == (create == main)


def cut(sizes: list[int], limit: int) -> list[tuple[bool, int]]:
    """(fragment mark, events) of each piece; every event is a chunk of the given size."""
    chunks = [
        rpc_pb2.WatchResponse(events=[kv_pb2.Event(kv=kv_pb2.KeyValue(value=b"x" * (size - 6)))]).SerializeToString()
        for size in sizes
    ]
    assert [len(chunk) for chunk in chunks] == sizes
    head = id_field(5)
    pieces = fragments(head, Part(1, chunks, [b"".join(chunks)]), limit)
    responses = [rpc_pb2.WatchResponse.FromString(piece) for piece in pieces]
    assert all(response.watch_id == 5 for response in responses)
    for piece, response in zip(pieces, responses, strict=True):
        assert len(piece) < limit or len(response.events) == 1
    return [(response.fragment, len(response.events)) for response in responses]


def test_where_fragments_are_cut() -> None:
    """etcd: nothing to cut below the limit; else a piece with its 2-byte mark stays below it or has one event."""
    assert cut([50, 47], 100) == [(False, 2)]
    assert cut([50, 48], 100) == [(True, 1), (False, 1)]
    assert cut([48, 47, 50], 100) == [(True, 2), (False, 1)]
    assert cut([48, 48, 50], 100) == [(True, 1), (True, 1), (False, 1)]
    assert cut([120], 100) == [(False, 1)]
    assert cut([120, 120], 100) == [(True, 1), (False, 1)]
    assert cut([20] * 10, 100) == [(True, 4), (True, 4), (False, 2)]
