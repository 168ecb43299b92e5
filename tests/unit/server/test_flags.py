"""Command lines, read as Go's flag package reads them."""

from __future__ import annotations

import pytest

from etcdpy.server.flag_table import BY_GROUP, FLAGS
from etcdpy.server.flags import Flag, FlagError, Kind, UsageError, parse_command_line, parse_value


@pytest.mark.parametrize("argv", [["-name", "x"], ["--name", "x"], ["-name=x"], ["--name=x"], ["--name=y", "--name=x"]])
def test_every_way_to_give_a_value(argv: list[str]) -> None:
    line = parse_command_line(argv, FLAGS)
    assert line.values["name"] == "x"
    assert line.explicit == {"name"}


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--pre-vote"], True),
        (["--pre-vote=false"], False),
        (["--pre-vote=F"], False),
        (["--pre-vote=1"], True),
        (["--pre-vote=false", "--pre-vote"], True),
    ],
)
def test_booleans(argv: list[str], value: bool) -> None:
    assert parse_command_line(argv, FLAGS).values["pre-vote"] is value


def test_a_value_may_look_like_a_flag_or_hold_an_equals_sign() -> None:
    values = parse_command_line(["--name", "--data-dir", "--initial-cluster=a=http://h:1"], FLAGS).values
    assert values["name"] == "--data-dir"
    assert values["initial-cluster"] == "a=http://h:1"


