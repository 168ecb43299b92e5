"""Readiness and liveness for systemd (sd_notify), without its library. Nothing here ever fails the server."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send `state` to $NOTIFY_SOCKET. Returns whether it went out; without a socket, or when sending fails, False."""
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@") or len(address) < 2:
        return False
    # A leading @ stands for the zero byte of an abstract address.
    target = f"\0{address[1:]}" if address[0] == "@" else address
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), target)
    except (OSError, ValueError):
        return False
    return True


def ready() -> bool:
    """The member serves clients."""
    return notify("READY=1")


def stopping() -> bool:
    """The member shuts down."""
    return notify("STOPPING=1")


def status(text: str) -> bool:
    """One line for `systemctl status`."""
    return notify("STATUS=" + " ".join(text.split()))


def watchdog() -> bool:
    """The loop is alive. To be called at least each `watchdog_interval_seconds`, from the loop itself."""
    return notify("WATCHDOG=1")


def watchdog_interval_seconds(environ: Mapping[str, str] | None = None, pid: int | None = None) -> float | None:
    """How often to call `watchdog`: half of what systemd allows, or None when it does not watch this process."""
    found = os.environ if environ is None else environ
    watched = found.get("WATCHDOG_PID")
    if watched and watched != str(os.getpid() if pid is None else pid):
        return None
    text = found.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        return None
    return int(text) / 2_000_000
