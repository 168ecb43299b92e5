"""The look-up itself, against a name server of one table on loopback."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import dns.asyncresolver
import pytest

from etcdpy.server.discovery_srv import Target, lookup_srv
from tests.support.name_server import answer

if TYPE_CHECKING:
    from collections.abc import Awaitable

NAME = "_etcd-server._tcp.example.com"
RECORDS = {
    (NAME, "SRV"): ["20 0 2380 late.example.com.", "10 5 2381 light.example.com.", "10 50 2382 heavy.example.com."],
}


class NameServer(asyncio.DatagramProtocol):
    """Answers from RECORDS, authoritatively."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(answer(data, RECORDS), addr)


async def with_server(monkeypatch: pytest.MonkeyPatch, work: Awaitable[list[Target]]) -> list[Target]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    try:
        return await work
    finally:
        transport.close()


def test_records_come_by_priority_and_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asyncio.run(with_server(monkeypatch, lookup_srv(NAME)))
    assert found == [
        Target("heavy.example.com", 2382, 10, 50),
        Target("light.example.com", 2381, 10, 5),
        Target("late.example.com", 2380, 20, 0),
    ]


def test_a_name_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"lookup _etcd-server\._tcp\.nowhere\.com: .*does not exist"):
        asyncio.run(with_server(monkeypatch, lookup_srv("_etcd-server._tcp.nowhere.com")))
