"""`etcdpy pki`: the commands. Exit codes: 0 done, 1 refused with one line of reason, 128 wrong arguments."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.table import Table

from pki import files, keys
from pki.authority import Authority, Request, create_root, days_left
from pki.errors import PkiError
from pki.explain import Explanation, explain_file
from pki.profiles import PROFILES, profile_named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

EXIT_ARGUMENTS = 128


class _Group(click.Group):
    """Turns our errors into one line and exit code 1, and click's complaints about arguments into 128."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except click.UsageError as error:
            _mark(error)
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PkiError as error:
            raise click.ClickException(str(error)) from None
        except click.UsageError as error:
            _mark(error)
            raise


def _mark(error: click.UsageError) -> None:
    vars(error)["exit_code"] = EXIT_ARGUMENTS  # click reads it from the instance; its stubs know it of the class only


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def pki() -> None:
    """Make and explain the certificates of a cluster.

    \b
    Example, everything for one member and one client:
      etcdpy pki init --dir pki
      etcdpy pki issue --dir pki --profile server member1 --ip 10.0.0.1 --ip 127.0.0.1 --dns localhost
      etcdpy pki issue --dir pki --profile client root
      etcdpy pki show pki/member1.pem
    """


_dir_option = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="Where the files lie.  [default: the current directory]",
)
_key_type_option = click.option(
    "--key-type",
    type=click.Choice([each.value for each in keys.KeyType]),
    default=keys.KeyType.ECDSA_P256.value,
    show_default=True,
)
_force_option = click.option("--force", is_flag=True, help="Replace files that are there already.")
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File whose first line is the passphrase of the CA key; without it you are asked.",
)


@pki.command()
@_dir_option
@click.option("--cn", default="etcd CA", show_default=True, help="The common name of the CA.")
@click.option("--days", type=int, default=PROFILES["ca"].days, show_default=True, help="How long it is valid.")
@_key_type_option
@click.option("--encrypt-key", is_flag=True, help="Encrypt ca-key.pem with a passphrase.")
@_passphrase_option
@_force_option
def init(
    directory: Path, cn: str, days: int, key_type: str, encrypt_key: bool, passphrase_file: Path | None, force: bool
) -> None:
    """Make a certificate authority: ca.pem and ca-key.pem.

    \b
    Examples:
      etcdpy pki init --dir pki --cn "my cluster CA"
      etcdpy pki init --dir pki --encrypt-key --passphrase-file /run/secrets/ca
    """
    if passphrase_file is not None and not encrypt_key:
        raise click.UsageError("--passphrase-file does nothing here without --encrypt-key")
    cert_path, key_path = files.pair_paths(directory, "ca")
    request = Request(PROFILES["ca"], cn, days=days, key_type=keys.KeyType(key_type))
    request.check()
    if not force:
        files.refuse_existing([cert_path, key_path])
    passphrase = _new_passphrase(passphrase_file) if encrypt_key else None
    made = create_root(request, _now())
    _write_pair(cert_path, key_path, [made.certificate], made.key, passphrase, force)


@pki.command()
@click.option("--profile", required=True, metavar="ROLE", help=f"What it is for: {', '.join(PROFILES)}.")
@click.argument("name")
@click.option("--ip", "addresses", multiple=True, help="An IP address it stands for. May be repeated.")
@click.option("--dns", "dns_names", multiple=True, help="A host name it stands for. May be repeated.")
@click.option("--cn", help="The common name; etcd's user name under --client-cert-auth.  [default: NAME]")
@click.option("--org", "organizations", multiple=True, help="An organization (O). May be repeated.")
@click.option("--days", type=int, help="How long it is valid, at most as long as its CA.  [default: 365, ca: 3650]")
@_key_type_option
@_dir_option
@click.option("--ca", "ca_name", default="ca", show_default=True, help="The CA that signs: CA.pem and CA-key.pem.")
@_passphrase_option
@_force_option
def issue(
    profile: str,
    name: str,
    addresses: tuple[str, ...],
    dns_names: tuple[str, ...],
    cn: str | None,
    organizations: tuple[str, ...],
    days: int | None,
    key_type: str,
    directory: Path,
    ca_name: str,
    passphrase_file: Path | None,
    force: bool,
) -> None:
    """Sign a certificate for a new key: NAME.pem and NAME-key.pem.

    The profile `server` is for servers alone, `client` for clients, `peer` for both ends, `ca` for an intermediate CA
    (which then signs with --ca NAME). A real etcd member under --client-cert-auth also shows its server certificate as
    a client, to itself: give it a `peer` certificate, or a `client` one through --client-cert-file.

    \b
    Examples:
      etcdpy pki issue --profile server member1 --ip 10.0.0.1 --dns member1.example.com
      etcdpy pki issue --profile client root --days 90
      etcdpy pki issue --profile ca site-a --passphrase-file /run/secrets/ca
    """
    request = Request(
        profile=profile_named(profile),
        common_name=name if cn is None else cn,
        organizations=organizations,
        addresses=addresses,
        dns_names=dns_names,
        days=days,
        key_type=keys.KeyType(key_type),
    )
    request.check()
    cert_path, key_path = files.pair_paths(directory, name)
    if name == ca_name:
        raise PkiError(f'"{name}" is the CA that signs; choose another name')
    if not force:
        files.refuse_existing([cert_path, key_path])
    authority, chain = _load_authority(directory, ca_name, passphrase_file)
    made = authority.issue(request, _now())
    _write_pair(cert_path, key_path, [made.certificate, *chain], made.key, None, force)
    wanted = request.profile.days if days is None else days
    if days_left(made.certificate, _now()) < wanted - 1:
        click.echo(f"note: ends with its CA, {days_left(made.certificate, _now())} days from now", err=True)


