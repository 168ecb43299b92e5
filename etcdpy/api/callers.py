"""Who calls: by the token that the call shows, or by the certificate of its connection.

`Callers` is asked by every service, each at the moment that etcd asks: what goes through the log is signed when it is
proposed and judged when it is applied; what is read here is judged when it is read. While users are switched off
nobody is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from functools import wraps
from heapq import heapify, heappop, heappush
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from etcdpy.auth import rules
from etcdpy.auth.identity import NOBODY, Identity
from etcdpy.errors import AuthOldRevision, EtcdError, InvalidAuthToken, UserEmpty
from etcdpy.limits import LEASE_KEYS_CHECKED_PER_SLICE, TOKEN_WAITS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from etcdpy.auth.rules import LeaseKeys
    from etcdpy.auth.store import AuthStore
    from etcdpy.proto import rpc_pb2
    from etcdpy.transport.calls import Call

    Handler = Callable[[Any, bytes], Any]

logger = logging.getLogger("etcdpy.auth")

_TOKEN: Final = b"token"
_AUTHORIZATION: Final = b"authorization"
_BEARER: Final = "Bearer "
_GATEWAY_MARK: Final = b"grpcgateway-accept"
"""On calls of the JSON gateway: the certificate of their connection is the gateway's, not the client's."""


class Callers:
    """`clock` is the loop's, `wall_clock` gives seconds since 1970. `by_certificate` is --client-cert-auth."""

    def __init__(
        self,
        store: AuthStore,
        leases: LeaseKeys,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        by_certificate: bool,
    ) -> None:
        self.store = store
        """Its `enabled` says whether anybody need be asked; the hot roads look there."""
        self._leases = leases
        self._clock = clock
        self._wall_clock = wall_clock
        self._by_certificate = by_certificate

    # --- who ---

    def identify(self, call: Call) -> Identity:
        """Who calls; NOBODY where nothing tells, and while users are switched off. Raises InvalidAuthToken.

        Hot road: what was found out for a head stands for all calls with it, for a second at the most and until users
        or roles change. A token's last use is known to no better than that.
        """
        store = self.store
        if not store.enabled:
            return NOBODY
        memo = call.head.memo
        known: Identity | None = memo.caller
        if known is not None and known.revision == store.revision and memo.until > self._clock():
            return known
        token = token_of(call)
        if token is None:
            return self._by_certificate_of(call)
        who, seconds = self._by_token(token)
        memo.caller, memo.until = who, self._clock() + seconds
        return who

    def _by_certificate_of(self, call: Call) -> Identity:
        name = call.peer.common_name if self._by_certificate else None
        if name is None:
            return NOBODY
        if _GATEWAY_MARK in call.head.metadata:
            fields = {"common-name": name}
            logger.warning("ignoring common name in gRPC-gateway proxy request", extra={"fields": fields})
            return NOBODY
        return self.store.identity(name)

    def identify_token(self, token: str) -> Identity:
        """Whose token that is. Raises InvalidAuthToken, also where the user is gone."""
        return self._by_token(token)[0]

    def _by_token(self, token: str) -> tuple[Identity, float]:
        """Whose token that is, and for how many seconds this stands."""
        store = self.store
        found = store.tokens.find(token, self._clock(), self._wall_clock())
        if found is not None and store.exists(found.name):
            if found.revision is None or found.revision == store.revision:
                return store.identity(found.name), found.seconds
            return Identity(found.name, found.revision), 0.0
        logger.warning("invalid auth token", extra={"fields": {"token-fingerprint": fingerprint(token)}})
        raise InvalidAuthToken

    def name_of(self, call: Call) -> str:
        """The user who calls, or else the common name of the caller's certificate; empty where neither is known.

        For limits and for the audit log: it says who calls and refuses nobody.
        """
        try:
            name = self.identify(call).name
        except InvalidAuthToken:
            return ""
        if name or _GATEWAY_MARK in call.head.metadata:
            return name
        return call.peer.common_name or ""

    # --- whether they may ---

    def require_user(self, call: Call) -> Identity:
        """Who calls, which somebody must. Raises InvalidAuthToken, UserEmpty.

        On etcd a certificate without a common name is somebody; here it is nobody.
        """
        who = self.identify(call)
        if self.store.enabled and not who.name:
            raise UserEmpty
        return who

    def check_admin(self, call: Call) -> None:
        """Raises InvalidAuthToken, UserEmpty, UserNotFound, PermissionDenied."""
        if self.store.enabled:
            rules.check_admin(self.store, self.identify(call))

    def check_token_admin(self, token: str) -> None:
        """`check_admin` of who showed another member that token; empty for none."""
        if self.store.enabled:
            who = self.identify_token(token.removeprefix(_BEARER)) if token else NOBODY
            rules.check_admin(self.store, who)

    def check_read(self, call: Call, key: bytes, range_end: bytes = b"") -> Identity:
        """Raises InvalidAuthToken and what the rules raise. Returns who it is, for `check_unchanged`."""
        who = self.identify(call)
        if self.store.enabled:
            rules.check_read(self.store, who, key, range_end)
            self.check_unchanged(who)
        return who

    def check_key_read(self, call: Call, key: bytes) -> None:
        """`check_read` of one key. Hot road: 0.6 us."""
        who = self.identify(call)
        rights = who.rights
        if rights is not None and who.revision == self.store.revision and (rights.is_root or rights.read.covers(key)):
            return
        self.check_read(call, key)

    def check_txn(self, call: Call, request: rpc_pb2.TxnRequest) -> Identity:
        """As `check_read`, of a transaction that only reads."""
        who = self.identify(call)
        if self.store.enabled:
            rules.check_txn(self.store, self._leases, who, request)
            self.check_unchanged(who)
        return who

    async def check_lease_write(self, call: Call, lease_id: int) -> None:
        """Whether who calls may write all keys of a lease, so may keep it alive. Raises as `check_read`."""
        if self.store.enabled:
            await self._check_lease_keys(self.require_user(call), [lease_id], rules.check_write)

    async def check_lease_read(self, call: Call, *lease_ids: int) -> Identity:
        """Whether who calls may read all keys of the leases. Raises as `check_read`."""
        who = self.require_user(call)
        if self.store.enabled:
            await self._check_lease_keys(who, lease_ids, rules.check_read)
        return who

    async def _check_lease_keys(
        self, who: Identity, lease_ids: Sequence[int], check: Callable[[AuthStore, Identity, bytes], None]
    ) -> None:
        if not rules.may_administer(self.store, who):
            of_all = chain.from_iterable(map(self._leases.keys_of, lease_ids))
            await self._check_keys(who, of_all, check)

    async def _check_keys(
        self, who: Identity, keys: Iterable[bytes], check: Callable[[AuthStore, Identity, bytes], None]
    ) -> None:
        """In slices: a lease may have any number of keys."""
        for count, key in enumerate(keys, start=1):
            check(self.store, who, key)
            if count % LEASE_KEYS_CHECKED_PER_SLICE == 0:
                await asyncio.sleep(0)
        self.check_unchanged(who)

    async def check_keys_shown(self, who: Identity, keys: Iterable[bytes]) -> None:
        """What another member tells of a lease may be newer than what `check_lease_read` saw here."""
        self.check_unchanged(who)
        if self.store.enabled and not rules.may_administer(self.store, who):
            await self._check_keys(who, keys, rules.check_read)

    def check_unchanged(self, who: Identity) -> None:
        """Raises AuthOldRevision when users or roles have changed since `who` was identified, or were switched on."""
        store = self.store
        if who.revision != store.revision and (who.revision or store.enabled):
            raise AuthOldRevision

    # --- wrappers of handlers ---

    def root_only(self, handler: Handler) -> Handler:
        """A handler that only holders of the role root reach."""

        @wraps(handler)
        def checked(call: Any, body: bytes) -> Any:
            self.check_admin(call)
            return handler(call, body)

        return checked

    def users_only(self, handler: Handler) -> Handler:
        """A handler that every user reaches, and while users are switched on nobody else."""

        @wraps(handler)
        def checked(call: Any, body: bytes) -> Any:
            self.require_user(call)
            return handler(call, body)

        return checked


