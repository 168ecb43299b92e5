"""How a member begins: it founds a cluster, joins one, goes on where it stopped, or goes on alone.

A table decides from what is on disk and what the flags say; etcd's rules. Members that found a cluster compute the same
ids from the same flags; a member that joins learns its id from those that are there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from etcdpy import VERSION, limits
from etcdpy.errors import TooManyLearners
from etcdpy.membership import changes
from etcdpy.membership.member import Member, cluster_id, member_id
from etcdpy.membership.versions import joinable_range, parse_version
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.server import initial_cluster, logs, url_match
from etcdpy.server.discovery import DiscoveryError
from etcdpy.server.initial_cluster import InitialCluster
from etcdpy.server.notes import ConfigError
from etcdpy.server.url_match import UrlMismatch
from etcdpy.server.urls import UrlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from etcdpy.membership.versions import Version
    from etcdpy.server.config import Config
    from etcdpy.server.initial_cluster import FindBySrv
    from etcdpy.server.url_match import Resolve

log = logs.get("etcdserver")


class Action(Enum):
    """What is done in a case."""

    RESTART = "go on where it stopped; the flags about the cluster's start are ignored"
    FORCE_NEW = "go on alone: drop what is not committed, remove all others"
    JOIN = "ask the members of --initial-cluster who they are, and join them"
    DISCOVER = "register with the discovery service, wait for the others, found the cluster with them"
    FOUND = "found the cluster with the members of --initial-cluster"


@dataclass(frozen=True, slots=True)
class Situation:
    """What the decision depends on."""

    has_identity: bool
    """The disk says which member of which cluster this is."""
    force_new_cluster: bool
    is_new_cluster: bool
    discovers: bool


class Case(NamedTuple):
    """One row of the table."""

    name: str
    applies: Callable[[Situation], bool]
    action: Action


CASES: Final = (
    Case("forced", lambda found: found.has_identity and found.force_new_cluster, Action.FORCE_NEW),
    Case("restart", lambda found: found.has_identity, Action.RESTART),
    Case("join", lambda found: not found.is_new_cluster, Action.JOIN),
    Case("discover", lambda found: found.discovers, Action.DISCOVER),
    Case("found", lambda _found: True, Action.FOUND),
)
"""The first one that applies is taken."""


def decide(situation: Situation) -> Action:
    """What to do."""
    return next(case.action for case in CASES if case.applies(situation))


@dataclass(frozen=True, slots=True)
class Beginning:
    """Which member of which cluster this is, and who else is in it."""

    action: Action
    cluster_id: int = 0
    own_id: int = 0
    members: tuple[Member, ...] = ()
    """By id. Those that found the cluster; or, for one that joins, those that are there. Empty for one that goes on."""

    def entries(self) -> list[Entry]:
        """A founding member's first entries: one change a member, already committed in term 1, as etcd writes them."""
        if self.action not in (Action.FOUND, Action.DISCOVER):
            return []
        return [
            Entry(changes.addition(member).SerializeToString(), None, 1, index, EntryType.CONF_CHANGE)
            for index, member in enumerate(self.members, start=1)
        ]


class Others(Protocol):
    """What a starting member asks those that it is told of. Each call raises ConnectionError."""

    def members(self, urls: Sequence[str], *, seconds: float, log: bool) -> Awaitable[tuple[int, Sequence[Member]]]:
        """The cluster's id and members, from the first URL that answers; `log` says whether failures are worth a
        line."""
        ...

    def cluster_version(self, url: str, *, seconds: float) -> Awaitable[str]:
        """The version of the cluster that the member at `url` is in."""
        ...

    def downgrade_enabled(self, url: str, *, seconds: float) -> Awaitable[bool]:
        """Whether that cluster is being downgraded."""
        ...


@dataclass(frozen=True, slots=True)
class World:
    """Whom the bootstrap may ask: the other members, DNS, the discovery service."""

    others: Others
    resolve: Resolve
    find_by_srv: FindBySrv
    discover: Callable[[Config, int, str], Awaitable[str]]
    """Takes part in discovery as this id with this `name=url`; `name=url,...` of all. Raises DiscoveryError."""


