"""Clients that go on while a playbook runs: a writer, a reader and a watcher by etcd's own client for Go."""

from __future__ import annotations

import json
import subprocess
import threading
from typing import TYPE_CHECKING, Any, Final, Self

from tests.support.client import wait_until
from tests.support.foreign_clients import go_traffic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.hosts.lab import Lab
    from tests.hosts.site import Site

END_SECONDS_MAX: Final = 40.0
PUTS_TO_SEE: Final = 20


class Traffic:
    """Until the context ends; then `told` is what they saw, and is checked to be without a loss.

    The writer makes a put again for `insist_seconds`, which must be more than any outage that the caller makes. The
    reader never asks twice, so what it may not get through is the caller's to say: `read_failures`.
    """

    def __init__(
        self,
        lab: Lab,
        endpoints: Sequence[str],
        certificates: Path,
        *,
        prefix: str = "traffic/",
        newcomers: bool = False,
        insist_seconds: int = 10,
        **more: str,
    ) -> None:
        """`certificates` is a directory with ca.pem, traffic.pem and traffic-key.pem, read for every handshake; `more`
        is the `User` and `Password` of a cluster that asks for them. `endpoints` are URLs. `newcomers` ask once
        too, each member in turn by a new connection."""
        files = {"CA": "ca.pem", "Cert": "traffic.pem", "Key": "traffic-key.pem"}
        places = {field: str(certificates / name) for field, name in files.items()}
        given: dict[str, Any] = {"Endpoints": list(endpoints), "Prefix": prefix, "InsistSeconds": insist_seconds}
        self._given = {**given, "Newcomers": newcomers, **places, **more}
        self._seconds_max = END_SECONDS_MAX + insist_seconds
        self._lab = lab
        self.told: dict[str, Any] = {}

    def __enter__(self) -> Self:
        command = [str(self._lab.directory / "run"), *go_traffic(), json.dumps(self._given)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        try:
            self.go_on()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self.go_on()
        finally:
            self._end()
        if kind is None:
            assert self._process.returncode == 0
            assert not self.told["write_failures"], self.told["write_failures"]
            assert not self.told["watch_faults"], self.told["watch_faults"][:10]
            print("traffic:", {name: len(said) if isinstance(said, list) else said for name, said in self.told.items()})

    def go_on(self) -> None:
        """Wait until more puts were acknowledged and told to the watcher."""
        before = self.told.get("acknowledged", 0), self.told.get("events", 0)

        def went_on() -> bool:
            assert self._process.poll() is None, "the clients have ended"
            puts, events = self.told.get("acknowledged", 0), self.told.get("events", 0)
            return bool(puts >= before[0] + PUTS_TO_SEE and events >= before[1] + PUTS_TO_SEE)

        wait_until(went_on, self._seconds_max)

    @property
    def read_failures(self) -> list[str]:
        return list(self.told["read_failures"])

    def check_kept(self, site: Site) -> None:
        """Once it has ended: each member has every put that was acknowledged, and at most the one after those."""
        for host in site.members:
            count = site.ctl("get", "--prefix", self._given["Prefix"], "--limit=1", on=host)["count"]
            assert count - self.told["acknowledged"] in (0, 1), f"{host}: {count} of {self.told['acknowledged']}"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told = json.loads(line)

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(self._seconds_max)
        finally:
            self._process.kill()
            self._listener.join()
