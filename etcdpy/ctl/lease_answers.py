"""How answers about leases look. Go's client flattens the header into structs of its own, and so does the JSON here."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from etcdpy.ctl.answers import Answer, MessageT, header_fields
from etcdpy.ctl.gojson import plain
from etcdpy.ctl.gotext import quote
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etcdpy.ctl.answers import Line


def _lease_field(lease_id: int, *, hexadecimal: bool) -> str:
    return f'"ID" : {lease_id:016x}' if hexadecimal else f'"ID" : {lease_id}'


class HeaderAnswer(Answer[MessageT]):
    """An answer of which protobuf shows the header alone: Go takes the struct for the header that it embeds."""

    def protobuf(self) -> bytes:
        """The header."""
        raw: bytes = self.message.header.SerializeToString()  # type: ignore[attr-defined]
        return raw


class GrantAnswer(HeaderAnswer[rpc_pb2.LeaseGrantResponse]):
    """`lease grant`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line."""
        yield f"lease {self.message.ID:016x} granted with TTL({self.message.TTL}s)"

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Id and time to live."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        yield _lease_field(self.message.ID, hexadecimal=hexadecimal)
        yield f'"TTL" : {self.message.TTL}'

    def json(self, *, hexadecimal: bool) -> Any:
        """One flat object."""
        message = self.message
        return {**plain(message.header), "ID": message.ID, "TTL": message.TTL, "Error": message.error}


class RevokeAnswer(Answer[rpc_pb2.LeaseRevokeResponse]):
    """`lease revoke`."""

    go_type = "*clientv3.LeaseRevokeResponse"

    def __init__(self, message: rpc_pb2.LeaseRevokeResponse, lease_id: int) -> None:
        super().__init__(message)
        self._lease_id = lease_id

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line."""
        yield f"lease {self._lease_id:016x} revoked"

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """The header."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)


class KeepAliveAnswer(HeaderAnswer[rpc_pb2.LeaseKeepAliveResponse]):
    """`lease keep-alive`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line."""
        yield f"lease {self.message.ID:016x} keepalived with TTL({self.message.TTL})"

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Id and time to live."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        yield _lease_field(self.message.ID, hexadecimal=hexadecimal)
        yield f'"TTL" : {self.message.TTL}'

    def json(self, *, hexadecimal: bool) -> Any:
        """One flat object."""
        return {**plain(self.message.header), "ID": self.message.ID, "TTL": self.message.TTL}


class TimeToLiveAnswer(HeaderAnswer[rpc_pb2.LeaseTimeToLiveResponse]):
    """`lease timetolive`."""

    def __init__(self, message: rpc_pb2.LeaseTimeToLiveResponse, *, keys: bool) -> None:
        super().__init__(message)
        self._keys = keys

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """One line, with the keys where they were asked for."""
        lease = self.message
        if lease.grantedTTL == 0 and lease.TTL == -1:
            yield f"lease {lease.ID:016x} already expired"
            return
        line = b"lease %016x granted with TTL(%ds), remaining(%ds)" % (lease.ID, lease.grantedTTL, lease.TTL)
        yield line + (b", attached keys([" + b" ".join(lease.keys) + b"])" if self._keys else b"")

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """Id, times, and a line a key."""
        lease = self.message
        yield from header_fields(lease.header, hexadecimal=hexadecimal)
        yield _lease_field(lease.ID, hexadecimal=hexadecimal)
        yield f'"TTL" : {lease.TTL}'
        yield f'"GrantedTTL" : {lease.grantedTTL}'
        yield from (f'"Key" : {quote(key)}' for key in lease.keys)

    def json(self, *, hexadecimal: bool) -> Any:
        """One flat object."""
        lease = self.message
        keys = [base64.b64encode(key).decode() for key in lease.keys] or None
        return {**plain(lease.header), "id": lease.ID, "ttl": lease.TTL, "granted-ttl": lease.grantedTTL, "keys": keys}


class LeasesAnswer(HeaderAnswer[rpc_pb2.LeaseLeasesResponse]):
    """`lease list`."""

    def simple(self, *, hexadecimal: bool) -> Iterator[Line]:
        """How many, and a line each."""
        yield f"found {len(self.message.leases)} leases"
        yield from (f"{lease.ID:016x}" for lease in self.message.leases)

    def fields(self, *, hexadecimal: bool) -> Iterator[Line]:
        """A line each."""
        yield from header_fields(self.message.header, hexadecimal=hexadecimal)
        yield from (_lease_field(lease.ID, hexadecimal=hexadecimal) for lease in self.message.leases)

    def json(self, *, hexadecimal: bool) -> Any:
        """One flat object."""
        return {**plain(self.message.header), "leases": [{"id": lease.ID} for lease in self.message.leases]}
