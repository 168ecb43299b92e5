"""One stream from a member: we dial it with a GET, and read messages out of the answer until it breaks; then again."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, cast

import h11

from etcdpy import VERSION, limits
from etcdpy.peer.codec import AppDecoder, MalformedFrame, MessageDecoder
from etcdpy.peer.connections import Answer, PeerUnreachable
from etcdpy.peer.names import CLUSTER_ID_HEADER, CLUSTER_ID_MISMATCH, INCOMPATIBLE_VERSION, id_text, minor_version
from etcdpy.peer.writer import APP_STREAM, MESSAGE_STREAM, STREAM_NAMES
from etcdpy.transport.chunked import ChunkDecoder, MalformedChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.peer.connections import Dialer
    from etcdpy.peer.metrics import PeerMetrics
    from etcdpy.peer.status import PeerStatus, UrlPicker
    from etcdpy.raft.message import Message

logger = logging.getLogger("etcdpy.peer")

STREAM_PATHS: Final = {MESSAGE_STREAM: "/raft/stream/message/", APP_STREAM: "/raft/stream/msgapp/"}

_OLDEST_WITH_BOTH_STREAMS: Final = (2, 1)
MEMBER_REMOVED: Final = "the member has been permanently removed from the cluster"


class MemberRemoved(PeerUnreachable):
    """The other member says that we belong to the cluster no more."""


class StreamConnection(asyncio.Protocol):
    """One GET. `head` is done with the answer's head (and its body, if it is a refusal); `ended` with the reason."""

    def __init__(self, request: bytes, consume: Callable[[bytes], None], read_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._request = request
        self._consume = consume
        self._read_seconds = read_seconds
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.HTTP_HEAD_BYTES_MAX)
        self._chunks: ChunkDecoder | None = None
        self._refusal: h11.Response | None = None
        self._refusal_body = bytearray()
        self._transport: asyncio.Transport | None = None
        self._read_at = loop.time()
        self._watch: asyncio.TimerHandle | None = None
        self._reason: str | None = None
        self.head: asyncio.Future[Answer] = loop.create_future()
        self.ended: asyncio.Future[str | None] = loop.create_future()
        """The reason of the end, or None when the other side has closed in order."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is there."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)
        self._watch_reads()

    def _watch_reads(self) -> None:
        """A connection on which nothing came for --raft-read-timeout is dead: link heartbeats come more often."""
        quiet = self._loop.time() - self._read_at
        if quiet >= self._read_seconds:
            self._stop("read: i/o timeout")
            return
        self._watch = self._loop.call_later(self._read_seconds - quiet, self._watch_reads)

    def data_received(self, data: bytes) -> None:
        """Bytes have come: the hot road once `_chunks` is there."""
        self._read_at = self._loop.time()
        try:
            if self._chunks is None:
                self._read_head(data)
                return
            for piece in self._chunks.feed(data):
                self._consume(piece)
            if self._chunks.ended:
                self._stop(None)
        except (MalformedFrame, MalformedChunk, h11.RemoteProtocolError) as error:
            self._stop(str(error))

    def _read_head(self, data: bytes) -> None:
        self._http.receive_data(data)
        while self._chunks is None:
            event = self._http.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return
            if isinstance(event, h11.Response) and event.status_code == 200:
                self._begin(event)
            elif isinstance(event, h11.Response):
                self._refusal = event
            elif isinstance(event, h11.Data):
                self._refusal_body += event.data[: limits.PEER_REQUEST_BYTES_MAX]
            elif isinstance(event, h11.EndOfMessage) and self._refusal is not None:
                self._settle(self._refusal)
                self._stop(None)
                return

    def _begin(self, head: h11.Response) -> None:
        if (b"transfer-encoding", b"chunked") not in head.headers:
            raise MalformedChunk("the stream is not chunked")
        self._settle(head)
        self._chunks = ChunkDecoder()
        rest = self._http.trailing_data[0]
        if rest:
            self.data_received(rest)

    def _settle(self, head: h11.Response) -> None:
        if not self.head.done():
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
            self.head.set_result(Answer(head.status_code, headers, bytes(self._refusal_body)))

    def eof_received(self) -> bool:
        """The other side sends no more."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self._watch is not None:
            self._watch.cancel()
        reason = self._reason or (str(exc) if exc is not None else None)
        if not self.head.done():
            self.head.set_exception(PeerUnreachable(reason or "EOF"))
            # A reader that was stopped while it dialed never asks for the head; nothing is amiss then.
            self.head.exception()
        if not self.ended.done():
            self.ended.set_result(reason)

    def _stop(self, reason: str | None) -> None:
        self._reason = reason
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class StreamReader:
    """The incoming stream of one kind, dialed anew for as long as `run` runs."""

    def __init__(
        self,
        kind: str,
        own_id: int,
        remote: int,
        *,
        dialer: Dialer,
        picker: UrlPicker,
        status: PeerStatus,
        metrics: PeerMetrics,
        headers: Sequence[tuple[str, str]],
        read_seconds: float,
        deliver: Callable[[Message], None],
        removed: Callable[[], None],
    ) -> None:
        self._kind = kind
        self._name = STREAM_NAMES[kind]
        self._own_id = own_id
        self._remote = remote
        self._dialer = dialer
        self._picker = picker
        self._status = status
        self._metrics = metrics
        self._headers = [*headers, ("X-Raft-To", id_text(remote))]
        self._read_seconds = read_seconds
        self._deliver = deliver
        self._removed = removed
        self._fields = {
            "stream-reader-type": self._name,
            "local-member-id": id_text(own_id),
            "remote-peer-id": id_text(remote),
        }

    async def run(self) -> None:
        """Dial, read, and again, until cancelled."""
        loop = asyncio.get_running_loop()
        logger.info("started stream reader with remote peer", extra={"fields": self._fields})
        try:
            while True:
                started = loop.time()
                await self._attempt()
                await asyncio.sleep(max(0.0, started + limits.PEER_REDIAL_SECONDS - loop.time()))
        finally:
            logger.info("stopped stream reader with remote peer", extra={"fields": self._fields})

    async def _attempt(self) -> None:
        url = self._picker.pick()
        try:
            stream = await self._dial(url)
        except MemberRemoved as error:
            self._picker.unreachable(url)
            self._status.deactivate(self._name, "dial", str(error))
            self._removed()
        except PeerUnreachable as error:
            self._picker.unreachable(url)
            self._status.deactivate(self._name, "dial", str(error))
        else:
            try:
                await self._read(stream)
            finally:
                stream.close()

    async def _read(self, stream: StreamConnection) -> None:
        self._status.activate()
        logger.info("established TCP streaming connection with remote peer", extra={"fields": self._fields})
        reason = await stream.ended
        fields = {**self._fields, "error": reason or "EOF"}
        logger.warning("lost TCP streaming connection with remote peer", extra={"fields": fields})
        if reason is not None:
            self._status.deactivate(self._name, "read", reason)

    async def _dial(self, url: str) -> StreamConnection:
        """The stream, its head read. Raises PeerUnreachable."""
        request = h11.Request(
            method="GET",
            target=STREAM_PATHS[self._kind] + id_text(self._own_id),
            headers=[("Host", url.partition("://")[2] or "localhost"), *self._headers],
        )
        written = h11.Connection(h11.CLIENT).send(request)
        assert written is not None
        consume = self._consumer()
        stream = await self._dialer.connect(url, lambda: StreamConnection(written, consume, self._read_seconds))
        try:
            answer = await stream.head
        except BaseException:
            stream.close()
            raise
        if answer.status == 200 and self._speaks(answer):
            return stream
        stream.close()
        raise self._refused(answer)

    def _consumer(self) -> Callable[[bytes], None]:
        """What turns the stream's bytes into messages; each connection starts afresh."""
        if self._kind == APP_STREAM:
            feed = AppDecoder(self._own_id, self._remote).feed
        else:
            feed = MessageDecoder().feed
        received, remote, deliver = self._metrics.received_bytes, id_text(self._remote), self._deliver

        def consume(piece: bytes) -> None:
            received[remote] += len(piece)
            for message in feed(piece):
                deliver(message)

        return consume

    def _speaks(self, answer: Answer) -> bool:
        theirs = minor_version(answer.headers.get("x-server-version") or "2.0.0")
        return theirs is not None and theirs >= _OLDEST_WITH_BOTH_STREAMS

    def _refused(self, answer: Answer) -> PeerUnreachable:
        """Why the member did not answer with a stream; logged where an operator must see it."""
        fields: dict[str, object] = {"local-member-id": id_text(self._own_id), "remote-peer-id": id_text(self._remote)}
        if answer.status == 200:
            return PeerUnreachable("unsupported stream type")
        if answer.status == 410:
            return MemberRemoved(MEMBER_REMOVED)
        if answer.status == 404:
            return PeerUnreachable(f"peer {id_text(self._remote)} failed to find local node {id_text(self._own_id)}")
        if answer.status == 412 and answer.text == INCOMPATIBLE_VERSION:
            text = "request sent was ignored by remote peer due to server version incompatibility"
            logger.warning(text, extra={"fields": {**fields, "local-version": VERSION, "error": INCOMPATIBLE_VERSION}})
            return PeerUnreachable(INCOMPATIBLE_VERSION)
        if answer.status == 412 and answer.text == CLUSTER_ID_MISMATCH:
            fields["remote-peer-cluster-id"] = answer.headers.get(CLUSTER_ID_HEADER.lower(), "")
            fields["local-member-cluster-id"] = dict(self._headers)[CLUSTER_ID_HEADER]
            fields["error"] = CLUSTER_ID_MISMATCH
            text = "request sent was ignored by remote peer due to cluster ID mismatch"
            logger.warning(text, extra={"fields": fields})
            return PeerUnreachable(CLUSTER_ID_MISMATCH)
        if answer.status == 412:
            return PeerUnreachable(f'unhandled error "{answer.text}" when precondition failed')
        return PeerUnreachable(f"unhandled http status {answer.status}")
