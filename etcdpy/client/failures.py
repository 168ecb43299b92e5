"""What went wrong with a call: etcd's error, and what grpcio's tells about whether the request arrived."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import DecodeError

from etcdpy import errors
from etcdpy.errors import Code, EtcdError, StatusError

if TYPE_CHECKING:
    from etcdpy.client.call import Answer

_STATUS_CODES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
_NEVER_CONNECTED: Final = ("failed to connect to all addresses", "errors resolving ", "DNS resolution failed")
"""How grpcio's texts begin where there was no connection, so that nothing can have been sent."""

TOKEN_ERRORS: Final = (errors.InvalidAuthToken, errors.AuthOldRevision)
"""A login mends these: the token has ended, or users have changed since."""

DEADLINE_TEXT: Final = "context deadline exceeded"
"""As etcd's own client says it."""


def deadline_exceeded() -> StatusError:
    """The time that a call was given is over."""
    return StatusError(Code.DEADLINE_EXCEEDED, DEADLINE_TEXT)


class ClientClosed(Exception):
    """The client was closed, and can make no more calls."""


@cache
def _classes() -> dict[tuple[Code, str], type[EtcdError]]:
    return {(kind.code, kind.message): kind for kind in EtcdError.__subclasses__() if kind.message}


def etcd_error(code: Code, text: str) -> EtcdError:
    """The error of etcd's table that has this code and text, or else one that just carries them."""
    if code is Code.DEADLINE_EXCEEDED and not text.startswith("etcdserver: "):
        return deadline_exceeded()  # ours or the server's: nobody can tell whether the call had an effect
    kind = _classes().get((code, text))
    return StatusError(code, text) if kind is None else kind()


class Ended(grpc.RpcError):
    """The status of a call that was made below grpcio's front door, as grpcio's own errors tell it."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        """As grpcio names it; UNKNOWN where it has no name."""
        return _STATUS_CODES.get(self._code, grpc.StatusCode.UNKNOWN)

    def details(self) -> str:
        """The text."""
        return self._details


def read_answer(kind: type[Answer], body: bytes | None) -> Answer:
    """The message of a call that ended well. Raises Ended where there is none that can be read, as grpcio does."""
    try:
        return kind.FromString(body or b"")
    except DecodeError:
        raise Ended(Code.INTERNAL, "Exception deserializing response!") from None


class Failure:
    """A call that failed."""

    __slots__ = ("code", "error", "not_sent")

    def __init__(self, code: Code, text: str) -> None:
        self.code = code
        self.error = etcd_error(code, text)
        self.not_sent = code is Code.UNAVAILABLE and text.startswith(_NEVER_CONNECTED)
        """No connection came about: the request cannot have been seen by anybody."""

    @classmethod
    def of(cls, error: grpc.RpcError) -> Failure:
        """What grpcio's error says."""
        status: grpc.Call = error  # type: ignore[assignment]  # each error that a call raises is one
        return cls(Code(status.code().value[0]), status.details() or "")


def reason_of_cancelled_watch(reason: str) -> EtcdError:
    """The error that the text of a cancelled watch names; it is an error as Go prints it, or a bare text."""
    head, marker, text = reason.partition(" desc = ")
    if marker and head.startswith("rpc error: code = "):
        label = head.removeprefix("rpc error: code = ")
        code = next((code for code in Code if code.label == label), Code.UNKNOWN)
        return etcd_error(code, text)
    if reason == errors.Compacted.message:
        return errors.Compacted()
    return StatusError(Code.CANCELLED, reason)
