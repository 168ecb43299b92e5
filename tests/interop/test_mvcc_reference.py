"""The store beside real etcd: the same requests give the same answers, the same bytes on disk and the same HashKV.

The store is driven directly, without a server around it, so that what differs is mvcc's.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.errors import EtcdError
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.read import range_part_steps
from etcdpy.mvcc.store import NoLeases, Store
from etcdpy.mvcc.txn import apply_delete_range, apply_put, apply_txn, range_options
from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, outcome
from tests.support.members import Member
from tests.support.memory_backend import MemoryBackend
from tests.support.scenario import run_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.reference

Compare = rpc_pb2.Compare
KEYS = [b"a", b"aa", b"b", b"c", b"d", b"dd", b"e", b"\xff"]
ENDS = [b"", b"", b"\0", b"a", b"b", b"c", b"e", b"zz", b"\xff\xff"]
VALUES = [b"", b"v", b"w", b"longer value"]
LEASES = (7, 8)


class TwoLeases(NoLeases):
    def exists(self, lease: int) -> bool:
        return lease in LEASES


class Pair:
    """Real etcd and a store that get the same requests."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.store = Store.open(MemoryBackend(), TwoLeases())
        for lease in LEASES:
            client.grant(3600, lease)

    def same(self, expected: Any, apply: Any, *arguments: Any) -> None:
        """etcd's answer or refusal, and ours. Our bodies have no outer header; its revision is the store's."""
        if isinstance(expected, Refusal):
            with pytest.raises(EtcdError) as refused:
                apply(*arguments)
            assert Refusal(refused.value.code.label, refused.value.message) == expected
            return
        seen = type(expected).FromString(apply(*arguments))
        assert expected.header.revision == self.store.current_revision
        for answer in (seen, expected):
            answer.ClearField("header")
        assert seen == expected

    def put(self, request: rpc_pb2.PutRequest) -> None:
        self.same(outcome(self.client.kv.Put, request), apply_put, self.store, request)

    def delete(self, request: rpc_pb2.DeleteRangeRequest) -> None:
        self.same(outcome(self.client.kv.DeleteRange, request), apply_delete_range, self.store, request)

    def txn(self, request: rpc_pb2.TxnRequest) -> None:
        self.same(outcome(self.client.kv.Txn, request), apply_txn, self.store, request)

    def range(self, request: rpc_pb2.RangeRequest) -> None:
        def read() -> bytes:
            seen = self.store.range(request.key, request.range_end, range_options(request))
            return b"".join(finish(range_part_steps(seen)))

        self.same(outcome(self.client.kv.Range, request), read)

    def compact(self, revision: int, *, finish_ours: bool = True) -> None:
        def compact() -> bytes:
            self.store.compact(revision)
            if finish_ours:
                for _ in self.store.compaction_steps(3):
                    pass
            return b""

        request = rpc_pb2.CompactionRequest(revision=revision, physical=True)
        self.same(outcome(self.client.kv.Compact, request), compact)

    def same_hash(self, revision: int) -> None:
        expected = outcome(self.client.maintenance.HashKV, rpc_pb2.HashKVRequest(revision=revision))
        if isinstance(expected, Refusal):
            with pytest.raises(EtcdError) as refused:
                finish(self.store.hash_kv_steps(revision))
            assert Refusal(refused.value.code.label, refused.value.message) == expected
            return
        seen = finish(self.store.hash_kv_steps(revision))
        assert seen == (expected.hash, expected.compact_revision, expected.hash_revision), f"at revision {revision}"

    def same_hashes(self) -> None:
        for revision in range(self.store.current_revision + 2):
            self.same_hash(revision)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with Member("etcd", tmp_path) as member, Client.of(member) as client:
        yield Pair(client)


