"""Applying entries: order, answers, refusals, alarms, and what is replayed after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.apply.alarms import AlarmStore
from etcdpy.apply.applier import Applier
from etcdpy.apply.entry_data import EntryEncoder, signed, stamp_of
from etcdpy.apply.plain_put import read_put
from etcdpy.apply.proposal import Proposal
from etcdpy.apply.quota import Quota
from etcdpy.auth.identity import NOBODY, Identity
from etcdpy.auth.store import AuthStore
from etcdpy.auth.tokens import SimpleTokens
from etcdpy.errors import (
    AuthOldRevision,
    Compacted,
    Corrupt,
    EtcdError,
    LeaseNotFound,
    MemberNotFound,
    NoSpace,
    PermissionDenied,
    UserEmpty,
)
from etcdpy.lease.lessor import Lessor
from etcdpy.membership.members import Member, Membership
from etcdpy.membership.versions import DowngradeInfo
from etcdpy.mvcc.store import Store
from etcdpy.proto import auth_pb2, kv_pb2, membership_pb2, raft_internal_pb2, raft_pb2, rpc_pb2
from etcdpy.raft.entry import Entry, EntryType
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from etcdpy.apply.proposal import Outcome

ENCODER = EntryEncoder(1_795_000_000_000)


class Recorded(Proposal):
    """A proposal that remembers what became of it."""

    __slots__ = ("outcome", "refusals")

    def __init__(self, kind: str, request: Message) -> None:
        self.kind = kind
        self.signer = NOBODY
        body = request.SerializeToString()
        self.request = read_put(body) if kind == "put" else request
        self.data = ENCODER.encode(kind, body)
        self.outcome: Outcome | None = None
        self.refusals: list[type[EtcdError]] = []

    def answer(self, outcome: Outcome) -> None:
        self.outcome = outcome

    def refuse(self, error: EtcdError) -> None:
        self.refusals.append(type(error))


class World:
    """A member's state without a disk."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.lessor = Lessor(self.backend, minimum_ttl=2)
        self.store = Store(self.backend, self.lessor)
        self.membership = Membership(self.backend)
        self.alarms = AlarmStore(self.backend)
        self.auth = AuthStore(self.backend, SimpleTokens(300))
        self.changes: list[Any] = []
        self.results: list[tuple[raft_pb2.ConfChange, EtcdError | None]] = []
        self.compactions = 0
        self.now = 100.0
        self.over: list[Proposal | None] = []
        self.applier = self.make_applier(0)

    def make_applier(self, applied_index: int) -> Applier:
        applier = Applier(
            self.store,
            self.lessor,
            self.membership,
            self.alarms,
            self.auth,
            self,
            now=lambda: self.now,
            stopwatch=lambda: self.now,
            compaction_scheduled=self._compaction_scheduled,
            over_quota=self.over.append,
            applied_index=applied_index,
        )
        applier.restore()
        return applier

    def _compaction_scheduled(self) -> None:
        self.compactions += 1

    def apply_conf_change(self, change: raft_pb2.ConfChange | raft_pb2.ConfChangeV2) -> None:
        self.changes.append(change)

    def conf_change_applied(self, change: raft_pb2.ConfChange, error: EtcdError | None) -> None:
        self.results.append((change, error))

    def do(self, kind: str, request: Message) -> Recorded:
        """Apply one request as the next entry."""
        proposal = Recorded(kind, request)
        self.applier.apply_all([Entry(proposal.data, proposal, 2, self.applier.applied_index + 1)])
        return proposal


@pytest.fixture
def world() -> World:
    return World()


def put(key: bytes, value: bytes = b"v", **fields: Any) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=value, **fields)


def test_a_put_answers_its_revision_and_nothing_else(world: World) -> None:
    assert world.do("put", put(b"a")).outcome == (2, b"")
    assert world.do("put", put(b"b")).outcome == (3, b"")
    assert world.applier.applied_index == 2
    assert world.applier.applied_term == 2


