"""Options and profiles that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "soak", max_examples=5000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write the outputs seen now into the scenario files")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether scenario files are to be rewritten instead of checked."""
    return bool(request.config.getoption("--rewrite"))


PROCESS_ROOMS = ("hosts", "interop", "processes")
"""Tests that start servers and measure time. They run one after another on one worker; the quiet ones run beside them
on the other, with a lower priority, so that no server waits for a core that a quiet test holds."""
QUIET_NICENESS = 10


def _starts_servers(item: pytest.Item) -> bool:
    return item.path.relative_to(Path(__file__).parent).parts[0] in PROCESS_ROOMS


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the process tests together, and those of a file elsewhere, so that its fixtures are made once.

    The process tests come first: they take longest, and the quiet ones fill the other worker meanwhile.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            group = "processes" if _starts_servers(item) else str(item.path.relative_to(Path(__file__).parent))
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: not _starts_servers(item))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Step back at the first quiet test, for good. The worker with the process tests has those first: not too early."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _starts_servers(item):
        os.setpriority(os.PRIO_PROCESS, 0, max(QUIET_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
