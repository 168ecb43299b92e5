"""Plays tests/scenarios/lease."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdpy.lease.lessor import LeaseExpiring, Lessor, NotPrimary
from tests.support.memory_backend import MemoryBackend
from tests.support.scenario import run_scenario, scenario_files

FILES = scenario_files(Path(__file__).parents[2] / "scenarios" / "lease")
COMMANDS = (
    "grant",
    "attach",
    "renew",
    "ttl",
    "expired",
    "revoke",
    "checkpoints",
    "checkpoint",
    "promote",
    "demote",
    "restart",
    "leases",
)


class Player:
    """One member, with checkpoints on and stored."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.lessor = self.make()
        self.handlers = dict.fromkeys(COMMANDS, self.play)

    def make(self) -> Lessor:
        return Lessor(self.backend, minimum_ttl=2, checkpointing=True, checkpoint_persist=True)

    def play(self, command: str, arguments: dict[str, str], _: list[str]) -> str:
        numbers = {name: int(text) for name, text in arguments.items() if text.lstrip("-").isdigit()}
        lease_id, now = numbers.get("id", 0), float(numbers.get("at", 0))
        try:
            return str(getattr(self, f"do_{command}")(lease_id, now, numbers, arguments) or "")
        except (LeaseExpiring, NotPrimary) as error:
            return f"must wait: {type(error).__name__}"

    def do_grant(self, lease_id: int, now: float, numbers: dict[str, int], _: dict[str, str]) -> str:
        return f"ttl {self.lessor.grant(lease_id, numbers['ttl'], now)}"

    def do_attach(self, lease_id: int, _: float, __: dict[str, int], arguments: dict[str, str]) -> None:
        self.lessor.attach(lease_id, arguments["key"].encode())

    def do_renew(self, lease_id: int, now: float, *_: object) -> str:
        return f"ttl {self.lessor.renew(lease_id, now)}"

    def do_ttl(self, lease_id: int, now: float, *_: object) -> str:
        status = self.lessor.time_to_live(lease_id, now)
        keys = [key.decode() for key in sorted(self.lessor.keys_of(lease_id))]
        return f"ttl {status.ttl} granted {status.granted_ttl} keys {keys}"

    def do_expired(self, _: int, now: float, *__: object) -> str:
        return f"{self.lessor.expired(now, 500)}"

    def do_revoke(self, lease_id: int, *_: object) -> str:
        return f"deletes {[key.decode() for key in self.lessor.revoke(lease_id)]}"

    def do_checkpoints(self, _: int, now: float, *__: object) -> str:
        return f"{self.lessor.checkpoints_due(now)}"

    def do_checkpoint(self, lease_id: int, now: float, numbers: dict[str, int], _: dict[str, str]) -> None:
        self.lessor.apply_checkpoint(lease_id, numbers["remaining"], now)

    def do_promote(self, _: int, now: float, numbers: dict[str, int], __: dict[str, str]) -> None:
        self.lessor.promote(now, float(numbers["extend"]))

    def do_demote(self, *_: object) -> None:
        self.lessor.demote()

    def do_restart(self, *_: object) -> None:
        self.lessor = self.make()
        self.lessor.restore()

    def do_leases(self, *_: object) -> str:
        return f"{self.lessor.leases()}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path, rewrite: bool) -> None:
    run_scenario(path, Player().handlers, rewrite=rewrite)
