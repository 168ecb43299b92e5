"""Plays tests/scenarios/watch."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdpy.proto import kv_pb2, rpc_pb2
from tests.support.scenario import run_scenario, scenario_files
from tests.support.watch import Watched

FILES = scenario_files(Path(__file__).parents[2] / "scenarios" / "watch")
COMMANDS = ("limit", "watch", "cancel", "put", "delete", "txn", "batch", "read", "sync", "compact", "progress", "tick")
FILTERS = {"noput": rpc_pb2.WatchCreateRequest.NOPUT, "nodelete": rpc_pb2.WatchCreateRequest.NODELETE}


def describe_event(event: kv_pb2.Event) -> str:
    kv = event.kv
    kind = "del" if event.type == kv_pb2.Event.DELETE else "put"
    value = f"={kv.value.decode()}" if kv.value else ""
    previous = f"(was {event.prev_kv.value.decode()}@{event.prev_kv.mod_revision})" if event.HasField("prev_kv") else ""
    return f"{kind} {kv.key.decode()}{value}@{kv.mod_revision}{previous}"


def describe(response: rpc_pb2.WatchResponse) -> str:
    words = [f"id={response.watch_id} rev={response.header.revision}"]
    words += [name for name in ("created", "canceled", "fragment") if getattr(response, name)]
    if response.compact_revision:
        words.append(f"compact={response.compact_revision}")
    if response.cancel_reason:
        words.append(f"reason={response.cancel_reason!r}")
    if not response.events and len(words) == 1:
        words.append("progress")
    return " ".join([*words, ", ".join(describe_event(event) for event in response.events)]).rstrip()


class Player:
    """One hub and one stream."""

    def __init__(self) -> None:
        self.start(outbox_bytes_max=100_000)
        self.handlers = dict.fromkeys(COMMANDS, self.play)

    def start(self, outbox_bytes_max: int) -> None:
        self.watched = Watched(
            outbox_bytes_max=outbox_bytes_max, outbox_bytes_resume=outbox_bytes_max // 2, progress_interval_seconds=10.0
        )
        self.stream, self.outbox = self.watched.open(now=0.0)
        self.now = 0.0

    def play(self, command: str, arguments: dict[str, str], body: list[str]) -> str:
        getattr(self, f"do_{command}")(arguments, body)
        return self.state() if command in ("sync", "limit") else self.read() if command == "read" else ""

    def read(self) -> str:
        return "\n".join(map(describe, self.outbox.take())) or "nothing"

    def state(self) -> str:
        hub = self.watched.hub
        return f"watchers={hub.watchers} slow={hub.slow_watchers} blocked={hub.blocked_streams} work={hub.has_work}"

    def do_limit(self, arguments: dict[str, str], _: list[str]) -> None:
        self.start(outbox_bytes_max=int(arguments["bytes"]))

    def do_watch(self, arguments: dict[str, str], _: list[str]) -> None:
        end = arguments.get("end", "")
        self.stream.create(
            rpc_pb2.WatchCreateRequest(
                key=arguments.get("key", "").encode(),
                range_end=b"\x00" if end == "open" else end.encode(),
                watch_id=int(arguments.get("id", "0")),
                start_revision=int(arguments.get("start", "0")),
                prev_kv="prev" in arguments,
                progress_notify="notify" in arguments,
                filters=[FILTERS[name] for name in arguments.get("filters", "").split(",") if name],
            )
        )

    def do_cancel(self, arguments: dict[str, str], _: list[str]) -> None:
        self.stream.cancel(int(arguments["id"]))

    def operations(self, line: str) -> list[tuple[bytes, bytes | None]]:
        words = (word.partition("=") for word in line.split())
        return [(key.encode(), value.encode() if equals else None) for key, equals, value in words]

    def do_put(self, arguments: dict[str, str], _: list[str]) -> None:
        for key, value in arguments.items():
            self.watched.put(key.encode(), value.encode())

    def do_delete(self, arguments: dict[str, str], _: list[str]) -> None:
        for key in arguments:
            self.watched.delete(key.encode())

    def do_txn(self, _: dict[str, str], body: list[str]) -> None:
        self.watched.write(*(operation for line in body for operation in self.operations(line)))

    def do_batch(self, _: dict[str, str], body: list[str]) -> None:
        self.watched.write_batch([self.operations(line) for line in body])

    def do_read(self, _: dict[str, str], body: list[str]) -> None:
        assert not body

    def do_sync(self, _: dict[str, str], body: list[str]) -> None:
        self.watched.settle()

    def do_compact(self, arguments: dict[str, str], _: list[str]) -> None:
        self.watched.history.compact(int(arguments["rev"]))

    def do_progress(self, _: dict[str, str], body: list[str]) -> None:
        self.stream.request_progress()

    def do_tick(self, arguments: dict[str, str], _: list[str]) -> None:
        self.now += float(arguments["seconds"])
        self.watched.hub.progress_tick(self.now)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path, rewrite: bool) -> None:
    run_scenario(path, Player().handlers, rewrite=rewrite)
