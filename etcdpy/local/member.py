"""A member as a child process: start, wait until it serves, stop."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from etcdpy.commandline import Exit, Failure
from etcdpy.local.place import HOST, member_environment

if TYPE_CHECKING:
    from collections.abc import Callable

    from etcdpy.local.place import Place

READY_SECONDS_MAX: Final = 20.0
STOP_SECONDS_MAX: Final = 15.0
POLL_SECONDS: Final = 0.05
LOG_LINES_SHOWN: Final = 8
_PR_SET_PDEATHSIG: Final = 1


def check_ports(place: Place) -> None:
    """Raises Failure with one line when a port is taken."""
    for port, flag in ((place.client_port, "--client-port"), (place.peer_port, "--peer-port")):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                reason = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by this user"
                mend = f'choose another: make up ARGS="{flag} {port + 10000}"'
                raise Failure(Exit.ERROR, f"port {port} on {HOST} {reason}; {mend}") from None


def running_pid(place: Place) -> int | None:
    """The member's process, if it runs. A stale file, or one whose number went to another process, counts as none."""
    try:
        pid = int(place.pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(f"--data-dir={place.data}") in words else None


def start(place: Place, *, detached: bool) -> subprocess.Popen[bytes]:
    """Start the member. It has a session of its own, so that Ctrl-C reaches us alone and the member ends in order."""
    parent = os.getpid()

    def follow_parent() -> None:  # runs in the child between fork and exec
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before we asked to be told
            os._exit(1)

    place.directory.mkdir(parents=True, exist_ok=True)
    with place.log.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - every word is ours
            [sys.executable, "-m", "etcdpy", *place.member_flags()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=member_environment(),
            start_new_session=True,
            preexec_fn=None if detached else follow_parent,
        )
    place.pid_file.write_text(f"{process.pid}\n")
    return process


def wait_healthy(place: Place, process: subprocess.Popen[bytes], is_healthy: Callable[[], bool]) -> float:
    """Wait until it answers; returns the seconds that took. Raises Failure with the end of the log."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < READY_SECONDS_MAX:
        if (status := process.poll()) is not None:
            raise Failure(Exit.ERROR, f"the member ended with status {status}:\n{log_tail(place)}")
        if is_healthy():
            return waited
        time.sleep(POLL_SECONDS)
    raise Failure(Exit.ERROR, f"the member is not healthy after {READY_SECONDS_MAX:.0f} s:\n{log_tail(place)}")


def stop_child(place: Place, process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, and SIGKILL where that does not help; returns the exit status. Leaves no process and no pid file."""
    if process.poll() is None:
        process.terminate()
    try:
        status = process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        status = process.wait()
    place.pid_file.unlink(missing_ok=True)
    return status


def stop_running(place: Place) -> int | None:
    """Stop a member that another run of this tool started; returns its id, None where there is none."""
    pid = running_pid(place)
    if pid is not None:
        deadline = time.monotonic() + STOP_SECONDS_MAX
        with suppress(ProcessLookupError):  # it may end between any look and any signal
            os.kill(pid, signal.SIGTERM)
            while running_pid(place) == pid:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                time.sleep(POLL_SECONDS)
    place.pid_file.unlink(missing_ok=True)
    return pid


def log_tail(place: Place) -> str:
    """The end of the member's log."""
    lines = place.log.read_text(errors="replace").splitlines() if place.log.exists() else []
    return "\n".join(line[:400] for line in lines[-LOG_LINES_SHOWN:])