async def begin(config: Config, world: World, *, has_identity: bool, is_new: bool) -> Beginning:
    """Decide, and find out what the decision needs. Raises ConfigError.

    `is_new`: nothing was ever written. Where that is not so and yet nothing says who this is, the applied state was
    lost and is about to be made anew from the log: then it is no reason to refuse that others know this member.
    """
    action = decide(
        Situation(has_identity, config.force_new_cluster, config.is_new_cluster, bool(config.discovery_endpoints))
    )
    if has_identity:
        if config.discovery_endpoints:
            log.warn("discovery token is ignored since cluster already initialized; valid logs are found")
        return Beginning(action)
    cluster = await initial_cluster.find(config, world.resolve, world.find_by_srv)
    await initial_cluster.check(config, cluster, world.resolve)
    if action is Action.JOIN:
        return await _join(config, cluster, world)
    founding = found(config.name, cluster)
    if is_new:
        await _check_not_bootstrapped(config, founding, world.others)
    if action is Action.FOUND:
        return founding
    return await _discover(config, cluster, founding, world)


def found(name: str, cluster: InitialCluster) -> Beginning:
    """What founding `cluster` means for the member called `name`, which is part of it."""
    members = sorted(
        (Member(member_id(urls, cluster.token), tuple(sorted(urls)), each) for each, urls in cluster.members.items()),
        key=lambda member: member.id,
    )
    own = next(member.id for member in members if member.name == name)
    return Beginning(Action.FOUND, cluster_id([member.id for member in members]), own, tuple(members))


async def _check_not_bootstrapped(config: Config, founding: Beginning, others: Others) -> None:
    """A member that lost its data must not found again what goes on without it: its votes were counted."""
    urls = _others_urls(founding, config.name)
    seconds = limits.ALREADY_BOOTSTRAPPED_SECONDS
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_known(others, url, founding.own_id, seconds)) for url in urls]
    if any(task.result() for task in asked):
        raise ConfigError(
            f"member {founding.own_id:x} has already been bootstrapped; "
            "remove the member, add it again, and start it with --initial-cluster-state=existing"
        )


async def _known(others: Others, url: str, own_id: int, seconds: float) -> bool:
    """Whether the member at `url` knows this one as having run before."""
    try:
        _, members = await others.members([url], seconds=seconds, log=False)
    except ConnectionError:
        return False
    return any(member.id == own_id and member.client_urls for member in members)


def _others_urls(beginning: Beginning, name: str) -> list[str]:
    return sorted(url for member in beginning.members if member.name != name for url in member.peer_urls)


# --- discovery ---


async def _discover(config: Config, cluster: InitialCluster, alone: Beginning, world: World) -> Beginning:
    log.info("Bootstrapping cluster using v3 discovery.")
    try:
        text = await world.discover(config, alone.own_id, str(cluster))
    except DiscoveryError as error:
        fields = {"discovery-token": config.discovery_token, "discovery-endpoints": list(config.discovery_endpoints)}
        log.warn("failed to bootstrap; discovery token was already used", error=str(error), **fields)
        log.warn("do not reuse discovery token; generate a new one to bootstrap a cluster")
        raise ConfigError(f"--discovery-token: failed to join discovery cluster ({error})") from None
    whole = InitialCluster(initial_cluster.parse(text), cluster.token)
    if whole.has_duplicate_url:
        raise ConfigError(f"--discovery-token: discovery cluster {whole} has duplicate url; each URL names one member")
    return replace(found(config.name, whole), action=Action.DISCOVER)


# --- joining ---


async def _join(config: Config, cluster: InitialCluster, world: World) -> Beginning:
    urls = _others_urls(found(config.name, cluster), config.name)
    try:
        cluster_id, members = await world.others.members(urls, seconds=limits.JOIN_MEMBERS_SECONDS, log=True)
    except ConnectionError as error:
        raise ConfigError(
            f"--initial-cluster: cannot fetch cluster info from peer urls: {error}; "
            "is one of them running, and was this member added?"
        ) from None
    try:
        names = await _match(cluster, members, world.resolve)
    except UrlMismatch as mismatch:
        shown = _describe(cluster_id, members)
        raise ConfigError(
            f"--initial-cluster: error validating peerURLs {shown}: {mismatch}; name every member with its peer URLs"
        ) from None
    own_id = next(identity for identity, name in names.items() if name == config.name)
    await _check_compatible(config, [member for member in members if member.id != own_id], world.others)
    check_learners(config, members)
    return Beginning(Action.JOIN, cluster_id, own_id, tuple(sorted(members, key=lambda member: member.id)))


