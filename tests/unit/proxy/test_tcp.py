"""Which endpoint gets the next client."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from etcdpy.commandline import Failure
from etcdpy.proxy import endpoints
from etcdpy.proxy.endpoints import discover, split_host_port, targets_of
from etcdpy.proxy.tcp import Remotes
from etcdpy.server.discovery_srv import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def picks(remotes: Remotes, count: int) -> Counter[str]:
    found = (remotes.pick() for _ in range(count))
    return Counter(remote.target.host for remote in found if remote is not None)


def test_endpoints_without_weight_take_turns() -> None:
    remotes = Remotes([Target(name, 1) for name in "abc"], random.Random(1))
    assert picks(remotes, 30) == {"a": 10, "b": 10, "c": 10}
    remotes.all[1].active = False
    assert picks(remotes, 30) == {"a": 15, "c": 15}


def test_a_worse_priority_waits_until_the_better_one_is_down() -> None:
    remotes = Remotes([Target("worse", 1, 20), Target("better", 1, 10)], random.Random(1))
    assert picks(remotes, 10) == {"better": 10}
    remotes.all[1].active = False
    assert picks(remotes, 10) == {"worse": 10}
    remotes.all[0].active = False
    assert remotes.pick() is None


def test_weights_share_the_clients_and_no_weight_gets_a_hundredth() -> None:
    targets = [Target("light", 1, 0, 10), Target("heavy", 1, 0, 30), Target("none", 1)]
    found = picks(Remotes(targets, random.Random(1)), 20_000)
    assert 2.7 < found["heavy"] / found["light"] < 3.3
    assert 100 < found["none"] < 300


def test_addresses_are_split_as_go_splits_them() -> None:
    assert split_host_port("[::1]:2379") == ("::1", "2379")
    assert split_host_port(":2379") == ("", "2379")
    for text in ("::1:2379", "host", "[::1]", "[::1]x:1"):
        with pytest.raises(ValueError, match="no address and port"):
            split_host_port(text)


def test_a_scheme_says_nothing_to_a_gateway() -> None:
    assert targets_of(["http://a:1", "https://b:2", "c:3"]) == [Target("a", 1), Target("b", 2), Target("c", 3)]
    with pytest.raises(Failure, match='error parsing endpoint "nowhere"'):
        targets_of(["nowhere"])


def table(records: dict[str, list[Target]]) -> Callable[[str], Awaitable[list[Target]]]:
    async def lookup(name: str) -> list[Target]:
        if name not in records:
            raise OSError(f"lookup {name}: no such host")
        return records[name]

    return lookup


class TestDiscovery:
    def test_both_services_are_asked_for(self) -> None:
        lookup = table(
            {
                "_etcd-client-ssl-blue._tcp.example.com": [Target("m1", 2379, 5, 7)],
                "_etcd-client-blue._tcp.example.com": [Target("::1", 2380)],
            }
        )
        found = asyncio.run(discover("example.com", "blue", trusted_ca="", insecure=True, lookup=lookup))
        assert [each.url for each in found] == ["https://m1:2379", "http://[::1]:2380"]
        assert found[0].target == Target("m1", 2379, 5, 7)

    def test_nothing_listed_is_an_error(self) -> None:
        with pytest.raises(Failure, match=r"dns lookup errors: .*etcd-client-ssl.* and .*etcd-client"):
            asyncio.run(discover("example.com", "", trusted_ca="", insecure=True, lookup=table({})))

    def test_endpoints_without_tls_are_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        warnings: list[dict[str, object]] = []

        class Log:
            def info(self, _message: str, **_fields: object) -> None: ...

            def warn(self, message: str, **fields: object) -> None:
                warnings.append({"message": message, **fields})

        monkeypatch.setattr(endpoints, "log", Log())
        lookup = table({"_etcd-client._tcp.example.com": [Target("m1", 2379)]})
        assert asyncio.run(discover("example.com", "", trusted_ca="", insecure=False, lookup=lookup)) == []
        assert warnings[0]["error"] == '"http://m1:2379" is insecure'

    def test_without_a_domain_nobody_is_asked(self) -> None:
        assert asyncio.run(discover("", "", trusted_ca="", insecure=False, lookup=table({}))) == []
