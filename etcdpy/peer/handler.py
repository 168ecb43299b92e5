"""What the peer port answers. Raft's own paths are here; questions about the member go to `Questions`.

Status codes and texts are etcd's: other members act on them.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, Protocol

from etcdpy import VERSION, limits
from etcdpy.peer.codec import MSG_SNAP, MalformedFrame, MessageDecoder
from etcdpy.peer.names import CLUSTER_ID_HEADER, id_text, parse_id, sender_refusal
from etcdpy.peer.prober import PROBING_PATH, probe_answer
from etcdpy.peer.reader import STREAM_PATHS
from etcdpy.peer.writer import StreamAnswer
from etcdpy.raft.errors import MalformedMessage
from etcdpy.raft.message import Message, decode_message, type_name
from etcdpy.transport.exchange import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from etcdpy.peer.peer import Peer
    from etcdpy.peer.roads import Roads

logger = logging.getLogger("etcdpy.peer")

SNAPSHOT_PATH: Final = "/raft/snapshot"
STREAMED_PATHS: Final = frozenset({SNAPSHOT_PATH})
"""Where the listener must hand over the body as it comes."""

_UNKNOWN_SENDER: Final = "UNKNOWN_SNAPSHOT_SENDER"


def refused(status: int, text: str, *headers: tuple[str, str]) -> HttpResponse:
    """A refusal as Go's http.Error writes it."""
    plain = ("Content-Type", "text/plain; charset=utf-8")
    return HttpResponse(status, [*headers, plain, ("X-Content-Type-Options", "nosniff")], text.encode() + b"\n")


def not_allowed(method: str) -> HttpResponse:
    """405, for a path that takes `method` alone."""
    return refused(405, "Method Not Allowed", ("Allow", method))


class Lookup(Protocol):
    """Who we know."""

    def peer(self, member: int) -> Peer | None:
        """The member's roads."""

    def add_remote(self, member: int, urls: Sequence[str]) -> None:
        """A sender that we do not know yet tells its URLs."""


