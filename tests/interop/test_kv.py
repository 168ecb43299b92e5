"""Put, Range, RangeStream, DeleteRange and Compact: every field, every edge, every error with its code and text."""

from __future__ import annotations

from typing import Any

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, prefix_end, refusal

EMPTY_KEY = Refusal("InvalidArgument", "etcdserver: key is not provided")
KEY_NOT_FOUND = Refusal("InvalidArgument", "etcdserver: key not found")
VALUE_PROVIDED = Refusal("InvalidArgument", "etcdserver: value is provided")
LEASE_PROVIDED = Refusal("InvalidArgument", "etcdserver: lease is provided")
LEASE_NOT_FOUND = Refusal("NotFound", "etcdserver: requested lease not found")
INVALID_SORT = Refusal("InvalidArgument", "etcdserver: invalid sort option")
COMPACTED = Refusal("OutOfRange", "etcdserver: mvcc: required revision has been compacted")
FUTURE = Refusal("OutOfRange", "etcdserver: mvcc: required revision is a future revision")
TOO_LARGE = Refusal("InvalidArgument", "etcdserver: request is too large")

Range = rpc_pb2.RangeRequest


def keys_of(answer: rpc_pb2.RangeResponse, prefix: bytes) -> list[bytes]:
    return [kv.key.removeprefix(prefix) for kv in answer.kvs]


class TestPut:
    def test_first_put_creates_and_later_ones_count_versions(self, client: Client, prefix: bytes) -> None:
        first = client.put(prefix, b"one")
        second = client.put(prefix, b"two")
        assert second.header.revision == first.header.revision + 1
        (kv,) = client.range(prefix).kvs
        assert (kv.key, kv.value, kv.version, kv.lease) == (prefix, b"two", 2, 0)
        assert (kv.create_revision, kv.mod_revision) == (first.header.revision, second.header.revision)

    def test_header_names_cluster_and_member(self, client: Client, prefix: bytes) -> None:
        header = client.put(prefix).header
        members = client.cluster.MemberList(rpc_pb2.MemberListRequest())
        assert header.cluster_id == members.header.cluster_id != 0
        assert header.member_id == members.members[0].ID != 0
        assert header.raft_term >= 2

    def test_previous_pair_comes_on_request_only(self, client: Client, prefix: bytes) -> None:
        assert not client.put(prefix, b"one", prev_kv=True).HasField("prev_kv")
        assert not client.put(prefix, b"two").HasField("prev_kv")
        assert client.put(prefix, b"three", prev_kv=True).prev_kv.value == b"two"

    def test_ignore_value_keeps_the_value(self, client: Client, prefix: bytes) -> None:
        client.put(prefix, b"kept")
        client.put(prefix, ignore_value=True)
        (kv,) = client.range(prefix).kvs
        assert (kv.value, kv.version) == (b"kept", 2)

    def test_ignore_lease_keeps_the_lease_and_a_plain_put_drops_it(self, client: Client, prefix: bytes) -> None:
        lease = client.grant(60).ID
        client.put(prefix, b"a", lease=lease)
        client.put(prefix, b"b", ignore_lease=True)
        assert client.range(prefix).kvs[0].lease == lease
        client.put(prefix, b"c")
        assert client.range(prefix).kvs[0].lease == 0

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"key": b"", "value": b"v"}, EMPTY_KEY),
            ({"key": b"k", "value": b"v", "ignore_value": True}, VALUE_PROVIDED),
            ({"key": b"k", "lease": 7, "ignore_lease": True}, LEASE_PROVIDED),
            ({"key": b"absent", "ignore_value": True}, KEY_NOT_FOUND),
            ({"key": b"absent", "ignore_lease": True}, KEY_NOT_FOUND),
            ({"key": b"k", "lease": 987654321}, LEASE_NOT_FOUND),
            ({"key": b"k", "lease": -1}, LEASE_NOT_FOUND),
            ({"key": b"absent", "ignore_value": True, "lease": 987654321}, LEASE_NOT_FOUND),
        ],
    )
    def test_refusals(self, client: Client, fields: dict[str, Any], expected: Refusal) -> None:
        before = client.revision()
        assert refusal(client.kv.Put, rpc_pb2.PutRequest(**fields)) == expected
        assert client.revision() == before

    def test_values_up_to_the_request_limit(self, client: Client, prefix: bytes) -> None:
        value = bytes(1_572_864 - 100)
        client.put(prefix, value)
        assert client.range(prefix).kvs[0].value == value
        too_large = rpc_pb2.PutRequest(key=prefix, value=bytes(1_572_864))
        assert refusal(client.kv.Put, too_large) == TOO_LARGE

    def test_message_larger_than_the_transport_takes(self, client: Client, prefix: bytes) -> None:
        size = 1_572_864 + 512 * 1024
        request = rpc_pb2.PutRequest(key=prefix, value=bytes(size))
        answer = refusal(client.kv.Put, request)
        assert answer.code == "ResourceExhausted"
        assert answer.text == f"grpc: received message larger than max ({request.ByteSize()} vs. {size})"

    def test_keys_and_values_are_any_bytes(self, client: Client, prefix: bytes) -> None:
        every_byte = bytes(range(256))
        client.put(prefix + every_byte, every_byte)
        assert client.range(prefix + every_byte).kvs[0].value == every_byte


