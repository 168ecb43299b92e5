"""What commands print, by --write-out, as etcdutl does."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from etcdpy.commandline import Exit, Failure, global_values
from etcdpy.texttable import boxed, human_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.interchange.inspect import FileStatus
    from etcdpy.mvcc.hashing import HashKv

FORMATS: Final = ("simple", "json", "fields", "table")


class Column(NamedTuple):
    """One value under its name in each format, and as people read it where that differs."""

    title: str
    field: str
    key: str
    value: object
    shown: str = ""


def check_format(ctx: click.Context) -> str:
    """--write-out. Raises Failure for what is not offered."""
    name: str = global_values(ctx).get("write_out", "simple")
    if name not in FORMATS:
        known = name == "protobuf"
        raise Failure(
            Exit.BAD_FEATURE, f"{name} not supported as output format" if known else "unsupported output format"
        )
    return name


def show(form: str, columns: Sequence[Column]) -> None:
    """Print one row."""
    shown = [column.shown or str(column.value) for column in columns]
    if form == "json":
        click.echo(json.dumps({column.key: column.value for column in columns}, separators=(",", ":")))
    elif form == "fields":
        click.echo("\n".join(f'"{column.field}" : {column.value}' for column in columns))
    elif form == "table":
        click.echo(boxed([column.title for column in columns], [shown]))
    else:
        click.echo(", ".join(shown))


def status_columns(status: FileStatus) -> list[Column]:
    """`snapshot status`."""
    return [
        Column("hash", "Hash", "hash", status.hash, f"{status.hash:x}"),
        Column("revision", "Revision", "revision", status.revision),
        Column("total keys", "Keys", "totalKey", status.total_keys),
        Column("total size", "Size", "totalSize", status.total_size, human_bytes(status.total_size)),
        Column("version", "Version", "version", status.version),
    ]


def hash_columns(found: HashKv) -> list[Column]:
    """`hashkv`."""
    return [
        Column("hash", "Hash", "hash", found.hash),
        Column("hash revision", "Hash revision", "hashRevision", found.revision),
        Column("compact revision", "Compact revision", "compactRevision", found.compact_revision),
    ]


def show_facts(form: str, facts: dict[str, Any]) -> None:
    """Print named values: JSON as an object, a table as one row, else a line each."""
    if form == "json":
        click.echo(json.dumps(facts, separators=(",", ":")))
    elif form == "table":
        click.echo(boxed(list(facts), [[str(value) for value in facts.values()]]))
    elif form == "fields":
        click.echo("\n".join(f'"{name}" : {value}' for name, value in facts.items()))
    else:
        click.echo("\n".join(f"{name}: {value}" for name, value in facts.items()))
