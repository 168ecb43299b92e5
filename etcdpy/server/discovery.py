"""v3 discovery: founding members find each other in the registry that another etcd cluster keeps.

    /_etcd/registry/<token>/_config/size      how many members the cluster is to have, set by the operator
    /_etcd/registry/<token>/members/<id>      `name=url` of a member, put there by itself

Whoever came first, by the registry's revisions, founds the cluster; the size decides how many that are.
"""

from __future__ import annotations

import asyncio
import posixpath
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from etcdpy import limits
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

log = logs.get("discovery")
T = TypeVar("T")

_PREFIX: Final = "/_etcd/registry"
_SIZE_DIGITS_MAX: Final = 19
"""As far as Go's integers reach."""


class DiscoveryError(Exception):
    """Discovery cannot give a cluster; the text is etcd's."""


class RegistryFailed(Exception):
    """The registry did not answer; worth another try."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the registry."""

    key: str
    value: str
    create_revision: int


class RegistryAccess(Protocol):
    """The registry as discovery uses it. Each call raises RegistryFailed."""

    def get(self, key: str) -> Awaitable[str | None]:
        """The value of a key."""
        ...

    def list(self, prefix: str) -> Awaitable[Sequence[Entry]]:
        """The records below a prefix."""
        ...

    def put(self, key: str, value: str) -> Awaitable[None]:
        """Set a key."""
        ...


class Discovery:
    """One member's way into the cluster of one token. `sleep` is asyncio's, or a test's."""

    def __init__(
        self,
        registry: RegistryAccess,
        token: str,
        own_id: int,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._registry = registry
        self._sleep = sleep
        root = posixpath.normpath(f"{_PREFIX}/{token}")
        self._size_key = f"{root}/_config/size"
        self._members_prefix = f"{root}/members"
        self._own_key = f"{root}/members/{own_id:x}"

    async def join(self, own: str) -> str:
        """Register as `own` (`name=url,...`), wait until all are there; the whole cluster in the same form.

        Raises DiscoveryError.
        """
        await self._check()
        await self._persist("register member itself", lambda: self._registry.put(self._own_key, own))
        log.info("register member itself successfully", memberKey=self._own_key, memberInfo=own)
        size, members = await self._check()
        if len(members) < size:
            log.info("waiting for peers from discovery service", clusterSize=size, **{"found-peers": len(members)})
        while len(members) < size:
            await self._sleep(limits.DISCOVERY_POLL_SECONDS)
            members = await self._members()
        log.info("found all needed peers from discovery service", clusterSize=size, **{"found-peers": len(members)})
        return ",".join(entry.value for entry in members[:size])

    async def _check(self) -> tuple[int, list[Entry]]:
        """The cluster's size, and who is there so far, in the order in which they came."""
        size = await self._size()
        members = await self._members()
        if self._own_key not in [entry.key for entry in members[:size]] and len(members) >= size:
            raise DiscoveryError("discovery: cluster is full")
        return size, members

    async def _size(self) -> int:
        text = await self._persist("cluster status check", lambda: self._registry.get(self._size_key))
        if text is None:
            raise DiscoveryError("discovery: size key not found")
        # The length first: Python refuses to make a number of thousands of digits.
        if len(text) > _SIZE_DIGITS_MAX or not text.isascii() or not text.isdigit() or int(text) == 0:
            raise DiscoveryError("discovery: size key is bad")
        return int(text)

    async def _members(self) -> list[Entry]:
        found = await self._persist("cluster status check", lambda: self._registry.list(self._members_prefix))
        members = []
        for entry in sorted(found, key=lambda entry: entry.create_revision):
            if "=" in entry.value:
                members.append(entry)
            else:
                problem = "invalid peer info returned from discovery service"
                log.warn(problem, memberKey=entry.key, memberInfo=entry.value)
        return members

    async def _persist(self, step: str, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, ever less often."""
        retries = 0
        while True:
            try:
                return await ask()
            except RegistryFailed as error:
                retries = min(retries + 1, limits.DISCOVERY_BACKOFF_DOUBLINGS)
                log.warn("retry connecting to discovery service", reason=step, backoff=2**retries, error=str(error))
            await self._sleep(2**retries)
