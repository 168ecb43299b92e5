"""Messages by POST: the pipeline, used while there is no stream, and snapshots, each on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy import limits
from etcdpy.peer.codec import frame_message
from etcdpy.peer.connections import Answer, Connections, PeerUnreachable
from etcdpy.peer.names import CLUSTER_ID_HEADER, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION, id_text
from etcdpy.peer.reader import MEMBER_REMOVED, MemberRemoved
from etcdpy.raft.message import Message, encode_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
    from typing import Any

    from etcdpy.peer.metrics import PeerMetrics
    from etcdpy.peer.status import PeerStatus, UrlPicker

logger = logging.getLogger("etcdpy.peer")

_PIPELINE, _SEND_SNAPSHOT = "pipeline", "sendMsgSnap"
_STATUS_TEXTS: Final = {403: "Forbidden", 500: "Internal Server Error", 404: "Not Found", 400: "Bad Request"}


class SnapshotBody(Protocol):
    """The state that goes with a MsgSnap: a file in etcd's format, made beforehand."""

    @property
    def size_bytes(self) -> int:
        """Its length."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece."""

    def close(self) -> None:
        """It was sent, or failed to be."""


class SendReports(Protocol):
    """Who wants to know how a sending went."""

    def unreachable(self, member: int) -> None:
        """A message to the member was lost, or may be."""

    def snapshot_sent(self, member: int, ok: bool) -> None:
        """The member has the snapshot, or does not."""

    def removed_from_cluster(self) -> None:
        """A member says that we belong to the cluster no more."""


class Poster:
    """What pipeline and snapshots share: the member, the road to it, and how to read its answers."""

    def __init__(
        self,
        remote: int,
        *,
        connections: Connections,
        picker: UrlPicker,
        status: PeerStatus,
        metrics: PeerMetrics,
        headers: Sequence[tuple[str, str]],
        reports: SendReports,
    ) -> None:
        self.remote = remote
        self.label = id_text(remote)
        self.connections = connections
        self.picker = picker
        self.status = status
        self.metrics = metrics
        self.headers = list(headers)
        self.reports = reports

    def check(self, answer: Answer, path: str) -> None:
        """Raise PeerUnreachable for anything but 204."""
        if answer.status == 204:
            return
        if answer.status == 412 and answer.text == INCOMPATIBLE_VERSION:
            logger.error("request sent was ignored by peer", extra={"fields": {"remote-peer-id": self.label}})
            raise PeerUnreachable(INCOMPATIBLE_VERSION)
        if answer.status == 412 and answer.text == CLUSTER_ID_MISMATCH:
            fields = {
                "remote-peer-id": self.label,
                "remote-peer-cluster-id": answer.headers.get(CLUSTER_ID_HEADER.lower(), ""),
                "local-member-cluster-id": dict(self.headers)[CLUSTER_ID_HEADER],
            }
            logger.error("request sent was ignored due to cluster ID mismatch", extra={"fields": fields})
            raise PeerUnreachable(CLUSTER_ID_MISMATCH)
        if answer.status == 412:
            raise PeerUnreachable(f'unhandled error "{answer.text}" when precondition failed')
        if answer.status == 403 and "mismatch" not in answer.text:
            # etcd takes every 403 for this one, and stops: here a wrong URL of the member must not end us.
            raise MemberRemoved(MEMBER_REMOVED)
        shown = _STATUS_TEXTS.get(answer.status, str(answer.status))
        raise PeerUnreachable(f'unexpected http status {shown} while posting to "{self.picker.pick()}{path}"')

    def failed(self, url: str, source: str, action: str, error: PeerUnreachable) -> None:
        """A POST to `url` did not get through."""
        self.picker.unreachable(url)
        self.status.deactivate(source, action, str(error))
        self.metrics.sent_failures.add(self.label)
        if isinstance(error, MemberRemoved):
            self.reports.removed_from_cluster()
        self.reports.unreachable(self.remote)


