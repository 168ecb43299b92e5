"""Who holds leases: each has one at a time, renews it for a while, lets it go, and takes another.

The promises: no lease ends before its time to live has passed since its last acknowledged renewal was asked for, by the
fastest clock of the group; and one that nobody renews is gone in a bounded time once all is well (see cluster.py).

A leader that was replaced and does not know it yet may acknowledge renewals for a while, as on etcd: the next one gives
all leases an election timeout more for that. What counts here is what the leader of the newest term acknowledges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdpy.errors import EtcdError
from etcdpy.proto import raft_internal_pb2, rpc_pb2
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from etcdpy.apply.proposal import Outcome
    from etcdpy.raft.entry import Entry
    from tests.simulation.clock import Time
    from tests.simulation.member import Process

SHARE_OF_SEEDS = 0.4
HOLDERS = 2
PATIENCE_SECONDS = 4.0


@dataclass
class Held:
    """What the outside knows of a lease."""

    ttl: int
    asked: float
    """When the last renewal that was acknowledged (or the grant) was asked for, in true time."""
    gone: float | None = None
    """When its revocation was committed, as far as anybody has applied it."""


class Leases:
    """The judge. `rate_max` is how much faster than true time a clock may run."""

    def __init__(self, time: Time, rate_max: float) -> None:
        self._time = time
        self._rate_max = rate_max
        self.held: dict[int, Held] = {}

    def granted(self, lease: int, ttl: int, asked: float) -> None:
        self.held[lease] = Held(ttl, asked)

    def renewed(self, lease: int, asked: float) -> None:
        """A renewal was acknowledged."""
        held = self.held[lease]
        if held.gone is not None and asked > held.gone:
            raise Violation(f"lease {lease} was renewed at {asked:.3f}, but had ended at {held.gone:.3f}")
        held.asked = max(held.asked, asked)

    def committed(self, entries: Sequence[Entry]) -> None:
        """Entries are applied somewhere."""
        for entry in entries:
            if entry.type or not entry.data:
                continue
            request = raft_internal_pb2.InternalRaftRequest.FromString(entry.data)
            held = self.held.get(request.lease_revoke.ID)
            if held is not None and held.gone is None:
                held.gone = self._time.now
                self.check_ended(request.lease_revoke.ID)

    def check_ended(self, lease: int) -> None:
        """It has ended, or somebody was told so."""
        held = self.held[lease]
        due = held.asked + held.ttl / self._rate_max
        if self._time.now < due:
            raise Violation(
                f"lease {lease} of {held.ttl} s, renewed at {held.asked:.3f}, has ended at {self._time.now:.3f}"
            )


class Holder:
    """`choose` gives a live process for writes, `primaries` those that believe to keep the leases."""

    def __init__(
        self,
        number: int,
        time: Time,
        draw: Random,
        judge: Leases,
        choose: Callable[[], Process | None],
        newest_term: Callable[[], int],
        primaries: Callable[[], list[Process]],
        trace: Callable[[str], None],
    ) -> None:
        self._time = time
        self._draw = draw
        self._judge = judge
        self._choose = choose
        self._newest_term = newest_term
        self._primaries = primaries
        self._trace = trace
        self._lease = (number + 1) * 1000
        self._until = 0.0
        self._token: object = None
        self.renewals = 0
        self.stopped = False

    def begin(self) -> None:
        self._time.after(self._draw.random(), self._take)

    def _take(self) -> None:
        """Another lease; what became of the last one is not known when nothing was heard."""
        if self.stopped:
            return
        process = self._choose()
        if process is None:
            self._time.after(0.3, self._take)
            return
        self._lease += 1
        lease, ttl, asked = self._lease, self._draw.choice([2, 3, 4]), self._time.now
        self._token = token = object()
        self._until = self._time.now + self._draw.uniform(0, 12)

        def granted(outcome: Outcome | EtcdError) -> None:
            if token is not self._token or isinstance(outcome, EtcdError):
                return
            self._trace(f"lease {lease} of {ttl} s is granted")
            self._judge.granted(lease, ttl, asked)
            put = rpc_pb2.PutRequest(key=b"leased/%d" % lease, value=b"v", lease=lease)
            process.propose("put", put, lambda _outcome: None)
            self._renew_later(ttl)

        process.propose("lease_grant", rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl), granted)
        self._time.after(PATIENCE_SECONDS, self._give_up, token)

    def _give_up(self, token: object) -> None:
        if token is self._token and self._lease not in self._judge.held:
            self._take()

    def _renew_later(self, ttl: int) -> None:
        self._time.after(ttl * self._draw.uniform(0.1, 0.6), self._renew)

    def _renew(self) -> None:
        if self.stopped:
            return
        if self._time.now > self._until:
            self._take()
            return
        primaries = self._primaries()
        lease, asked = self._lease, self._time.now
        ttl = self._judge.held[lease].ttl
        if primaries:
            process = self._draw.choice(primaries)

            def told(left: int | None) -> None:
                if left is None or process.node.term < self._newest_term():
                    return
                self._trace(f"lease {lease} is renewed for {left} s")
                if left:
                    self.renewals += 1
                    self._judge.renewed(lease, asked)
                else:
                    self._judge.check_ended(lease)

            process.renew(lease, told)
        self._renew_later(ttl)
