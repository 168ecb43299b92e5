"""Users and roles on clusters of both kinds of members, and carried from one kind to the other in snapshots."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from etcdpy.proto import rpc_pb2
from tests.interop.test_auth import BAD_LOGIN, BAD_TOKEN, DENIED, NOBODY, OLD
from tests.support.client import Client, Refusal, wait_until
from tests.support.cluster import Cluster
from tests.support.members import Member
from tests.support.reference import reference_binary
from tests.support.users import FAST_HASHES, READ, READWRITE, ROOT_PASSWORD, As, users

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.members import Kind

pytestmark = [pytest.mark.reference, pytest.mark.timeout(120)]

COMPOSITIONS: Final[list[list[Kind]]] = [
    ["etcd", "etcd", "etcd"],
    ["etcd", "etcd", "etcdpy"],
    ["etcdpy", "etcdpy", "etcd"],
    ["etcdpy", "etcdpy", "etcdpy"],
]


@pytest.fixture(params=COMPOSITIONS, ids="-".join)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(request.param, tmp_path, flags=[FAST_HASHES]) as running:
        yield running


def on_each(cluster: Cluster, who: As) -> list[As]:
    """The same token at every member. etcdpy's know it at once: they wait until they have applied its login, etcd's
    until they have applied the entry before that."""
    found = []
    for member in cluster.members:
        place = As(cluster.client(member), who.token)
        if member.kind == "etcd":
            wait_until(partial(_is_known, place))
        found.append(place)
    return found


def _is_known(place: As) -> bool:
    return bool(place.range(b"none") != BAD_TOKEN)


def test_what_is_changed_anywhere_counts_everywhere(cluster: Cluster) -> None:
    found = users(cluster.client(cluster.members[0]), ["u"])
    roots = on_each(cluster, found["root"])
    for number, root in enumerate(roots):
        root.grant("u", READWRITE, b"u%d" % number)
    nobodies = [As(cluster.client(member)) for member in cluster.members]
    for number, nobody in enumerate(nobodies):
        u = nobody.log_in("u", "u")
        # The login is known to the others at once: they wait until they have applied it.
        for place in on_each(cluster, u):
            for key in (b"u0", b"u1", b"u2"):
                assert not isinstance(place.put(key, b"%d" % number), Refusal)
                assert place.range(key).kvs[0].value == b"%d" % number
            assert place.put(b"v") == DENIED
            assert place.range(b"u", b"v") == DENIED
        assert nobody.put(b"u0") == NOBODY
        assert nobody.try_log_in("u", "wrong") == BAD_LOGIN
    roots[1].revoke("u", b"u1")
    for nobody in nobodies:
        u = nobody.log_in("u", "u")
        for place in on_each(cluster, u):
            assert place.put(b"u1") == DENIED
            assert not isinstance(place.put(b"u0"), Refusal)
    told = [root.must("UserList", rpc_pb2.AuthUserListRequest()).users for root in roots]
    assert told == [["root", "u"]] * 3
    status = [nobody.must("AuthStatus", rpc_pb2.AuthStatusRequest()) for nobody in nobodies]
    assert len({each.authRevision for each in status}) == 1
    roots[2].must("AuthDisable", rpc_pb2.AuthDisableRequest())
    for nobody in nobodies:
        assert not isinstance(nobody.put(b"free"), Refusal)
    cluster.assert_equal()


def test_a_change_between_two_requests_makes_the_second_old_or_denied(cluster: Cluster) -> None:
    """Requests through one member while another takes rights away: after that has been answered none is let through."""
    found = users(cluster.client(cluster.members[0]), ["u"])
    root = found["root"]
    root.grant("u", READWRITE, b"u")
    u = found["nobody"].log_in("u", "u")
    here, *others = on_each(cluster, u)
    for place in (here, *others):
        assert not isinstance(place.put(b"u"), Refusal)
    under_way = [
        place.client.kv.Put.future(rpc_pb2.PutRequest(key=b"u", value=b"x"), metadata=u.metadata, timeout=10)
        for place in (here, *others) * 20
    ]
    root.revoke("u", b"u")
    revision = root.range(b"u").kvs[0].mod_revision
    for place in (here, *others):
        assert place.put(b"u") in (DENIED, OLD)
        assert place.range(b"u") in (DENIED, OLD)
    for each in under_way:
        each.exception()
    assert root.range(b"u").kvs[0].mod_revision == revision
    root.must("AuthDisable", rpc_pb2.AuthDisableRequest())
    cluster.assert_equal()


def test_leases_of_a_user_through_other_members(cluster: Cluster) -> None:
    found = users(cluster.client(cluster.members[0]), ["u", "v"])
    root = found["root"]
    root.grant("u", READWRITE, b"u")
    root.grant("v", READ, b"u")
    u, v = (found["nobody"].log_in(name, name) for name in ("u", "v"))
    lease = u.ask("lease", "LeaseGrant", rpc_pb2.LeaseGrantRequest(TTL=2)).ID
    assert not isinstance(u.put(b"u", lease=lease), Refusal)
    for place in on_each(cluster, v):
        assert place.ask("lease", "LeaseRevoke", rpc_pb2.LeaseRevokeRequest(ID=lease)) == DENIED
        keys = place.ask("lease", "LeaseTimeToLive", rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=True)).keys
        assert list(keys) == [b"u"]
    wait_until(lambda: root.range(b"u").count == 0, 10)
    root.must("AuthDisable", rpc_pb2.AuthDisableRequest())
    cluster.assert_equal()


@pytest.mark.parametrize("way", [["etcd", "etcdpy", "etcd"], ["etcdpy", "etcdpy", "etcd"]], ids="-".join)
def test_users_move_with_a_snapshot(way: list[Kind], tmp_path: Path) -> None:
    """Saved on one, restored for the next: who could log in can, with the same rights, and the revision goes on."""
    member = Member(way[0], tmp_path / "0", flags=[FAST_HASHES])
    with member, Client.of(member) as client:
        root = users(client, ["u"])["root"]
        root.grant("u", READWRITE, b"u", b"v")
        root.put(b"u1", b"kept")
        revision = root.must("AuthStatus", rpc_pb2.AuthStatusRequest()).authRevision
        saved = save(member, tmp_path / "0.db")
    for number, kind in enumerate(way[1:], 1):
        member = restored(kind, saved, tmp_path / str(number))
        with member, Client.of(member) as client:
            nobody = As(client)
            assert nobody.range(b"u1") == NOBODY
            status = nobody.must("AuthStatus", rpc_pb2.AuthStatusRequest())
            assert (status.enabled, status.authRevision) == (True, revision)
            u = nobody.log_in("u", "u")
            assert u.range(b"u1").kvs[0].value == b"kept"
            assert u.put(b"v") == DENIED
            root = nobody.log_in("root", ROOT_PASSWORD)
            assert root.must("UserList", rpc_pb2.AuthUserListRequest()).users == ["root", "u"]
            root.add_role(f"by {kind} {number}")
            revision += 1
            saved = save(member, tmp_path / f"{number}.db")


def save(member: Member, path: Path) -> Path:
    user = f"--user=root:{ROOT_PASSWORD}"
    command = [str(reference_binary("etcdctl")), f"--endpoints={member.endpoint}", user, "snapshot", "save", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def restored(kind: Kind, path: Path, directory: Path) -> Member:
    """A member of that kind, not started, over what its own tool makes of a snapshot."""
    directory.mkdir()
    member = Member(kind, directory, flags=[FAST_HASHES])
    own = [flag for flag in member.peer_flags() if not flag.startswith("--listen")]
    tool = [str(reference_binary("etcdutl"))] if kind == "etcd" else [sys.executable, "-m", "etcdpy.utl"]
    command = [*tool, "snapshot", "restore", str(path), f"--data-dir={member.data_dir}", f"--name={member.name}", *own]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return member
