"""Alarms as Status lists them."""

from __future__ import annotations

import pytest

from etcdpy.api.maintenance import describe_alarm
from etcdpy.proto import rpc_pb2


@pytest.mark.parametrize(
    ("alarm", "text"),
    [
        (rpc_pb2.AlarmMember(memberID=1, alarm=rpc_pb2.NOSPACE), "memberID:1 alarm:NOSPACE"),
        (rpc_pb2.AlarmMember(alarm=rpc_pb2.CORRUPT), "alarm:CORRUPT"),
        (rpc_pb2.AlarmMember(memberID=7, alarm=99), "memberID:7 alarm:99"),  # type: ignore[arg-type]
    ],
)
def test_an_alarm_that_has_no_name_is_told_by_its_number(alarm: rpc_pb2.AlarmMember, text: str) -> None:
    """Found by tests/fuzz: a client raised alarm 99, and from then on each Status ended in an internal error."""
    assert describe_alarm(alarm) == text
