from __future__ import annotations

import json

import pytest

from etcdpy.commandline import Failure
from etcdpy.ctl.answers import show
from etcdpy.ctl.cluster_answers import Health, HealthAnswer, status_row
from etcdpy.ctl.gojson import dumps, plain
from etcdpy.ctl.gotext import quote, unquote
from etcdpy.proto import kv_pb2, rpc_pb2


def test_json_leaves_out_zeros_and_keeps_what_is_present() -> None:
    answer = rpc_pb2.StatusResponse(dbSize=7, downgradeInfo=rpc_pb2.DowngradeInfo(), errors=["<a>"])
    assert plain(answer) == {"dbSize": 7, "errors": ["<a>"], "downgradeInfo": {}}
    assert dumps(plain(answer)) == '{"dbSize":7,"errors":["\\u003ca\\u003e"],"downgradeInfo":{}}'


def test_json_has_numbers_as_numbers_and_bytes_as_base64() -> None:
    pair = kv_pb2.KeyValue(key=b"\xff", create_revision=2**62, lease=-1)
    assert dumps(plain(pair)) == f'{{"key":"/w==","create_revision":{2**62},"lease":-1}}'


def test_health_goes_to_two_streams(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Health("a:1", True, "1ms"), Health("b:2", False, "5s", "context deadline exceeded")]
    show(HealthAnswer(found), "simple", hexadecimal=False)
    shown = capsys.readouterr()
    assert shown.out == "a:1 is healthy: successfully committed proposal: took = 1ms\n"
    assert shown.err == "b:2 is unhealthy: failed to commit proposal: context deadline exceeded\n"
    show(HealthAnswer(found), "json", hexadecimal=False)
    assert json.loads(capsys.readouterr().out)[1] == {
        "endpoint": "b:2",
        "health": False,
        "took": "5s",
        "error": "context deadline exceeded",
    }


def test_a_status_of_an_empty_database_divides_by_nothing() -> None:
    assert status_row("a:1", rpc_pb2.StatusResponse())[4:8] == ("0 B", "0 B", "0%", "0 B")


def test_a_format_without_a_form_is_refused() -> None:
    with pytest.raises(Failure) as failed:
        show(HealthAnswer([]), "protobuf", hexadecimal=False)
    assert (failed.value.exit_code, failed.value.text) == (4, "protobuf not supported as output format")


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        (b"plain", '"plain"'),
        (b'"\\\t\n\x00\x7f', r'"\"\\\t\n\x00\x7f"'),
        ("é\u2028\U0001f600".encode(), '"é\\u2028\U0001f600"'),
        (b"\xff\xc3", r'"\xff\xc3"'),
    ],
)
def test_go_quotes(raw: bytes, written: str) -> None:
    assert quote(raw) == written
    assert unquote(written).encode(errors="surrogateescape") == raw


@pytest.mark.parametrize(
    "text", ["", '"', "plain", '"open', r'"\q"', '"in"side"', r'"\ud800"', r'"\777"', '"two\nlines"', r'"\"']
)
def test_what_go_does_not_unquote(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        unquote(text)


def test_go_unquotes_octal() -> None:
    assert unquote(r'"\101\u00e9"') == "Aé"
