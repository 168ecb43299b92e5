"""Alarms: NOSPACE and CORRUPT, raised and cleared through the log, member by member."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etcdpy.backend import ALARM_BUCKET
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from etcdpy.backend import Backend


class AlarmStore:
    """The active alarms, by kind and member."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._active: dict[tuple[int, int], rpc_pb2.AlarmMember] = {}

    def restore(self) -> None:
        """Read what is stored, in place of what was known."""
        self._active.clear()
        end = bytes([ALARM_BUCKET[0] + 1])
        for key, _ in self._backend.scan(ALARM_BUCKET, end):
            alarm = rpc_pb2.AlarmMember.FromString(key[1:])
            self._active[alarm.alarm, alarm.memberID] = alarm

    def get(self, kind: int = rpc_pb2.NONE) -> list[rpc_pb2.AlarmMember]:
        """The active alarms of a kind, NONE meaning all, by kind and member."""
        return [self._active[each] for each in sorted(self._active) if kind in (rpc_pb2.NONE, each[0])]

    def activate(self, member: int, kind: int) -> rpc_pb2.AlarmMember:
        """Raise an alarm. Raising it again changes nothing and gives it back, as on etcd."""
        known = self._active.get((kind, member))
        if known is not None:
            return known
        alarm = rpc_pb2.AlarmMember(memberID=member, alarm=kind)  # type: ignore[arg-type]
        self._active[kind, member] = alarm
        self._backend.put(ALARM_BUCKET + alarm.SerializeToString(), b"")
        return alarm

    def deactivate(self, member: int, kind: int) -> rpc_pb2.AlarmMember | None:
        """Clear an alarm; None when it was not active."""
        alarm = self._active.pop((kind, member), None)
        if alarm is not None:
            self._backend.delete(ALARM_BUCKET + alarm.SerializeToString())
        return alarm
