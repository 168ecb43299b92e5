"""Planted bugs of users and roles, for `rights.py` to find; see mutations.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.api.callers import Callers
from etcdpy.api.watch import WatchService
from etcdpy.apply.authorized import Authorizer
from etcdpy.auth import rules
from etcdpy.auth.tokens import SimpleTokens

if TYPE_CHECKING:
    import pytest

    from etcdpy.auth.identity import Identity
    from etcdpy.auth.store import AuthStore, Rights


def nothing_is_judged_where_it_is_applied(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Authorizer, "lets_put", lambda _self, _key: True)
    patch.setattr(Authorizer, "wrap", lambda _self, base: base)


def plain_puts_are_judged_by_the_user_of_today(patch: pytest.MonkeyPatch) -> None:
    """An old auth revision is good enough on the fast road."""

    def lets_put(self: Authorizer, key: bytes) -> bool:
        rights = self._auth.rights_of(self.signer.name)
        return rights is not None and (rights.is_root or rights.write.covers(key))

    patch.setattr(Authorizer, "lets_put", lets_put)


def an_old_auth_revision_is_accepted(patch: pytest.MonkeyPatch) -> None:
    rights = rules.rights

    def lenient(store: AuthStore, who: Identity) -> Rights:
        return rights(store, store.identity(who.name) if who.revision else who)

    patch.setattr(rules, "rights", lenient)


def tokens_outlive_their_user(patch: pytest.MonkeyPatch) -> None:
    """And the user's password: whoever is made anew under that name is logged in."""
    patch.setattr(SimpleTokens, "forget_user", lambda _self, _name: None)


def tokens_outlive_the_switch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SimpleTokens, "disable", lambda _self: None)


def callers_are_remembered_over_a_change(patch: pytest.MonkeyPatch) -> None:
    """Who a head belongs to is looked up once, and so is what that user may do."""
    identify = Callers.identify

    def remembering(self: Callers, call: Any) -> Identity:
        known = call.head.memo.caller
        if known is not None and self.store.enabled:
            return self.store.identity(known.name)
        return identify(self, call)

    patch.setattr(Callers, "identify", remembering)


def reads_are_judged_when_they_begin(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Callers, "check_unchanged", lambda _self, _who: None)


def watchers_are_judged_when_they_begin(patch: pytest.MonkeyPatch) -> None:
    """As on etcd."""
    patch.setattr(WatchService, "users_changed", lambda _self: None)


def leases_are_renewed_for_anybody(patch: pytest.MonkeyPatch) -> None:
    async def unasked(_self: Callers, _call: Any, _lease: int) -> None:
        pass

    patch.setattr(Callers, "check_lease_write", unasked)


def one_branch_of_a_transaction_is_judged(patch: pytest.MonkeyPatch) -> None:
    check_txn = rules.check_txn

    def half(store: AuthStore, leases: Any, who: Identity, request: Any) -> None:
        judged = type(request)()
        judged.CopyFrom(request)
        judged.ClearField("failure")
        check_txn(store, leases, who, judged)

    patch.setattr(rules, "check_txn", half)


ALL = [
    nothing_is_judged_where_it_is_applied,
    plain_puts_are_judged_by_the_user_of_today,
    an_old_auth_revision_is_accepted,
    tokens_outlive_their_user,
    tokens_outlive_the_switch,
    callers_are_remembered_over_a_change,
    reads_are_judged_when_they_begin,
    watchers_are_judged_when_they_begin,
    leases_are_renewed_for_anybody,
    one_branch_of_a_transaction_is_judged,
]
