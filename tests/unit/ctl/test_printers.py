from __future__ import annotations

import json

import pytest

from etcdpy.ctl.gojson import dumps, plain
from etcdpy.ctl.printers import Health, human_bytes, make_printer, status_row
from etcdpy.proto import kv_pb2, rpc_pb2


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (9, "9 B"),
        (10, "10 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (1050, "1.1 kB"),
        (9950, "10 kB"),
        (20480, "20 kB"),
        (999_999, "1000 kB"),
        (1_000_000, "1.0 MB"),
        (2_147_483_648, "2.1 GB"),
    ],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert human_bytes(count) == text


def test_json_leaves_out_zeros_and_keeps_what_is_present() -> None:
    answer = rpc_pb2.StatusResponse(dbSize=7, downgradeInfo=rpc_pb2.DowngradeInfo(), errors=["<a>"])
    assert plain(answer) == {"dbSize": 7, "errors": ["<a>"], "downgradeInfo": {}}
    assert dumps(plain(answer)) == '{"dbSize":7,"errors":["\\u003ca\\u003e"],"downgradeInfo":{}}'


def test_json_has_numbers_as_numbers_and_bytes_as_base64() -> None:
    pair = kv_pb2.KeyValue(key=b"\xff", create_revision=2**62, lease=-1)
    assert dumps(plain(pair)) == f'{{"key":"/w==","create_revision":{2**62},"lease":-1}}'


def test_health_goes_to_two_streams(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Health("a:1", True, "1ms"), Health("b:2", False, "5s", "context deadline exceeded")]
    make_printer("simple", hexadecimal=False).endpoint_health(found)
    shown = capsys.readouterr()
    assert shown.out == "a:1 is healthy: successfully committed proposal: took = 1ms\n"
    assert shown.err == "b:2 is unhealthy: failed to commit proposal: context deadline exceeded\n"
    make_printer("json", hexadecimal=False).endpoint_health(found)
    assert json.loads(capsys.readouterr().out)[1] == {
        "endpoint": "b:2",
        "health": False,
        "took": "5s",
        "error": "context deadline exceeded",
    }


def test_a_status_of_an_empty_database_divides_by_nothing() -> None:
    assert status_row("a:1", rpc_pb2.StatusResponse())[4:8] == ("0 B", "0 B", "0%", "0 B")
