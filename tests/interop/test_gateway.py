"""The JSON gateway: the same requests to real etcd and to etcdpy, and the same status, headers and bodies from both."""

from __future__ import annotations

import http.client
import json
import re
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.gateway_requests import GROUPS, TOKEN, Asked
from tests.support.members import Member

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPARED = (
    "content-type",
    "grpc-metadata-content-type",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "location",
    "allow",
    "www-authenticate",
)
OF_THE_MEMBER = {
    "cluster_id", "member_id", "raft_term", "dbSize", "dbSizeInUse", "raftIndex", "raftAppliedIndex", "raftTerm",
    "leader", "blob", "remaining_bytes",
}  # fmt: skip
"""Fields whose values differ from one member to the next; that they are there is compared."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Member, Member]]:
    with (
        Member("etcd", tmp_path_factory.mktemp("etcd")) as real,
        Member("etcdpy", tmp_path_factory.mktemp("etcdpy")) as ours,
    ):
        yield real, ours


def ask(member: Member, request: Asked, seconds_max: float = 4) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", member.client_port, timeout=seconds_max)
    with closing(connection):
        connection.request(request.method, request.path, request.body, request.headers)
        try:
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, headers, answer.read()
        except TimeoutError:
            return 0, {}, b"no answer"


def normal(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: normal(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [normal(inner, key) for inner in value]
    if key in OF_THE_MEMBER:
        return type(value).__name__
    if key == "token":
        return "a token"
    if key == "ID" or (key == "hash"):
        return "an id" if not isinstance(value, str) or len(value) > 10 else value
    if key in ("peerURLs", "clientURLs"):
        return re.sub(r"\d+", "", value)
    if value == "stream terminated by RST_STREAM with error code: CANCEL":
        return "context deadline exceeded"  # etcd's gateway may hear first that its own server has given up
    if isinstance(value, str):
        return value.replace("\xa0", " ")  # a build of protojson draws one of the two spaces
    return value


def shown(answer: tuple[int, dict[str, str], bytes]) -> Any:
    """What is compared of an answer: JSON as what it says, since etcd's spaces differ from build to build."""
    status, headers, body = answer
    lines: list[Any] = []
    for line in body.splitlines():
        try:
            lines.append(normal(json.loads(line)))
        except ValueError:
            lines.append(line)
    return status, {name: headers[name] for name in COMPARED if name in headers}, lines


def with_token(request: Asked, token: str) -> Asked:
    headers = {name: value.replace(TOKEN, token) for name, value in request.headers.items()}
    return replace(request, headers=headers)


@pytest.mark.reference
@pytest.mark.parametrize("group", GROUPS)
def test_the_same_answers(pair: tuple[Member, Member], group: str) -> None:
    different = []
    tokens = ["", ""]
    for request in GROUPS[group]:
        answers = [ask(member, with_token(request, token)) for member, token in zip(pair, tokens, strict=True)]
        if request.path.endswith("/authenticate") and answers[0][0] == 200:
            tokens = [json.loads(body).get("token", "") for _, _, body in answers]
        real, ours = map(shown, answers)
        if "/maintenance/snapshot" in request.path and real[0] == 200:
            real, ours = ((*each[:2], sorted(each[2][0]["result"])) for each in (real, ours))
        if real != ours:
            different.append(f"{request}\n  etcd   {real}\n  etcdpy {ours}")
    assert not different, f"{len(different)} of {len(GROUPS[group])}:\n" + "\n".join(different)
