"""What both proxies do around their event loop."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from etcdpy.commandline import Exit, Failure
from etcdpy.server import logs, process

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def run_loop(serve: Callable[[int], Coroutine[Any, Any, None]]) -> int:
    """Run `serve`, which is given the number of descriptors for connections, to its end. Returns the exit code; what
    the proxy cannot start with is said in a line on standard error.
    """
    import uvloop

    process.raise_descriptor_limit()
    try:
        room = process.check_descriptor_limit()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(room))
    except (Failure, OSError, ValueError, process.TooFewDescriptors) as problem:
        sys.stderr.write(f"{_said(problem)}\n")
        return Exit.ERROR
    finally:
        logs.close()
    return Exit.OK


def _said(problem: Exception) -> str:
    """Without the number that Python puts before an error of the system."""
    if isinstance(problem, OSError) and problem.strerror and problem.filename is None:
        return problem.strerror
    return str(problem)
