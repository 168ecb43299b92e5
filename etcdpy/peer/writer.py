"""One stream to a member: it has dialed us, and its GET is answered with messages for as long as it lasts.

All messages of one call go out in one write. While the socket takes no more they wait here, still as objects, up to a
number; a stream that stands still for --raft-write-timeout is dropped.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.peer.codec import AppEncoder, MessageEncoder
from etcdpy.peer.names import id_text
from etcdpy.transport.http1_stream import AnswerOwner, EndlessAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.peer.metrics import PeerMetrics
    from etcdpy.peer.status import PeerStatus
    from etcdpy.raft.message import Message

logger = logging.getLogger("etcdpy.peer")

_HEAD_BYTES: Final = 40
"""About what a message has beside its entries."""

MESSAGE_STREAM = "message"
APP_STREAM = "msgapp"
STREAM_NAMES = {MESSAGE_STREAM: "stream Message", APP_STREAM: "stream MsgApp v2"}


class StreamWriter:
    """The outgoing stream of one kind. `working` says whether the member has dialed it."""

    def __init__(
        self, kind: str, own_id: int, remote: int, status: PeerStatus, metrics: PeerMetrics, failed: Callable[[], None]
    ) -> None:
        self._kind = kind
        self.name = STREAM_NAMES[kind]
        self._remote = id_text(remote)
        self._status = status
        self._metrics = metrics
        self._failed = failed
        self._queue: deque[Message] = deque()
        self._answer: EndlessAnswer | None = None
        self._encoder: MessageEncoder | AppEncoder = MessageEncoder()
        self._fields = {
            "stream-writer-type": self.name,
            "local-member-id": id_text(own_id),
            "remote-peer-id": self._remote,
        }

    @property
    def working(self) -> bool:
        """Whether messages may be given to `send`."""
        return self._answer is not None

    def send(self, messages: Sequence[Message]) -> int:
        """Write, or keep for later; returns how many had to be dropped."""
        queue = self._queue
        free = limits.PEER_STREAM_QUEUE_MESSAGES - len(queue)
        dropped = len(messages) - free
        queue.extend(messages if dropped <= 0 else messages[:free])
        self._flush()
        return max(0, dropped)

    def _flush(self) -> None:
        """Write what waits while the socket takes it: all at once, or in slices if it is very much."""
        queue, answer = self._queue, self._answer
        while queue and answer is not None and answer.has_room:
            batch: list[Message] = []
            size = 0
            while queue and size < limits.PEER_STREAM_SLICE_BYTES:
                message = queue.popleft()
                size += _HEAD_BYTES + sum([len(entry.data) for entry in message.entries])
                batch.append(message)
            pieces: list[bytes] = []
            self._encoder.encode(batch, pieces)
            self._metrics.sent_bytes[self._remote] += answer.send(pieces)

    def link_heartbeat(self) -> None:
        """Tell the other side that the connection lives."""
        if self._answer is not None and self._answer.has_room:
            self._metrics.sent_bytes[self._remote] += self._answer.send(self._encoder.link_heartbeat)

    # --- the connection comes and goes ---

    def attach(self, answer: EndlessAnswer) -> None:
        """The member has dialed (again)."""
        if self._drop("replaced by a new connection"):
            logger.warning("closed TCP streaming connection with remote peer", extra={"fields": self._fields})
        self._answer = answer
        self._encoder = AppEncoder() if self._kind == APP_STREAM else MessageEncoder()
        self._status.activate()
        logger.info("established TCP streaming connection with remote peer", extra={"fields": self._fields})

    def room(self, answer: EndlessAnswer) -> None:
        """The socket of `answer` takes bytes again."""
        if answer is self._answer:
            self._flush()

    def lost(self, answer: EndlessAnswer, reason: str) -> None:
        """The connection of `answer` is gone."""
        if answer is not self._answer:
            return
        self._answer = None
        self._status.deactivate(self.name, "write", reason)
        logger.warning("lost TCP streaming connection with remote peer", extra={"fields": self._fields})
        self._metrics.sent_failures.add(self._remote)
        self._forget_queue()
        self._failed()

    def stop(self) -> None:
        """The member is no peer any more, or we stop."""
        if self._drop("stopped"):
            logger.warning("closed TCP streaming connection with remote peer", extra={"fields": self._fields})
        logger.info("stopped TCP streaming connection with remote peer", extra={"fields": self._fields})

    def _drop(self, reason: str) -> bool:
        answer, self._answer = self._answer, None
        if answer is None:
            return False
        answer.close(reason)
        if self._forget_queue():
            self._failed()
        return True

    def _forget_queue(self) -> int:
        forgotten = len(self._queue)
        self._queue.clear()
        return forgotten


class StreamAnswer(AnswerOwner):
    """Ties an answered GET to the writer that uses it."""

    def __init__(self, writer: StreamWriter) -> None:
        self._writer = writer
        self._answer: EndlessAnswer | None = None

    def begin(self, answer: EndlessAnswer) -> None:
        """See AnswerOwner."""
        self._answer = answer
        self._writer.attach(answer)

    def room(self) -> None:
        """See AnswerOwner."""
        assert self._answer is not None
        self._writer.room(self._answer)

    def closed(self, reason: str) -> None:
        """See AnswerOwner."""
        if self._answer is not None:
            self._writer.lost(self._answer, reason)