def test_puts_that_are_stored_together_keep_their_place_among_the_others(world: World) -> None:
    proposals = [
        Recorded("put", put(b"a", b"1")),
        Recorded("put", put(b"b")),
        Recorded("delete_range", rpc_pb2.DeleteRangeRequest(key=b"a")),
        Recorded("put", put(b"a", b"2")),
        Recorded("put", put(b"a", b"3", prev_kv=True)),
        Recorded("put", put(b"c")),
    ]
    entries = [Entry(each.data, each, 2, index) for index, each in enumerate(proposals, 1)]
    entries[1].proposal = None  # another member's
    entries[5].proposal = None
    world.store.changes = []
    world.applier.apply_all(entries)
    assert [each.outcome and each.outcome[0] for each in proposals] == [2, None, 4, 5, 6, None]
    previous = proposals[4].outcome
    assert previous is not None
    assert rpc_pb2.PutResponse.FromString(previous[1]).prev_kv.value == b"2"
    assert world.store.current_revision == 7
    assert world.applier.counts == {("put", True): 5, ("delete_range", True): 1}
    assert world.applier.foreign_counts == {("put", True): 2}
    assert [kv_pb2.KeyValue.FromString(record).key for _, _, _, record in world.store.changes] == [
        b"a",
        b"b",
        b"a",
        b"a",
        b"a",
        b"c",
    ]


def test_a_put_with_prev_kv_brings_the_record_back(world: World) -> None:
    world.do("put", put(b"a", b"1"))
    outcome = world.do("put", put(b"a", b"2", prev_kv=True)).outcome
    assert outcome is not None
    assert rpc_pb2.PutResponse.FromString(outcome[1]).prev_kv.value == b"1"


def test_what_fails_is_refused_and_changes_nothing(world: World) -> None:
    proposal = world.do("put", put(b"a", lease=9))
    assert proposal.refusals == [LeaseNotFound]
    assert proposal.outcome is None
    assert world.store.current_revision == 1
    assert world.applier.counts == {("put", False): 1}


def test_entries_that_the_state_holds_are_passed_over(world: World) -> None:
    entries = [Entry(Recorded("put", put(b"%d" % n)).data, None, 2, n) for n in range(1, 6)]
    world.applier.apply_all(entries[:3])
    restarted = world.make_applier(world.applier.applied_index)
    restarted.apply_all(entries)
    assert restarted.applied_index == 5
    assert world.store.current_revision == 6


def test_a_gap_in_the_log_is_a_bug(world: World) -> None:
    with pytest.raises(AssertionError, match="entry 2 comes where 1 is due"):
        world.applier.apply_all([Entry(Recorded("put", put(b"a")).data, None, 2, 2)])


def test_the_first_entry_of_a_leader_has_no_data(world: World) -> None:
    world.applier.apply_all([Entry(b"", None, 3, 1)])
    assert (world.applier.applied_index, world.applier.applied_term) == (1, 3)
    assert world.store.current_revision == 1


def test_a_founding_change_adds_the_member_and_tells_raft(world: World) -> None:
    member = Member(7, ("http://a:2380",), "a")
    change = raft_pb2.ConfChange(type=raft_pb2.ConfChangeAddNode, node_id=7, context=member.to_context())
    world.applier.apply_all([Entry(change.SerializeToString(), None, 1, 1, EntryType.CONF_CHANGE)])
    assert world.membership.get(7) == member
    assert world.changes == [change]


def test_a_change_that_makes_no_sense_any_more_is_one_for_nobody(world: World) -> None:
    """Raft must hear of it, to let the next change pass, and must not go over to anything."""
    change = raft_pb2.ConfChange(id=9, type=raft_pb2.ConfChangeRemoveNode, node_id=7)
    world.applier.apply_all([Entry(change.SerializeToString(), None, 1, 1, EntryType.CONF_CHANGE)])
    assert [each.node_id for each in world.changes] == [0]
    ((told, error),) = world.results
    assert told == change
    assert isinstance(error, MemberNotFound)
    assert world.membership.removed == []


