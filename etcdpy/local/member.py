"""Members as child processes: start, wait until they serve, stop."""

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
    from collections.abc import Callable, Sequence

    from etcdpy.local.place import MemberPlace, Place

READY_SECONDS_MAX: Final = 20.0
STOP_SECONDS_MAX: Final = 15.0
POLL_SECONDS: Final = 0.05
LOG_LINES_SHOWN: Final = 8
_PR_SET_PDEATHSIG: Final = 1


def check_ports(place: Place) -> None:
    """Raises Failure with one line when a port is taken."""
    for member in place.members:
        _check_port(member.client_port, "--client-port", place.client_port)
        _check_port(member.peer_port, "--peer-port", place.peer_port)


def _check_port(port: int, flag: str, first_port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            reason = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by this user"
            mend = f'choose others: make up ARGS="{flag} {first_port + 10000}"'
            raise Failure(Exit.ERROR, f"port {port} on {HOST} {reason}; {mend}") from None


def running_pid(member: MemberPlace) -> int | None:
    """The member's process, if it runs. A stale file, or one whose number went to another process, counts as none."""
    try:
        pid = int(member.pid_file.read_text())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if os.fsencode(f"--data-dir={member.data}") in words else None


class Child:
    """A member that this run started. It has a session of its own, so that Ctrl-C reaches us alone and it ends in
    order; unless `detached` it ends when we do, however that happens."""

    def __init__(self, member: MemberPlace, *, detached: bool) -> None:
        parent = os.getpid()

        def follow_parent() -> None:  # runs in the child between fork and exec
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it ended before we asked to be told
                os._exit(1)

        member.log.parent.mkdir(parents=True, exist_ok=True)
        with member.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - every word is ours
                [sys.executable, "-P", "-m", "etcdpy", *member.flags()],  # -P: not what lies in this directory
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=member_environment(),
                start_new_session=True,
                preexec_fn=None if detached else follow_parent,
            )
        self.member = member
        member.pid_file.write_text(f"{self.process.pid}\n")

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll()

    def end_text(self) -> str:
        """That it ended, with the end of its log."""
        return f"{self.member.name} ended with status {self.status}:\n{log_tail(self.member)}"


def wait_healthy(children: Sequence[Child], is_healthy: Callable[[], bool]) -> float:
    """Wait until all answer; returns the seconds that took. Raises Failure with the end of a log."""
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < READY_SECONDS_MAX:
        for child in children:
            if child.status is not None:
                raise Failure(Exit.ERROR, child.end_text())
        if is_healthy():
            return waited
        time.sleep(POLL_SECONDS)
    logs = "\n".join(log_tail(child.member) for child in children)
    raise Failure(Exit.ERROR, f"the members are not healthy after {READY_SECONDS_MAX:.0f} s:\n{logs}")


def stop_children(children: Sequence[Child]) -> None:
    """SIGTERM to all, and SIGKILL where that does not help. Leaves no process and no pid file."""
    for child in children:
        if child.status is None:
            child.process.terminate()
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for child in children:
        try:
            child.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
        child.member.pid_file.unlink(missing_ok=True)


def stop_running(place: Place) -> list[int]:
    """Stop the members that another run of this tool started; returns the ids of those that ran."""
    running = {member.name: pid for member in place.members if (pid := running_pid(member)) is not None}
    for pid in running.values():
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS_MAX
    for member in place.members:
        while (pid := running_pid(member)) is not None and pid == running.get(member.name):
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
        member.pid_file.unlink(missing_ok=True)
    return list(running.values())


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it may end between any look and any signal
        os.kill(pid, number)


def log_tail(member: MemberPlace) -> str:
    """The end of the member's log."""
    lines = member.log.read_text(errors="replace").splitlines() if member.log.exists() else []
    return "\n".join(line[:400] for line in lines[-LOG_LINES_SHOWN:])
