"""The network between members, as the composition root sees it: who the members are, what to send, who receives.

network = PeerNetwork(own_id=..., cluster_id=..., receiver=..., answers=..., tls=..., local_urls=..., spawn=...)
await network.listen(server, ["https://10.0.0.1:2380"])
network.add_peer(member, urls)
network.send(messages)
...
await network.stop()
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from etcdpy import limits
from etcdpy.peer.codec import MSG_SNAP
from etcdpy.peer.handler import STREAMED_PATHS, RaftPaths
from etcdpy.peer.names import id_text
from etcdpy.peer.peer import Peer, Remote
from etcdpy.peer.questions import QuestionPaths
from etcdpy.peer.roads import Roads

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from etcdpy.peer.connections import Connections
    from etcdpy.peer.metrics import PeerMetrics
    from etcdpy.peer.posting import SnapshotBody
    from etcdpy.peer.questions import Answers
    from etcdpy.peer.roads import Receiver
    from etcdpy.peer.tls import PeerTls
    from etcdpy.raft.message import Message
    from etcdpy.transport.exchange import HttpRequest, HttpResponse
    from etcdpy.transport.listener import Listener
    from etcdpy.transport.server import Server
    from etcdpy.transport.tls import LoadedCertificate

logger = logging.getLogger("etcdpy.peer")


class PeerNetwork:
    """All other members. Belongs to the running event loop; `spawn` runs its tasks (the server's).

    `local_urls` is what we tell others about how to reach us; `local_address` binds what we dial. `read_seconds` is
    --raft-read-timeout: a stream on which nothing came for so long is dead, and a third of it the link heartbeat.
    """

    def __init__(
        self,
        *,
        own_id: int,
        cluster_id: int,
        receiver: Receiver,
        answers: Answers,
        tls: PeerTls | None,
        local_urls: Sequence[str],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        read_seconds: float = 5.0,
        dial_seconds: float = 2.0,
        local_address: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._tls = tls
        self._roads = Roads(
            loop=asyncio.get_running_loop(),
            own_id=own_id,
            cluster_id=cluster_id,
            receiver=receiver,
            tls=tls.client if tls is not None else None,
            local_urls=local_urls,
            spawn=self._spawn,
            wall=wall,
            read_seconds=read_seconds,
            dial_seconds=dial_seconds,
            local_address=local_address,
        )
        self._spawn_outside = spawn
        self._tasks: set[asyncio.Task[None]] = set()
        self._peers: dict[int, Peer] = {}
        self._remotes: dict[int, Remote] = {}
        self._stopped = False
        self._raft = RaftPaths(self._roads, self)
        self._questions = QuestionPaths(answers, cluster_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._spawn_outside(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- who belongs ---

    def add_peer(self, member: int, urls: Sequence[str]) -> None:
        """A member of the cluster; nothing happens for one that is known, or at the end."""
        if self._stopped or member in self._peers or member == self._roads.own_id:
            return
        remote = self._remotes.pop(member, None)
        if remote is not None:
            remote.stop()
        self._peers[member] = Peer(member, urls, self._roads)
        logger.info("added remote peer", extra={"fields": self._named(member, urls)})

    def add_remote(self, member: int, urls: Sequence[str]) -> None:
        """A sender that is no member in our eyes, such as the leader that will tell us that it is one."""
        if self._stopped or member in self._peers or member in self._remotes or member == self._roads.own_id:
            return
        if len(self._remotes) >= limits.PEER_REMOTES_MAX or not all(_is_peer_url(url) for url in urls):
            logger.warning("ignored a sender that is no member", extra={"fields": self._named(member, urls)})
            return
        self._remotes[member] = Remote(member, urls, self._roads)
        logger.info("added new remote peer", extra={"fields": self._named(member, urls)})

    def update_peer(self, member: int, urls: Sequence[str]) -> None:
        """A member has new URLs; nothing happens for one that is unknown."""
        peer = self._peers.get(member)
        if peer is not None:
            peer.update(urls)
            logger.info("updated remote peer", extra={"fields": self._named(member, urls)})

    def remove_peer(self, member: int) -> None:
        """A member is none any more."""
        peer = self._peers.pop(member, None)
        remote = self._remotes.pop(member, None)
        fields = {"local-member-id": id_text(self._roads.own_id), "removed-remote-peer-id": id_text(member)}
        if remote is not None:
            remote.stop()
        if peer is None:
            logger.warning("skipped removing already removed peer", extra={"fields": fields})
            return
        peer.stop()
        logger.info("removed remote peer", extra={"fields": fields})

    def _named(self, member: int, urls: Sequence[str]) -> dict[str, object]:
        return {
            "local-member-id": id_text(self._roads.own_id),
            "remote-peer-id": id_text(member),
            "remote-peer-urls": [url[:256] for url in urls[:16]],
        }

    def peer(self, member: int) -> Peer | None:
        """The roads to a member."""
        return self._peers.get(member)

    def active_since(self, member: int) -> float | None:
        """Loop time since when the member can be reached; None if it cannot, or is none."""
        peer = self._peers.get(member)
        return peer.status.active_since if peer is not None else None

    @property
    def metrics(self) -> PeerMetrics:
        """What was counted."""
        return self._roads.metrics

    def certificates(self) -> list[LoadedCertificate]:
        """Every certificate that is shown to members or trusted, for the expiry gauge."""
        return self._tls.certificates() if self._tls is not None else []

    @property
    def connections(self) -> Connections:
        """For questions to other members (`etcdpy.peer.client`)."""
        return self._roads.connections

    # --- sending ---

    def send(self, messages: Sequence[Message]) -> None:
        """Send each message to its member. Never blocks, never raises: what cannot be sent is dropped and reported.

        A MsgSnap goes through `send_snapshot`, which brings its state.
        """
        by_member: dict[int, list[Message]] = {}
        for message in messages:
            assert message.type != MSG_SNAP
            by_member.setdefault(message.to, []).append(message)
        for member, batch in by_member.items():
            target = self._peers.get(member) or self._remotes.get(member)
            if target is not None:
                target.send(batch)
            elif member:
                fields = {"unknown-target-peer-id": id_text(member), "messages": len(batch)}
                logger.debug("ignored message send request; unknown remote peer target", extra={"fields": fields})

    def send_snapshot(self, message: Message, body: SnapshotBody) -> None:
        """Send a MsgSnap with its state. `body` is closed and `snapshot_sent` reported, however it goes."""
        assert message.type == MSG_SNAP
        peer = self._peers.get(message.to)
        if peer is None:
            body.close()
            self._roads.receiver.snapshot_sent(message.to, False)
            return
        peer.send_snapshot(message, body)

    # --- serving ---

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """The handler of the peer port."""
        if request.path == "/raft" or request.path.startswith("/raft/"):
            return await self._raft.handle(request)
        return await self._questions.handle(request)

    async def listen(self, server: Server, urls: Sequence[str]) -> list[Listener]:
        """Serve the peer port. Raises ValueError for a bad URL, OSError when an address cannot be had."""
        tls = self._tls.server if self._tls is not None else None
        return await server.listen_http1(urls, self.handle, tls=tls, streamed=STREAMED_PATHS)

    # --- the end ---

    async def stop(self) -> None:
        """Hang up everywhere and wait until nothing runs."""
        self._stopped = True
        for peer in self._peers.values():
            peer.stop()
        for remote in self._remotes.values():
            remote.stop()
        self._peers.clear()
        self._remotes.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._roads.connections.close()


def _is_peer_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and bool(parts.port)
    except ValueError:
        return False
