"""A unary call's stand-in: handlers answer it, it looks on and passes everything to the call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.errors import Code, StatusError
from etcdpy.transport.calls import Call

if TYPE_CHECKING:
    from etcdpy.errors import EtcdError
    from etcdpy.transport.calls import Peer


class StandIn(Call):
    """`answered` is told before the call is: None for OK, or the error. The call may be gone already (`done`)."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        # What belongs to a stream of a connection stays the call's own.
        self._call = call
        self.head = call.head
        self.done = call.done
        self.on_cancel = None
        self.inbox = None
        self.slot = None
        call.on_cancel = self.on_gone

    @property
    def peer(self) -> Peer:
        """See Call."""
        return self._call.peer

    def answered(self, error: EtcdError | None) -> None:
        """What a subclass wants to know."""
        raise NotImplementedError

    def finish(self, message: bytes) -> None:
        """See Call."""
        self.answered(None)
        self.done = True
        self._call.finish(message)

    def finish_parts(self, parts: list[bytes]) -> None:
        """See Call."""
        self.answered(None)
        self.done = True
        self._call.finish_parts(parts)

    def fail(self, error: EtcdError) -> None:
        """See Call."""
        self.answered(error)
        self.done = True
        self._call.fail(error)

    def crash(self, error: Exception) -> None:
        """See Call."""
        self.answered(StatusError(Code.INTERNAL, "internal error"))
        self.done = True
        self._call.crash(error)

    def on_gone(self) -> None:
        """The client left before there was an answer, or its deadline passed."""
        self.done = True
        if self.on_cancel is not None:
            self.on_cancel()
