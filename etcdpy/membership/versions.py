"""Which version the cluster runs at: the lowest of its members' releases, or one below while it is being downgraded.

A cluster's version has no patch: 3.7.3 and 3.7.0 run together as 3.7.0. The leader decides it; the log makes it known.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from etcdpy.errors import DowngradeInProgress, InvalidDowngradeTarget, WrongDowngradeVersionFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FORM: Final = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,18})(?:-[0-9A-Za-z.-]*)?(?:\+[0-9A-Za-z.-]*)?", re.ASCII)


class Version(NamedTuple):
    """A release; what follows `-` or `+` in its text counts for nothing here."""

    major: int
    minor: int
    patch: int = 0

    @property
    def of_cluster(self) -> Version:
        """The cluster version that a member of this release can run at."""
        return Version(self.major, self.minor)

    @property
    def one_below(self) -> Version:
        """The only cluster version that one may go back to from here."""
        return Version(self.major, self.minor - 1)

    @property
    def short(self) -> str:
        """`3.7`, as log lines and answers show a cluster's version."""
        return f"{self.major}.{self.minor}"

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


MINIMUM: Final = Version(3, 0)
"""What a cluster starts at while not all of its members have told their release."""


class DowngradeInfo(NamedTuple):
    """Whether the cluster is being downgraded, and where to: `3.6.0`, empty when not."""

    enabled: bool = False
    target: str = ""


class LowerThanCluster(Exception):
    """This release is older than the cluster's version: it would misread what the others write."""

    def __init__(self, own: Version, cluster: Version) -> None:
        super().__init__(
            "invalid downgrade; server version is lower than determined cluster version: "
            f"current-server-version {own.of_cluster}, determined-cluster-version {cluster.short}"
        )


def parse_version(text: str) -> Version:
    """A release such as `3.7.3` or `3.7.0-rc.1`. Raises ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a version such as 3.7.0")
    return Version(*map(int, match.groups()))


def parse_target(text: str) -> Version:
    """The target of a downgrade, `3.6` or `3.6.0`, without its patch. Raises WrongDowngradeVersionFormat."""
    for form in (text, f"{text}.0"):
        try:
            return parse_version(form).of_cluster
        except ValueError:
            continue
    raise WrongDowngradeVersionFormat


def check_not_lower(own: Version, cluster: Version | None) -> None:
    """Raise LowerThanCluster when this release must not take part."""
    if cluster is not None and own.of_cluster < cluster:
        raise LowerThanCluster(own, cluster)


def check_downgrade(cluster: Version, target: Version, running: DowngradeInfo) -> None:
    """Whether a downgrade to `target` may begin. Raises InvalidDowngradeTarget, DowngradeInProgress."""
    if target != cluster.one_below:
        raise InvalidDowngradeTarget
    if running.enabled:
        raise DowngradeInProgress


def lowest(releases: Iterable[Version | None]) -> Version | None:
    """The lowest release; None when one of them is not known."""
    found: Version | None = None
    for release in releases:
        if release is None:
            return None
        if found is None or release < found:
            found = release
    return found


def decide_cluster_version(
    current: Version | None, releases: Mapping[int, Version | None], downgrade: DowngradeInfo
) -> Version | None:
    """The version that the cluster should go over to; None when it should stay. Raises InvalidDowngradeTarget.

    `releases` are the members' own, by id, None where a member could not be asked.
    """
    minimum = lowest(releases.values())
    if current is None:
        return (minimum or MINIMUM).of_cluster
    if minimum is None:
        return None
    if downgrade.enabled:
        target = parse_target(downgrade.target)
        if target == current:
            return None
        if target != current.one_below or target != minimum.one_below:
            raise InvalidDowngradeTarget
        return target
    upward = current < minimum.of_cluster and current.major == minimum.major
    return minimum.of_cluster if upward else None


def is_downgraded(releases: Mapping[int, Version | None], downgrade: DowngradeInfo) -> bool:
    """Whether every member runs the target's release already, so that the downgrade is over."""
    target = parse_target(downgrade.target)
    return all(release is not None and release.of_cluster == target for release in releases.values())


def joinable_range(own: Version, *, downgrading: bool) -> tuple[Version, Version]:
    """Lowest and highest cluster version that a member of release `own` may join: while a cluster is being
    downgraded, only the next one up."""
    if downgrading:
        above = Version(own.major, own.minor + 1)
        return above, above
    return MINIMUM, own.of_cluster