async def _match(cluster: InitialCluster, members: Sequence[Member], resolve: Resolve) -> dict[int, str]:
    """Which of the running cluster's members each name of --initial-cluster is. Raises UrlMismatch."""
    if len(members) != len(cluster.members):
        raise UrlMismatch("member count is unequal")
    give_up = asyncio.get_running_loop().time() + limits.RESOLVE_SECONDS
    names: dict[int, str] = {}
    for member in sorted(members, key=lambda member: member.id):
        reason: Exception | None = None
        for name, urls in cluster.members.items():
            try:
                await url_match.check_same(member.peer_urls, urls, resolve, give_up=give_up)
            except (UrlMismatch, UrlError) as mismatch:
                reason = mismatch
            else:
                names[member.id] = name
                break
        else:
            known = f"({member.id:x}, [{' '.join(member.peer_urls)}])"
            raise UrlMismatch(f"PeerURLs: no match found for existing member {known}, last resolver error ({reason})")
    return names


async def _check_compatible(config: Config, members: Sequence[Member], others: Others) -> None:
    """At least one member must tell a version that this release may join, and none another one.

    Whether a downgrade is under way is a question for the leader, which a cluster that waits for this very member may
    not have. So where the versions fit without a downgrade, that answer is not waited for long.
    """
    seconds = config.request_timeout_seconds
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_version_of(member, others, seconds)) for member in members]
    told = [version for task in asked if (version := task.result()) is not None]
    patience = limits.DOWNGRADE_QUESTION_SECONDS if told and _fits(told, downgrading=False) else seconds
    downgrading = await _is_downgrading(members, others, patience)
    if not told or not _fits(told, downgrading=downgrading):
        raise ConfigError("incompatible with current running cluster")


def _fits(told: Sequence[Version], *, downgrading: bool) -> bool:
    """Whether this release may join a cluster whose members tell these versions."""
    lowest, highest = joinable_range(parse_version(VERSION), downgrading=downgrading)
    strange = [version for version in told if not lowest <= version <= highest]
    for version in strange:
        side = "low" if version < lowest else "high"
        log.warn(
            f"cluster version of remote member is not compatible; too {side}",
            **{
                "remote-member-cluster-version": str(version),
                "minimum-cluster-version-supported": str(lowest),
                "maximum-cluster-version-supported": str(highest),
            },
        )
    return not strange


async def _is_downgrading(members: Sequence[Member], others: Others, seconds: float) -> bool:
    """The first answer counts, as every member asks the leader; none at all means no."""
    for url in (url for member in members for url in member.peer_urls):
        try:
            return await others.downgrade_enabled(url, seconds=seconds)
        except ConnectionError as error:
            log.warn("failed to get downgrade enabled status", address=url, error=str(error))
    return False


async def _version_of(member: Member, others: Others, seconds: float) -> Version | None:
    for url in member.peer_urls:
        try:
            return parse_version(await others.cluster_version(url, seconds=seconds))
        except (ConnectionError, ValueError) as error:
            log.warn("failed to get version", error=str(error), **{"remote-member-id": f"{member.id:x}"})
    return None


def check_learners(config: Config, members: Sequence[Member]) -> None:
    """A cluster may have no more learners than each of its members allows. Raises ConfigError."""
    try:
        changes.check_learners(members, config.max_learners)
    except TooManyLearners:
        raise ConfigError(
            f"--max-learners={config.max_learners}: membership: too many learner members in cluster; allow as many "
            "as there are"
        ) from None


def _describe(cluster_id: int, members: Sequence[Member]) -> str:
    """A cluster as etcd's messages show it."""
    shown = " ".join(
        f"&{{ID:{member.id:x} RaftAttributes:{{PeerURLs:[{' '.join(member.peer_urls)}] "
        f"IsLearner:{str(member.is_learner).lower()}}} "
        f"Attributes:{{Name:{member.name} ClientURLs:[{' '.join(member.client_urls)}]}}}}"
        for member in members
    )
    return f"{{ClusterID:{cluster_id:x} Members:[{shown}] RemovedMemberIDs:[]}}"
