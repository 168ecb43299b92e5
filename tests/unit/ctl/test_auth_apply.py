from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from etcdpy.commandline import Failure
from etcdpy.ctl import auth_apply
from etcdpy.ctl.auth_apply import User, parse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("span", "found"),
    [
        ({"key": "a"}, (b"a", b"")),
        ({"key": "a", "end": "c"}, (b"a", b"c")),
        ({"prefix": "/a/"}, (b"/a/", b"/a0")),
        ({"prefix": ""}, (b"\0", b"\0")),
        ({"from": "x"}, (b"x", b"\0")),
        ({"from": ""}, (b"\0", b"\0")),
    ],
)
def test_a_permission_names_its_keys(span: dict[str, str], found: tuple[bytes, bytes]) -> None:
    assert parse({"roles": {"r": [{"permission": "write", **span}]}}).roles == {"r": {found: "WRITE"}}


def test_root_has_its_role_and_no_other_has_what_is_not_said() -> None:
    wanted = parse({"users": {"root": None, "a": {"password": "secret", "roles": ["r"]}}})
    assert wanted.users == {"root": User(frozenset({"root"})), "a": User(frozenset({"r"}), "secret")}
    assert "secret" not in repr(wanted)


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (["users"], "must hold tables"),
        ({"user": {}}, "must hold tables"),
        ({"users": ["a"]}, "roles and users must be tables"),
        ({"users": {"a": "secret"}}, "user a: may have a password and roles"),
        ({"users": {"a": {"passwort": "secret"}}}, "user a: may have a password and roles"),
        ({"users": {"a": {"password": 123456}}}, "user a: its roles must be a list, and its password a text"),
        ({"roles": {"r": [{"permission": "own", "key": "a"}]}}, "role r: a permission is"),
        ({"roles": {"r": [{"permission": "read", "prefix": "a", "from": "b"}]}}, "role r: a permission is"),
        ({"roles": {"r": ["a"]}}, "role r: a permission is"),
        ({"roles": {"root": [{"permission": "read", "key": "a"}]}}, "takes no permissions"),
    ],
)
def test_a_fault_is_named_and_no_password_shown(found: Any, fault: str) -> None:
    with pytest.raises(Failure, match=fault) as refusal:
        parse(found)
    assert "secret" not in str(refusal.value)
    assert "123456" not in str(refusal.value)


def test_what_cannot_be_read_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users.yml"
    path.write_text("users:\n  a: {password: 'secret}\n")
    with pytest.raises(Failure, match="neither YAML nor JSON at line") as refusal:
        auth_apply._read(str(path))
    assert "secret" not in str(refusal.value)
    monkeypatch.setattr(auth_apply, "AUTH_FILE_BYTES_MAX", 10)
    with pytest.raises(Failure, match="larger than 10 bytes"):
        auth_apply._read(str(path))
    with pytest.raises(Failure, match="no such file"):
        auth_apply._read(str(tmp_path / "none"))


def test_a_certificate_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    assert auth_apply.certificate_name(None) == auth_apply.certificate_name(tmp_path / "none") == ""
