"""A member as we reach it: two streams each way, the pipeline for want of a stream, snapshots beside them.

A message takes the first road that is there:

    MsgApp          msgapp stream, else as the others
    all others      message stream, else pipeline
    a snapshot      a POST of its own

So a heartbeat never waits behind a long append or a snapshot. What cannot be sent is dropped and reported; raft sends
anew.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from etcdpy.peer.codec import MSG_APP
from etcdpy.peer.names import id_text
from etcdpy.peer.posting import Pipeline, send_snapshot
from etcdpy.peer.prober import Prober
from etcdpy.peer.reader import StreamReader
from etcdpy.peer.status import PeerStatus, UrlPicker
from etcdpy.peer.writer import APP_STREAM, MESSAGE_STREAM, StreamWriter
from etcdpy.raft.message import type_name

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Sequence

    from etcdpy.peer.posting import SnapshotBody
    from etcdpy.peer.roads import Roads
    from etcdpy.raft.message import Message

logger = logging.getLogger("etcdpy.peer")


class Remote:
    """A sender that is no member in our eyes: we lag, or it is new. It is answered over the pipeline alone."""

    def __init__(self, remote: int, urls: Sequence[str], roads: Roads) -> None:
        self.remote = remote
        self.picker = UrlPicker(urls)
        self.status = PeerStatus(remote, roads.metrics, roads.loop.time)
        self._roads = roads
        self._pipeline = Pipeline(roads.poster(remote, self.picker, self.status), roads.spawn)

    def send(self, messages: Sequence[Message]) -> None:
        """Send or drop."""
        _report_dropped(self._pipeline.send(messages), messages, "pipeline", self.remote, self.status, self._roads)

    def stop(self) -> None:
        """Send nothing more."""
        self._pipeline.stop()
        self.status.forget()


class Peer:
    """A member of the cluster other than this one."""

    def __init__(self, remote: int, urls: Sequence[str], roads: Roads) -> None:
        self.remote = remote
        self.picker = UrlPicker(urls)
        self.status = PeerStatus(remote, roads.metrics, roads.loop.time)
        self._roads = roads
        self._poster = roads.poster(remote, self.picker, self.status)
        self._pipeline = Pipeline(self._poster, roads.spawn)
        self.writers = {kind: self._writer(kind) for kind in (MESSAGE_STREAM, APP_STREAM)}
        self._messages, self._appends = self.writers[MESSAGE_STREAM], self.writers[APP_STREAM]
        self.prober = Prober(
            remote,
            connections=roads.connections,
            picker=self.picker,
            metrics=roads.metrics,
            read_seconds=roads.read_seconds,
            wall=roads.wall,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        for kind in (APP_STREAM, MESSAGE_STREAM):
            self._spawn(self._reader(kind).run())
        self._spawn(self.prober.run())
        self._heartbeat = roads.loop.call_later(roads.read_seconds / 3, self._beat)

    def _writer(self, kind: str) -> StreamWriter:
        def failed() -> None:
            self._roads.receiver.unreachable(self.remote)

        return StreamWriter(kind, self._roads.own_id, self.remote, self.status, self._roads.metrics, failed)

    def _reader(self, kind: str) -> StreamReader:
        roads = self._roads
        return StreamReader(
            kind,
            roads.own_id,
            self.remote,
            dialer=roads.dialer,
            picker=self.picker,
            status=self.status,
            metrics=roads.metrics,
            headers=roads.headers,
            read_seconds=roads.read_seconds,
            deliver=roads.deliver,
            removed=roads.receiver.removed_from_cluster,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._roads.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _beat(self) -> None:
        """Three link heartbeats fit into the time after which the other side takes a stream for dead."""
        for writer in self.writers.values():
            writer.link_heartbeat()
        self._heartbeat = self._roads.loop.call_later(self._roads.read_seconds / 3, self._beat)

    def send(self, messages: Sequence[Message]) -> None:
        """Send or drop. Hot road: one write a stream, whatever the number of messages."""
        if self._appends.working and self._messages.working:
            appends = [message for message in messages if message.type == MSG_APP]
            if not appends:
                self._send_on(self._messages, messages)
            elif len(appends) == len(messages):
                self._send_on(self._appends, messages)
            else:
                self._send_on(self._messages, [message for message in messages if message.type != MSG_APP])
                self._send_on(self._appends, appends)
        else:
            self._send_without_streams(messages)

    def _send_without_streams(self, messages: Sequence[Message]) -> None:
        appends = [message for message in messages if message.type == MSG_APP]
        others: Sequence[Message] = messages
        if self._appends.working and appends:
            self._send_on(self._appends, appends)
            others = [message for message in messages if message.type != MSG_APP]
        if not others:
            return
        if self._messages.working:
            self._send_on(self._messages, others)
        else:
            dropped = self._pipeline.send(others)
            _report_dropped(dropped, others, "pipeline", self.remote, self.status, self._roads)

    def _send_on(self, writer: StreamWriter, messages: Sequence[Message]) -> None:
        dropped = writer.send(messages)
        if dropped:
            _report_dropped(dropped, messages, writer.name, self.remote, self.status, self._roads)

    def send_snapshot(self, message: Message, body: SnapshotBody) -> None:
        """Start to send a snapshot."""
        self._spawn(send_snapshot(self._poster, message, body))

    def update(self, urls: Sequence[str]) -> None:
        """The member has new URLs. Streams that work stay."""
        self.picker.update(urls)

    def stop(self) -> None:
        """Hang up."""
        fields = {"fields": {"remote-peer-id": id_text(self.remote)}}
        logger.info("stopping remote peer", extra=fields)
        self._heartbeat.cancel()
        for task in self._tasks:
            task.cancel()
        for writer in self.writers.values():
            writer.stop()
        self._pipeline.stop()
        self.status.forget()
        logger.info("stopped remote peer", extra=fields)


def _report_dropped(
    dropped: int, messages: Sequence[Message], name: str, remote: int, status: PeerStatus, roads: Roads
) -> None:
    if not dropped:
        return
    fields = {
        "message-type": type_name(messages[-1].type),
        "local-member-id": id_text(roads.own_id),
        "remote-peer-id": id_text(remote),
        "remote-peer-name": name,
        "remote-peer-active": status.active_since is not None,
        "messages": dropped,
    }
    logger.warning("dropped internal Raft message since sending buffer is full", extra={"fields": fields})
    roads.metrics.sent_failures.add(id_text(remote), dropped)
    roads.receiver.unreachable(remote)
