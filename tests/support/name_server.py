"""A name server for tests: answers from a table, on an address of loopback of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Table = Mapping[tuple[str, str], Sequence[str]]
    """Records by name and type: `("m1.example.com", "A"): ["127.0.0.1"]`."""

_BIND = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'


def answer(question: bytes, table: Table) -> bytes:
    """What the table says, authoritatively."""
    query = dns.message.from_wire(question)
    response = dns.message.make_response(query)
    response.flags |= dns.flags.AA
    (asked,) = query.question
    name, kind = asked.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(asked.rdtype)
    if (name, kind) in table:
        response.answer.append(dns.rrset.from_text(asked.name, 60, "IN", kind, *table[name, kind]))
    elif not any(known == name for known, _ in table):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def own_resolver(resolv_conf: Path) -> list[str]:
    """The beginning of a command that sees this file as /etc/resolv.conf. The process stays the same, for signals."""
    return ["unshare", "--mount", "sh", "-c", _BIND, str(resolv_conf)]


@contextlib.contextmanager
def name_server(table: Table, resolv_conf: Path) -> Iterator[None]:
    """Serve the table on port 53 of an address of loopback, and write the file that leads there.

    Raises PermissionError where this process may not do so, or may not give a command a resolver of its own.
    """
    address = f"127.53.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    resolv_conf.write_text(f"nameserver {address}\noptions timeout:1 attempts:3\n")
    if shutil.which("unshare") is None or subprocess.run([*own_resolver(resolv_conf), "true"], check=False).returncode:
        raise PermissionError("a resolver of its own needs unshare(1) and the right to mount")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 53))
        server.settimeout(0.1)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    question, asker = server.recvfrom(4096)
                    server.sendto(answer(question, table), asker)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
