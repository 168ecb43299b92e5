"""The window of messages with entries that are on their way to one member.

    add ->  (last index, bytes) (last index, bytes) ...  -> free_to(acknowledged index)

A full window pauses the flow: what is on its way is memory here, in the sockets and at the member.
"""

from __future__ import annotations

from collections import deque


class Inflights:
    """Bounded by messages and by bytes; the message that reaches the bound of bytes may overshoot it."""

    __slots__ = ("_window", "bytes", "max_bytes", "max_messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.bytes = 0
        self._window: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._window)

    @property
    def full(self) -> bool:
        """Whether nothing more may be sent until something is acknowledged."""
        return len(self._window) >= self.max_messages or self.bytes >= self.max_bytes

    def add(self, last_index: int, size: int) -> None:
        """A message whose last entry is `last_index` left."""
        assert not self.full, "a full window takes nothing"
        assert not self._window or last_index > self._window[-1][0], (last_index, self._window[-1])
        self._window.append((last_index, size))
        self.bytes += size

    def free_to(self, index: int) -> None:
        """Everything up to `index` has arrived."""
        window = self._window
        while window and window[0][0] <= index:
            self.bytes -= window.popleft()[1]

    def clear(self) -> None:
        """Nothing counts as on its way any more."""
        self._window.clear()
        self.bytes = 0
