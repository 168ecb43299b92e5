"""What members ask each other beside raft's messages: who belongs, versions, leases, hashes, promotion.

    async with connections(tls) as opened:
        found = await get_members(opened, urls)

Each function asks one URL, or several in turn, and raises PeerUnreachable when nobody gave an answer that makes sense.
What the other member refuses is raised as the error of `etcdpy.errors` that a client would get.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from etcdpy import errors, limits
from etcdpy.peer.connections import Answer, Connections, PeerUnreachable, connections
from etcdpy.peer.names import CLUSTER_ID_HEADER, CLUSTER_ID_MISMATCH, id_text, parse_id
from etcdpy.proto import lease_pb2, rpc_pb2
from etcdpy.wire import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Connections",
    "HashOfStore",
    "PeerUnreachable",
    "RemoteMember",
    "RemoteMembers",
    "RemoteVersions",
    "connections",
    "downgrade_enabled",
    "get_members",
    "get_version",
    "hash_kv",
    "lease_time_to_live",
    "promote",
    "renew_lease",
]

logger = logging.getLogger("etcdpy.peer")

MEMBERS_SECONDS: Final = 10.0
_PROTOBUF: Final = ("Content-Type", "application/protobuf")
_JSON: Final = ("Content-Type", "application/json")

LEARNER_NOT_READY: Final = errors.LearnerNotReady.message
NOT_A_LEARNER: Final = "membership: can only promote a learner member"
MEMBER_NOT_FOUND: Final = "membership: ID not found"
LEASE_NOT_FOUND: Final = "lease not found"
LEASE_TIMEOUT: Final = "waiting for node to catch up its applied index has timed out"
COMPACTED: Final = "mvcc: required revision has been compacted"
FUTURE_REVISION: Final = "mvcc: required revision is a future revision"


@dataclass(frozen=True, slots=True)
class RemoteMember:
    """A member as another one knows it."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True, slots=True)
class RemoteMembers:
    """The answer of /members."""

    cluster_id: int
    members: tuple[RemoteMember, ...]


@dataclass(frozen=True, slots=True)
class RemoteVersions:
    """The answer of /version. `cluster` is `not_decided` before the first election; old members tell no `storage`."""

    server: str
    cluster: str
    storage: str


@dataclass(frozen=True, slots=True)
class HashOfStore:
    """The answer of /members/hashkv. `revision` is the member's own at that moment."""

    hash: int
    hash_revision: int
    compact_revision: int
    revision: int


async def get_members(
    connections: Connections, urls: Sequence[str], *, seconds: float = MEMBERS_SECONDS, log: bool = True
) -> RemoteMembers:
    """The members as the first of `urls` that answers knows them."""
    for url in urls:
        address = f"{url}/members"
        try:
            answer = await connections.request("GET", url, "/members", seconds=seconds)
            found = _members(_json(answer))
        except PeerUnreachable as error:
            if log:
                fields = {"address": address, "error": str(error)}
                logger.warning("failed to get cluster response", extra={"fields": fields})
            continue
        cluster_id = parse_id(answer.headers.get(CLUSTER_ID_HEADER.lower(), ""))
        if cluster_id is None:
            if log:
                logger.warning("failed to parse cluster ID", extra={"fields": {"address": address}})
            continue
        if not found:
            raise PeerUnreachable("failed to get raft cluster member(s) from the given URLs")
        return RemoteMembers(cluster_id, found)
    raise PeerUnreachable("could not retrieve cluster information from the given URLs")


async def get_version(connections: Connections, url: str, *, seconds: float) -> RemoteVersions:
    """The versions of the member at `url`."""
    told = _object(_json(await connections.request("GET", url, "/version", seconds=seconds)))
    return RemoteVersions(
        str(told.get("etcdserver", "")), str(told.get("etcdcluster", "")), str(told.get("storage", ""))
    )


async def promote(
    connections: Connections, urls: Sequence[str], member: int, *, token: str = "", seconds: float
) -> tuple[RemoteMember, ...]:
    """Have the leader at `urls` promote a learner; the members afterwards. `token` is the caller's, for its check.

    Raises MemberNotFound, MemberNotLearner, LearnerNotReady, Timeout.
    """
    headers = [("Authorization", token)] if token else []
    path = f"/members/promote/{member}"
    answer = await _first(connections, urls, "POST", path, headers, seconds=seconds, again=False)
    if answer.status == 404:
        raise errors.MemberNotFound
    if answer.status == 408:
        raise errors.Timeout
    if answer.status == 412 and LEARNER_NOT_READY in answer.text:
        raise errors.LearnerNotReady
    if answer.status == 412 and NOT_A_LEARNER in answer.text:
        raise errors.MemberNotLearner
    if answer.status != 200:
        raise PeerUnreachable(f"member promote: unknown error({answer.text})")
    return _members(_json(answer))


