"""Looks on a host for what would keep a member from running well there, and changes nothing.

It prints an object of JSON: `faults`, a line for each, and `certificates`, those that are there with the URLs that they
are for, as `etcdpy pki batch verify` takes them. It runs before anything is installed, with nothing but Python's own.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

SYNCS = 15
SYNC_BYTES = 4096
DATA_PARENT = "/var/lib"
PYTHON_MIN = 0x030B0000
MEMBER = "etcdpy.service"
CONNECT_SECONDS_MAX = 5
STOP_SECONDS_MAX = 90
"""As long as systemd by itself gives a unit."""


def clock_fault(now: float, seconds_max: float) -> str:
    """`now` is the control machine's clock when the question left it."""
    apart = time.time() - now
    if abs(apart) <= seconds_max:
        return ""
    side = "ahead of" if apart > 0 else "behind"
    return f"its clock is {abs(apart):.0f} s {side} the control machine's; set it (timedatectl)"


def port_fault(address: str, port: int) -> str:
    """Whether a member could listen there. A name is looked up as the member will do it."""
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return f"its address {address} is not known here: {error.strerror}"
    with socket.socket(found[0], found[1]) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(found[4])
            listener.listen()
        except OSError as error:
            return f"{address}:{port} cannot be listened on: {(error.strerror or str(error)).lower()}"
    return ""


def sync_fault(milliseconds_max: float) -> str:
    """Whether the disk is too slow to sync before every answer."""
    took = []
    with tempfile.TemporaryFile(dir=DATA_PARENT) as file:
        for _ in range(SYNCS):
            file.write(bytes(SYNC_BYTES))
            file.flush()
            begun = time.monotonic()
            os.fdatasync(file.fileno())
            took.append((time.monotonic() - begun) * 1000)
    middle = statistics.median(took)
    if middle <= milliseconds_max:
        return ""
    return f"a sync in {DATA_PARENT} takes {middle:.0f} ms, more than {milliseconds_max:.0f}; use a faster disk"


def runs(unit: str) -> bool:
    """Whether the ports are that unit's already, or it is about to start. One that stops, as a run that was cut off has
    told it, is waited for."""
    command = ["/usr/bin/systemctl", "show", "-P", "ActiveState", unit]
    ends = time.monotonic() + STOP_SECONDS_MAX
    while True:
        state = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()  # noqa: S603
        if state != "deactivating" or time.monotonic() > ends:
            return state not in ("inactive", "failed")
        time.sleep(0.2)


def trust_fault(address: str, port: int, authority: str) -> str:
    """Whether what serves there has a certificate of that authority, which is in PEM."""
    context = ssl.create_default_context(cadata=authority)
    context.check_hostname = False
    try:
        with socket.create_connection((address, port), CONNECT_SECONDS_MAX) as connection:
            context.wrap_socket(connection).close()
    except ssl.SSLCertVerificationError as error:
        return f"etcd at {address}:{port} has no certificate of the authority here: {error.verify_message}"
    except OSError as error:
        return f"etcd at {address}:{port} does not answer with TLS: {(error.strerror or str(error)).lower()}"
    return ""


def etcd_faults(given: argparse.Namespace) -> list[str]:
    """What keeps the member of etcd on this host from being made one of etcdpy."""
    if runs(MEMBER):
        return []
    faults = []
    if not os.path.isdir(f"{given.etcd_data}/member"):
        faults.append(f"there are no data of etcd in {given.etcd_data}; say where: etcdpy_etcd_data")
    if runs(given.etcd_unit):
        if os.path.exists(given.data):
            faults.append(f"etcd runs, and there is {given.data} from before; put that away")
        authority = base64.b64decode(given.trust).decode()
        faults += [trust_fault(given.address, int(port), authority) for port in given.ports.split(",")]
    return faults


def text_of(path: str) -> str:
    """Of a file that is not there: nothing."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def main() -> None:
    """Look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--now", type=float, required=True)
    parser.add_argument("--clock-seconds", type=float, required=True)
    parser.add_argument("--fsync-ms", type=float, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--ports", required=True)
    parser.add_argument("--certificate", action="append", nargs="+", default=[], help="a file and its URLs")
    parser.add_argument(
        "--etcd-unit", default="", help="a member of etcd runs on this host, and is to become one of etcdpy"
    )
    for name in ("--etcd-data", "--data", "--trust"):
        parser.add_argument(name, default="")
    given = parser.parse_args()
    faults = [clock_fault(given.now, given.clock_seconds)]
    if given.etcd_unit:
        faults += etcd_faults(given)
    if not runs(MEMBER) and not (given.etcd_unit and runs(given.etcd_unit)):
        faults += [port_fault(given.address, int(port)) for port in given.ports.split(",")]
        faults.append(sync_fault(given.fsync_ms))
    if sys.hexversion < PYTHON_MIN:
        faults.append(f"its Python is {sys.version.split()[0]}; 3.11 or newer is needed")
    certificates = [
        {"file": path, "certificate": text, "urls": urls}
        for path, *urls in given.certificate
        if (text := text_of(path))
    ]
    sys.stdout.write(json.dumps({"faults": list(filter(None, faults)), "certificates": certificates}))


if __name__ == "__main__":
    main()
