"""Requests that go through the log, and the calls that wait for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from etcdpy.apply.proposal import Proposal
from etcdpy.auth.identity import NOBODY

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from etcdpy.api.header import HeaderSource
    from etcdpy.apply.proposal import Outcome
    from etcdpy.errors import EtcdError
    from etcdpy.transport.calls import Call


class Proposer(Protocol):
    """The way into the log."""

    def encode(self, kind: str, body: bytes) -> bytes:
        """The entry's payload for a request of that kind."""
        ...

    def propose(self, proposal: Proposal) -> None:
        """Take a proposal in; its `answer` or `refuse` is called later."""
        ...

    async def run(self, kind: str, request: Message) -> Outcome:
        """Propose a request of the member's own and return what it gave. Raises EtcdError."""
        ...


class Waiting(Proposal):
    """A proposal whose outcome answers a unary call."""

    __slots__ = ("call", "header")

    def __init__(self, kind: str, request: Any, data: bytes, call: Call, header: HeaderSource) -> None:
        self.kind = kind
        self.request = request
        self.data = data
        self.call = call
        self.header = header
        self.signer = NOBODY

    def answer(self, outcome: Outcome) -> None:
        """Answer the call: header, then what applying gave."""
        header = self.header.embed(outcome[0])
        body = outcome[1]
        self.call.finish(header + body if body else header)

    def answer_parts(self, revision: int, parts: list[bytes]) -> None:
        """Answer the call without joining what may be many megabytes."""
        self.call.finish_parts([self.header.embed(revision), *parts])

    def caller(self) -> tuple[str, str] | None:
        """See Proposal."""
        return self.call.peer.address, self.call.method.path.decode()

    def refuse(self, error: EtcdError) -> None:
        """Fail the call."""
        self.call.fail(error)
