"""Maintenance: Status, Alarm (list), Defragment, Hash, HashKV, Snapshot; and the hash that both servers agree on."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import google_crc32c
import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.client import Client, Refusal, refusal, wait_until

if TYPE_CHECKING:
    from tests.support.members import Member

COMPACTED = Refusal("OutOfRange", "etcdserver: mvcc: required revision has been compacted")
FUTURE = Refusal("OutOfRange", "etcdserver: mvcc: required revision is a future revision")


def hash_kv(client: Client, revision: int = 0) -> rpc_pb2.HashKVResponse:
    return client.maintenance.HashKV(rpc_pb2.HashKVRequest(revision=revision))


def expected_hash(records: list[tuple[int, int, bool, kv_pb2.KeyValue]]) -> int:
    """The hash of (main, sub, tombstone, record) in order, computed here from its definition."""
    data = b"key"
    for main, sub, tombstone, record in records:
        data += main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big") + b"t" * tombstone
        data += record.SerializeToString(deterministic=True)
    return int(google_crc32c.value(data))


def test_hash_kv_of_a_known_history(client: Client) -> None:
    """First in its module: it needs the store from its first revision on."""
    before = hash_kv(client)
    assert (before.compact_revision, before.hash_revision, before.hash) == (-1, 1, expected_hash([]))
    client.put(b"a", b"1")
    client.put(b"b", b"2", lease=client.grant(100, lease_id=77).ID)
    client.delete(b"a")
    records = [
        (2, 0, False, kv_pb2.KeyValue(key=b"a", create_revision=2, mod_revision=2, version=1, value=b"1")),
        (3, 0, False, kv_pb2.KeyValue(key=b"b", create_revision=3, mod_revision=3, version=1, value=b"2", lease=77)),
        (4, 0, True, kv_pb2.KeyValue(key=b"a")),
    ]
    latest = hash_kv(client)
    assert (latest.compact_revision, latest.hash_revision, latest.header.revision) == (-1, 4, 4)
    assert latest.hash == expected_hash(records)
    past = hash_kv(client, 3)
    assert (past.hash_revision, past.header.revision) == (3, 4)
    assert past.hash == expected_hash(records[:2])
    client.put(b"b", b"3")
    records.append((5, 0, False, kv_pb2.KeyValue(key=b"b", create_revision=3, mod_revision=5, version=2, value=b"3")))
    client.compact(4)
    compacted = hash_kv(client)
    assert (compacted.compact_revision, compacted.hash_revision) == (4, 5)
    # Of what the compaction covers, only that counts which revision 5 still reads: not `b` at 3.
    assert compacted.hash == expected_hash(records[3:])
    # At the compacted revision itself the hash is the one taken before the compaction, and says so.
    at_compaction = hash_kv(client, 4)
    assert (at_compaction.compact_revision, at_compaction.hash_revision) == (-1, 4)
    assert at_compaction.hash == expected_hash(records[:3])
    client.put(b"c", b"4")
    client.delete(b"b")
    client.put(b"d", b"5")
    client.compact(7)
    records += [
        (6, 0, False, kv_pb2.KeyValue(key=b"c", create_revision=6, mod_revision=6, version=1, value=b"4")),
        (7, 0, True, kv_pb2.KeyValue(key=b"b")),
        (8, 0, False, kv_pb2.KeyValue(key=b"d", create_revision=8, mod_revision=8, version=1, value=b"5")),
    ]
    # The tombstone at the compaction does not count.
    assert hash_kv(client).hash == expected_hash([records[4], records[6]])
    at_second = hash_kv(client, 7)
    assert (at_second.compact_revision, at_second.hash) == (4, expected_hash(records[3:6]))


class TestHashKV:
    def test_refusals(self, client: Client) -> None:
        future = client.put(b"k").header.revision + 1
        assert refusal(client.maintenance.HashKV, rpc_pb2.HashKVRequest(revision=future)) == FUTURE
        client.compact(future - 1)
        assert refusal(client.maintenance.HashKV, rpc_pb2.HashKVRequest(revision=2)) == COMPACTED

    def test_defragmentation_changes_nothing(self, client: Client) -> None:
        for number in range(20):
            client.put(b"k", b"%d" % number)
        before = hash_kv(client)
        client.maintenance.Defragment(rpc_pb2.DefragmentRequest())
        after = hash_kv(client)
        assert (after.hash, after.hash_revision) == (before.hash, before.hash_revision)


def test_hash(client: Client) -> None:
    revision = client.put(b"h").header.revision
    answer = client.maintenance.Hash(rpc_pb2.HashRequest())
    assert answer.header.revision == revision
    assert answer.hash != 0


def test_defragment_has_no_header(client: Client) -> None:
    answer = client.maintenance.Defragment(rpc_pb2.DefragmentRequest())
    assert not answer.HasField("header")


def test_status(client: Client) -> None:
    revision = client.put(b"s", bytes(1000)).header.revision
    status = client.maintenance.Status(rpc_pb2.StatusRequest())
    (member,) = client.cluster.MemberList(rpc_pb2.MemberListRequest()).members
    assert status.header.revision == revision
    assert status.header.member_id == status.leader == member.ID
    assert status.raftTerm == status.header.raft_term >= 2
    assert status.raftIndex >= status.raftAppliedIndex >= 4
    assert (status.version, status.storageVersion) == ("3.7.3", "3.7.0")
    assert status.dbSize >= status.dbSizeInUse > 0
    assert (status.isLearner, list(status.errors)) == (False, [])
    assert status.dbSizeQuota == 2_147_483_648
    assert (status.downgradeInfo.enabled, status.downgradeInfo.targetVersion) == (False, "")


class TestAlarm:
    @pytest.mark.parametrize("alarm", [rpc_pb2.NONE, rpc_pb2.NOSPACE, rpc_pb2.CORRUPT])
    def test_list_is_empty(self, client: Client, alarm: rpc_pb2.AlarmType.ValueType) -> None:
        answer = client.maintenance.Alarm(rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.GET, alarm=alarm))
        assert list(answer.alarms) == []
        assert answer.header.revision == client.revision()


class TestSnapshot:
    def test_the_file_comes_in_parts_and_its_digest_last(self, client: Client) -> None:
        for number in range(30):
            client.put(b"snapshot %d" % number, bytes(40_000))
        parts = list(client.maintenance.Snapshot(rpc_pb2.SnapshotRequest()))
        content = b"".join(part.blob for part in parts[:-1])
        assert parts[-1].blob == hashlib.sha256(content).digest()
        assert content[16:20] == (0xED0CDAED).to_bytes(4, "little"), "a bbolt file"
        assert len(content) % 512 == 0, "etcdctl refuses others"
        sizes = [len(part.blob) for part in parts]
        assert sizes[0] == 32 * 1024, "a client hears at once how much comes"
        assert max(sizes) <= 256 * 1024
        sent = 0
        for part in parts[:-1]:
            sent += len(part.blob)
            assert part.remaining_bytes == len(content) - sent
        assert parts[-1].remaining_bytes == 0
        assert {(part.version, part.HasField("header")) for part in parts} == {("3.7.0", False)}

    def test_a_client_that_goes_away_leaves_nothing(self, client: Client, member: Member) -> None:
        client.put(b"large", bytes(1_000_000))
        stream = client.maintenance.Snapshot(rpc_pb2.SnapshotRequest())
        next(iter(stream))
        stream.cancel()  # type: ignore[no-untyped-call]
        wait_until(lambda: not list((member.data_dir / "member").glob("tmp-*")))
        assert next(iter(client.maintenance.Snapshot(rpc_pb2.SnapshotRequest()))).blob
