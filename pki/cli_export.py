"""`etcdpy pki export`: one file from which a client knows whom to ask and how to prove who it is."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from pki import files, options
from pki.errors import PkiError
from pki.options import directory_option, force_option
from pki.verify import Use, Verifier

DAYS_LEFT_MIN = 1


@click.command()
@directory_option
@click.argument("name")
@click.option("--endpoints", required=True, help="The cluster's client URLs, with commas between.")
@click.option("--ca", "ca_path", type=click.Path(dir_okay=False, path_type=Path), help="What servers are verified by.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="The file.  [default: NAME.profile]")
@force_option
def export(directory: Path, name: str, endpoints: str, ca_path: Path | None, output: Path | None, force: bool) -> None:
    """Write a profile: a file that names endpoints and the certificates to reach them with.

    `etcdpyctl --profile FILE` reads it. It is made of the environment variables of etcdctl, so that a shell
    (`set -a; . FILE`) and systemd (`EnvironmentFile=`) understand it too. It holds paths and no secret. A certificate
    that servers would refuse is refused here, with the reason.

    \b
    Examples:
      etcdpy pki export root --dir pki --endpoints https://10.0.0.1:2379,https://10.0.0.2:2379
      etcdpyctl --profile pki/root.profile member list
    """
    certificate, key = files.pair_paths(directory, name)
    trusted = ca_path or directory / "ca.pem"
    target = output or directory / f"{name}.profile"
    urls = [url.strip() for url in endpoints.split(",") if url.strip()]
    if not urls or not all(url.startswith("https://") for url in urls):
        raise PkiError(f'"{endpoints}": with certificates every endpoint is an https:// URL')
    for path in (certificate, key, trusted):
        files.read(path)
    use = Use(certificate, key, trusted, None, ("clientAuth",), ())
    for fault in Verifier(options.now(), DAYS_LEFT_MIN).faults([use]):
        raise PkiError(f"{fault.file}: {fault.problem}; {fault.mend}")
    # Absolute, so that the profile means the same from everywhere.
    paths = {"CACERT": trusted, "CERT": certificate, "KEY": key}
    variables = {"ENDPOINTS": ",".join(urls), **{name: str(path.absolute()) for name, path in paths.items()}}
    lines = [f"ETCDCTL_{variable}={shlex.quote(value)}\n" for variable, value in variables.items()]
    header = "# Made by `etcdpy pki export`; read by `etcdpyctl --profile`, shells and systemd's EnvironmentFile=.\n"
    files.write_all([files.NewFile(target, (header + "".join(lines)).encode())], force=force)
    click.echo(str(target))