class Pipeline:
    """POST /raft, a message each, up to four at once. For a member without a stream, or that is none of ours yet."""

    def __init__(self, poster: Poster, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._poster = poster
        self._spawn = spawn
        self._queue: deque[Message] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._headers = [("Content-Type", "application/protobuf"), *poster.headers]

    def send(self, messages: Sequence[Message]) -> int:
        """Queue; returns how many had to be dropped."""
        free = limits.PEER_PIPELINE_QUEUE_MESSAGES - len(self._queue)
        taken = messages[:free]
        self._queue.extend(taken)
        for _ in range(min(len(taken), limits.PEER_PIPELINE_CONNECTIONS - len(self._workers))):
            task = self._spawn(self._work())
            self._workers.add(task)
            task.add_done_callback(self._workers.discard)
        return len(messages) - len(taken)

    async def _work(self) -> None:
        """Post what is queued until nothing is."""
        while self._queue:
            await self._post(self._queue.popleft())

    async def _post(self, message: Message) -> None:
        poster = self._poster
        url = poster.picker.pick()
        body = b"".join(encode_message(message))
        try:
            # etcd waits for ever here; a member that reads and never answers would hold all four connections.
            answer = await poster.connections.request(
                "POST", url, "/raft", self._headers, body, seconds=limits.PEER_POST_SECONDS
            )
            poster.check(answer, "/raft")
        except PeerUnreachable as error:
            poster.failed(url, _PIPELINE, "write", error)
            return
        poster.status.activate()
        poster.metrics.sent_bytes[poster.label] += len(body)

    def stop(self) -> None:
        """Send nothing more."""
        self._queue.clear()
        for task in self._workers:
            task.cancel()


class _Envelope:
    """A snapshot's request body: the message with its length, then the state."""

    def __init__(self, head: bytes, body: SnapshotBody) -> None:
        self._head = head
        self._body = body
        self.size_bytes = len(head) + body.size_bytes

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it."""
        yield self._head
        async for piece in self._body.chunks():
            yield piece


async def send_snapshot(poster: Poster, message: Message, body: SnapshotBody) -> None:
    """POST /raft/snapshot; how it went is reported, logged and counted, never raised."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    label, metrics = poster.label, poster.metrics
    assert message.snapshot is not None
    envelope = _Envelope(b"".join(frame_message(message)), body)
    fields: dict[str, object] = {
        "snapshot-index": message.snapshot.metadata.index,
        "remote-peer-id": label,
        "bytes": envelope.size_bytes,
    }
    logger.info("sending database snapshot", extra={"fields": fields})
    metrics.snapshot_send_inflights.add(label)
    url = poster.picker.pick()
    sent = False
    try:
        headers = [("Content-Type", "application/octet-stream"), *poster.headers]
        answer = await poster.connections.request(
            "POST", url, "/raft/snapshot", headers, envelope, seconds=limits.PEER_SNAPSHOT_ANSWER_SECONDS
        )
        poster.check(answer, "/raft/snapshot")
        sent = True
    except (PeerUnreachable, OSError) as error:
        # OSError: the file could not be read; the member is then told by the connection that is cut.
        logger.warning("failed to send database snapshot", extra={"fields": {**fields, "error": str(error)}})
        lost = error if isinstance(error, PeerUnreachable) else PeerUnreachable(str(error))
        poster.failed(url, _SEND_SNAPSHOT, "post", lost)
    finally:
        metrics.snapshot_send_inflights.add(label, -1)
        body.close()
        if not sent:
            metrics.snapshot_send_failures.add(label)
        poster.reports.snapshot_sent(poster.remote, sent)
    if sent:
        poster.status.activate()
        logger.info("sent database snapshot", extra={"fields": fields})
        metrics.sent_bytes[label] += envelope.size_bytes
        metrics.snapshot_send_success.add(label)
        metrics.snapshot_send_seconds.observe(label, loop.time() - started)
