"""The members once more, as the tree of etcd's old "v2 store": what raft's Snapshot carries as `data` beside the file.

etcd 3.7 fills it and never reads it. 3.6 reads it when it installs a snapshot and at its next start, and panics when it
is no such JSON, so a cluster that is half upgraded, or downgraded later, needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.interchange import schema
from etcdpy.interchange.export import members_of, removed_members_of
from etcdpy.membership import members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from etcdpy.interchange.export import View

_NEVER: Final = "0001-01-01T00:00:00Z"
_TREE_VERSION: Final = 2


def member_tree(view: View) -> bytes:
    """Members, removed members and the cluster's version, for `Snapshot.data`."""
    present = {f"{member.id:x}": _member(member) for member in members_of(view)}
    removed = {f"{each:x}": _leaf(f"/0/removed_members/{each:x}", "") for each in removed_members_of(view)}
    cluster = {"members": _directory("/0/members", present)}
    if removed:
        cluster["removed_members"] = _directory("/0/removed_members", removed)
    version = view.get(members.CLUSTER_VERSION)
    if version:
        cluster["version"] = _leaf("/0/version", version.decode())
    root = _directory("/", {"0": _directory("/0", cluster), "1": _directory("/1", {})})
    return schema.to_json({"Root": root, "CurrentIndex": 1, "CurrentVersion": _TREE_VERSION}).encode()


def _member(member: members.Member) -> dict[str, object]:
    """What the group decided on, and what the member says of itself once it has started."""
    path = f"/0/members/{member.id:x}"
    fields = member.to_fields()
    parts = {"raftAttributes": {"peerURLs", "isLearner"}}
    if member.client_urls:
        parts["attributes"] = {"name", "clientURLs"}
    children = {
        part: _leaf(f"{path}/{part}", schema.to_json({name: fields[name] for name in fields if name in names}))
        for part, names in parts.items()
    }
    return _directory(path, children)


def _leaf(path: str, value: str) -> dict[str, object]:
    return _node(path, value, None)


def _directory(path: str, children: Mapping[str, object]) -> dict[str, object]:
    return _node(path, "", children)


def _node(path: str, value: str, children: Mapping[str, object] | None) -> dict[str, object]:
    return {
        "Path": path,
        "CreatedIndex": 1,
        "ModifiedIndex": 1,
        "ExpireTime": _NEVER,
        "Value": value,
        "Children": children,
    }
