"""The flags that every command takes, and their ETCDCTL_ environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from etcdpy.commandline import DURATION, Exit, Failure, FlagError, global_option, global_values
from etcdpy.duration import NS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    import click

DEFAULTS: Final[Mapping[str, Any]] = {
    "endpoints": ("127.0.0.1:2379",),
    "cacert": "",
    "cert": "",
    "key": "",
    "insecure_transport": True,
    "command_timeout": 5 * NS_PER_SECOND,
    "dial_timeout": 2 * NS_PER_SECOND,
    "keepalive_time": 2 * NS_PER_SECOND,
    "keepalive_timeout": 6 * NS_PER_SECOND,
    "write_out": "simple",
    "hex": False,
}
"""By etcdctl's names. Its other global flags come with what they need: --user with auth, for one."""


def global_options() -> list[click.Option]:
    """A fresh list of the global flags, for a command to own."""
    return [
        global_option("--endpoints", multiple=True, help="gRPC endpoints, separated by commas"),
        global_option("--cacert", help="verify the server by this CA bundle"),
        global_option("--cert", help="identify this client by this certificate file"),
        global_option("--key", help="the key file of --cert"),
        global_option("--insecure-transport", is_flag=True, help="=false: use TLS without any of the files above"),
        global_option("--command-timeout", type=DURATION, help="for one short command (default 5s)"),
        global_option("--dial-timeout", type=DURATION, help="for one attempt to connect (default 2s)"),
        global_option("--keepalive-time", type=DURATION, help="idle time before a keepalive ping (default 2s)"),
        global_option("--keepalive-timeout", type=DURATION, help="how long to wait for its answer (default 6s)"),
        global_option("--write-out", "-w", help="simple or json (default simple)"),
        global_option("--hex", is_flag=True, help="print byte strings as hex"),
    ]


@dataclass(frozen=True, slots=True)
class Options:
    """The global flags of one run. Spans of time are nanoseconds."""

    endpoints: tuple[str, ...]
    trusted_ca: Path | None
    certificate: Path | None
    key: Path | None
    insecure_transport: bool
    command_timeout_ns: int
    dial_timeout_ns: int
    keepalive_time_ns: int
    keepalive_timeout_ns: int
    write_out: str
    hex: bool

    @property
    def command_timeout_seconds(self) -> float:
        """For grpcio, which counts in seconds."""
        return self.command_timeout_ns / NS_PER_SECOND

    @property
    def uses_tls(self) -> bool:
        """Whether endpoints without a scheme are spoken to over TLS."""
        return not self.insecure_transport or any((self.trusted_ca, self.certificate, self.key))


def read_options(ctx: click.Context, environ: Mapping[str, str]) -> Options:
    """The flags given, the environment's, and the defaults. Raises Failure with etcdctl's texts."""
    given = dict(global_values(ctx))
    for name, text in _environment(environ).items():
        if name in given:
            variable = f"ETCDCTL_{name.upper()}"
            raise Failure(Exit.ERROR, f"conflicting environment variable {variable} is shadowed by its flag: unset one")
        given[name] = text
    values = {**DEFAULTS, **given}
    for name in ("cert", "key", "cacert"):
        if name in given and not given[name]:
            raise Failure(Exit.BAD_ARGUMENTS, f"empty string is passed to --{name} option")
    if bool(values["cert"]) != bool(values["key"]):
        text = f"KeyFile and CertFile must both be present[key: {values['key']}, cert: {values['cert']}]"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    return Options(
        endpoints=tuple(part for text in values["endpoints"] for part in text.split(",") if part),
        trusted_ca=Path(values["cacert"]) if values["cacert"] else None,
        certificate=Path(values["cert"]) if values["cert"] else None,
        key=Path(values["key"]) if values["key"] else None,
        insecure_transport=values["insecure_transport"],
        command_timeout_ns=values["command_timeout"],
        dial_timeout_ns=values["dial_timeout"],
        keepalive_time_ns=values["keepalive_time"],
        keepalive_timeout_ns=values["keepalive_timeout"],
        write_out=values["write_out"],
        hex=values["hex"],
    )


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, default in DEFAULTS.items():
        text = environ.get(f"ETCDCTL_{name.upper()}", "")
        if not text:
            continue
        try:
            found[name] = _from_text(text, default)
        except (ValueError, FlagError) as error:
            raise Failure(Exit.ERROR, f'invalid value "{text}" for ETCDCTL_{name.upper()}: {error}') from None
    return found


def _from_text(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        if text.lower() not in ("1", "t", "true", "0", "f", "false"):
            raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
        return text.lower() in ("1", "t", "true")
    if isinstance(default, int):
        return DURATION.convert(text, None, None)
    return (text,) if isinstance(default, tuple) else text
