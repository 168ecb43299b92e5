"""A WebSocket client for tests, as small as it can be: it sends what it is told to, also what is wrong."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Frame(NamedTuple):
    """One frame of the server's."""

    opcode: int
    payload: bytes


class WebSocketClient:
    """Upgrades a connection; `status` and `headers` are the server's answer. A context manager."""

    def __init__(self, port: int, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        sent = {
            "Host": f"127.0.0.1:{port}",
            "Connection": "keep-alive, Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            **(headers or {}),
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        self.status = int(self._file.readline().split()[1])
        self.headers: dict[str, str] = {}
        while line := self._file.readline().strip().decode():
            name, _, value = line.partition(": ")
            self.headers[name.lower()] = value

    def body(self) -> bytes:
        """Of an answer that does not upgrade."""
        return self._file.read(int(self.headers["content-length"]))

    def send(self, payload: bytes, opcode: int = TEXT, *, first: int = 0x80, mask: bytes = b"mask") -> None:
        """One frame; `first` has the bits beside the opcode, and an empty mask is none."""
        length = len(payload)
        masked = 0x80 if mask else 0
        if length < 126:
            head = bytes((first | opcode, masked | length))
        else:
            head = bytes((first | opcode, masked | 127)) + length.to_bytes(8, "big")
        body = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload
        self._socket.sendall(head + mask + body)

    def receive(self) -> Frame | None:
        """The next frame; None when the connection is closed."""
        with contextlib.suppress(ConnectionError):
            head = self._file.read(2)
            if len(head) == 2:
                length = head[1] & 0x7F
                if length >= 126:
                    length = int.from_bytes(self._file.read(2 if length == 126 else 8), "big")
                return Frame(head[0] & 0x0F, self._file.read(length))
        return None

    def close(self) -> None:
        """Close the connection without a word."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()