def test_a_downgrade_is_recorded(world: World) -> None:
    world.do("downgrade_info_set", membership_pb2.DowngradeInfoSetRequest(enabled=True, ver="3.6.0"))
    assert world.membership.downgrade == DowngradeInfo(True, "3.6.0")
    world.do("downgrade_info_set", membership_pb2.DowngradeInfoSetRequest(enabled=False, ver="3.6.0"))
    assert world.membership.downgrade == DowngradeInfo()


def test_revoking_a_lease_deletes_its_keys_in_one_revision(world: World) -> None:
    assert world.do("lease_grant", rpc_pb2.LeaseGrantRequest(ID=5, TTL=60)).outcome is not None
    world.do("put", put(b"a", lease=5))
    world.do("put", put(b"b", lease=5))
    outcome = world.do("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=5)).outcome
    assert outcome == (4, b"")
    assert world.store.range(b"\0", b"\0").count == 0
    assert world.do("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=5)).refusals == [LeaseNotFound]


def test_an_unknown_lease_does_not_stop_the_rest_of_a_checkpoint(world: World) -> None:
    world.do("lease_grant", rpc_pb2.LeaseGrantRequest(ID=5, TTL=600))
    checkpoints = [rpc_pb2.LeaseCheckpoint(ID=4, remaining_TTL=9), rpc_pb2.LeaseCheckpoint(ID=5, remaining_TTL=300)]
    assert not world.do("lease_checkpoint", rpc_pb2.LeaseCheckpointRequest(checkpoints=checkpoints)).refusals
    world.lessor.promote(world.now, 0)
    assert world.lessor.time_to_live(5, world.now).ttl == 300


def test_a_second_compaction_at_one_revision_counts_as_done(world: World) -> None:
    world.do("put", put(b"a"))
    assert world.do("compaction", rpc_pb2.CompactionRequest(revision=2)).outcome == (2, b"")
    assert world.compactions == 1
    again = world.do("compaction", rpc_pb2.CompactionRequest(revision=2))
    assert again.refusals == [Compacted]
    assert world.applier.counts == {("compaction", True): 1}


def _alarm(world: World, action: int, kind: int) -> list[rpc_pb2.AlarmMember]:
    request = rpc_pb2.AlarmRequest(action=action, memberID=7, alarm=kind)  # type: ignore[arg-type]
    outcome = world.do("alarm", request).outcome
    assert outcome is not None
    return list(rpc_pb2.AlarmResponse.FromString(outcome[1]).alarms)


def test_no_space_stops_what_makes_the_store_grow(world: World) -> None:
    world.do("put", put(b"a"))
    raised = _alarm(world, rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.NOSPACE)
    assert [(each.memberID, each.alarm) for each in raised] == [(7, rpc_pb2.NOSPACE)]
    assert world.do("put", put(b"b")).refusals == [NoSpace]
    assert world.do("lease_grant", rpc_pb2.LeaseGrantRequest(ID=5, TTL=60)).refusals == [NoSpace]
    nested = rpc_pb2.RequestOp(request_txn=rpc_pb2.TxnRequest(failure=[rpc_pb2.RequestOp(request_put=put(b"c"))]))
    assert world.do("txn", rpc_pb2.TxnRequest(success=[nested])).refusals == [NoSpace]
    delete = rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=b"a"))
    assert not world.do("txn", rpc_pb2.TxnRequest(success=[delete])).refusals
    assert world.store.get(b"a") is None

    assert _alarm(world, rpc_pb2.AlarmRequest.GET, rpc_pb2.NONE) == raised
    assert _alarm(world, rpc_pb2.AlarmRequest.GET, rpc_pb2.CORRUPT) == []
    assert _alarm(world, rpc_pb2.AlarmRequest.DEACTIVATE, rpc_pb2.NOSPACE) == raised
    assert _alarm(world, rpc_pb2.AlarmRequest.DEACTIVATE, rpc_pb2.NOSPACE) == []
    assert world.do("put", put(b"b")).outcome is not None


