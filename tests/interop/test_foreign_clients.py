"""Client libraries that others wrote, on a cluster with TLS, with the leader killed in the middle."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import foreign_clients
from tests.support.cluster import Cluster, ClusterTls
from tests.support.users import As

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(120)

PROGRAMS: Final = (foreign_clients.go, foreign_clients.node, foreign_clients.etcd3)
SECONDS_MAX: Final = 60
ENVIRONMENT: Final = {
    # What etcd3 brings is older than what protobuf takes that is not written in Python.
    "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python",
    # Where one is set, requests trusts that bundle of the machine's, and not the one that it is given.
    **{name: value for name, value in os.environ.items() if not name.endswith("_CA_BUNDLE")},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("foreign")
    flags = ["--bcrypt-cost=4", "--heartbeat-interval=50", "--election-timeout=500"]
    with Cluster(["etcdpy"] * 3, directory, tls=ClusterTls.issue(directory / "pki"), flags=flags) as running:
        yield running


@pytest.fixture(scope="module")
def cluster_with_users(cluster: Cluster) -> Cluster:
    """The same from now on: only who logs in may read and write."""
    root = As(cluster.client(cluster.leader())).enable()
    root.add_role("all")
    root.grant("all", 2, b"\0", b"\0")
    root.add_user("app", "secret", "all")
    return cluster


def kill_in_the_middle(cluster: Cluster, program: list[str]) -> None:
    """Let the program make its calls, and kill the leader when it has made them once."""
    leader = cluster.leader()
    assert cluster.tls is not None
    given = {
        "endpoints": [member.endpoint for member in (*cluster.others(leader), leader)],
        "ca": str(cluster.tls.ca),
        "cert": str(cluster.tls.client_cert),
        "key": str(cluster.tls.client_key),
        "user": "app",
        "password": "secret",
    }
    command = [*program, json.dumps(given)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            if first == "ready\n":
                leader.kill()
            rest, errors = process.communicate("\n", timeout=SECONDS_MAX)
        finally:
            process.kill()
    if not leader.running:
        cluster.restart(leader)
    assert (first, rest.splitlines()[-1:]) == ("ready\n", ["done"]), errors[-3000:]
    assert process.returncode == 0


def test_etcd3gw(cluster: Cluster) -> None:
    """It knows no users; and where there are some, etcd's gateway refuses to serve who shows a certificate."""
    kill_in_the_middle(cluster, foreign_clients.etcd3gw())


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_clients_that_log_in(cluster_with_users: Cluster, program: Callable[[], list[str]]) -> None:
    kill_in_the_middle(cluster_with_users, program())
