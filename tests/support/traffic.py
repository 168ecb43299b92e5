"""A writer and a watcher that live through changes of a cluster, as clients do: what fails is tried elsewhere."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import grpc

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.client import Client, WatchStream, prefix_end
from tests.support.cluster import SOON

if TYPE_CHECKING:
    from tests.support.cluster import Cluster, ClusterMember

CALL_SECONDS_MAX: Final = 2.0
PAUSE_SECONDS: Final = 0.005
POLL_SECONDS: Final = 0.05


class Event(NamedTuple):
    """A put (or with `value` None a deletion), as a watcher is told."""

    revision: int
    key: bytes
    value: bytes | None


def event_of(event: kv_pb2.Event) -> Event:
    """The same without what depends on the watcher."""
    deleted = event.type == kv_pb2.Event.DELETE
    return Event(event.kv.mod_revision, event.kv.key, None if deleted else event.kv.value)


class Worker:
    """A thread that works with one member at a time until the end of the context."""

    def __init__(self, cluster: Cluster, prefix: bytes) -> None:
        self._cluster = cluster
        self._prefix = prefix
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._turn = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._thread.join()

    def _next_member(self) -> ClusterMember | None:
        members = self._cluster.answering
        self._turn += 1
        return members[self._turn % len(members)] if members else None

    def _run(self) -> None:
        while not self._ending.is_set():
            member = self._next_member()
            if member is not None:
                with Client(member.endpoint, member.tls, SOON) as client:
                    self._work(client, member)
            time.sleep(POLL_SECONDS)

    def _work(self, client: Client, member: ClusterMember) -> None:
        """Until it fails, or the end."""
        raise NotImplementedError


class Writer(Worker):
    """Puts one key after the other; a put that fails is made again at the next member, until it is acknowledged."""

    def __init__(self, cluster: Cluster, prefix: bytes, *, puts_a_connection: float = math.inf) -> None:
        super().__init__(cluster, prefix)
        self._puts_a_connection = puts_a_connection
        self.acknowledged: dict[bytes, int] = {}
        """Key to the revision that the answer named."""
        self.failures: list[str] = []

    def _work(self, client: Client, member: ClusterMember) -> None:
        last = len(self.acknowledged) + self._puts_a_connection
        while not self._ending.is_set() and len(self.acknowledged) < last:
            key = self._prefix + b"%06d" % len(self.acknowledged)
            try:
                answer = client.kv.Put(rpc_pb2.PutRequest(key=key, value=key), timeout=CALL_SECONDS_MAX)
            except grpc.RpcError as error:
                self.failures.append(f"{member.name}: {error}")
                return
            self.acknowledged[key] = answer.header.revision
            time.sleep(PAUSE_SECONDS)

    def wait(self, count: int, seconds_max: float = 15.0) -> None:
        """Wait until that many more were acknowledged."""
        wanted, deadline = len(self.acknowledged) + count, time.monotonic() + seconds_max
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, f"{len(self.acknowledged)} of {wanted} acknowledged; {self.failures}"
            time.sleep(0.01)


class Watcher(Worker):
    """Watches the prefix from a revision on; when a stream ends, it goes on at the next member where it stood."""

    def __init__(self, cluster: Cluster, prefix: bytes, revision: int) -> None:
        super().__init__(cluster, prefix)
        self.events: list[Event] = []
        self.streams = 0
        self._next_revision = revision

    def _work(self, client: Client, member: ClusterMember) -> None:
        # As every client that wants to hear of a member without a leader.
        with client.watching((("hasleader", "true"),)) as stream:
            self.streams += 1
            stream.create(self._prefix, prefix_end(self._prefix), start_revision=self._next_revision)
            taken = 0
            while member.running and not self._ending.is_set() and stream.ended is None:
                taken = self._take(stream, taken)
                time.sleep(0.01)

    def _take(self, stream: WatchStream, taken: int) -> int:
        """Take what has arrived after the first `taken` responses; how many there are now."""
        arrived = len(stream.responses)
        for response in stream.responses[taken:arrived]:
            self.events += map(event_of, response.events)
            if response.events:
                self._next_revision = response.events[-1].kv.mod_revision + 1
        return arrived

    def wait_revision(self, revision: int, seconds_max: float = 15.0) -> None:
        """Wait until it was told of the event at that revision, or a later one."""
        deadline = time.monotonic() + seconds_max
        while self._next_revision <= revision:
            assert time.monotonic() < deadline, f"told up to revision {self._next_revision - 1} of {revision}"
            time.sleep(0.01)


def every_event(client: Client, prefix: bytes, revision: int, count: int) -> list[Event]:
    """The first `count` events of a prefix from a revision on, as a member tells of them afterwards."""
    with client.watching() as stream:
        stream.create(prefix, prefix_end(prefix), start_revision=revision)
        found: list[Event] = []
        while len(found) < count:
            found += map(event_of, stream.next().events)
        return found
