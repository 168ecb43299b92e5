"""What users may do, laid over the table of handlers while users are switched on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from etcdpy.auth import rules
from etcdpy.auth.identity import NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.apply.proposal import Outcome, Steps
    from etcdpy.apply.restricted import Handlers
    from etcdpy.auth.rules import LeaseKeys
    from etcdpy.auth.store import AuthStore

ROOT_ONLY: Final = (
    "auth_enable",
    "auth_disable",
    "auth_user_add",
    "auth_user_delete",
    "auth_user_change_password",
    "auth_user_grant_role",
    "auth_user_revoke_role",
    "auth_user_list",
    "auth_role_add",
    "auth_role_delete",
    "auth_role_grant_permission",
    "auth_role_revoke_permission",
    "auth_role_list",
)
"""Requests that only a holder of the role root may make. Compaction and alarms are checked where they are asked for."""


class Authorizer:
    """`signer` is who asked for the entry that is being applied."""

    def __init__(self, auth: AuthStore, leases: LeaseKeys) -> None:
        self._auth = auth
        self._leases = leases
        self.signer = NOBODY

    def wrap(self, base: Handlers) -> Handlers:
        """The handlers, each behind its check."""
        checks: dict[str, Callable[[Any], None]] = {
            "put": self._put,
            "range": self._range,
            "delete_range": self._delete_range,
            "txn": self._txn,
            "lease_revoke": self._lease_revoke,
            "auth_user_get": self._user_get,
            "auth_role_get": self._role_get,
            **dict.fromkeys(ROOT_ONLY, self._admin),
        }
        return base | {kind: partial(_checked, check, base[kind]) for kind, check in checks.items()}

    def lets_put(self, key: bytes) -> bool:
        """Whether a plain put of that key may go the fast road; one that may not is looked at closely. Hot road."""
        signer = self.signer
        rights = signer.rights
        if rights is None or signer.revision != self._auth.revision:
            return False
        return rights.is_root or rights.write.covers(key)

    def _admin(self, _request: Any) -> None:
        rules.check_admin(self._auth, self.signer)

    def _put(self, request: Any) -> None:
        rules.check_put(self._auth, self._leases, self.signer, request)

    def _range(self, request: Any) -> None:
        rules.check_read(self._auth, self.signer, request.key, request.range_end)

    def _delete_range(self, request: Any) -> None:
        rules.check_delete(self._auth, self.signer, request)

    def _txn(self, request: Any) -> None:
        rules.check_txn(self._auth, self._leases, self.signer, request)

    def _lease_revoke(self, request: Any) -> None:
        rules.check_lease_write(self._auth, self._leases, self.signer, request.ID)

    def _user_get(self, request: Any) -> None:
        if request.name != self.signer.name:
            rules.check_admin(self._auth, self.signer)

    def _role_get(self, request: Any) -> None:
        if not self._auth.holds_role(self.signer.name, request.role):
            rules.check_admin(self._auth, self.signer)


def _checked(check: Callable[[Any], None], handler: Callable[[Any], Outcome | Steps], request: Any) -> Outcome | Steps:
    check(request)
    return handler(request)
