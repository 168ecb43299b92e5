"""A process that dies between two steps: what it has done stays, and nothing of it runs after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Crash(BaseException):
    """The process dies here: nothing of ours may run after it but what the system does."""


class CrashAt:
    """Wraps steps; the nth that is taken, whichever it is, dies before it does anything."""

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __call__(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                raise Crash
            return real(*arguments, **options)

        return step
