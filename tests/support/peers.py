"""A PeerNetwork on loopback with somebody behind it who only writes down what comes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from etcdpy import errors
from etcdpy.peer.client import HashOfStore
from etcdpy.peer.network import PeerNetwork
from etcdpy.proto import rpc_pb2
from etcdpy.transport.server import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from etcdpy.peer.tls import PeerTls
    from etcdpy.raft.message import Message

CLUSTER = 0xC1


class Behind:
    """Receiver and Answers of a member that remembers. Snapshots are read to their end."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.removed: set[int] = set()
        self.lost: list[int] = []
        self.snapshots: list[tuple[Message, bytes]] = []
        self.snapshots_sent: list[tuple[int, bool]] = []
        self.told_removed = 0
        self.snapshot_error: Exception | None = None
        self.promoted: list[tuple[int, str]] = []
        self.news = asyncio.Event()

    # --- Receiver ---

    def receive(self, message: Message) -> None:
        self.received.append(message)
        self.news.set()

    def is_removed(self, member: int) -> bool:
        return member in self.removed

    def unreachable(self, member: int) -> None:
        self.lost.append(member)
        self.news.set()

    def snapshot_sent(self, member: int, ok: bool) -> None:
        self.snapshots_sent.append((member, ok))
        self.news.set()

    def removed_from_cluster(self) -> None:
        self.told_removed += 1
        self.news.set()

    async def receive_snapshot(self, message: Message, body: AsyncIterator[bytes]) -> None:
        content = bytearray()
        async for piece in body:
            content += piece
        if self.snapshot_error is not None:
            raise self.snapshot_error
        self.snapshots.append((message, bytes(content)))
        self.news.set()

    # --- Answers ---

    def members_json(self) -> bytes:
        return b'[{"id":1,"peerURLs":["http://127.0.0.1:1"],"name":"one","clientURLs":["http://127.0.0.1:2"]}]'

    def version_json(self) -> bytes:
        return b'{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}'

    async def promote(self, member: int, token: str) -> bytes:
        refusals: dict[int, errors.EtcdError] = {
            404: errors.MemberNotFound(), 412: errors.MemberNotLearner(), 413: errors.LearnerNotReady(),
            500: errors.NoLeader(),
        }  # fmt: skip
        if member in refusals:
            raise refusals[member]
        self.promoted.append((member, token))
        return self.members_json()

    async def renew_lease(self, lease: int) -> int:
        if lease == 404:
            raise errors.LeaseNotFound
        if lease == 408:
            raise TimeoutError
        return 60

    async def lease_time_to_live(self, lease: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        if lease == 404:
            raise errors.LeaseNotFound
        return rpc_pb2.LeaseTimeToLiveResponse(ID=lease, TTL=5, grantedTTL=9, keys=[b"k"] if keys else [])

    async def hash_kv(self, revision: int) -> HashOfStore:
        if revision == 1:
            raise errors.Compacted
        if revision == 99:
            raise errors.FutureRevision
        return HashOfStore(hash=7, hash_revision=revision, compact_revision=2, revision=12)

    async def downgrade_enabled(self) -> bool:
        return True

    # --- for tests ---

    async def wait(self, condition: Callable[[], Any], seconds: float = 10.0) -> None:
        """Until `condition` holds; it is looked at whenever something was noted, and now and then."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.news.clear()
                try:
                    async with asyncio.timeout(0.02):
                        await self.news.wait()
                except TimeoutError:
                    continue


class Member:
    """One PeerNetwork with its listener, on a port of the kernel's choice unless `port` says which."""

    def __init__(
        self, own_id: int, *, cluster_id: int = CLUSTER, tls: PeerTls | None = None, port: int = 0, **options: Any
    ) -> None:
        self.own_id = own_id
        self.behind = Behind()
        self.bugs: list[Exception] = []
        self._tls = tls
        self._port = port
        self._cluster_id = cluster_id
        self._options = options

    async def __aenter__(self) -> Self:
        self.server = Server({}, on_bug=self.bugs.append)
        scheme = "https" if self._tls is not None else "http"
        self.network = PeerNetwork(
            own_id=self.own_id,
            cluster_id=self._cluster_id,
            receiver=self.behind,
            answers=self.behind,
            tls=self._tls,
            local_urls=[f"{scheme}://127.0.0.1:{self._port or 1}"],
            spawn=self.server.spawn,
            **self._options,
        )
        listeners = await self.network.listen(self.server, [f"{scheme}://127.0.0.1:{self._port}"])
        self.url = f"{scheme}://127.0.0.1:{listeners[0].address[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.network.stop()
        await self.server.close()
        assert not self.bugs, self.bugs

    def knows(self, other: Member) -> None:
        self.network.add_peer(other.own_id, [other.url])

    async def wait_streams(self, other: Member) -> None:
        """Until both of the other member's streams are attached here."""
        peer = self.network.peer(other.own_id)
        assert peer is not None
        await self.behind.wait(lambda: all(writer.working for writer in peer.writers.values()))
