"""What a client may do to a connection without asking for anything: budgets for frames, and the ping policy."""

from __future__ import annotations

from etcdpy import limits, work_limits
from etcdpy.transport.frames import ConnectionFault, ErrorCode

_IDLE_PING_SECONDS = 7200.0
"""A connection without streams may ping this often, as with grpc-go."""

_PING_STRIKES_MAX = 2


class Budget:
    """A token bucket: `burst` at once, `per_second` thereafter."""

    __slots__ = ("_burst", "_per_second", "_then", "left", "reason")

    def __init__(self, burst: int, per_second: int, reason: str) -> None:
        self._burst = burst
        self._per_second = per_second
        self._then = 0.0
        self.left = float(burst)
        self.reason = reason

    def take(self, now: float) -> None:
        """Pay for one. Raises ConnectionFault (ENHANCE_YOUR_CALM) when there is nothing left."""
        if self.left < 1:
            self.left = min(float(self._burst), self.left + (now - self._then) * self._per_second)
            if self.left < 1:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, self.reason)
            self._then = now
        elif self.left >= self._burst:
            self._then = now
        self.left -= 1

    def earn(self, tokens: float) -> None:
        """Give some back."""
        self.left = min(float(self._burst), self.left + tokens)


class Guard:
    """The budgets of one connection."""

    __slots__ = ("_last_ping", "_ping_min_seconds", "_strikes", "control", "empty", "resets", "settings")

    def __init__(self, ping_min_seconds: float) -> None:
        self.resets = Budget(limits.RESETS_BURST, limits.RESETS_PER_SECOND, "too many resets")
        self.settings = Budget(limits.SETTINGS_BURST, limits.SETTINGS_PER_SECOND, "too many settings")
        self.control = Budget(limits.CONTROL_FRAMES_BURST, limits.CONTROL_FRAMES_PER_SECOND, "too many control frames")
        self.empty = Budget(limits.EMPTY_FRAMES_BURST, limits.EMPTY_FRAMES_PER_SECOND, "too many empty frames")
        self._ping_min_seconds = ping_min_seconds
        self._last_ping = float("-inf")
        self._strikes = 0

    @property
    def suspects(self) -> bool:
        """Whether the client resets so many streams that its turns are to be short."""
        return self.resets.left < limits.RESETS_BURST - work_limits.SUSPECT_RESETS

    def ping(self, now: float, *, has_streams: bool, sent_since: bool) -> None:
        """A PING came. Raises ConnectionFault `too_many_pings` at the third that comes too early (grpc-go's policy)."""
        last, self._last_ping = self._last_ping, now
        if sent_since:
            self._strikes = 0
            return
        if now < last + (self._ping_min_seconds if has_streams else _IDLE_PING_SECONDS):
            self._strikes += 1
            if self._strikes > _PING_STRIKES_MAX:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
