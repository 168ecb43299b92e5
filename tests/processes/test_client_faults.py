"""`etcdpy.client` while leaders die: a watcher sees every revision once, a lock has one holder, a lease stays.

All of it goes on at the same time in one cluster with mutual TLS, so that the ten deaths are paid for once.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from etcdpy.client import AsyncClient, Client, NotHeld, SessionExpired, TlsFiles
from etcdpy.errors import EtcdError
from tests.support.client import wait_until
from tests.support.cluster import Cluster, ClusterTls
from tests.support.traffic import Event, event_of, every_event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from etcdpy.client import Lock
    from tests.support.members import Kind

pytestmark = pytest.mark.timeout(150)

PREFIX: Final = b"events/"
END: Final = PREFIX + b"end"
FLAGS: Final = ("--heartbeat-interval=30", "--election-timeout=300")
LEASE_SECONDS: Final = 4
PUTS_BETWEEN_KILLS: Final = 20

KINDS_AND_KILLS = [pytest.param(("etcd", 2), marks=pytest.mark.reference), pytest.param(("etcdpy", 10))]


@pytest.fixture(scope="module", params=KINDS_AND_KILLS, ids=["etcd", "etcdpy"])
def cluster_and_kills(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, int]]:
    kind: Kind
    kind, kills = request.param
    directory = tmp_path_factory.mktemp("client-faults")
    with Cluster([kind] * 3, directory, tls=ClusterTls.issue(directory / "pki"), flags=FLAGS) as cluster:
        yield cluster, kills


@pytest.fixture
def cluster(cluster_and_kills: tuple[Cluster, int]) -> Cluster:
    return cluster_and_kills[0]


def options(cluster: Cluster) -> dict[str, Any]:
    """What a client of that cluster is made with."""
    assert cluster.tls is not None
    files = TlsFiles(cluster.tls.ca, cluster.tls.client_cert, cluster.tls.client_key)
    return {"endpoints": [member.endpoint for member in cluster.members], "tls": files}


class Worker(threading.Thread):
    """A thread with a client of its own, until it is stopped; what it raises is raised where it is joined."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.client = Client(**options(cluster))
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def work(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        self.stopping.set()
        self.join(30)
        assert not self.is_alive(), "it hangs"
        self.client.close()
        if self.error is not None:
            raise self.error


class Writer(Worker):
    """Puts key after key; what fails may have happened or not, and is not tried again."""

    def __init__(self, cluster: Cluster) -> None:
        self.acknowledged: dict[bytes, int] = {}
        self.failed = 0
        super().__init__(cluster)

    def work(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            key = PREFIX + b"%06d" % number
            try:
                self.acknowledged[key] = self.client.put(key, key, timeout=1.0).header.revision
            except EtcdError:
                self.failed += 1
            time.sleep(0.005)


class Watcher(Worker):
    """Sees events until the last one."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: list[Event] = []
        self.ready = threading.Event()
        super().__init__(cluster)

    def work(self) -> None:
        with self.client.watch(PREFIX, prefix=True) as watch:
            self.ready.set()
            for event in watch:
                if event.kv.key == END:
                    return
                self.seen.append(event_of(event))


class AsyncWatcher(Watcher):
    """The same by the other client."""

    def __init__(self, cluster: Cluster) -> None:
        self._options = options(cluster)
        super().__init__(cluster)

    def work(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        async with AsyncClient(**self._options) as client, client.watch(PREFIX, prefix=True) as watch:
            self.ready.set()
            async for event in watch:
                if event.kv.key == END:
                    return
                self.seen.append(event_of(event))


class Contender(Worker):
    """Takes the lock and gives it back, again and again."""

    holders: list[Lock]

    def __init__(self, cluster: Cluster, holders: list[Lock]) -> None:
        self.holders = holders
        self.times = 0
        self.overlaps = 0
        super().__init__(cluster)

    def work(self) -> None:
        while not self.stopping.is_set():
            lock = self.client.lock("contended", ttl=LEASE_SECONDS)
            try:
                lock.acquire(timeout=10)
            except (EtcdError, SessionExpired):
                continue
            self.hold(lock)
            try:
                lock.release()
            except (EtcdError, NotHeld):
                continue

    def hold(self, lock: Lock) -> None:
        self.holders.append(lock)
        others = [other for other in self.holders if other is not lock and other.held]
        time.sleep(0.01)
        # Both of them must have lived at the same moment, so ours is asked after the other.
        self.overlaps += sum(other.held and lock.held for other in others)
        self.holders.remove(lock)
        self.times += 1


def kill_leaders(cluster: Cluster, times: int, writer: Writer) -> None:
    for _ in range(times):
        leader = cluster.leader()
        leader.kill()
        cluster.leader()
        cluster.restart(leader)
        count = len(writer.acknowledged)
        wait_until(lambda: len(writer.acknowledged) >= count + PUTS_BETWEEN_KILLS, 15)  # noqa: B023


def test_nothing_is_missed_and_nobody_shares_a_lock_while_leaders_die(
    cluster_and_kills: tuple[Cluster, int],
) -> None:
    cluster, kills = cluster_and_kills
    holders: list[Lock] = []
    watchers: list[Watcher] = [Watcher(cluster), AsyncWatcher(cluster)]
    for watcher in watchers:
        assert watcher.ready.wait(15)
    contenders = [Contender(cluster, holders) for _ in range(3)]
    with Client(**options(cluster)) as client:
        lease = client.lease(LEASE_SECONDS)
        client.put("leased", lease=lease.id)
        writer = Writer(cluster)
        kill_leaders(cluster, kills, writer)
        writer.finish()
        assert lease.alive
        assert client.get("leased").kvs
        wait_until(lambda: all(contender.times for contender in contenders), 20)
        for contender in contenders:
            contender.finish()
        while True:
            try:
                client.put(END)
                break
            except EtcdError:
                pass
    for watcher in watchers:
        watcher.finish()
    assert sum(contender.overlaps for contender in contenders) == 0
    first = min(writer.acknowledged.values())
    told = every_event(cluster.client(cluster.leader()), PREFIX, first, len(watchers[0].seen) + 1)
    truth = [event for event in told if event.key != END]
    assert {event.key for event in truth} >= set(writer.acknowledged)
    for watcher in watchers:
        assert watcher.seen == truth


def test_who_stood_still_for_longer_than_its_lease_finds_the_lock_gone(cluster: Cluster, tmp_path: Path) -> None:
    """The holder's process is stopped, as by a machine that is moved; somebody else gets the lock meanwhile."""
    program = f"""
import sys
from pathlib import PosixPath
from etcdpy.client import Client, TlsFiles
lock = Client(**{options(cluster)!r}).lock("stopped", ttl=2)
lock.acquire()
print("held", lock.held, flush=True)
sys.stdin.readline()
print("held", lock.held, flush=True)
"""
    command = [sys.executable, "-c", program]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder,
        Client(**options(cluster)) as client,
    ):
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held True\n"
        holder.send_signal(signal.SIGSTOP)
        lock = client.lock("stopped", ttl=LEASE_SECONDS)
        lock.acquire(timeout=20)
        holder.stdin.write("\n")
        holder.stdin.flush()
        holder.send_signal(signal.SIGCONT)
        assert holder.stdout.readline() == "held False\n"
        assert lock.held
        lock.release()
        holder.wait(20)
