"""What all members share on our side: who we are, how we dial, who receives, what is counted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from etcdpy.peer.codec import MSG_SNAP
from etcdpy.peer.connections import Connections, Dialer
from etcdpy.peer.metrics import PeerMetrics
from etcdpy.peer.names import id_text, request_headers
from etcdpy.peer.posting import Poster, SendReports

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from etcdpy.peer.status import PeerStatus, UrlPicker
    from etcdpy.raft.message import Message
    from etcdpy.transport.tls_client import ClientTls

logger = logging.getLogger("etcdpy.peer")


class Receiver(SendReports, Protocol):
    """Who is behind the network: the member's raft, its storage and its membership."""

    def receive(self, message: Message) -> None:
        """A message for us from a member that was not removed. On the loop; must not raise."""

    def is_removed(self, member: int) -> bool:
        """Whether the member once belonged to the cluster and was removed."""

    async def receive_snapshot(self, message: Message, body: AsyncIterator[bytes]) -> None:
        """Store the state, then step the message. What it raises reaches the sender as a 500, and nothing was stepped.

        `body` raises ConnectionError when the sender goes away.
        """


class Roads:
    """One for each PeerNetwork."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        own_id: int,
        cluster_id: int,
        receiver: Receiver,
        tls: ClientTls | None,
        local_urls: Sequence[str],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        wall: Callable[[], float],
        read_seconds: float,
        dial_seconds: float,
        local_address: str,
    ) -> None:
        self.loop = loop
        self.own_id = own_id
        self.cluster_id = cluster_id
        self.receiver = receiver
        self.spawn = spawn
        self.wall = wall
        self.read_seconds = read_seconds
        self.metrics = PeerMetrics()
        self.headers = request_headers(own_id, cluster_id, local_urls)
        self.dialer = Dialer(tls, dial_seconds=dial_seconds, local_address=local_address)
        self.connections = Connections(self.dialer)

    def poster(self, remote: int, picker: UrlPicker, status: PeerStatus) -> Poster:
        """How to POST to a member."""
        return Poster(
            remote,
            connections=self.connections,
            picker=picker,
            status=status,
            metrics=self.metrics,
            headers=self.headers,
            reports=self.receiver,
        )

    def deliver(self, message: Message) -> None:
        """Hand a message from a stream to the receiver, if it is for us and from nobody who was removed.

        Not a MsgSnap: its state comes beside it, so it has a path of its own.
        """
        if message.type != MSG_SNAP and not self.refusal(message):
            self.receiver.receive(message)

    def refusal(self, message: Message) -> str:
        """Why a message is not taken, logged; empty if it is."""
        if self.receiver.is_removed(message.from_):
            fields = {"local-member-id": id_text(self.own_id), "removed-member-id": id_text(message.from_)}
            logger.warning("rejected Raft message from removed member", extra={"fields": fields})
            return "cannot process message from removed member"
        if message.to != self.own_id:
            fields = {"local-member-id": id_text(self.own_id), "mismatch-member-id": id_text(message.to)}
            logger.warning("rejected Raft message to mismatch member", extra={"fields": fields})
            return "cannot process message to mismatch member"
        return ""
