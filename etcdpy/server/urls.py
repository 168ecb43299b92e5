"""The URLs that listeners bind and members advertise, with etcd's rules for them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_FORM = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/?#]*))?([^?#]*)(.*)", re.DOTALL)
_HOST_PORT = re.compile(r"(?:\[([^\[\]]*)\]|([^:\[\]]*)):([0-9]{1,5})")
_SCHEMES: Final = ("http", "https", "unix", "unixs")
PORT_MAX: Final = 65_535


class UrlError(ValueError):
    """A text that is no URL etcd would take; the message is etcd's."""


@dataclass(frozen=True, slots=True)
class Url:
    """One URL: `http`, `https` with host and port, or `unix`, `unixs` with a path. `str()` gives it back."""

    scheme: str
    host: str
    """Without the brackets of an IPv6 address; empty for a socket."""
    port: int
    path: str
    """The socket's path, as etcd takes it: what stands for the host joined to the path. Empty for http and https."""
    text: str

    @property
    def secure(self) -> bool:
        """Whether connections are TLS."""
        return self.scheme in ("https", "unixs")

    @property
    def is_unix(self) -> bool:
        """Whether it names a socket in the file system."""
        return self.scheme in ("unix", "unixs")

    @property
    def address(self) -> str:
        """`host:port` as Go prints it, or the socket's path."""
        if self.is_unix:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return self.text


def parse_url(text: str) -> Url:
    """One URL. Raises UrlError."""
    text = text.strip()
    match = _FORM.fullmatch(text)
    if match is None or match[1].lower() not in _SCHEMES:
        raise UrlError(f"URL scheme must be http, https, unix, or unixs: {text}")
    if any(ord(each) < 0x20 or ord(each) == 0x7F for each in text):
        raise UrlError(f"URL must not contain control characters: {text!r}")
    scheme, authority, path, query = match[1].lower(), match[2], match[3], match[4]
    text = scheme + text[len(scheme) :]
    if scheme in ("unix", "unixs"):
        socket = (authority or "") + path
        if not socket:
            raise UrlError(f"URL must name a socket: {text}")
        return Url(scheme, "", 0, socket, text)
    host_port = _HOST_PORT.fullmatch((authority or "").rpartition("@")[2])
    if host_port is None or int(host_port[3]) > PORT_MAX:
        raise UrlError(f'URL address does not have the form "host:port": {text}')
    if path or query:
        raise UrlError(f"URL must not contain a path: {text}")
    return Url(scheme, host_port[1] or host_port[2] or "", int(host_port[3]), "", text)


def parse_urls(text: str) -> tuple[Url, ...]:
    """A comma-separated list, sorted and without doubles as etcd keeps it. Raises UrlError."""
    return unique(parse_url(each) for each in text.split(","))


def unique(urls: Iterable[Url]) -> tuple[Url, ...]:
    """Sorted by text, each once."""
    return tuple(sorted({url.text: url for url in urls}.values(), key=str))


def parse_initial_cluster(text: str) -> dict[str, tuple[Url, ...]]:
    """`name=url,name=url,...` by name; a name may come several times. Raises UrlError."""
    found: dict[str, list[Url]] = {}
    for part in filter(None, text.split(",")):
        name, _, url = part.partition("=")
        found.setdefault(name, []).append(parse_url(url))
    return {name: tuple(sorted(urls, key=str)) for name, urls in found.items()}


def check_bindable(urls: Sequence[Url]) -> None:
    """Raise UrlError unless each names an IP address, localhost or a socket: a name may mean several addresses."""
    for url in urls:
        if not url.is_unix and url.host != "localhost" and not is_ip(url.host):
            raise UrlError(f"expected IP in URL for binding ({url})")


def check_reachable(urls: Sequence[Url]) -> None:
    """Raise UrlError for a URL that tells nobody which host to dial."""
    for url in urls:
        if not url.is_unix and not url.host:
            raise UrlError(f"unexpected empty host ({url})")


def is_ip(host: str) -> bool:
    """Whether `host` is an IPv4 or IPv6 address without a zone."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
