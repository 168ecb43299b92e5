"""One watcher over many connections: what to ask for next, and what of the answers is new.

    create_request()  ->  what to send on a new stream
    received(answer)  ->  what to pass on: answers with whole revisions, each revision once and in order
    disconnected()    ->  the stream broke; half a revision that had arrived is forgotten, and asked for again

The next revision is known from the first answer on, which says where the store stands: from then on nothing that
happens while there is no connection is missed. A notice of progress moves it too, so that a quiet watcher does not fall
behind what is compacted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.client.failures import reason_of_cancelled_watch
from etcdpy.errors import Compacted
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from etcdpy.errors import EtcdError


class WatchCompacted(Compacted):
    """Events that were asked for are compacted; read the keys afresh, and watch from there on."""

    def __init__(self, compact_revision: int, header: rpc_pb2.ResponseHeader) -> None:
        super().__init__()
        self.compact_revision = compact_revision
        """The oldest revision that can be watched from; 0 where the server did not say."""
        self.header = header
        """Of the answer that said so."""


class WatchState:
    """The state of one watcher."""

    __slots__ = ("_parts", "_request", "created", "failed", "header", "next_revision")

    def __init__(self, request: rpc_pb2.WatchCreateRequest) -> None:
        """`request` as the user has it; its start_revision counts for the first stream."""
        self._request = request
        self._parts: rpc_pb2.WatchResponse | None = None
        self.next_revision = request.start_revision
        """All revisions before it were passed on, or are no concern of this watcher; 0 until that is known."""
        self.created = False
        """Whether the server has taken the watcher once."""
        self.header = rpc_pb2.ResponseHeader()
        """Of the answer that created the watcher."""
        self.failed: EtcdError | None = None
        """Why the server ended the watcher; there is nothing more to come on this stream."""

    def create_request(self) -> rpc_pb2.WatchRequest:
        """What to send first on a new stream."""
        create = rpc_pb2.WatchCreateRequest()
        create.CopyFrom(self._request)
        create.start_revision = self.next_revision
        return rpc_pb2.WatchRequest(create_request=create)

    def disconnected(self) -> None:
        """The stream is gone."""
        self._parts = None
        self.failed = None

    def received(self, answer: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse | None:
        """What is to be passed on, which may be an answer that only tells of progress; None where nothing is."""
        if answer.canceled:
            self.failed = self._reason(answer)
            return None
        if answer.created:
            self._was_created(answer)
            return None
        if self._parts is not None:
            self._parts.events.extend(answer.events)
            self._parts.fragment = answer.fragment
            answer = self._parts
        if answer.fragment:
            self._parts = answer
            return None
        self._parts = None
        return self._new_of(answer)

    def _was_created(self, answer: rpc_pb2.WatchResponse) -> None:
        if not self.created:
            self.created = True
            self.header.CopyFrom(answer.header)
        if self.next_revision <= 0:
            self.next_revision = answer.header.revision + 1

    def _new_of(self, answer: rpc_pb2.WatchResponse) -> rpc_pb2.WatchResponse | None:
        if not answer.events:
            self.next_revision = max(self.next_revision, answer.header.revision + 1)
            return answer
        if answer.events[0].kv.mod_revision < self.next_revision:
            new = [event for event in answer.events if event.kv.mod_revision >= self.next_revision]
            if not new:
                return None
            del answer.events[:]
            answer.events.extend(new)
        self.next_revision = answer.events[-1].kv.mod_revision + 1
        return answer

    @staticmethod
    def _reason(answer: rpc_pb2.WatchResponse) -> EtcdError:
        if answer.compact_revision:
            return WatchCompacted(answer.compact_revision, answer.header)
        error = reason_of_cancelled_watch(answer.cancel_reason)
        return WatchCompacted(0, answer.header) if isinstance(error, Compacted) else error
