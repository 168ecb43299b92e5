from __future__ import annotations

import pytest

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.txn import parse_comparison, parse_operation
from etcdpy.proto.rpc_pb2 import Compare, PutRequest, RequestOp


@pytest.mark.parametrize(
    ("line", "compare"),
    [
        ('ver("a") = "3"', Compare(key=b"a", target=Compare.VERSION, result=Compare.EQUAL, version=3)),
        ('c("a") != "0"', Compare(key=b"a", target=Compare.CREATE, result=Compare.NOT_EQUAL, create_revision=0)),
        ('mod("a b") > "5"', Compare(key=b"a b", target=Compare.MOD, result=Compare.GREATER, mod_revision=5)),
        (r'value("\xff") < "é"', Compare(key=b"\xff", target=Compare.VALUE, result=Compare.LESS, value="é".encode())),
        ('lease("a") = "1f"', Compare(key=b"a", target=Compare.LEASE, result=Compare.EQUAL, lease=31)),
    ],
)
def test_comparisons(line: str, compare: Compare) -> None:
    assert parse_comparison(line) == compare


@pytest.mark.parametrize("line", ['version("a") == "0"', 'lease("a") = "x"', 'value("a") = "\\q"'])
def test_what_is_no_comparison(line: str) -> None:
    with pytest.raises(Failure) as failed:
        parse_comparison(line)
    assert failed.value.exit_code == Exit.BAD_INPUT


def test_an_operation_takes_its_own_flags_alone() -> None:
    put = PutRequest(key=b"a", value=b"b c", lease=26, prev_kv=True)
    assert parse_operation('put a "b c" --lease=1a --prev-kv') == RequestOp(request_put=put)
    with pytest.raises(Failure, match="invalid txn request: get a --hex"):
        parse_operation("get a --hex")
