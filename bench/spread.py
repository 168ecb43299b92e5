"""Ranges of one key each, every request for another of many keys: what h2load, with its one body, cannot send.

`python -m bench.spread PORT CONNECTIONS STREAMS REQUESTS SEED SERIALIZABLE TOKEN` is one load process; `run_spread`
starts two of them and adds them up. All requests of a connection are laid out beforehand, byte for byte, so that
sending costs a slice; reading walks the frames. A request costs this program about 4 us, h2load 2.5 us.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.load import RUN_SECONDS_MAX, Load, LoadError
from etcdpy.proto import rpc_pb2

if TYPE_CHECKING:
    from tests.support.members import Member

KEYS: Final = 50_000
PROCESSES: Final = 2
_KEY_DIGITS: Final = 8
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW_BYTES: Final = 2**31 - 1
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4


def key(number: int) -> bytes:
    """The name of the key with that number: all are equally long."""
    return b"/spread/%0*d" % (_KEY_DIGITS, number)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(index: bytes, value: bytes) -> bytes:
    """A header field that enters no table, its name from the static table."""
    return index + bytes((len(value),)) + value


def _head(port: int, token: str) -> bytes:
    """The header block of every request."""
    shown = b"\x00\x05token" + _literal(b"", token.encode()) if token else b""
    return (
        b"\x83\x86"  # :method POST, :scheme http
        + _literal(b"\x04", b"/etcdserverpb.KV/Range")
        + _literal(b"\x01", b"127.0.0.1:%d" % port)
        + _literal(b"\x0f\x10", b"application/grpc")
        + b"\x00\x02te"
        + _literal(b"", b"trailers")
        + shown
    )


def lay_out(port: int, numbers: np.ndarray, token: str, *, serializable: bool) -> tuple[memoryview, int]:
    """All requests of a connection, one after the other, and the length of each."""
    message = rpc_pb2.RangeRequest(key=key(0), serializable=serializable).SerializeToString()
    head = _frame(_HEADERS, _END_HEADERS, 0, _head(port, token))
    body = _frame(_DATA, _END_STREAM, 0, b"\0" + len(message).to_bytes(4, "big") + message)
    requests = np.tile(np.frombuffer(head + body, np.uint8), (len(numbers), 1))
    streams = (np.arange(len(numbers)) * 2 + 1).astype(">u4").view(np.uint8).reshape(-1, 4)
    requests[:, 5:9] = streams
    requests[:, len(head) + 5 : len(head) + 9] = streams
    digits_end = len(head) + body.index(key(0)) + len(key(0))
    rest = numbers.copy()
    for place in range(_KEY_DIGITS):
        requests[:, digits_end - 1 - place] = rest % 10 + ord("0")
        rest //= 10
    return memoryview(requests.tobytes()), len(head) + len(body)


class Connection:
    """One connection that keeps `streams` requests under way until it has sent all of its own."""

    def __init__(self, port: int, numbers: np.ndarray, streams: int, token: str, *, serializable: bool) -> None:
        self._requests, self._size = lay_out(port, numbers, token, serializable=serializable)
        self._count = len(numbers)
        self._sent = 0
        self._streams = streams
        self._sent_at = [0.0] * self._count
        self._rest = b""
        self.done = 0
        self.data_bytes = 0
        self.latencies: list[float] = []
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        window = b"\x00\x04" + _WINDOW_BYTES.to_bytes(4, "big")  # SETTINGS_INITIAL_WINDOW_SIZE
        more = (_WINDOW_BYTES - 65_535).to_bytes(4, "big")
        self.socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, window) + _frame(_WINDOW_UPDATE, 0, 0, more))

    @property
    def finished(self) -> bool:
        """Whether every request has been answered."""
        return self.done == self._count

    def begin(self) -> None:
        """Send the first requests."""
        self._send(self._streams)

    def _send(self, count: int) -> None:
        upto = min(self._sent + count, self._count)
        if upto > self._sent:
            now = time.perf_counter()
            self._sent_at[self._sent : upto] = [now] * (upto - self._sent)
            self.socket.sendall(self._requests[self._sent * self._size : upto * self._size])
            self._sent = upto

    def read(self) -> None:
        """Take what has come, and send as many requests as were answered."""
        received = self.socket.recv(1 << 18)
        if not received:
            raise LoadError("the server closed a connection")
        data = self._rest + received
        now = time.perf_counter()
        position, end, answered = 0, len(data), 0
        while position + 9 <= end:
            size = data[position] << 16 | data[position + 1] << 8 | data[position + 2]
            after = position + 9 + size
            if after > end:
                break
            kind, flags = data[position + 3], data[position + 4]
            if kind == _HEADERS:
                if flags & _END_STREAM:
                    answered += 1
                    stream = int.from_bytes(data[position + 5 : position + 9], "big")
                    self.latencies.append(now - self._sent_at[stream >> 1])
            elif kind == _DATA:
                self.data_bytes += size
            else:
                self._control(kind, flags, data[position + 9 : after])
            position = after
        self._rest = data[position:]
        self.done += answered
        self._send(answered)

    def _control(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in (_RST_STREAM, _GOAWAY):
            raise LoadError(f"the server refused: frame {kind}, {payload!r}")
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            self.socket.sendall(_frame(kind, _ACK, 0, b"" if kind == _SETTINGS else payload))


def load(
    port: int, connections: int, streams: int, requests: int, seed: int, token: str, *, serializable: bool
) -> None:
    """One load process: everything is laid out, then a line is awaited, so that all processes begin together."""
    dice = np.random.default_rng(seed)
    share = requests // connections
    every = [
        Connection(port, dice.integers(0, KEYS, share), streams, token, serializable=serializable)
        for _ in range(connections)
    ]
    print("ready", flush=True)
    sys.stdin.readline()
    selector = selectors.DefaultSelector()
    for connection in every:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    begun = time.time()
    for connection in every:
        connection.begin()
    left = len(every)
    while left:
        for event, _ in selector.select():
            connection = event.data
            connection.read()
            if connection.finished:
                selector.unregister(connection.socket)
                left -= 1
    ended = time.time()
    latencies = np.sort(np.concatenate([connection.latencies for connection in every]))
    result = {
        "begun": begun,
        "ended": ended,
        "requests": len(latencies),
        "data_bytes": sum(connection.data_bytes for connection in every),
        # Every thousandth is enough for two percentiles of several processes together.
        "latencies": [float(value) for value in np.quantile(latencies, np.linspace(0, 1, 1001))],
    }
    print(json.dumps(result), flush=True)


def run_spread(
    member: Member, total: int, *, connections: int, streams: int, serializable: bool, token: str = ""
) -> Load:
    """`total` ranges of one key each, of KEYS keys at random. Raises LoadError."""
    arguments = [connections // PROCESSES, streams, total // PROCESSES]
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "bench.spread",
                *map(str, [member.client_port, *arguments, seed, int(serializable), token]),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(PROCESSES)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        outputs = []
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in running:
            output, errors = process.communicate(timeout=RUN_SECONDS_MAX)
            if process.returncode != 0:
                raise LoadError(f"a load process failed:\n{errors[-2000:]}")
            outputs.append(json.loads(output))
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
    latencies = np.concatenate([output["latencies"] for output in outputs])
    return Load(
        sum(output["requests"] for output in outputs),
        max(output["ended"] for output in outputs) - min(output["begun"] for output in outputs),
        float(np.quantile(latencies, 0.5)) * 1000,
        float(np.quantile(latencies, 0.99)) * 1000,
        sum(output["data_bytes"] for output in outputs),
    )


if __name__ == "__main__":
    port_, connections_, streams_, requests_, seed_, serializable_ = map(int, sys.argv[1:7])
    load(port_, connections_, streams_, requests_, seed_, sys.argv[7], serializable=bool(serializable_))
