"""Changes of members, of the leader and of the version, on one member: what is refused, with which code and text.

Other members are added and never started, so whatever would need their vote is left out or removed in time.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

import pytest

from etcdpy.proto import rpc_pb2
from tests.support.client import Client, Refusal, outcome, refusal
from tests.support.members import Kind, Member

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNKNOWN: Final = 0x1234
_ports = itertools.count(23100)

BAD_URLS = Refusal("InvalidArgument", "etcdserver: given member URLs are invalid")
NOT_FOUND = Refusal("NotFound", "etcdserver: member not found")
URL_EXISTS = Refusal("FailedPrecondition", "etcdserver: Peer URLs already exists")
NOT_ENOUGH = Refusal("Unknown", "etcdserver: re-configuration failed due to not enough started members")
BAD_TARGET = Refusal("InvalidArgument", "etcdserver: invalid downgrade target version")
BAD_FORMAT = Refusal("InvalidArgument", "etcdserver: wrong downgrade target version format")
IN_PROGRESS = Refusal("FailedPrecondition", "etcdserver: cluster has a downgrade job in progress")
BAD_TRANSFEREE = Refusal("FailedPrecondition", "etcdserver: bad leader transferee")


def url() -> str:
    """A peer URL that nobody listens on."""
    return f"http://127.0.0.1:{next(_ports)}"


def own_id(client: Client) -> int:
    return client.cluster.MemberList(rpc_pb2.MemberListRequest()).header.member_id


@pytest.fixture
def learner(client: Client) -> Iterator[rpc_pb2.Member]:
    """A learner that never starts, and that is gone afterwards."""
    added = client.cluster.MemberAdd(rpc_pb2.MemberAddRequest(peerURLs=[url()], isLearner=True))
    yield added.member
    outcome(client.cluster.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=added.member.ID))


@pytest.mark.parametrize(
    "urls",
    [
        [],
        [""],
        ["nonsense"],
        ["ftp://127.0.0.1:2380"],
        ["127.0.0.1:2380"],
        ["http://127.0.0.1"],
        ["http://127.0.0.1:2380/path"],
        ["http://127.0.0.1:port"],
        ["http://127.0.0.1:2380", "http://b"],
    ],
)
def test_bad_urls_are_refused(client: Client, urls: list[str]) -> None:
    assert refusal(client.cluster.MemberAdd, rpc_pb2.MemberAddRequest(peerURLs=urls)) == BAD_URLS


def test_a_learner_comes_and_goes(client: Client) -> None:
    address = url()
    added = client.cluster.MemberAdd(rpc_pb2.MemberAddRequest(peerURLs=[f" {address} "], isLearner=True))
    assert list(added.member.peerURLs) == [address]
    assert added.member.isLearner
    assert (added.member.name, list(added.member.clientURLs)) == ("", [])
    assert added.header.revision == 0
    assert [member.ID for member in added.members] == sorted(member.ID for member in added.members)
    assert added.member in added.members
    listed = client.cluster.MemberList(rpc_pb2.MemberListRequest(linearizable=True))
    assert listed.members == added.members

    removed = client.cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=added.member.ID))
    assert [member.ID for member in removed.members] == [own_id(client)]
    assert removed.header.revision == 0
    assert refusal(client.cluster.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=added.member.ID)) == NOT_FOUND
    assert refusal(client.cluster.MemberPromote, rpc_pb2.MemberPromoteRequest(ID=added.member.ID)) == NOT_FOUND


def test_several_urls_are_kept_sorted(client: Client) -> None:
    first, second = url(), url()
    added = client.cluster.MemberAdd(rpc_pb2.MemberAddRequest(peerURLs=[second, first], isLearner=True))
    assert list(added.member.peerURLs) == [first, second]
    client.cluster.MemberRemove(rpc_pb2.MemberRemoveRequest(ID=added.member.ID))


def test_a_url_belongs_to_one_member(client: Client, member: Member, learner: rpc_pb2.Member) -> None:
    for taken in (f"http://127.0.0.1:{member.peer_port}", learner.peerURLs[0]):
        request = rpc_pb2.MemberAddRequest(peerURLs=[url(), taken], isLearner=True)
        assert refusal(client.cluster.MemberAdd, request) == URL_EXISTS
    update = rpc_pb2.MemberUpdateRequest(ID=own_id(client), peerURLs=list(learner.peerURLs))
    assert refusal(client.cluster.MemberUpdate, update) == URL_EXISTS


def test_learners_are_few(client: Client, learner: rpc_pb2.Member) -> None:
    request = rpc_pb2.MemberAddRequest(peerURLs=[url()], isLearner=True)
    assert refusal(client.cluster.MemberAdd, request) == Refusal(
        "FailedPrecondition", "etcdserver: too many learner members in cluster"
    )


def test_only_a_learner_that_keeps_up_is_promoted(client: Client, learner: rpc_pb2.Member) -> None:
    promote = client.cluster.MemberPromote
    assert refusal(promote, rpc_pb2.MemberPromoteRequest(ID=learner.ID)) == Refusal(
        "FailedPrecondition", "etcdserver: can only promote a learner member which is in sync with leader"
    )
    assert refusal(promote, rpc_pb2.MemberPromoteRequest(ID=own_id(client))) == Refusal(
        "FailedPrecondition", "etcdserver: can only promote a learner member"
    )
    assert refusal(promote, rpc_pb2.MemberPromoteRequest(ID=UNKNOWN)) == NOT_FOUND


def test_unknown_members(client: Client) -> None:
    # Removing one that is not there would leave one started voter of one; so it gets as far as the log.
    assert refusal(client.cluster.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=UNKNOWN)) == NOT_FOUND
    update = rpc_pb2.MemberUpdateRequest(ID=UNKNOWN, peerURLs=[url()])
    assert refusal(client.cluster.MemberUpdate, update) == NOT_FOUND


def test_the_last_member_stays(client: Client) -> None:
    request = rpc_pb2.MemberRemoveRequest(ID=own_id(client))
    assert refusal(client.cluster.MemberRemove, request) == NOT_ENOUGH


def test_update_changes_the_urls_and_nothing_else(client: Client, learner: rpc_pb2.Member) -> None:
    address = url()
    updated = client.cluster.MemberUpdate(rpc_pb2.MemberUpdateRequest(ID=learner.ID, peerURLs=[address]))
    (changed,) = [member for member in updated.members if member.ID == learner.ID]
    assert list(changed.peerURLs) == [address]
    assert changed.isLearner
    own = next(each for each in updated.members if each.ID == own_id(client))
    assert (own.name, own.isLearner) == ("m1", False)


def test_who_may_lead(client: Client, learner: rpc_pb2.Member) -> None:
    move = client.maintenance.MoveLeader
    assert refusal(move, rpc_pb2.MoveLeaderRequest(targetID=UNKNOWN)) == BAD_TRANSFEREE
    assert refusal(move, rpc_pb2.MoveLeaderRequest(targetID=learner.ID)) == BAD_TRANSFEREE
    assert refusal(move, rpc_pb2.MoveLeaderRequest()) == BAD_TRANSFEREE
    answer = move(rpc_pb2.MoveLeaderRequest(targetID=own_id(client)))
    assert not answer.HasField("header")


def test_a_second_voter_may_join_a_lone_member(kind: Kind, tmp_path: Path) -> None:
    """It then takes both to change anything, so this member is of no use to other tests."""
    with Member(kind, tmp_path) as member, Client.of(member) as client:
        added = client.cluster.MemberAdd(rpc_pb2.MemberAddRequest(peerURLs=[url()]))
        assert not added.member.isLearner
        assert len(added.members) == 2
        assert len(client.cluster.MemberList(rpc_pb2.MemberListRequest()).members) == 2
        request = rpc_pb2.MemberAddRequest(peerURLs=[url()])
        assert refusal(client.cluster.MemberAdd, request) == NOT_ENOUGH
        request = rpc_pb2.MemberAddRequest(peerURLs=[url()], isLearner=True)
        refused = refusal(client.cluster.MemberAdd, request)
        assert refused == Refusal("Unavailable", "etcdserver: unhealthy cluster")
        own = next(each.ID for each in added.members if each.name)
        assert refusal(client.cluster.MemberRemove, rpc_pb2.MemberRemoveRequest(ID=own)) == NOT_ENOUGH


@pytest.mark.parametrize("target", ["", "3", "v3.6", "3.6.", "three", "3.6-rc", "3..6"])
def test_a_target_must_be_a_version(client: Client, target: str) -> None:
    for action in (rpc_pb2.DowngradeRequest.VALIDATE, rpc_pb2.DowngradeRequest.ENABLE):
        request = rpc_pb2.DowngradeRequest(action=action, version=target)
        assert refusal(client.maintenance.Downgrade, request) == BAD_FORMAT


@pytest.mark.parametrize("target", ["3.5", "3.7", "3.7.0", "3.8", "2.6", "4.6", "0.0"])
def test_only_one_step_down_is_allowed(client: Client, target: str) -> None:
    for action in (rpc_pb2.DowngradeRequest.VALIDATE, rpc_pb2.DowngradeRequest.ENABLE):
        request = rpc_pb2.DowngradeRequest(action=action, version=target)
        assert refusal(client.maintenance.Downgrade, request) == BAD_TARGET


@pytest.mark.parametrize("target", ["3.6", "3.6.0", "3.6.9", "3.6.0-rc.1"])
def test_one_step_down_is_valid(client: Client, target: str) -> None:
    request = rpc_pb2.DowngradeRequest(action=rpc_pb2.DowngradeRequest.VALIDATE, version=target)
    assert client.maintenance.Downgrade(request).version == "3.7"


def test_an_action_must_be_known(client: Client) -> None:
    request = rpc_pb2.DowngradeRequest.FromString(b"\x08\x07\x12\x033.6")
    assert refusal(client.maintenance.Downgrade, request) == Refusal("Unknown", "etcdserver: unknown method")


def test_a_cancel_without_a_job_is_no_error(client: Client) -> None:
    """A surprise of etcd 3.7: it only logs that there was nothing to cancel."""
    request = rpc_pb2.DowngradeRequest(action=rpc_pb2.DowngradeRequest.CANCEL)
    answer = client.maintenance.Downgrade(request)
    assert answer.version == "3.7"
    assert answer.header.member_id == own_id(client)


def test_a_downgrade_is_enabled_seen_and_cancelled(kind: Kind, tmp_path: Path) -> None:
    """The cluster goes down to the target's version within some seconds, and up again after the cancellation."""
    actions = rpc_pb2.DowngradeRequest
    with Member(kind, tmp_path) as member, Client.of(member) as client:
        downgrade, status = client.maintenance.Downgrade, client.maintenance.Status
        before = status(rpc_pb2.StatusRequest()).downgradeInfo
        assert (before.enabled, before.targetVersion) == (False, "")
        downgrade(actions(action=actions.ENABLE, version="3.6"))
        during = status(rpc_pb2.StatusRequest()).downgradeInfo
        assert (during.enabled, during.targetVersion) == (True, "3.6.0")
        assert wait_for_version(member, "3.6.0") == "3.6.0"
        wait_for_storage_version(client, "3.6.0")
        # From 3.6 the only way down would be 3.5, and that is checked first.
        again = actions(action=actions.ENABLE, version="3.6")
        assert refusal(downgrade, again) == BAD_TARGET
        assert refusal(downgrade, actions(action=actions.ENABLE, version="3.5")) == IN_PROGRESS
        member.kill()
        member.start()
        kept = status(rpc_pb2.StatusRequest(), wait_for_ready=True, timeout=10).downgradeInfo
        assert (kept.enabled, kept.targetVersion) == (True, "3.6.0")
        assert downgrade(actions(action=actions.CANCEL), wait_for_ready=True, timeout=10).version == "3.6"
        after = status(rpc_pb2.StatusRequest()).downgradeInfo
        assert (after.enabled, after.targetVersion) == (False, "")
        assert wait_for_version(member, "3.7.0") == "3.7.0"
        wait_for_storage_version(client, "3.7.0")


def wait_for_version(member: Member, wanted: str) -> str:
    """The cluster version that /version shows, once it is the wanted one or 12 s are over."""
    return _wait(lambda: str(member.http("GET", "/version").json()["etcdcluster"]), wanted)


def wait_for_storage_version(client: Client, wanted: str) -> None:
    assert _wait(lambda: client.maintenance.Status(rpc_pb2.StatusRequest()).storageVersion, wanted) == wanted


def _wait(read: object, wanted: str) -> str:
    assert callable(read)
    until = time.monotonic() + 12
    while (seen := str(read())) != wanted and time.monotonic() < until:
        time.sleep(0.1)
    return seen
