"""What an operator may set of the transport."""

from __future__ import annotations

from dataclasses import dataclass

from etcdpy import limits


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """Settings of every connection of a server; the defaults are etcd's."""

    max_receive_bytes: int = limits.MAX_REQUEST_BYTES_DEFAULT + limits.GRPC_OVERHEAD_BYTES
    max_concurrent_streams: int = 2**32 - 1
    keepalive_min_time_seconds: float = 5.0
    keepalive_interval_seconds: float = limits.KEEPALIVE_INTERVAL_SECONDS_DEFAULT
    keepalive_timeout_seconds: float = limits.KEEPALIVE_TIMEOUT_SECONDS_DEFAULT
    tls_handshake_seconds: float = 10.0
    reuse_address: bool = True
    reuse_port: bool = False
    stream_stall_seconds: float = 5.0
    """An endless answer whose socket takes no byte for so long is dropped (--raft-write-timeout)."""
