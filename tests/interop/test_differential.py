"""Thousands of seeded requests to real etcd and to etcdpy: no answer, error or watch event may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.interop.differential import run
from tests.support.client import Client
from tests.support.members import Member
from tests.support.users import FAST_HASHES

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.reference


@pytest.mark.parametrize(("seed", "requests"), [(1, 1500), (2, 1500)])
def test_etcdpy_answers_as_etcd_does(tmp_path: Path, seed: int, requests: int) -> None:
    with Member("etcd", tmp_path / "etcd") as etcd, Member("etcdpy", tmp_path / "etcdpy") as etcdpy:
        report = run(seed, requests, etcd.endpoint, etcdpy.endpoint)
    assert not report.differences, str(report)
    assert report.requests >= requests
    assert report.events > 1000


@pytest.mark.parametrize(("seed", "requests"), [(1, 1000), (2, 1000)])
def test_etcdpy_lets_through_whom_etcd_lets_through(tmp_path: Path, seed: int, requests: int) -> None:
    """With users switched on: what they may do changes all the time, and every call is made by one or the other."""
    with (
        Member("etcd", tmp_path / "etcd", flags=[FAST_HASHES]) as etcd,
        Member("etcdpy", tmp_path / "etcdpy", flags=[FAST_HASHES]) as etcdpy,
    ):
        report = run(seed, requests, etcd.endpoint, etcdpy.endpoint, users=True)
    assert not report.differences, str(report)
    seen = report.answers.keys()
    for call in ("Put", "Range", "DeleteRange", "Txn", "UserGrantRole", "RoleGrantPermission"):
        assert f"{call} OK" in seen
        assert f"{call} PermissionDenied: etcdserver: permission denied" in seen


def test_etcd_answers_as_etcd_does(tmp_path: Path) -> None:
    """Two of etcd's own show no difference, and the requests reach every kind of answer."""
    with Member("etcd", tmp_path / "1") as first, Member("etcd", tmp_path / "2") as second:
        report = run(3, 1000, first.endpoint, second.endpoint)
    assert not report.differences, str(report)
    seen = report.answers.keys()
    for call in ("Put", "Range", "RangeStream", "DeleteRange", "Txn", "LeaseGrant", "LeaseRevoke", "Compact", "HashKV"):
        assert f"{call} OK" in seen
    for text in ("has been compacted", "future revision", "duplicate key", "invalid sort option", "lease not found"):
        assert any(text in answer for answer in seen), text


def test_a_difference_is_seen(tmp_path: Path) -> None:
    """The second server holds one key more: the run must say so, and how to replay it."""
    with Member("etcd", tmp_path / "1") as first, Member("etcd", tmp_path / "2") as second:
        with Client.of(second) as client:
            client.put(b"a", b"not on the first")
        report = run(1, 50, first.endpoint, second.endpoint)
    assert report.differences
    assert "--seed 1 --requests" in str(report)
