"""The quota of this member: looked at while it is near, and the NOSPACE alarm when it is passed.

    far     nobody looks: a put costs what it costs without a quota
    near    each request is held against it before it is proposed (`propose`) and when it is applied (apply/quota.py)
    passed  the alarm goes through the log, so that every member refuses what lets the store grow

A client that is refused finds the alarm raised, as on etcd.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.apply.proposal import Proposal
from etcdpy.auth.identity import NOBODY
from etcdpy.errors import NoSpace
from etcdpy.proto import rpc_pb2
from etcdpy.server import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.apply.alarms import AlarmStore
    from etcdpy.apply.proposal import Outcome
    from etcdpy.apply.quota import Quota
    from etcdpy.errors import EtcdError

log = logs.get("etcdserver")


class _Raising(Proposal):
    """The alarm on its way through the log. Whether it arrives or not, those who wait are then refused, as on etcd."""

    __slots__ = ("waiting",)

    def __init__(self, request: rpc_pb2.AlarmRequest, data: bytes) -> None:
        self.kind = "alarm"
        self.signer = NOBODY
        self.request = request
        self.data = data
        self.waiting: list[Proposal] | None = []

    def answer(self, outcome: Outcome) -> None:
        self._end()

    def refuse(self, error: EtcdError) -> None:
        self._end()

    def _end(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for proposal in waiting:
            proposal.refuse(NoSpace())


class QuotaKeeper:
    """`propose` and `encode` are the way into the log."""

    def __init__(
        self,
        quota: Quota,
        quota_bytes: int,
        own_id: int,
        alarms: AlarmStore,
        propose: Callable[[Proposal], None],
        encode: Callable[[str, bytes], bytes],
    ) -> None:
        self.quota = quota
        self.is_near = False
        self.quota_bytes = quota_bytes
        self.own_id = own_id
        self._alarms = alarms
        self._propose = propose
        self._encode = encode
        self._raising: _Raising | None = None
        state = "disabled backend quota" if quota_bytes < 0 else "enabled backend quota"
        log.info(state, **{"quota-size-bytes": quota_bytes})

    def look(self) -> bool:
        """Whether the quota has become near, or far, since the last look."""
        near = self.quota.is_within(limits.QUOTA_NEAR_BYTES)
        changed, self.is_near = near != self.is_near, near
        return changed

    def propose(self, proposal: Proposal) -> None:
        """Propose what there is room for; for anything else the alarm is raised, and it is refused with NoSpace."""
        if self.quota.available(proposal.kind, proposal.request):
            self._propose(proposal)
        else:
            self._refuse(proposal)

    def over(self, proposal: Proposal | None) -> None:
        """A request was applied that went beyond the quota; whoever waits for it is refused."""
        if not self.stands:
            log.warn(
                "message exceeded backend quota; raising alarm",
                **{"quota-size-bytes": self.quota_bytes, "error": NoSpace.message},
            )
        self._refuse(proposal)

    @property
    def stands(self) -> bool:
        """Whether the NOSPACE alarm of this member is raised."""
        return any(alarm.memberID == self.own_id for alarm in self._alarms.get(rpc_pb2.NOSPACE))

    def _refuse(self, proposal: Proposal | None) -> None:
        if self.stands:
            if proposal is not None:
                proposal.refuse(NoSpace())
            return
        raising = self._raising
        if raising is None or raising.waiting is None:
            request = rpc_pb2.AlarmRequest(
                action=rpc_pb2.AlarmRequest.ACTIVATE, memberID=self.own_id, alarm=rpc_pb2.NOSPACE
            )
            raising = self._raising = _Raising(request, self._encode("alarm", request.SerializeToString()))
            self._propose(raising)
        if raising.waiting is None:
            if proposal is not None:
                proposal.refuse(NoSpace())
        elif proposal is not None:
            raising.waiting.append(proposal)
