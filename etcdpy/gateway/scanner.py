"""JSON values in a stream of bytes, found as Go's encoding/json finds them: the first value's end, or Go's error text.

What comes after the first value is not looked at: a body of several values is read one after the other, a request
that is no stream ends with its first.

    begin   '{' '[' '"' '-' digit 't' 'f' 'n'        key      '"'
    in a string, a number or a word nothing is held but where it stands, so that a value may come byte by byte
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from etcdpy.limits import JSON_DEPTH_MAX, JSON_STEPS_PER_SLICE

if TYPE_CHECKING:
    from collections.abc import Generator

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_PLAIN: Final = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS: Final = re.compile(rb"[0-9]*")
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")
_ESCAPED: Final = frozenset(b'bfnrt\\/"')
_WORDS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_OBJECT, _ARRAY = 1, 2
_SHOWN: Final = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 39: "\\'", 92: "\\\\"}


class JsonError(ValueError):
    """Not JSON; the text is Go's."""


class Scanner:
    """Takes bytes with `feed`; `steps` looks for the end of the next value, and `take` gives it."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._start = 0
        self._stack: list[int] = []
        self._state = self._begin_value
        self._word = b""
        self._passed = 0
        """Characters of the word, or digits of the escape, that have been seen."""
        self._waiting = False
        self._done = False
        self.ended = False
        """No more bytes will come."""

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._buffer += data

    @property
    def held_bytes(self) -> int:
        """What has come and was not taken."""
        return len(self._buffer)

    def steps(self) -> Generator[None, None, bool]:
        """Look on; True when a value is there to `take`. Yields now and then. Raises JsonError."""
        count = 0
        while not self._done:
            if self._position >= len(self._buffer) and not self._at_end():
                return False
            if self._done:
                break
            self._state()
            count += 1
            if count % JSON_STEPS_PER_SLICE == 0:
                yield
            if self._waiting:
                self._waiting = False
                if not self._at_end():
                    return False
        return True

    def _at_end(self) -> bool:
        """All bytes are read. Whether that decides something: a number at the top ends with them."""
        if not self.ended:
            return False
        whole = (self._number_zero, self._number_whole, self._number_part, self._exponent, self._end_value)
        if not self._stack and self._state in whole:
            self._finish()
            return True
        if self._buffer.strip(b" \t\r\n"):
            raise JsonError("unexpected EOF")
        return False

    def take(self) -> bytes:
        """The value found, without the space before it; the next one is looked for behind it."""
        value = bytes(self._buffer[self._start : self._position])
        del self._buffer[: self._position]
        self._position = self._start = 0
        self._state = self._begin_value
        self._done = False
        return value

    # --- the states: each takes at least a byte, or says that it waits for more ---

    def _finish(self) -> None:
        self._done = True

    def _skip_space(self) -> int:
        """The byte after space; -1 when there is none yet."""
        return self._skip(_SPACE)

    def _skip(self, run: re.Pattern[bytes]) -> int:
        """The byte after all that `run` matches here; -1 when there is none yet."""
        match = run.match(self._buffer, self._position)
        assert match is not None
        self._position = match.end()
        if self._position == len(self._buffer):
            self._waiting = True
            return -1
        return self._buffer[self._position]

    def _begin_value(self) -> None:
        byte = self._skip_space()
        if byte >= 0:
            self._begin_value_at(byte)

    def _begin_value_at(self, byte: int) -> None:
        if not self._stack:
            self._start = self._position
        self._position += 1
        if byte == 0x7B:
            self._push(byte, _OBJECT)
            self._state = self._begin_key_or_end
        elif byte == 0x5B:
            self._push(byte, _ARRAY)
            self._state = self._begin_value_or_end
        elif byte == 0x22:
            self._state = self._in_string
        elif byte == 0x2D:
            self._state = self._number_minus
        elif byte == 0x30:
            self._state = self._number_zero
        elif 0x31 <= byte <= 0x39:
            self._state = self._number_whole
        elif byte in _WORDS:
            self._word, self._passed = _WORDS[byte], 1
            self._state = self._in_word
        else:
            raise _unexpected(byte, "looking for beginning of value")

    def _push(self, byte: int, kind: int) -> None:
        self._stack.append(kind)
        if len(self._stack) > JSON_DEPTH_MAX:
            raise _unexpected(byte, "exceeded max depth")

    def _begin_value_or_end(self) -> None:
        byte = self._skip_space()
        if byte == 0x5D:
            self._close()
        elif byte >= 0:
            self._begin_value_at(byte)

    def _begin_key_or_end(self) -> None:
        byte = self._skip_space()
        if byte == 0x7D:
            self._close()
        elif byte >= 0:
            self._begin_key_at(byte)

    def _begin_key(self) -> None:
        byte = self._skip_space()
        if byte >= 0:
            self._begin_key_at(byte)

    def _begin_key_at(self, byte: int) -> None:
        if byte != 0x22:
            raise _unexpected(byte, "looking for beginning of object key string")
        self._position += 1
        self._stack[-1] = -_OBJECT  # the string that follows is a key
        self._state = self._in_string

    def _close(self) -> None:
        self._position += 1
        self._stack.pop()
        self._state = self._end_value
        if not self._stack:
            self._finish()

    def _end_value(self) -> None:
        if not self._stack:
            # A string or a number at the top; whatever byte is next, it belongs to what follows.
            self._finish()
            return
        byte = self._skip_space()
        if byte < 0:
            return
        inside = self._stack[-1]
        if inside == -_OBJECT:
            if byte != 0x3A:
                raise _unexpected(byte, "after object key")
            self._stack[-1] = _OBJECT
            self._state = self._begin_value
        elif byte == 0x2C:
            self._state = self._begin_key if inside == _OBJECT else self._begin_value
        elif byte == (0x7D if inside == _OBJECT else 0x5D):
            self._close()
            return
        else:
            raise _unexpected(byte, "after object key:value pair" if inside == _OBJECT else "after array element")
        self._position += 1

    def _in_string(self) -> None:
        match = _PLAIN.match(self._buffer, self._position)
        assert match is not None
        self._position = match.end()
        if self._position == len(self._buffer):
            self._waiting = True
            return
        byte = self._buffer[self._position]
        self._position += 1
        if byte == 0x22:
            self._state = self._end_value
        elif byte == 0x5C:
            self._state = self._in_escape
        else:
            raise _unexpected(byte, "in string literal")

    def _in_escape(self) -> None:
        byte = self._buffer[self._position]
        self._position += 1
        if byte == 0x75:
            self._passed = 0
            self._state = self._in_hex
        elif byte in _ESCAPED:
            self._state = self._in_string
        else:
            raise _unexpected(byte, "in string escape code")

    def _in_hex(self) -> None:
        byte = self._buffer[self._position]
        if byte not in _HEX:
            raise _unexpected(byte, "in \\u hexadecimal character escape")
        self._position += 1
        self._passed += 1
        if self._passed == 4:
            self._state = self._in_string

    def _in_word(self) -> None:
        byte, expected = self._buffer[self._position], self._word[self._passed]
        if byte != expected:
            raise _unexpected(byte, f"in literal {self._word.decode()} (expecting '{chr(expected)}')")
        self._position += 1
        self._passed += 1
        if self._passed == len(self._word):
            self._state = self._end_value

    # --- numbers ---

    def _number_minus(self) -> None:
        byte = self._buffer[self._position]
        if not 0x30 <= byte <= 0x39:
            raise _unexpected(byte, "in numeric literal")
        self._position += 1
        self._state = self._number_zero if byte == 0x30 else self._number_whole

    def _digits(self) -> int:
        """The byte after digits; -1 when there is none yet."""
        return self._skip(_DIGITS)

    def _number_zero(self) -> None:
        self._after_whole(self._buffer[self._position])

    def _number_whole(self) -> None:
        byte = self._digits()
        if byte >= 0:
            self._after_whole(byte)

    def _after_whole(self, byte: int) -> None:
        if byte == 0x2E:
            self._position += 1
            self._state = self._number_point
        else:
            self._after_part(byte)

    def _after_part(self, byte: int) -> None:
        if byte in (0x65, 0x45):
            self._position += 1
            self._state = self._exponent_sign
        else:
            self._state = self._end_value

    def _number_point(self) -> None:
        byte = self._buffer[self._position]
        if not 0x30 <= byte <= 0x39:
            raise _unexpected(byte, "after decimal point in numeric literal")
        self._position += 1
        self._state = self._number_part

    def _number_part(self) -> None:
        byte = self._digits()
        if byte >= 0:
            self._after_part(byte)

    def _exponent_sign(self) -> None:
        if self._buffer[self._position] in (0x2B, 0x2D):
            self._position += 1
        self._state = self._exponent_first

    def _exponent_first(self) -> None:
        byte = self._buffer[self._position]
        if not 0x30 <= byte <= 0x39:
            raise _unexpected(byte, "in exponent of numeric literal")
        self._position += 1
        self._state = self._exponent

    def _exponent(self) -> None:
        if self._digits() >= 0:
            self._state = self._end_value


def _unexpected(byte: int, context: str) -> JsonError:
    return JsonError(f"invalid character '{_shown(byte)}' {context}")


def _shown(byte: int) -> str:
    """A byte as Go quotes the character of that number."""
    if byte in _SHOWN:
        return _SHOWN[byte]
    if byte < 0x20 or byte == 0x7F:
        return f"\\x{byte:02x}"
    if 0x80 <= byte <= 0xA0 or byte == 0xAD:
        return f"\\u{byte:04x}"
    return chr(byte)