async def renew_lease(connections: Connections, url: str, lease: int, *, seconds: float) -> int:
    """Have the leader renew a lease; its TTL in seconds. Raises LeaseNotFound, TimeoutError (the leader lags)."""
    request = rpc_pb2.LeaseKeepAliveRequest(ID=lease).SerializeToString()
    answer = await connections.request("POST", url, "/leases", [_PROTOBUF], request, seconds=seconds)
    _check_lease_answer(answer)
    try:
        told = rpc_pb2.LeaseKeepAliveResponse.FromString(answer.body)
    except DecodeError as error:
        raise PeerUnreachable(f"lease: {error}") from error
    if lease != told.ID:
        raise PeerUnreachable("lease: renew id mismatch")
    return told.TTL


async def lease_time_to_live(
    connections: Connections, url: str, lease: int, *, keys: bool, seconds: float
) -> rpc_pb2.LeaseTimeToLiveResponse:
    """Ask the leader about a lease. Raises LeaseNotFound, TimeoutError (the leader lags)."""
    question = rpc_pb2.LeaseTimeToLiveRequest(ID=lease, keys=keys)
    request = lease_pb2.LeaseInternalRequest(LeaseTimeToLiveRequest=question).SerializeToString()
    answer = await connections.request("POST", url, "/leases/internal", [_PROTOBUF], request, seconds=seconds)
    _check_lease_answer(answer)
    try:
        told = lease_pb2.LeaseInternalResponse.FromString(answer.body).LeaseTimeToLiveResponse
    except DecodeError as error:
        raise PeerUnreachable(f"lease: {error}") from error
    if lease != told.ID:
        raise PeerUnreachable("lease: TTL id mismatch")
    return told


def _check_lease_answer(answer: Answer) -> None:
    if answer.status == 408:
        raise TimeoutError(LEASE_TIMEOUT)
    if answer.status == 404:
        raise errors.LeaseNotFound
    if answer.status != 200:
        raise PeerUnreachable(f"lease: unknown error({answer.text})")


async def hash_kv(connections: Connections, url: str, revision: int, *, cluster_id: int, seconds: float) -> HashOfStore:
    """The hash of a member's store at a revision. Raises Compacted, FutureRevision, ClusterIdMismatch."""
    headers = [_JSON, (CLUSTER_ID_HEADER, id_text(cluster_id))]
    body = json.dumps({"revision": revision} if revision else {}).encode()
    answer = await connections.request("GET", url, "/members/hashkv", headers, body, seconds=seconds)
    if answer.status == 400 and COMPACTED in answer.text:
        raise errors.Compacted
    if answer.status == 400 and FUTURE_REVISION in answer.text:
        raise errors.FutureRevision
    if answer.status == 412 and CLUSTER_ID_MISMATCH in answer.text:
        raise errors.ClusterIdMismatch
    if answer.status != 200:
        raise PeerUnreachable(f"unknown error: {answer.text}")
    told = _object(_json(answer))
    header = told.get("header")
    return HashOfStore(
        _number(told, "hash"),
        _number(told, "hash_revision"),
        _number(told, "compact_revision"),
        _number(header, "revision") if isinstance(header, dict) else 0,
    )


async def downgrade_enabled(connections: Connections, url: str, *, seconds: float) -> bool:
    """Whether the cluster is being downgraded, as the member at `url` knows after asking the leader."""
    answer = await connections.request("GET", url, "/downgrade/enabled", seconds=seconds)
    if answer.text not in ("true", "false"):
        raise PeerUnreachable(f"failed to convert response {answer.text[:64]!r}")
    return answer.text == "true"


async def _first(
    connections: Connections,
    urls: Sequence[str],
    method: str,
    path: str,
    headers: Sequence[tuple[str, str]],
    *,
    seconds: float,
    again: bool,
) -> Answer:
    """The answer of the first URL that gives one."""
    failure = PeerUnreachable("no URL is known")
    for url in urls:
        try:
            return await connections.request(method, url, path, headers, seconds=seconds, again=again)
        except PeerUnreachable as error:
            failure = error
    raise failure


def _json(answer: Answer) -> object:
    if answer.status != 200:
        raise PeerUnreachable(f"unexpected status {answer.status}: {answer.text[: limits.LOG_BYTES_FIELD_MAX]}")
    try:
        return read_json(answer.body)
    except ValueError as error:
        raise PeerUnreachable(f"the answer is no JSON: {error}") from error


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PeerUnreachable("the answer is no JSON object")
    return value


def _number(value: dict[str, Any], name: str) -> int:
    number = value.get(name, 0)
    if not isinstance(number, int):
        raise PeerUnreachable(f"{name} in the answer is no number")
    return number


def _members(value: object) -> tuple[RemoteMember, ...]:
    if not isinstance(value, list):
        raise PeerUnreachable("the answer is no list of members")
    return tuple(_member(_object(item)) for item in value)


def _member(value: dict[str, Any]) -> RemoteMember:
    return RemoteMember(
        _number(value, "id"),
        str(value.get("name", "")),
        _texts(value.get("peerURLs")),
        _texts(value.get("clientURLs")),
        value.get("isLearner") is True,
    )


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
