"""One run of one workload on one fresh server or cluster, and what the servers spent on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.load import Load, LoadError
from bench.users import switch_users_on
from etcdpy.storage.key_file import new_line
from tests.support.client import Client
from tests.support.cluster import Cluster, ClusterTls
from tests.support.members import Kind, Member, TlsFiles
from tests.support.users import FAST_HASHES, ROOT_PASSWORD, As

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.workloads import Workload

LOGIN_REQUESTS = 100

SERVER_FLAGS = ("--quota-backend-bytes=8589934592", "--log-level=error")


class BenchError(Exception):
    """A run did not do what it claims; its figures must not be published."""


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one run."""

    workload: str
    side: str
    rate: float
    p50_ms: float
    p99_ms: float
    server_us: float
    """User and system CPU time of all server processes, all threads, microseconds a request."""
    rss_mb: float
    revisions: int
    generator_us: float = 0.0
    """The same of the load generator; 0 where that is no process of its own. A request is the same work for it whoever
    answers: on a machine whose speed changes, `server_us` divided by this tells more than the rate."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def make_certificates(directory: Path) -> ClusterTls:
    """A CA, and certificates of servers, peers and clients, by the project's own pki."""
    directory.mkdir(parents=True)

    def pki(*arguments: str) -> None:
        command = [sys.executable, "-m", "pki", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")

    pki("init", "--dir", str(directory))
    for profile in ("server", "peer", "client"):
        names = [] if profile == "client" else ["--ip", "127.0.0.1", "--dns", "localhost"]
        pki("issue", "--dir", str(directory), "--profile", profile, profile, *names)
    clients = TlsFiles(
        directory / "ca.pem",
        directory / "server.pem",
        directory / "server-key.pem",
        directory / "client.pem",
        directory / "client-key.pem",
    )
    return ClusterTls(clients, directory / "peer.pem", directory / "peer-key.pem")


def _key_file(directory: Path) -> Path:
    path = directory / "keys"
    path.touch(0o600)
    path.write_text(new_line("bench"))
    return path


@contextmanager
def started(
    workload: Workload, kind: Kind, directory: Path, tls: ClusterTls
) -> Iterator[tuple[Member | Cluster, Sequence[Member]]]:
    """What the workload is sent to, fresh, and the members that make it up; ended afterwards."""
    flags = list(SERVER_FLAGS)
    if workload.encrypted:
        if kind == "etcdpy":
            flags.append(f"--encryption-key-file={_key_file(directory)}")
        kind = "etcdpy"
    if workload.users_on:
        # Each connection logs in before the clock starts: at the default cost that would take longer than the load.
        flags.append(FAST_HASHES)
    if workload.members == 1:
        with Member(kind, directory, tls=tls.clients if workload.tls else None, flags=flags) as member:
            yield member, [member]
    else:
        kinds = [kind] * workload.members
        with Cluster(kinds, directory, tls=tls if workload.tls else None, flags=flags) as cluster:
            yield cluster, list(cluster.members)


def run_once(workload: Workload, side: str, kind: Kind, total: int, tls: ClusterTls, data_root: Path) -> Result:
    """Start fresh servers, prepare them, load them, read what they spent, end them. Raises LoadError, BenchError."""
    with (
        tempfile.TemporaryDirectory(dir=data_root, prefix=f"bench-{side}-") as name,
        started(workload, kind, Path(name), tls) as (target, members),
    ):
        with Client.of(members[0]) as client:
            if workload.prepare is not None:
                workload.prepare(client)
            logins = 0.0
            if workload.users_on:
                switch_users_on(client)
                logins = _cpu_of_logins(workload, target, members)
            before = _revision(client, workload)
        cpu = {member.name: member.cpu_seconds() for member in members}
        generated = _cpu_of_generators()
        load = workload.send(target, total)
        generated = _cpu_of_generators() - generated
        running = [member for member in members if member.running]
        spent = sum(member.cpu_seconds() - cpu[member.name] for member in running) - logins
        with Client.of(running[0]) as client:
            gained = _revision(client, workload) - before
        if workload.revisions is not None and gained != load.requests * workload.revisions:
            raise BenchError(
                f"{workload.name} on {side}: {load.requests} requests made {gained} revisions, "
                f"not {load.requests * workload.revisions}; some were not done"
            )
        if load.data_bytes is not None and load.data_bytes < load.requests * workload.answer_bytes_min:
            raise BenchError(
                f"{workload.name} on {side}: only {load.data_bytes} bytes came back; some answers are errors"
            )
        result = _result(workload, side, load, spent, sum(member.rss_bytes() for member in running), gained)
        return replace(result, generator_us=generated / load.requests * 1e6)


def _cpu_of_generators() -> float:
    """CPU seconds of processes that this one has started and waited for: no members, but for one that a load kills."""
    spent = os.times()
    return spent.children_user + spent.children_system


def _cpu_of_logins(workload: Workload, target: Any, members: Sequence[Member]) -> float:
    """What the logins of all connections cost, 2 ms each even by fast hashes: by a load that is little else."""
    before = sum(member.cpu_seconds() for member in members)
    workload.send(target, LOGIN_REQUESTS)
    return sum(member.cpu_seconds() for member in members) - before


def _revision(client: Client, workload: Workload) -> int:
    asks = As(client)
    if workload.users_on:
        asks = asks.log_in("root", ROOT_PASSWORD)
    return int(asks.range(b"\0").header.revision)


def _result(workload: Workload, side: str, load: Load, spent: float, rss_bytes: int, gained: int) -> Result:
    if load.requests == 0 or load.seconds <= 0:
        raise LoadError(f"{workload.name} on {side}: nothing was sent")
    return Result(
        workload.name,
        side,
        load.rate,
        load.p50_ms,
        load.p99_ms,
        spent / load.requests * 1e6,
        rss_bytes / 1e6,
        gained,
    )
