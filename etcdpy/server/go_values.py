"""Numbers and booleans as Go's flag package reads them: prefixes, underscores and limits included."""

from __future__ import annotations

import json
import re
from typing import Final

_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE: Final = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_OLD_OCTAL = re.compile(r"0[0-7_]+")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|[0-9][0-9_]*")
DIGITS_MAX: Final = 100
"""No 64-bit number is written longer; it keeps a huge argument from costing anything."""


class GoValueError(ValueError):
    """`parse error` or `value out of range`, as Go's flag package words it."""


def parse_bool(text: str) -> bool:
    """Go's strconv.ParseBool. Raises GoValueError."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise GoValueError("parse error")


def parse_int(text: str, low: int, high: int) -> int:
    """A Go integer literal between the bounds; signs only where `low` is negative. Raises GoValueError."""
    body, negative = text, False
    if low < 0 and text[:1] in ("+", "-"):
        body, negative = text[1:], text[0] == "-"
    if len(body) > DIGITS_MAX or not _NUMBER.fullmatch(body):
        raise GoValueError("parse error")
    try:
        if _OLD_OCTAL.fullmatch(body):
            value = int(body.replace("_", ""), 8)
        else:
            value = int(body, 0)
    except ValueError:
        raise GoValueError("parse error") from None
    value = -value if negative else value
    if not low <= value <= high:
        raise GoValueError("value out of range")
    return value


def quote(text: str) -> str:
    """A text in double quotes with its special characters escaped, close to Go's %q."""
    return json.dumps(text, ensure_ascii=False)
