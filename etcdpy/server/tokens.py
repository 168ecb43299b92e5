"""--auth-token: which tokens this member gives and takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from etcdpy.auth.tokens import NoTokens, SimpleTokens
from etcdpy.duration import NS_PER_SECOND
from etcdpy.server import logs
from etcdpy.server.notes import ConfigError
from etcdpy.server.token_options import parse_options, ttl_ns

if TYPE_CHECKING:
    from etcdpy.auth.tokens import TokenProvider
    from etcdpy.server.config import Config

log = logs.get("auth")


def make_tokens(config: Config) -> TokenProvider:
    """What --auth-token says, keys read from their files. Raises ConfigError, which names the flag and no key."""
    kind, options = parse_options(config.auth_token)
    if kind == "":
        return NoTokens()
    if kind == "simple":
        log.warn("simple token is not cryptographically signed")
        return SimpleTokens(config.auth_token_ttl)
    from etcdpy.auth.jwt_tokens import BadKey, JwtTokens  # here: a start without JWT needs none of it

    try:
        return JwtTokens(
            options["sign-method"],
            public_key=_read(options, "pub-key"),
            private_key=_read(options, "priv-key"),
            ttl_seconds=ttl_ns(options) / NS_PER_SECOND,
        )
    except BadKey as error:
        raise ConfigError(f"--auth-token: {error}; mend pub-key or priv-key, or choose another sign-method") from None


def _read(options: dict[str, str], name: str) -> bytes:
    path = options.get(name)
    if not path:
        return b""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"--auth-token: {name}: {error.strerror}: {path}; name a file that can be read") from None
