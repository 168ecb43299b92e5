from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click
import pytest

from etcdpy.commandline import (
    INT,
    Command,
    Exit,
    Failure,
    FlagError,
    global_option,
    global_values,
    parse_go_int,
    parse_go_uint,
)
from etcdpy.ctl.__main__ import run
from etcdpy.ctl.options import DEFAULTS, global_options, read_options

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("text", "base", "value"),
    [("0", 0, 0), ("-7", 0, -7), ("0x1F", 0, 31), ("017", 0, 15), ("0o17", 0, 15), ("0b11", 0, 3), ("ff", 16, 255)],
)
def test_integers_are_read_as_go_reads_them(text: str, base: int, value: int) -> None:
    assert parse_go_int(text, base) == value


@pytest.mark.parametrize(
    ("text", "base", "reason"),
    [
        ("x", 0, "invalid syntax"),
        ("", 0, "invalid syntax"),
        ("1_0", 0, "invalid syntax"),
        (" 1", 0, "invalid syntax"),
        ("08", 0, "invalid syntax"),
        ("0xff", 16, "invalid syntax"),
        ("9223372036854775808", 0, "value out of range"),
        ("8000000000000000", 16, "value out of range"),
    ],
)
def test_what_go_refuses_is_refused(text: str, base: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_go_int(text, base)


def parsed(*words: str) -> dict[str, Any]:
    """The values of a small command line: globals by their names, the command's own by theirs."""
    seen: dict[str, Any] = {}

    def body(**values: Any) -> None:
        seen.update(values, **global_values(click.get_current_context()))

    def globals_() -> list[click.Option]:
        return [
            global_option("--endpoints", multiple=True),
            global_option("--hex", is_flag=True),
            global_option("--write-out", "-w"),
        ]

    params: list[click.Parameter] = [
        click.Option(["--prefix"], is_flag=True),
        click.Option(["--limit"], type=INT, default=0),
        click.Argument(["words"], nargs=-1),
    ]
    command = Command("test", params=params, callback=body, globals_=globals_)
    command.main(args=list(words), standalone_mode=False)
    return seen


def test_booleans_take_a_value_behind_an_equals_sign() -> None:
    assert parsed("--prefix")["prefix"] is True
    assert parsed("--prefix=true")["prefix"] is True
    assert parsed("--prefix=0")["prefix"] is False
    assert parsed("--hex=false")["hex"] is False
    assert parsed("--hex=T")["hex"] is True
    assert "hex" not in parsed()


def test_words_behind_two_dashes_are_left_alone() -> None:
    assert parsed("--", "--prefix=true", "-w=json")["words"] == ("--prefix=true", "-w=json")


def test_short_flags_take_a_value_in_three_ways() -> None:
    assert (
        parsed("-w=json")["write_out"] == parsed("-wjson")["write_out"] == parsed("-w", "json")["write_out"] == "json"
    )


def test_the_last_value_wins_and_lists_grow() -> None:
    assert parsed("--write-out=a", "-w", "b")["write_out"] == "b"
    assert parsed("--endpoints=a", "--endpoints", "b,c")["endpoints"] == ("a", "b,c")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["--limit"], "flag needs an argument: --limit"),
        (["--limit=x"], 'invalid argument "x" for "--limit" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["--hex=x"], 'invalid argument "x" for "--hex" flag: strconv.ParseBool: parsing "x": invalid syntax'),
    ],
)
def test_complaints_are_those_of_pflag(words: list[str], text: str) -> None:
    with pytest.raises(FlagError) as refused:
        parsed(*words)
    assert refused.value.message == text


def options(environ: Mapping[str, str], *words: str) -> Any:
    found = []
    command = Command(
        "test",
        callback=lambda: found.append(read_options(click.get_current_context(), environ)),
        globals_=global_options,
    )
    command.main(args=list(words), standalone_mode=False)
    return found[0]


def test_the_environment_fills_what_no_flag_sets() -> None:
    environ = {
        "ETCDCTL_ENDPOINTS": "a:1,b:2",
        "ETCDCTL_COMMAND_TIMEOUT": "1.5s",
        "ETCDCTL_HEX": "true",
        "ETCDCTL_CACERT": "",
    }
    read = options(environ, "--write-out=json")
    assert (read.endpoints, read.command_timeout_seconds, read.hex) == (("a:1", "b:2"), 1.5, True)
    assert (read.write_out, read.trusted_ca, read.uses_tls) == ("json", None, False)


def test_a_flag_and_its_variable_conflict() -> None:
    with pytest.raises(Failure, match="ETCDCTL_HEX") as failed:
        options({"ETCDCTL_HEX": "1"}, "--hex")
    assert failed.value.exit_code == Exit.ERROR


@pytest.mark.parametrize("name", ["HEX", "COMMAND_TIMEOUT"])
def test_a_bad_variable_is_named(name: str) -> None:
    with pytest.raises(Failure, match=f"ETCDCTL_{name}"):
        options({f"ETCDCTL_{name}": "maybe"})


def test_tls_follows_from_files_or_from_the_flag() -> None:
    assert options({}, "--cacert=ca.pem").uses_tls
    assert options({}, "--insecure-transport=false").uses_tls
    assert not options({}, "--insecure-transport").uses_tls


def test_every_default_has_a_flag() -> None:
    assert {option.name for option in global_options()} == {*DEFAULTS, "profile"}


def test_commands_may_be_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ver"]) == Exit.OK
    assert capsys.readouterr().out.startswith("etcdctl version: 3.")
    assert run(["nope"]) == Exit.ERROR
    assert capsys.readouterr().err.startswith('Error: unknown command "nope" for "etcdctl"\n')


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("17", 17), ("0x1F", 31), ("017", 15), ("18446744073709551615", 2**64 - 1)]
)
def test_unsigned_numbers_are_read_as_go_reads_them(text: str, value: int) -> None:
    assert parse_go_uint(text) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("-1", "invalid syntax"),
        ("+1", "invalid syntax"),
        ("x", "invalid syntax"),
        ("18446744073709551616", "value out of range"),
    ],
)
def test_what_is_no_unsigned_number(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f'strconv.ParseUint: parsing "{re.escape(text)}": {reason}'):
        parse_go_uint(text)
