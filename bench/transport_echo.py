"""CPU of the transport alone: a unary method that answers a constant 30-byte message at once, under h2load.

    python -m bench.transport_echo [--requests 200000] [--streams 20] [--connections 50]

Prints requests a second and microseconds of server CPU (user and system) a request.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import struct
import subprocess
import tempfile
from pathlib import Path

import uvloop

from etcdpy.transport.calls import Call, Kind, Method
from etcdpy.transport.server import Server

ANSWER = b"x" * 30
BODY = b"\x0a\x0ah2load-key\x12\x80\x02" + b"v" * 256


def echo(call: Call, _body: bytes) -> None:
    call.finish(ANSWER)


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def serve(options: argparse.Namespace) -> None:
    method = Method("etcdserverpb.KV", "Put", Kind.UNARY, echo)
    server = Server({method.path: method})
    (listener,) = await server.listen([f"http://127.0.0.1:{options.port}"])
    with tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "put.bin"
        body.write_bytes(b"\0" + struct.pack(">I", len(BODY)) + BODY)
        command = ["h2load", f"-n{options.requests}", f"-c{options.connections}", f"-m{options.streams}",
                   "-d", str(body), "-H", "content-type:application/grpc", "-H", "te:trailers"]  # fmt: skip
        command.append(f"http://127.0.0.1:{listener.address[1]}/etcdserverpb.KV/Put")
        before = cpu_seconds()
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        spent = cpu_seconds() - before
    await server.close()
    for line in output.decode().splitlines():
        if line.startswith(("finished in", "requests:", "status codes:")):
            print(line)
    print(f"server CPU: {spent / options.requests * 1e6:.2f} us a request ({method.handled[0]} handled)")  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
