"""Three bare hosts, and what is installed on them."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from tests.hosts.lab import Lab, missing
from tests.hosts.site import ADDRESSES, MEMBERS, Site, make_wheels
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

HEALTHY_SECONDS_MAX: Final = 60.0
FIRST: Final = "test_site.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The test that makes a cluster of bare hosts comes before those that need one, and leaves it to them."""
    mine = [at for at, item in enumerate(items) if item.path.parent == Path(__file__).parent]
    ordered = sorted((items[at] for at in mine), key=lambda item: item.path.name != FIRST)
    for at, item in zip(mine, ordered, strict=True):
        items[at] = item


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, not compiled, and of everything that it needs."""
    return make_wheels(tmp_path_factory.mktemp("wheels"))


def needs_hosts() -> None:
    """Skip the test where no hosts can be booted; in CI it fails."""
    reason = missing()
    if reason and os.environ.get("CI") == "true":
        pytest.fail(f"CI must boot hosts: {reason}")
    if reason:
        pytest.skip(reason)


@contextmanager
def booted(addresses: dict[str, str], wheels: Path) -> Iterator[Lab]:
    """Hosts that have just booted; the wheels are at /wheels."""
    needs_hosts()
    # A short path: ssh keeps sockets in it.
    with (
        tempfile.TemporaryDirectory(prefix="lab-") as directory,
        Lab(f"{directory}/l", addresses, {"/wheels": wheels}) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def lab(wheels: Path) -> Iterator[Lab]:
    """controller-0, controller-1 and controller-2, and nothing on them yet."""
    with booted({name: ADDRESSES[name] for name in MEMBERS}, wheels) as running:
        yield running


class Shared:
    """One cluster for the tests of playbooks, made by site.yml; controller-3 is a bare host beside it."""

    def __init__(self, boot: Callable[[], AbstractContextManager[Site]], kept: Site | None) -> None:
        """`kept` is one that is there already."""
        self._boot = boot
        self._until_end = ExitStack()
        self._site = kept

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._until_end.close()

    def bare(self) -> Site:
        """Hosts with nothing on them, for the test that makes the cluster of them."""
        self._until_end.close()
        self._site = self._until_end.enter_context(self._boot())
        return self._site

    def whole(self) -> Site:
        """The cluster, made anew where a test that failed has left it in pieces."""
        if self._site is None or not is_whole(self._site):
            self.bare().play("site.yml")
        assert self._site is not None
        return self._site


def is_whole(site: Site) -> bool:
    """Whether controller-0 to controller-2 are its members, and healthy, or become so."""
    try:
        wait_until(lambda: site.health() == set(site.endpoints), HEALTHY_SECONDS_MAX)
    except AssertionError:
        return False
    return site.members == list(MEMBERS)


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """The cluster that tests share."""

    @contextmanager
    def boot() -> Iterator[Site]:
        wheels = request.getfixturevalue("wheels")
        with booted(ADDRESSES, wheels) as lab:
            yield Site(lab, wheels, tmp_path_factory.mktemp("site"))

    place = os.environ.get("HOSTLAB")  # see __main__.py
    kept = Site(Lab(f"{place}/l", ADDRESSES, {}), Path(place) / "wheels", Path(place) / "site") if place else None
    with Shared(boot, kept) as clusters:
        yield clusters


@pytest.fixture
def cluster(shared: Shared) -> Site:
    """The cluster that tests share, and it is whole. Each test leaves it so."""
    return shared.whole()
