"""v3 discovery over a registry that is a dict."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from etcdpy.server.discovery import Discovery, DiscoveryError, Entry, RegistryFailed

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE_KEY = "/_etcd/registry/tok/_config/size"


class Memory:
    """A registry; `failures` calls fail first."""

    def __init__(self, size: str | None = "3", failures: int = 0) -> None:
        self.records: dict[str, Entry] = {}
        self.revision = 0
        self.failures = failures
        if size is not None:
            self.set(SIZE_KEY, size)

    def set(self, key: str, value: str) -> None:
        self.revision += 1
        known = self.records.get(key)
        self.records[key] = Entry(key, value, known.create_revision if known else self.revision)

    def register(self, identity: int, value: str) -> None:
        self.set(f"/_etcd/registry/tok/members/{identity:x}", value)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise RegistryFailed("connection refused")

    async def get(self, key: str) -> str | None:
        self._fail()
        return self.records[key].value if key in self.records else None

    async def list(self, prefix: str) -> list[Entry]:
        self._fail()
        return [entry for key, entry in sorted(self.records.items()) if key.startswith(prefix)]

    async def put(self, key: str, value: str) -> None:
        self._fail()
        self.set(key, value)


def join(registry: Memory, identity: int = 0xAB, sleep: Callable[[float], None] = lambda _seconds: None) -> str:
    async def asleep(seconds: float) -> None:
        sleep(seconds)

    return asyncio.run(Discovery(registry, "tok", identity, sleep=asleep).join("me=http://me:1"))


def test_the_last_to_come_finds_all_in_the_order_of_their_coming() -> None:
    registry = Memory()
    registry.register(0xFF, "x=http://x:1")
    registry.register(0x11, "y=http://y:1,y=http://y:2")
    assert join(registry) == "x=http://x:1,y=http://y:1,y=http://y:2,me=http://me:1"
    assert registry.records["/_etcd/registry/tok/members/ab"].value == "me=http://me:1"


def test_the_first_to_come_waits_for_the_others() -> None:
    registry = Memory()
    coming = iter([(0x1, "x=http://x:1"), (0x2, "y=http://y:1")])
    assert join(registry, sleep=lambda _seconds: registry.register(*next(coming))) == (
        "me=http://me:1,x=http://x:1,y=http://y:1"
    )


def test_a_full_cluster() -> None:
    registry = Memory("1")
    registry.register(0x1, "x=http://x:1")
    with pytest.raises(DiscoveryError, match="discovery: cluster is full"):
        join(registry)
    assert "/_etcd/registry/tok/members/ab" not in registry.records


def test_who_comes_too_late_in_a_race_is_left_out() -> None:
    """Another one registers between the check and our own registration."""
    registry = Memory("1")
    plain_put = registry.put

    async def outrun(key: str, value: str) -> None:
        registry.register(0x1, "x=http://x:1")
        await plain_put(key, value)

    registry.put = outrun  # type: ignore[method-assign]
    with pytest.raises(DiscoveryError, match="discovery: cluster is full"):
        join(registry)


def test_who_registered_before_comes_back() -> None:
    registry = Memory("1")
    registry.register(0xAB, "me=http://me:1")
    assert join(registry) == "me=http://me:1"


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "size key not found"), ("many", "size key is bad"), ("0", "bad"), ("9" * 5000, "size key is bad")],
)
def test_the_size_must_be_there(size: str | None, text: str) -> None:
    with pytest.raises(DiscoveryError, match=text):
        join(Memory(size))


def test_a_registry_that_is_down_is_asked_ever_less_often() -> None:
    waits: list[float] = []
    assert join(Memory("1", failures=10), sleep=waits.append) == "me=http://me:1"
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


def test_what_is_no_member_is_passed_over() -> None:
    registry = Memory("1")
    registry.register(0x1, "nonsense")
    assert join(registry) == "me=http://me:1"