def test_beyond_the_quota_the_put_is_there_and_whoever_proposed_it_is_left_to_the_keeper(world: World) -> None:
    """As on etcd: members whose quotas differ must not come to differ in what they hold."""
    world.applier.hold_quota(Quota(world.store.size_total + 300, lambda: world.store.size_total))
    assert world.do("put", put(b"a")).outcome == (2, b"")
    late = world.do("put", put(b"b"))
    assert (late.outcome, late.refusals, world.over) == (None, [], [late])
    assert world.store.get(b"b") is not None
    world.applier.apply_all([Entry(Recorded("put", put(b"c")).data, None, 2, 3)])
    assert world.over == [late, None]
    assert world.store.get(b"c") is not None
    assert world.applier.counts == {("put", False): 1}
    _alarm(world, rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.NOSPACE)
    assert world.do("put", put(b"d")).refusals == [NoSpace]
    assert world.store.get(b"d") is None
    _alarm(world, rpc_pb2.AlarmRequest.DEACTIVATE, rpc_pb2.NOSPACE)
    world.applier.hold_quota(None)
    assert world.do("put", put(b"d")).outcome is not None


def test_corruption_stops_keys_and_leases_also_after_a_restart(world: World) -> None:
    _alarm(world, rpc_pb2.AlarmRequest.ACTIVATE, rpc_pb2.CORRUPT)
    world.alarms = AlarmStore(world.backend)
    world.alarms.restore()
    world.applier = world.make_applier(world.applier.applied_index)
    assert world.do("put", put(b"a")).refusals == [Corrupt]
    assert world.do("compaction", rpc_pb2.CompactionRequest(revision=1)).refusals == [Corrupt]
    assert [each.alarm for each in world.alarms.get()] == [rpc_pb2.CORRUPT]


def test_an_alarm_is_in_force_for_the_next_entry_of_the_same_batch(world: World) -> None:
    request = rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=7, alarm=rpc_pb2.NOSPACE)
    alarm, late = Recorded("alarm", request), Recorded("put", put(b"a"))
    world.applier.apply_all([Entry(alarm.data, alarm, 2, 1), Entry(late.data, late, 2, 2)])
    assert late.refusals == [NoSpace]


def test_the_cluster_learns_its_version_and_a_member_s_attributes(world: World) -> None:
    world.membership.add(Member(7, ("http://a:2380",)))
    attributes = membership_pb2.Attributes(name="a", client_urls=["http://a:2379"])
    world.do(
        "cluster_member_attr_set",
        membership_pb2.ClusterMemberAttrSetRequest(member_ID=7, member_attributes=attributes),
    )
    world.do("cluster_version_set", membership_pb2.ClusterVersionSetRequest(ver="3.7.0"))
    assert world.membership.members == [Member(7, ("http://a:2380",), "a", ("http://a:2379",))]
    assert world.membership.version == "3.7.0"


def test_durations_are_counted_by_kind(world: World) -> None:
    world.do("put", put(b"a"))
    world.do("put", put(b"b"))
    world.do("put", put(b"c", lease=9))
    assert world.applier.durations["put", True].count == 2
    assert world.applier.durations["put", False].count == 1


