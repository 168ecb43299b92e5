"""The watched ranges that contain a key: a treap ordered by (begin, end), each node knowing the latest end below it.

The `intervaltree` package keeps every interval in the one node that it overlaps first and copies it on the way; ten
thousand ranges within one another took it 26 s to take in. Here an insertion or removal is O(log n) whatever the ranges
look like (6 us at ten thousand), and a look-up O(log n) for each range found.

The shape depends on priorities drawn from Python's hash, which a client cannot guess; what is answered, and its order,
does not depend on the shape.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class _Node(Generic[Value]):
    __slots__ = ("begin", "end", "latest_end", "left", "priority", "right", "value")

    def __init__(self, begin: bytes, end: bytes, value: Value) -> None:
        self.begin = begin
        self.end = end
        self.value = value
        self.priority = hash((begin, end, "watch"))
        self.latest_end = end
        """Invariant: the largest `end` of this node and of all below it."""
        self.left: _Node[Value] | None = None
        self.right: _Node[Value] | None = None

    def renew(self) -> _Node[Value]:
        """Restore the invariant after a change below."""
        latest = self.end
        if self.left is not None and self.left.latest_end > latest:
            latest = self.left.latest_end
        if self.right is not None and self.right.latest_end > latest:
            latest = self.right.latest_end
        self.latest_end = latest
        return self


class Intervals(Generic[Value]):
    """Values by half-open ranges [begin, end) of bytes; a range is held once."""

    __slots__ = ("_root",)

    def __init__(self) -> None:
        self._root: _Node[Value] | None = None

    def __bool__(self) -> bool:
        return self._root is not None

    def add(self, begin: bytes, end: bytes, value: Value) -> None:
        """Take in a range that is not held."""
        self._root = _insert(self._root, _Node(begin, end, value))

    def remove(self, begin: bytes, end: bytes) -> None:
        """Let go of a range that is held."""
        self._root = _remove(self._root, begin, end)

    def at(self, key: bytes) -> list[Value]:
        """The values of the ranges that contain `key`, by (begin, end)."""
        found: list[Value] = []
        _collect(self._root, key, found)
        return found


def _insert(node: _Node[Value] | None, new: _Node[Value]) -> _Node[Value]:
    if node is None:
        return new
    if new.priority > node.priority:
        new.left, new.right = _split(node, new.begin, new.end)
        return new.renew()
    assert (new.begin, new.end) != (node.begin, node.end)
    if (new.begin, new.end) < (node.begin, node.end):
        node.left = _insert(node.left, new)
    else:
        node.right = _insert(node.right, new)
    return node.renew()


def _split(node: _Node[Value] | None, begin: bytes, end: bytes) -> tuple[_Node[Value] | None, _Node[Value] | None]:
    """The nodes before (begin, end) and those after."""
    if node is None:
        return None, None
    if (node.begin, node.end) < (begin, end):
        node.right, after = _split(node.right, begin, end)
        return node.renew(), after
    before, node.left = _split(node.left, begin, end)
    return before, node.renew()


def _join(before: _Node[Value] | None, after: _Node[Value] | None) -> _Node[Value] | None:
    if before is None:
        return after
    if after is None:
        return before
    if before.priority > after.priority:
        before.right = _join(before.right, after)
        return before.renew()
    after.left = _join(before, after.left)
    return after.renew()


def _remove(node: _Node[Value] | None, begin: bytes, end: bytes) -> _Node[Value] | None:
    assert node is not None, "not held"
    if (node.begin, node.end) == (begin, end):
        return _join(node.left, node.right)
    if (begin, end) < (node.begin, node.end):
        node.left = _remove(node.left, begin, end)
    else:
        node.right = _remove(node.right, begin, end)
    return node.renew()


def _collect(node: _Node[Value] | None, key: bytes, found: list[Value]) -> None:
    if node is None or node.latest_end <= key:
        return
    _collect(node.left, key, found)
    if node.begin <= key:
        if key < node.end:
            found.append(node.value)
        _collect(node.right, key, found)
