"""The flags that every command takes, and their ETCDCTL_ environment variables."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etcdpy.commandline import (
    DURATION,
    INT,
    Exit,
    Failure,
    FlagError,
    GlobalOption,
    global_option,
    global_values,
    parse_go_bool,
)
from etcdpy.duration import NS_PER_SECOND, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import click

DEFAULTS: Final[Mapping[str, Any]] = {
    "auth_jwt_token": "",
    "cacert": "",
    "cert": "",
    "command_timeout": 5 * NS_PER_SECOND,
    "debug": False,
    "dial_timeout": 2 * NS_PER_SECOND,
    "discovery_srv": "",
    "discovery_srv_name": "",
    "endpoints": ("127.0.0.1:2379",),
    "hex": False,
    "insecure_discovery": True,
    "insecure_skip_tls_verify": False,
    "insecure_transport": True,
    "keepalive_time": 2 * NS_PER_SECOND,
    "keepalive_timeout": 6 * NS_PER_SECOND,
    "key": "",
    "max_recv_bytes": 0,
    "max_request_bytes": 0,
    "password": "",
    "user": "",
    "write_out": "simple",
}
_SECRET: Final = frozenset({"auth_jwt_token", "password", "user"})
_PREFIX: Final = "ETCDCTL_"
PROFILE_VARIABLE: Final = "ETCDPYCTL_PROFILE"
_NOT_FLAGS: Final = frozenset({"ETCDCTL_API", "ETCDCTL_WATCH_KEY", "ETCDCTL_WATCH_RANGE_END"})
"""Variables with a meaning of their own; the first chose between two APIs, of which one is left."""

SEND_BYTES_MAX: Final = 2 * 1024 * 1024
"""What etcd's client sends at most where --max-request-bytes does not say."""
RECEIVE_BYTES_MAX: Final = 2**31 - 1


