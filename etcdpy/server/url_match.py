"""Whether two lists of URLs name the same places, asking DNS where their texts differ."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from etcdpy import limits
from etcdpy.server import logs
from etcdpy.server.urls import is_ip, parse_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from etcdpy.server.urls import Url

    Resolve = Callable[[str, int], Awaitable[str]]
    """Host and port to `ip:port`. Raises OSError."""

log = logs.get("netutil")


class UrlMismatch(Exception):
    """Two lists of URLs differ; the text says where, as etcd does."""


async def resolve_address(host: str, port: int) -> str:
    """The first address that the system's resolver gives. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    ip, number = found[0][4][:2]
    return _join(str(ip), int(number))


async def check_same(
    first: Sequence[str], second: Sequence[str], resolve: Resolve, *, give_up: float | None = None
) -> None:
    """Raise UrlMismatch unless both name the same places; UrlError for what is no URL.

    A name that cannot be resolved yet is tried again for a while, until the loop's clock shows `give_up`: members often
    start before their DNS is complete.
    """
    if len(first) != len(second):
        raise UrlMismatch(f"len({_list(first)}) != len({_list(second)})")
    ours, theirs = [*map(parse_url, first)], [*map(parse_url, second)]
    if sorted(map(_place, ours)) == sorted(map(_place, theirs)):
        return
    until = asyncio.get_running_loop().time() + limits.RESOLVE_SECONDS if give_up is None else give_up
    mine = [await _resolved(url, resolve, until) for url in ours]
    others = [await _resolved(url, resolve, until) for url in theirs]
    for one, other in zip(sorted(mine), sorted(others), strict=True):
        if one != other:
            raise UrlMismatch(f'resolved urls: "{one}" != "{other}"')


async def _resolved(url: Url, resolve: Resolve, give_up: float) -> str:
    if url.is_unix or url.host == "localhost" or is_ip(url.host):
        return _place(url)
    while True:
        try:
            return f"{url.scheme}://{await resolve(url.host, url.port)}"
        except OSError as error:
            log.warn("failed to resolve URL Host", url=str(url), host=url.address, error=str(error))
            if asyncio.get_running_loop().time() >= give_up:
                raise UrlMismatch(f'failed to resolve "{url}" ({error})') from error
        await asyncio.sleep(limits.RESOLVE_RETRY_SECONDS)


def _place(url: Url) -> str:
    """The URL with its address in one spelling."""
    if url.is_unix:
        return str(url)
    host = str(ipaddress.ip_address(url.host)) if is_ip(url.host) else url.host
    return f"{url.scheme}://{_join(host, url.port)}"


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _list(texts: Sequence[str]) -> str:
    return "[" + " ".join(f'"{text}"' for text in texts) + "]"
