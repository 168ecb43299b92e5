"""Which version a cluster runs at, and which way it may go."""

from __future__ import annotations

import pytest

from etcdpy.errors import DowngradeInProgress, InvalidDowngradeTarget, WrongDowngradeVersionFormat
from etcdpy.membership.versions import (
    DowngradeInfo,
    LowerThanCluster,
    Version,
    check_downgrade,
    check_not_lower,
    decide_cluster_version,
    is_downgraded,
    joinable_range,
    lowest,
    parse_target,
    parse_version,
)

V35, V36, V37, V38 = (Version(3, minor) for minor in (5, 6, 7, 8))
NO_JOB = DowngradeInfo()
TO_36 = DowngradeInfo(True, "3.6.0")


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.7.3", (3, 7, 3)), ("3.7.0-rc.1", (3, 7, 0)), ("3.7.0+git", (3, 7, 0)), ("3.7.0-a+b", (3, 7, 0))],
)
def test_releases_are_read(text: str, version: tuple[int, int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["", "3", "3.7", "v3.7.0", "3.7.0.1", "3.7.x", " 3.7.0", "3..0", "\u0663.7.0"])
def test_other_texts_are_no_releases(text: str) -> None:
    with pytest.raises(ValueError, match="is not a version"):
        parse_version(text)


@pytest.mark.parametrize("text", ["3.6", "3.6.0", "3.6.7", "3.6.0-rc.1"])
def test_a_target_has_no_patch(text: str) -> None:
    assert parse_target(text) == V36


@pytest.mark.parametrize("text", ["", "3", "v3.6", "3.6.", "3.6-rc"])
def test_a_target_must_be_a_version(text: str) -> None:
    with pytest.raises(WrongDowngradeVersionFormat):
        parse_target(text)


def test_a_version_shows_itself() -> None:
    assert (str(Version(3, 7, 3)), Version(3, 7, 3).short, str(Version(3, 7, 3).of_cluster)) == (
        "3.7.3",
        "3.7",
        "3.7.0",
    )


@pytest.mark.parametrize("target", [V35, V37, V38, Version(2, 6)])
def test_a_downgrade_goes_one_step(target: Version) -> None:
    with pytest.raises(InvalidDowngradeTarget):
        check_downgrade(V37, target, NO_JOB)


def test_one_downgrade_at_a_time() -> None:
    check_downgrade(V37, V36, NO_JOB)
    with pytest.raises(DowngradeInProgress):
        check_downgrade(V37, V36, TO_36)


@pytest.mark.parametrize(
    ("current", "releases", "downgrade", "decided"),
    [
        # At first: what all have in common, or the lowest there is while one is silent.
        (None, [Version(3, 7, 3)], NO_JOB, V37),
        (None, [Version(3, 7, 3), Version(3, 6, 8)], NO_JOB, V36),
        (None, [Version(3, 7, 3), None], NO_JOB, Version(3, 0)),
        # Upward once the last member is there, however many steps; never while one is silent.
        (Version(3, 0), [Version(3, 7, 3), Version(3, 7, 0)], NO_JOB, V37),
        (V36, [Version(3, 7, 3), Version(3, 7, 0)], NO_JOB, V37),
        (V36, [Version(3, 7, 3), Version(3, 6, 9)], NO_JOB, None),
        (V36, [Version(3, 7, 3), None], NO_JOB, None),
        (V37, [Version(3, 7, 3)], NO_JOB, None),
        # Never downward by itself, nor to another major.
        (V37, [Version(3, 6, 9)], NO_JOB, None),
        (V37, [Version(4, 0, 0)], NO_JOB, None),
        # A downgrade takes effect while all still run the release above it.
        (V37, [Version(3, 7, 3), Version(3, 7, 0)], TO_36, V36),
        (V36, [Version(3, 7, 3), Version(3, 6, 9)], TO_36, None),
        (V37, [Version(3, 7, 3), None], TO_36, None),
    ],
)
def test_the_leader_decides(
    current: Version | None, releases: list[Version | None], downgrade: DowngradeInfo, decided: Version | None
) -> None:
    assert decide_cluster_version(current, dict(enumerate(releases)), downgrade) == decided


@pytest.mark.parametrize(("current", "release"), [(V38, Version(3, 8, 0)), (V37, Version(3, 6, 0))])
def test_a_downgrade_that_no_longer_fits_is_an_error(current: Version, release: Version) -> None:
    with pytest.raises(InvalidDowngradeTarget):
        decide_cluster_version(current, {1: release}, TO_36)


def test_a_downgrade_is_over_when_all_run_the_target() -> None:
    assert is_downgraded({1: Version(3, 6, 1), 2: Version(3, 6, 9)}, TO_36)
    assert not is_downgraded({1: Version(3, 6, 1), 2: Version(3, 7, 0)}, TO_36)
    assert not is_downgraded({1: Version(3, 6, 1), 2: None}, TO_36)


def test_a_release_below_the_cluster_must_not_take_part() -> None:
    check_not_lower(Version(3, 7, 3), None)
    check_not_lower(Version(3, 7, 3), V37)
    check_not_lower(Version(3, 7, 0), V36)
    with pytest.raises(LowerThanCluster, match="invalid downgrade; server version is lower than determined cluster"):
        check_not_lower(Version(3, 7, 3), V38)


def test_where_a_member_may_join() -> None:
    assert joinable_range(Version(3, 7, 3), downgrading=False) == (Version(3, 0), V37)
    assert joinable_range(Version(3, 7, 3), downgrading=True) == (V38, V38)


def test_the_lowest_of_none_is_unknown() -> None:
    assert lowest([]) is None
