"""From an endpoint as etcd's tools write it to a channel of grpcio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # a list may be of any size; the server bounds what it accepts
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),  # a put that is sent twice must be the caller's decision
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, which ends with the channel
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: whom to trust, and how to prove who we are. What is left out is the system's, or nothing."""

    trusted_ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """What grpcio takes. Raises OSError for a file that cannot be read."""
        ca, certificate, key = (
            path.read_bytes() if path is not None else None for path in (self.trusted_ca, self.certificate, self.key)
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


def target_of(endpoint: str) -> tuple[str, bool | None]:
    """grpcio's name for an endpoint, and whether its scheme asks for TLS; None where it leaves that open.

    `https://10.0.0.1:2379`, `unix:///run/etcd.sock`, `unixs:local.sock` and plain `10.0.0.1:2379` are understood.
    """
    scheme, colon, rest = endpoint.partition(":")
    if colon and scheme in ("unix", "unixs"):
        return f"unix:{rest.removeprefix('//')}", scheme == "unixs"
    if "://" in endpoint:
        return urlsplit(endpoint).netloc, scheme == "https"
    return endpoint, None


def open_channel(
    endpoint: str, tls: TlsFiles | None = None, options: Sequence[tuple[str, int | str]] = ()
) -> grpc.Channel:
    """A channel to one endpoint; it connects on first use. Raises OSError for a TLS file that cannot be read.

    The scheme decides about TLS, and where it has none, whether `tls` is given.
    """
    target, credentials = _dialled(endpoint, tls)
    if credentials is None:
        return grpc.insecure_channel(target, options=[*OPTIONS, *options])
    return grpc.secure_channel(target, credentials, options=[*OPTIONS, *options])


def open_async_channel(
    endpoint: str, tls: TlsFiles | None = None, options: Sequence[tuple[str, int | str]] = ()
) -> grpc.aio.Channel:
    """The same for asyncio; it belongs to the loop that runs."""
    target, credentials = _dialled(endpoint, tls)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=[*OPTIONS, *options])
    return grpc.aio.secure_channel(target, credentials, options=[*OPTIONS, *options])


def _dialled(endpoint: str, tls: TlsFiles | None) -> tuple[str, grpc.ChannelCredentials | None]:
    target, secure = target_of(endpoint)
    if secure or (secure is None and tls is not None):
        return target, (tls or TlsFiles()).credentials()
    return target, None
