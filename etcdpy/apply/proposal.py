"""What a committed entry does, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from etcdpy.auth.identity import NOBODY, Identity

if TYPE_CHECKING:
    from etcdpy.errors import EtcdError

Outcome: TypeAlias = tuple[int, bytes]
"""What applying a request gave: the revision that the response's header shows, and the response without its header.

The header is field 1 of every response, so whoever answers a client puts it in front. A plain tuple: one is made for
every write.
"""


class Proposal:
    """A request on its way through the log, kept beside its entry by the member that took it in.

    `data` is the entry's payload (etcdserverpb.InternalRaftRequest); `kind` names the field that is set in it and
    `request` is that field's message, so that a committed entry need not be parsed again by the member that wrote it.
    """

    __slots__ = ("data", "kind", "request")

    signer: Identity = NOBODY
    """Who asked for it, as in `data`. While users are switched off it is nobody."""
    kind: str
    request: Any
    data: bytes

    def answer(self, outcome: Outcome) -> None:
        """The request was applied. Called once, unless `refuse` is."""
        raise NotImplementedError

    def refuse(self, error: EtcdError) -> None:
        """The request came to nothing: refused at apply, or given up before it was committed.

        An entry that was given up may still be committed later; `answer` or `refuse` may then come a second time and
        must be harmless.
        """
        raise NotImplementedError
