"""What `etcdpy --help` and `--version` print, and the usage line after a mistyped flag."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Final

from etcdpy import VERSION
from etcdpy.server.feature_gates import GATES
from etcdpy.server.flag_table import BY_GROUP, GROUPS
from etcdpy.server.flags import Flag, Kind
from etcdpy.server.process import is_compiled

if TYPE_CHECKING:
    from typing import TextIO

USAGE: Final = """Usage:

  etcdpy [flags]
    Start a member.

  etcdpy --version
    Show the version.

  etcdpy -h | --help
    Explain every flag.

  etcdpy --config-file PATH
    Start a member from a YAML file; all other flags and the environment are then ignored.

  etcdpy pki --help
    Make and look at certificates.
"""

_EXAMPLE: Final = """\
etcdpy --name node1 --data-dir /var/lib/etcd \\
  --listen-client-urls https://10.0.0.1:2379 --advertise-client-urls https://10.0.0.1:2379 \\
  --cert-file server.pem --key-file server-key.pem --trusted-ca-file ca.pem --client-cert-auth
"""

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


def own_version() -> str:
    """The release of etcdpy itself, as installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("etcdpy")
    except PackageNotFoundError:
        return "unknown"


def version_text() -> str:
    """What --version prints; the first line is etcd's, for scripts that cut it."""
    machine = platform.machine()
    return (
        f"etcd Version: {VERSION}\n"
        f"Git SHA: not a build of etcd (etcdpy {own_version()})\n"
        f"Python Version: {platform.python_version()}{' (compiled with mypyc)' if is_compiled() else ''}\n"
        f"OS/Arch: {sys.platform}/{_ARCHITECTURES.get(machine, machine)}\n"
    )


def shown_default(flag: Flag) -> str:
    """A flag's default as a reader would type it."""
    if flag.name == "data-dir":
        return "${name}.etcd"
    return flag.default


def print_help(out: TextIO) -> None:
    """Every flag by group, with its default, for a terminal or a file."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out, highlight=False, soft_wrap=False)
    if not out.isatty():
        console = Console(file=out, highlight=False, width=118)
    console.print(Text("etcdpy", style="bold"), Text("starts a member of an etcd cluster."))
    console.print(Text("\n" + USAGE.rstrip()))
    console.print(Text("\nEach flag can be given as an environment variable: --listen-client-urls is"))
    console.print(Text("ETCD_LISTEN_CLIENT_URLS. A flag and its variable together are refused."))
    for group, flags in BY_GROUP.items():
        console.print(Text(f"\n{group}", style="bold"))
        if GROUPS[group]:
            console.print(Text(f"  {GROUPS[group]}", style="red"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column()
        for flag in flags:
            name = Text(f"--{flag.name}", style="cyan")
            text = Text(flag.help)
            default = shown_default(flag)
            if default and not (flag.kind is Kind.BOOL and default == "false"):
                text.append(f" [{default}]", style="dim")
            if flag.inert:
                text.append(" No effect here.", style="yellow")
            table.add_row(name, text)
        console.print(Padding(table, (0, 0, 0, 2)))
    console.print(Text("\nFeature gates", style="bold"))
    gates = Table.grid(padding=(0, 2))
    for gate in GATES.values():
        text = Text(f"{gate.help} [{gate.stage.lower()}, {str(gate.default).lower()}]")
        if gate.inert:
            text.append(" No effect here.", style="yellow")
        gates.add_row(Text(gate.name, style="cyan"), text)
    console.print(Padding(gates, (0, 0, 0, 2)))
    console.print(Text("\nExample: a member that serves clients over mutual TLS", style="bold"))
    console.print(Padding(Text(_EXAMPLE.rstrip()), (0, 0, 0, 2)))
    console.print(Text("\nWhy a flag has no effect: docs/configuration.md"))