@pytest.fixture(scope="module")
def letters(client: Client) -> tuple[bytes, list[int]]:
    """Keys a to f under a prefix, put in the order f..a, `c` three times; and the revision of each put."""
    base = b"/letters/"
    revisions = [client.put(base + key, b"v" + key).header.revision for key in (b"f", b"e", b"d", b"c", b"b", b"a")]
    revisions += [client.put(base + b"c", b"0").header.revision for _ in range(2)]
    return base, revisions


class TestRange:
    def test_absent_key(self, client: Client, prefix: bytes) -> None:
        answer = client.range(prefix)
        assert (list(answer.kvs), answer.more, answer.count) == ([], False, 0)
        assert answer.header.revision > 0

    @pytest.mark.parametrize(
        ("key", "range_end", "found"),
        [
            (b"a", b"", b"a"),
            (b"a", b"c", b"ab"),
            (b"b", b"b\0", b"b"),
            (b"c", b"c", b""),
            (b"d", b"b", b""),
            (b"aa", b"zz", b"bcdef"),
        ],
    )
    def test_shapes(
        self, client: Client, letters: tuple[bytes, list[int]], key: bytes, range_end: bytes, found: bytes
    ) -> None:
        base, _ = letters
        answer = client.range(base + key, base + range_end if range_end else b"")
        assert b"".join(keys_of(answer, base)) == found
        assert (answer.count, answer.more) == (len(found), False)

    def test_from_key_and_whole_keyspace(self, client: Client, letters: tuple[bytes, list[int]]) -> None:
        base, _ = letters
        client.put(b"\xff\xff-last", b"")
        from_key = client.range(base + b"e", b"\0")
        assert [kv.key for kv in from_key.kvs][:2] == [base + b"e", base + b"f"]
        assert from_key.kvs[-1].key == b"\xff\xff-last"
        everything = client.range(b"\0", b"\0", count_only=True)
        assert everything.count >= from_key.count + 4

    def test_limit_more_and_count(self, client: Client, letters: tuple[bytes, list[int]]) -> None:
        base, _ = letters
        end = prefix_end(base)
        cut = client.range(base, end, limit=2)
        assert (keys_of(cut, base), cut.more, cut.count) == ([b"a", b"b"], True, 6)
        exact = client.range(base, end, limit=6)
        assert (len(exact.kvs), exact.more, exact.count) == (6, False, 6)
        huge = client.range(base, end, limit=2**63 - 1)
        assert (len(huge.kvs), huge.more) == (6, False)
        negative = client.range(base, end, limit=-1)
        assert (len(negative.kvs), negative.more) == (6, False)

    def test_count_only(self, client: Client, letters: tuple[bytes, list[int]]) -> None:
        base, _ = letters
        answer = client.range(base, prefix_end(base), count_only=True, limit=2)
        assert (list(answer.kvs), answer.more, answer.count) == ([], False, 6)

    def test_keys_only_drops_value_and_lease(self, client: Client, prefix: bytes) -> None:
        lease = client.grant(60).ID
        revision = client.put(prefix, b"v", lease=lease).header.revision
        (kv,) = client.range(prefix, keys_only=True).kvs
        assert (kv.value, kv.lease, kv.version, kv.mod_revision) == (b"", 0, 1, revision)
        (by_value,) = client.range(
            prefix, prefix_end(prefix), keys_only=True, sort_target=Range.VALUE, sort_order=Range.DESCEND
        ).kvs
        assert (by_value.value, by_value.lease) == (b"", lease)

    @pytest.mark.parametrize(
        ("target", "order", "found"),
        [
            (Range.KEY, Range.NONE, b"abcdef"),
            (Range.KEY, Range.ASCEND, b"abcdef"),
            (Range.KEY, Range.DESCEND, b"fedcba"),
            (Range.CREATE, Range.NONE, b"fedcba"),
            (Range.CREATE, Range.ASCEND, b"fedcba"),
            (Range.CREATE, Range.DESCEND, b"abcdef"),
            (Range.MOD, Range.ASCEND, b"fedbac"),
            (Range.MOD, Range.DESCEND, b"cabdef"),
            (Range.VALUE, Range.ASCEND, b"cabdef"),
            (Range.VALUE, Range.DESCEND, b"fedbac"),
            (Range.VERSION, Range.DESCEND, b"cabdef"),
            (Range.VERSION, Range.ASCEND, b"abdefc"),
        ],
    )
    def test_sorting(
        self, client: Client, letters: tuple[bytes, list[int]], target: Any, order: Any, found: bytes
    ) -> None:
        base, _ = letters
        answer = client.range(base, prefix_end(base), sort_target=target, sort_order=order)
        assert b"".join(keys_of(answer, base)) == found

    def test_sorting_cuts_after_it_sorted(self, client: Client, letters: tuple[bytes, list[int]]) -> None:
        base, _ = letters
        answer = client.range(base, prefix_end(base), sort_target=Range.MOD, sort_order=Range.DESCEND, limit=2)
        assert (keys_of(answer, base), answer.more, answer.count) == ([b"c", b"a"], True, 6)
        # Without an order the target still sorts, but only the limit + 1 first keys (a, b, c) that were fetched.
        unordered = client.range(base, prefix_end(base), sort_target=Range.MOD, limit=2)
        assert (keys_of(unordered, base), unordered.more, unordered.count) == ([b"b", b"a"], True, 6)

    @pytest.mark.parametrize(
        ("field", "index", "found"),
        [
            ("min_mod_revision", 4, b"abc"),
            ("max_mod_revision", 4, b"bdef"),
            ("min_create_revision", 4, b"ab"),
            ("max_create_revision", 4, b"bcdef"),
        ],
    )
    def test_revision_filters_do_not_change_the_count(
        self, client: Client, letters: tuple[bytes, list[int]], field: str, index: int, found: bytes
    ) -> None:
        base, revisions = letters
        answer = client.range(base, prefix_end(base), **{field: revisions[index]})
        assert b"".join(keys_of(answer, base)) == found
        assert (answer.count, answer.more) == (6, False)
        cut = client.range(base, prefix_end(base), limit=1, **{field: revisions[index]})
        assert keys_of(cut, base) == [found[:1]]
        assert (cut.count, cut.more) == (6, True)

    def test_history(self, client: Client, letters: tuple[bytes, list[int]]) -> None:
        base, revisions = letters
        past = client.range(base, prefix_end(base), revision=revisions[2])
        assert (b"".join(keys_of(past, base)), past.count) == (b"def", 3)
        assert past.header.revision >= revisions[-1]
        past_c = client.range(base + b"c", revision=revisions[-2]).kvs[0]
        assert (past_c.version, past_c.mod_revision) == (2, revisions[-2])

    @pytest.mark.parametrize("serializable", [False, True])
    def test_serializable_reads_the_same(
        self, client: Client, letters: tuple[bytes, list[int]], serializable: bool
    ) -> None:
        base, _ = letters
        assert client.range(base, prefix_end(base), serializable=serializable).count == 6

    def test_negative_revision_is_now(self, client: Client, letters: tuple[bytes, list[int]]) -> None:
        base, _ = letters
        assert client.range(base, prefix_end(base), revision=-3).count == 6

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"key": b""}, EMPTY_KEY),
            ({"key": b"", "range_end": b"\0"}, EMPTY_KEY),
            ({"key": b"k", "sort_order": 3}, INVALID_SORT),
            ({"key": b"k", "sort_target": 5}, INVALID_SORT),
            ({"key": b"k", "sort_target": -1}, INVALID_SORT),
            ({"key": b"k", "revision": 2**62}, FUTURE),
        ],
    )
    def test_refusals(self, client: Client, fields: dict[str, Any], expected: Refusal) -> None:
        assert refusal(client.kv.Range, Range(**fields)) == expected


