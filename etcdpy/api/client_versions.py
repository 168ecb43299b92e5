"""How many requests come from clients of which API version (etcd_server_client_requests_total)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy import limits
from etcdpy.transport.calls import Kind
from etcdpy.transport.heads import Tally

if TYPE_CHECKING:
    from etcdpy.transport.heads import RequestHead

_HEADER: Final = b"client-api-version"
_UNKNOWN: Final = b"unknown"


class ClientVersions:
    """Counts by version, unary and streaming calls apart.

    The version is a text that the client chooses, so only a bounded number of them is told apart.
    """

    __slots__ = ("_streams", "_unary")

    def __init__(self) -> None:
        self._unary: dict[bytes, Tally] = {_UNKNOWN: Tally()}
        self._streams: dict[bytes, Tally] = {_UNKNOWN: Tally()}

    def counts(self) -> dict[tuple[str, ...], float]:
        """By (`unary` or `stream`, version), for ServerStats.client_requests."""
        return {
            (kind, version.decode("utf-8", "replace")): tally.count
            for kind, tallies in (("unary", self._unary), ("stream", self._streams))
            for version, tally in tallies.items()
            if tally.count
        }

    def join(self, head: RequestHead) -> None:
        """Have the requests with this head counted; a Server's `on_head`. A request itself then costs an addition."""
        assert head.method is not None
        tallies = self._unary if head.method.kind is Kind.UNARY else self._streams
        version = head.first(_HEADER) or _UNKNOWN
        if version not in tallies:
            if len(tallies) >= limits.CLIENT_VERSIONS_COUNTED_MAX or len(version) > limits.CLIENT_VERSION_BYTES_MAX:
                version = _UNKNOWN
            else:
                tallies[version] = Tally()
        head.tally = tallies[version]
