from __future__ import annotations

import pytest

from etcdpy.client.srv import client_endpoints

RECORDS = {
    "_etcd-client-ssl._tcp.example.com": [("a.example.com", 2379)],
    "_etcd-client._tcp.example.com": [("b.example.com", 2379), ("c.example.com", 4001)],
    "_etcd-client-east._tcp.example.com": [("d.example.com", 2379)],
}


def lookup(name: str) -> list[tuple[str, int]]:
    if name not in RECORDS:
        raise OSError(f"lookup {name}: no such host")
    return RECORDS[name]


@pytest.mark.parametrize(
    ("service_name", "endpoints"),
    [
        ("", ["https://a.example.com:2379", "http://b.example.com:2379", "http://c.example.com:4001"]),
        ("east", ["http://d.example.com:2379"]),
    ],
)
def test_records_become_endpoints(service_name: str, endpoints: list[str]) -> None:
    assert client_endpoints("example.com", service_name, lookup) == endpoints


def test_a_domain_without_records_is_an_error() -> None:
    with pytest.raises(OSError, match=r"dns lookup errors: lookup _etcd-client-ssl\._tcp\.nowhere.* and lookup _etcd"):
        client_endpoints("nowhere", "", lookup)