def with_users(world: World) -> None:
    """root, and u who may write `u`."""
    for name in ("root", "u"):
        world.do("auth_user_add", rpc_pb2.AuthUserAddRequest(name=name))
    world.do("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest(user="root", role="root"))
    world.do("auth_role_add", rpc_pb2.AuthRoleAddRequest(name="r"))
    permission = auth_pb2.Permission(permType=auth_pb2.Permission.WRITE, key=b"u")
    world.do("auth_role_grant_permission", rpc_pb2.AuthRoleGrantPermissionRequest(name="r", perm=permission))
    world.do("auth_user_grant_role", rpc_pb2.AuthUserGrantRoleRequest(user="u", role="r"))
    world.auth.on_change = world.applier.restore  # as the member does
    assert world.do("auth_enable", rpc_pb2.AuthEnableRequest()).outcome is not None


def asked_by(world: World, who: Identity, kind: str, request: Message) -> Recorded:
    proposal = Recorded(kind, request)
    proposal.signer = who
    proposal.data = signed(proposal.data, who.stamp) if who.stamp else proposal.data
    return proposal


def apply(world: World, *proposals: Recorded, own: bool = True) -> None:
    first = world.applier.applied_index + 1
    world.applier.apply_all(
        [Entry(each.data, each if own else None, 2, first + place) for place, each in enumerate(proposals)]
    )


def test_plain_puts_are_judged_one_by_one_and_stored_together(world: World) -> None:
    with_users(world)
    u, root = world.auth.identity("u"), world.auth.identity("root")
    asked = [
        asked_by(world, who, "put", put(key))
        for who, key in ((u, b"u"), (u, b"v"), (root, b"v"), (NOBODY, b"u"), (Identity("u", 1), b"u"), (u, b"u"))
    ]
    apply(world, *asked)
    assert [each.outcome for each in asked] == [(2, b""), None, (3, b""), None, None, (4, b"")]
    assert [each.refusals for each in asked] == [[], [PermissionDenied], [], [UserEmpty], [AuthOldRevision], []]


@pytest.mark.parametrize("etcds", [False, True])
def test_entries_of_other_members_are_judged_by_their_header(world: World, etcds: bool) -> None:
    with_users(world)
    u = world.auth.identity("u")
    asked = [asked_by(world, u, "put", put(key, b"x" * size)) for key in (b"u", b"v") for size in (1, 300)]
    if etcds:  # which writes the id first
        for each in asked:
            each.data = raft_internal_pb2.InternalRaftRequest.FromString(each.data).SerializeToString()
    apply(world, *asked, own=False)
    assert world.store.current_revision == 3
    assert world.store.get(b"v") is None
    assert [stamp_of(each.data) for each in asked] == [u.stamp] * 4


def test_a_change_of_rights_counts_from_its_own_entry_on(world: World) -> None:
    with_users(world)
    u, root = world.auth.identity("u"), world.auth.identity("root")
    revoke = rpc_pb2.AuthRoleRevokePermissionRequest(role="r", key=b"u")
    before, change, after = (
        asked_by(world, u, "put", put(b"u")),
        asked_by(world, root, "auth_role_revoke_permission", revoke),
        asked_by(world, u, "put", put(b"u")),
    )
    told: list[int] = []
    world.auth.on_change = lambda: told.append(world.store.current_revision)
    apply(world, before, change, after)
    assert before.outcome == (2, b"")
    assert after.refusals == [AuthOldRevision]
    assert told == [2], "who is told sees what came before, and nothing of what comes after"


def test_an_alarm_is_told_before_a_lack_of_permission(world: World) -> None:
    with_users(world)
    world.do("alarm", rpc_pb2.AlarmRequest(action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=1, alarm=rpc_pb2.NOSPACE))
    refused = asked_by(world, world.auth.identity("u"), "put", put(b"v"))
    apply(world, refused)
    assert refused.refusals == [NoSpace]


def test_a_login_names_its_entry(world: World) -> None:
    with_users(world)
    login = raft_internal_pb2.InternalAuthenticateRequest(name="u", simple_token="letters")
    outcome = world.do("authenticate", login).outcome
    assert outcome is not None
    token = rpc_pb2.AuthenticateResponse.FromString(outcome[1]).token
    assert token == f"letters.{world.applier.applied_index - 1}", "as on etcd"
    found = world.auth.tokens.find(token, world.now, 0.0)
    assert found is not None
    assert found.name == "u"
