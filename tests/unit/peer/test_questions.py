"""What strangers may ask on the peer port beside raft."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import pytest

from etcdpy.peer.questions import QuestionPaths
from etcdpy.transport.calls import Peer
from etcdpy.transport.exchange import HttpRequest, HttpResponse
from tests.support.peers import Behind

if TYPE_CHECKING:
    from etcdpy.peer.questions import Answers


def ask(method: str, path: str, body: bytes = b"") -> HttpResponse:
    request = HttpRequest(
        method=method, path=path, query="", headers={}, body=body, peer=Peer("h:1"), secure=False, host="h", version=""
    )
    paths = QuestionPaths(cast("Answers", Behind()), 0xC1)
    return asyncio.run(cast("asyncio.Future[HttpResponse]", paths.handle(request)))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["9" * 6000, "9" * 30, "\u00b2", "", "-1", "1 "])
def test_a_name_that_is_no_member(name: str) -> None:
    """Found by tests/fuzz: Python makes no number of more than 4,300 digits."""
    assert ask("POST", f"/members/promote/{name}").status == 404


@pytest.mark.parametrize(
    "body", [b"[" * 50_000, b'{"a":' * 10_000, b'{"revision":' + b"9" * 5000 + b"}", b"[1]", b"\xff"]
)
def test_json_that_is_no_question(body: bytes) -> None:
    """Found by tests/fuzz: json gives up on brackets inside brackets with a RecursionError."""
    assert ask("GET", "/members/hashkv", body).status == 400