def global_options() -> list[click.Option]:
    """A fresh list of the global flags, for a command to own."""
    return [
        global_option("--auth-jwt-token", metavar="string", help="a JWT to authenticate with, in place of --user"),
        global_option("--cacert", metavar="string", help="the CA bundle that servers are verified with"),
        global_option("--cert", metavar="string", help="the certificate file that this client shows"),
        global_option("--command-timeout", type=DURATION, help="how long a short command may take (default 5s)"),
        global_option("--debug", is_flag=True, help="show the flags in force, and what gRPC has to say"),
        global_option("--dial-timeout", type=DURATION, help="how long an attempt to connect may take (default 2s)"),
        global_option("--discovery-srv", "-d", metavar="string", help="the domain whose SRV records list endpoints"),
        global_option("--discovery-srv-name", metavar="string", help="what stands behind the service's name in them"),
        global_option(
            "--endpoints", multiple=True, metavar="strings", help="where to connect to (default [127.0.0.1:2379])"
        ),
        global_option("--hex", is_flag=True, help="show keys, values and ids in hexadecimal"),
        global_option("--insecure-discovery", is_flag=True, help="take SRV records without TLS (default true)"),
        global_option("--insecure-skip-tls-verify", is_flag=True, help="trust any server: for tests alone"),
        global_option("--insecure-transport", is_flag=True, help="no TLS where nothing asks for it (default true)"),
        global_option("--keepalive-time", type=DURATION, help="how long a connection idles before a ping (default 2s)"),
        global_option("--keepalive-timeout", type=DURATION, help="how long to wait for its answer (default 6s)"),
        global_option("--key", metavar="string", help="the key file of --cert"),
        global_option("--max-recv-bytes", type=INT, help="the largest answer taken (0: 2 GiB)"),
        global_option("--max-request-bytes", type=INT, help="the largest request sent (0: 2 MiB)"),
        global_option("--password", metavar="string", help="the password of --user"),
        global_option(
            "--profile", metavar="string", help=f"a file that `etcdpy pki export` made (or ${PROFILE_VARIABLE})"
        ),
        global_option("--user", metavar="string", help="name[:password]; a password that is missing is asked for"),
        global_option(
            "--write-out", "-w", metavar="string", help='fields, json, protobuf, simple or table (default "simple")'
        ),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """The global flags of one run. Spans of time are nanoseconds."""

    endpoints: tuple[str, ...]
    trusted_ca: Path | None
    certificate: Path | None
    key: Path | None
    insecure_transport: bool
    skip_verify: bool
    command_timeout_ns: int
    dial_timeout_ns: int
    keepalive_time_ns: int
    keepalive_timeout_ns: int
    send_bytes_max: int
    receive_bytes_max: int
    user: str
    password: str = field(repr=False)
    token: str = field(repr=False)
    write_out: str
    hex: bool
    debug: bool
    given: frozenset[str]
    """The flags that were given, by command line or environment, such as `command_timeout`."""

    @property
    def command_timeout_seconds(self) -> float:
        """For grpcio, which counts in seconds."""
        return self.command_timeout_ns / NS_PER_SECOND

    @property
    def uses_tls(self) -> bool:
        """Whether endpoints without a scheme are spoken to over TLS."""
        files = (self.trusted_ca, self.certificate, self.key)
        return not self.insecure_transport or self.skip_verify or any(files)


def read_options(ctx: click.Context, environ: Mapping[str, str]) -> Options:
    """The flags given, the environment's, and the defaults. Raises Failure with etcdctl's texts."""
    given = {**global_values(ctx), **_environment(ctx, environ)}
    profile = given.pop("profile", environ.get(PROFILE_VARIABLE, ""))
    given = {**(_profile(ctx, profile) if profile else {}), **given}
    global_values(ctx).update(given)
    values = {**DEFAULTS, **given}
    if values["debug"]:
        sys.stderr.writelines(f"{line}\n" for line in _shown(values))
    endpoints = _endpoints(values)
    for name in ("cert", "key", "cacert"):
        if name in given and not given[name]:
            raise Failure(Exit.BAD_ARGUMENTS, f"empty string is passed to --{name} option")
    user, password = ("", "") if values["auth_jwt_token"] else credentials(values["user"], values["password"])
    return Options(
        endpoints=endpoints,
        **_connection(values),
        user=user,
        password=password,
        token=values["auth_jwt_token"],
        write_out=values["write_out"],
        hex=values["hex"],
        debug=values["debug"],
        given=frozenset(given),
    )


def _connection(values: Mapping[str, Any]) -> dict[str, Any]:
    most_sent, most_received = values["max_request_bytes"], values["max_recv_bytes"]
    if 0 < most_received < most_sent:
        text = f"gRPC message recv limit ({most_received} bytes) must be greater than send limit ({most_sent} bytes)"
        raise Failure(Exit.BAD_CONNECTION, text)
    return {
        "trusted_ca": Path(values["cacert"]) if values["cacert"] else None,
        "certificate": Path(values["cert"]) if values["cert"] else None,
        "key": Path(values["key"]) if values["key"] else None,
        "insecure_transport": values["insecure_transport"],
        "skip_verify": values["insecure_skip_tls_verify"],
        "command_timeout_ns": values["command_timeout"],
        "dial_timeout_ns": values["dial_timeout"],
        "keepalive_time_ns": values["keepalive_time"],
        "keepalive_timeout_ns": values["keepalive_timeout"],
        "send_bytes_max": most_sent if most_sent > 0 else SEND_BYTES_MAX,
        "receive_bytes_max": most_received if most_received > 0 else RECEIVE_BYTES_MAX,
    }


def _endpoints(values: Mapping[str, Any]) -> tuple[str, ...]:
    found = _discovered(values) if values["discovery_srv"] else []
    return tuple(found or (part.strip() for text in values["endpoints"] for part in text.split(",") if part))


def _discovered(values: Mapping[str, Any]) -> list[str]:
    from etcdpy.client.srv import client_endpoints

    try:
        found = client_endpoints(values["discovery_srv"], values["discovery_srv_name"])
    except OSError as error:
        raise Failure(Exit.ERROR, str(error)) from None
    if values["insecure_discovery"]:
        return found
    for endpoint in found:
        if endpoint.startswith("http://"):
            sys.stderr.write(f'ignoring discovered insecure endpoint "{endpoint}"\n')
    return [endpoint for endpoint in found if not endpoint.startswith("http://")]


def credentials(user: str, password: str, prompt: str = "Password: ") -> tuple[str, str]:
    """Name and password of a --user and a --password; asks for a password that neither has."""
    if not user or password:
        return user, password
    name, colon, behind = user.partition(":")
    return (name, behind) if colon else (user, ask_secret(prompt))


def ask_secret(prompt: str) -> str:
    """A line of standard input without the space around it, unseen where that is a terminal."""
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass(prompt).strip()
    sys.stdout.write(prompt)
    sys.stdout.flush()
    line = sys.stdin.readline()
    sys.stdout.write("\n")
    return line.strip()


def _variables(ctx: click.Context) -> dict[str, click.Option]:
    return {
        variable_of(each): each
        for each in ctx.command.params
        if isinstance(each, GlobalOption) and each.name != "profile"  # which is no flag of etcdctl's
    }


def _profile(ctx: click.Context, path: str) -> dict[str, Any]:
    from etcdpy.ctl.profile import read_profile  # where there is none, its start is spared

    options = _variables(ctx)
    found: dict[str, Any] = {}
    for place, variable, text in read_profile(path):
        option = options.get(variable)
        if option is None:
            raise Failure(Exit.BAD_ARGUMENTS, f"{place}: {variable} stands for no flag")
        found[option.name or ""] = _from_text(option, variable, text, ctx)
    return found


def _environment(ctx: click.Context, environ: Mapping[str, str]) -> dict[str, Any]:
    options = _variables(ctx)
    found: dict[str, Any] = {}
    for variable in sorted(name for name in environ if name.startswith(_PREFIX) and environ[name]):
        option = options.get(variable)
        if option is None:
            _warn_of(variable)
        elif option.name in global_values(ctx):
            raise Failure(Exit.ERROR, f"conflicting environment variable {variable} is shadowed by its flag: unset one")
        else:
            found[option.name or ""] = _from_text(option, variable, environ[variable], ctx)
    return found


def variable_of(option: click.Option) -> str:
    """The environment variable that stands for a global flag."""
    assert option.name is not None
    return _PREFIX + option.name.upper()


def _warn_of(variable: str) -> None:
    # The name alone: a misspelt variable may hold a password.
    if variable not in _NOT_FLAGS:
        import json

        line = {"level": "warn", "msg": "unrecognized environment variable", "environment-variable": variable}
        sys.stderr.write(json.dumps(line) + "\n")


def _from_text(option: click.Option, variable: str, text: str, ctx: click.Context) -> Any:
    try:
        value = parse_go_bool(text) if option.is_flag else option.type.convert(text, option, ctx)
    except (ValueError, FlagError) as error:
        raise Failure(Exit.ERROR, f'invalid value "{text}" for {variable}: {error}') from None
    return (value,) if option.multiple else value


def _shown(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in sorted(values.items()):
        shown = value
        if name in _SECRET and value:
            shown = "***"
        elif isinstance(value, bool):
            shown = str(value).lower()
        elif isinstance(value, tuple):
            shown = f"[{','.join(value)}]"
        elif isinstance(value, int) and name not in ("max_recv_bytes", "max_request_bytes"):
            shown = format_duration(value)
        yield f"{_PREFIX}{name.upper()}={shown}"


def option_lines(options: Sequence[click.Option]) -> list[str]:
    """The flags with their help, a line each."""
    left = [(", ".join(reversed(each.opts)) if each.opts[-1][1] != "-" else "    " + each.opts[0]) for each in options]
    width = max(map(len, left))
    return [f"  {names:<{width}}  {each.help}" for names, each in zip(left, options, strict=True)]
