"""Users and roles as a member has them: their store, who calls by them, and the signing of what they propose."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from etcdpy.api.callers import Callers, TokenWaits
from etcdpy.api.proposals import Waiting
from etcdpy.apply.entry_data import signed
from etcdpy.auth.store import ROOT, AuthStore
from etcdpy.errors import InvalidAuthToken

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from etcdpy.apply.proposal import Proposal
    from etcdpy.auth.identity import Identity
    from etcdpy.auth.tokens import TokenProvider
    from etcdpy.backend import Backend
    from etcdpy.lease.lessor import Lessor
    from etcdpy.server.config import Config


class Users:
    """`applied` gives the last applied entry, `propose` is the way into the log."""

    def __init__(
        self,
        config: Config,
        backend: Backend,
        lessor: Lessor,
        tokens: TokenProvider,
        loop: asyncio.AbstractEventLoop,
        applied: Callable[[], int],
        propose: Callable[[Proposal], None],
    ) -> None:
        self.store = AuthStore(backend, tokens)
        self.callers = Callers(
            self.store, lessor, clock=loop.time, wall_clock=time.time, by_certificate=config.client_cert_auth
        )
        self.waits = TokenWaits(self.store, applied, loop.time, seconds=config.request_timeout_seconds)
        self._propose = propose

    def propose(self, proposal: Proposal) -> None:
        """Take in what a client asks, with its name; where that is not known it is proposed all the same, and refused
        where it is applied."""
        if self.store.enabled and isinstance(proposal, Waiting):
            try:
                who = self.callers.identify(proposal.call)
            except InvalidAuthToken as error:
                proposal.refuse(error)
                return
            _sign(proposal, who)
        self._propose(proposal)

    def sign_own(self, proposal: Proposal) -> None:
        """Sign what the member asks by itself. Its leases end whoever owns their keys; all else nobody judges."""
        if self.store.enabled and proposal.kind == "lease_revoke":
            _sign(proposal, self.store.identity(ROOT))


def _sign(proposal: Proposal, who: Identity) -> None:
    if who.stamp:
        proposal.signer = who
        proposal.data = signed(proposal.data, who.stamp)