@pytest.fixture(scope="module")
def many(client: Client) -> bytes:
    """The prefix of 60 keys, each value ten bytes longer than the one before."""
    base = b"/many/"
    for number in range(60):
        client.put(base + b"%03d" % number, b"v" * (number * 10))
    return base


class TestRangeStream:
    def merged(self, chunks: list[rpc_pb2.RangeResponse]) -> rpc_pb2.RangeResponse:
        whole = rpc_pb2.RangeResponse()
        for chunk in chunks:
            whole.MergeFrom(chunk)
        return whole

    @pytest.mark.parametrize(
        "fields",
        [{}, {"limit": 5}, {"limit": 10}, {"limit": 25}, {"limit": 60}, {"keys_only": True}, {"serializable": True}],
    )
    def test_chunks_add_up_to_a_range(self, client: Client, many: bytes, fields: dict[str, Any]) -> None:
        request = Range(key=many, range_end=prefix_end(many), **fields)
        chunks = client.range_stream(request)
        assert self.merged(chunks) == client.kv.Range(request)

    def test_chunks_start_with_ten_and_grow(self, client: Client, many: bytes) -> None:
        chunks = client.range_stream(Range(key=many, range_end=prefix_end(many)))
        assert [len(chunk.kvs) for chunk in chunks] == [10, 20, 30]
        assert [chunk.HasField("header") for chunk in chunks] == [False, False, True]
        assert [chunk.count for chunk in chunks] == [0, 0, 60]

    def test_count_only_is_one_message(self, client: Client, many: bytes) -> None:
        (only,) = client.range_stream(Range(key=many, range_end=prefix_end(many), count_only=True))
        assert (only.count, len(only.kvs), only.HasField("header")) == (60, 0, True)

    def test_empty_range(self, client: Client, prefix: bytes) -> None:
        (only,) = client.range_stream(Range(key=prefix))
        assert (only.count, len(only.kvs), only.more, only.HasField("header")) == (0, 0, False, True)

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"key": b""}, EMPTY_KEY),
            ({"key": b"k", "sort_order": 9}, INVALID_SORT),
            ({"key": b"k", "revision": 2**62}, FUTURE),
            (
                {"key": b"k", "sort_order": Range.DESCEND},
                Refusal("Unimplemented", "RangeStream does not support custom sort orders"),
            ),
            (
                {"key": b"k", "min_mod_revision": 1},
                Refusal("Unimplemented", "RangeStream does not support revision filters"),
            ),
        ],
    )
    def test_refusals(self, client: Client, fields: dict[str, Any], expected: Refusal) -> None:
        assert refusal(lambda request, timeout: client.range_stream(request), Range(**fields)) == expected


