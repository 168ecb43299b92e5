"""What v3 discovery needs of the etcd cluster that serves it: reads and a write, on whichever endpoint answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc

from etcdpy.client.channels import TlsFiles, open_channel
from etcdpy.client.stubs import KV, Auth
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.proto import kv_pb2

T = TypeVar("T")


class RegistryUnreachable(Exception):
    """No endpoint answered; the text is the last one's error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """The --discovery-* flags. `tls` None dials http endpoints plainly and https ones with the system's authorities."""

    endpoints: Sequence[str]
    tls: TlsFiles | None = None
    server_name: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    request_seconds: float
    dial_seconds: float
    keepalive_time_seconds: float
    keepalive_timeout_seconds: float

    def channel_options(self) -> list[tuple[str, int | str]]:
        """What grpcio is told."""
        options: list[tuple[str, int | str]] = [
            ("grpc.keepalive_time_ms", round(self.keepalive_time_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.keepalive_timeout_seconds * 1000)),
        ]
        if self.server_name:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        return options


class Registry:
    """Blocking calls; each tries the endpoints in turn. A context manager."""

    def __init__(self, options: RegistryOptions) -> None:
        """Raises OSError for a TLS file that cannot be read."""
        self._options = options
        self._channels = [
            open_channel(endpoint, options.tls, options.channel_options()) for endpoint in options.endpoints
        ]
        self._token = options.token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for channel in self._channels:
            channel.close()

    def log_in(self) -> None:
        """Ask for a token, where a user is given; later calls get another one when it has ended.

        Raises RegistryUnreachable.
        """
        self._on_any(self._log_in)

    def get(self, key: bytes, end: bytes = b"") -> list[kv_pb2.KeyValue]:
        """The record of a key, or of a range. Raises RegistryUnreachable."""
        request = rpc_pb2.RangeRequest(key=key, range_end=end)
        return list(self._call(lambda channel, options: KV(channel).Range(request, **options)).kvs)

    def put(self, key: bytes, value: bytes) -> None:
        """Set a key. Raises RegistryUnreachable."""
        request = rpc_pb2.PutRequest(key=key, value=value)
        self._call(lambda channel, options: KV(channel).Put(request, **options))

    def _call(self, make: Callable[[grpc.Channel, dict[str, Any]], T]) -> T:
        return self._on_any(lambda channel: self._call_logged_in(channel, make))

    def _on_any(self, use: Callable[[grpc.Channel], T]) -> T:
        failure = "no endpoint is known"
        for channel in self._channels:
            try:
                return use(channel)
            except grpc.RpcError as error:
                failure = (error.details() or "") if isinstance(error, grpc.Call) else str(error)
        raise RegistryUnreachable(failure)

    def _call_logged_in(self, channel: grpc.Channel, make: Callable[[grpc.Channel, dict[str, Any]], T]) -> T:
        seconds = self._options.dial_seconds + self._options.request_seconds
        had_token = bool(self._token)
        try:
            return make(channel, {"timeout": seconds, "metadata": self._log_in(channel)})
        except grpc.RpcError as error:
            if not had_token or self._options.token or _code_of(error) is not grpc.StatusCode.UNAUTHENTICATED:
                raise
        # Waiting for the others takes longer than a token may live.
        self._token = ""
        return make(channel, {"timeout": seconds, "metadata": self._log_in(channel)})

    def _log_in(self, channel: grpc.Channel) -> list[tuple[str, str]]:
        options = self._options
        if options.user and options.password and not self._token:
            request = rpc_pb2.AuthenticateRequest(name=options.user, password=options.password)
            try:
                self._token = Auth(channel).Authenticate(request, timeout=options.request_seconds).token
            except grpc.RpcError as error:
                # A service that knows no users serves anybody, as etcd's client takes it.
                if _code_of(error) is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
        return [("token", self._token)] if self._token else []


def _code_of(error: grpc.RpcError) -> grpc.StatusCode | None:
    return error.code() if isinstance(error, grpc.Call) else None
