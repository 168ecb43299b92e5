"""The leader's watch over the cluster's version: it asks every member for its release and lets the cluster follow.

Members of different releases run together as the lowest of them; a downgrade that somebody enabled takes the cluster
one step below, until every member runs that release and the downgrade is over.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from etcdpy import VERSION, limits
from etcdpy.errors import EtcdError, InvalidDowngradeTarget
from etcdpy.membership.versions import DowngradeInfo, Version, decide_cluster_version, is_downgraded, parse_version
from etcdpy.proto import membership_pb2
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from etcdpy.api.proposals import Proposer
    from etcdpy.membership.member import Member
    from etcdpy.membership.members import Membership

log = logs.get("etcdserver")

_OWN: Final = parse_version(VERSION)


class VersionMonitor:
    """Runs on every member and acts on the one that leads."""

    def __init__(
        self,
        membership: Membership,
        proposer: Proposer,
        leads: Callable[[], bool],
        ask: Callable[[Member], Awaitable[str]],
        *,
        downgrade_check_seconds: float,
    ) -> None:
        """`ask` gives another member's release as its /version tells it. Raises OSError or ValueError."""
        self._membership = membership
        self._proposer = proposer
        self._leads = leads
        self._ask = ask
        self._downgrade_check_seconds = downgrade_check_seconds
        self._awake = asyncio.Event()
        self._updating = asyncio.Lock()

    def wake(self) -> None:
        """Look at once: there is a new leader."""
        self._awake.set()

    async def run(self) -> None:
        """Look after the version for as long as the member runs."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow())
            if self._downgrade_check_seconds > 0:
                tasks.create_task(self._end_downgrades())

    async def _follow(self) -> None:
        while True:
            try:
                async with asyncio.timeout(limits.VERSION_CHECK_SECONDS):
                    await self._awake.wait()
            except TimeoutError:
                pass  # nobody woke us: time for a look anyway
            self._awake.clear()
            await self.update()

    async def _end_downgrades(self) -> None:
        while True:
            await asyncio.sleep(self._downgrade_check_seconds)
            await self.end_downgrade()

    async def update(self) -> None:
        """As leader: let the cluster go over to the version that its members allow."""
        async with self._updating:
            if self._leads():
                await self._update()

    async def _update(self) -> None:
        current = self._membership.cluster_version
        releases = await self.releases()
        try:
            wanted = decide_cluster_version(current, releases, self._membership.downgrade)
        except InvalidDowngradeTarget:
            target = self._membership.downgrade.target
            log.error("Failed to monitor cluster version", error="invalid downgrade target", target=target)
            return
        if wanted is not None and self._leads():
            await self._set_version(current, wanted)

    async def _set_version(self, current: Version | None, wanted: Version) -> None:
        if current is None:
            log.info("setting up initial cluster version using v3 API", **{"cluster-version": wanted.short})
        else:
            log.info("updating cluster version using v3 API", **{"from": current.short, "to": wanted.short})
        request = membership_pb2.ClusterVersionSetRequest(ver=str(wanted))
        try:
            await self._proposer.run("cluster_version_set", request)
        except EtcdError as error:
            log.warn("failed to update cluster version", error=error.message)
            return
        log.info("cluster version is updated", **{"cluster-version": wanted.short})
        downgrade = self._membership.downgrade
        if downgrade.enabled:
            fields = {"target-version": downgrade.target, "server-version": VERSION}
            log.info("The server is ready to downgrade", **fields)

    async def end_downgrade(self) -> None:
        """As leader: a downgrade is over once every member runs the target's release."""
        downgrade = self._membership.downgrade
        if not downgrade.enabled or not self._leads() or not is_downgraded(await self.releases(), downgrade):
            return
        log.info("the cluster has been downgraded", **{"cluster-version": downgrade.target})
        over = DowngradeInfo()
        request = membership_pb2.DowngradeInfoSetRequest(enabled=over.enabled, ver=over.target)
        try:
            await self._proposer.run("downgrade_info_set", request)
        except EtcdError as error:
            log.warn("failed to cancel downgrade", error=error.message)

    async def releases(self) -> dict[int, Version | None]:
        """Every member's release by id, all asked at once; None for one that did not tell."""
        members = self._membership.members
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._release_of(member)) for member in members]
        return {member.id: task.result() for member, task in zip(members, asked, strict=True)}

    async def _release_of(self, member: Member) -> Version | None:
        if member.id == self._membership.own_id:
            return _OWN
        fields = {"remote-member-id": f"{member.id:x}"}
        try:
            release = parse_version(await self._ask(member))
        except (OSError, ValueError) as error:
            log.warn("failed to get version", error=str(error), **fields)
            return None
        if release > _OWN:
            told = {"local-member-version": VERSION, "remote-member-version": str(release)}
            log.warn("leader found higher-versioned member", **fields, **told)
        return release
