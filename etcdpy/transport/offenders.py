"""Addresses whose connections were ended for flooding: their next ones are served at a slow pace for a while.

A bound on one connection does not hold who opens another one at once. Connections that are open already, and those of
other addresses, are not touched.
"""

from __future__ import annotations

from etcdpy import work_limits


class Offenders:
    """Remembers a bounded number of hosts, each with when its offence is forgotten and when it is served next."""

    __slots__ = ("_hosts",)

    def __init__(self) -> None:
        self._hosts: dict[str, tuple[float, float]] = {}

    def note(self, address: str, now: float) -> None:
        """A connection of `address` (host:port) was ended for flooding. Clients of a unix socket have no address."""
        if ":" not in address:
            return
        host = _host(address)
        _, turn = self._hosts.pop(host, (0.0, now))
        self._hosts[host] = now + work_limits.OFFENCE_SECONDS, turn
        if len(self._hosts) > work_limits.OFFENDERS_MAX:
            del self._hosts[next(iter(self._hosts))]

    def wait_seconds(self, address: str, now: float) -> float | None:
        """How long a new connection waits to be served; None: too many wait already, so drop it."""
        if not self._hosts:
            return 0.0
        host = _host(address)
        found = self._hosts.get(host)
        if found is None:
            return 0.0
        forgotten, turn = found
        if now >= forgotten:
            del self._hosts[host]
            return 0.0
        turn = max(turn, now)
        if turn - now > work_limits.OFFENDER_WAIT_SECONDS_MAX:
            return None
        self._hosts[host] = forgotten, turn + work_limits.OFFENDER_PACE_SECONDS
        return turn - now


def _host(address: str) -> str:
    return address.rpartition(":")[0]