@pytest.mark.parametrize(
    ("argv", "positional"),
    [
        (["foo"], "foo"),
        (["-"], "-"),
        ([""], ""),
        (["--", "--name=x"], "--name=x"),
        (["--"], None),
        (["--pre-vote", "false"], "false"),
        (["--name=x", "foo", "--nope"], "foo"),
        (["--snapshot", "3"], "3"),
    ],
)
def test_flags_end_at_the_first_word_that_is_none(argv: list[str], positional: str | None) -> None:
    assert parse_command_line(argv, FLAGS).positional == positional


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--nope"], "flag provided but not defined: -nope"),
        (["-nope=1"], "flag provided but not defined: -nope"),
        (["--discovery=x"], "flag provided but not defined: -discovery"),
        (
            ["--experimental-initial-corrupt-check"],
            "flag provided but not defined: -experimental-initial-corrupt-check",
        ),
        (["--name"], "flag needs an argument: -name"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-=x"], "bad flag syntax: -=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["--pre-vote=maybe"], 'invalid boolean value "maybe" for -pre-vote: parse error'),
        (["--heartbeat-interval=-5"], 'invalid value "-5" for flag -heartbeat-interval: parse error'),
        (["--heartbeat-interval="], 'invalid value "" for flag -heartbeat-interval: parse error'),
        (
            ["--heartbeat-interval=99999999999999999999"],
            'invalid value "99999999999999999999" for flag -heartbeat-interval: value out of range',
        ),
        (["--grpc-keepalive-min-time=5"], 'invalid value "5" for flag -grpc-keepalive-min-time: parse error'),
        (
            ["--max-concurrent-streams=4294967296"],
            (
                'invalid value "4294967296" for flag -max-concurrent-streams: '
                'strconv.ParseUint: parsing "4294967296": value out of range'
            ),
        ),
        (
            ["--max-concurrent-streams=x"],
            'invalid value "x" for flag -max-concurrent-streams: strconv.ParseUint: parsing "x": invalid syntax',
        ),
        (["--initial-cluster-state=x"], 'invalid value "x" for flag -initial-cluster-state: invalid value'),
        (["--v2-deprecation=gone,x"], 'invalid value "gone,x" for flag -v2-deprecation: invalid value "x"'),
        (
            ["--feature-gates=Foo=true"],
            'invalid value "Foo=true" for flag -feature-gates: unrecognized feature gate: Foo',
        ),
        (
            ["--listen-client-urls=http://127.0.0.1"],
            (
                'invalid value "http://127.0.0.1" for flag -listen-client-urls: '
                'URL address does not have the form "host:port": http://127.0.0.1'
            ),
        ),
        (
            ["--cors=foo"],
            'invalid value "foo" for flag -cors: URL scheme must be http, https, unix, or unixs: foo',
        ),
    ],
)
def test_what_cannot_be_read(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command_line(argv, FLAGS)
    assert str(caught.value) == message


def test_a_secret_is_not_repeated() -> None:
    flag = Flag("pin", Kind.UINT, "0", "", secret=True)
    with pytest.raises(UsageError) as caught:
        parse_command_line(["--pin=hunter2"], {"pin": flag})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("argv", [["-h"], ["--help"], ["--name=x", "-help", "--nope"]])
def test_help(argv: list[str]) -> None:
    assert parse_command_line(argv, FLAGS).help


@pytest.mark.parametrize(
    ("text", "value"),
    [("10", 10), ("0x10", 16), ("0b11", 3), ("0o17", 15), ("017", 15), ("1_000", 1000), ("0", 0), ("00", 0)],
)
def test_numbers(text: str, value: int) -> None:
    assert parse_value(FLAGS["max-txn-ops"], text) == value


@pytest.mark.parametrize("text", ["1__0", "08", "0x", " 1", "1 ", "٣", "+1", "1.0", "_1", "9" * 200])
def test_no_numbers(text: str) -> None:
    with pytest.raises(FlagError):
        parse_value(FLAGS["max-txn-ops"], text)


def test_signs_only_where_numbers_may_be_negative() -> None:
    assert parse_value(FLAGS["quota-backend-bytes"], "-1") == -1
    assert parse_value(FLAGS["quota-backend-bytes"], "+1") == 1


def test_lists() -> None:
    values = parse_command_line(
        [
            "--log-outputs=stdout,a,stdout",
            "--cipher-suites=B,A",
            "--listen-client-urls=http://b:1,http://a:1,http://b:1",
        ],
        FLAGS,
    ).values
    assert values["log-outputs"] == ("a", "stdout")
    assert values["cipher-suites"] == ("B", "A")
    assert [str(url) for url in values["listen-client-urls"]] == ["http://a:1", "http://b:1"]


def test_an_empty_url_list_changes_nothing() -> None:
    line = parse_command_line(["--listen-client-urls=http://a:1", "--listen-client-urls="], FLAGS)
    assert [str(url) for url in line.values["listen-client-urls"]] == ["http://a:1"]
    assert "listen-client-urls" in line.explicit


def test_a_star_is_added_to_the_origins_before_it() -> None:
    assert parse_command_line(["--cors=http://x:1", "--cors=*"], FLAGS).values["cors"] == ("*", "http://x:1")
    assert parse_command_line(["--cors=http://x:1"], FLAGS).values["cors"] == ("http://x:1",)


def test_gates_of_several_flags_add_up() -> None:
    argv = ["--feature-gates=LeaseCheckpoint=false", "--feature-gates=AllAlpha=true,FastLeaseKeepAlive=0"]
    gates = parse_command_line(argv, FLAGS).values["feature-gates"]
    assert not gates.enabled("LeaseCheckpoint")
    assert gates.enabled("LeaseCheckpointPersist")
    assert not gates.enabled("FastLeaseKeepAlive")
    assert gates.enabled("TxnModeWriteWithSharedBuffer")
    assert not gates.enabled("AllBeta")
    assert str(gates) == "AllAlpha=true,FastLeaseKeepAlive=false,LeaseCheckpoint=false"


def test_the_table_is_sound() -> None:
    names = [flag.name for flags in BY_GROUP.values() for flag in flags]
    assert len(names) == len(set(names))
    for flag in FLAGS.values():
        if flag.kind not in (Kind.IGNORED, Kind.CHOICES):
            parse_value(flag, flag.default)
        assert flag.kind is Kind.IGNORED or flag.help.endswith((".", "`"))
