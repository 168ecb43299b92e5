"""Our state as etcd's buckets, and back; and what of etcd's buckets is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from etcdpy.apply.alarms import AlarmStore
from etcdpy.backend import AUTH_BUCKET, META_BUCKET
from etcdpy.interchange.bolt_format import DamagedFileError
from etcdpy.interchange.member_tree import member_tree
from etcdpy.lease.lessor import Lessor
from etcdpy.membership.members import DOWNGRADE, Member, Membership
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.store import Store
from etcdpy.proto import auth_pb2, kv_pb2, lease_pb2, rpc_pb2
from etcdpy.raft.types import ConfState
from tests.support.backend_file import Buckets, MemoryView, export_file, ingest_file, read_file, write_file
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from pathlib import Path

ETCDS_BUCKETS = "alarm, auth, authRoles, authUsers, cluster, key, lease, members, members_removed, meta"
NEGATIVE = -(2**63)
LEARNER = Member(0xAB, ("http://a:1", "http://b:1"), is_learner=True)
STARTED = Member((1 << 64) - 1, ("http://c:1",), "<näme>", ("http://c:2",))


def own_records(backend: MemoryBackend) -> dict[bytes, bytes]:
    """A state without what belongs to one member alone."""
    own = (b"cluster_id", b"member_id", b"sizeTotal")
    return {key: value for key, value in backend.items().items() if key not in [META_BUCKET + name for name in own]}


@pytest.fixture
def view() -> MemoryView:
    """Something of everything."""
    backend = MemoryBackend()
    lessor = Lessor(backend, minimum_ttl=1)
    lessor.grant(5, 100, 0.0)
    lessor.grant(NEGATIVE, 7000, 0.0)
    store = Store(backend, lessor)
    for number in range(20):
        store.put(b"key %d" % (number % 7), b"value %d" % number, lease=5 if number % 3 == 0 else 0)
    store.delete_range(b"key 1", b"key 4")
    store.compact(9)
    finish(store.compaction_steps())
    store.put(b"large", b"x" * 1_500_000)
    store.compact(12)
    membership = Membership(backend)
    membership.found(1, STARTED.id)
    membership.add(LEARNER)
    membership.add(STARTED)
    membership.set_version("3.7.0")
    backend.put(b"x" + (77).to_bytes(8, "big"), b"")
    AlarmStore(backend).activate(5, rpc_pb2.NOSPACE)
    backend.put(AUTH_BUCKET + b"auth\0authEnabled", b"\1")
    backend.put(AUTH_BUCKET + b"auth\0authRevision", (9).to_bytes(8, "big"))
    backend.put(AUTH_BUCKET + b"authRoles\0root", auth_pb2.Role(name=b"root").SerializeToString())
    backend.put(AUTH_BUCKET + b"authUsers\0root", auth_pb2.User(name=b"root", roles=["root"]).SerializeToString())
    backend.put(DOWNGRADE, b'{"target-version":"3.6.0","enabled":true}')
    conf_state = ConfState((STARTED.id,), (LEARNER.id,), (3, 4), (5,), True)
    return MemoryView(backend, 1 << 40, 3, conf_state)


def test_everything_comes_back(tmp_path: Path, view: MemoryView) -> None:
    content, backend = ingest_file(export_file(view, tmp_path / "db"))
    assert (content.index, content.term, content.conf_state) == (1 << 40, 3, view.conf_state)
    assert backend.items() == own_records(view.backend)


def test_a_store_over_what_came_back_is_the_same(tmp_path: Path, view: MemoryView) -> None:
    _, backend = ingest_file(export_file(view, tmp_path / "db"))
    before, after = Store.open(view.backend), Store.open(backend)
    assert after.current_revision == before.current_revision
    assert after.compact_revision == before.compact_revision == 12
    assert after.compactions.pending
    assert finish(after.hash_kv_steps()) == finish(before.hash_kv_steps())
    assert dict(after.leased_keys()) == dict(before.leased_keys())


def test_etcds_forms(tmp_path: Path, view: MemoryView) -> None:
    found = read_file(export_file(view, tmp_path / "db"))
    assert b", ".join(found).decode() == ETCDS_BUCKETS
    assert list(found[b"key"])[-1] == (23).to_bytes(8, "big") + b"_" + bytes(8)
    assert (22).to_bytes(8, "big") + b"_" + (2).to_bytes(8, "big") + b"t" in found[b"key"]
    assert found[b"members"] == {
        b"ab": b'{"id":171,"peerURLs":["http://a:1","http://b:1"],"isLearner":true}',
        b"ffffffffffffffff": b'{"id":18446744073709551615,"peerURLs":["http://c:1"],'
        + '"name":"\\u003cnäme\\u003e","clientURLs":["http://c:2"]}'.encode(),
    }
    assert found[b"members_removed"] == {b"4d": b"removed"}
    assert found[b"cluster"] == {
        b"clusterVersion": b"3.7.0",
        b"downgrade": b'{"target-version":"3.6.0","enabled":true}',
    }
    group = '{"voters":[18446744073709551615],"learners":[171],"voters_outgoing":[3,4],"learners_next":[5],'
    assert found[b"meta"] == {
        b"confState": group.encode() + b'"auto_leave":true}',
        b"consistent_index": (1 << 40).to_bytes(8, "big"),
        b"finishedCompactRev": (9).to_bytes(8, "big") + b"_" + bytes(8),
        b"scheduledCompactRev": (12).to_bytes(8, "big") + b"_" + bytes(8),
        b"storageVersion": b"3.7.0",
        b"term": (3).to_bytes(8, "big"),
    }


def test_a_state_that_nothing_was_ever_in(tmp_path: Path) -> None:
    view = MemoryView(applied_index=0, applied_term=0, conf_state=ConfState())
    path = export_file(view, tmp_path / "db")
    assert read_file(path)[b"meta"] == {b"confState": b'{"auto_leave":false}'}
    assert read_file(path)[b"auth"] == {b"authRevision": (1).to_bytes(8, "big")}
    content, backend = ingest_file(path)
    assert (content.index, content.term, content.conf_state) == (0, 0, ConfState())
    assert Store.open(backend).current_revision == 1


def test_without_a_group_the_members_are_the_group(tmp_path: Path, view: MemoryView) -> None:
    buckets = read_file(export_file(view, tmp_path / "db"))
    del buckets[b"meta"][b"confState"]
    content, _ = ingest_file(write_file(tmp_path / "db", buckets))
    assert content.conf_state == ConfState((STARTED.id,), (LEARNER.id,))


def test_unknown_buckets_and_names_are_passed_over(tmp_path: Path, view: MemoryView) -> None:
    buckets = read_file(export_file(view, tmp_path / "db"))
    buckets[b"meta"][b"new"] = buckets[b"cluster"][b"new"] = b"?"
    buckets[b"newer"] = {b"a": b"b"}
    _, backend = ingest_file(write_file(tmp_path / "db", buckets))
    assert backend.items() == own_records(view.backend)


REVISION = (2).to_bytes(8, "big") + b"_" + bytes(8)
RECORD = kv_pb2.KeyValue(key=b"k", create_revision=2, mod_revision=2, version=1).SerializeToString()
MEMBER = b'{"id":171,"peerURLs":["http://a:1"]}'


@pytest.mark.parametrize(
    ("bucket", "key", "value", "reason"),
    [
        (b"key", b"short", RECORD, "not a revision"),
        (b"key", REVISION[:8] + b"-" + REVISION[9:], RECORD, "not a revision"),
        (b"key", REVISION[:9] + b"\1" + REVISION[10:], RECORD, "not a revision"),
        (b"key", REVISION + b"x", RECORD, "not a revision"),
        (b"key", REVISION, RECORD[:-1], "not a KeyValue"),
        (b"key", REVISION, RECORD[3:] + RECORD[:3], "not a KeyValue in etcd's form"),
        (b"key", REVISION, RECORD[3:], "not a KeyValue in etcd's form"),
        (b"key", b"\1" + REVISION[1:], RECORD, "the record is that of revision 2"),
        (b"lease", b"1234567", lease_pb2.Lease(ID=1).SerializeToString(), "the record is that of lease 1"),
        (b"lease", bytes(8), b"\xff", "not a Lease"),
        (b"alarm", b"\xff", b"", "not a AlarmMember"),
        (b"authUsers", b"u", b"\xff", "not a User"),
        (b"auth", b"authRevision", b"1", "not a number of 8 bytes"),
        (b"members", b"ab", b"[]", "not a member"),
        (b"members", b"ab", b"{}", "not a member"),
        (b"members", b"ab", b"[" * 100_000, "not a member"),
        (b"members", b"ab", MEMBER.replace(b"171", b"172"), "the record is that of member ac"),
        (b"members", b"0ab", MEMBER, "not a member"),
        (b"members", b"x", MEMBER, "not a member"),
        (b"members_removed", b"-1", b"", "not a member id"),
        (b"cluster", b"downgrade", b"{}", "not what it should be"),
        (b"cluster", b"clusterVersion", b"\xff", "not what it should be"),
        (b"meta", b"term", b"1", "not a number of 8 bytes"),
        (b"meta", b"scheduledCompactRev", b"1", "not a revision"),
        (b"meta", b"confState", b"[]", "not a group"),
        (b"meta", b"confState", b'{"voters":[-1]}', "not a group"),
        (b"meta", b"confState", b'{"voters":["1"]}', "not a group"),
        (b"meta", b"confState", b"{", "not a group"),
    ],
)
def test_what_is_not_etcds_is_refused(tmp_path: Path, bucket: bytes, key: bytes, value: bytes, reason: str) -> None:
    buckets: Buckets = {b"key": {REVISION: RECORD}, b"meta": {}}
    buckets.setdefault(bucket, {}).clear()
    buckets[bucket][key] = value
    path = write_file(tmp_path / "db", buckets)
    with pytest.raises(DamagedFileError) as refused:
        ingest_file(path)
    text = str(refused.value)
    assert reason in text
    assert text.startswith(f"{path}: bucket {bucket.decode()}, key {key!r}: ")


def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="not a backend file of etcd: no bucket b'key'"):
        ingest_file(write_file(tmp_path / "db", {b"other": {}}))


def test_ingest_goes_in_slices(tmp_path: Path) -> None:
    from etcdpy.interchange.ingest import ingest_steps

    store = Store(MemoryBackend())
    for number in range(3000):
        store.put(b"%d" % number, b"v")
    path = export_file(MemoryView(store.backend), tmp_path / "db")  # type: ignore[arg-type]
    done = list(ingest_steps(path, MemoryBackend().put_many))
    assert len(done) >= 4
    assert done == sorted(set(done))


def test_the_member_tree_is_what_etcd_3_6_reads(view: MemoryView) -> None:
    tree = json.loads(member_tree(view))
    assert tree["CurrentVersion"] == 2
    cluster = tree["Root"]["Children"]["0"]["Children"]
    assert cluster["version"]["Value"] == "3.7.0"
    assert list(cluster["removed_members"]["Children"]) == ["4d"]
    members = cluster["members"]["Children"]
    assert list(members) == ["ab", "ffffffffffffffff"]
    assert list(members["ab"]["Children"]) == ["raftAttributes"]
    started = members["ffffffffffffffff"]["Children"]
    assert json.loads(started["raftAttributes"]["Value"]) == {"peerURLs": ["http://c:1"]}
    assert json.loads(started["attributes"]["Value"]) == {"name": "<näme>", "clientURLs": ["http://c:2"]}
    assert started["attributes"]["Path"] == "/0/members/ffffffffffffffff/attributes"
