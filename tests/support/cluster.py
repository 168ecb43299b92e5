"""Clusters of real processes, each member real etcd or etcdpy: life, faults, member changes, and what must be equal."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

import grpc

from etcdpy.proto import rpc_pb2
from tests.support.certificates import TestAuthority
from tests.support.client import Client, Refusal, outcome, refusal_of
from tests.support.fault_proxy import FaultProxy
from tests.support.members import READY_SECONDS_MAX, Kind, Member, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Answer = TypeVar("Answer")

LEADER_SECONDS_MAX: Final = 15.0
CALL_SECONDS_MAX: Final = 2.0
"""A call that finds out how a member is; one that is paused does not answer."""
SOON: Final = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
)
"""A member that comes back is found at once, not after grpcio's seconds."""

# Below the range that the kernel gives to outgoing connections: a port must still be free when its member comes back.
_PORTS: Final = range(24_000, 26_000)
_next_port = itertools.count(os.getpid() * 40)


def listener() -> socket.socket:
    """A listening socket on a port of loopback that keeps free for its owner."""
    for number in _next_port:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(("127.0.0.1", _PORTS[number % len(_PORTS)]))
            bound.listen(128)
        except OSError:
            bound.close()
            continue
        return bound
    raise AssertionError("unreachable")


def kept_port() -> int:
    """A port for a member that ends and comes back."""
    with listener() as bound:
        return int(bound.getsockname()[1])


class Gone(Exception):
    """The member that is to be changed is none any more."""


@dataclass(frozen=True, slots=True)
class ClusterTls:
    """Certificates of a cluster with mutual TLS: one authority, and one certificate that all members share."""

    clients: TlsFiles
    peer_cert: Path
    peer_key: Path

    @classmethod
    def issue(cls, directory: Path) -> Self:
        """Make them."""
        directory.mkdir(parents=True, exist_ok=True)
        authority = TestAuthority(directory)
        server, client, peer = (authority.issue(profile, profile) for profile in ("server", "client", "peer"))
        files = (Path(name) for name in (authority.path, server.cert, server.key, client.cert, client.key))
        return cls(TlsFiles(*files), Path(peer.cert), Path(peer.key))


class ClusterMember(Member):
    """One member among others."""

    def __init__(
        self, kind: Kind, directory: Path, name: str, *, tls: ClusterTls | None, flags: Sequence[str], proxied: bool
    ) -> None:
        super().__init__(kind, directory, name=name, tls=tls.clients if tls else None, flags=flags)
        self.cluster_tls = tls
        self.client_port, self.peer_port = kept_port(), kept_port()
        self.proxy_listener = listener() if proxied else None
        self.initial_cluster = ""
        self.initial_cluster_state = "new"
        self.id = 0
        """As the cluster knows it; 0 until it has said so."""
        self.paused = False

    @property
    def peer_url(self) -> str:
        """Where the others find it: the proxy's port, if there is one."""
        port = self.proxy_listener.getsockname()[1] if self.proxy_listener else self.peer_port
        return f"{'https' if self.cluster_tls else 'http'}://127.0.0.1:{port}"

    def peer_flags(self) -> list[str]:
        scheme = "https" if self.cluster_tls else "http"
        flags = [
            f"--listen-peer-urls={scheme}://127.0.0.1:{self.peer_port}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster={self.initial_cluster}",
            f"--initial-cluster-state={self.initial_cluster_state}",
        ]
        if self.cluster_tls:
            flags += [
                f"--peer-cert-file={self.cluster_tls.peer_cert}",
                f"--peer-key-file={self.cluster_tls.peer_key}",
                f"--peer-trusted-ca-file={self.cluster_tls.clients.ca}",
                "--peer-client-cert-auth",
            ]
        return flags

    @property
    def answers(self) -> bool:
        """Whether it runs and is not held."""
        return self.running and not self.paused

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and its memory, and does nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def kill(self) -> None:
        super().kill()
        self.paused = False

    def wipe(self) -> None:
        """Its disk is lost."""
        assert not self.running
        shutil.rmtree(self.data_dir)


