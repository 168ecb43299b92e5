"""Peer URLs as a request to add or update a member gives them, by etcd's rules."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from etcdpy.errors import MemberBadUrls

if TYPE_CHECKING:
    from collections.abc import Iterable

_FORM: Final = re.compile(
    r"""
    (?P<scheme>[A-Za-z][A-Za-z0-9+.-]*) :
    (?: // (?:[^/?\#@]*@)? (?P<host>[^/?\#]*) )?
    (?P<path>[^?\#]*) (?P<rest>.*)
    """,
    re.VERBOSE | re.DOTALL,
)
_HOST_PORT: Final = re.compile(r"(?:\[[^\[\]]*\]|[^:\[\]\s]*):\d*", re.ASCII)


def parse_peer_urls(texts: Iterable[str]) -> tuple[str, ...]:
    """The URLs, tidied and sorted as etcd keeps them. Raises MemberBadUrls."""
    urls = sorted(_tidied(text.strip()) for text in texts)
    if not urls:
        raise MemberBadUrls
    return tuple(urls)


def _tidied(text: str) -> str:
    match = _FORM.fullmatch(text)
    if match is None or not text.isprintable():
        raise MemberBadUrls
    scheme = match["scheme"].lower()
    if scheme in ("http", "https"):
        if _HOST_PORT.fullmatch(match["host"] or "") is None or match["path"]:
            raise MemberBadUrls
    elif scheme not in ("unix", "unixs"):
        raise MemberBadUrls
    return scheme + text[len(scheme) :]