class TestDeleteRange:
    def test_one_key(self, client: Client, prefix: bytes) -> None:
        put = client.put(prefix, b"v")
        answer = client.delete(prefix, prev_kv=True)
        assert (answer.deleted, [kv.value for kv in answer.prev_kvs]) == (1, [b"v"])
        assert answer.header.revision == put.header.revision + 1
        assert client.range(prefix).count == 0
        assert client.range(prefix, revision=put.header.revision).count == 1

    def test_deleting_nothing_makes_no_revision(self, client: Client, prefix: bytes) -> None:
        before = client.revision()
        answer = client.delete(prefix, prefix_end(prefix), prev_kv=True)
        assert (answer.deleted, len(answer.prev_kvs), answer.header.revision) == (0, 0, before)

    def test_a_range_goes_in_one_revision(self, client: Client, prefix: bytes) -> None:
        for letter in b"abc":
            client.put(prefix + bytes([letter]))
        before = client.revision()
        answer = client.delete(prefix, prefix_end(prefix))
        assert (answer.deleted, len(answer.prev_kvs), answer.header.revision) == (3, 0, before + 1)

    def test_a_key_begins_anew_after_deletion(self, client: Client, prefix: bytes) -> None:
        client.put(prefix)
        client.put(prefix)
        client.delete(prefix)
        again = client.put(prefix).header.revision
        (kv,) = client.range(prefix).kvs
        assert (kv.version, kv.create_revision, kv.mod_revision) == (1, again, again)

    def test_empty_key(self, client: Client) -> None:
        assert refusal(client.kv.DeleteRange, rpc_pb2.DeleteRangeRequest(key=b"", range_end=b"\0")) == EMPTY_KEY


