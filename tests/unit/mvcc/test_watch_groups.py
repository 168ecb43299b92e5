"""Groups are found by key as if all of them had been looked at."""

from __future__ import annotations

from random import Random

import pytest

from etcdpy import limits
from etcdpy.mvcc.watch_groups import Group, GroupIndex, prefix_end


def contains(group: Group, key: bytes) -> bool:
    if group.end is None:
        return key == group.key
    return key >= group.key and (not group.end or key < group.end)


def found(index: GroupIndex, key: bytes) -> list[Group]:
    single = index.singles.get(key)
    return ([single] if single is not None else []) + list(index.ranges_of(key))


@pytest.mark.parametrize("seed", range(8))
def test_same_as_looking_at_all(seed: int) -> None:
    random = Random(seed)
    index = GroupIndex()
    groups: list[Group] = []

    def key() -> bytes:
        return bytes(random.choice(b"\x00ab\xff") for _ in range(random.randint(1, 3)))

    for _ in range(400):
        if groups and random.random() < 0.4:
            index.discard(groups.pop(random.randrange(len(groups))))
        else:
            start = key()
            end = random.choice([None, b"", prefix_end(start), key()])
            if end and end <= start:
                continue
            group = index.obtain(start, end)
            assert index.obtain(start, end) is group
            if group not in groups:
                groups.append(group)
        for _ in range(3):
            name = key()
            got = found(index, name)
            assert len(got) == len(set(got))
            assert set(got) == {group for group in groups if contains(group, name)}
        assert len(index) == len(groups)
        assert set(index) == set(groups)
    for group in groups:
        index.discard(group)
    assert len(index) == 0
    assert found(index, b"a") == []


@pytest.mark.parametrize("shape", ["nested", "sliding", "apart"])
def test_many_ranges_of_any_shape(shape: str) -> None:
    """Quadratic would be seconds, and was with a package for interval trees."""
    index = GroupIndex()
    count = 3000
    groups = []
    for number in range(count):
        begin = b"a%06d" % number
        end = {"nested": b"z%06d" % (count - number), "sliding": b"a%06d" % (number + 1500), "apart": begin + b"zz"}
        groups.append(index.obtain(begin, end[shape]))
    assert len(index.ranges_of(b"a002000")) == {"nested": 2001, "sliding": 1500, "apart": 1}[shape]
    for group in groups:
        index.discard(group)
    assert index.ranges_of(b"a002000") == ()


@pytest.mark.parametrize(
    ("key", "end"), [(b"a", b"b"), (b"a\xff", b"b"), (b"a\xff\xff", b"b"), (b"\xff", b""), (b"a\x00", b"a\x01")]
)
def test_prefix_end(key: bytes, end: bytes) -> None:
    assert prefix_end(key) == end


def test_the_memo_is_bounded() -> None:
    index = GroupIndex()
    index.obtain(b"a", b"b")
    for number in range(limits.WATCH_MEMO_KEYS_MAX + 10):
        index.ranges_of(b"a%d" % number)
    index.ranges_of(b"a" * (limits.WATCH_MEMO_KEY_BYTES_MAX + 1))
    assert len(index._memo) <= limits.WATCH_MEMO_KEYS_MAX
    assert b"a" * (limits.WATCH_MEMO_KEY_BYTES_MAX + 1) not in index._memo
    for number in range(limits.WATCH_MEMO_GROUPS_MAX):
        index.obtain(b"a", b"c%d" % number)
    assert len(index.ranges_of(b"aa")) == limits.WATCH_MEMO_GROUPS_MAX + 1
    assert b"aa" not in index._memo