@pki.command()
@click.argument("paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-w",
    "--write-out",
    "form",
    type=click.Choice(["simple", "json", "table"]),
    default="simple",
    show_default=True,
)
def show(paths: tuple[Path, ...], form: str) -> None:
    """Explain certificates: role, names, validity, the key and the CA beside them, and the traps.

    \b
    Examples:
      etcdpy pki show pki/*.pem -w table
      etcdpy pki show /etc/kubernetes/pki/etcd/server.crt
    """
    now = _now()
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


# --- printers ---


def _print_json(explained: Sequence[Explanation]) -> None:
    click.echo(json.dumps([dataclasses.asdict(each) for each in explained], indent=2))


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
    table = Table()
    for heading in ("FILE", "ROLE", "SUBJECT", "NAMES", "NOT AFTER", "DAYS LEFT", "KEY", "CHAIN", "NOTES"):
        table.add_column(heading, overflow="fold")
    for each in explained:
        table.add_row(
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
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table, markup=False)


_PRINTERS = {"simple": _print_simple, "json": _print_json, "table": _print_table}


# --- inside ---


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _load_authority(
    directory: Path, name: str, passphrase_file: Path | None
) -> tuple[Authority, list[x509.Certificate]]:
    """The CA, and what a certificate of it must carry along: the CA itself and those above, except the root."""
    cert_path, key_path = files.pair_paths(directory, name)
    if not cert_path.exists() and not key_path.exists():
        raise PkiError(f"{cert_path}: there is no CA; make one with `etcdpy pki init --dir {directory}`")
    certificates = files.read_certificates(cert_path)
    pem = files.read(key_path)
    passphrase = None
    if keys.is_encrypted(pem):
        passphrase = _passphrase(passphrase_file, confirm=False)
    authority = Authority(certificates[0], keys.from_pem(pem, passphrase, str(key_path)))
    authority.check(_now(), str(cert_path))
    return authority, [each for each in certificates if each.subject != each.issuer]


def _new_passphrase(path: Path | None) -> bytes:
    passphrase = _passphrase(path, confirm=True)
    if len(passphrase) < keys.PASSPHRASE_CHARS_MIN:
        raise PkiError(f"the passphrase must have at least {keys.PASSPHRASE_CHARS_MIN} characters")
    return passphrase


def _passphrase(path: Path | None, *, confirm: bool) -> bytes:
    if path is not None:
        lines = files.read(path).splitlines()
        if not lines or not lines[0]:
            raise PkiError(f"{path}: the first line, which is the passphrase, is empty")
        return lines[0]
    text: str = click.prompt("Passphrase of the CA key", hide_input=True, confirmation_prompt=confirm, err=True)
    return text.encode()


def _write_pair(
    cert_path: Path,
    key_path: Path,
    certificates: Sequence[x509.Certificate],
    key: keys.PrivateKey,
    passphrase: bytes | None,
    force: bool,
) -> None:
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in certificates)
    pem = keys.to_pem(key, passphrase)
    files.write_all(
        [files.NewFile(key_path, pem, files.KEY_MODE), files.NewFile(cert_path, chain, files.CERTIFICATE_MODE)],
        force=force,
    )
    click.echo(f"{cert_path}\n{key_path}")
