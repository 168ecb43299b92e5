"""When a leader tells the other members what is committed.

At once, where their clients wait for that: for writes that they passed on, and reads that they asked for. Where clients
ask nobody but the leader, the news can go with the next entries: it comes too late for nobody, and a message of its own
would wake every other member once more for each lone put, and this one twice for the answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.proto.raft_pb2 import MsgProp, MsgReadIndex

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from etcdpy.raft.message import Message
    from etcdpy.raft.node import RawNode

_FOR_CLIENTS: Final = frozenset((MsgProp, MsgReadIndex))


class CommitNews:
    """Switches `raw.lazy_commit`. `schedule` has the node send what raft then wants to send."""

    def __init__(self, loop: asyncio.AbstractEventLoop, raw: RawNode, schedule: Callable[[], None]) -> None:
        self._loop = loop
        self._raw = raw
        self._schedule = schedule
        self._others_ask = True
        self._timer: asyncio.TimerHandle | None = None

    def heard(self, message: Message) -> None:
        """A message is about to be stepped."""
        if message.type in _FOR_CLIENTS:
            self._others_ask = True
            if self._raw.lazy_commit:
                self._raw.lazy_commit = False
                self._raw.tell_commit()

    def tick(self) -> None:
        """One tick has passed: has anybody asked since the last one?"""
        self._raw.lazy_commit = not self._others_ask
        self._others_ask = False

    def tell_soon(self) -> None:
        """What was committed just now must not wait for the next entries for long."""
        if not self._raw.lazy_commit or self._timer is not None:
            return
        index = self._raw.committed
        if self._raw.commit_is_untold(index):
            self._timer = self._loop.call_later(limits.COMMIT_TOLD_SECONDS, self._tell, index)

    def _tell(self, index: int) -> None:
        self._timer = None
        if self._raw.commit_is_untold(index):
            self._raw.tell_commit()
            self._schedule()
        else:
            self.tell_soon()
