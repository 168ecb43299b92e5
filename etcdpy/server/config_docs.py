"""docs/configuration.md, made from the flag table: `python -m etcdpy.server.config_docs > docs/configuration.md`."""

from __future__ import annotations

import sys
from typing import Final

from etcdpy.server.feature_gates import GATES
from etcdpy.server.flag_table import BY_GROUP, FLAGS, GROUPS
from etcdpy.server.flags import Flag, Kind
from etcdpy.server.help_text import shown_default

_HEAD: Final = """\
# Configuration

<!-- Made by `python -m etcdpy.server.config_docs`; a test holds it fresh. -->

Every flag of etcd 3.7 is accepted, with its default and its rules. A flag that cannot do here what it does in etcd says
so below, and once in the log when it is given.

- `-flag v`, `--flag v` and `--flag=v` are the same; a boolean needs `=false`; the last of repeated flags wins.
- Each flag has a variable: `--listen-client-urls` is `ETCD_LISTEN_CLIENT_URLS`. Empty variables do not count. A flag
  and its variable together are refused. Unknown `ETCD_*` variables are warned of.
- Spans are written `300ms`, `1m30s`, `2h`.
- `--config-file FILE` (or `ETCD_CONFIG_FILE`) makes all other flags and variables ignored.
- Exit codes: 2 for a command line that cannot be read, 1 for a configuration that cannot be used, with one line that
  names the flag and the mend.
"""

_FILE: Final = """\
## Configuration file

YAML or JSON. Keys are flag names, except where the tables say otherwise. Spans are whole nanoseconds as in etcd's
files (`600000000000`); `"10m"` is taken as well, which etcd refuses. `cipher-suites` and `log-outputs` are lists; other
lists are texts with commas. Unknown keys are passed over with a warning.

| Key | Holds |
| --- | --- |
| `client-transport-security` | `cert-file`, `key-file`, `client-cert-file`, `client-key-file`, `client-cert-auth`, \
`trusted-ca-file`, `auto-tls`, `allowed-cn` (list), `allowed-hostname` (list), `skip-client-san-verification` |
| `peer-transport-security` | the same, for peers |
| `socket-options` | `reuse-port`, `reuse-address` |
| `discovery-config` | `token`, `client` with `endpoints` (list), `dial-timeout`, `request-timeout`, `keepalive-time`, \
`keepalive-timeout`, `secure` (`cert`, `key`, `cacert`, `server-name`, `insecure-transport`, \
`insecure-skip-tls-verify`), `auth` (`username`, `password`, `token`) |

```yaml
name: node1
data-dir: /var/lib/etcd
listen-client-urls: https://10.0.0.1:2379
advertise-client-urls: https://10.0.0.1:2379
watch-progress-notify-interval: 10m
client-transport-security:
  cert-file: /etc/etcd/pki/server.pem
  key-file: /etc/etcd/pki/server-key.pem
  trusted-ca-file: /etc/etcd/pki/ca.pem
  client-cert-auth: true
```
"""

_TAIL: Final = """\
## Where this differs from etcd

- A value that etcd finds wrong only while it starts (cipher suite, retention, `--auth-token`, a https URL without a
  certificate) is found before anything is opened; the exit code is the same, 1.
- `--log-level` with an unknown level ends with 1 and a sentence; etcd panics and ends with 2.
- `--cors` with a wrong URL in a file ends with 1; etcd panics.
- `--host-whitelist=` (empty) means all hosts, as etcd's help says; etcd itself then refuses every name.
- The log never shows the values of `--discovery-user` and `--discovery-password`, nor those of unknown variables.
- `SIGHUP` stops the member cleanly; etcd dies of it.
"""

_KINDS: Final = {
    Kind.STRING: "text",
    Kind.BOOL: "boolean",
    Kind.UINT: "number",
    Kind.UINT32: "number",
    Kind.INT: "number",
    Kind.DURATION: "span",
    Kind.MILLISECONDS: "milliseconds",
    Kind.URLS: "URLs",
    Kind.ORIGINS: "origins",
    Kind.WORDS: "list",
    Kind.WORD_SET: "list",
    Kind.CHOICE: "choice",
    Kind.CHOICES: "choices",
    Kind.GATES: "gates",
}


def render() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group, flags in BY_GROUP.items():
        parts.append(f"## {group}\n")
        if GROUPS[group]:
            parts.append(f"{GROUPS[group]}\n")
        rows = ["| Flag | Kind | Default | |", "| --- | --- | --- | --- |", *map(_row, flags)]
        parts.append("\n".join(rows) + "\n")
    rows = ["| Gate | Stage | Default | |", "| --- | --- | --- | --- |"]
    for gate in GATES.values():
        effect = f" **No effect here:** {gate.inert}." if gate.inert else ""
        rows.append(f"| `{gate.name}` | {gate.stage.lower()} | {str(gate.default).lower()} | {gate.help}{effect} |")
    parts.append("## Feature gates\n\n`--feature-gates=Name=true,Other=false`\n")
    parts.append("\n".join(rows) + "\n")
    ignored = ", ".join(f"`--{flag.name}`" for flag in FLAGS.values() if flag.kind is Kind.IGNORED)
    parts.append(f"## Old flags\n\nTaken and ignored, for old scripts: {ignored}.\n")
    parts.append(
        "Refused, as in etcd 3.7: `--discovery`, `--discovery-proxy` and everything that begins with "
        "`--experimental-`.\n"
    )
    return "\n".join([*parts, _FILE, _TAIL])


def _row(flag: Flag) -> str:
    default = shown_default(flag)
    notes = [flag.help.replace("|", "\\|")]
    if flag.deprecated:
        notes.append("Deprecated.")
    if flag.inert:
        notes.append(f"**No effect here:** {flag.inert}.")
    if not flag.in_file:
        notes.append("Not in a file under this name.")
    shown = f"`{default}`" if default else ""
    return f"| `--{flag.name}` | {_KINDS[flag.kind]} | {shown} | {' '.join(notes)} |"


if __name__ == "__main__":
    sys.stdout.write(render())
