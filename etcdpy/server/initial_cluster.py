"""Who a member without data is told to found or join a cluster with: --initial-cluster, or DNS in its place.

Every error is etcd's text behind the flag that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdpy.server import logs, url_match
from etcdpy.server.go_values import quote
from etcdpy.server.notes import ConfigError
from etcdpy.server.url_match import UrlMismatch
from etcdpy.server.urls import UrlError, parse_initial_cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from etcdpy.server.config import Config
    from etcdpy.server.url_match import Resolve

    FindBySrv = Callable[[Config, Resolve], Awaitable[list[str]]]
    """`name=url` for each member that DNS lists. Raises OSError when it lists none."""

log = logs.get("embed")


@dataclass(frozen=True, slots=True)
class InitialCluster:
    """Peer URLs by member name, and the token that keeps clusters with the same members apart."""

    members: dict[str, tuple[str, ...]]
    token: str

    def __str__(self) -> str:
        return ",".join(sorted(f"{name}={url}" for name, urls in self.members.items() for url in urls))

    @property
    def has_duplicate_url(self) -> bool:
        """Whether two members, or one of them twice, have a URL."""
        every = [url for urls in self.members.values() for url in urls]
        return len(every) != len(set(every))


async def find(config: Config, resolve: Resolve, find_by_srv: FindBySrv) -> InitialCluster:
    """What the flags, or the records that they point to, say. With a discovery service it is this member alone, as the
    others are yet to be found. Raises ConfigError."""
    if config.discovery_endpoints:
        return InitialCluster(
            {config.name: tuple(map(str, config.initial_advertise_peer_urls))}, config.discovery_token
        )
    text = await _by_srv(config, resolve, find_by_srv) if config.discovery_srv else config.initial_cluster
    cluster = InitialCluster(parse(text), config.initial_cluster_token)
    if config.discovery_srv and config.name not in cluster.members:
        raise ConfigError(
            "--discovery-srv: error setting up initial cluster: cannot find local etcd member "
            f"{quote(config.name)} in SRV records; a record must lead to one of --initial-advertise-peer-urls"
        )
    return cluster


def parse(text: str) -> dict[str, tuple[str, ...]]:
    """`name=url,name=url` by name. Raises ConfigError."""
    try:
        return {name: tuple(map(str, urls)) for name, urls in parse_initial_cluster(text).items()}
    except UrlError as problem:
        raise ConfigError(f"--initial-cluster: error setting up initial cluster: {problem}") from None


async def _by_srv(config: Config, resolve: Resolve, find_by_srv: FindBySrv) -> str:
    try:
        found = await find_by_srv(config, resolve)
    except OSError as error:
        log.warn("failed to resolve during SRV discovery", error=str(error))
        raise ConfigError(f"--discovery-srv: error setting up initial cluster: {error}") from None
    for node in found:
        log.info("got bootstrap from DNS for etcd-server", node=node)
    return ",".join(found)


async def check(config: Config, cluster: InitialCluster, resolve: Resolve) -> None:
    """The rules for a member that founds (`--initial-cluster-state=new`) or joins. Raises ConfigError."""
    if config.name not in cluster.members:
        raise ConfigError(
            f"--initial-cluster: couldn't find local name {quote(config.name)} in the initial cluster configuration; "
            f"add {config.name}=URL, or set --name"
        )
    if config.is_new_cluster:
        await _check_own_urls(config, cluster, resolve)
    if cluster.has_duplicate_url:
        raise ConfigError(f"--initial-cluster: initial cluster {cluster} has duplicate url; each URL names one member")
    if config.discovery_endpoints and not config.is_new_cluster:
        raise ConfigError(
            "--discovery-endpoints: discovery URL should not be set when joining existing initial cluster; "
            "leave it out, or set --initial-cluster-state=new"
        )


async def _check_own_urls(config: Config, cluster: InitialCluster, resolve: Resolve) -> None:
    listed = sorted(cluster.members[config.name])
    advertised = sorted(map(str, config.initial_advertise_peer_urls))
    try:
        await url_match.check_same(advertised, listed, resolve)
    except UrlMismatch as mismatch:
        told = ",".join(advertised)
        missing = ",".join(f"{config.name}={url}" for url in listed if url not in advertised)
        if missing:
            raise ConfigError(
                f"--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={told} ({mismatch})"
            ) from None
        named = ",".join(f"{config.name}={url}" for url in advertised)
        missing = ",".join(url for url in advertised if url not in listed)
        if missing:
            raise ConfigError(
                f"--initial-advertise-peer-urls has {missing} but missing from --initial-cluster={named}"
            ) from None
        raise ConfigError(f"failed to resolve {told} to match --initial-cluster={named} ({mismatch})") from None
