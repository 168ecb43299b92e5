"""`etcdpy pki renew`, `revoke`, `crl`, `list` and `profiles`: certificates over the years."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pki import files, options
from pki.errors import PkiError
from pki.inventory import STATES
from pki.options import access_options, directory_option, force_option, form_option, note, print_rows
from pki.renewal import Renewal, Signers
from pki.renewal import renew as renew_due
from pki.revocation import CRL_DAYS, REASONS, CrlMade, choose, write_crl
from pki.store import Store, read_inventory, read_profiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pki.store import KeyAccess


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--within", "days", type=click.IntRange(0), help="Renew what ends in fewer days.  [default: 1/3 of its life]"
)
@click.option("--keep-key", is_flag=True, help="Let the keys stay as they are.")
@click.option("--dry-run", is_flag=True, help="Say what is due, and change nothing.")
@directory_option
@access_options
@form_option
def renew(
    names: tuple[str, ...],
    days: int | None,
    keep_key: bool,
    dry_run: bool,
    directory: Path,
    access: KeyAccess,
    form: str,
) -> None:
    """Make anew what is about to expire, and leave all else as it is.

    Exit code 0: nothing was due; 2: certificates were renewed (in a dry run: are due); 1: refused. A key that lies
    here is made anew too; one that was made elsewhere (`csr`) is certified once more.

    \b
    Examples:
      etcdpy pki renew --dir pki
      etcdpy pki renew --dir pki --within 30 --dry-run -w json
    """
    with Store.locked(directory, options.now()) as store:
        done = renew_due(store, names, access, within_days=days, keep_key=keep_key, dry_run=dry_run)
    _print_renewal(form, done)
    if done.due:
        raise click.exceptions.Exit(options.EXIT_CHANGED)


def _print_renewal(form: str, done: Renewal) -> None:
    for text in done.notes:
        note(text)
    if form == "json":
        options.print_json({"due": done.due, "renewed": done.made, "notes": done.notes})
    elif done.made:
        options.print_made(form, done.made)
    elif done.due:
        click.echo("\n".join(f"{name} is due" for name in done.due))
    else:
        click.echo("nothing is due")


@click.command()
@click.argument("name", required=False)
@click.option("--serial", default="", help="One certificate by its serial number, as `list` prints it.")
@click.option("--replaced", is_flag=True, help="Only those of NAME that a newer one has replaced.")
@click.option("--reason", type=click.Choice(REASONS), default=REASONS[0], show_default=True)
@click.option("--days", type=click.IntRange(1), default=CRL_DAYS, show_default=True, help="How long the list holds.")
@directory_option
@access_options
@form_option
def revoke(
    name: str | None,
    serial: str,
    replaced: bool,
    reason: str,
    days: int,
    directory: Path,
    access: KeyAccess,
    form: str,
) -> None:
    """Revoke every certificate of a name that is still valid, and write the list that says so: CA.crl, CA-crl.pem.

    Members refuse them as soon as they have the list (--client-crl-file, --peer-crl-file). After a key was stolen:
    issue the name anew with --force, then revoke with --replaced.

    \b
    Examples:
      etcdpy pki revoke --dir pki alice --reason keyCompromise
      etcdpy pki revoke --dir pki --serial 5bd51c8a40
    """
    if (name is None) == (not serial):
        raise click.UsageError("give either NAME or --serial")
    with Store.locked(directory, options.now()) as store:
        chosen = choose(store, name or "", serial=serial, replaced=replaced)
        fresh = [each for each in chosen if not each.revoked_at]
        signers = Signers(store, access)
        authorities = [signers.named(ca) for ca in dict.fromkeys(each.ca for each in chosen)]
        store.inventory.revoke(fresh, store.now, reason)
        lists = [write_crl(store, signer, days=days) for signer in authorities]
    if not fresh:
        note("revoked before")
    _print_lists(form, lists)


@click.command()
@click.option("--ca", "names", multiple=True, help="Of which CA. May be repeated.  [default: each whose key is here]")
@click.option("--days", type=click.IntRange(1), default=CRL_DAYS, show_default=True, help="How long the list holds.")
@force_option
@directory_option
@access_options
@form_option
def crl(
    names: tuple[str, ...],
    days: int,
    force: bool,
    directory: Path,
    access: KeyAccess,
    form: str,
) -> None:
    """Write the revocation lists, CA.crl (DER, for real etcd) and CA-crl.pem.

    A list that is right and has more than a third of its time left stays as it is, unless --force. Run it from a
    timer: other software than etcd's refuses a list that is out of date.

    \b
    Example:
      etcdpy pki crl --dir pki --days 30
    """
    with Store.locked(directory, options.now()) as store:
        signers = Signers(store, access)
        chosen = names or _authorities_here(store)
        if not chosen:
            raise PkiError(f"{directory}: there is no key of a CA; name it with --ca and --ca-key")
        lists = [write_crl(store, signers.named(name), days=days, force=force) for name in dict.fromkeys(chosen)]
    _print_lists(form, lists)


def _authorities_here(store: Store) -> list[str]:
    current = [each.name for each in store.inventory.entries if each.profile == "ca" and not each.replaced_at]
    return [name for name in current if files.pair_paths(store.directory, name)[1].exists()]


def _print_lists(form: str, lists: Sequence[CrlMade]) -> None:
    if form == "json":
        options.print_json(lists)
    elif form == "table":
        rows = ((each.ca, each.der, each.pem, str(each.revoked), each.next_update) for each in lists)
        options.print_table(("CA", "DER", "PEM", "REVOKED", "NEXT UPDATE"), rows)
    else:
        for each in lists:
            unchanged = "" if each.changed else ", unchanged"
            click.echo(f"{each.der}\n{each.pem}")
            note(f"{each.revoked} revoked by {each.ca}, next list due before {each.next_update}{unchanged}")


@click.command("list")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only these. May be repeated.")
@directory_option
@form_option
def list_issued(states: tuple[str, ...], directory: Path, form: str) -> None:
    """List everything that was ever issued here, in its order.

    \b
    Example:
      etcdpy pki list --dir pki --state valid -w table
    """
    now = options.now()
    rows = []
    for entry in read_inventory(directory).entries:
        state = entry.state(now)
        if not states or state in states:
            rows.append(
                {
                    "serial": entry.serial,
                    "name": entry.name,
                    "profile": entry.profile,
                    "ca": entry.ca,
                    "state": state,
                    "not before": entry.not_before,
                    "not after": entry.not_after,
                    "subject": entry.subject,
                    "names": ", ".join(entry.names),
                    "revoked at": entry.revoked_at,
                    "reason": entry.reason,
                    "sha256": entry.sha256,
                }
            )
    if form == "json":
        rows = [{key.replace(" ", "_"): value for key, value in row.items()} for row in rows]
    headings = ("SERIAL", "NAME", "PROFILE", "CA", "STATE", "NOT BEFORE", "NOT AFTER", "NAMES")
    print_rows(form, rows, headings, simple="{serial}  {state:<8}  {profile:<8}  {not after}  {name}")


@click.command()
@directory_option
@form_option
def profiles(directory: Path, form: str) -> None:
    """List the profiles: the built-in ones, and those of profiles.toml in the directory.

    \b
    Example of a profiles.toml, then of the command:
      [kubelet]
      usages = ["clientAuth"]
      days = 30
      organizations = ["system:nodes"]
    \b
      etcdpy pki profiles --dir pki
    """
    rows = [
        {
            "profile": each.name,
            "usages": ", ".join(each.usage_names) or "signs certificates",
            "days": str(each.days),
            "host": "must name a host" if each.needs_host else "",
            "organizations": ", ".join(each.organizations),
        }
        for each in read_profiles(directory).values()
    ]
    headings = ("PROFILE", "USAGES", "DAYS", "HOST", "ORGANIZATIONS")
    print_rows(form, rows, headings, simple="{profile:<10} {days:>5} days  {usages}")
