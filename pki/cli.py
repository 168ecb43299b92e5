"""`etcdpy pki`: the commands. Exit codes: 0 done, 1 refused with one line of reason, 128 wrong arguments; `renew` ends
with 2 when it made something.
"""

from __future__ import annotations

import click

from pki.cli_batch import batch
from pki.cli_export import export
from pki.cli_issue import accept, csr, due, init, issue, kubernetes, sign
from pki.cli_lifecycle import crl, list_issued, profiles, renew, revoke
from pki.cli_rotate import rotate
from pki.cli_show import show, verify
from pki.options import Group


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def pki() -> None:
    """Make, renew, revoke and explain the certificates of a cluster.

    \b
    Example, everything for one member and one client:
      etcdpy pki init --dir pki
      etcdpy pki issue --dir pki --profile server member1 --ip 10.0.0.1 --ip 127.0.0.1 --dns localhost
      etcdpy pki issue --dir pki --profile client root
      etcdpy pki verify --dir pki
    """


for _command in (
    init,
    issue,
    csr,
    sign,
    accept,
    due,
    kubernetes,
    renew,
    revoke,
    crl,
    rotate,
    list_issued,
    profiles,
    show,
    verify,
    export,
    batch,
):
    pki.add_command(_command)
