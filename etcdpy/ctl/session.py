"""What a command needs to talk to a cluster: the options, a printer, channels, and calls that fail as etcdctl's do."""

from __future__ import annotations

import os
import queue
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from etcdpy.commandline import Exit, Failure
from etcdpy.ctl.options import Options, read_options
from etcdpy.ctl.printers import Printer, make_printer
from etcdpy.errors import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import click
    import grpc

Answer = TypeVar("Answer")

DEADLINE_TEXT = "context deadline exceeded"
_NS_PER_MS = 1_000_000


class CallFailed(Failure):
    """A call that ended with an error: its code, and the text as Go's client gives it."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(Exit.ERROR, text)
        self.code = code


class Session:
    """One run of one command."""

    def __init__(self, ctx: click.Context) -> None:
        self.options: Options = read_options(ctx, os.environ)
        self.printer: Printer = make_printer(self.options.write_out, hexadecimal=self.options.hex)
        self._deadline = time.monotonic() + self.options.command_timeout_seconds

    def seconds_left(self) -> float:
        """Until the command's deadline, and never less than nothing."""
        return max(0.0, self._deadline - time.monotonic())

    def restart_clock(self) -> None:
        """Where a command makes one call an endpoint, each of them has the whole time."""
        self._deadline = time.monotonic() + self.options.command_timeout_seconds

    @contextmanager
    def channel(self, *endpoints: str) -> Iterator[grpc.Channel]:
        """A channel to the first of these endpoints that answers (by default: of all). Raises Failure."""
        channels = [self._open(endpoint) for endpoint in endpoints or self.options.endpoints]
        if not channels:
            raise Failure(Exit.BAD_CONNECTION, "etcdclient: no available endpoints")
        try:
            yield channels[0] if len(channels) == 1 else self._first_ready(channels)
        finally:
            for channel in channels:
                channel.close()

    def _open(self, endpoint: str) -> grpc.Channel:
        from etcdpy.client.channels import TlsFiles, open_channel  # brings in grpcio, which `version` need not pay for

        options = self.options
        files = TlsFiles(options.trusted_ca, options.certificate, options.key) if options.uses_tls else None
        arguments = (
            ("grpc.keepalive_time_ms", options.keepalive_time_ns // _NS_PER_MS),
            ("grpc.keepalive_timeout_ms", options.keepalive_timeout_ns // _NS_PER_MS),
            # grpcio's name for how long one attempt to connect may take
            ("grpc.min_reconnect_backoff_ms", options.dial_timeout_ns // _NS_PER_MS),
        )
        try:
            return open_channel(endpoint, files, arguments)
        except OSError as error:
            text = f"open {error.filename}: {(error.strerror or '').lower()}"
            raise Failure(Exit.BAD_ARGUMENTS, text) from None

    def _first_ready(self, channels: list[grpc.Channel]) -> grpc.Channel:
        import grpc

        ready: queue.SimpleQueue[grpc.Channel] = queue.SimpleQueue()

        def watch(channel: grpc.Channel) -> None:
            def changed(state: grpc.ChannelConnectivity) -> None:
                if state is grpc.ChannelConnectivity.READY:
                    ready.put(channel)

            channel.subscribe(changed, try_to_connect=True)

        for channel in channels:
            watch(channel)
        try:
            return ready.get(timeout=self.seconds_left())
        except queue.Empty:
            raise Failure(Exit.ERROR, DEADLINE_TEXT) from None

    def call(self, method: Callable[..., Answer], request: object) -> Answer:
        """The answer of a unary call. Raises CallFailed."""
        return self.within_deadline(lambda seconds: method(request, timeout=seconds, wait_for_ready=True))

    def within_deadline(self, work: Callable[[float], Answer]) -> Answer:
        """What `work` makes of the seconds that are left. Raises CallFailed for grpcio's errors."""
        import grpc

        try:
            return work(self.seconds_left())
        except grpc.RpcError as error:
            raise call_failed(error) from None


def call_failed(error: Any) -> CallFailed:
    """grpcio's error, with the text that etcd's Go client shows."""
    code, text = Code(error.code().value[0]), error.details() or ""
    if text.startswith(("etcdserver: ", "auth: ")):
        return CallFailed(code, text)
    if code is Code.DEADLINE_EXCEEDED:
        return CallFailed(code, DEADLINE_TEXT)
    return CallFailed(code, f"rpc error: code = {code.label} desc = {text}")
