"""`etcdpyctl auth apply`, on real etcd and on etcdpy: what a file lists, and again."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.members import Member

ROOT = ("--user=root", "--password=the root")
FIRST = """
roles:
  app: [{permission: readwrite, prefix: /app/}, {permission: read, key: a, end: c}]
users:
  root: {password: the root}
  app: {password: its first, roles: [app]}
  guest: {}
"""
SECOND = """
roles:
  app: [{permission: read, prefix: /app/}, {permission: write, from: z}]
users:
  root: {password: the root}
  app: {password: its second}
"""


def ctl(member: Member, *words: str, text: str = "") -> tuple[int, list[str], str]:
    command = [sys.executable, "-m", "etcdpy.ctl", f"--endpoints={member.client_url}", *words]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCDCTL_")}
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, timeout=30, env=clean)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_it_becomes_what_is_listed_and_a_second_run_changes_nothing(member: Member) -> None:
    planned = ctl(member, *ROOT, "auth", "apply", "--enable", "--dry-run", "-", text=FIRST)
    code, _, refusal = ctl(member, "auth", "apply", "--enable", "-", text=FIRST)
    assert (code, "who asks here without a name must be listed with the role root" in refusal) == (1, True)
    code, made, _ = ctl(member, "auth", "apply", "-", text=FIRST)
    assert code == 0
    assert planned == (0, [*made, "users switched on"], "")
    assert made == [
        "role app created",
        "role app: READWRITE granted on /app/*",
        "role app: READ granted on a to c",
        "role root created",
        "user root created",
        "user root: role root granted",
        "user app created",
        "user app: role app granted",
        "user guest created",
    ]
    assert ctl(member, "auth", "apply", "-", text=FIRST) == (0, [], "")
    assert ctl(member, "auth", "enable")[0] == 0

    assert ctl(member, *ROOT, "auth", "apply", "--enable", "-", text=FIRST) == (0, [], "")
    planned = ctl(member, *ROOT, "auth", "apply", "--remove", "--dry-run", "-", text=SECOND)
    changed = ctl(member, *ROOT, "auth", "apply", "--remove", "-", text=SECOND)
    assert planned == changed
    assert sorted(changed[1]) == [
        "role app: READ granted on /app/*",
        "role app: WRITE granted on all from z on",
        "role app: nothing more on a to c",
        "user app: password changed",
        "user app: role app revoked",
        "user guest deleted",
    ]
    assert ctl(member, *ROOT, "auth", "apply", "--remove", "-", text=SECOND) == (0, [], "")
    said = ctl(member, *ROOT, "auth", "apply", "-", text="users: {root: {password: the root}, app: {roles: [none]}}")
    assert said[0] == 1, "there is no such role"
    assert ctl(member, *ROOT, "auth", "apply", "--disable", "-", text=SECOND) == (0, ["users switched off"], "")
