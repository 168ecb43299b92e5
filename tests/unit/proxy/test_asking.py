"""Reads that never go back, whichever member answers."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from etcdpy.client.call import PUT, RANGE, TXN
from etcdpy.errors import StatusError
from etcdpy.proto import rpc_pb2
from etcdpy.proxy.asking import Ordered


class Members:
    """Answers with these revisions, one after the other; the last for ever."""

    endpoints = ("a", "b")

    def __init__(self, *revisions: int) -> None:
        self.revisions = list(revisions)
        self.asked = 0

    async def call(self, method: Any, _request: Any, _caller: Any) -> Any:
        self.asked += 1
        revision = self.revisions.pop(0) if len(self.revisions) > 1 else self.revisions[0]
        return method.answer(header=rpc_pb2.ResponseHeader(revision=revision))


def revisions(members: Members, *methods: Any) -> list[int]:
    async def ask() -> list[int]:
        ordered = Ordered(cast("Any", members), cast("Any", members))
        found = [await ordered.call(method, method.request(), ()) for method in methods]
        return [answer.header.revision for answer in found]

    return asyncio.run(ask())


def test_a_member_that_is_behind_is_passed_over() -> None:
    assert revisions(Members(5, 3, 4, 5, 7), RANGE, RANGE, RANGE) == [5, 5, 7]


def test_when_all_are_behind_the_read_is_refused() -> None:
    members = Members(5, 3)
    with pytest.raises(StatusError, match="no cluster members have a revision higher"):
        revisions(members, RANGE, RANGE)
    assert members.asked == 1 + Ordered.ROUNDS * len(members.endpoints)


def test_what_writes_is_asked_once() -> None:
    members = Members(5, 3)
    assert revisions(members, RANGE, TXN, PUT) == [5, 3, 3]
    assert members.asked == 3
