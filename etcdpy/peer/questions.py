"""What other members ask beside raft: members, versions, leases, hashes, promotion. `client.py` is the asking side."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from google.protobuf.message import DecodeError

from etcdpy import errors, limits
from etcdpy.peer.client import (
    COMPACTED,
    FUTURE_REVISION,
    LEARNER_NOT_READY,
    LEASE_NOT_FOUND,
    LEASE_TIMEOUT,
    MEMBER_NOT_FOUND,
    NOT_A_LEARNER,
    HashOfStore,
)
from etcdpy.peer.handler import not_allowed, refused
from etcdpy.peer.names import CLUSTER_ID_HEADER, CLUSTER_ID_MISMATCH, id_text
from etcdpy.proto import lease_pb2, rpc_pb2
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from etcdpy.wire import read_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger("etcdpy.peer")

_M = TypeVar("_M", rpc_pb2.LeaseKeepAliveRequest, lease_pb2.LeaseInternalRequest)

_JSON: Final = ("Content-Type", "application/json")
_PROTOBUF: Final = ("Content-Type", "application/protobuf")
_PROMOTE: Final = "/members/promote/"
_ID_DIGITS_MAX: Final = 64
"""Of 64 bits twenty digits, and some leading zeros."""


class Answers(Protocol):
    """The member that is asked."""

    def members_json(self) -> bytes:
        """All members as /members shows them."""

    def version_json(self) -> bytes:
        """The versions as /version shows them."""

    async def promote(self, member: int, token: str) -> bytes:
        """Promote a learner, as the leader; the members afterwards, as `members_json`.

        `token` is the asking client's, empty without one. Raises MemberNotFound, MemberNotLearner, LearnerNotReady, or
        another EtcdError.
        """

    async def renew_lease(self, lease: int) -> int:
        """Renew a lease as the leader, with everything applied that was committed when the question came; its TTL.

        Raises LeaseNotFound, TimeoutError when the applied index lags for more than a second, or another EtcdError.
        """

    async def lease_time_to_live(self, lease: int, *, keys: bool) -> rpc_pb2.LeaseTimeToLiveResponse:
        """Tell about a lease as the leader. Raises as `renew_lease`; EtcdError if this member leads no more."""

    async def hash_kv(self, revision: int) -> HashOfStore:
        """The hash of the store at a revision, 0 for the newest. Raises Compacted, FutureRevision."""

    async def downgrade_enabled(self) -> bool:
        """Whether the cluster is being downgraded, asked linearizably. Raises EtcdError."""


class QuestionPaths:
    """All paths of the peer port that are not raft's."""

    def __init__(self, answers: Answers, cluster_id: int) -> None:
        self._answers = answers
        self._cluster_id = id_text(cluster_id)
        self._cluster = (CLUSTER_ID_HEADER, self._cluster_id)
        self._paths: dict[str, tuple[str, Callable[[HttpRequest], Awaitable[HttpResponse]]]] = {
            "/members": ("GET", self._members),
            "/members/hashkv": ("GET", self._hash_kv),
            "/leases": ("POST", self._renew),
            "/leases/internal": ("POST", self._time_to_live),
            "/downgrade/enabled": ("GET", self._downgrade),
            "/version": ("GET", self._version),
        }

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer one request."""
        found = self._paths.get(request.path)
        if found is None and request.path.startswith(_PROMOTE):
            found = "POST", self._promote
        if found is None:
            return refused(404, "404 page not found")
        method, answer = found
        if request.method != method:
            return not_allowed(method)
        if len(request.body) > limits.PEER_REQUEST_BYTES_MAX:
            return refused(413, "request body too large")
        return await answer(request)

    async def _members(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, [self._cluster, _JSON], self._answers.members_json() + b"\n")

    async def _version(self, _request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, [_JSON], self._answers.version_json())

    async def _promote(self, request: HttpRequest) -> HttpResponse:
        name = request.path.removeprefix(_PROMOTE)
        # The length first: Python refuses to make a number of thousands of digits.
        if not (len(name) <= _ID_DIGITS_MAX and name.isascii() and name.isdigit() and int(name) < 1 << 64):
            return refused(404, f"member {name[:64]} not found in cluster", self._cluster)
        try:
            members = await self._answers.promote(int(name), request.headers.get("authorization", ""))
        except errors.EtcdError as error:
            fields = {"member-id": id_text(int(name)), "error": error.message}
            logger.warning("failed to promote a member", extra={"fields": fields})
            return self._promotion_refused(error)
        return HttpResponse(200, [self._cluster, _JSON], members + b"\n")

    def _promotion_refused(self, error: errors.EtcdError) -> HttpResponse:
        if isinstance(error, errors.MemberNotFound):
            return refused(404, MEMBER_NOT_FOUND, self._cluster)
        if isinstance(error, errors.MemberNotLearner):
            return refused(412, NOT_A_LEARNER, self._cluster)
        if isinstance(error, errors.LearnerNotReady):
            return refused(412, LEARNER_NOT_READY, self._cluster)
        body = json.dumps({"message": "Internal Server Error"}).encode()
        return HttpResponse(500, [self._cluster, _JSON], body)

    # --- leases ---

    async def _renew(self, request: HttpRequest) -> HttpResponse:
        try:
            asked = _parsed(rpc_pb2.LeaseKeepAliveRequest, request)
            ttl = await self._answers.renew_lease(asked.ID)
        except (errors.EtcdError, TimeoutError, DecodeError) as error:
            return _lease_refused(error, 400)
        return HttpResponse(200, [_PROTOBUF], rpc_pb2.LeaseKeepAliveResponse(ID=asked.ID, TTL=ttl).SerializeToString())

    async def _time_to_live(self, request: HttpRequest) -> HttpResponse:
        try:
            asked = _parsed(lease_pb2.LeaseInternalRequest, request).LeaseTimeToLiveRequest
            told = await self._answers.lease_time_to_live(asked.ID, keys=asked.keys)
        except (errors.EtcdError, TimeoutError, DecodeError) as error:
            return _lease_refused(error, 500)
        body = lease_pb2.LeaseInternalResponse(LeaseTimeToLiveResponse=told).SerializeToString()
        return HttpResponse(200, [_PROTOBUF], body)

    # --- hashes, downgrade ---

    async def _hash_kv(self, request: HttpRequest) -> HttpResponse:
        theirs = request.headers.get("x-etcd-cluster-id", "")
        if theirs and theirs != self._cluster_id:
            return refused(412, CLUSTER_ID_MISMATCH)
        revision = _revision_asked(request.body)
        if revision is None:
            logger.warning("failed to unmarshal request")
            return refused(400, "error unmarshalling request")
        try:
            told = await self._answers.hash_kv(revision)
        except errors.EtcdError as error:
            text = error.message
            if isinstance(error, errors.Compacted):
                text = COMPACTED
            elif isinstance(error, errors.FutureRevision):
                text = FUTURE_REVISION
            fields = {"requested-revision": revision, "error": text}
            logger.warning("failed to get hashKV", extra={"fields": fields})
            return refused(400, text)
        return HttpResponse(200, [self._cluster, _JSON], _hash_json(told))

    async def _downgrade(self, _request: HttpRequest) -> HttpResponse:
        try:
            enabled = await self._answers.downgrade_enabled()
        except errors.EtcdError as error:
            return refused(500, f"failed linearized read: {error.message}", self._cluster)
        return HttpResponse(200, [self._cluster, ("Content-Type", "text/plain")], b"true" if enabled else b"false")


def _hash_json(told: HashOfStore) -> bytes:
    """As Go writes the message: zeros are left out."""
    value: dict[str, object] = {"header": {"revision": told.revision} if told.revision else {}}
    numbers = {"hash": told.hash, "compact_revision": told.compact_revision, "hash_revision": told.hash_revision}
    value.update({name: number for name, number in numbers.items() if number})
    return json.dumps(value, separators=(",", ":")).encode()


def _revision_asked(body: bytes) -> int | None:
    try:
        asked = read_json(body)
    except ValueError:
        return None
    revision = asked.get("revision", 0) if isinstance(asked, dict) else None
    return revision if isinstance(revision, int) else None


def _lease_refused(error: Exception, other_status: int) -> HttpResponse:
    if isinstance(error, DecodeError):
        return refused(400, "error unmarshalling request")
    if isinstance(error, errors.LeaseNotFound):
        return refused(404, LEASE_NOT_FOUND)
    if isinstance(error, TimeoutError):
        return refused(408, LEASE_TIMEOUT)
    return refused(other_status, str(error))


def _parsed(kind: type[_M], request: HttpRequest) -> _M:
    """The request's message. Raises DecodeError."""
    return kind.FromString(request.body)
