"""What the operating system gives the process: descriptors, memory, signals."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import Final

from etcdpy import limits, wire

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Drain, close and end. SIGHUP is among them because the terminal of a member started by hand may go away."""

IGNORED_SIGNALS: Final = (signal.SIGPIPE,)
"""A client that goes away is no reason to stop."""

UMASK: Final = 0o077
"""Data, keys and sockets made by the server are for its user alone."""

DESCRIPTORS_WITHOUT_LIMIT: Final = 1 << 20
"""Where the hard limit is infinity; the kernel's own default of fs.nr_open."""

_MCL_CURRENT, _MCL_FUTURE = 1, 2
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def is_compiled() -> bool:
    """Whether the hot road runs as extension modules (see setup.py) and not as the Python that it is written in."""
    return not wire.__file__.endswith(".py")


class TooFewDescriptors(Exception):
    """The process may open too few files to serve anybody."""


def descriptor_limit() -> int:
    """How many descriptors the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 - 1 if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> None:
    """Take as many descriptors as the hard limit allows, as Go's runtime does.

    A shell's soft limit of 1,024 is meant for programs that use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WITHOUT_LIMIT if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # fs.nr_open may be lower; what there was is kept then
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_descriptor_limit(limit: int | None = None) -> int:
    """The descriptors left for client connections. Raises TooFewDescriptors, with etcd's text, at 150 or below."""
    found = descriptor_limit() if limit is None else limit
    if found <= limits.FILE_DESCRIPTORS_RESERVED:
        raise TooFewDescriptors(
            "file descriptor limit of etcd process is too low; please set higher "
            f"(limit {found}, more than {limits.FILE_DESCRIPTORS_RESERVED} needed; "
            "ulimit -n, or LimitNOFILE= in the unit)"
        )
    return found - limits.FILE_DESCRIPTORS_RESERVED


def descriptors_used() -> int:
    """How many descriptors are open; 0 where /proc cannot say."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # the listing itself holds one
    except OSError:
        return 0


def restrict_umask() -> int:
    """Set the umask; returns the one before."""
    return os.umask(UMASK)


def lock_memory() -> str | None:
    """--memory-mlock: keep all pages in memory, now and later. Returns why not, or None."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return None
    return f"{os.strerror(ctypes.get_errno())}; raise the limit on locked memory (ulimit -l, LimitMEMLOCK=)"


def keep_freed_memory() -> bool:
    """Let the allocator keep some of what is freed. Returns whether it can: glibc can, musl has no such call.

    Left to itself glibc gives the end of its heap back after every large answer, and each page of the next one is a
    fault again. A list of 10,000 keys of 1 KB takes 8 ms of CPU with this and 16 ms without.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    if adjust is None:
        return False
    options = (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD)
    return all(adjust(option, limits.FREED_MEMORY_KEPT_BYTES) == 1 for option in options)


def give_freed_memory_back() -> None:
    """Let the allocator give back to the kernel what is free in the middle of its heap too, where it can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Physical memory in use; 0 where /proc cannot say."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0
