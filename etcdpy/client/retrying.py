"""When a failed call is made again, by the rules of etcd's own client (clientv3's retry.go and retry_interceptor.go).

A call that changes something is made again only where nothing of it was sent: done twice it could do harm. A call that
is repeatable is made again whenever the server, or the way to it, was unavailable. Whatever it was, a call that was
refused for its token is made again once after a login, and one that a learner refused goes to another member.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etcdpy.client.failures import TOKEN_ERRORS
from etcdpy.errors import Code, NotSupportedForLearner, UserEmpty

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.client.failures import Failure

ATTEMPTS_MAX: Final = 100
PAUSE_SECONDS: Final = 0.025
"""After each round through a quorum of the endpoints."""
PAUSE_JITTER: Final = 0.1


class Attempts:
    """The attempts of one call so far, and whether there is another one."""

    __slots__ = ("_endpoints", "_jitter", "_logged_in", "_made", "_may_log_in", "_repeatable")

    def __init__(
        self,
        *,
        repeatable: bool,
        may_log_in: bool,
        endpoints: int,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        """`jitter` gives numbers from 0 to 1, for the pauses; None: random ones."""
        self._repeatable = repeatable
        self._may_log_in = may_log_in
        self._endpoints = endpoints
        self._jitter = jitter
        self._made = 0
        self._logged_in = False

    def needs_login(self, failure: Failure) -> bool:
        """Whether another token may mend this; true once."""
        if self._logged_in or not self._may_log_in or not isinstance(failure.error, (*TOKEN_ERRORS, UserEmpty)):
            return False
        self._logged_in = True
        return True

    def pause_before_next(self, failure: Failure) -> float:
        """How many seconds to wait before the next attempt. Raises the failure's error where there is none."""
        self._made += 1
        if self._made >= ATTEMPTS_MAX or not self._is_safe_again(failure):
            raise failure.error
        quorum = self._endpoints // 2 + 1
        if self._made % quorum:
            return 0.0
        if self._jitter is None:
            import random  # brings in hashlib, which a command that nothing fails for need not pay for

            self._jitter = random.random
        return PAUSE_SECONDS * (1 + PAUSE_JITTER * (2 * self._jitter() - 1))

    def _is_safe_again(self, failure: Failure) -> bool:
        if isinstance(failure.error, NotSupportedForLearner):
            return self._endpoints > 1
        if failure.code is not Code.UNAVAILABLE:
            return False
        return self._repeatable or failure.not_sent
