"""Real etcdutl beside ours: the same command lines on the same files, the same output and exit status."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop.test_interchange import State
from tests.support import coverage
from tests.support.backend_file import add_checksum
from tests.support.reference import reference_binary

pytestmark = pytest.mark.reference

ROOT = os.getcwd()
FORMATS = ("simple", "json", "fields", "table", "protobuf", "nope")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a file that was saved, one without checksum, one that was changed, and something else."""
    directory = tmp_path_factory.mktemp("files")
    state = State()
    state.change(500)
    state.compact(100)
    bare = state.export(directory / "bare.db")
    saved = directory / "saved.db"
    shutil.copy(bare, saved)
    add_checksum(saved)
    content = bytearray(saved.read_bytes())
    content[9000] ^= 1
    (directory / "changed.db").write_bytes(content)
    (directory / "text").write_text("no database\n" * 100)
    (directory / "taken").mkdir()
    (directory / "taken" / "file").touch()
    return directory


def run(command: list[str], directory: Path) -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


def both(arguments: str, directory: Path) -> list[tuple[int, str, str]]:
    """Exit code, output and `Error:` line of etcdutl and of ours."""
    found = []
    for tool in ([str(reference_binary("etcdutl"))], [sys.executable, "-m", "etcdpy.utl"]):
        code, output, errors = run([*tool, *arguments.split()], directory)
        shutil.rmtree(directory / "new", ignore_errors=True)  # etcdutl leaves what it had begun
        line = next((line for line in errors.splitlines() if line.startswith("Error: ")), "")
        found.append((code, output, line))
    return found


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("command", ["snapshot status saved.db", "snapshot status bare.db", "hashkv saved.db"])
def test_what_is_printed(files: Path, command: str, form: str) -> None:
    theirs, ours = both(f"{command} -w {form}", files)
    assert ours == theirs


SAME = [
    "hashkv saved.db --rev 200",
    "hashkv saved.db --rev=100 -w json",
    "hashkv saved.db --rev 50",
    "hashkv saved.db --rev 100000",
    "hashkv",
    "hashkv saved.db bare.db",
    "hashkv absent",
    "snapshot status",
    "snapshot status saved.db bare.db",
    "snapshot status absent",
    "snapshot restore",
    "snapshot restore saved.db bare.db",
    "snapshot restore absent --data-dir new",
    "snapshot restore saved.db --data-dir new --bump-revision 5",
    "snapshot restore saved.db --data-dir new --mark-compacted",
    "snapshot restore saved.db --data-dir new --bump-revision -1 --mark-compacted",
    "snapshot restore saved.db --data-dir new --bump-revision x --mark-compacted",
    "snapshot restore bare.db --data-dir new",
    "snapshot restore changed.db --data-dir new",
    "snapshot restore saved.db --data-dir taken",
    "snapshot restore saved.db --data-dir new --wal-dir taken",
    "snapshot restore saved.db --data-dir new --name other",
    "snapshot restore saved.db --data-dir new --initial-cluster default=nonsense",
    "snapshot restore saved.db --data-dir new --initial-cluster=",
    "snapshot restore saved.db --data-dir new --initial-advertise-peer-urls nonsense",
    "snapshot restore saved.db --data-dir new --initial-advertise-peer-urls http://localhost:2381",
    "snapshot restore saved.db --data-dir new --initial-advertise-peer-urls http://localhost:2380,http://localhost:2381",
    "snapshot restore saved.db --data-dir new --initial-cluster default=http://localhost:2380,b=http://localhost:2380",
    "snapshot restore saved.db --data-dir new --nonsense",
    "snapshot restore absent --data-dir new --skip-hash-check",
    "snapshot restore bare.db --data-dir new --initial-cluster-token other",
    "snapshot restore bare.db --data-dir new --initial-memory-map-size 1000000",
    "snapshot restore bare.db --data-dir new --initial-memory-map-size x",
    "defrag",
    "migrate --data-dir absent --target-version 3",
    "migrate --data-dir absent --target-version 3.4",
    "migrate --data-dir absent --target-version 3.6",
    "migrate --data-dir absent --target-version 3.6 --force",
    "hashkv absent --timeout 1s",
    "hashkv absent --timeout x",
    "nonsense",
    "version",
    "version -w json",
    "completion",
    "completion nonsense",
]


@pytest.mark.parametrize("arguments", SAME)
def test_refusals_and_exit_codes(files: Path, arguments: str) -> None:
    theirs, ours = both(arguments, files)
    assert ours == theirs


def test_hashkv_is_found_beside_the_other_commands_about_snapshots(files: Path) -> None:
    words = ["hashkv"], ["snapshot", "hashkv"]
    ours = [run([sys.executable, "-m", "etcdpy.utl", *each, "saved.db"], files) for each in words]
    assert ours[0] == ours[1]
    assert ours[0][0] == 0


def test_help_is_that_of_the_command(files: Path) -> None:
    ours = [
        run([sys.executable, "-m", "etcdpy.utl", *words], files) for words in (["help", "migrate"], ["migrate", "-h"])
    ]
    assert ours[0] == ours[1]
    assert ours[0][0] == 0


def test_every_command_and_flag_of_etcdutl_is_there_with_a_test() -> None:
    assert coverage.gaps("etcdutl") == []


def test_the_page_about_it_is_fresh() -> None:
    page = Path(ROOT, "docs", "etcdutl.md").read_text()
    assert page == coverage.render("etcdutl"), "run: python -m tests.support.coverage etcdutl > docs/etcdutl.md"


@pytest.mark.parametrize("command", ["snapshot status text", "hashkv text", "snapshot status cut.db"])
def test_damaged_files_end_with_the_same_code_and_our_reason(files: Path, command: str) -> None:
    saved = (files / "saved.db").read_bytes()
    (files / "cut.db").write_bytes(saved[: len(saved) // 2])
    ours = both(command, files)[1]
    assert ours[0] == 1
    assert ours[1] == ""
    assert ours[2].startswith(f"Error: {command.split()[-1]}: ")


@pytest.mark.parametrize("flag", ["--skip-hash-check", ""])
def test_what_is_refused_leaves_nothing(files: Path, tmp_path: Path, flag: str) -> None:
    content = bytearray((files / "saved.db").read_bytes())
    content[5 * 4096 : 5 * 4096 + 16] = bytes(16)
    (tmp_path / "broken.db").write_bytes(content)
    command = [sys.executable, "-m", "etcdpy.utl", "snapshot", "restore", "broken.db", "--data-dir=new", *flag.split()]
    code, _, errors = run(command, tmp_path)
    assert code == 1
    assert ("calls itself page" if flag else "expected sha256") in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.db"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_completes(files: Path, shell: str) -> None:
    code, script, _ = run([sys.executable, "-m", "etcdpy.utl", "completion", shell], files)
    assert code == 0
    assert "_ETCDUTL_COMPLETE" in script


def test_completion_names_commands(files: Path) -> None:
    environment = {"_ETCDUTL_COMPLETE": "bash_complete", "COMP_WORDS": "etcdpyutl snapshot re", "COMP_CWORD": "2"}
    command = [sys.executable, "-m", "etcdpy.utl"]
    all_variables = {**os.environ, "PYTHONPATH": ROOT, **environment}
    done = subprocess.run(
        command, env=all_variables, cwd=files, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["plain,restore"]
