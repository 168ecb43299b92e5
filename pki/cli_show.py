"""`etcdpy pki show` and `verify`: what certificates are, and whether they will do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pki import options
from pki.errors import PkiError
from pki.explain import Explanation, explain_file
from pki.member_config import read_settings, uses_of_member
from pki.options import directory_option, form_option, print_json, print_rows, print_table
from pki.store import Store
from pki.verify import DAYS_LEFT_MIN, Fault, Use, Verifier, open_keys, uses_of_directory

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@form_option
def show(paths: tuple[Path, ...], form: str) -> None:
    """Explain certificates: role, names, validity, the key and the CA beside them, and the traps.

    \b
    Examples:
      etcdpy pki show pki/*.pem -w table
      etcdpy pki show /etc/kubernetes/pki/etcd/server.crt
    """
    now = options.now()
    explained: list[Explanation] = []
    failures: list[PkiError] = []
    for path in paths:
        if len(paths) > 1 and path.name.endswith("-key.pem"):
            continue  # what a shell pattern brings along
        try:
            explained += explain_file(path, now)
        except PkiError as error:
            failures.append(error)
    if explained or not failures:
        _PRINTERS[form](explained)
    for failure in failures[:-1]:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        raise failures[-1]


_PATH = click.Path(dir_okay=False, path_type=Path)


@click.command()
@directory_option
@click.option("--config-file", type=_PATH, help="A member's configuration: etcd's YAML, or a file of ETCD_ variables.")
@click.option("--cert", type=_PATH, help="One certificate, in place of a directory or a configuration.")
@click.option("--key", type=_PATH, help="The key of --cert.")
@click.option("--ca", type=_PATH, help="The CAs that --cert, or a member's server certificate, must lead to.")
@click.option("--crl", type=_PATH, help="A revocation list that --cert must not be on.")
@click.option(
    "--usage", "usages", multiple=True, type=click.Choice(["serverAuth", "clientAuth"]), help="What --cert is for."
)
@click.option("--url", "urls", multiple=True, help="A URL whose host --cert must name. May be repeated.")
@click.option(
    "--within", "days", type=click.IntRange(0), default=DAYS_LEFT_MIN, show_default=True, help="Days to have left."
)
@form_option
def verify(
    directory: Path,
    config_file: Path | None,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    crl: Path | None,
    usages: tuple[str, ...],
    urls: tuple[str, ...],
    days: int,
    form: str,
) -> None:
    """Look whether certificates will do what they are there for.

    Of a directory everything in force, of a member's configuration what its flags name (against the URLs that it
    serves and advertises), or one certificate: chain, key, usages, names, dates, revocation, permissions. Each fault
    names the file, what about it, and the mend. Exit code 0: no fault; 1: some.

    \b
    Examples:
      etcdpy pki verify --dir pki
      etcdpy pki verify --config-file /etc/etcd/etcd.yaml
      etcdpy pki verify --cert m1.pem --key m1-key.pem --ca ca.pem --usage serverAuth --url https://10.0.0.1:2379
    """
    if cert is not None and config_file is not None:
        raise click.UsageError("--cert and --config-file exclude each other")
    if cert is None and (key or crl or usages or urls):
        raise click.UsageError("--key, --crl, --usage and --url go with --cert")
    verifier = Verifier(options.now(), days)
    faults: list[Fault] = []
    if config_file is not None:
        uses, faults = uses_of_member(read_settings(config_file), config_file.parent, ca)
    elif cert is not None:
        uses = [Use(cert, key, ca, crl, usages, urls)]
    else:
        uses = uses_of_directory(Store(directory, options.now()))
        faults = open_keys(directory)
    if not uses and not faults:
        raise PkiError(f"{config_file or directory}: there is nothing to verify")
    faults = list(dict.fromkeys(faults + verifier.faults(uses)))
    _print_faults(form, uses, faults)
    if faults:
        raise click.exceptions.Exit(1)


def _print_faults(form: str, uses: Sequence[Use], faults: Sequence[Fault]) -> None:
    if form == "json":
        print_json({"ok": not faults, "verified": [str(use.certificate) for use in uses], "faults": faults})
        return
    rows = [
        {
            "file": each.file,
            "about": each.about,
            "problem": each.problem,
            "mend": each.mend,
            "colon": ": "[: 2 * bool(each.about)],
        }
        for each in faults
    ]
    print_rows(
        form, rows, ("FILE", "ABOUT", "PROBLEM", "MEND"), simple="{file}: {about}{colon}{problem}\n  mend: {mend}"
    )
    if form == "simple" and not faults:
        click.echo(f"{len(uses)} certificates verified, no fault")


# --- printers ---


def _print_simple(explained: Sequence[Explanation]) -> None:
    for at, each in enumerate(explained):
        if at:
            click.echo()
        place = f" (certificate {each.position + 1} in the file)" if each.position else ""
        click.echo(f"{each.file}{place}")
        for label, text in _rows(each):
            if text:
                click.echo(f"  {label:<12} {text}")


def _rows(each: Explanation) -> list[tuple[str, str]]:
    names = [f"DNS:{name}" for name in each.dns_names] + [f"IP:{address}" for address in each.ip_addresses]
    rows = [
        ("role", f"{each.role} ({', '.join(each.usages)})" if each.usages else each.role),
        ("subject", each.subject),
        ("issuer", each.issuer),
        ("names", ", ".join(names)),
        ("valid", f"{each.not_before} to {each.not_after} ({each.days_left} days left)"),
        ("key", f"{each.key_type}, signed with {each.signature}"),
        ("key file", each.key_beside),
        ("chain", each.chain),
        ("serial", each.serial),
        ("sha256", each.sha256),
        ("sha1", each.sha1),
    ]
    return rows + [("note", trap) for trap in each.traps]


def _print_table(explained: Sequence[Explanation]) -> None:
    headings = ("FILE", "ROLE", "SUBJECT", "NAMES", "NOT AFTER", "DAYS LEFT", "KEY", "CHAIN", "NOTES")
    print_table(headings, map(_cells, explained))


def _cells(each: Explanation) -> tuple[str, ...]:
    return (
        Path(each.file).name + (f" #{each.position + 1}" if each.position else ""),
        each.role,
        each.subject,
        "\n".join([*each.dns_names, *each.ip_addresses]),
        each.not_after,
        str(each.days_left),
        "\n".join(filter(None, [each.key_type, each.key_beside])),
        each.chain,
        "\n".join(each.traps),
    )


_PRINTERS = {"simple": _print_simple, "json": print_json, "table": _print_table}
