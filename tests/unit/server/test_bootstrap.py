"""How a member begins: the table of cases, founding, joining, discovery; ids and texts are etcd's."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etcdpy.membership.member import Member
from etcdpy.proto import raft_pb2
from etcdpy.server.bootstrap import CASES, Action, Beginning, Situation, World, begin, decide, found
from etcdpy.server.config import Config, load
from etcdpy.server.discovery import DiscoveryError
from etcdpy.server.initial_cluster import InitialCluster
from etcdpy.server.notes import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

THREE = "--initial-cluster=a=http://10.0.0.1:1,b=http://10.0.0.2:1,c=http://10.0.0.3:1"
A = ["--name=a", "--initial-advertise-peer-urls=http://10.0.0.1:1", THREE]
JOIN_C = ["--name=c", "--initial-cluster-state=existing", THREE]
RUNNING = (
    Member(0xA, ("http://10.0.0.1:1",), "a", ("http://10.0.0.1:2",)),
    Member(0xB, ("http://10.0.0.2:1",), "b", ("http://10.0.0.2:2",)),
    Member(0xC, ("http://10.0.0.3:1",)),
)


class Peers:
    """The fake of Others: `up` are the URLs that answer."""

    def __init__(self, members: Sequence[Member] = (), up: Sequence[str] = (), version: str = "3.7.0") -> None:
        self.known = tuple(members)
        self.up = {*up} or {url for member in members if member.is_started for url in member.peer_urls}
        self.version = version
        self.downgrading = False
        self.asked: list[str] = []

    def _reach(self, url: str) -> None:
        self.asked.append(url)
        if url not in self.up:
            raise ConnectionError(f"dial {url}: connection refused")

    async def members(self, urls: Sequence[str], *, seconds: float, log: bool) -> tuple[int, Sequence[Member]]:
        for url in urls:
            try:
                self._reach(url)
            except ConnectionError:
                continue
            return 0x77, self.known
        raise ConnectionError("could not retrieve cluster information from the given URLs")

    async def cluster_version(self, url: str, *, seconds: float) -> str:
        self._reach(url)
        return self.version

    async def downgrade_enabled(self, url: str, *, seconds: float) -> bool:
        self._reach(url)
        return self.downgrading


async def resolve(host: str, port: int) -> str:
    return f"{host}:{port}"


async def no_srv(_config: Config, _resolve: object) -> list[str]:
    raise AssertionError("DNS was asked")


async def no_discovery(_config: Config, _own: int, _text: str) -> str:
    raise AssertionError("the discovery service was asked")


def start(
    argv: Sequence[str],
    peers: Peers | None = None,
    *,
    identity: bool = False,
    is_new: bool = True,
    discover: Callable[[Config, int, str], Awaitable[str]] = no_discovery,
) -> Beginning:
    world = World(peers or Peers(), resolve, no_srv, discover)
    config = load(list(argv), {})
    return asyncio.run(begin(config, world, has_identity=identity, is_new=is_new))


def refused(
    argv: Sequence[str],
    peers: Peers | None = None,
    discover: Callable[[Config, int, str], Awaitable[str]] = no_discovery,
) -> str:
    with pytest.raises(ConfigError) as caught:
        start(argv, peers, discover=discover)
    return str(caught.value)


class TestDecision:
    def test_every_situation_has_one_case(self) -> None:
        seen = set()
        for facts in itertools.product([False, True], repeat=4):
            situation = Situation(*facts)
            seen.add(decide(situation))
            if situation.has_identity:
                expected = Action.FORCE_NEW if situation.force_new_cluster else Action.RESTART
                assert decide(situation) is expected
        assert seen == {case.action for case in CASES} == {*Action}

    def test_a_member_with_data_asks_nobody(self) -> None:
        peers = Peers(RUNNING)
        assert start(JOIN_C, peers, identity=True, is_new=False) == Beginning(Action.RESTART)
        forced = start([*JOIN_C, "--force-new-cluster"], peers, identity=True, is_new=False)
        assert forced == Beginning(Action.FORCE_NEW)
        assert peers.asked == []

    def test_a_member_without_data_is_not_forced(self) -> None:
        assert start([*A, "--force-new-cluster"]).action is Action.FOUND


class TestFounding:
    CLUSTER = InitialCluster({"a": ("http://a:1",), "b": ("http://b:2", "http://b:1")}, "token")

    def test_members_agree_on_all_ids(self) -> None:
        ours, theirs = found("a", self.CLUSTER), found("b", self.CLUSTER)
        assert ours.cluster_id == theirs.cluster_id
        assert ours.members == theirs.members
        assert {ours.own_id, theirs.own_id} == {member.id for member in ours.members}
        assert [member.id for member in ours.members] == sorted(member.id for member in ours.members)
        other = found("a", replace(self.CLUSTER, token="other"))
        assert other.cluster_id != ours.cluster_id

    def test_the_log_opens_with_one_change_a_member(self) -> None:
        founding = found("a", self.CLUSTER)
        entries = founding.entries()
        assert [(entry.term, entry.index, entry.type) for entry in entries] == [(1, 1, 1), (1, 2, 1)]
        for entry, member in zip(entries, founding.members, strict=True):
            change = raft_pb2.ConfChange.FromString(entry.data)
            assert (change.type, change.node_id) == (raft_pb2.ConfChangeAddNode, member.id)
            assert Member.from_context(change.context) == member

    def test_who_joins_or_restarts_writes_none(self) -> None:
        assert Beginning(Action.JOIN, 1, 2, RUNNING).entries() == []
        assert Beginning(Action.RESTART).entries() == []

    def test_a_member_that_others_remember_must_not_found_again(self) -> None:
        own = start(A).own_id
        known = [Member(own, ("http://10.0.0.1:1",), "a", ("http://10.0.0.1:2",))]
        peers = Peers(known, up=["http://10.0.0.3:1"])
        assert f"member {own:x} has already been bootstrapped" in refused(A, peers)
        # It has only been told of yet, or this is the log of the one that ran.
        unstarted = Peers([Member(own, ("http://10.0.0.1:1",), "a")], up=["http://10.0.0.3:1"])
        assert start(A, unstarted).own_id == own
        assert start(A, peers, is_new=False).own_id == own

    def test_a_lone_member_asks_nobody(self) -> None:
        peers = Peers()
        assert start([], peers).action is Action.FOUND
        assert peers.asked == []


class TestJoining:
    def test_ids_come_from_those_that_are_there(self) -> None:
        assert start(JOIN_C, Peers(RUNNING)) == Beginning(Action.JOIN, 0x77, 0xC, RUNNING)

    def test_one_that_answers_is_enough(self) -> None:
        assert start(JOIN_C, Peers(RUNNING, up=["http://10.0.0.2:1"])).own_id == 0xC

    def test_nobody_answers(self) -> None:
        text = refused(JOIN_C)
        assert (
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
            in text
        )

    def test_the_number_of_members_must_be_theirs(self) -> None:
        text = refused(JOIN_C, Peers(RUNNING[:2]))
        assert "error validating peerURLs {ClusterID:77 Members:[&{ID:a RaftAttributes:{PeerURLs:[" in text
        assert text.startswith("--initial-cluster: error validating")
        assert "RemovedMemberIDs:[]}: member count is unequal" in text

    def test_the_urls_must_be_theirs(self) -> None:
        moved = (*RUNNING[:2], Member(0xC, ("http://10.0.0.4:1",)))
        text = refused(JOIN_C, Peers(moved))
        assert "PeerURLs: no match found for existing member (c, [http://10.0.0.4:1]), last resolver error (" in text
        several = (*RUNNING[:2], Member(0xC, ("http://10.0.0.3:1", "http://10.0.0.4:1")))
        assert "no match found for existing member (c, " in refused(JOIN_C, Peers(several))

    @pytest.mark.parametrize("version", ["3.8.0", "4.0.0", "2.3.0", "not_decided", ""])
    def test_a_version_that_does_not_fit(self, version: str) -> None:
        assert "incompatible with current running cluster" in refused(JOIN_C, Peers(RUNNING, version=version))

    @pytest.mark.parametrize("version", ["3.0.0", "3.6.0", "3.7.0"])
    def test_versions_that_fit(self, version: str) -> None:
        assert start(JOIN_C, Peers(RUNNING, version=version)).own_id == 0xC

    def test_a_cluster_on_its_way_down_takes_only_the_release_below(self) -> None:
        peers = Peers(RUNNING, version="3.8.0")
        peers.downgrading = True
        assert start(JOIN_C, peers).own_id == 0xC
        peers.version = "3.7.0"
        assert "incompatible" in refused(JOIN_C, peers)

    def test_learners_are_counted(self) -> None:
        learning = (RUNNING[0], replace(RUNNING[1], is_learner=True), replace(RUNNING[2], is_learner=True))
        assert "membership: too many learner members in cluster" in refused(JOIN_C, Peers(learning))
        assert start([*JOIN_C, "--max-learners=2"], Peers(learning)).own_id == 0xC


class TestDiscovery:
    ARGV = (
        "--name=a",
        "--initial-advertise-peer-urls=http://10.0.0.1:1",
        "--discovery-endpoints=http://e:1",
        "--discovery-token=t",
    )

    def test_the_cluster_is_founded_with_those_found(self) -> None:
        asked = []

        async def discover(config: Config, own: int, text: str) -> str:
            asked.append((own, text))
            return "a=http://10.0.0.1:1,b=http://10.0.0.2:1"

        beginning = start(self.ARGV, discover=discover)
        assert beginning.action is Action.DISCOVER
        assert asked == [(beginning.own_id, "a=http://10.0.0.1:1")]
        static = [*self.ARGV[:2], "--initial-cluster=a=http://10.0.0.1:1,b=http://10.0.0.2:1"]
        same = start([*static, "--initial-cluster-token=t"])
        assert (beginning.cluster_id, beginning.members) == (same.cluster_id, same.members)
        assert len(beginning.entries()) == 2

    def test_a_discovery_that_fails(self) -> None:
        async def full(_config: Config, _own: int, _text: str) -> str:
            raise DiscoveryError("discovery: cluster is full")

        assert "failed to join discovery cluster (discovery: cluster is full)" in refused(self.ARGV, discover=full)

    def test_two_members_with_one_url(self) -> None:
        async def shared(_config: Config, _own: int, _text: str) -> str:
            return "a=http://10.0.0.1:1,b=http://10.0.0.1:1"

        text = refused(self.ARGV, discover=shared)
        assert "discovery cluster a=http://10.0.0.1:1,b=http://10.0.0.1:1 has duplicate url" in text


def test_the_page_shows_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "design" / "bootstrap.md").read_text()
    table = page.split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    rows = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table.splitlines()]
    assert [(name, done) for name, _, done in rows] == [(case.name, case.action.value) for case in CASES]