class Cluster:
    """Some members on loopback. A context manager: it starts them all, and kills them at the end."""

    def __init__(
        self,
        kinds: Sequence[Kind],
        directory: Path,
        *,
        tls: ClusterTls | None = None,
        proxied: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        """`proxied`: members reach each other through `self.faults`. Nothing is started yet."""
        self.directory = directory
        self.cluster_tls = tls
        self.proxied = proxied
        self.flags = list(flags)
        self._names = (f"m{number}" for number in itertools.count(1))
        self._clients: dict[str, Client] = {}
        self.members = [self._member(kind) for kind in kinds]
        together = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in self.members:
            member.initial_cluster = together
        self.faults = FaultProxy(lambda: {member.name: member.pid for member in self.members if member.running})

    def _member(self, kind: Kind) -> ClusterMember:
        return ClusterMember(
            kind, self.directory, next(self._names), tls=self.cluster_tls, flags=self.flags, proxied=self.proxied
        )

    def _proxy(self, member: ClusterMember) -> None:
        if member.proxy_listener:
            self.faults.add(member.name, member.proxy_listener, member.peer_port)

    # --- life ---

    def start(self) -> Self:
        """Start all members, and wait until each serves."""
        for member in self.members:
            self._proxy(member)
            member.launch()
        for member in self.members:
            member.wait_ready()
        self._learn_ids()
        return self

    def forget_clients(self) -> None:
        """Let the next calls be made on new connections, with the certificates of now."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def close(self) -> None:
        """Kill what still runs, close what is open."""
        self.forget_clients()
        for member in self.members:
            member.kill()
        self.faults.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException as error:
            self.__exit__(type(error), error)
            raise

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        if error is not None:
            error.add_note(self.log_tails())
        self.close()

    def log_tails(self, lines_max: int = 12) -> str:
        """The end of every member's log, for a failure's text."""
        return "\n".join(
            f"--- {member.name} ({member.kind}, {'runs' if member.running else 'ended'}):\n{member.log_tail(lines_max)}"
            for member in self.members
        )

    def kill_all(self) -> None:
        """The power fails: SIGKILL to all at once."""
        for member in self.members:
            if member.running:
                os.kill(member.pid, signal.SIGKILL)
        for member in self.members:
            member.kill()

    def restart(self, *members: ClusterMember, ready_seconds_max: float = READY_SECONDS_MAX) -> None:
        """Start members again, and wait until each serves."""
        for member in members:
            member.launch()
        for member in members:
            member.wait_ready(ready_seconds_max)

    # --- whom to ask ---

    @property
    def tls(self) -> TlsFiles | None:
        """What clients show and trust."""
        return self.cluster_tls.clients if self.cluster_tls else None

    @property
    def client_url(self) -> str:
        """The URLs of all members, with commas between; the leader's is the first."""
        leader = self.leader()
        return ",".join(member.client_url for member in (leader, *self.others(leader)))

    def client(self, member: ClusterMember) -> Client:
        """A connection to that member, kept until the end."""
        if member.name not in self._clients:
            self._clients[member.name] = Client(member.endpoint, member.tls, SOON)
        return self._clients[member.name]

    def status(self, member: ClusterMember) -> rpc_pb2.StatusResponse | Refusal:
        """How the member is, by itself."""
        return outcome(self.client(member).maintenance.Status, rpc_pb2.StatusRequest(), timeout=CALL_SECONDS_MAX)

    def _learn_ids(self) -> None:
        for member in self.members:
            status = self.status(member)
            assert isinstance(status, rpc_pb2.StatusResponse), (member.name, status)
            member.id = status.header.member_id

    @property
    def answering(self) -> list[ClusterMember]:
        """The members that run and are not held."""
        return [member for member in self.members if member.answers]

    def others(self, *members: ClusterMember) -> list[ClusterMember]:
        """All members but these."""
        return [member for member in self.members if member not in members]

    def leader_now(self, among: Sequence[ClusterMember]) -> ClusterMember | None:
        """The one of `among` that all of them take for their leader; None while there is no such."""
        said = [self.status(member) for member in among]
        leaders = {(status.leader, status.raftTerm) if not isinstance(status, Refusal) else None for status in said}
        if len(leaders) != 1 or (only := leaders.pop()) is None:
            return None
        return next((member for member in among if member.id == only[0]), None)

    def leader(self, among: Sequence[ClusterMember] | None = None) -> ClusterMember:
        """Wait until all of `among` (by default all that answer) have one of them as their leader."""
        deadline = time.monotonic() + LEADER_SECONDS_MAX
        while (found := self.leader_now(among or self.answering)) is None:
            assert time.monotonic() < deadline, f"no leader in {LEADER_SECONDS_MAX:.0f} s"
            time.sleep(0.02)
        return found

    def wait_leaderless(self, member: ClusterMember) -> None:
        """Wait until a member knows of no leader."""
        deadline = time.monotonic() + LEADER_SECONDS_MAX
        while isinstance(status := self.status(member), Refusal) or status.leader:
            assert time.monotonic() < deadline, f"{member.name} follows {status}"
            time.sleep(0.02)

    def of_kind(self, kind: Kind) -> list[ClusterMember]:
        """The members of one kind."""
        return [member for member in self.members if member.kind == kind]

    def move_leader(self, target: ClusterMember) -> None:
        """Hand the leadership to that member."""
        for _ in range(20):
            leader = self.leader()
            if leader is target:
                return
            request = rpc_pb2.MoveLeaderRequest(targetID=target.id)
            outcome(self.client(leader).maintenance.MoveLeader, request)
        raise AssertionError(f"{target.name} does not become the leader")

    # --- member changes ---

    def add(self, kind: Kind, *, learner: bool = False) -> ClusterMember:
        """Add a member and start it; it serves when this returns."""
        member = self._member(kind)
        request = rpc_pb2.MemberAddRequest(peerURLs=[member.peer_url], isLearner=learner)
        answer = self._change(lambda client: client.cluster.MemberAdd(request, timeout=10))
        member.id = answer.member.ID
        member.initial_cluster_state = "existing"
        member.initial_cluster = ",".join(
            f"{known.name or member.name}={url}" for known in answer.members for url in known.peerURLs
        )
        self.members.append(member)
        self._proxy(member)
        member.start()
        return member

    def promote(self, member: ClusterMember) -> None:
        """Make a learner a voter, as soon as it has caught up."""
        request = rpc_pb2.MemberPromoteRequest(ID=member.id)
        self._change(lambda client: client.cluster.MemberPromote(request, timeout=10))

    def remove(self, member: ClusterMember) -> None:
        """Take a member out of the cluster, and wait until its process has ended by itself."""
        request = rpc_pb2.MemberRemoveRequest(ID=member.id)
        with contextlib.suppress(Gone):  # it led, and ended before it answered
            self._change(lambda client: client.cluster.MemberRemove(request, timeout=10))
        self.members.remove(member)
        if member.running:
            member.wait_ended()

    def _change(self, call: Callable[[Client], Answer]) -> Answer:
        """Ask the leader until it agrees: it refuses while members are not connected, or a learner is behind."""
        deadline = time.monotonic() + LEADER_SECONDS_MAX
        while True:
            try:
                return call(self.client(self.leader()))
            except grpc.RpcError as error:
                refused = refusal_of(error)
                if refused.text == "etcdserver: member not found":
                    raise Gone from error
                assert time.monotonic() < deadline, refused
            time.sleep(0.05)

    # --- what must be equal ---

    def revision(self) -> int:
        """The revision that the cluster has reached, by a linearizable read."""
        return self.client(self.leader()).revision()

    def hash_of(self, member: ClusterMember, revision: int) -> tuple[int, int]:
        """HashKV of a member at that revision, and the revision it is compacted at; waits until it has got so far."""
        deadline = time.monotonic() + LEADER_SECONDS_MAX
        request = rpc_pb2.HashKVRequest(revision=revision)
        while isinstance(answer := outcome(self.client(member).maintenance.HashKV, request), Refusal):
            assert time.monotonic() < deadline, (member.name, answer)
            time.sleep(0.02)
        return answer.hash, answer.compact_revision

    def assert_equal(self, members: Sequence[ClusterMember] | None = None) -> int:
        """All members hold the same at the revision reached now, which is returned."""
        revision = self.revision()
        found = {member.name: self.hash_of(member, revision) for member in members or self.answering}
        assert len(set(found.values())) == 1, f"at revision {revision}: {found}"
        return revision


def cluster_versions(cluster: Cluster) -> set[object]:
    """The versions that the members take their cluster to run at."""
    return {member.http("GET", "/version").json()["etcdcluster"] for member in cluster.answering}


class SharedCluster:
    """A cluster that many tests use one after the other; one that fails takes it down, and the next has a new one."""

    def __init__(self, kinds: Sequence[Kind], make_directory: Callable[[], Path], *, flags: Sequence[str] = ()) -> None:
        self.kinds = list(kinds)
        self._make_directory = make_directory
        self._flags = flags
        self._running: Cluster | None = None

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Cluster]:
        """All members in good health. They should be so again afterwards."""
        if self._running is None:
            self._running = Cluster(self.kinds, self._make_directory(), proxied=True, flags=self._flags).__enter__()
        try:
            yield self._running
        except BaseException as error:
            self._running.__exit__(type(error), error)
            self._running = None
            raise

    def close(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.close()
