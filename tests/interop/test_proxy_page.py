"""The commands of docs/proxy.md do what the page says."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.proxies import Proxy
from tests.support.reference import reference_binary

if TYPE_CHECKING:
    from tests.support.members import Member
    from tests.support.proxies import What

PAGE = Path(__file__).parents[2] / "docs" / "proxy.md"
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)

SAYS = {
    "put greeting": "OK",
    "get greeting": "greeting\nhello",
    "get leases/greeting": "leases/greeting",
    "get /apps/greeting": "/apps/greeting\nhello",
    "watch greeting": "PUT\ngreeting\nhello",
    "member list": "127.0.0.1:23790",
    "/health": '{"health":"true","reason":""}',
    "/proxy/metrics": "etcd_grpc_proxy_watchers_coalescing_total",
    "/metrics": "etcd_server_has_leader 1",
}
"""By a part of the command, of several the longest: a part of its output."""


@pytest.mark.parametrize("block", BLOCKS)
def test_every_command_does_what_it_says(block: str, member: Member, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        proxy: Proxy | None = None
        for line in block.splitlines():
            words = shlex.split(line)
            if words[0] == "etcdpy":
                flags = [word for word in words[3:] if not word.startswith(("--listen-addr=", "--endpoints="))]
                what: What = "gateway" if words[1] == "gateway" else "grpc-proxy"
                proxy = stack.enter_context(Proxy("etcdpy", what, tmp_path, [member.endpoint], flags))
                continue
            assert proxy is not None
            output = run(words, {"127.0.0.1:23790": proxy.endpoint, "127.0.0.1:2379": member.endpoint})
            assert SAYS[max((part for part in SAYS if part in line), key=len)] in output, line


def run(words: list[str], places: dict[str, str]) -> str:
    """What a command prints; a watch is ended once it has printed something."""
    for name, place in places.items():
        words = [re.sub(rf"{re.escape(name)}\b", place, word) for word in words]
    if words[0] == "etcdctl":
        words[0] = str(reference_binary("etcdctl"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        if "watch" in words:
            text = "".join(running.stdout.readline() for _ in range(3))
            running.terminate()
            return text
        return running.stdout.read()
