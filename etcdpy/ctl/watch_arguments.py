"""What `watch` is asked to do: a key or a range, and a command to run for each event, from words and environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from etcdpy.ctl.gotext import quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEY_VARIABLE = "ETCDCTL_WATCH_KEY"
RANGE_END_VARIABLE = "ETCDCTL_WATCH_RANGE_END"

_BAD_NUMBER = "bad number of arguments"


class BadWatch(ValueError):
    """A watch that cannot be; the text is etcdctl's."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to look, and what to run."""

    key: str
    range_end: str | None
    command: tuple[str, ...]


def named_by_environment(environ: Mapping[str, str]) -> list[str]:
    """Key and range end of the environment. Raises BadWatch for an end without a key."""
    key, range_end = environ.get(KEY_VARIABLE, ""), environ.get(RANGE_END_VARIABLE, "")
    if range_end and not key:
        raise BadWatch(f"{KEY_VARIABLE} is empty but got {RANGE_END_VARIABLE}={quote(range_end)}")
    return [word for word in (key, range_end) if word]


def split_command(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The words before `--`, and the command behind it. Raises BadWatch where there is none."""
    if "--" not in words:
        return list(words), ()
    place = words.index("--")
    if place == len(words) - 1:
        raise BadWatch(f"{_BAD_NUMBER} (found separator --, but no commands)")
    return list(words[:place]), tuple(words[place + 1 :])


def make_target(words: Sequence[str], command: tuple[str, ...], named: Sequence[str], *, prefix: bool) -> Target:
    """From the words that are no flags, and what the environment names. Raises BadWatch."""
    if named and words:
        raise BadWatch(f"{_BAD_NUMBER} (found conflicting environment key)")
    if not words and not named:
        raise BadWatch(_BAD_NUMBER)
    key, *rest = [*words, *named]
    if len(rest) == 1 and prefix:
        raise BadWatch("`range_end` and `--prefix` are mutually exclusive")
    return Target(key, rest[0] if len(rest) == 1 else None, command)
