"""`gateway start`, from flags to exit code."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from etcdpy.commandline import Exit, Failure
from etcdpy.proxy.endpoints import discover, split_host_port, targets_of
from etcdpy.proxy.starting import run_loop
from etcdpy.proxy.tcp import Remotes, TcpGateway
from etcdpy.server import logs, notify, process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.server.discovery_srv import Target

log = logs.get("etcdmain")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """The flags, see `flags.GATEWAY`."""

    endpoints: tuple[str, ...]
    discovery_srv: str
    discovery_srv_name: str
    insecure_discovery: bool
    listen_addr: str
    retry_delay: int
    trusted_ca_file: str


def run(options: GatewayOptions) -> int:
    """Serve until a signal. Returns the exit code; what cannot be started with is said on standard error."""
    logs.setup_default()
    log.info("Running: ", args=sys.argv)
    return run_loop(partial(_serve, options))


async def _serve(options: GatewayOptions, room: int) -> None:
    stop = asyncio.Event()
    for number in process.STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    found = await discover(
        options.discovery_srv,
        options.discovery_srv_name,
        trusted_ca=options.trusted_ca_file,
        insecure=options.insecure_discovery,
    )
    targets = [each.target for each in found] or targets_of(options.endpoints)
    host, port = await _listen_address(options.listen_addr, targets)
    if not targets:
        raise Failure(Exit.ERROR, "no endpoints found")
    gateway = TcpGateway(
        Remotes(targets, random.SystemRandom()), retry_ns=options.retry_delay, connections_max=room // 2
    )
    await gateway.serve(host, port, stop, on_ready=_ready)


def _ready() -> None:
    log.info("notifying init daemon")
    notify.ready()


async def _listen_address(text: str, targets: Sequence[Target]) -> tuple[str, int]:
    """Where to listen. Raises Failure where that is no address, or an endpoint: connections would go round for ever."""
    try:
        host, port = split_host_port(text)
        number = int(port or "0")
    except ValueError:
        raise Failure(Exit.ERROR, f"failed to validate listen address: {text}") from None
    try:
        own = await _addresses(host)
    except OSError:
        raise Failure(Exit.ERROR, f"failed to resolve listen host: {host}") from None
    for target in targets:
        try:
            theirs = await _addresses(target.host)
        except OSError:
            raise Failure(Exit.ERROR, f"failed to resolve endpoint host: {target.host}") from None
        for address in theirs:
            if target.port == number and address in own:
                where = f"{target.host}:{target.port}->{address}:{target.port}"
                text = f"SRV or endpoint ({where}) should not resolve to the gateway listen addr ({text})"
                raise Failure(Exit.ERROR, text)
    return host, number


async def _addresses(host: str) -> list[str]:
    if not host:
        return []
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
