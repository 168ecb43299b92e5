"""Lines that a command reads, split into words by etcdctl's rules."""

from __future__ import annotations

import re
from typing import Final

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.gotext import unquote

_WORD: Final = re.compile(r"""\"(?:[^"\\]|\\.)*\"|'[^']*'|[^'"\s]\S*[^'"\s]?""")


def split_line(line: str) -> list[str]:
    """The words of a line; one in double quotes is a Go string, one in single quotes stands for itself.

    Raises Failure for a bad escape.
    """
    return [_plain(word) for word in _WORD.findall(line)]


def _plain(word: str) -> str:
    if word[0] == "'":
        return word[1:-1]
    if word[0] != '"':
        return word
    try:
        return unquote(word)
    except ValueError as error:
        raise Failure(Exit.BAD_INPUT, str(error)) from None
