"""What a starting member asks, and whom: the other members over their peer port, DNS, the discovery service."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from etcdpy.membership.member import Member
from etcdpy.peer import client
from etcdpy.server.bootstrap import World
from etcdpy.server.discovery_srv import find_members
from etcdpy.server.peer_tls import peer_tls
from etcdpy.server.url_match import resolve_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from etcdpy.peer.client import Connections
    from etcdpy.server.config import Config


class AskedMembers:
    """Implements Others: each call is one question over HTTP."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def members(self, urls: Sequence[str], *, seconds: float, log: bool) -> tuple[int, list[Member]]:
        """See Others."""
        found = await client.get_members(self._connections, urls, seconds=seconds, log=log)
        members = [
            Member(each.id, each.peer_urls, each.name, each.client_urls, each.is_learner) for each in found.members
        ]
        return found.cluster_id, members

    async def cluster_version(self, url: str, *, seconds: float) -> str:
        """See Others."""
        return (await client.get_version(self._connections, url, seconds=seconds)).cluster

    async def downgrade_enabled(self, url: str, *, seconds: float) -> bool:
        """See Others."""
        return await client.downgrade_enabled(self._connections, url, seconds=seconds)


@contextlib.asynccontextmanager
async def world_of(config: Config) -> AsyncIterator[World]:
    """All that a member without data may have to ask. Raises TlsConfigError, OSError."""
    tls = peer_tls(config)
    async with client.connections(tls.client if tls is not None else None) as connections:
        yield World(AskedMembers(connections), resolve_address, find_members, _discover)


async def _discover(config: Config, own_id: int, own: str) -> str:
    from etcdpy.server.discovery_registry import join_by_discovery  # here: only discovery needs grpcio

    return await join_by_discovery(config, own_id, own)
