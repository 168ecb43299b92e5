"""Commands that `watch` and `lock` run, and how Go tells of them."""

from __future__ import annotations

import signal

from etcdpy.ctl.gotext import quote


def exit_text(status: int) -> str:
    """How a process ended that did not end well; nothing for one that did."""
    if status < 0:
        return f"signal: {(signal.strsignal(-status) or str(-status)).lower()}"
    return f"exit status {status}" if status else ""


def start_text(name: str, error: OSError) -> str:
    """Why a process could not be started."""
    if isinstance(error, FileNotFoundError) and "/" not in name:
        return f"exec: {quote(name)}: executable file not found in $PATH"
    return f"fork/exec {name}: {(error.strerror or '').lower()}"
