"""One suite, run on real etcd and on etcdpy: what passes on both behaves the same."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.support.client import Client
from tests.support.members import Kind, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

BOTH_KINDS = [pytest.param("etcd", marks=pytest.mark.reference), pytest.param("etcdpy")]
_prefixes = itertools.count(1)


@pytest.fixture(scope="module", params=BOTH_KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    value: Kind = request.param
    return value


@pytest.fixture(scope="module")
def member(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    """A running member, shared by the tests of one module: each test keeps to its own `prefix`."""
    with Member(kind, tmp_path_factory.mktemp(kind)) as running:
        yield running


@pytest.fixture(scope="module")
def client(member: Member) -> Iterator[Client]:
    with Client.of(member) as connected:
        yield connected


@pytest.fixture
def prefix() -> bytes:
    """A key prefix that no other test uses."""
    return b"/t%04d/" % next(_prefixes)
