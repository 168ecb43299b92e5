"""A unary call's stand-in: handlers answer it, it looks on and passes everything to the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.errors import EtcdError
    from etcdpy.transport.calls import Call


class StandIn:
    """`answered` is told before the call is: None for OK, or the error."""

    __slots__ = ("_call",)

    def __init__(self, call: Call) -> None:
        self._call = call

    def answered(self, error: EtcdError | None) -> None:
        """What a subclass wants to know. The call may be gone already (`done`)."""
        raise NotImplementedError

    def finish(self, message: bytes) -> None:
        """See Call."""
        self.answered(None)
        self._call.finish(message)

    def finish_parts(self, parts: list[bytes]) -> None:
        """See Call."""
        self.answered(None)
        self._call.finish_parts(parts)

    def fail(self, error: EtcdError) -> None:
        """See Call."""
        self.answered(error)
        self._call.fail(error)

    @property
    def on_cancel(self) -> Callable[[], None] | None:
        """See Call."""
        return self._call.on_cancel

    @on_cancel.setter
    def on_cancel(self, callback: Callable[[], None] | None) -> None:
        self._call.on_cancel = callback

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)
