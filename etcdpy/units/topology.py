"""The topology file: which members there are, where, and under which paths. TOML or YAML, the same tables.

    cluster:  {token, state, client_port, peer_port, metrics_port, allow_even_size}
    nodes:    {NAME: {address, data}}
    service:  {user, group, program, settings, style, encryption_keys}
    certificates: {directory, ca, cert, key, peer_ca, peer_cert, peer_key, client_cert, client_key, crl, peer_crl}
    flags:    {FLAG: value}
    backup:   {directory, keep, schedule, spread}        left out: no backups
    renewal:  {authority, node, within, schedule, spread}

Everything but a node's address has a default. Every value ends up in a unit file, so each is held to letters that mean
nothing to systemd, and every fault is named before anything is written.
"""

from __future__ import annotations

import copy
import ipaddress
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from etcdpy.limits import TOPOLOGY_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "cluster": {
        "token": "etcd-cluster-0",
        "state": "new",
        "client_port": 2379,
        "peer_port": 2380,
        "metrics_port": 0,
        "allow_even_size": False,
    },
    "service": {
        "user": "etcdpy",
        "group": "etcdpy",
        "program": "/usr/local/bin/etcdpy",
        "settings": "/etc/etcdpy",
        "style": "flags",
        "encryption_keys": "",
    },
    "certificates": {
        "directory": "/etc/etcdpy/pki",
        "ca": "ca.pem",
        "cert": "{node}.pem",
        "key": "{node}-key.pem",
        "peer_ca": "ca.pem",
        "peer_cert": "{node}-peer.pem",
        "peer_key": "{node}-peer-key.pem",
        "client_cert": "client.pem",
        "client_key": "client-key.pem",
        "crl": "",
        "peer_crl": "",
    },
    "flags": {},
    "backup": {"directory": "/var/backups/etcdpy", "keep": 7, "schedule": "hourly", "spread": "5min"},
    "renewal": {"authority": "", "node": "", "within": 14, "schedule": "daily", "spread": "1h"},
}
NODE_DEFAULTS: Final = {"address": "", "data": "/var/lib/etcdpy/{node}"}

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_PATH: Final = re.compile(r"/[A-Za-z0-9/._@+-]*[A-Za-z0-9._@+-]")
_FILE: Final = re.compile(r"[A-Za-z0-9/._@+-]+")
_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_TIME: Final = re.compile(r"[A-Za-z0-9 *:,./~_-]+")
_FLAG: Final = re.compile(r"[a-z][a-z0-9-]*")
_VALUE: Final = re.compile(r"[A-Za-z0-9*:,./=_@+\[\]-]*")
_PATHS: Final = frozenset(("settings", "program", "directory", "authority", "encryption_keys"))
_TIMES: Final = ("schedule", "spread")


class TopologyError(Exception):
    """A topology that nothing is made of; `faults` has a line for each reason."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = [" ".join(fault.split()) for fault in faults]  # they quote what the file says
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True, slots=True)
class Topology:
    """The tables, with every default filled in: what the templates get."""

    tables: dict[str, Any]
    nodes: tuple[dict[str, str], ...]

    def node(self, name: str) -> dict[str, str]:
        """The node of that name. Raises TopologyError with the names there are."""
        for node in self.nodes:
            if node["name"] == name:
                return node
        raise TopologyError([f'there is no node "{name}" (there are {", ".join(each["name"] for each in self.nodes)})'])

    def context(self, name: str) -> dict[str, Any]:
        """What the templates of one node are filled with: paths whole, `{node}` replaced."""
        node, tables = self.node(name), copy.deepcopy(self.tables)
        certificates = {key: value.replace("{node}", name) for key, value in tables["certificates"].items()}
        at = certificates["directory"]
        tables["certificates"] = {
            key: value if key == "directory" or not value or value.startswith("/") else f"{at}/{value}"
            for key, value in certificates.items()
        }
        if tables["renewal"]["node"] != name:
            tables["renewal"]["authority"] = ""  # it lies on one host alone
        return {**tables, "node": node, "nodes": list(self.nodes)}


def read_topology(path: Path) -> Topology:
    """Read and check a file. Raises TopologyError."""
    try:
        with path.open("rb") as file:
            content = file.read(TOPOLOGY_BYTES_MAX + 1)
    except OSError as error:
        raise TopologyError([f"{path}: {(error.strerror or 'cannot be read').lower()}"]) from None
    if len(content) > TOPOLOGY_BYTES_MAX:
        raise TopologyError([f"{path}: larger than {TOPOLOGY_BYTES_MAX} bytes"])
    try:
        text = content.decode()
        found = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, yaml.YAMLError, RecursionError) as error:
        raise TopologyError([f"{path}: neither TOML nor YAML: {error}"]) from None
    try:
        return parse_topology(found)
    except TopologyError as error:
        raise TopologyError([f"{path}: {fault}" for fault in error.faults]) from None


def parse_topology(found: object) -> Topology:
    """Fill in defaults and check. Raises TopologyError with every fault."""
    if not isinstance(found, dict):
        raise TopologyError(["must hold tables: nodes, and if need be cluster, service, certificates, flags, backup"])
    faults = [f"there is no table {name}" for name in found if name not in DEFAULTS and name != "nodes"]
    tables: dict[str, Any] = {}
    for name, defaults in DEFAULTS.items():
        given = found.get(name, None if name == "backup" else {})
        if name == "backup" and given is None:
            tables[name] = None
        elif not isinstance(given, dict):
            faults.append(f"{name} must be a table")
        elif name == "flags":
            tables[name] = {str(flag): _flag_text(value) for flag, value in given.items()}
        else:
            faults += [f"{name} has no setting {key}" for key in given if key not in defaults]
            faults += _kinds(name, defaults, given)
            tables[name] = {**defaults, **given}
    nodes, node_faults = _nodes(found.get("nodes"))
    faults += node_faults
    if not faults:
        topology = Topology(tables, nodes)
        faults = [*_table_faults(tables), *_node_faults(topology)]
    if faults:
        raise TopologyError(faults)
    return topology


def _flag_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _kinds(name: str, defaults: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Values of another kind than their default's."""
    words = {str: "text", int: "a number", bool: "true or false"}
    return [
        f"{name}: {key} must be {words[type(defaults[key])]}"
        for key, value in given.items()
        if key in defaults and type(value) is not type(defaults[key])
    ]


