"""Backend files between real etcd and etcdpy: what one writes the other serves, with the same digests."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.apply.alarms import AlarmStore
from etcdpy.backend import AUTH_BUCKET
from etcdpy.interchange.member_tree import member_tree
from etcdpy.lease.lessor import Lessor
from etcdpy.membership.members import Member as ClusterMember
from etcdpy.membership.members import Membership, cluster_id, member_id
from etcdpy.mvcc.fetch import finish
from etcdpy.mvcc.history import BackendHistory
from etcdpy.mvcc.read import RangeOptions
from etcdpy.mvcc.store import Store
from etcdpy.proto import raft_pb2, rpc_pb2
from etcdpy.raft.types import ConfState
from tests.support.backend_file import (
    MemoryView,
    add_checksum,
    check_with_bbolt,
    etcdutl,
    export_file,
    ingest_file,
    read_file,
)
from tests.support.client import Client, wait_until
from tests.support.members import Member
from tests.support.memory_backend import MemoryBackend
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.reference

EVERYTHING = {"key": b"\0", "range_end": b"\0"}
LARGE = b"x" * 1_500_000


OURS = ClusterMember(1, ("http://127.0.0.1:1",), "ours", ("http://127.0.0.1:2",))


class State:
    """Applied state of ours, in memory."""

    def __init__(self, member: ClusterMember = OURS) -> None:
        self.backend = MemoryBackend()
        self.lessor = Lessor(self.backend, minimum_ttl=1)
        self.store = Store(self.backend, self.lessor)
        membership = Membership(self.backend)
        membership.add(member)
        membership.set_version("3.7.0")

    def change(self, count: int, seed: int = 1) -> None:
        """Puts and deletions, some of several keys at a time."""
        draw = Random(seed)
        for _ in range(count):
            key = b"key %d" % draw.randrange(count // 4 + 1)
            if draw.random() < 0.1:
                self.store.delete_range(key, key + b"9" if draw.random() < 0.5 else b"")
            else:
                self.store.put(key, draw.randbytes(draw.randrange(200)))

    def compact(self, revision: int) -> None:
        self.store.compact(revision)
        finish(self.store.compaction_steps())

    def export(self, path: Path) -> Path:
        return export_file(MemoryView(self.backend, 1000, 3, ConfState((1,))), path)

    def reopened(self) -> Store:
        """As whoever takes in the file has it: without the digests that were kept at compactions."""
        store = Store.open(self.backend.copy(), self.lessor)
        finish(store.compaction_steps())
        return store


def many_keys(state: State) -> None:
    for number in range(100_000):
        state.store.put(b"key %06d" % number, b"v" * (number % 50))


def changes(state: State) -> None:
    state.change(2000)


def compacted(state: State) -> None:
    state.change(1000)
    state.compact(500)
    state.change(500, seed=2)


def compacted_to_the_end(state: State) -> None:
    state.change(300)
    state.store.delete_range(b"key", b"kez")
    state.compact(state.store.current_revision)


def compaction_cut_short(state: State) -> None:
    state.change(1000)
    state.compact(200)
    state.store.compact(700)


def large_values(state: State) -> None:
    for number in range(8):
        state.store.put(b"large %d" % (number % 3), LARGE)
        state.store.put(b"small", b"%d" % number)


def many_leases(state: State) -> None:
    for number in range(1, 5001):
        state.lessor.grant(number, 1000 + number, 0.0)
    state.lessor.grant(-5, 7000, 0.0)
    for number in range(1, 1001):
        state.store.put(b"leased %d" % number, b"v", lease=number)
    state.store.put(b"leased 7", b"v", lease=0)


def nothing(_: State) -> None:
    pass


CASES = [nothing, changes, compacted, compacted_to_the_end, compaction_cut_short, large_values, many_leases, many_keys]


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def state(request: pytest.FixtureRequest) -> State:
    made = State()
    request.param(made)
    return made


def restored(path: Path, directory: Path, *flags: str) -> Member:
    """A real etcd, not started, over what `etcdutl snapshot restore` makes of a file. It checks its own assumptions."""
    member = Member("etcd", directory, environment={"ETCD_VERIFY": "all"})
    own = [flag for flag in member.peer_flags() if not flag.startswith("--listen")]
    etcdutl("snapshot", "restore", path, f"--data-dir={member.data_dir}", f"--name={member.name}", *own, *flags)
    return member


def sample(state: State) -> list[int]:
    """Revisions from the last compaction on, the ends among them."""
    low, high = max(state.store.compact_revision, 1), state.store.current_revision
    return sorted({low, low + 1, (low + high) // 2, high - 1, high} & set(range(low, high + 1)))


def test_etcdutl_reads_our_file(tmp_path: Path, state: State) -> None:
    path = state.export(tmp_path / "db")
    status = check_with_bbolt(path)
    assert status["version"] == "3.7.0"
    assert status["totalSize"] == path.stat().st_size
    assert status["totalKey"] == len(state.store.index.live)
    store = state.reopened()
    for revision in sample(state):
        found = etcdutl("hashkv", path, f"--rev={revision}")
        seen = (found["hash"], found["compactRevision"], found["hashRevision"])
        assert seen == finish(store.hash_kv_steps(revision)), revision


def test_etcd_serves_our_state(tmp_path: Path, state: State) -> None:
    path = state.export(tmp_path / "db")
    add_checksum(path)
    with restored(path, tmp_path) as member, Client.of(member) as client:
        store = state.reopened()
        wait_until(lambda: "finished scheduled" in member.log_text() or "resume" not in member.log_text())
        for revision in sample(state):
            expected = client.range(**EVERYTHING, revision=revision)
            assert expected.header.revision == state.store.current_revision
            found = store.range(b"\0", b"\0", RangeOptions(revision=revision)).records
            assert [kv.SerializeToString() for kv in expected.kvs] == found
            answer = client.maintenance.HashKV(rpc_pb2.HashKVRequest(revision=revision))
            assert (answer.hash, answer.compact_revision, answer.hash_revision) == finish(
                store.hash_kv_steps(revision)
            ), revision
        same_leases(client, state.lessor)
        # And it works on: new revisions, deletions and a compaction go into the pages that we wrote.
        for number in range(50):
            client.put(b"key 00%d" % number, b"new")
        client.delete(b"key", b"kez")
        client.compact(client.revision())
        client.put(b"after", b"1")
    check_with_bbolt(member.data_dir / "member" / "snap" / "db")


def same_leases(client: Client, lessor: Lessor) -> None:
    listed = client.lease.LeaseLeases(rpc_pb2.LeaseLeasesRequest()).leases
    assert sorted(lease.ID for lease in listed) == sorted(lessor.leases())
    for identity in sorted(lessor.leases())[:20]:
        answer = client.lease.LeaseTimeToLive(rpc_pb2.LeaseTimeToLiveRequest(ID=identity, keys=True))
        assert sorted(answer.keys) == sorted(lessor.keys_of(identity))
        if identity > 0:
            assert answer.grantedTTL == 1000 + identity


class Joining(Member):
    """A real etcd that founds a cluster of two together with a member that never comes: it can only wait."""

    def peer_flags(self) -> list[str]:
        flags = super().peer_flags()
        return [*flags[:-1], f"{flags[-1]},absent={ABSENT_URL}"]

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"


ABSENT_URL = "http://127.0.0.1:1"
TOKEN = "etcd-cluster"


def send_snapshot(member: Joining, own_id: int, view: MemoryView, path: Path) -> None:
    """What a leader sends: the message, its length before it, then the file."""
    absent = member_id([ABSENT_URL], TOKEN)
    metadata = raft_pb2.SnapshotMetadata(
        conf_state=view.conf_state.to_proto(), index=view.applied_index, term=view.applied_term
    )
    snapshot = raft_pb2.Snapshot(data=member_tree(view), metadata=metadata)
    fields: dict[str, Any] = {"to": own_id, "term": view.applied_term, "from": absent}
    message = raft_pb2.Message(type=raft_pb2.MsgSnap, snapshot=snapshot, **fields).SerializeToString()
    headers = {
        "Content-Type": "application/octet-stream",
        "X-Etcd-Cluster-ID": f"{cluster_id([own_id, absent]):x}",
        "X-Server-From": f"{absent:x}",
        "X-Server-Version": "3.7.3",
        "X-Min-Cluster-Version": "3.0.0",
    }
    body = len(message).to_bytes(8, "big") + message + path.read_bytes()
    connection = http.client.HTTPConnection("127.0.0.1", member.peer_port, timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/raft/snapshot", body, headers)
        answer = connection.getresponse()
        assert answer.status == 204, answer.read()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False


@pytest.mark.parametrize("case", [changes, compaction_cut_short, many_leases], ids=lambda case: case.__name__)
def test_a_follower_goes_on_from_our_state(tmp_path: Path, case: Callable[[State], None]) -> None:
    """Real etcd installs our file and starts from it again. The group in it is the follower alone: so it serves."""
    member = Joining("etcd", tmp_path, environment={"ETCD_VERIFY": "all"})
    own_id = member_id([member.peer_url], TOKEN)
    state = State(ClusterMember(own_id, (member.peer_url,)))
    case(state)
    view = MemoryView(state.backend, 1000, 30, ConfState((own_id,)))
    path = export_file(view, tmp_path / "db")
    store = state.reopened()
    member.launch()
    try:
        # After its own first entries: etcd would apply them on top of the snapshot, and wait for the absent for ever.
        wait_until(lambda: listens(member.peer_port) and member.log_text().count('"added member"') == 2, 20)
        send_snapshot(member, own_id, view, path)
        member.wait_ready()
        check_served(member, store, state.lessor)
        member.kill()
        member.start()
        check_served(member, store, state.lessor)
    finally:
        member.stop()


def check_served(member: Member, store: Store, lessor: Lessor) -> None:
    with Client.of(member) as client:
        answer = client.range(**EVERYTHING)
        assert answer.header.revision == store.current_revision
        assert [kv.SerializeToString() for kv in answer.kvs] == store.range(b"\0", b"\0").records
        revision = store.current_revision
        wait_until(lambda: "resume scheduled" not in member.log_text() or "finished scheduled" in member.log_text())
        assert hashes_of(client, [revision])[revision] == finish(store.hash_kv_steps(revision))
        same_leases(client, lessor)
        assert [each.name for each in client.cluster.MemberList(rpc_pb2.MemberListRequest()).members] == [member.name]


# --- the other way ---


def drive(client: Client) -> None:
    """A history in real etcd: keys, deletions, leases, a compaction."""
    draw = Random(5)
    for number in (7, 8):
        client.grant(1000 + number, number)
    for _ in range(400):
        key = b"key %d" % draw.randrange(80)
        if draw.random() < 0.1:
            client.delete(key, key + b"9")
        else:
            client.put(key, draw.randbytes(draw.randrange(300)), lease=draw.choice([0, 0, 7, 8]))
    client.compact(200)
    for _ in range(100):
        client.put(b"key %d" % draw.randrange(80), b"later")
    client.put(b"large", LARGE)


def same_as_served(client: Client, backend: MemoryBackend, hashes: dict[int, tuple[int, int, int]]) -> None:
    """A store over what was taken in answers as etcd does."""
    lessor = Lessor(backend, minimum_ttl=1)
    lessor.restore()
    store = Store.open(backend, lessor)
    for key, lease in store.leased_keys():
        lessor.attach(lease, key)
    answer = client.range(**EVERYTHING)
    assert store.range(b"\0", b"\0").records == [kv.SerializeToString() for kv in answer.kvs]
    for revision, expected in hashes.items():
        assert finish(store.hash_kv_steps(revision)) == expected
    same_leases(client, lessor)


def hashes_of(client: Client, revisions: list[int]) -> dict[int, tuple[int, int, int]]:
    answers = [client.maintenance.HashKV(rpc_pb2.HashKVRequest(revision=revision)) for revision in revisions]
    return {each.hash_revision: (each.hash, each.compact_revision, each.hash_revision) for each in answers}


def save(member: Member, path: Path) -> Path:
    command = [str(reference_binary("etcdctl")), f"--endpoints={member.endpoint}", "snapshot", "save", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def test_we_take_in_what_etcd_saves(tmp_path: Path) -> None:
    with Member("etcd", tmp_path) as member, Client.of(member) as client:
        drive(client)
        client.auth.UserAdd(rpc_pb2.AuthUserAddRequest(name="root", password="secret"))
        client.auth.RoleAdd(rpc_pb2.AuthRoleAddRequest(name="reader"))
        client.auth.UserGrantRole(rpc_pb2.AuthUserGrantRoleRequest(user="root", role="reader"))
        alarm = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=9, alarm=rpc_pb2.CORRUPT)
        client.maintenance.Alarm(alarm)
        saved = save(member, tmp_path / "saved.db")
        current = client.revision()
        hashes = hashes_of(client, [201, current - 50, current])
        content, backend = ingest_file(saved)
        same_as_served(client, backend, hashes)

        listed = client.cluster.MemberList(rpc_pb2.MemberListRequest())
        membership = Membership(backend)
        membership.restore()
        assert [each.to_proto() for each in membership.members] == list(listed.members)
        assert membership.version == "3.7.0"
        assert content.conf_state == ConfState((listed.members[0].ID,))
        status = client.maintenance.Status(rpc_pb2.StatusRequest())
        assert (content.term, content.index) == (status.raftTerm, status.raftAppliedIndex)
        alarms = AlarmStore(backend)
        alarms.restore()
        assert alarms.get() == [rpc_pb2.AlarmMember(memberID=9, alarm=rpc_pb2.CORRUPT)]
        assert backend.get(AUTH_BUCKET + b"authUsers\0root") is not None
    # The same again out of the directory of the member that has stopped.
    raw_content, raw = ingest_file(member.data_dir / "member" / "snap" / "db")
    assert raw.items() == backend.items()
    assert raw_content.index >= content.index


def test_what_etcd_wrote_comes_out_of_us_as_it_was(tmp_path: Path) -> None:
    with Member("etcd", tmp_path) as member, Client.of(member) as client:
        drive(client)
        saved = save(member, tmp_path / "saved.db")
    content, backend = ingest_file(saved)
    ours = export_file(MemoryView(backend, content.index, content.term, content.conf_state), tmp_path / "ours.db")
    assert read_file(ours) == read_file(saved)
    # etcdutl's hash covers every bucket.
    assert check_with_bbolt(ours)["hash"] == check_with_bbolt(saved)["hash"]


def test_a_revision_that_etcdutl_bumped(tmp_path: Path) -> None:
    state = State()
    state.change(200)
    path = state.export(tmp_path / "db")
    add_checksum(path)
    with restored(path, tmp_path, "--bump-revision=1000", "--mark-compacted") as member, Client.of(member) as client:
        wait_until(lambda: "finished scheduled" in member.log_text())
        client.put(b"after", b"1")
        current = client.revision()
        assert current == state.store.current_revision + 1001
        hashes = hashes_of(client, [current - 1, current])
        _, backend = ingest_file(save(member, tmp_path / "saved.db"))
        same_as_served(client, backend, hashes)
        store = Store.open(backend)
        seen = [change[1] for change in BackendHistory(backend, store).changes_between(0, current)]
        assert b"" not in seen
        assert seen[-1] == b"after"
