"""The text of --auth-token, taken apart."""

from __future__ import annotations

from typing import Final

from etcdpy.duration import DurationError, parse_duration
from etcdpy.server.notes import ConfigError

_JWT_OPTIONS: Final = frozenset(("pub-key", "priv-key", "sign-method", "ttl"))
_JWT_TTL_DEFAULT: Final = "5m"
_SIGN_METHODS: Final = frozenset(
    ("EdDSA", *(kind + bits for kind in ("RS", "PS", "ES", "HS") for bits in ("256", "384", "512")))
)


def parse_options(text: str) -> tuple[str, dict[str, str]]:
    """The kind of tokens, and its options. Raises ConfigError."""
    kind, *rest = text.split(",")
    problem = f"--auth-token: auth: invalid auth options ({kind}); use simple, or jwt,sign-method=..,pub-key=.."
    options: dict[str, str] = {}
    for each in rest:
        name, equals, value = each.partition("=")
        if not equals or "=" in value or name in options:
            raise ConfigError(problem)
        options[name] = value
    if kind not in ("simple", "jwt", ""):
        raise ConfigError(problem)
    if kind == "jwt":
        _check_jwt(options, problem)
    return kind, options


def _check_jwt(options: dict[str, str], problem: str) -> None:
    if set(options) - _JWT_OPTIONS:
        raise ConfigError(problem)
    if options.get("sign-method") not in _SIGN_METHODS:
        raise ConfigError(f"{problem}: sign-method is none of {', '.join(sorted(_SIGN_METHODS))}")
    try:
        ttl_ns(options)
    except DurationError as reason:
        raise ConfigError(f"{problem}: ttl: {reason}") from None


def ttl_ns(options: dict[str, str]) -> int:
    """How long a JWT lives. Raises DurationError."""
    return parse_duration(options.get("ttl") or _JWT_TTL_DEFAULT)
