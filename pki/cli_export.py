"""`etcdpy pki export`: one file from which a client knows whom to ask and how to prove who it is."""

from __future__ import annotations

from pathlib import Path

import click

from pki import files, options
from pki.bundle import FORMS, Client
from pki.errors import PkiError
from pki.options import directory_option, force_option, form_option
from pki.verify import Use, Verifier

DAYS_LEFT_MIN = 1
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@directory_option
@click.argument("name")
@click.option("--endpoints", required=True, help="The cluster's client URLs, with commas between.")
@click.option("--ca", "ca_path", type=_FILE, help="What servers are verified by.  [default: ca.pem]")
@click.option("--bundle", type=click.Choice(FORMS), help="Everything in one file, the key included, for another host.")
@click.option(
    "--at",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where a tar will be unpacked: its profile names files there.  [default: /etc/etcdpy/clients/NAME]",
)
@click.option("--output", type=_FILE, help="The file.  [default: NAME.profile, NAME.tar or NAME-bundle.pem]")
@force_option
@form_option
def export(
    directory: Path,
    name: str,
    endpoints: str,
    ca_path: Path | None,
    bundle: str | None,
    at: Path | None,
    output: Path | None,
    force: bool,
    form: str,
) -> None:
    """Write a profile: a file that names endpoints and the certificates to reach them with.

    `etcdpyctl --profile FILE` reads it. It is made of the environment variables of etcdctl, so that a shell
    (`set -a; . FILE`) and systemd (`EnvironmentFile=`) understand it too. It holds paths and no secret. A certificate
    that servers would refuse is refused here, with the reason. With --bundle the file holds the certificates and the
    key themselves, and is for its owner alone.

    \b
    Examples:
      etcdpy pki export root --dir pki --endpoints https://10.0.0.1:2379,https://10.0.0.2:2379
      etcdpyctl --profile pki/root.profile member list
      etcdpy pki export app --dir pki --endpoints https://10.0.0.1:2379 --bundle tar --at /etc/app/etcd
    """
    if at is not None and (bundle != "tar" or not at.is_absolute()):
        raise click.UsageError("--at goes with --bundle tar, and is a whole path")
    client = _client(directory, name, endpoints, ca_path)
    if bundle == "tar":
        content = client.tar(at or Path("/etc/etcdpy/clients") / name, options.now().timestamp())
        target, mode = output or directory / f"{name}.tar", files.KEY_MODE
    elif bundle == "pem":
        content, target, mode = client.pem(), output or directory / f"{name}-bundle.pem", files.KEY_MODE
    else:
        content, target = client.profile(), output or directory / f"{name}.profile"
        mode = files.CERTIFICATE_MODE
    files.write_all([files.NewFile(target, content, mode)], force=force)
    if form == "json":
        options.print_json({"file": str(target), "endpoints": client.urls, "holds_key": bundle is not None})
    else:
        click.echo(str(target))


def _client(directory: Path, name: str, endpoints: str, ca_path: Path | None) -> Client:
    """The client whose certificate servers would take. Raises PkiError."""
    certificate, key = files.pair_paths(directory, name)
    trusted = ca_path or directory / "ca.pem"
    urls = [url.strip() for url in endpoints.split(",") if url.strip()]
    if not urls or not all(url.startswith("https://") for url in urls):
        raise PkiError(f'"{endpoints}": with certificates every endpoint is an https:// URL')
    for path in (certificate, key, trusted):
        files.read(path)
    use = Use(certificate, key, trusted, None, ("clientAuth",), ())
    for fault in Verifier(options.now(), DAYS_LEFT_MIN).faults([use]):
        raise PkiError(f"{fault.file}: {fault.problem}; {fault.mend}")
    return Client(name, certificate, key, trusted, urls)
