"""What a command needs to talk to a cluster: the options, how to show answers, channels, and calls that fail as
etcdctl's do.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.answers import Answer, check_format, show
from etcdpy.ctl.options import Options, read_options
from etcdpy.duration import NS_PER_SECOND
from etcdpy.errors import AuthFailed, Code, EtcdError, NoPasswordUser

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click
    from google.protobuf.message import Message

    from etcdpy.client.aio import AsyncClient
    from etcdpy.client.call import Method
    from etcdpy.client.channels import TlsFiles
    from etcdpy.client.client import Client
    from etcdpy.client.handle import Options as ClientOptions

Reply = TypeVar("Reply", bound="Message")

DEADLINE_TEXT: Final = "context deadline exceeded"


class CallFailed(Failure):
    """A call that ended with an error: its code, and the text as Go's client gives it."""

    def __init__(self, code: Code, text: str, exit_code: Exit = Exit.ERROR) -> None:
        super().__init__(exit_code, text)
        self.code = code


class Session:
    """One run of one command."""

    def __init__(self, ctx: click.Context) -> None:
        self.options: Options = read_options(ctx, os.environ)
        self.format: str = check_format(self.options.write_out)
        self._ctx = ctx
        self._clients: dict[tuple[str, ...], Client] = {}
        self._explained: set[str] = set()
        self._deadline = time.monotonic() + self.options.command_timeout_seconds

    def show(self, answer: Answer[Any]) -> None:
        """Print an answer as --write-out and --hex say. Raises Failure for a format that it does not have."""
        show(answer, self.format, hexadecimal=self.options.hex)

    # --- the client ---

    @property
    def client(self) -> Client:
        """Of all endpoints; it ends with the command. Raises Failure."""
        return self._client_of(self.options.endpoints)

    def _client_of(self, endpoints: tuple[str, ...]) -> Client:
        if endpoints not in self._clients:
            self._clients[endpoints] = self.open_client(endpoints, self.options)
        return self._clients[endpoints]

    def open_client(self, endpoints: tuple[str, ...], options: Options) -> Client:
        """A client that ends with the command; another cluster has options of its own. Raises Failure."""
        if options.debug:
            os.environ.setdefault("GRPC_VERBOSITY", "INFO")  # read when grpcio is imported
        from etcdpy.client.client import Client  # brings in grpcio, which `version` need not pay for

        return self._ctx.with_resource(Client(self._all_reached(endpoints, options), **_settings(options)))

    def open_async_clients(self, count: int) -> list[AsyncClient]:
        """Clients with connections of their own, for the caller to enter. Raises Failure."""
        from etcdpy.client.aio import AsyncClient

        reached = self._all_reached(self.options.endpoints, self.options)
        return [AsyncClient(reached, **_settings(self.options)) for _ in range(count)]

    def _all_reached(self, endpoints: tuple[str, ...], options: Options) -> list[str]:
        if not endpoints:
            raise Failure(Exit.BAD_CONNECTION, "etcdclient: no available endpoints")
        return [self._reached(endpoint, options) for endpoint in endpoints]

    def _reached(self, endpoint: str, options: Options) -> str:
        """What to connect to for an endpoint: a relay of our own, where servers are not to be verified."""
        if not options.skip_verify:
            return endpoint
        from etcdpy.client.channels import target_of
        from etcdpy.client.unverified import UnverifiedRelay

        target, secure = target_of(endpoint)
        files = _tls_files(options)
        if secure is False or files is None:
            return endpoint
        try:
            return self._ctx.with_resource(UnverifiedRelay(target, files)).target
        except OSError as error:
            raise Failure(Exit.BAD_ARGUMENTS, str(error)) from None

    def do(
        self,
        method: Method[Any, Reply],
        request: Message,
        exit_code: Exit = Exit.ERROR,
        endpoints: tuple[str, ...] = (),
    ) -> Reply:
        """The answer of a unary call, within what is left of --command-timeout; `endpoints`: these alone.

        Raises CallFailed.
        """
        from etcdpy.client.call import Call

        chosen = endpoints or self.options.endpoints
        with self.failing(exit_code, chosen):
            return self._client_of(chosen).do(Call(method, request, self.seconds_left()))

    def stream(self, method: Method[Any, Reply], request: Message, exit_code: Exit = Exit.ERROR) -> Iterator[Reply]:
        """The answers of a call that streams them, within what is left of --command-timeout. Raises CallFailed."""
        from etcdpy.client.call import Call

        with self.failing(exit_code):
            yield from self.client.stream(Call(method, request, self.seconds_left()))

    @contextmanager
    def failing(self, exit_code: Exit = Exit.ERROR, endpoints: tuple[str, ...] = ()) -> Iterator[None]:
        """Turn the client's errors into the command's, and say on standard error where TLS is to blame.

        Raises CallFailed.
        """
        try:
            yield
        except EtcdError as error:
            if error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED):
                self.explain(endpoints or self.options.endpoints)
            # A client of etcd's logs in before it is there at all.
            ends = Exit.BAD_CONNECTION if isinstance(error, (AuthFailed, NoPasswordUser)) else exit_code
            raise CallFailed(error.code, go_text(error.code, error.message), ends) from None

    def explain(self, endpoints: tuple[str, ...]) -> None:
        """Say what is wrong with TLS to these endpoints, if anything; once for each."""
        for endpoint in endpoints:
            if endpoint not in self._explained:
                from etcdpy.ctl.tls_faults import explain

                self._explained.add(endpoint)
                sys.stderr.writelines(f"TLS: {line}\n" for line in explain(self.options, endpoint))

    def seconds_left(self) -> float:
        """Until the command's deadline, and never less than nothing."""
        return max(0.0, self._deadline - time.monotonic())

    def restart_clock(self) -> None:
        """Where a command makes one call an endpoint, each of them has the whole time."""
        self._deadline = time.monotonic() + self.options.command_timeout_seconds


def _settings(options: Options) -> ClientOptions:
    return {
        "tls": _tls_files(options),
        "user": options.user if options.password else "",
        "password": options.password,
        "token": options.token,
        "timeout": options.command_timeout_seconds,
        "dial_timeout": options.dial_timeout_ns / NS_PER_SECOND,
        "keepalive_time": options.keepalive_time_ns / NS_PER_SECOND,
        "keepalive_timeout": options.keepalive_timeout_ns / NS_PER_SECOND,
        "send_bytes_max": options.send_bytes_max,
        "receive_bytes_max": options.receive_bytes_max,
    }


def _tls_files(options: Options) -> TlsFiles | None:
    from etcdpy.client.channels import TlsFiles

    if bool(options.certificate) != bool(options.key):
        text = f"KeyFile and CertFile must both be present[key: {options.key or ''}, cert: {options.certificate or ''}]"
        raise Failure(Exit.BAD_ARGUMENTS, text)
    if not options.uses_tls:
        return None
    files = TlsFiles(options.trusted_ca, options.certificate, options.key)
    try:
        files.credentials()  # a file that is not there is told before anything is read or asked
    except OSError as error:
        text = f"open {error.filename}: {(error.strerror or '').lower()}"
        raise Failure(Exit.BAD_ARGUMENTS, text) from None
    return files


def go_text(code: Code, text: str) -> str:
    """An error as etcd's Go client shows it."""
    if text.startswith("etcdserver: "):
        return text
    return DEADLINE_TEXT if code is Code.DEADLINE_EXCEEDED else f"rpc error: code = {code.label} desc = {text}"
