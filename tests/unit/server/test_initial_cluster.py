"""What --initial-cluster, or DNS in its place, may say; every text is etcd's."""

from __future__ import annotations

import asyncio

import pytest

from etcdpy import limits
from etcdpy.server import initial_cluster, url_match
from etcdpy.server.config import Config, load
from etcdpy.server.discovery_srv import Target, find_members
from etcdpy.server.initial_cluster import InitialCluster
from etcdpy.server.notes import ConfigError
from etcdpy.server.url_match import UrlMismatch

ADDRESSES = {"h": "10.0.0.1", "n1.example.com": "10.0.0.1", "n2.example.com": "10.0.0.2", "six": "[fd00::1]"}


async def resolve(host: str, port: int) -> str:
    known = ADDRESSES.get(host, host if host[0].isdigit() or host == "localhost" else "")
    if not known:
        raise OSError(f"lookup {host}: no such host")
    return f"{known}:{port}"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESOLVE_SECONDS", 0.0)


async def no_srv(_config: Config, _resolve: object) -> list[str]:
    raise AssertionError("DNS was asked")


def check(*argv: str) -> InitialCluster:
    async def run() -> InitialCluster:
        config = load(list(argv), {})
        cluster = await initial_cluster.find(config, resolve, no_srv)
        await initial_cluster.check(config, cluster, resolve)
        return cluster

    return asyncio.run(run())


def test_what_founds_a_cluster() -> None:
    assert check() == InitialCluster({"default": ("http://localhost:2380",)}, "etcd-cluster")
    assert check("--name=a").members == {"a": ("http://localhost:2380",)}
    several = "--initial-cluster=b=http://h:2,a=http://localhost:2380,b=http://h:1"
    cluster = check("--name=a", several, "--initial-cluster-token=t")
    assert cluster == InitialCluster({"b": ("http://h:1", "http://h:2"), "a": ("http://localhost:2380",)}, "t")
    assert str(cluster) == "a=http://localhost:2380,b=http://h:1,b=http://h:2"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--name=a", "--initial-cluster=b=http://localhost:2380"], 'couldn\'t find local name "a"'),
        (["--initial-cluster="], 'couldn\'t find local name "default"'),
        (["--initial-cluster=foo"], "error setting up initial cluster"),
        (
            ["--initial-cluster=default=http://10.0.0.9:1"],
            (
                "--initial-cluster has default=http://10.0.0.9:1 but missing from "
                '--initial-advertise-peer-urls=http://localhost:2380 (resolved urls: "http://'
            ),
        ),
        (
            ["--initial-cluster=default=http://h:1", "--initial-advertise-peer-urls=http://h:1,http://h:2"],
            "--initial-advertise-peer-urls has http://h:2 but missing from --initial-cluster=default=http://h:1",
        ),
        (
            ["--initial-cluster=default=http://h:1,default=http://h:2", "--initial-advertise-peer-urls=http://h:1"],
            (
                "--initial-cluster has default=http://h:2 but missing from --initial-advertise-peer-urls=http://h:1 "
                '(len(["http://h:1"]) != len(["http://h:1" "http://h:2"]))'
            ),
        ),
        (
            ["--initial-cluster=default=http://nowhere:1"],
            '(failed to resolve "http://nowhere:1" (lookup nowhere: no such host))',
        ),
        (
            ["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "b=http://localhost:2380,default=http://localhost:2380 has duplicate url",
        ),
        (
            ["--discovery-endpoints=e", "--discovery-token=t", "--initial-cluster-state=existing"],
            "discovery URL should not be set when joining existing initial cluster",
        ),
    ],
)
def test_what_is_refused(argv: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check(*argv)
    assert text in str(caught.value)


def test_who_joins_need_not_match() -> None:
    check("--initial-cluster-state=existing", "--initial-cluster=default=http://10.0.0.9:1")


def test_a_discovery_service_is_asked_by_oneself() -> None:
    argv = ["--name=a", "--discovery-endpoints=e", "--discovery-token=t", "--initial-advertise-peer-urls=http://h:1"]
    assert check(*argv) == InitialCluster({"a": ("http://h:1",)}, "t")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["http://h:1"], ["http://10.0.0.1:1"]),
        (["http://h:1", "http://10.0.0.2:1"], ["http://n2.example.com:1", "http://10.0.0.1:1"]),
        (["http://[fd00:0:0:0:0:0:0:1]:1"], ["http://[fd00::1]:1"]),
        (["http://six:1"], ["http://[fd00::1]:1"]),
        (["unix://a"], ["unix://a"]),
        (["http://nowhere:1", "http://h:1"], ["http://h:1", "http://nowhere:1"]),
        ([], []),
    ],
)
def test_urls_that_are_the_same(first: list[str], second: list[str]) -> None:
    asyncio.run(url_match.check_same(first, second, resolve))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["http://h:1"], ["http://h:2"]),
        (["http://h:1"], ["https://h:1"]),
        (["http://h:1"], ["http://localhost:1"]),
        (["http://h:1"], ["http://nowhere:1"]),
        (["unix://a"], ["unix://b"]),
        (["http://h:1"], []),
    ],
)
def test_urls_that_differ(first: list[str], second: list[str]) -> None:
    with pytest.raises(UrlMismatch):
        asyncio.run(url_match.check_same(first, second, resolve))


