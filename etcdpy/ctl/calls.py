"""What most commands about the cluster do: look at their arguments, make one call, say that it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    import click


def exactly(count: int, words: tuple[str, ...], complaint: str) -> tuple[str, ...]:
    """The arguments. Raises Failure with etcdctl's complaint where there are more or fewer."""
    if len(words) != count:
        raise Failure(Exit.BAD_ARGUMENTS, complaint)
    return words


def ask(session: Session, service: str, call: str, request: Any, *endpoints: str) -> Any:
    """The answer to one call, from the first of these endpoints that is there (by default: of all). Raises Failure."""
    from etcdpy.client import stubs  # brings in grpcio, which bad arguments need not pay for

    with session.channel(*endpoints) as channel:
        return session.call(getattr(getattr(stubs, service)(channel), call), request)


def tell(ctx: click.Context, service: str, call: str, request: Any, *lines: str) -> None:
    """Make a call whose answer is that it is done, and say so. Raises Failure."""
    from etcdpy.ctl.cluster_answers import Told

    session = Session(ctx)
    session.show(Told(ask(session, service, call, request), *lines))
