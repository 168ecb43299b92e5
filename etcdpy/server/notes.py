"""What reading the configuration has to say: notes for the log, and the error that ends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Note:
    """One line for the log, kept until there is a log."""

    level: Literal["info", "warn"]
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class ConfigError(Exception):
    """A configuration that cannot be used: one line that names the flag and the mend.

    `exit_code` is what etcd exits with. With `usage` the text goes out bare, a usage text after it; otherwise it is a
    line of the log. `notes` are what was to be logged before it.
    """

    def __init__(
        self, message: str, *, exit_code: int = 1, usage: bool = False, fields: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(_one_line(message))
        self.exit_code = exit_code
        self.usage = usage
        self.fields = dict(fields or {})
        self.notes: tuple[Note, ...] = ()

    def with_notes(self, notes: Sequence[Note]) -> ConfigError:
        """The same error, carrying the notes."""
        self.notes = tuple(notes)
        return self


def _one_line(text: str) -> str:
    """The text with what would break the line, or move a terminal's cursor, escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
