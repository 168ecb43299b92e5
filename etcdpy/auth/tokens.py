"""Tokens: what a client shows in place of its password.

Simple tokens are random letters and the index before the log entry that made them. Every member applies that entry, so
every member knows the token; none stores it. Each keeps it for a while after its last use here.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from etcdpy.errors import AuthFailed
from etcdpy.limits import SIMPLE_TOKENS_MAX

if TYPE_CHECKING:
    from random import Random

SIMPLE_TOKEN_LETTERS: Final = 16
SIMPLE_TOKEN_TTL_SECONDS_DEFAULT: Final = 300
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RESOLUTION_SECONDS: Final = 1.0
"""A token's last use is known to a second, as on etcd: so that a use mostly changes nothing."""


class Found(NamedTuple):
    """A valid token. `revision` is the auth revision that it was made at, None for the current one, whatever that is;
    for `seconds` from now on it need not be asked for again."""

    name: str
    revision: int | None
    seconds: float


class TokenProvider(Protocol):
    """One kind of tokens. `now` is the core loop's clock; `wall` seconds since 1970."""

    def enable(self) -> None:
        """Users have been switched on."""
        ...

    def disable(self) -> None:
        """Users have been switched off: no token counts any more."""
        ...

    def forget_user(self, name: str) -> None:
        """A user is gone or has another password: its tokens count no more, where that is known here."""
        ...

    def new_prefix(self, random: Random) -> str:
        """What goes into the log entry of a login; `random` must be one for secrets."""
        ...

    def assign(self, name: str, prefix: str, index: int, now: float) -> str:
        """The login of a user was applied, by the entry after `index`: its token, or nothing where `sign` makes it."""
        ...

    def sign(self, name: str, revision: int, wall: float) -> str:
        """The token where it is made by the member that was asked; nothing elsewhere. Raises EtcdError."""
        ...

    def find(self, token: str, now: float, wall: float) -> Found | None:
        """Whose token it is; None for no valid token."""
        ...

    def known_from(self, token: str) -> int:
        """The entry from which on `find` can tell; 0 where nothing need be waited for."""
        ...


class NoTokens:
    """`--auth-token ''`: nobody logs in; certificates alone say who calls."""

    def enable(self) -> None:
        """See TokenProvider."""

    def disable(self) -> None:
        """See TokenProvider."""

    def forget_user(self, name: str) -> None:
        """See TokenProvider."""

    def new_prefix(self, random: Random) -> str:
        """See TokenProvider."""
        return ""

    def assign(self, name: str, prefix: str, index: int, now: float) -> str:
        """See TokenProvider."""
        raise AuthFailed

    def sign(self, name: str, revision: int, wall: float) -> str:
        """See TokenProvider."""
        return ""

    def find(self, token: str, now: float, wall: float) -> Found | None:
        """See TokenProvider."""
        return None

    def known_from(self, token: str) -> int:
        """See TokenProvider."""
        return 0


class SimpleTokens:
    """`--auth-token simple`. Tokens live `ttl_seconds` after their last use on this member."""

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl_seconds = ttl_seconds if ttl_seconds > 0 else SIMPLE_TOKEN_TTL_SECONDS_DEFAULT
        self._enabled = False
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Token -> user and last use; the longest unused first."""

    def __len__(self) -> int:
        return len(self._tokens)

    def enable(self) -> None:
        """See TokenProvider."""
        self._enabled = True

    def disable(self) -> None:
        """See TokenProvider."""
        self._enabled = False
        self._tokens.clear()

    def forget_user(self, name: str) -> None:
        """See TokenProvider."""
        for token in [token for token, (user, _) in self._tokens.items() if user == name]:
            del self._tokens[token]

    def new_prefix(self, random: Random) -> str:
        """See TokenProvider."""
        return "".join(random.choices(_LETTERS, k=SIMPLE_TOKEN_LETTERS))

    def assign(self, name: str, prefix: str, index: int, now: float) -> str:
        """See TokenProvider. The longest unused go where there are too many."""
        token = f"{prefix}.{index}"
        if self._enabled:
            self.expire(now)
            if len(self._tokens) >= SIMPLE_TOKENS_MAX:
                self._tokens.popitem(last=False)
            self._tokens[token] = name, now
        return token

    def sign(self, name: str, revision: int, wall: float) -> str:
        """See TokenProvider."""
        return ""

    def find(self, token: str, now: float, wall: float) -> Found | None:
        """See TokenProvider."""
        found = self._tokens.get(token)
        if found is None:
            return None
        name, used = found
        if now - used > _RESOLUTION_SECONDS:
            if now - used > self._ttl_seconds:
                del self._tokens[token]
                return None
            self._tokens[token] = name, now
            self._tokens.move_to_end(token)
        return Found(name, None, _RESOLUTION_SECONDS)

    def known_from(self, token: str) -> int:
        """See TokenProvider."""
        if token in self._tokens:
            return 0
        letters, point, index = token.partition(".")
        if not (letters and point and index.isascii() and index.isdigit() and len(index) <= len(str(1 << 64))):
            return 0
        return int(index) + 1

    def expire(self, now: float) -> None:
        """Forget the tokens whose time is over."""
        tokens = self._tokens
        while tokens:
            token, (_, used) = next(iter(tokens.items()))
            if now - used <= self._ttl_seconds:
                return
            del tokens[token]
