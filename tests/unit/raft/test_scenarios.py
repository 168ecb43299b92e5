"""Plays tests/scenarios/raft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etcdpy.proto import raft_pb2
from etcdpy.raft.entry import Entry, EntryType
from etcdpy.raft.errors import RaftError
from etcdpy.raft.message import Message, type_name
from etcdpy.raft.types import HardState, ReadOnly
from tests.support.raft_network import MemoryLog, Network
from tests.support.scenario import run_scenario, scenario_files

FILES = scenario_files(Path(__file__).parents[2] / "scenarios" / "raft")


def describe_message(message: Message) -> str:
    parts = [f"{message.from_}->{message.to} {type_name(message.type)}"]
    if message.term:
        parts.append(f"term={message.term}")
    if message.type in (raft_pb2.MsgApp, raft_pb2.MsgVote, raft_pb2.MsgPreVote):
        parts.append(f"log={message.log_term}/{message.index}")
    elif message.index:
        parts.append(f"index={message.index}")
    if message.commit:
        parts.append(f"commit={message.commit}")
    if message.reject:
        parts.append("refused")
    if message.reject_hint:
        parts.append(f"hint={message.log_term}/{message.reject_hint}")
    if message.snapshot is not None:
        parts.append(f"snapshot={message.snapshot.metadata.term}/{message.snapshot.metadata.index}")
    if message.context and message.type in (raft_pb2.MsgVote, raft_pb2.MsgPreVote):
        parts.append(message.context.decode())
    if message.entries and message.type == raft_pb2.MsgApp:
        parts.append(f"entries={' '.join(f'{entry.term}/{entry.index}' for entry in message.entries)}")
    return " ".join(parts)


def describe_entries(entries: list[Entry]) -> str:
    names = {EntryType.NORMAL: "", EntryType.CONF_CHANGE: "conf-change", EntryType.CONF_CHANGE_V2: "conf-change"}
    return ", ".join(
        f"{entry.term}/{entry.index} {names[EntryType(entry.type)] or entry.data.decode() or '(empty)'}"
        for entry in entries
    )


class Player:
    """One handler a command. Times are ticks; `id` is the member that acts."""

    def __init__(self) -> None:
        self.network = Network(())

    def handlers(self) -> dict[str, object]:
        return {name.removeprefix("do_").replace("_", "-"): self.call for name in dir(self) if name.startswith("do_")}

    def call(self, command: str, arguments: dict[str, str], _body: list[str]) -> str:
        handler = getattr(self, "do_" + command.replace("-", "_"))
        seen = len(self.network.errors)
        try:
            text = handler(**{name.replace("-", "_"): value for name, value in arguments.items()})
        except RaftError as error:
            text = f"{type(error).__name__}: {error}"
        lines = [text, *self.network.errors[seen:]]
        return "\n".join(line for line in lines if line) or "ok"

    def do_members(self, ids: str, seed: str = "1", **options: str) -> str:
        """Further arguments are fields of each member's Config: numbers, or `on`."""
        values: dict[str, Any] = {name: value == "on" or int(value) for name, value in options.items()}
        if "lease_based" in values:
            values["read_only"] = ReadOnly.LEASE_BASED if values.pop("lease_based") else ReadOnly.SAFE
        self.network = Network([int(member) for member in ids.split(",")], seed=int(seed), **values)
        return ""

    def do_tick(self, id: str, count: str = "1") -> str:  # noqa: A002
        for _ in range(int(count)):
            self.network.members[int(id)].node.tick()
        return self.do_status(id)

    def do_campaign(self, id: str) -> str:  # noqa: A002
        return "" if self.network.members[int(id)].node.campaign() else "must not campaign"

    def do_propose(self, id: str, data: str) -> str:  # noqa: A002
        entries = [Entry(word.encode()) for word in data.split(",")]
        self.network.members[int(id)].node.propose(entries)
        return ""

    def do_change(self, id: str, add: str = "", learn: str = "", remove: str = "") -> str:  # noqa: A002
        kind = raft_pb2.ConfChangeAddNode if add else raft_pb2.ConfChangeAddLearnerNode
        kind = raft_pb2.ConfChangeRemoveNode if remove else kind
        change = raft_pb2.ConfChange(type=kind, node_id=int(add or learn or remove))
        entry = self.network.members[int(id)].node.propose_conf_change(change)
        return f"entry {entry.term}/{entry.index}" if entry.index else "passed on"

    def do_joint(self, id: str, steps: str = "", transition: str = "Auto") -> str:  # noqa: A002
        """Steps such as `+4,-1,~3`: 4 votes, 1 goes, 3 learns. None: leave."""
        kinds = {
            "+": raft_pb2.ConfChangeAddNode,
            "-": raft_pb2.ConfChangeRemoveNode,
            "~": raft_pb2.ConfChangeAddLearnerNode,
        }
        singles = [
            raft_pb2.ConfChangeSingle(type=kinds[step[0]], node_id=int(step[1:])) for step in steps.split(",") if step
        ]
        value = raft_pb2.ConfChangeTransition.Value(f"ConfChangeTransition{transition}")
        change = raft_pb2.ConfChangeV2(changes=singles, transition=value)
        entry = self.network.members[int(id)].node.propose_conf_change(change)
        return f"entry {entry.term}/{entry.index}" if entry.index else "passed on"

    def do_group(self, id: str) -> str:  # noqa: A002
        state = self.network.members[int(id)].node.conf_state()
        parts = [f"{name}={','.join(map(str, getattr(state, name)))}" for name in state._fields[:4]]
        return " ".join([*(part for part in parts if not part.endswith("=")), *["auto-leave"] * state.auto_leave])

    def do_transfer(self, id: str, to: str) -> str:  # noqa: A002
        return "" if self.network.members[int(id)].node.transfer_leadership(int(to)) else "cannot be tried"

    def do_report(self, id: str, member: str, what: str) -> str:  # noqa: A002
        node = self.network.members[int(id)].node
        if what == "unreachable":
            node.report_unreachable(int(member))
        else:
            node.report_snapshot(int(member), ok=what == "snapshot-sent")
        return self.do_progress(id)

    def do_progress(self, id: str) -> str:  # noqa: A002
        lines = []
        for member, each in self.network.members[int(id)].node.status().progress.items():
            parts = [f"{member}: {each.state.value} match={each.match} next={each.next}"]
            parts += [word for word, on in (("learner", each.is_learner), ("paused", each.paused)) if on]
            parts += ["inactive"] * (not each.recent_active)
            parts += [f"snapshot={each.pending_snapshot}"] * bool(each.pending_snapshot)
            parts += [f"inflight={each.inflight_messages}/{each.inflight_bytes}"] * bool(each.inflight_messages)
            lines.append(" ".join(parts))
        return "\n".join(lines) or "does not lead"

    def do_snapshots(self, id: str, possible: str) -> str:  # noqa: A002
        self.network.members[int(id)].log.can_snapshot = possible == "yes"
        return ""

    def do_history(self, id: str, terms: str, term: str, commit: str = "0") -> str:  # noqa: A002
        """The member starts anew with a log of these terms."""
        log = MemoryLog(self.network.founders, HardState(int(term), 0, int(commit)))
        entries = [Entry(b"%d" % index, None, int(each), index) for index, each in enumerate(terms.split(","), 1)]
        log.append(None, entries)
        self.network.add(int(id), self.network.founders, log)
        return self.do_status(id)

    def do_stop(self, id: str) -> str:  # noqa: A002
        del self.network.members[int(id)]
        return ""

    def do_read(self, id: str, context: str) -> str:  # noqa: A002
        taken = self.network.members[int(id)].node.read_index(context.encode())
        return "" if taken else "nobody to ask"

    def do_reads(self, id: str) -> str:  # noqa: A002
        reads = self.network.members[int(id)].reads
        return "\n".join(f"{read.context.decode()} at {read.index}" for read in reads) or "none"

    def do_ready(self, id: str) -> str:  # noqa: A002
        if not self.network.members[int(id)].node.has_ready():
            return "nothing to do"
        ready = self.network.take_ready(int(id))
        lines = [f"sync {'needed' if ready.must_sync else 'not needed'}"]
        if ready.hard_state:
            lines.append("hard state term={} vote={} commit={}".format(*ready.hard_state))
        if ready.snapshot:
            lines.append(f"install {ready.snapshot.metadata.term}/{ready.snapshot.metadata.index}")
        if ready.entries:
            lines.append(f"store {describe_entries(ready.entries)}")
        if ready.committed:
            lines.append(f"apply {describe_entries(ready.committed)}")
        lines += [f"send {describe_message(message)}" for message in ready.messages]
        lines += [f"send once stored {describe_message(message)}" for message in ready.messages_after_persist]
        lines += [f"read {read.context.decode()} at {read.index}" for read in ready.read_states]
        return "\n".join(lines)

    def do_stored(self, id: str) -> str:  # noqa: A002
        self.network.persist(int(id))
        self.network.finish(int(id))
        return ""

    def do_work(self, id: str) -> str:  # noqa: A002
        self.network.work(int(id))
        return self.do_status(id)

    def do_deliver(self, to: str = "", source: str = "", drop: str = "") -> str:
        def pick(message: Message) -> bool:
            return to in ("", str(message.to)) and source in ("", str(message.from_))

        kept = self.network.cut
        self.network.cut = lambda message: type_name(message.type) in drop.split(",")
        before = [message for message in self.network.wire if pick(message)]
        lost = [self.network.cut(message) for message in before]
        self.network.deliver(pick)
        self.network.cut = kept
        return "\n".join(
            f"{'dropped ' if gone else ''}{describe_message(message)}"
            for message, gone in zip(before, lost, strict=True)
        )

    def do_isolate(self, id: str) -> str:  # noqa: A002
        self.network.cut = lambda message: int(id) in (message.to, message.from_)
        return ""

    def do_heal(self) -> str:
        self.network.cut = lambda _message: False
        return ""

    def do_settle(self) -> str:
        self.network.settle()
        return self.do_status()

    def do_crash(self, id: str) -> str:  # noqa: A002
        self.network.crash(int(id))
        return self.do_status(id)

    def do_start(self, id: str) -> str:  # noqa: A002
        """A member that was added: it starts with the group as it was founded."""
        self.network.add(int(id), self.network.founders)
        return ""

    def do_truncate(self, id: str, to: str) -> str:  # noqa: A002
        self.network.members[int(id)].log.truncate(int(to))
        return ""

    def do_log(self, id: str) -> str:  # noqa: A002
        return describe_entries(self.network.members[int(id)].log.stored) or "empty"

    def do_applied(self, id: str) -> str:  # noqa: A002
        return describe_entries(self.network.members[int(id)].applied) or "nothing"

    def do_status(self, id: str = "") -> str:  # noqa: A002
        lines = []
        for number in [int(id)] if id else sorted(self.network.members):
            status = self.network.members[number].node.status()
            lines.append(
                f"{number} {status.role.name.lower()} term={status.term} leader={status.leader} "
                f"last={status.last_index} stable={status.stable} committed={status.committed} applied={status.applied}"
            )
        return "\n".join(lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path, rewrite: bool) -> None:
    run_scenario(path, Player().handlers(), rewrite=rewrite)  # type: ignore[arg-type]
