"""`etcdpy`: starts a member, or runs a sub-command (`etcdpy pki ...`, `etcdpy backup ...`).

The member's flags are read as etcd reads them; sub-commands are click's. Nothing heavy is imported before it is known
what is wanted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etcdpy.server.notes import ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name); returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["pki"]:
        from pki.cli import pki

        pki.main(args=words[1:], prog_name="etcdpy pki")
        return 0
    if words[:1] in (["backup"], ["encryption"]):
        from etcdpy.commandline import end_as_small_tools_do, run_tool
        from etcdpy.utl.backups import backup
        from etcdpy.utl.encryption import encryption

        end_as_small_tools_do()
        return run_tool(backup if words[0] == "backup" else encryption, f"etcdpy {words[0]}", words[1:])
    if words[:1] == ["systemd"]:
        from etcdpy.commandline import end_as_small_tools_do, run_tool
        from etcdpy.units.command import systemd

        end_as_small_tools_do()
        return run_tool(systemd, "etcdpy systemd", words[1:])
    if words[:1] in (["gateway"], ["grpc-proxy"]):
        from etcdpy.proxy.command import main as proxy

        return proxy(words)
    return _member(words)


def _member(words: list[str]) -> int:
    from etcdpy.server import config as configuration
    from etcdpy.server.notes import ConfigError

    try:
        config = configuration.load(words, os.environ)
    except configuration.HelpRequested:
        from etcdpy.server.help_text import print_help

        print_help(sys.stdout)
        return 0
    except configuration.VersionRequested:
        from etcdpy.server.help_text import version_text

        sys.stdout.write(version_text())
        return 0
    except ConfigError as problem:
        return _refuse(problem)
    from etcdpy.server import logs

    try:
        logs.setup(config)
    except ConfigError as problem:
        return _refuse(problem)
    from etcdpy.server.flag_table import redacted

    log = logs.get("server")
    log.info("Running: ", args=[sys.argv[0], *redacted(words)])
    logs.write_notes(log, config.notes)
    for line in configuration.no_effect_notes(config):
        log.warn("this setting has no effect here", setting=line)
    from etcdpy.server import garbage

    with garbage.kept_for_good():
        from etcdpy.server.run import run

    try:
        return run(config)
    finally:
        logs.close()


def _refuse(problem: ConfigError) -> int:
    """Say why the configuration cannot be used, in etcd's two manners: bare with a usage text, or as a log line."""
    if problem.usage:
        from etcdpy.server.help_text import USAGE

        sys.stderr.write(f"{problem}\n{USAGE}\n")
        return problem.exit_code
    from etcdpy.server import logs

    logs.setup_default()
    log = logs.get("server")
    logs.write_notes(log, problem.notes)
    if problem.fields:
        log.error(str(problem), **problem.fields)
    else:
        log.warn("failed to verify flags", error=str(problem))
    logs.close()
    return problem.exit_code


if __name__ == "__main__":
    sys.exit(main())
