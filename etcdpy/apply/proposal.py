"""What a committed entry does, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from mypy_extensions import mypyc_attr

if TYPE_CHECKING:
    from collections.abc import Generator

    from etcdpy.auth.identity import Identity
    from etcdpy.errors import EtcdError

Outcome: TypeAlias = tuple[int, bytes]
"""What applying a request gave: the revision that the response's header shows, and the response without its header.

The header is field 1 of every response, so whoever answers a client puts it in front. A plain tuple: one is made for
every write.
"""

Steps: TypeAlias = "Generator[None, None, list[bytes]]"
"""A request that is too much for one turn of the loop: each `next` does a slice of it, and what it returns at the end
is the response without its header, in pieces. Until then nobody sees anything of it."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Proposal:
    """A request on its way through the log, kept beside its entry by the member that took it in.

    `data` is the entry's payload (etcdserverpb.InternalRaftRequest); `kind` names the field that is set in it and
    `request` is that field's message, so that a committed entry need not be parsed again by the member that wrote it.
    """

    __slots__ = ("data", "kind", "request", "signer")

    signer: Identity
    """Who asked for it, as in `data`. While users are switched off it is nobody."""
    kind: str
    request: Any
    data: bytes

    def answer(self, outcome: Outcome) -> None:
        """The request was applied. Called once, unless `refuse` is."""
        raise NotImplementedError

    def answer_parts(self, revision: int, parts: list[bytes]) -> None:
        """The same with a response that comes in pieces, as a long one does."""
        self.answer((revision, b"".join(parts)))

    def caller(self) -> tuple[str, str] | None:
        """The address of the client that waits, and the method it called; None for a request of the member's own."""
        return None

    def refuse(self, error: EtcdError) -> None:
        """The request came to nothing: refused at apply, or given up before it was committed.

        An entry that was given up may still be committed later; `answer` or `refuse` may then come a second time and
        must be harmless.
        """
        raise NotImplementedError
