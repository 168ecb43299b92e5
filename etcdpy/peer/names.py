"""What members call each other on the wire: ids in hexadecimal, versions, the headers of every request."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from etcdpy import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

logger = logging.getLogger("etcdpy.peer")

MIN_CLUSTER_VERSION: Final = "3.0.0"
INCOMPATIBLE_VERSION: Final = "incompatible version"
CLUSTER_ID_MISMATCH: Final = "cluster ID mismatch"

CLUSTER_ID_HEADER: Final = "X-Etcd-Cluster-ID"

_VERSION: Final = re.compile(r"(\d{1,9})\.(\d{1,9})\.\d{1,9}(?:[-+].*)?")
_ID: Final = re.compile(r"[0-9a-fA-F]{1,16}")


def id_text(number: int) -> str:
    """A member's or cluster's id as etcd writes it."""
    return f"{number:x}"


def parse_id(text: str) -> int | None:
    """The id in a path or header, or None if it is none."""
    return int(text, 16) if _ID.fullmatch(text) else None


def request_headers(own_id: int, cluster_id: int, local_urls: Sequence[str]) -> list[tuple[str, str]]:
    """What every raft request says about its sender."""
    return [
        ("X-Server-From", id_text(own_id)),
        ("X-Server-Version", VERSION),
        ("X-Min-Cluster-Version", MIN_CLUSTER_VERSION),
        (CLUSTER_ID_HEADER, id_text(cluster_id)),
        ("X-PeerURLs", ",".join(local_urls)),
    ]


def sender_refusal(headers: Mapping[str, str], own_id: int, cluster_id: int) -> str:
    """Why a raft request with these headers (lower-case names) is not for us, logged; empty if it is."""
    server = headers.get("x-server-version") or "2.0.0"
    lowest = headers.get("x-min-cluster-version") or "2.0.0"
    name = headers.get("x-server-from", "")
    fields: dict[str, object] = {
        "local-member-id": id_text(own_id),
        "local-member-cluster-id": id_text(cluster_id),
        "local-member-server-version": VERSION,
        "local-member-server-minimum-cluster-version": MIN_CLUSTER_VERSION,
        "remote-peer-server-name": name[:64],
        "remote-peer-server-version": server[:64],
        "remote-peer-server-minimum-cluster-version": lowest[:64],
    }
    error = _version_error(name[:64], server[:64], lowest[:64])
    if error:
        logger.warning("failed version compatibility check", extra={"fields": {**fields, "error": error}})
        return INCOMPATIBLE_VERSION
    theirs = headers.get("x-etcd-cluster-id", "")
    if theirs != id_text(cluster_id):
        shown = {**fields, "remote-peer-cluster-id": theirs[:64]}
        logger.warning("request cluster ID mismatch", extra={"fields": shown})
        return CLUSTER_ID_MISMATCH
    return ""


def minor_version(text: str) -> tuple[int, int] | None:
    """Major and minor number of a version, or None if it is none."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def _version_error(name: str, server: str, lowest: str) -> str:
    theirs, their_lowest = minor_version(server), minor_version(lowest)
    ours, our_lowest = minor_version(VERSION), minor_version(MIN_CLUSTER_VERSION)
    assert ours is not None
    assert our_lowest is not None
    if theirs is None or their_lowest is None:
        return f"remote version cannot be read: remote[{name}]={server}, local={VERSION}"
    if theirs < our_lowest:
        return f"remote version is too low: remote[{name}]={server}, local={VERSION}"
    if their_lowest > ours:
        return f"local version is too low: remote[{name}]={server}, local={VERSION}"
    return ""
