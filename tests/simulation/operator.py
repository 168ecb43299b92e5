"""Who runs the cluster: adds, promotes and removes members while all else goes wrong, compacts the store, and hands out
leases. What becomes of a request is not waited for; what was applied is told by the members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.errors import EtcdError
from etcdpy.membership import changes
from etcdpy.membership.member import Member
from etcdpy.proto import raft_pb2, rpc_pb2
from etcdpy.raft.errors import ProposalDropped

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.simulation.clock import Time
    from tests.simulation.member import Process

LEASED = b"leased/"
"""Keys that hang on leases; clients leave them alone."""
VOTERS_MIN = 3
MEMBERS_MAX = 6
KINDS = ("add", "learner", "promote", "remove", "joint", "compact", "grant", "revoke")


def nothing(_outcome: object) -> None:
    """Whatever comes."""


class Operator:
    def __init__(
        self,
        time: Time,
        draw: Random,
        choose: Callable[[], Process | None],
        next_member: Callable[[], int],
        trace: Callable[[str], None],
    ) -> None:
        self._time = time
        self._draw = draw
        self._choose = choose
        self._next_member = next_member
        self._trace = trace
        self._pause = draw.choice([0.3, 1.0, 3.0])
        self._weights = [draw.random() if draw.random() < 0.6 else 0.0 for _ in KINDS]
        if draw.random() < 0.3:
            self._weights[:5] = [0.0] * 5
        self._leases: list[int] = []
        self.stopped = False

    def begin(self) -> None:
        if any(self._weights):
            self._time.after(self._draw.expovariate(1 / self._pause), self._act)

    def _act(self) -> None:
        if self.stopped:
            return
        process = self._choose()
        if process is not None:
            kind = self._draw.choices(KINDS, self._weights)[0]
            getattr(self, f"_{kind}")(process)
        self.begin()

    # --- members ---

    def _add(self, process: Process) -> None:
        if len(process.membership.members) < MEMBERS_MAX:
            self._propose(process, changes.addition(self._newcomer(learner=False)))

    def _learner(self, process: Process) -> None:
        if len(process.membership.members) < MEMBERS_MAX:
            self._propose(process, changes.addition(self._newcomer(learner=True)))

    def _newcomer(self, *, learner: bool) -> Member:
        identity = self._next_member()
        return Member(identity, (f"http://m{identity}:2380",), is_learner=learner)

    def _promote(self, process: Process) -> None:
        learners = [each.id for each in process.membership.members if each.is_learner]
        if learners:
            self._propose(process, changes.promotion(self._draw.choice(learners)))

    def _remove(self, process: Process) -> None:
        members = [each.id for each in process.membership.members]
        if len(process.membership.voters) > VOTERS_MIN:
            self._propose(process, changes.removal(self._draw.choice(members)))

    def _joint(self, process: Process) -> None:
        """Replace a voter by a newcomer in one change."""
        voters = [each.id for each in process.membership.voters]
        if len(voters) < VOTERS_MIN:
            return
        parts = [changes.addition(self._newcomer(learner=False)), changes.removal(self._draw.choice(voters))]
        joint = raft_pb2.ConfChangeV2()
        for part in parts:
            joint.changes.add(type=part.type, node_id=part.node_id)
        joint.context = parts[0].context
        self._propose(process, joint)

    def _propose(self, process: Process, change: Any) -> None:
        try:
            if isinstance(change, raft_pb2.ConfChange):
                change.id = process.encoder.next_id()
            process.node.propose_conf_change(change)
        except (ProposalDropped, EtcdError) as refusal:
            self._trace(f"operator is refused by {process.id}: {refusal}")
        else:
            self._trace(f"operator asks {process.id} for {type(change).__name__}".replace("\n", " "))

    # --- the store ---

    def _compact(self, process: Process) -> None:
        revision = process.store.current_revision - self._draw.randrange(8)
        if revision > 1:
            self._trace(f"operator compacts {revision}")
            process.propose("compaction", rpc_pb2.CompactionRequest(revision=revision), nothing)

    def _grant(self, process: Process) -> None:
        lease = self._draw.getrandbits(40)
        self._leases.append(lease)
        request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=self._draw.randint(1, 8))

        def granted(outcome: object) -> None:
            if not isinstance(outcome, EtcdError):
                key = LEASED + str(self._draw.randrange(4)).encode()
                process.propose("put", rpc_pb2.PutRequest(key=key, value=b"x", lease=lease), nothing)

        process.propose("lease_grant", request, granted)

    def _revoke(self, process: Process) -> None:
        if self._leases:
            lease = self._leases.pop(self._draw.randrange(len(self._leases)))
            process.propose("lease_revoke", rpc_pb2.LeaseRevokeRequest(ID=lease), nothing)
