"""Three bare hosts, and what is installed on them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.hosts.lab import Lab, missing
from tests.hosts.site import ADDRESSES, MEMBERS, Site, make_wheels
from tests.support.client import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    yield from booted({name: ADDRESSES[name] for name in MEMBERS}, wheels)


@pytest.fixture(scope="session")
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster as site.yml makes it, for all tests of playbooks that follow; controller-3 is a bare host beside it."""
    kept = os.environ.get("HOSTLAB")
    if kept:  # see __main__.py
        yield Site(Lab(f"{kept}/l", ADDRESSES, {}), Path(kept) / "wheels", Path(kept) / "site")
        return
    wheels = request.getfixturevalue("wheels")
    for lab in booted(ADDRESSES, wheels):
        site = Site(lab, wheels, tmp_path_factory.mktemp("site"))
        site.play("site.yml")
        yield site


@pytest.fixture
def cluster(started: Site) -> Site:
    """The same, and it is whole: controller-0 to controller-2 are its members, and healthy. Each test leaves it so."""
    assert started.members == list(MEMBERS), "a test before this one did not put the members back"
    wait_until(lambda: started.health() == set(started.endpoints), 60)
    return started
