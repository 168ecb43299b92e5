"""Requests over HTTP/1.1 whose head has come before, byte by byte: what h11 has made of it once holds again.

Clients that keep a connection send the same head with every request to a path. Reading it costs h11 some 100 us and a
look-up here 1 us; only heads that h11 has read are known, and whatever is not one of them goes through h11. Answers in
one piece are written here as well, as h11 would write them.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import h11

from etcdpy import limits
from etcdpy.transport.exchange import HttpRequest

if TYPE_CHECKING:
    import asyncio

    from etcdpy.transport.calls import Peer

_HEAD_END: Final = b"\r\n\r\n"
_OF_THE_CONNECTION: Final = frozenset((b"connection", b"expect", b"transfer-encoding", b"upgrade"))
"""Headers that say more than what the request is."""


class KnownHead:
    """What one head says. `memo` is for handlers: what they have learnt from the head alone."""

    __slots__ = ("body_bytes", "memo", "raw", "request")

    def __init__(self, raw: bytes, body_bytes: int, request: HttpRequest) -> None:
        self.raw = raw
        self.body_bytes = body_bytes
        self.request = request
        self.memo: dict[str, Any] = {}

    def request_of(self, body: bytes, peer: Peer, gone: asyncio.Future[None]) -> HttpRequest:
        """A request with this head."""
        like = self.request
        return HttpRequest(
            method=like.method,
            path=like.path,
            query=like.query,
            headers=like.headers,
            body=body,
            peer=peer,
            secure=like.secure,
            host=like.host,
            version=like.version,
            gone=gone,
            memo=self.memo,
        )


class KnownHeads:
    """The heads of one connection. The first that came goes when there are too many."""

    __slots__ = ("_heads", "_new")

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}
        self._new = b""
        """A head that h11 reads now."""

    def find(self, data: bytes) -> tuple[KnownHead, int] | None:
        """The head that `data` begins with and the place of the body, if the head has come before."""
        self._new = b""
        end = data.find(_HEAD_END, 0, limits.HTTP_HEAD_KNOWN_BYTES_MAX) + len(_HEAD_END)
        raw = data[:end]
        known = self._heads.get(raw)
        if known is not None:
            return known, end
        # Where a line ends without \r, the head may end before the place that was found.
        if end >= len(_HEAD_END) and raw.count(b"\n") == raw.count(b"\r\n") and raw[:1].isalpha():
            self._new = raw
        return None

    def learn(self, event: h11.Request, request: HttpRequest) -> None:
        """h11 has read the head that was not found."""
        raw, self._new = self._new, b""
        names = [name for name, _ in event.headers]
        if not raw or event.http_version != b"1.1" or event.method in (b"HEAD", b"CONNECT"):
            return
        if names.count(b"content-length") > 1 or not _OF_THE_CONNECTION.isdisjoint(names):
            return
        body_bytes = int(dict(event.headers).get(b"content-length", b"0"))
        if body_bytes > limits.HTTP_BODY_KNOWN_BYTES_MAX:
            return
        if len(self._heads) >= limits.HTTP_HEADS_KNOWN_MAX:
            del self._heads[next(iter(self._heads))]
        self._heads[raw] = KnownHead(raw, body_bytes, request)

    def forget_new(self) -> None:
        """What comes next does not begin where a head begins."""
        self._new = b""


@lru_cache(maxsize=256)
def _head_lines(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    """Status line and headers. Raises h11.LocalProtocolError for what may not stand there."""
    checked = h11.Response(status_code=status, headers=list(headers), reason=reason(status))
    lines = [b"HTTP/1.1 %d %b" % (status, checked.reason), *(b"%b: %b" % pair for pair in checked.headers.raw_items())]
    return b"\r\n".join(lines)


def reason(status: int) -> bytes:
    """The words for a status."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


_date = (0, "")


def http_date() -> str:
    """Now, for the header of that name."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


def whole_answer(status: int, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """An answer with its body, date and length added. Raises h11.LocalProtocolError for a bad header."""
    start = _head_lines(status, tuple(headers))
    return b"%b\r\ndate: %b\r\ncontent-length: %d\r\n\r\n%b" % (start, http_date().encode(), len(body), body)