def test_a_name_that_is_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RESOLVE_SECONDS", 10.0)
    monkeypatch.setattr(limits, "RESOLVE_RETRY_SECONDS", 0.0)
    asked = []

    async def later(host: str, port: int) -> str:
        asked.append(host)
        if len(asked) < 3:
            raise OSError("not yet")
        return f"10.0.0.1:{port}"

    asyncio.run(url_match.check_same(["http://late:1"], ["http://10.0.0.1:1"], later))
    assert asked == ["late"] * 3


class TestSrv:
    """Three records of each service, of which one leads to this member."""

    @staticmethod
    def find(records: dict[str, list[Target]], *argv: str) -> list[str]:
        async def lookup(name: str) -> list[Target]:
            if name not in records:
                raise OSError(f"lookup {name}: no such record")
            return records[name]

        config = load(["--name=me", "--discovery-srv=example.com", *argv], {})
        return asyncio.run(find_members(config, resolve, lookup))

    HTTPS = "_etcd-server-ssl._tcp.example.com"
    HTTP = "_etcd-server._tcp.example.com"
    MINE = "--initial-advertise-peer-urls=http://10.0.0.1:2380"
    BOTH = (Target("n1.example.com", 2380), Target("n2.example.com", 2380))

    def test_the_record_with_our_address_is_us(self) -> None:
        assert self.find({self.HTTP: [*self.BOTH]}, self.MINE) == [
            "me=http://n1.example.com:2380",
            "0=http://n2.example.com:2380",
        ]

    def test_both_services_count(self) -> None:
        found = self.find({self.HTTP: [self.BOTH[0]], self.HTTPS: [self.BOTH[1]]}, self.MINE)
        assert found == ["0=https://n2.example.com:2380", "me=http://n1.example.com:2380"]

    def test_the_service_name_has_a_suffix(self) -> None:
        records = {"_etcd-server-blue._tcp.example.com": [*self.BOTH]}
        assert len(self.find(records, self.MINE, "--discovery-srv-name=blue")) == 2

    def test_a_record_with_the_wrong_scheme_is_passed_over(self) -> None:
        assert self.find({self.HTTPS: [*self.BOTH]}, self.MINE) == ["0=https://n2.example.com:2380"]
        with pytest.raises(OSError, match=r"scheme mismatch with expected peer http://10\.0\.0\.1:2380"):
            self.find({self.HTTPS: [self.BOTH[0]]}, self.MINE)

    def test_a_host_without_address_is_passed_over(self) -> None:
        records = {self.HTTP: [Target("gone.example.com", 1), self.BOTH[0]]}
        assert self.find(records, self.MINE) == ["me=http://n1.example.com:2380"]

    def test_no_records_at_all(self) -> None:
        with pytest.raises(OSError, match=r"error querying DNS SRV records for _etcd-server-ssl .*_etcd-server lookup"):
            self.find({}, self.MINE)

    @pytest.mark.parametrize(
        ("found", "text"),
        [
            (["0=http://n2:1"], 'cannot find local etcd member "me" in SRV records'),
            (None, "error setting up initial cluster: no such record"),
        ],
    )
    def test_what_the_bootstrap_says(self, found: list[str] | None, text: str) -> None:
        async def find_by_srv(_config: Config, _resolve: object) -> list[str]:
            if found is None:
                raise OSError("no such record")
            return found

        config = load(["--name=me", "--discovery-srv=example.com"], {})
        with pytest.raises(ConfigError) as caught:
            asyncio.run(initial_cluster.find(config, resolve, find_by_srv))
        assert text in str(caught.value)
