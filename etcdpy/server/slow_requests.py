"""What took too long, said in etcd's words: --warning-apply-duration and --warning-unary-request-duration.

    apply request took too long   a request that took long to apply, or a read that took long to answer
    request stats                 a call that took long from its arrival to its answer

Lines show keys, as etcd's do, and never values or passwords. After a stall thousands of calls are late at once, and a
line costs more than a call: so many a second are written, and the next line says how many were not.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from etcdpy import limits
from etcdpy.apply.describe import content, describe
from etcdpy.apply.entry_data import REQUEST_ID_BYTES, decode
from etcdpy.apply.proposal import Proposal
from etcdpy.duration import NS_PER_SECOND, format_duration
from etcdpy.proto import rpc_pb2
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from etcdpy.raft.entry import Entry
    from etcdpy.transport.calls import Call

log = logs.get("etcdserver")

UNKNOWN = -1
"""A count or size that nobody keeps; etcd's number for it."""


class SlowRequests:
    """`apply_seconds` and `request_seconds` are the flags. Implements the api room's `SlowReads`."""

    def __init__(
        self, apply_seconds: float, request_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.apply_seconds = apply_seconds
        self.read_seconds = min(apply_seconds, request_seconds)
        """A read that took no longer is not told of."""
        self.request_seconds = request_seconds
        self.applies = 0
        """etcd_server_slow_apply_total."""
        self._clock = clock
        self._second = 0
        self._written = 0
        self._left_out = 0

    # --- what goes through the log ---

    @staticmethod
    def waiting(entries: Sequence[Entry], registry: Mapping[bytes, Proposal]) -> list[Proposal]:
        """Who waits here for these entries, by the entry itself or by the request's id (see Applier.registry)."""
        found = [registry.get(entry.data[-REQUEST_ID_BYTES:], entry.proposal) for entry in entries]
        return [proposal for proposal in found if isinstance(proposal, Proposal)]

    def applied(self, seconds: float, entries: Sequence[Entry]) -> None:
        """Entries took so long to apply, together; what most likely took the time is shown."""
        self.applies += 1
        if not self._may_write():
            return
        requests = [_request_of(entry) for entry in entries if not entry.type and entry.data]
        heaviest = max(requests, key=lambda found: (found[0] not in ("put", ""), found[2]), default=("", None, 0))
        kind, request, _ = heaviest
        self._say_slow_apply(seconds, "", describe(kind, request) if kind else "", "", entries=len(entries))

    def answered(self, seconds: float, proposals: Sequence[Proposal]) -> None:
        """Calls were answered so long after their arrival."""
        for proposal in proposals:
            caller = proposal.caller()
            if caller is not None and self._may_write():
                self._say_stats(seconds, caller, proposal.kind, proposal.request, UNKNOWN, UNKNOWN)

    # --- reads ---

    def read(self, call: Call, kind: str, request: Any, seconds: float, count: int, size: int) -> None:
        """A read was answered after so long, with so many keys and bytes (UNKNOWN: nobody counted)."""
        if seconds > self.apply_seconds:
            self.applies += 1
            if self._may_write():
                response = f"range_response_count:{count} size:{size}" if count >= 0 else ""
                self._say_slow_apply(seconds, f"read-only {kind} ", content(kind, request), response)
        if seconds > self.request_seconds and self._may_write():
            caller = call.peer.address, call.method.path.decode()
            self._say_stats(seconds, caller, kind, request, count, size)

    # --- lines ---

    def _may_write(self) -> bool:
        second = int(self._clock())
        if second != self._second:
            self._second, self._written = second, 0
        self._written += 1
        if self._written > limits.SLOW_REQUESTS_LOGGED_PER_SECOND:
            self._left_out += 1
            return False
        return True

    def _say_slow_apply(self, seconds: float, prefix: str, request: str, response: str, **more: Any) -> None:
        fields = {
            "took": _span(seconds),
            "expected-duration": _span(self.apply_seconds),
            "prefix": prefix,
            "request": request,
            "response": response,
        }
        log.warn("apply request took too long", **fields, **more, **self._not_said())

    def _say_stats(
        self, seconds: float, caller: tuple[str, str], kind: str, request: Any, count: int, size: int
    ) -> None:
        remote, method = caller
        shown = kind in ("put", "delete_range", "txn", "range")
        fields = {
            "start time": _stamp(time.time() - seconds),
            "time spent": _span(seconds),
            "remote": remote,
            "response type": method,
            "request count": _COUNTS.get(kind, UNKNOWN),
            "request size": _size(kind, request) if shown else UNKNOWN,
            "response count": count,
            "response size": size,
            "request content": content(kind, request) if shown else "",
        }
        log.warn("request stats", **fields, **self._not_said())

    def _not_said(self) -> dict[str, int]:
        count, self._left_out = self._left_out, 0
        return {"others-not-logged": count} if count else {}


_COUNTS = {"put": 1, "range": 0, "delete_range": 0}
"""etcd's; that of a transaction depends on the branch that was taken."""


def _request_of(entry: Entry) -> tuple[str, Any, int]:
    """Kind, request and size; no kind for what cannot be read, since a log line must not do harm."""
    try:
        kind, request = decode(entry.data)
    except (ValueError, DecodeError):
        return "", None, 0
    return kind, request, len(entry.data)


def _size(kind: str, request: Any) -> int:
    if kind == "put" and not isinstance(request, rpc_pb2.PutRequest):
        request = rpc_pb2.PutRequest(key=request.key, value=request.value)
    return int(request.ByteSize())


def _span(seconds: float) -> str:
    return format_duration(round(seconds * NS_PER_SECOND))


def _stamp(seconds: float) -> str:
    whole = int(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int((seconds - whole) * 1_000_000):06d}Z"