class RaftPaths:
    """/raft and everything below it."""

    def __init__(self, roads: Roads, lookup: Lookup) -> None:
        self._roads = roads
        self._lookup = lookup
        self._cluster = (CLUSTER_ID_HEADER, id_text(roads.cluster_id))

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        path = request.path
        if path == "/raft":
            return self._pipeline(request)
        if path == SNAPSHOT_PATH:
            return await self._snapshot(request)
        if path == PROBING_PATH:
            return HttpResponse(200, [("Content-Type", "text/plain; charset=utf-8")], probe_answer(self._roads.wall()))
        if path.startswith("/raft/stream/"):
            return self._stream(request)
        return refused(404, "404 page not found")

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        """Why the sender is not one of us, if so."""
        reason = sender_refusal(request.headers, self._roads.own_id, self._roads.cluster_id)
        return refused(412, reason, self._cluster) if reason else None

    def _note_sender(self, request: HttpRequest) -> None:
        sender = parse_id(request.headers.get("x-server-from", ""))
        if sender is not None:
            self._note(sender, request)

    def _note(self, sender: int, request: HttpRequest) -> None:
        urls = request.headers.get("x-peerurls", "")
        if urls:
            self._lookup.add_remote(sender, urls.split(","))

    # --- the pipeline ---

    def _pipeline(self, request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return not_allowed("POST")
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        self._note_sender(request)
        roads = self._roads
        try:
            message = decode_message(request.body)
        except MalformedMessage as error:
            fields = {"local-member-id": id_text(roads.own_id), "error": str(error)}
            logger.warning("failed to unmarshal Raft message", extra={"fields": fields})
            roads.metrics.received_failures.add(request.peer.address)
            return refused(400, "error unmarshalling raft message", self._cluster)
        roads.metrics.received_bytes.add(id_text(message.from_), len(request.body))
        reason = roads.refusal(message)
        if reason:
            return self._forbidden(reason)
        if message.type == MSG_SNAP:
            return refused(400, "wrong raft message type", self._cluster)  # its state does not come this way
        roads.receiver.receive(message)
        return HttpResponse(204, [self._cluster])

    def _forbidden(self, reason: str) -> HttpResponse:
        body = json.dumps({"message": reason}).encode()
        return HttpResponse(403, [self._cluster, ("Content-Type", "application/json")], body)

    # --- streams ---

    def _stream(self, request: HttpRequest) -> HttpResponse:
        """The answer that carries our messages to the member which asks."""
        if request.method != "GET":
            return not_allowed("GET")
        own = [("X-Server-Version", VERSION), self._cluster]
        roads = self._roads
        reason = sender_refusal(request.headers, roads.own_id, roads.cluster_id)
        if reason:
            return refused(412, reason, *own)
        place, _, name = request.path.rpartition("/")
        kind = next((kind for kind, path in STREAM_PATHS.items() if path == f"{place}/"), None)
        if kind is None:
            return refused(404, "invalid path", *own)
        fields: dict[str, object] = {"local-member-id": id_text(roads.own_id)}
        sender = parse_id(name)
        if sender is None:
            logger.warning("failed to parse path into ID", extra={"fields": {**fields, "path": name[:64]}})
            return refused(404, "invalid from", *own)
        fields["remote-peer-id-from"] = id_text(sender)
        if roads.receiver.is_removed(sender):
            logger.warning("rejected stream from remote peer because it was removed", extra={"fields": fields})
            return refused(410, "removed member", *own)
        peer = self._lookup.peer(sender)
        fields["cluster-id"] = id_text(roads.cluster_id)
        if peer is None:
            self._note(sender, request)
            logger.warning("failed to find remote peer in cluster", extra={"fields": fields})
            return refused(404, "error sender not found", *own)
        wanted = request.headers.get("x-raft-to", "")
        if wanted != id_text(roads.own_id):
            fields["remote-peer-id-header"] = wanted[:64]
            logger.warning("ignored streaming request; ID mismatch", extra={"fields": fields})
            return refused(412, "to field mismatch", *own)
        return HttpResponse(200, own, StreamAnswer(peer.writers[kind]))

    # --- snapshots ---

    async def _snapshot(self, request: HttpRequest) -> HttpResponse:
        metrics = self._roads.metrics
        if request.method != "POST":
            metrics.snapshot_receive_failures.add(_UNKNOWN_SENDER)
            return not_allowed("POST")
        refusal = self._refusal(request)
        if refusal is not None:
            metrics.snapshot_receive_failures.add(_UNKNOWN_SENDER)
            return refusal
        self._note_sender(request)
        # A path in an odd spelling, or whole with its host, is not known for a streamed one before it is read.
        stream = request.stream if request.stream is not None else _at_once(request.body)
        try:
            message, rest = await _read_envelope(stream)
        except (MalformedFrame, ConnectionError) as error:
            fields = {"local-member-id": id_text(self._roads.own_id), "error": str(error)}
            logger.warning("failed to decode Raft message", extra={"fields": fields})
            metrics.received_failures.add(request.peer.address)
            metrics.snapshot_receive_failures.add(_UNKNOWN_SENDER)
            return refused(400, f"failed to decode raft message ({error})", self._cluster)
        sender = id_text(message.from_)
        if message.type != MSG_SNAP or message.snapshot is None:
            kind = type_name(message.type)
            fields = {"remote-snapshot-sender-id": sender, "message-type": kind}
            logger.warning("unexpected Raft message type", extra={"fields": fields})
            metrics.snapshot_receive_failures.add(sender)
            return refused(400, "wrong raft message type", self._cluster)
        reason = self._roads.refusal(message)
        if reason:
            return self._forbidden(reason)
        metrics.snapshot_receive_inflights.add(sender)
        try:
            return await self._store_snapshot(message, sender, CountedBody(rest, stream))
        finally:
            metrics.snapshot_receive_inflights.add(sender, -1)

    async def _store_snapshot(self, message: Message, sender: str, body: CountedBody) -> HttpResponse:
        assert message.snapshot is not None
        metrics, started = self._roads.metrics, self._roads.loop.time()
        fields: dict[str, object] = {
            "local-member-id": id_text(self._roads.own_id),
            "remote-snapshot-sender-id": sender,
            "incoming-snapshot-index": message.snapshot.metadata.index,
        }
        logger.info("receiving database snapshot", extra={"fields": fields})
        try:
            await self._roads.receiver.receive_snapshot(message, body)
        except Exception as error:
            # Whatever it was, the sender must learn that we have no snapshot; the receiver has cleaned up.
            shown = {**fields, "error": f"{type(error).__name__}: {error}"}
            logger.warning("failed to save incoming database snapshot", extra={"fields": shown})
            metrics.snapshot_receive_failures.add(sender)
            return refused(500, f"failed to save KV snapshot ({error})", self._cluster)
        seconds = self._roads.loop.time() - started
        shown = {**fields, "incoming-snapshot-size-bytes": body.size_bytes, "download-took": f"{seconds:.6f}s"}
        logger.info("received and saved database snapshot", extra={"fields": shown})
        metrics.received_bytes.add(sender, body.size_bytes)
        metrics.snapshot_receive_success.add(sender)
        metrics.snapshot_receive_seconds.observe(sender, seconds)
        return HttpResponse(204, [self._cluster])


async def _read_envelope(stream: AsyncIterator[bytes]) -> tuple[Message, bytes]:
    """The message at the start of a snapshot's body, and what came with it. Raises MalformedFrame, ConnectionError."""
    head = bytearray()
    size = -1
    async for piece in stream:
        head += piece
        if size < 0 and len(head) >= 8:
            size = int.from_bytes(head[:8], "big")
            if size > limits.PEER_SNAPSHOT_ENVELOPE_BYTES_MAX:
                raise MalformedFrame("rafthttp: error limit exceeded")
        if 0 <= size <= len(head) - 8:
            messages = MessageDecoder().feed(bytes(head[: 8 + size]))
            if not messages:
                raise MalformedFrame("the message says nothing")
            return messages[0], bytes(head[8 + size :])
    raise MalformedFrame("unexpected EOF")


async def _at_once(body: bytes) -> AsyncIterator[bytes]:
    yield body


class CountedBody:
    """The state of a snapshot as it comes: what was read with the envelope, then the rest of the request's body."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._first = first
        self._rest = rest
        self.size_bytes = 0

    def __aiter__(self) -> CountedBody:
        return self

    async def __anext__(self) -> bytes:
        """The next piece. Raises ConnectionError."""
        piece, self._first = self._first, b""
        if not piece:
            piece = await self._rest.__anext__()
        self.size_bytes += len(piece)
        return piece