def token_of(call: Call) -> str | None:
    """The token that a call shows."""
    values = _values(call)
    return values[0].decode("latin-1").removeprefix(_BEARER) if values else None


def shown_token(call: Call) -> str:
    """The token as the client wrote it, for another member to judge; empty for none."""
    values = _values(call)
    return values[0].decode("latin-1") if values else ""


def _values(call: Call) -> list[bytes] | None:
    metadata = call.head.metadata
    return metadata.get(_TOKEN) or metadata.get(_AUTHORIZATION)


def fingerprint(token: str) -> str:
    """What a log may show of a token."""
    return hashlib.sha256(token.encode("latin-1", "replace")).hexdigest()[:12]


class TokenWaits:
    """Calls that show a token whose login this member has not applied yet.

    A client logs in at one member and goes on at another; the token names the log entry to wait for. Where that does
    not come within `seconds`, the call goes on all the same, and its token is invalid.
    """

    def __init__(
        self, store: AuthStore, applied: Callable[[], int], clock: Callable[[], float], *, seconds: float
    ) -> None:
        self._store = store
        self._applied = applied
        self._clock = clock
        self._seconds = seconds
        self._waiting: list[tuple[int, int, float, Call, Callable[[], None]]] = []
        """A heap by the entry that is waited for."""
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def entry_for(self, call: Call) -> int:
        """The entry that a call has to wait for; 0 for none."""
        if not self._store.enabled:
            return 0
        token = token_of(call)
        if token is None:
            return 0
        index = self._store.tokens.known_from(token)
        return index if index > self._applied() and len(self._waiting) < TOKEN_WAITS_MAX else 0

    def wait(self, index: int, call: Call, go_on: Callable[[], None]) -> None:
        """Call `go_on` when that entry is applied, or when the time is over; not for a call that is gone."""
        self._count += 1
        heappush(self._waiting, (index, self._count, self._clock() + self._seconds, call, go_on))

    def serve(self) -> None:
        """Entries were applied: let those go on that waited for them."""
        applied = self._applied()
        while self._waiting and self._waiting[0][0] <= applied:
            _, _, _, call, go_on = heappop(self._waiting)
            _go_on(call, go_on)

    def expire(self) -> None:
        """Let those go on whose time is over. To be called now and then."""
        now = self._clock()
        over = [each for each in self._waiting if each[2] <= now or each[3].done]
        if over:
            self._waiting = [each for each in self._waiting if each[2] > now and not each[3].done]
            heapify(self._waiting)
        for _, _, _, call, go_on in over:
            _go_on(call, go_on)


def _go_on(call: Call, go_on: Callable[[], None]) -> None:
    if call.done:
        return
    try:
        go_on()
    except EtcdError as error:
        call.fail(error)
    except Exception as error:
        call.crash(error)
