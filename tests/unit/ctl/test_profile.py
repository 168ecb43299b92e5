"""Profiles: what they fill in, and which files are none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.members import member_list
from etcdpy.ctl.options import Options, read_options
from etcdpy.limits import PROFILE_BYTES_MAX

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, *words: str, **environment: str) -> Options:
    ctx = click.Context(member_list)
    member_list.parse_args(ctx, [f"--profile={path}", *words])
    return read_options(ctx, environment)


def profile(directory: Path, text: str) -> Path:
    path = directory / "profile"
    path.write_text(text)
    return path


def test_it_fills_in_what_nobody_else_gave(tmp_path: Path) -> None:
    path = profile(
        tmp_path,
        "# a comment\n\nETCDCTL_ENDPOINTS=https://a:1,https://b:2\nETCDCTL_CACERT='my ca.pem' # another\n"
        "ETCDCTL_WRITE_OUT=json\nETCDCTL_COMMAND_TIMEOUT=7s\n",
    )
    found = read(path)
    assert found.endpoints == ("https://a:1", "https://b:2")
    assert (str(found.trusted_ca), found.write_out, found.command_timeout_seconds) == ("my ca.pem", "json", 7)
    found = read(path, "--write-out=table", ETCDCTL_ENDPOINTS="c:3")
    assert (found.endpoints, found.write_out) == (("c:3",), "table")
    named = read_options(click.Context(member_list), {"ETCDPYCTL_PROFILE": str(path)})
    assert named.endpoints == ("https://a:1", "https://b:2")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ETCDCTL_ENDPOINTS\n", "profile:1: expected ETCDCTL_FLAG=value"),
        ("\nETCDCTL_CERT=a b\n", "profile:2: expected ETCDCTL_FLAG=value"),
        ("ETCDCTL_CERT='a\n", "profile:1: no closing quotation"),
        ("ETCDCTL_NONSENSE=1\n", "profile:1: ETCDCTL_NONSENSE stands for no flag"),
        ("PATH=/bin\n", "profile:1: PATH stands for no flag"),
        ("ETCDCTL_COMMAND_TIMEOUT=soon\n", "ETCDCTL_COMMAND_TIMEOUT"),
        ("ETCDCTL_PASSWORD=secret\n", "profile:1: others may read the secret in it"),
        ("#" * (PROFILE_BYTES_MAX + 1), "65536 bytes at the most"),
    ],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(Failure) as failed:
        read(profile(tmp_path, text))
    assert reason in failed.value.text
    assert "secret\n" not in failed.value.text


def test_a_secret_is_taken_from_a_file_of_our_own_alone(tmp_path: Path) -> None:
    path = profile(tmp_path, "ETCDCTL_USER=root\nETCDCTL_PASSWORD=secret\n")
    path.chmod(0o600)
    assert (read(path).user, read(path).password) == ("root", "secret")


def test_a_profile_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        read(tmp_path / "absent")
    assert failed.value.exit_code == Exit.BAD_ARGUMENTS
    assert failed.value.text == f"open {tmp_path / 'absent'}: no such file or directory"
