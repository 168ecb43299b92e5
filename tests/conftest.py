"""Options and profiles that all tests share."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Generator

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
"""Tests that start servers. Those that measure time, or need a cluster to keep its leader, run one after another on one
worker. Beside them, on a second, run those of hosts, which mostly wait for them; on a third first the CALM ones, and
then, with a lower priority, those that start no server: no server waits for a core that a quiet test holds."""
CALM = frozenset(("tests/processes/test_install.py",)) | frozenset(
    f"tests/interop/test_{name}.py"
    for name in (
        *(
            "auth",
            "auth_weaknesses",
            "backup_page",
            "backup_run",
            "certificates",
            "client",
            "client_async",
            "client_auth",
        ),
        *(
            "client_page",
            "differential",
            "etcdctl",
            "etcdpyctl",
            "etcdpyctl_auth_apply",
            "etcdpyctl_connections",
            "etcdpyctl_offline",
            "etcdutl",
        ),
        *("gateway", "gateway_examples", "gateway_websocket", "grpc_proxy", "interchange", "kv", "metric_names"),
        *("migrate", "mvcc_reference", "peer_reference", "proxy_page", "python_etcd3", "raft_reference"),
        *("running_tools", "snapshots_both_ways", "transcripts", "txn", "wrong_certificates", "wrong_configuration"),
    )
)
"""They compare answers, of one member mostly, whenever these come, or install for minutes. So do the tests of hosts,
which wait for them."""
HOSTS = "tests/hosts/"
QUIET_NICENESS = 10


def _starts_servers(node_id: str) -> bool:
    return node_id.split("/")[1:2] in [[room] for room in PROCESS_ROOMS]


def _is_calm(node_id: str) -> bool:
    return node_id.startswith(HOSTS) or node_id.split("::")[0] in CALM


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """What stays together on a worker: all timed process tests, all tests of hosts, which share a cluster of them, and
    elsewhere the tests of a file, which share fixtures."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(HOSTS):
            return HOSTS
        path = nodeid.split("::")[0]
        return "timed" if _starts_servers(nodeid) and not _is_calm(nodeid) else path

    def remove_node(self, node: Any) -> str | None:
        """Without what a crashed worker has done already: xdist gives that out again, and another worker, to which it
        is nothing to do, waits for more while xdist waits for it."""
        units = self.assigned_work[node]
        for scope in [scope for scope, unit in units.items() if all(unit.values())]:
            del units[scope]
        return super().remove_node(node)  # type: ignore[no-any-return]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """xdist's own groups by mark (--dist loadgroup) do nothing under pytest 9.2: they write to an attribute of old."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The timed ones first: they take longest, and the others fill the other worker meanwhile."""
    items.sort(key=lambda item: (not _starts_servers(item.nodeid), _is_calm(item.nodeid)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Step back at the first quiet test, for good. The worker with the process tests has those first: not too early."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _starts_servers(item.nodeid):
        os.setpriority(os.PRIO_PROCESS, 0, max(QUIET_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """A tool that a test runs in its own process leaves its signals behind: with its SIGPIPE, a later test whose socket
    the other side closes would end the worker."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGPIPE)}
    try:
        return (yield)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