class Requests:
    """Random requests that etcd's checks of shape let through."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)

    def put(self, keys: list[bytes]) -> rpc_pb2.PutRequest:
        choose = self.random.choice
        request = rpc_pb2.PutRequest(key=choose(keys), prev_kv=choose([True, False]))
        if self.random.random() < 0.2:
            request.ignore_value = True
        else:
            request.value = choose(VALUES)
        if self.random.random() < 0.2:
            request.ignore_lease = True
        else:
            request.lease = choose([0, 0, 0, 7, 8, 9])
        return request

    def delete(self, keys: list[bytes], ends: list[bytes]) -> rpc_pb2.DeleteRangeRequest:
        choose = self.random.choice
        return rpc_pb2.DeleteRangeRequest(key=choose(keys), range_end=choose(ends), prev_kv=choose([True, False]))

    def range(self, revision_max: int) -> rpc_pb2.RangeRequest:
        choose = self.random.choice

        def revision() -> int:
            return self.random.randint(1, revision_max + 1) if self.random.random() < 0.25 else 0

        # etcd sorts unstably, so orders with ties among more than a dozen keys could differ; there are eight keys.
        return rpc_pb2.RangeRequest(
            key=choose([*KEYS, b"\0", b"\0"]),
            range_end=choose([*ENDS, b"\0", b"\0"]),
            limit=choose([0, 0, 1, 2, 3, 100, -1]),
            revision=revision(),
            sort_order=choose(rpc_pb2.RangeRequest.SortOrder.values()),
            sort_target=choose(rpc_pb2.RangeRequest.SortTarget.values()),
            keys_only=self.random.random() < 0.3,
            count_only=self.random.random() < 0.1,
            min_mod_revision=revision(),
            max_mod_revision=revision(),
            min_create_revision=revision(),
            max_create_revision=revision(),
        )

    def compare(self, revision_max: int) -> Compare:
        choose = self.random.choice
        compare = Compare(
            key=choose(KEYS),
            range_end=choose(ENDS),
            target=choose(Compare.CompareTarget.values()),
            result=choose(Compare.CompareResult.values()),
        )
        operands: list[Any] = [
            self.random.randint(0, 4),
            self.random.randint(0, revision_max),
            self.random.randint(0, revision_max),
            choose(VALUES),
            choose([0, 7, 8]),
        ]
        operand = compare.target if self.random.random() < 0.8 else self.random.randint(0, 4)
        setattr(compare, ["version", "create_revision", "mod_revision", "value", "lease"][operand], operands[operand])
        return compare

    def txn(self, revision_max: int, depth: int = 1) -> rpc_pb2.TxnRequest:
        return rpc_pb2.TxnRequest(
            compare=[self.compare(revision_max) for _ in range(self.random.randint(0, 2))],
            success=self.operations(revision_max, depth),
            failure=self.operations(revision_max, depth),
        )

    def operations(self, revision_max: int, depth: int) -> list[rpc_pb2.RequestOp]:
        operations = []
        keys = KEYS[:4]  # each put once in a branch, and no deletion on it: else etcd refuses the request
        self.random.shuffle(keys)
        for _ in range(self.random.randint(0, 3)):
            kind = self.random.randint(0, 3)
            if kind == 0 and depth == 1:
                operations.append(rpc_pb2.RequestOp(request_put=self.put([keys.pop()])))
            elif kind == 1:
                request = self.delete(KEYS[4:], [b"", b"zz"])
                operations.append(rpc_pb2.RequestOp(request_delete_range=request))
            elif kind == 2 and depth == 1:
                operations.append(rpc_pb2.RequestOp(request_txn=self.txn(revision_max, 0)))
            else:
                operations.append(rpc_pb2.RequestOp(request_range=self.range(revision_max)))
        return operations


@pytest.mark.parametrize("seed", range(2))
def test_random_requests_give_etcds_answers_and_hashes(pair: Pair, seed: int) -> None:
    requests = Requests(seed)
    for step in range(1, 601):
        current = pair.store.current_revision
        kind = requests.random.randint(0, 9)
        if kind < 4:
            pair.put(requests.put(KEYS))
        elif kind < 5:
            pair.delete(requests.delete(KEYS, ENDS))
        elif kind < 7:
            pair.txn(requests.txn(current))
        else:
            pair.range(requests.range(current))
        if step % 100 == 0:
            for revision in requests.random.sample(range(current), 10):
                pair.same_hash(revision)
        if step % 150 == 0:
            pair.compact(requests.random.randint(0, current + 1))
            for revision in requests.random.sample(range(current), 10):
                pair.same_hash(revision)


def test_the_hash_scenario_is_etcds(pair: Pair) -> None:
    """What tests/unit holds the store to without real etcd at hand."""
    client = pair.client

    def put(command: str, arguments: dict[str, str], body: list[str]) -> str:
        answer = client.put(arguments["key"].encode(), arguments["value"].encode())
        return f"revision {answer.header.revision}"

    def delete(command: str, arguments: dict[str, str], body: list[str]) -> str:
        return f"revision {client.delete(arguments['key'].encode()).header.revision}"

    def compact(command: str, arguments: dict[str, str], body: list[str]) -> str:
        client.compact(int(arguments["revision"]))
        return ""

    def hash_kv(command: str, arguments: dict[str, str], body: list[str]) -> str:
        request = rpc_pb2.HashKVRequest(revision=int(arguments.get("revision", 0)))
        answer = outcome(client.maintenance.HashKV, request)
        if isinstance(answer, Refusal):
            return f"error: {answer.text}"
        return f"{answer.hash:08x} revision {answer.hash_revision} compacted {answer.compact_revision}"

    path = Path(__file__).parents[1] / "scenarios" / "mvcc" / "hash.txt"
    run_scenario(path, {"put": put, "delete": delete, "compact": compact, "hash": hash_kv})


def put(key: bytes, value: bytes = b"v") -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=value)


def delete(key: bytes, end: bytes = b"") -> rpc_pb2.DeleteRangeRequest:
    return rpc_pb2.DeleteRangeRequest(key=key, range_end=end)


def test_hash_at_every_revision_through_compactions(pair: Pair) -> None:
    for key in (b"a", b"b", b"a", b"c", b"a"):
        pair.put(put(key))
    pair.delete(delete(b"b"))
    pair.txn(
        rpc_pb2.TxnRequest(
            success=[
                rpc_pb2.RequestOp(request_put=put(b"d")),
                rpc_pb2.RequestOp(request_put=put(b"e")),
                rpc_pb2.RequestOp(request_delete_range=delete(b"a", b"d")),
            ]
        )
    )
    pair.put(put(b"a"))
    pair.same_hashes()
    for revision in (3, 7, 8, 9):  # 7 and 8 are deletions, which stay until the next compaction
        pair.compact(revision)
        pair.same_hashes()


def test_hash_when_no_key_is_left(pair: Pair) -> None:
    """etcd then takes its filter for absent and lets superseded revisions in."""
    for key in (b"a", b"b", b"a"):
        pair.put(put(key))
    pair.compact(3)
    pair.delete(delete(b"a", b"z"))
    pair.same_hashes()
    pair.compact(pair.store.current_revision)
    pair.same_hashes()
    pair.put(put(b"a"))
    pair.same_hashes()


def test_hash_does_not_depend_on_how_far_the_removal_has_come(pair: Pair) -> None:
    for number in range(20):
        pair.put(put(b"k%d" % (number % 3)))
    pair.compact(15, finish_ours=False)
    removal = pair.store.compaction_steps(2)
    for _ in removal:
        for revision in (16, 18, 21):
            pair.same_hash(revision)
    pair.same_hashes()


@pytest.mark.parametrize(("count", "size"), [(0, 0), (2000, 10), (1000, 500), (1000, 1000), (300, 5000)])
def test_sizes_resemble_etcds(pair: Pair, count: int, size: int) -> None:
    """Quotas are set for etcd's sizes: ours must neither fill up much earlier nor much later."""
    for number in range(count):
        pair.put(put(b"/registry/pods/default/pod-%05d" % number, bytes(size)))
    pair.client.maintenance.Defragment(rpc_pb2.DefragmentRequest())
    status = pair.client.maintenance.Status(rpc_pb2.StatusRequest())
    assert pair.store.bytes_in_use == pytest.approx(status.dbSizeInUse, rel=0.1)
    assert pair.store.size_total == pytest.approx(status.dbSize, rel=0.1)
