"""Imports point downward only."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

import pytest

from tests.tidy.sources import PRODUCT, ROOT, Source, report, source, sources

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERS: Final = (
    ("limits_cluster",),
    ("", "errors", "limits", "work_limits", "backend", "proto", "duration", "histogram", "texttable", "wire"),
    ("progress",),
    ("commandline",),
    ("completion",),
    ("raft",),
    ("mvcc",),
    ("lease", "auth", "membership"),
    ("apply",),
    ("storage",),
    ("interchange",),
    ("transport",),
    ("peer",),
    ("api", "gateway"),
    ("client",),
    ("server",),
    ("ctl", "utl", "proxy", "units"),
    ("local",),
    ("__main__",),
)
"""From the ground up; a room imports itself and lower layers. Rooms of one layer do not know each other."""

_GROUND = {"", "errors", "limits", "work_limits", "duration", "histogram", "progress", "texttable", "wire"}
NARROWER: Final = {
    "commandline": _GROUND,
    "completion": {*_GROUND, "commandline"},
    "mvcc": {*_GROUND, "backend", "proto"},  # not raft: what is stored does not know how it was agreed on
    "storage": {*_GROUND, "backend", "proto", "raft"},  # bytes in, bytes out: knows no mvcc, no apply
    # reads and writes what others store, through the backend's protocol: knows no engine, no server
    "interchange": {*_GROUND, "backend", "proto", "raft", "mvcc", "lease", "membership"},
    "transport": _GROUND,  # knows no message of etcd's, so that it can move to a process of its own
    "peer": {*_GROUND, "proto", "raft", "transport"},  # carries messages: knows no state, no membership
    "gateway": {*_GROUND, "proto", "transport"},  # reaches calls by their table: knows no service
    "client": {*_GROUND, "proto"},
    "ctl": {*_GROUND, "proto", "client", "commandline", "completion"},
    # works on files, with no member around; of the server it takes what reads flags about members
    "utl": {*_GROUND, "commandline", "proto", "backend", "raft", "mvcc", "membership", "storage", "interchange"}
    | {"client", "server", "completion"},
    # serves clients and asks members: holds no state of a cluster
    "proxy": {*_GROUND, "proto", "transport", "peer", "api", "client", "commandline", "server"},
    "units": {*_GROUND, "commandline"},  # texts from texts: knows no server and no certificate
    "local": {*_GROUND, "proto", "client", "commandline", "pki"},  # runs members as processes, as an operator does
    "pki": set(),  # stands alone: it also serves real etcd
}
"""Rooms that may import less than their layer allows."""

THIRD_PARTY: Final = {
    "plyvel": {"storage"},
    "bcrypt": {"server"},
    "dns": {"server", "client"},
    "jwt": {"auth"},
    "grpc": {"client", "ctl", "local", "proxy"},
    "jinja2": {"units"},
    "click": {"commandline", "completion", "ctl", "utl", "local", "proxy", "units", "pki", "__main__"},
}
"""Libraries that only these rooms may import."""


def allowed_rooms(room: str) -> set[str]:
    """What `room` may import beside itself. Raises KeyError for a room that has no layer."""
    if room in NARROWER:
        return NARROWER[room]
    level = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    lower = {name for name, number in level.items() if number < level[room]}
    return lower | {"pki"} if room == "__main__" else lower


def imported_names(item: Source) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that the file imports, wherever it does so."""
    package = item.path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(item.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room_of(name: str) -> str | None:
    """The room that a dotted name belongs to; None when it is not ours."""
    top, *rest = name.split(".")
    if top in ("pki", "tests", "bench"):
        return top
    if top != "etcdpy":
        return None
    known = {room for layer in LAYERS for room in layer}
    return rest[0] if rest and (rest[0] in known or (ROOT / "etcdpy" / rest[0]).is_dir()) else ""


def check_layers(item: Source) -> list[str]:
    """Imports that point upward or sideways, and libraries outside their room."""
    if item.room not in NARROWER and not any(item.room in layer for layer in LAYERS):
        return [f"{item.path}: the room `{item.room}` has no layer; give it one in tests/tidy/test_layers.py"]
    allowed = allowed_rooms(item.room)
    findings = []
    for line, name in imported_names(item):
        target = room_of(name)
        if target is not None and target != item.room and target not in allowed:
            findings.append(f"{item.path}:{line}: `{item.room}` must not import {name}")
        users = THIRD_PARTY.get(name.split(".")[0])
        if users is not None and item.room not in users:
            findings.append(f"{item.path}:{line}: only {', '.join(sorted(users))} may import {name}")
    return findings


def test_imports_point_downward() -> None:
    findings = [finding for item in sources(*PRODUCT) for finding in check_layers(item)]
    assert not findings, report(findings)


def test_directories_that_would_shadow_packages_are_no_packages() -> None:
    assert not [name for name in ("ansible", "systemd") if (ROOT / name / "__init__.py").exists()]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etcdpy/api/kv.py", "from etcdpy.server.node import Node"),
        ("etcdpy/api/kv.py", "from etcdpy import server"),
        ("etcdpy/api/kv.py", "from ..server import node"),
        ("etcdpy/api/kv.py", "def late():\n    import etcdpy.server.node"),
        ("etcdpy/raft/core.py", "from etcdpy.mvcc.store import Store"),
        ("etcdpy/mvcc/store.py", "from etcdpy.raft.entry import Entry"),
        ("etcdpy/transport/grpc.py", "from etcdpy.proto import rpc_pb2"),
        ("etcdpy/peer/network.py", "from etcdpy.storage.engine import Engine"),
        ("etcdpy/lease/lessor.py", "from etcdpy.membership.members import Members"),
        ("etcdpy/errors.py", "from etcdpy.raft.entry import Entry"),
        ("etcdpy/server/node.py", "from tests.support.client import Client"),
        ("etcdpy/server/node.py", "import pki.profiles"),
        ("pki/issue.py", "from etcdpy.errors import EtcdError"),
        ("pki/issue.py", "import etcdpy"),
        ("etcdpy/mvcc/store.py", "import plyvel"),
        ("etcdpy/transport/grpc.py", "from grpc import aio"),
        ("etcdpy/attic/old.py", "import os"),
    ],
)
def test_planted_imports_are_found(path: str, text: str) -> None:
    assert len(check_layers(source(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etcdpy/server/node.py", "from etcdpy.raft.node import RawNode\nfrom etcdpy.transport import grpc"),
        ("etcdpy/raft/core.py", "from etcdpy import VERSION\nfrom etcdpy.raft.log import Log\nfrom . import quorum"),
        ("etcdpy/storage/engine.py", "import plyvel\nfrom etcdpy.backend import Backend"),
        ("etcdpy/__main__.py", "from pki.__main__ import main\nfrom etcdpy.server import config"),
    ],
)
def test_downward_imports_pass(path: str, text: str) -> None:
    assert check_layers(source(path, text)) == []
