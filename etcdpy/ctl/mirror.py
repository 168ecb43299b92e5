"""`make-mirror`: copies keys to another cluster, and goes on to copy what happens to them."""

from __future__ import annotations

import itertools
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from etcdpy.commandline import INT, UINT, Command, Exit, Failure
from etcdpy.ctl.options import credentials, global_options
from etcdpy.ctl.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterable

    from etcdpy.client.call import Call
    from etcdpy.client.client import Client
    from etcdpy.proto import kv_pb2

PAGE_KEYS: Final = 1000
"""Keys read at a time for the first copy. etcd's number."""
REPORT_SECONDS: Final = 30.0
"""How often the number of keys copied is printed."""


@click.command("make-mirror", cls=Command, globals_=global_options, short_help="Copies keys to another cluster")
@click.option("--prefix", default="", metavar="string", help="Copy the keys that begin so")
@click.option("--rev", type=INT, default=0, help="Copy nothing that is there, but what happens from this revision on")
@click.option("--max-txn-ops", type=UINT, default=128, help="Changes in a transaction, at the most (default 128)")
@click.option("--dest-prefix", default="", metavar="string", help="What the keys begin with there")
@click.option("--no-dest-prefix", is_flag=True, help="Let the keys begin with nothing there")
@click.option("--dest-cert", default="", metavar="string", help="The certificate file that is shown there")
@click.option("--dest-key", default="", metavar="string", help="The key file of --dest-cert")
@click.option("--dest-cacert", default="", metavar="string", help="The CA bundle that servers there are verified with")
@click.option("--dest-insecure-transport", is_flag=True, default=True, help="No TLS unless asked for (default true)")
@click.option("--dest-user", default="", metavar="string", help="name[:password] there; what is missing is asked for")
@click.option("--dest-password", default="", metavar="string", help="The password of --dest-user")
@click.argument("words", nargs=-1, metavar="<destination>")
@click.pass_context
def make_mirror(ctx: click.Context, /, words: tuple[str, ...], **flags: Any) -> None:
    """Copy keys to the cluster at an endpoint, and then each change of them, until this is interrupted. Every 30
    seconds the number of keys copied is printed. Keys that are there alone stay.

    \b
    Examples:
      etcdpyctl make-mirror 10.0.1.1:2379
      etcdpyctl make-mirror --prefix /app/ --dest-prefix /copy/ https://10.0.1.1:2379 --dest-cacert ca.pem
    """
    if len(words) != 1:
        raise Failure(Exit.BAD_ARGUMENTS, "make-mirror takes one destination argument")
    user, password = credentials(flags["dest_user"], flags["dest_password"], "Destination Password: ")
    session = Session(ctx)
    there = _destination(session, words[0], flags, user, password)
    if flags["no_dest_prefix"] and flags["dest_prefix"]:
        text = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    with session.failing():
        Mirror(session.client, there, flags).run()


def _destination(session: Session, endpoint: str, flags: dict[str, Any], user: str, password: str) -> Client:
    def path(name: str) -> Path | None:
        return Path(flags[name]) if flags[name] else None

    options = replace(
        session.options,
        trusted_ca=path("dest_cacert"),
        certificate=path("dest_cert"),
        key=path("dest_key"),
        insecure_transport=flags["dest_insecure_transport"],
        skip_verify=False,
        user=user,
        password=password,
        token="",
    )
    return session.open_client((endpoint,), options)


class Mirror:
    """Copies from one cluster to another."""

    def __init__(self, here: Client, there: Client, flags: dict[str, Any]) -> None:
        self._here = here
        self._there = there
        self._prefix = os.fsencode(flags["prefix"])
        kept = "" if flags["no_dest_prefix"] else flags["dest_prefix"] or flags["prefix"]
        self._new_prefix = os.fsencode(kept)
        self._begin = max(0, flags["rev"] - 1)
        self._operations_max: int = flags["max_txn_ops"]
        self.copied = 0

    def run(self) -> None:
        """Copy what is there, and then what happens. Ends with an error alone: EtcdError."""
        ended = threading.Event()
        threading.Thread(target=self._report, args=(ended,), daemon=True).start()
        try:
            revision = self._begin or self._copy_all()
            # An empty prefix is every key, here as for a read.
            with self._here.watch(self._prefix, prefix=True, start_revision=revision + 1) as watch:
                while (answer := watch.next()) is not None:
                    self._copy_events(answer.events)
        finally:
            ended.set()

    def _report(self, ended: threading.Event) -> None:
        while not ended.wait(REPORT_SECONDS):
            click.echo(self.copied)

    def _copy_all(self) -> int:
        """Put every key there; returns the revision that they were read at."""
        revision = 0
        for page in self._here.pages(self._prefix, prefix=True, size=PAGE_KEYS):
            revision = revision or page.header.revision
            for pair in page.kvs:
                self._there.put(self._named(pair.key), pair.value)
                self.copied += 1
        return revision

    def _copy_events(self, events: Iterable[kv_pb2.Event]) -> None:
        """Do what happened: each revision in a transaction of its own, or in several where it is large."""
        for _, group in itertools.groupby(events, key=lambda event: event.kv.mod_revision):
            operations = list(map(self._operation, group))
            size = self._operations_max or len(operations)
            for start in range(0, len(operations), size):
                self._there.txn(then=operations[start : start + size])
            self.copied += len(operations)

    def _operation(self, event: kv_pb2.Event) -> Call[Any]:
        from etcdpy.client import op
        from etcdpy.proto import kv_pb2

        key = self._named(event.kv.key)
        return op.delete(key) if event.type == kv_pb2.Event.DELETE else op.put(key, event.kv.value)

    def _named(self, key: bytes) -> bytes:
        return self._new_prefix + key[len(self._prefix) :]
