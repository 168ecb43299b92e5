"""Text as Go's fmt writes it, where etcdctl's output and input follow it."""

from __future__ import annotations

import re
from typing import Final

_ESCAPED: Final = {
    "\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v",
    "\\": r"\\", '"': r"\"",
}  # fmt: skip
_UNESCAPED: Final = {written[1]: meant.encode() for meant, written in _ESCAPED.items()}
_WRITTEN = re.compile(r"\\(?:([abfnrtv\\\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))")


def quote(text: str | bytes) -> str:
    """`%q`: in double quotes, with what cannot be printed as escapes; bytes that are no UTF-8 as `\\xff`."""
    raw = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    return '"' + "".join(map(_quoted, raw.decode(errors="surrogateescape"))) + '"'


def _quoted(letter: str) -> str:
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # Python's stand-in for a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if letter.isprintable():
        return letter
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(text: str) -> str:
    """What Go's strconv.Unquote makes of a text in double quotes. Raises ValueError."""
    inside = text[1:-1]
    plain = _WRITTEN.sub("", inside)
    if len(text) < 2 or text[0] != '"' or text[-1] != '"' or '"' in plain or "\\" in plain or "\n" in plain:
        raise ValueError("invalid syntax")
    pieces, end = [], 0
    for found in _WRITTEN.finditer(inside):
        pieces += [inside[end : found.start()].encode(errors="surrogateescape"), _meant(found)]
        end = found.end()
    pieces.append(inside[end:].encode(errors="surrogateescape"))
    return b"".join(pieces).decode(errors="surrogateescape")


def _meant(found: re.Match[str]) -> bytes:
    letter, byte, short, long, octal = found.groups()
    if letter:
        return _UNESCAPED[letter]
    if byte or octal:
        value = int(byte, 16) if byte else int(octal, 8)
        if value > 0xFF:
            raise ValueError("invalid syntax")
        return bytes([value])
    code = int(short or long, 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise ValueError("invalid syntax")
    return chr(code).encode()
