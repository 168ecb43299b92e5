"""What the commands of `etcdpy pki` share: exit codes, options, and the ways to print."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.table import Table

from pki import files, keys
from pki.authority import Names
from pki.errors import PkiError
from pki.store import KeyAccess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pki.store import Made

EXIT_CHANGED: Final = 2
"""`renew` made something: for timers and playbooks, which act on it."""
EXIT_ARGUMENTS: Final = 128


class Group(click.Group):
    """Turns our errors into one line and exit code 1, and click's complaints about arguments into 128."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As click's."""
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            _mark(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """As click's."""
        try:
            return super().invoke(ctx)
        except PkiError as error:
            raise click.ClickException(str(error)) from None
        except click.UsageError as error:
            _mark(error)
            raise


def _mark(error: click.UsageError) -> None:
    vars(error)["exit_code"] = EXIT_ARGUMENTS  # click reads it from the instance; its stubs know it of the class only


def now() -> datetime.datetime:
    """The moment of this run."""
    return datetime.datetime.now(datetime.UTC)


# --- options ---

_FILE: Final = click.Path(dir_okay=False, path_type=Path)

directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="Where the files lie.  [default: the current directory]",
)
key_type_option = click.option(
    "--key-type",
    type=click.Choice([each.value for each in keys.KeyType]),
    default=keys.KeyType.ECDSA_P256.value,
    show_default=True,
)
force_option = click.option("--force", is_flag=True, help="Replace files that are there already.")
form_option = click.option(
    "-w",
    "--write-out",
    "form",
    type=click.Choice(["simple", "json", "table"]),
    default="simple",
    show_default=True,
)
passphrase_option = click.option(
    "--passphrase-file",
    type=_FILE,
    help="File whose first line is the passphrase of the CA key; without it you are asked.",
)
_NAME_OPTIONS: Final = (
    click.option("--ip", "addresses", multiple=True, help="An IP address it stands for. May be repeated."),
    click.option("--dns", "dns_names", multiple=True, help="A host name it stands for. May be repeated."),
    click.option(
        "--cn",
        "common",
        help="The common name; etcd's user name under --client-cert-auth.  [default: NAME, or that of a request]",
    ),
    click.option("--org", "organizations", multiple=True, help="An organization (O). May be repeated."),
)


def name_options(command: Callable[..., None]) -> Callable[..., None]:
    """--ip, --dns, --cn and --org, which the command gets as `names`."""

    @functools.wraps(command)
    def run(
        addresses: tuple[str, ...],
        dns_names: tuple[str, ...],
        common: str | None,
        organizations: tuple[str, ...],
        **rest: Any,
    ) -> None:
        command(names=Names(addresses, dns_names, common, organizations), **rest)

    return functools.reduce(lambda made, option: option(made), reversed(_NAME_OPTIONS), run)


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """--passphrase-file and --ca-key, which the command gets as `access`."""

    @functools.wraps(command)
    def run(passphrase_file: Path | None, ca_key: Path | None, **rest: Any) -> None:
        # A passphrase is asked once, however many keys it opens.
        ask = functools.cache(lambda: passphrase(passphrase_file, confirm=False))
        command(access=KeyAccess(ask, ca_key), **rest)

    ca_key_option = click.option(
        "--ca-key", type=_FILE, help="Where the CA's key lies, if not beside its certificate: on a medium of its own."
    )
    return passphrase_option(ca_key_option(run))


def new_passphrase(path: Path | None) -> bytes:
    """A passphrase for a new key. Raises PkiError for one that is too short."""
    chosen = passphrase(path, confirm=True)
    if len(chosen) < keys.PASSPHRASE_CHARS_MIN:
        raise PkiError(f"the passphrase must have at least {keys.PASSPHRASE_CHARS_MIN} characters")
    return chosen


def passphrase(path: Path | None, *, confirm: bool) -> bytes:
    """The first line of the file, or what is typed."""
    if path is not None:
        lines = files.read(path).splitlines()
        if not lines or not lines[0]:
            raise PkiError(f"{path}: the first line, which is the passphrase, is empty")
        return lines[0]
    text: str = click.prompt("Passphrase of the CA key", hide_input=True, confirmation_prompt=confirm, err=True)
    return text.encode()


# --- printing ---


def print_json(value: object) -> None:
    """One JSON value; dataclasses as objects."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; a cell may have several lines."""
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table, markup=False)


def print_rows(form: str, rows: Sequence[Mapping[str, str]], headings: Sequence[str], *, simple: str) -> None:
    """Rows whose cells go by the lower-case headings; `simple` is the line that str.format_map makes of a row."""
    if form == "json":
        print_json(rows)
    elif form == "table":
        print_table(headings, ([row[heading.lower()] for heading in headings] for row in rows))
    else:
        for row in rows:
            click.echo(simple.format_map(row))


def print_made(form: str, made: Sequence[Made]) -> None:
    """Certificates that were written; simply, their files."""
    if form == "json":
        print_json(made)
    elif form == "table":
        rows = ((each.name, each.profile, "\n".join(each.names), each.not_after, each.serial) for each in made)
        print_table(("NAME", "PROFILE", "NAMES", "NOT AFTER", "SERIAL"), rows)
    else:
        for each in made:
            click.echo("\n".join(filter(None, (each.certificate, each.key))))


def note(text: str) -> None:
    """A line for the operator that no script reads."""
    click.echo(f"note: {text}", err=True)
