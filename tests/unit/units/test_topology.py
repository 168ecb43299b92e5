"""Topology files: defaults, both languages, and every fault by its name before anything is made of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from etcdpy.limits import TOPOLOGY_BYTES_MAX
from etcdpy.units.topology import TopologyError, parse_topology, read_topology

if TYPE_CHECKING:
    from pathlib import Path

NODES: dict[str, Any] = {f"m{number}": {"address": f"10.0.0.{number}"} for number in (1, 2, 3)}


def faults(table: object) -> list[str]:
    with pytest.raises(TopologyError) as caught:
        parse_topology(table)
    assert all("\n" not in fault for fault in caught.value.faults)
    return caught.value.faults


def test_an_address_for_each_node_is_enough() -> None:
    topology = parse_topology({"nodes": NODES})
    context = topology.context("m2")
    assert context["node"] == {"name": "m2", "address": "10.0.0.2", "data": "/var/lib/etcdpy/m2"}
    assert context["certificates"]["peer_key"] == "/etc/etcdpy/pki/m2-peer-key.pem"
    assert (context["certificates"]["crl"], context["backup"]) == ("", None)
    assert topology.context("m1")["certificates"]["cert"] == "/etc/etcdpy/pki/m1.pem"


def test_what_is_given_takes_the_place_of_a_default() -> None:
    topology = parse_topology(
        {
            "nodes": {"m1": {"address": "fd00::1", "data": "/srv/etcd/{node}/data"}},
            "certificates": {"directory": "/etc/pki/etcd", "ca": "/etc/ssl/ca.pem", "crl": "ca.crl"},
            "flags": {"quota-backend-bytes": 8_000_000_000, "pre-vote": True},
            "backup": {"keep": 3},
        }
    )
    context = topology.context("m1")
    assert context["node"]["data"] == "/srv/etcd/m1/data"
    assert (context["certificates"]["ca"], context["certificates"]["crl"]) == (
        "/etc/ssl/ca.pem",
        "/etc/pki/etcd/ca.crl",
    )
    assert context["flags"] == {"quota-backend-bytes": "8000000000", "pre-vote": "true"}
    assert (context["backup"]["keep"], context["backup"]["schedule"]) == (3, "hourly")


def test_toml_and_yaml_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"nodes": NODES, "backup": {"keep": 3}}))
    lines = [f'[nodes.{name}]\naddress = "{node["address"]}"' for name, node in NODES.items()]
    (tmp_path / "a.toml").write_text("\n".join([*lines, "[backup]", "keep = 3"]))
    assert read_topology(tmp_path / "a.yaml") == read_topology(tmp_path / "a.toml")


def two(**settings: object) -> dict[str, Any]:
    return {"nodes": {**NODES, "m2": {"address": "10.0.0.2", **settings}}}


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ([], "must hold tables: nodes, and if need be"),
        ({}, "nodes must be a table of names, each with an address"),
        ({"nodes": {}}, "nodes must be a table of names, each with an address"),
        ({"nodes": {"m1": "10.0.0.1"}}, "node m1: must be a table of texts"),
        ({"nodes": {"m1": {"address": 7}}}, "node m1: must be a table of texts"),
        ({"nodes": {"m1": {}}}, "node m1: needs an address"),
        (two(adress="x"), "node m2 has no setting adress"),
        (two(address="10.0.0.1"), "nodes m1 and m2 have the same address 10.0.0.1"),
        (two(address="10.0.0.300/x"), 'node m2: "10.0.0.300/x" is neither an IP address nor a host name'),
        (two(address="10.0.0.300"), 'node m2: "10.0.0.300" is neither an IP address nor a host name'),
        (two(address="fd00::x"), 'node m2: "fd00::x" is neither an IP address nor a host name'),
        (two(address="0.0.0.0"), 'node m2: "0.0.0.0" is neither an IP address nor a host name'),
        (two(address="127.0.0.1"), "node m2: the others cannot reach 127.0.0.1"),
        (two(data="/var/lib"), "node m2: data must be a directory below one of its own"),
        (two(data="/var/lib/../../etc"), "node m2: data must be a directory below one of its own"),
        (two(data="var/lib/etcdpy/m2"), "node m2: data must be a directory below one of its own"),
        ({"nodes": {"m 1": {"address": "10.0.0.1"}}}, '"m 1" cannot be the name of a node'),
        (
            {"nodes": {name: NODES[name] for name in ("m1", "m2")}},
            "2 members survive no more failures than 1; say cluster: allow_even_size if you mean it",
        ),
        ({"nodes": NODES, "clusters": {}}, "there is no table clusters"),
        ({"nodes": NODES, "cluster": []}, "cluster must be a table"),
        ({"nodes": NODES, "cluster": {"size": 3}}, "cluster has no setting size"),
        ({"nodes": NODES, "cluster": {"client_port": "2379"}}, "cluster: client_port must be a number"),
        ({"nodes": NODES, "cluster": {"client_port": True}}, "cluster: client_port must be a number"),
        ({"nodes": NODES, "cluster": {"client_port": 0}}, "cluster: ports must be between 1 and 65535"),
        ({"nodes": NODES, "cluster": {"metrics_port": 70000}}, "cluster: ports must be between 1 and 65535"),
        ({"nodes": NODES, "cluster": {"metrics_port": 2380}}, "cluster: two ports are the same"),
        ({"nodes": NODES, "cluster": {"state": "old"}}, 'cluster: state must be new or existing, not "old"'),
        ({"nodes": NODES, "cluster": {"token": "a b"}}, "cluster: token must be letters"),
        ({"nodes": NODES, "service": {"style": "yaml"}}, "service: style must be flags or environment"),
        ({"nodes": NODES, "service": {"user": "Root!"}}, 'service: "Root!" cannot be a user'),
        ({"nodes": NODES, "service": {"program": "/bin/sh -c"}}, "service: program must be a whole path"),
        ({"nodes": NODES, "service": {"settings": "etc"}}, "service: settings must be a whole path"),
        ({"nodes": NODES, "certificates": {"ca": "a b"}}, "certificates: ca must be a file name, or a whole path"),
        ({"nodes": NODES, "certificates": {"ca": "../ca.pem"}}, "certificates: ca must be a file name"),
        ({"nodes": NODES, "certificates": {"key": "{host}.pem"}}, "certificates: key must be a file name"),
        ({"nodes": NODES, "flags": {"name": "a\nExecStart=/bin/sh"}}, "has characters that a unit file would read"),
        ({"nodes": NODES, "flags": {"name": "%i"}}, "has characters that a unit file would read"),
        ({"nodes": NODES, "flags": {"a b": "c"}}, "has characters that a unit file would read"),
        ({"nodes": NODES, "backup": {"keep": 0}}, "backup: keep must be 1 or more"),
        ({"nodes": NODES, "backup": {"schedule": "daily\nx"}}, "backup: schedule is no time for a timer"),
        ({"nodes": NODES, "renewal": {"authority": "/srv/ca"}}, "renewal: authority and node go together"),
        ({"nodes": NODES, "renewal": {"node": "m1"}}, "renewal: authority and node go together"),
        ({"nodes": NODES, "renewal": {"authority": "/srv/ca", "node": "m9"}}, 'renewal: there is no node "m9"'),
        ({"nodes": NODES, "renewal": {"authority": "pki"}}, "renewal: authority must be a whole path"),
    ],
)
def test_a_fault_is_named(table: object, fault: str) -> None:
    assert any(fault in each for each in faults(table))


def test_all_faults_are_told_at_once() -> None:
    found = faults({"nodes": {"m1": {"address": ""}, "m2": {"address": "!"}}, "cluster": {"state": "x"}})
    assert len(found) == 4


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for content, reason in (
        (b"nodes: [", "neither TOML nor YAML"),
        (b"\xff\xfe", "neither TOML nor YAML"),
        (b"#" * (TOPOLOGY_BYTES_MAX + 1), f"larger than {TOPOLOGY_BYTES_MAX} bytes"),
        (json.dumps({"nodes": {}}).encode(), "nodes must be a table"),
    ):
        path.write_bytes(content)
        with pytest.raises(TopologyError) as caught:
            read_topology(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert reason in str(caught.value)
    with pytest.raises(TopologyError, match="no such file or directory"):
        read_topology(tmp_path / "b.yaml")


def test_a_node_that_is_not_there() -> None:
    with pytest.raises(TopologyError, match=r'there is no node "m9" \(there are m1, m2, m3\)'):
        parse_topology({"nodes": NODES}).context("m9")
