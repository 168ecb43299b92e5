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


def ask(session: Session, call: str, request: Any, *endpoints: str) -> Any:
    """The answer to a call, by its name in `etcdpy.client.call`; `endpoints`: of one of these. Raises Failure."""
    from etcdpy.client import call as calls  # brings in messages, which bad arguments need not pay for

    return session.do(getattr(calls, call), request, endpoints=endpoints)


def tell(ctx: click.Context, call: str, request: Any, *lines: str) -> None:
    """Make a call whose answer is that it is done, and say so. Raises Failure."""
    from etcdpy.ctl.cluster_answers import Told

    session = Session(ctx)
    session.show(Told(ask(session, call, request), *lines))
