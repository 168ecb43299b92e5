"""`etcdpyutl commit-log`: the last survivor of a cluster keeps what it stored, though nobody is left to vote on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from etcdpy.commandline import Command
from etcdpy.utl.options import global_options, member_options, require
from etcdpy.utl.printers import check_format, show_facts
from etcdpy.utl.work import stopped_member

if TYPE_CHECKING:
    from etcdpy.storage.engine import Engine


@click.command(
    "commit-log", cls=Command, globals_=global_options, short_help="Counts a last survivor's whole log as committed"
)
@member_options
@click.pass_context
def commit_log(ctx: click.Context, data_dir: str, wal_dir: str, key_file: str) -> None:
    """Count every entry of a stopped member's log as committed, as a leader with that log would come to do.

    For the last survivor of a cluster, before it is started with --force-new-cluster, which drops what the survivor
    does not know to be committed. The quorum that is gone may have known more, and have acknowledged it to clients.
    Never do this to a member whose others may come back with another log.

    \b
    Example:
      etcdpyutl commit-log --data-dir /var/lib/etcdpy
    """
    require(ctx, data_dir=data_dir)
    form = check_format(ctx)
    with stopped_member(ctx, data_dir, wal_dir, key_file) as engine:
        facts = _commit_all(engine)
    show_facts(form, facts)


def _commit_all(engine: Engine) -> dict[str, int]:
    """Synced. Raises StorageError."""
    hard_state, _ = engine.log.initial_state()
    known, last = max(hard_state.commit, engine.applied_index), engine.log.last_index()
    if hard_state.commit < last:
        engine.write_now(hard_state._replace(commit=last), ())
    return {"term": hard_state.term, "commit": last, "entries": last - known}
