"""Who may be asked what: a member without a leader refuses calls that demand one, a learner nearly every call, and one
with users lets a call wait whose token it has yet to hear of.

In the normal state the gate costs nothing: unary methods keep their plain handlers, and guarded ones take their place
only while there is something to refuse. Streams that demand a leader are remembered, to be ended when it is lost for
long.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from etcdpy.api.checks import parse
from etcdpy.errors import NoLeader, NotSupportedForLearner
from etcdpy.proto import rpc_pb2
from etcdpy.transport.calls import Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from etcdpy.api.callers import TokenWaits
    from etcdpy.transport.calls import Call, Method, StreamCall

    Unary = Callable[[Call, bytes], None]
    Streaming = Callable[[StreamCall], Awaitable[None] | None]

_DEMANDS_LEADER: Final = b"hasleader"

NO_LEADER_LOOKS_MAX: Final = 3
"""Election timeouts without a leader after which streams that demand one are ended. etcd's number: reconnecting them
costs more than refusing new calls, so it is slower to do so."""


class Gate:
    """Wraps a table of methods; told of every change of the leader and of the member's own vote."""

    def __init__(self, methods: Mapping[bytes, Method], tokens: TokenWaits) -> None:
        self._open: dict[bytes, Unary] = {}
        self._guarded: dict[bytes, Unary] = {}
        self._for_users: dict[bytes, Unary] = {}
        self._methods = methods
        self._tokens = tokens
        self._has_leader = True
        self._is_learner = False
        self._demanding: set[StreamCall] = set()
        self._looks = 0
        for path, method in methods.items():
            if method.kind is Kind.UNARY:
                self._open[path] = method.handler
                self._for_users[path] = self._wait(method.handler)
                self._guarded[path] = self._guard(method, self._for_users[path])
            else:
                method.handler = self._guard_stream(method, method.handler)

    def set(self, *, has_leader: bool, is_learner: bool, has_users: bool) -> None:
        """The member's state from now on."""
        self._has_leader, self._is_learner = has_leader, is_learner
        usual = self._for_users if has_users else self._open
        table = usual if has_leader and not is_learner else self._guarded
        for path, handler in table.items():
            self._methods[path].handler = handler

    def look(self) -> None:
        """To be called once an election timeout: ends the streams that have waited too long for a leader."""
        self._looks = 0 if self._has_leader else self._looks + 1
        if self._looks >= NO_LEADER_LOOKS_MAX:
            demanding, self._demanding = self._demanding, set()
            for call in demanding:
                call.end_by_server(NoLeader())

    def _wait(self, handler: Unary) -> Unary:
        tokens = self._tokens

        def waiting(call: Call, body: bytes) -> None:
            if call.head.memo.caller is None and (index := tokens.entry_for(call)):
                tokens.wait(index, call, partial(handler, call, body))
            else:
                handler(call, body)

        return waiting

    def _guard(self, method: Method, handler: Unary) -> Unary:
        def guarded(call: Call, body: bytes) -> None:
            if self._is_learner and not _for_learner(method, body):
                raise NotSupportedForLearner
            if not self._has_leader and _demands_leader(call):
                raise NoLeader
            handler(call, body)

        return guarded

    def _guard_stream(self, method: Method, handler: Streaming) -> Streaming:
        async def guarded(call: StreamCall) -> None:
            if self._is_learner and method.name != "Snapshot":
                raise NotSupportedForLearner
            demands = _demands_leader(call)
            if demands and not self._has_leader:
                raise NoLeader
            if demands:
                self._demanding.add(call)
            try:
                await self._wait_for_token(call)
                running = handler(call)
                if running is not None:
                    await running
            finally:
                self._demanding.discard(call)

        return guarded

    async def _wait_for_token(self, call: StreamCall) -> None:
        index = self._tokens.entry_for(call)
        if index:
            known = asyncio.Event()
            self._tokens.wait(index, call, known.set)
            await known.wait()


def _demands_leader(call: Call) -> bool:
    return call.head.first(_DEMANDS_LEADER) == b"true"


def _for_learner(method: Method, body: bytes) -> bool:
    """Whether a learner answers: its own state, and reads that ask nobody else."""
    if method.name == "Status":
        return True
    return method.name == "Range" and parse(rpc_pb2.RangeRequest, body).serializable
