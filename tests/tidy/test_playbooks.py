"""Every playbook is one that Ansible can read, stands in the table of ansible/README.md, and is run by a test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import yaml

from tests.tidy.sources import ROOT, report, repository_files

ANSIBLE: Final = ROOT / "ansible"
ROW: Final = re.compile(
    r"^\| \[([\w-]+\.yml)\]\(([^)]*)\) \| (.+) \| (.*) \| \[([\w-]+\.py)\]\(\.\./([^)]*)\) \|$", re.MULTILINE
)
NO_PLAYBOOKS: Final = ("inventory.example.yml",)


def playbooks() -> list[str]:
    """The names of all playbooks."""
    files = [Path(name) for name in repository_files() if name.startswith("ansible/") and name.endswith(".yml")]
    return [path.name for path in files if len(path.parts) == 2 and path.name not in NO_PLAYBOOKS]


def variables() -> set[str]:
    """What a user may set: the options of every entry point of the role."""
    specs = yaml.safe_load((ANSIBLE / "roles/etcdpy/meta/argument_specs.yml").read_text())["argument_specs"]
    return {name for entry_point in specs.values() for name in entry_point["options"]}


def row_faults(page: str, names: list[str], known: set[str]) -> list[str]:
    """Playbooks without a row, rows without a playbook, and rows that say what is not so."""
    rows = ROW.findall(page)
    found = [row[0] for row in rows]
    faults = [f"{name}: has {found.count(name)} rows" for name in names if found.count(name) != 1]
    for name, link, _, wanted, shown, test in rows:
        if link != name or name not in names:
            faults.append(f"{name}: there is no such playbook at {link}")
        faults += [
            f"{name}: no argument_specs has {each}" for each in re.findall(r"`(\w+)`", wanted) if each not in known
        ]
        path = ROOT / test
        if not (path.name == shown and path.parent == ROOT / "tests/hosts" and path.is_file()):
            faults.append(f"{name}: there is no test {test}")
        elif f'"{name}"' not in path.read_text():
            faults.append(f"{name}: {test} does not play it")
    return faults


def test_each_playbook_has_its_row_and_its_test() -> None:
    names = playbooks()
    assert "site.yml" in names
    faults = row_faults((ANSIBLE / "README.md").read_text(), names, variables())
    assert not faults, report(faults)


def test_planted_faults_of_rows_are_found() -> None:
    row = "| [site.yml](site.yml) | makes | `etcdpy_wheels` | [test_site.py](../tests/hosts/test_site.py) |"
    known = {"etcdpy_wheels"}
    assert row_faults(row, ["site.yml"], known) == []
    assert row_faults(row, ["site.yml", "b.yml"], known) == ["b.yml: has 0 rows"]
    assert row_faults(row, [], known) == ["site.yml: there is no such playbook at site.yml"]
    assert row_faults(row, ["site.yml"], set()) == ["site.yml: no argument_specs has etcdpy_wheels"]
    for test, fault in (("none", "there is no test"), ("boot", "does not play it")):
        (said,) = row_faults(row.replace("test_site", f"test_{test}"), ["site.yml"], known)
        assert fault in said


def syntax_check(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        "--syntax-check",
        "-i",
        "localhost,",
        *map(str, paths),
    ]
    return subprocess.run(command, cwd=ANSIBLE, capture_output=True, text=True, check=False)


def test_ansible_can_read_all_of_them(tmp_path: Path) -> None:
    done = syntax_check(*(ANSIBLE / name for name in playbooks()))
    assert done.returncode == 0, done.stdout + done.stderr
    planted = tmp_path / "planted.yml"
    planted.write_text("- hosts: all\n  tasks:\n    - ansible.builtin.no_such_module: {}\n")
    assert syntax_check(planted).returncode != 0