class TestCompact:
    """Last in its module: the revisions before are gone afterwards."""

    @pytest.mark.parametrize("physical", [False, True])
    def test_what_stays_and_what_goes(self, client: Client, prefix: bytes, physical: bool) -> None:
        first = client.put(prefix, b"1").header.revision
        middle = client.put(prefix, b"2").header.revision
        last = client.put(prefix, b"3").header.revision
        assert client.compact(middle, physical=physical).header.revision == last
        assert client.range(prefix, revision=middle).kvs[0].value == b"2"
        assert client.range(prefix).kvs[0].value == b"3"
        assert refusal(client.kv.Range, Range(key=prefix, revision=first)) == COMPACTED
        compact = client.kv.Compact
        assert refusal(compact, rpc_pb2.CompactionRequest(revision=middle)) == COMPACTED
        assert refusal(compact, rpc_pb2.CompactionRequest(revision=first)) == COMPACTED
        assert refusal(compact, rpc_pb2.CompactionRequest(revision=last + 1)) == FUTURE

    @pytest.mark.parametrize("revision", [0, -1])
    def test_revisions_that_never_were(self, client: Client, prefix: bytes, revision: int) -> None:
        client.put(prefix)
        client.compact(client.revision())
        assert refusal(client.kv.Compact, rpc_pb2.CompactionRequest(revision=revision)) == COMPACTED

    def test_a_deleted_key_is_gone_at_the_compaction(self, client: Client, prefix: bytes) -> None:
        client.put(prefix)
        deleted = client.delete(prefix).header.revision
        client.compact(deleted)
        assert client.range(prefix, revision=deleted).count == 0

    def test_a_stream_at_a_compacted_revision(self, client: Client, prefix: bytes) -> None:
        client.put(prefix)
        client.compact(client.put(prefix).header.revision)
        old = Range(key=prefix, revision=1)
        assert refusal(lambda request, timeout: client.range_stream(request), old) == COMPACTED
