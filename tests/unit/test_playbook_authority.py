"""`ansible/roles/etcdpy/tasks/authority.yml`, run here: it needs no host but the control machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.built import ROOT

PLAY = [
    {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.import_role": {"name": "etcdpy", "tasks_from": "authority"}}],
    }
]


@pytest.mark.parametrize(
    ("passphrase", "kind"), [("", "BEGIN PRIVATE KEY"), ("open sesame, please", "BEGIN ENCRYPTED PRIVATE KEY")]
)
def test_its_key_is_encrypted_where_a_passphrase_is_given(passphrase: str, kind: str, tmp_path: Path) -> None:
    program = tmp_path / "etcdpy"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m etcdpy "$@"\n')
    program.chmod(0o755)
    variables = {"etcdpy_control_program": str(program), "etcdpy_authority": str(tmp_path / "ca")}
    if passphrase:
        (tmp_path / "passphrase").write_text(passphrase)
        variables["etcdpy_passphrase_file"] = str(tmp_path / "passphrase")
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    command = [str(ansible), "-i", "localhost,", "-e", json.dumps(variables), str(tmp_path / "play.yml")]
    environment = os.environ | {"ANSIBLE_ROLES_PATH": str(ROOT / "ansible" / "roles"), "ANSIBLE_HOME": str(tmp_path)}
    for changed in (1, 0):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        assert f"changed={changed} " in done.stdout
    assert kind in (tmp_path / "ca" / "ca-key.pem").read_text()
    assert not passphrase or passphrase not in done.stdout
