"""The discovery service's registry over grpcio, whose blocking calls run beside the loop."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from etcdpy.client.channels import TlsFiles
from etcdpy.client.registry import Registry, RegistryOptions, RegistryUnreachable
from etcdpy.server.discovery import Discovery, DiscoveryError, Entry, RegistryFailed
from etcdpy.server.discovery_relay import unverified
from etcdpy.server.notes import ConfigError
from etcdpy.transport.tls_options import TlsConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.server.config import Config

T = TypeVar("T")


class GrpcRegistry:
    """Implements RegistryAccess."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def log_in(self) -> None:
        """Get a token, where a user is given. Raises RegistryFailed."""
        await self._run(self._registry.log_in)

    async def get(self, key: str) -> str | None:
        """See RegistryAccess."""
        found = await self._run(lambda: self._registry.get(key.encode()))
        return found[0].value.decode("utf-8", "replace").strip() if found else None

    async def list(self, prefix: str) -> list[Entry]:
        """See RegistryAccess."""
        start = prefix.encode()
        found = await self._run(lambda: self._registry.get(start, start[:-1] + bytes([start[-1] + 1])))
        return [Entry(_text(each.key), _text(each.value), each.create_revision) for each in found]

    async def put(self, key: str, value: str) -> None:
        """See RegistryAccess."""
        await self._run(lambda: self._registry.put(key.encode(), value.encode()))

    async def _run(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except RegistryUnreachable as error:
            raise RegistryFailed(str(error)) from error


def _text(record: bytes) -> str:
    return record.decode("utf-8", "replace").strip()


async def join_by_discovery(config: Config, own_id: int, own: str) -> str:
    """Take part in v3 discovery as the flags say; `name=url,...` of all. Raises DiscoveryError, ConfigError."""
    files = TlsFiles(*(_path(text) for text in (config.discovery_cacert, config.discovery_cert, config.discovery_key)))
    async with contextlib.AsyncExitStack() as stack:
        endpoints: Sequence[str] = config.discovery_endpoints
        try:
            if config.discovery_insecure_skip_tls_verify:
                endpoints = await stack.enter_async_context(unverified(endpoints, files, config.discovery_server_name))
                files = TlsFiles()
            access = GrpcRegistry(stack.enter_context(Registry(_options(config, endpoints, files))))
        except (OSError, TlsConfigError) as error:
            raise ConfigError(f"--discovery-cert, --discovery-key, --discovery-cacert: {error}") from error
        try:
            await access.log_in()
        except RegistryFailed as error:  # which is the end, as on etcd; what fails later is tried again
            raise DiscoveryError(str(error)) from error
        return await Discovery(access, config.discovery_token, own_id).join(own)


def _options(config: Config, endpoints: Sequence[str], files: TlsFiles) -> RegistryOptions:
    user, colon, password = config.discovery_user.partition(":")
    # --discovery-insecure-transport is true by default; whoever names files or a server wants TLS, as on etcd.
    wants_tls = files != TlsFiles() or config.discovery_server_name or not config.discovery_insecure_transport
    return RegistryOptions(
        endpoints=endpoints,
        tls=files if wants_tls and not config.discovery_insecure_skip_tls_verify else None,
        server_name=config.discovery_server_name,
        user=user,
        password=password if colon else config.discovery_password,
        token=config.discovery_auth_token,
        request_seconds=config.discovery_request_timeout_seconds,
        dial_seconds=config.discovery_dial_timeout_seconds,
        keepalive_time_seconds=config.discovery_keepalive_time_seconds,
        keepalive_timeout_seconds=config.discovery_keepalive_timeout_seconds,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None
