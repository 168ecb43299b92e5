"""`etcdpy pki init`, `issue`, `csr`, `sign`, `accept` and `kubernetes`: how certificates come into being."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pki import files, keys, options, requests
from pki.authority import Request, create_root
from pki.errors import PkiError
from pki.kubernetes import SERVICE_ADDRESS, ensure_bundle, parse_controller
from pki.options import (
    access_options,
    directory_option,
    force_option,
    form_option,
    key_type_option,
    name_options,
    new_passphrase,
    note,
    passphrase_option,
    print_json,
    print_made,
)
from pki.profiles import CA_DAYS, LEAF_DAYS, PROFILES, profile_named
from pki.reading import days_left
from pki.store import Made, Signer, Store, read_profiles

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Iterator

    from cryptography import x509

    from pki.authority import Names
    from pki.store import KeyAccess

_FILE = click.Path(dir_okay=False, path_type=Path)
INTERMEDIATE = "-intermediate"


@click.command()
@directory_option
@click.option("--cn", default="etcd CA", show_default=True, help="The common name of the CA.")
@click.option("--days", type=int, default=CA_DAYS, show_default=True, help="How long it is valid.")
@key_type_option
@click.option(
    "--intermediate", is_flag=True, help="Also an intermediate that signs, so that the root can stay offline."
)
@click.option("--separate", is_flag=True, help="A CA of its own for members among each other: peer-ca.")
@click.option("--encrypt-key", is_flag=True, help="Encrypt the keys of the CAs with a passphrase.")
@passphrase_option
@force_option
@form_option
def init(
    directory: Path,
    cn: str,
    days: int,
    key_type: str,
    intermediate: bool,
    separate: bool,
    encrypt_key: bool,
    passphrase_file: Path | None,
    force: bool,
    form: str,
) -> None:
    """Make a certificate authority: ca.pem and ca-key.pem.

    With --intermediate also ca-intermediate, which signs from then on; ca-key.pem can then be taken off this machine.
    With --separate also peer-ca, which signs what has the profile `peer`: a client's certificate then opens no peer
    port, and a member's none for clients.

    \b
    Examples:
      etcdpy pki init --dir pki --cn "my cluster CA"
      etcdpy pki init --dir pki --intermediate --separate
      etcdpy pki init --dir pki --encrypt-key --passphrase-file /run/secrets/ca
    """
    if passphrase_file is not None and not encrypt_key:
        raise click.UsageError("--passphrase-file does nothing here without --encrypt-key")
    roots = {"ca": cn, "peer-ca": f"{cn[:54]} for peers"} if separate else {"ca": cn}
    kind = keys.KeyType(key_type)
    wanted = {name: Request(PROFILES["ca"], common, days=days, key_type=kind) for name, common in roots.items()}
    for request in wanted.values():
        request.check()
    names = [*roots, *(f"{name}{INTERMEDIATE}" for name in roots if intermediate)]
    if not force:
        files.refuse_existing([path for name in names for path in files.pair_paths(directory, name)])
    passphrase = new_passphrase(passphrase_file) if encrypt_key else None
    with Store.locked(directory, options.now()) as store:
        made = [each for name in roots for each in _make(store, name, wanted[name], intermediate, passphrase, force)]
    print_made(form, made)


def _make(
    store: Store, name: str, request: Request, intermediate: bool, passphrase: bytes | None, force: bool
) -> Iterator[Made]:
    """A root, and the intermediate below it that signs in its place."""
    days = request.days or CA_DAYS
    root = create_root(request, store.now)
    signer = name + INTERMEDIATE if intermediate else name
    store.inventory.signers |= {"peer": signer} if name == "peer-ca" else {"*": signer, "ca": name}
    yield store.put(
        name, request.profile, None, root.certificate, root.key, days=days, passphrase=passphrase, force=force
    )
    if intermediate:
        below = Request(
            request.profile, f"{request.common_name[:51]} intermediate", days=days, key_type=request.key_type
        )
        above = Signer(name, root.authority, ())
        made = root.authority.issue(below, store.now)
        yield store.put(
            signer, request.profile, above, made.certificate, made.key, days=days, passphrase=passphrase, force=force
        )


@click.command()
@click.option("--profile", required=True, metavar="ROLE", help=f"What it is for: {', '.join(PROFILES)}.")
@click.argument("name")
@name_options
@click.option("--days", type=int, help="How long it is valid, at most as long as its CA.  [default: the profile's]")
@key_type_option
@directory_option
@click.option("--ca", "ca_name", help="The CA that signs: CA.pem and CA-key.pem.  [default: as init chose, ca]")
@access_options
@force_option
@form_option
def issue(
    profile: str,
    name: str,
    names: Names,
    days: int | None,
    key_type: str,
    directory: Path,
    ca_name: str | None,
    access: KeyAccess,
    force: bool,
    form: str,
) -> None:
    """Sign a certificate for a new key: NAME.pem and NAME-key.pem.

    The profile `server` is for servers alone, `client` for clients, `peer` for both ends, `ca` for an intermediate CA
    (which then signs with --ca NAME); `profiles` lists all. A real etcd member under --client-cert-auth also shows its
    server certificate as a client, to itself: give it a `peer` certificate, or a `client` one through
    --client-cert-file.

    \b
    Examples:
      etcdpy pki issue --profile server member1 --ip 10.0.0.1 --dns member1.example.com
      etcdpy pki issue --profile client root --days 90
      etcdpy pki issue --profile ca site-a --passphrase-file /run/secrets/ca
    """
    kind = profile_named(profile, read_profiles(directory))
    request = names.request(kind, name, days, keys.KeyType(key_type))
    paths = files.pair_paths(directory, name)
    with _existing(directory) as store:
        signer_name = store.signer_name(ca_name, profile, name)
        if not force:
            files.refuse_existing(paths)
        signer = store.signer(signer_name, access)
        issued = signer.authority.issue(request, store.now)
        wanted = request.profile.days if days is None else days
        made = store.put(name, request.profile, signer, issued.certificate, issued.key, days=wanted, force=force)
    print_made(form, [made])
    _tell_if_cut(issued.certificate, wanted)


def _existing(directory: Path) -> contextlib.AbstractContextManager[Store]:
    """The store of a directory that must be there: one is not made by a mistyped name."""
    if not directory.is_dir():
        raise PkiError(f"{directory}/ca.pem: there is no CA; make one with `etcdpy pki init --dir {directory}`")
    return Store.locked(directory, options.now())


def _tell_if_cut(certificate: x509.Certificate, wanted_days: int) -> None:
    left = days_left(certificate, options.now())
    if left < wanted_days - 1:
        note(f"ends with its CA, {left} days from now")


# --- the key stays on its node ---


@click.command()
@click.argument("name")
@name_options
@key_type_option
@click.option("--new-key", is_flag=True, help="Ask for a new key; the present one stays in use until `accept`.")
@directory_option
@form_option
def csr(
    name: str,
    names: Names,
    key_type: str,
    new_key: bool,
    directory: Path,
    form: str,
) -> None:
    """On a node: make a key that never leaves it, and the request NAME.csr for the authority to sign.

    A key that is there is used again, so that running this twice changes nothing. What comes back is put in place by
    `accept`, or by any copy to NAME.pem if the key is not a new one.

    \b
    Example, on the node and then where the CA is:
      etcdpy pki csr m1 --dir /etc/etcd/pki --ip 10.0.0.1 --dns m1
      etcdpy pki sign m1.csr --dir pki --profile peer
    """
    request = names.request(PROFILES["client"], name)
    with files.locked(directory):
        path, key_path = requests.ask(directory, name, request, keys.KeyType(key_type), new_key=new_key)
    _print_paths(form, {"request": path, "key": key_path})


@click.command()
@click.argument("request_path", metavar="CSR", type=_FILE)
@click.option("--profile", required=True, metavar="ROLE", help=f"What it is for: {', '.join(PROFILES)}.")
@click.option("--name", help="Of the certificate's file, without .pem.  [default: that of the request]")
@name_options
@click.option("--days", type=int, help="How long it is valid.  [default: the profile's]")
@directory_option
@click.option("--ca", "ca_name", help="The CA that signs.  [default: as init chose, ca]")
@access_options
@force_option
@form_option
def sign(
    request_path: Path,
    profile: str,
    name: str | None,
    names: Names,
    days: int | None,
    directory: Path,
    ca_name: str | None,
    access: KeyAccess,
    force: bool,
    form: str,
) -> None:
    """Where the CA is: sign a node's request into NAME.pem.

    Names are taken from the request, or from --ip and --dns, which take the place of all that it asks for. Usages and
    validity come from the profile alone.

    \b
    Examples:
      etcdpy pki sign m1.csr --dir pki --profile peer
      etcdpy pki sign m1.csr --dir pki --profile server --ip 10.0.0.1 --dns m1 --force
    """
    asked = requests.read_csr(request_path)
    kind = profile_named(profile, read_profiles(directory))
    request = requests.request_of(asked, kind, names, file=str(request_path), days=days)
    chosen = name or request_path.stem
    path = files.pair_paths(directory, chosen)[0]
    with _existing(directory) as store:
        signer_name = store.signer_name(ca_name, profile, chosen)
        if not force:
            files.refuse_existing([path])
        signer = store.signer(signer_name, access)
        made, signed = store.sign(chosen, request, signer, asked.public_key(), days=days, force=force)
    print_made(form, [made])
    _tell_if_cut(signed, request.profile.days if days is None else days)


@click.command()
@click.argument("name")
@click.argument("certificate_path", metavar="CERTIFICATE", type=_FILE)
@click.option("--ca", "ca_path", type=_FILE, help="The CAs that are trusted here.  [default: ca.pem in the directory]")
@directory_option
@form_option
def accept(name: str, certificate_path: Path, ca_path: Path | None, directory: Path, form: str) -> None:
    """On a node: put a signed certificate into place as NAME.pem, and with it the key that it was signed for.

    Refused if it fits no key of that name, or if no trusted CA signed it. Running it twice changes nothing.

    \b
    Example:
      etcdpy pki accept m1 /tmp/m1.pem --dir /etc/etcd/pki
    """
    with files.locked(directory):
        trusted = files.read_certificates(ca_path or directory / "ca.pem")
        certificates = files.read_certificates(certificate_path)
        written = requests.accept(directory, name, certificates, trusted, origin=str(certificate_path))
    if form == "json":
        print_json({"changed": bool(written), "written": [str(path) for path in written]})
    else:
        click.echo("\n".join(map(str, written)) or "unchanged")


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "--within", "days", type=click.IntRange(0), help="Due is what ends in fewer days.  [default: 1/3 of its life]"
)
@click.option("--ca", "ca_path", type=_FILE, help="The CAs that are trusted here.  [default: ca.pem in the directory]")
@directory_option
@form_option
def due(names: tuple[str, ...], days: int | None, ca_path: Path | None, directory: Path, form: str) -> None:
    """On a node: say which certificates it should ask for anew (`csr --new-key`), and why.

    Due is what is not there or cannot be read, what has no key here that fits, what no trusted CA signed, and what
    ends soon. Nothing is changed. Exit code 0: nothing is due; 2: something is.

    \b
    Example:
      etcdpy pki due m1 m1-peer --within 30 --dir /etc/etcd/pki
    """
    trusted = files.read_certificates(ca_path or directory / "ca.pem")
    found = requests.all_due(directory, names, trusted, options.now(), days)
    if form == "json":
        print_json(found)
    else:
        click.echo("\n".join(f"{each.name}: {each.why}" for each in found) or "nothing is due")
    if found:
        raise click.exceptions.Exit(options.EXIT_CHANGED)


def _print_paths(form: str, paths: dict[str, Path]) -> None:
    if form == "json":
        print_json({name: str(path) for name, path in paths.items()})
    else:
        click.echo("\n".join(map(str, paths.values())))


# --- for guides ---


@click.command()
@click.option(
    "--controller",
    "controllers",
    multiple=True,
    required=True,
    metavar="NAME=ADDRESS",
    help="A host with a member and an API server. May be repeated, and have several addresses with commas between.",
)
@click.option("--service-ip", default=SERVICE_ADDRESS, show_default=True, help="The first of the service network.")
@click.option("--san", "extra", multiple=True, help="One more name or address, such as that of a load balancer.")
@click.option("--days", type=int, help=f"How long it is valid.  [default: {LEAF_DAYS}]")
@key_type_option
@directory_option
@access_options
@form_option
def kubernetes(
    controllers: tuple[str, ...],
    service_ip: str,
    extra: tuple[str, ...],
    days: int | None,
    key_type: str,
    directory: Path,
    access: KeyAccess,
    form: str,
) -> None:
    """Make the bundle of Kubernetes guides: ca.pem, kubernetes.pem and kubernetes-key.pem for all controllers.

    One certificate for the API servers and all etcd members, as such guides have it. A CA that is there signs; a bundle
    that names these hosts and is not due stays as it is.

    \b
    Example:
      etcdpy pki kubernetes --controller controller-0=10.240.0.10 --controller controller-1=10.240.0.11 --dir pki
    """
    hosts = [parse_controller(text) for text in controllers]
    with Store.locked(directory, options.now()) as store:
        made = ensure_bundle(
            store,
            hosts,
            access,
            service_address=service_ip,
            extra=extra,
            key_type=keys.KeyType(key_type),
            days=days,
        )
    print_made(form, made)
