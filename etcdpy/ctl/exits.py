"""How a command ends: etcdctl's exit codes."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes by their use; scripts around etcd test them."""

    OK = 0
    ERROR = 1
    BAD_CONNECTION = 2
    BAD_FEATURE = 4
    BAD_ARGUMENTS = 128


class Failure(Exception):
    """Ends the command: `Error: <text>` on standard error, and the code. Without a text nothing is printed."""

    def __init__(self, code: Exit, text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
