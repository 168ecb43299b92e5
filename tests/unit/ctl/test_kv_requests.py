from __future__ import annotations

from typing import Any

import pytest

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.kv import key_range, range_request
from etcdpy.proto.rpc_pb2 import RangeRequest

FLAGS: dict[str, Any] = {
    "consistency": "l", "order": "", "sort_by": "", "limit": 0, "prefix": False, "from_key": False, "rev": 0,
    "keys_only": False, "count_only": False, "min_create_rev": 0, "max_create_rev": 0,
    "min_mod_rev": 0, "max_mod_rev": 0,
}  # fmt: skip


def request(*words: str, **flags: Any) -> RangeRequest:
    return range_request(words, **{**FLAGS, **flags})


@pytest.mark.parametrize(
    ("words", "prefix", "from_key", "expected"),
    [
        (("a",), False, False, (b"a", b"")),
        (("a", "z"), False, False, (b"a", b"z")),
        (("a",), True, False, (b"a", b"b")),
        (("",), True, False, (b"\0", b"\0")),
        (("a",), False, True, (b"a", b"\0")),
        (("",), False, True, (b"\0", b"\0")),
        (("\udcff",), False, False, (b"\xff", b"")),
    ],
)
def test_key_ranges(words: tuple[str, ...], prefix: bool, from_key: bool, expected: tuple[bytes, bytes]) -> None:
    assert key_range(words, prefix=prefix, from_key=from_key) == expected


def test_flags_reach_the_request() -> None:
    assert request(
        "a", limit=3, rev=5, consistency="s", keys_only=True, min_mod_rev=2, max_create_rev=9
    ) == RangeRequest(
        key=b"a", limit=3, revision=5, serializable=True, keys_only=True, min_mod_revision=2, max_create_revision=9
    )
    assert request("a", rev=-1, max_mod_rev=-1) == RangeRequest(key=b"a")


def test_sorting() -> None:
    assert request("a", order="descend").sort_order == RangeRequest.DESCEND
    assert request("a", order="ascend", sort_by="mod" + "ify").sort_target == RangeRequest.MOD
    assert request("a", order="ascend", sort_by="key").sort_order == RangeRequest.NONE


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ({"order": "up"}, Exit.BAD_FEATURE),
        ({"sort_by": "size"}, Exit.BAD_FEATURE),
        ({"consistency": "x"}, Exit.BAD_FEATURE),
        ({"min_mod_rev": 5, "max_mod_rev": 4}, Exit.BAD_FEATURE),
        ({"prefix": True, "from_key": True}, Exit.BAD_ARGUMENTS),
        ({"keys_only": True, "count_only": True}, Exit.BAD_ARGUMENTS),
    ],
)
def test_contradictions_end_with_etcdctls_code(flags: dict[str, Any], code: Exit) -> None:
    with pytest.raises(Failure) as failed:
        request("a", **flags)
    assert failed.value.exit_code == code
