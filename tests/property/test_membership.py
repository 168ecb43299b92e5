"""Any sequence of changes of members: what applying them keeps, and what the strict rules keep on top of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from etcdpy.errors import EtcdError
from etcdpy.membership import changes, rules
from etcdpy.membership.member import Member
from etcdpy.membership.members import Membership
from etcdpy.raft import confchange
from etcdpy.raft.errors import InvalidConfChange
from etcdpy.raft.quorum import JointConfig, MajorityConfig
from etcdpy.raft.tracker import Configuration
from tests.support.memory_backend import MemoryBackend

if TYPE_CHECKING:
    from etcdpy.proto import raft_pb2

MAX_LEARNERS = 2
FOUNDER = Member(1, ("http://a:1",), "m1")

identities = st.integers(1, 6)
urls = st.lists(st.sampled_from([f"http://{host}:1" for host in "abcdefgh"]), min_size=1, max_size=2, unique=True)
members = st.builds(
    lambda identity, peer_urls, learner: Member(identity, tuple(peer_urls), is_learner=learner),
    identities,
    urls,
    st.booleans(),
)
any_change = st.one_of(
    st.builds(changes.addition, members),
    st.builds(changes.removal, identities),
    st.builds(changes.promotion, identities),
    st.builds(changes.update, identities, urls),
)


class Log:
    """Applies changes as the applier does, to the members and to raft's own view of them."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.membership = Membership(self.backend, max_learners=MAX_LEARNERS)
        self.group = Configuration(JointConfig(MajorityConfig({1}), MajorityConfig()))
        self.membership.apply(changes.addition(FOUNDER))

    def take(self, change: raft_pb2.ConfChange) -> bool:
        """Whether the change had an effect. Raft's leader never lets one pass that takes the last vote."""
        try:
            after = confchange.next_configuration(self.group, confchange.as_v2(change))
        except InvalidConfChange:
            return False
        try:
            self.membership.check(change)
        except EtcdError:
            return False
        self.membership.apply(change)
        self.group = after
        return True


@given(st.lists(any_change, max_size=30))
def test_members_and_raft_agree_and_nothing_is_shared(sequence: list[raft_pb2.ConfChange]) -> None:
    log = Log()
    gone: set[int] = set()
    for change in sequence:
        before = log.membership.members
        took = log.take(change)
        now = log.membership.members
        assert took or now == before
        gone |= {each.id for each in before} - {each.id for each in now}
        assert set(log.membership.removed) == gone
        assert not gone & {each.id for each in now}
        assert log.group.voters.incoming.ids == tuple(each.id for each in now if not each.is_learner)
        assert log.group.learners == tuple(each.id for each in now if each.is_learner)
        every_url = [url for each in now for url in each.peer_urls]
        assert len(every_url) == len(set(every_url))
        assert len(log.group.learners) <= MAX_LEARNERS
    restored = Membership(log.backend, max_learners=MAX_LEARNERS)
    restored.restore()
    assert restored.members == log.membership.members
    assert restored.removed == log.membership.removed


voters = st.lists(st.booleans(), min_size=1, max_size=7).map(
    lambda started: [Member(number, (f"http://{number}:1",), "m" * on) for number, on in enumerate(started, 1)]
)


@given(voters, st.sets(st.integers(1, 7)), st.integers(1, 7))
def test_what_the_strict_rules_let_pass_keeps_a_quorum(members: list[Member], well: set[int], gone: int) -> None:
    """After an allowed change the members that have started, and those that are well, still are a majority; the only
    way around is the second member of a lone one."""
    reach = rules.Reach(1, 100.0, lambda member: 0.0 if member in well else None)
    healthy = sum(reach.is_healthy(each.id) for each in members)
    started = sum(each.is_started for each in members)
    if allowed(lambda: rules.check_add(members, reach, as_learner=False)) and len(members) > 1:
        assert started >= rules.quorum(len(members) + 1)
        assert healthy >= rules.quorum(len(members) + 1)
    if gone <= len(members) and allowed(lambda: rules.check_remove(members, reach, gone)):
        staying = [each for each in members if each.id != gone]
        assert sum(each.is_started for each in staying) >= rules.quorum(len(staying))
        if reach.is_active(gone):
            assert healthy - 1 >= rules.quorum(len(staying))


def allowed(check: object) -> bool:
    assert callable(check)
    try:
        check()
    except EtcdError:
        return False
    return True
