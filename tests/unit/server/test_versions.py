"""The leader's watch over the cluster's version."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from etcdpy import VERSION
from etcdpy.errors import EtcdError, Timeout
from etcdpy.membership.member import Member
from etcdpy.membership.members import Membership
from etcdpy.membership.versions import DowngradeInfo
from etcdpy.server.versions import VersionMonitor
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from etcdpy.apply.proposal import Outcome


class World:
    """Member 1 watches; `releases` are what the others tell."""

    def __init__(self, **releases: str) -> None:
        self.membership = Membership(MemoryBackend())
        self.membership.found(7, 1)
        self.releases = {int(name[1:]): release for name, release in releases.items()}
        for member in (1, *self.releases):
            self.membership.add(Member(member, (f"http://{member}:1",)))
        self.leads = True
        self.proposed: list[str] = []
        self.error: EtcdError | None = None
        self.monitor = VersionMonitor(
            self.membership, self, lambda: self.leads, self._ask, downgrade_check_seconds=0.01
        )

    async def _ask(self, member: Member) -> str:
        release = self.releases[member.id]
        if not release:
            raise ConnectionError("refused")
        return release

    def encode(self, kind: str, body: bytes) -> bytes:
        raise NotImplementedError

    def propose(self, proposal: object) -> None:
        raise NotImplementedError

    async def run(self, kind: str, request: Message) -> Outcome:
        if self.error is not None:
            raise self.error
        told: Any = request
        if kind == "cluster_version_set":
            self.membership.set_version(told.ver)
            self.proposed.append(told.ver)
        else:
            self.membership.set_downgrade(DowngradeInfo(told.enabled, told.ver))
            self.proposed.append("cancel")
        return 0, b""

    def update(self) -> str:
        asyncio.run(self.monitor.update())
        return self.membership.version


def test_a_lone_member_decides_at_once() -> None:
    world = World()
    assert world.update() == "3.7.0"
    assert world.update() == "3.7.0"
    assert world.proposed == ["3.7.0"]


def test_the_lowest_release_decides() -> None:
    world = World(m2="3.6.8")
    assert world.update() == "3.6.0"
    world.releases[2] = VERSION
    assert world.update() == "3.7.0"


def test_while_one_is_silent_the_version_is_the_lowest_there_is() -> None:
    world = World(m2="", m3=VERSION)
    assert world.update() == "3.0.0"
    assert world.update() == "3.0.0"
    world.releases[2] = VERSION
    assert world.update() == "3.7.0"


def test_nonsense_is_silence() -> None:
    world = World(m2="seven")
    assert world.update() == "3.0.0"


def test_only_the_leader_decides() -> None:
    world = World()
    world.leads = False
    assert world.update() == ""


def test_a_downgrade_and_its_end() -> None:
    world = World(m2=VERSION)
    assert world.update() == "3.7.0"
    world.membership.set_downgrade(DowngradeInfo(True, "3.6.0"))
    assert world.update() == "3.6.0"
    asyncio.run(world.monitor.end_downgrade())
    assert world.membership.downgrade.enabled
    world.membership.set_downgrade(DowngradeInfo())
    assert world.update() == "3.7.0"


def test_a_downgrade_that_no_longer_fits_changes_nothing() -> None:
    world = World(m2=VERSION)
    assert world.update() == "3.7.0"
    world.membership.set_downgrade(DowngradeInfo(True, "3.5.0"))
    assert world.update() == "3.7.0"


def test_a_proposal_that_fails_is_made_again_later() -> None:
    world = World()
    world.error = Timeout()
    assert world.update() == ""
    world.error = None
    assert world.update() == "3.7.0"


def test_a_new_leader_looks_at_once() -> None:
    world = World()

    async def run() -> None:
        watching = asyncio.ensure_future(world.monitor.run())
        world.monitor.wake()
        for _ in range(20):
            await asyncio.sleep(0)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(run())
    assert world.proposed == ["3.7.0"]