def _nodes(found: object) -> tuple[tuple[dict[str, str], ...], list[str]]:
    if not isinstance(found, dict) or not found:
        return (), ["nodes must be a table of names, each with an address"]
    nodes, faults = [], []
    for name, given in found.items():
        if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
            faults.append(f"node {name}: must be a table of texts: address, and if need be data")
            continue
        faults += [f"node {name} has no setting {key}" for key in given if key not in NODE_DEFAULTS]
        settings = {**NODE_DEFAULTS, **given}
        nodes.append({"name": str(name), **{key: each.replace("{node}", str(name)) for key, each in settings.items()}})
    return tuple(nodes), faults


def _table_faults(tables: dict[str, Any]) -> Iterator[str]:
    yield from _cluster_faults(tables["cluster"])
    service = tables["service"]
    if service["style"] not in ("flags", "environment"):
        yield f'service: style must be flags or environment, not "{service["style"]}"'
    for name in ("user", "group"):
        if not _USER.fullmatch(service[name]):
            yield f'service: "{service[name]}" cannot be a {name}'
    for flag, value in tables["flags"].items():
        if not _FLAG.fullmatch(flag) or not _VALUE.fullmatch(value):
            yield f"flags: --{flag}={value} has characters that a unit file would read otherwise"
    yield from _path_faults(tables)
    for name, count in (("backup", "keep"), ("renewal", "within")):
        table = tables[name] or DEFAULTS[name]
        yield from (f"{name}: {key} is no time for a timer" for key in _TIMES if not _TIME.fullmatch(table[key]))
        if table[count] < 1:
            yield f"{name}: {count} must be 1 or more"


def _cluster_faults(cluster: dict[str, Any]) -> Iterator[str]:
    ports = [cluster[port] for port in ("client_port", "peer_port")]
    ports += [cluster["metrics_port"]] if cluster["metrics_port"] else []
    if not all(1 <= port <= 65_535 for port in ports):
        yield "cluster: ports must be between 1 and 65535 (metrics_port 0: none)"
    elif len(set(ports)) != len(ports):
        yield "cluster: two ports are the same"
    if cluster["state"] not in ("new", "existing"):
        yield f'cluster: state must be new or existing, not "{cluster["state"]}"'
    if not _NAME.fullmatch(cluster["token"]):
        yield "cluster: token must be letters, digits, dots and dashes"


def _path_faults(tables: dict[str, Any]) -> Iterator[str]:
    for name in ("service", "certificates", "backup", "renewal"):
        for key, value in (tables[name] or {}).items():
            file = name == "certificates" and key != "directory"
            if not value or not (file or key in _PATHS):
                continue
            plain = value.replace("{node}", "x") if file else value
            if not (_FILE if file else _PATH).fullmatch(plain) or ".." in plain.split("/"):
                kind = "a file name, or a whole path" if file else "a whole path"
                yield f'{name}: {key} must be {kind} of letters, digits and ._@+-, not "{value}"'


def _node_faults(topology: Topology) -> Iterator[str]:
    seen: dict[str, str] = {}
    for node in topology.nodes:
        name, address = node["name"], node["address"]
        if not _NAME.fullmatch(name):
            yield f'"{name}" cannot be the name of a node'
        if not address:
            yield f"node {name}: needs an address"
        elif not _can_be_dialled(address):
            yield f'node {name}: "{address}" is neither an IP address nor a host name'
        elif address in seen:
            yield f"nodes {seen[address]} and {name} have the same address {address}"
        elif address in ("127.0.0.1", "::1", "localhost") and len(topology.nodes) > 1:
            yield f"node {name}: the others cannot reach {address}"
        seen.setdefault(address, name)
        if not _PATH.fullmatch(node["data"]) or ".." in node["data"].split("/") or node["data"].count("/") < 3:
            yield f"node {name}: data must be a directory below one of its own, such as /var/lib/etcdpy/{name}"
    renewal = topology.tables["renewal"]
    if bool(renewal["authority"]) != bool(renewal["node"]):
        yield "renewal: authority and node go together: the directory, and the node that it lies on"
    elif renewal["node"] and renewal["node"] not in (node["name"] for node in topology.nodes):
        yield f'renewal: there is no node "{renewal["node"]}"'
    if len(topology.nodes) % 2 == 0 and not topology.tables["cluster"]["allow_even_size"]:
        count = len(topology.nodes)
        yield f"{count} members survive no more failures than {count - 1}; say cluster: allow_even_size if you mean it"


def _can_be_dialled(address: str) -> bool:
    """Whether it is an IP address or a host name; what has digits and dots alone is an address or nothing."""
    if ":" not in address and address.strip("0123456789."):
        return _HOST.fullmatch(address) is not None
    try:
        return not ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False
