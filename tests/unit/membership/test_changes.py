"""How changes of members are written, judged and carried out."""

from __future__ import annotations

import json

import pytest

from etcdpy.errors import (
    EtcdError,
    MemberBadUrls,
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    PeerUrlExists,
    TooManyLearners,
)
from etcdpy.membership import changes
from etcdpy.membership.member import Member, member_id
from etcdpy.membership.members import Membership
from etcdpy.membership.urls import parse_peer_urls
from etcdpy.proto import raft_pb2
from tests.support.memory_backend import MemoryBackend

VOTER = Member(1, ("http://a:1",), "a", ("http://a:2",))
LEARNER = Member(2, ("http://b:1",), is_learner=True)


class Watching:
    """A MembershipObserver that keeps what it was told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def member_added(self, member: Member) -> None:
        self.seen.append(("added", member))

    def member_updated(self, member: Member) -> None:
        self.seen.append(("updated", member))

    def member_removed(self, identity: int) -> None:
        self.seen.append(("removed", identity))


@pytest.fixture
def membership() -> Membership:
    """Voter 1, learner 2, and 3, which was removed."""
    made = Membership(MemoryBackend(), max_learners=1)
    made.found(7, 1)
    for member in (VOTER, LEARNER, Member(3, ("http://c:1",))):
        made.apply(changes.addition(member))
    made.apply(changes.removal(3))
    return made


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (changes.addition(Member(4, ("http://d:1",))), None),
        (changes.addition(Member(1, ("http://d:1",))), MemberExists),
        (changes.addition(Member(2, ("http://d:1",), is_learner=True)), MemberExists),
        (changes.addition(Member(3, ("http://d:1",))), MemberNotFound),
        (changes.addition(Member(4, ("http://d:1", "http://b:1"))), PeerUrlExists),
        (changes.addition(Member(4, ("http://d:1",), is_learner=True)), TooManyLearners),
        (changes.promotion(2), None),
        (changes.promotion(1), MemberNotLearner),
        (changes.promotion(4), MemberNotFound),
        (changes.promotion(3), MemberNotFound),
        (changes.removal(1), None),
        (changes.removal(3), MemberNotFound),
        (changes.removal(4), MemberNotFound),
        (changes.update(2, ["http://d:1"]), None),
        (changes.update(2, ["http://b:1"]), None),
        (changes.update(2, ["http://a:1"]), PeerUrlExists),
        (changes.update(4, ["http://d:1"]), MemberNotFound),
        (changes.update(3, ["http://d:1"]), MemberNotFound),
    ],
)
def test_a_change_is_judged_where_it_is_applied(
    membership: Membership, change: raft_pb2.ConfChange, error: type[EtcdError] | None
) -> None:
    before = membership.members
    if error is None:
        membership.check(change)
    else:
        with pytest.raises(error):
            membership.check(change)
    assert membership.members == before


def test_changes_are_carried_out_stored_and_told() -> None:
    backend = MemoryBackend()
    membership = Membership(backend)
    membership.observer = watching = Watching()
    voter = Member(2, ("http://b:1",))
    for change in (
        changes.addition(VOTER),
        changes.addition(LEARNER),
        changes.promotion(2),
        changes.update(1, ["http://x:1", "http://y:1"]),
        changes.removal(2),
    ):
        membership.check(change)
        membership.apply(change)
    moved = Member(1, ("http://x:1", "http://y:1"), "a", ("http://a:2",))
    assert watching.seen == [
        ("added", VOTER),
        ("added", LEARNER),
        ("updated", voter),
        ("updated", moved),
        ("removed", 2),
    ]
    restored = Membership(backend)
    restored.restore()
    assert restored.members == membership.members == [moved]
    assert restored.removed == [2]
    assert restored.is_removed(2)


def test_an_update_leaves_a_learner_a_learner(membership: Membership) -> None:
    """Upstream lost that flag for a while (issue 21694)."""
    membership.apply(changes.update(2, ["http://d:1"]))
    assert membership.get(2) == Member(2, ("http://d:1",), is_learner=True)


def test_what_others_told_is_shown_until_the_log_brings_it() -> None:
    membership = Membership(MemoryBackend())
    membership.expect([VOTER, LEARNER])
    assert membership.members == [VOTER, LEARNER]
    assert membership.get(2) == LEARNER
    membership.check(changes.addition(VOTER))
    membership.apply(changes.addition(Member(1, ("http://a:1",))))
    assert membership.members == [Member(1, ("http://a:1",)), LEARNER]


def test_contexts_are_etcds_json() -> None:
    assert changes.addition(LEARNER).context == b'{"id":2,"peerURLs":["http://b:1"],"isLearner":true}'
    assert changes.addition(LEARNER).type == raft_pb2.ConfChangeAddLearnerNode
    assert changes.addition(VOTER).context == (
        b'{"id":1,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]}'
    )
    assert json.loads(changes.promotion(2).context) == {"id": 2, "peerURLs": None, "isPromote": True}
    assert changes.promotion(2).type == raft_pb2.ConfChangeAddNode
    assert changes.is_promotion(changes.promotion(2))
    assert not changes.is_promotion(changes.addition(VOTER))


def test_contexts_as_etcd_writes_them_are_read() -> None:
    context = b'{"id":2,"peerURLs":null,"isPromote":true}'
    assert Member.from_context(context) == Member(2, ())
    context = b'{"id":9372538179322589801,"peerURLs":["http://10.0.0.1:2380"],"name":"m","isPromote":false}'
    assert Member.from_context(context) == Member(9372538179322589801, ("http://10.0.0.1:2380",), "m")


def test_the_peer_port_shows_members_as_etcd_does() -> None:
    membership = Membership(MemoryBackend())
    membership.apply(changes.addition(LEARNER))
    membership.apply(changes.addition(VOTER))
    assert membership.to_json() == (
        b'[{"id":1,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]},'
        b'{"id":2,"peerURLs":["http://b:1"],"isLearner":true}]\n'
    )


def test_a_member_that_is_added_later_gets_its_id_from_the_second() -> None:
    """The first 8 bytes of SHA-1 over `http://10.0.0.10:23801700000000`, by etcd's rule."""
    urls = ["http://10.0.0.10:2380"]
    assert member_id(urls, "", 1_700_000_000) == 0xF79E290E0E3809A5
    assert member_id(urls, "", 1_700_000_000) != member_id(urls, "", 1_700_000_001)
    assert member_id(urls, "", 1_700_000_000) == member_id(urls, "1700000000")


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [""],
        ["a:2380"],
        ["http://a"],
        ["http://a:2380/"],
        ["http://a:2380/path"],
        ["http://a:x"],
        ["http://:1:2"],
        ["ftp://a:1"],
        ["http://a b:1"],
        ["http://a:1\n\x7f"],
        ["http:a:1"],
    ],
)
def test_what_is_no_peer_url(texts: list[str]) -> None:
    with pytest.raises(MemberBadUrls):
        parse_peer_urls(texts)


def test_peer_urls_are_tidied() -> None:
    texts = [" https://b:2380", "HTTP://a:2380", "http://[::1]:2380", "unix://sock", "http://:2380"]
    assert parse_peer_urls(texts) == (
        "http://:2380",
        "http://[::1]:2380",
        "http://a:2380",
        "https://b:2380",
        "unix://sock",
    )
