"""A whole cluster under one seed: first faults, while nothing may go wrong (safety); then none, while everything must
go right within a limited time (liveness).

Every source of chance has a stream of its own, so that a new draw in one does not shift the others.
"""

from __future__ import annotations

import hashlib
import random
from functools import partial
from typing import TYPE_CHECKING, Any

from etcdpy.membership.member import Member
from etcdpy.mvcc.fetch import finish
from etcdpy.proto import raft_pb2
from etcdpy.server.bootstrap import Action, Beginning
from tests.simulation import faults, snapshots, verdict
from tests.simulation.checks import Checks
from tests.simulation.client import Client
from tests.simulation.clock import Loop, Time
from tests.simulation.leases import HOLDERS, SHARE_OF_SEEDS, Holder, Leases
from tests.simulation.member import CLUSTER_ID, Process
from tests.simulation.network import Network, Weather
from tests.simulation.operator import Operator
from tests.simulation.rights import RightsLog
from tests.simulation.users import (
    ADMINISTRATORS,
    USER_CLIENTS,
    USER_WATCHERS,
    USERS,
    Administrator,
    UserClient,
    UserWatcher,
    World,
)
from tests.simulation.violation import Violation
from tests.simulation.watcher import Watcher
from tests.support import memory_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from etcdpy.raft.message import Message
    from etcdpy.raft.types import ConfState
    from tests.support.memory_engine import FrozenView

TICK_SECONDS = 0.1
TICKS = 160
"""Of the first phase."""
HEALING_TICKS_MAX = 150
"""Of the second: an election or two, and the request timeout of what was asked before."""
CLIENTS = 4
WATCHERS = 2


class Cluster:
    """`run` raises Violation, and leaves `digest`, which is the same for the same seed."""

    def __init__(
        self,
        seed: str,
        *,
        members: int = 3,
        ticks: int = TICKS,
        users: bool = False,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """`users`: all clients are users whose rights change as they go, in place of those who may do everything."""
        self.seed = seed
        self.ticks = ticks
        self.checks = Checks()
        self.time = Time()
        self._show = trace
        self._digest = hashlib.sha256()
        self.draws = {
            name: random.Random(f"{seed}/{name}")
            for name in ("net", "disk", "clock", "load", "faults", "lease", "users")
        }
        self.mix = faults.draw_mix(self.draws["faults"])
        self.network = Network(self.time, self.draws["net"], self._deliver, self._lost, self.trace)
        mix = self.mix
        self.network.weather = Weather(mix.loss, mix.doubled, mix.delay, mix.late, told=mix.told)
        self.raft_options = self._draw_raft_options()
        self.snapshot_count = self.draws["clock"].choice([6, 30, 1 << 30])
        """After how many entries logs are truncated."""
        ids = range(1, members + 1)
        self.founding = [Member(each, (f"http://m{each}:2380",), f"m{each}") for each in ids]
        self.disks: dict[int, memory_engine.Disk] = self.checks.disks
        self.media: dict[int, faults.Disk] = {}
        self.processes: dict[int, Process] = {}
        """Those that run."""
        self.starts = 0
        self.healing = False
        load = self.draws["load"]
        pause = load.choice([0.02, 0.1, 0.4])
        self.joins_keys = load.random() < 0.8
        """Whether calls touch several keys at once. If not, the search for an order has the keys one by one."""
        self.clients = [
            Client(
                f"c{number}",
                self.time,
                load,
                self._any_process,
                load.choice([1.0, 4.0]),
                pause,
                self.trace,
                joins_keys=self.joins_keys,
            )
            for number in range(0 if users else CLIENTS)
        ]
        self.operator = Operator(self.time, load, self._any_process, self._next_member, self.trace)
        self.watchers = [
            Watcher(f"w{number}", self.time, load, self._any_process) for number in range(0 if users else WATCHERS)
        ]
        self.leases = Leases(self.time, 1.0 + self.mix.drift)
        self.holders = [] if users else self._make_holders()
        self.rights = RightsLog() if users else None
        self.user_clients, self.administrators, self.user_watchers = self._make_users()
        self.retired: set[int] = set()
        """Members that were removed; they end sooner or later, and do not come back."""
        self._newest_member = members
        for each in ids:
            self._add_machine(each)

    def _make_holders(self) -> list[Holder]:
        lease = self.draws["lease"]
        return [
            Holder(
                number,
                self.time,
                lease,
                self.leases,
                partial(self._any_process, "lease"),
                lambda: max(self.checks.leaders, default=0),
                self._primaries,
                self.trace,
            )
            for number in range(HOLDERS if lease.random() < SHARE_OF_SEEDS else 0)
        ]

    def _make_users(self) -> tuple[list[UserClient], list[Administrator], list[UserWatcher]]:
        if self.rights is None:
            return [], [], []
        world = World(self.time, self.draws["users"], partial(self._any_process, "users"), self.rights, self.trace)
        clients = [UserClient(f"uc{each}", world, USERS[each % len(USERS)]) for each in range(USER_CLIENTS)]
        administrators = [Administrator(f"admin{each}", world) for each in range(ADMINISTRATORS)]
        return clients, administrators, [UserWatcher(each, world, clients) for each in range(USER_WATCHERS)]

    @property
    def _askers(self) -> list[Client | UserClient]:
        return [*self.clients, *self.user_clients]

    def _add_machine(self, member: int) -> None:
        self.media[member] = faults.Disk(self.time, self.draws["disk"], self.mix)
        self.media[member].sound = self.healing
        self.disks[member] = memory_engine.Disk()

    # --- the run ---

    def run(self) -> None:
        for member in sorted(self.disks):
            self.start(member)
        for each in (*self._askers, *self.administrators, *self.watchers, *self.user_watchers):
            each.begin()
        for holder in self.holders:
            holder.begin()
        self.operator.begin()
        self._next_fault()
        self.time.run_until(self.ticks * TICK_SECONDS)
        self._heal()
        self._await_convergence()
        verdict.judge(self)

    @property
    def digest(self) -> str:
        """Of all that happened, in order."""
        return self._digest.hexdigest()[:16]

    def trace(self, line: str) -> None:
        self._digest.update(line.encode())
        if self._show is not None:
            self._show(f"{self.time.now:9.4f} {line}")

    # --- processes ---

    def start(self, member: int) -> None:
        """Start a member's process on what its disk holds."""
        clock = self.draws["clock"]
        self.starts += 1
        # Without pre-vote a member that lags behind, and whose clock runs fast, may keep any other from being elected.
        rate = 1.0 if self.healing else 1.0 + clock.uniform(-1, 1) * self.mix.drift
        loop = Loop(self.time, rate, clock.uniform(0, 1e6))
        founders = Beginning(Action.FOUND, CLUSTER_ID, member, tuple(self.founding)) if self._founds(member) else None
        process = Process(
            self,
            member,
            self.disks[member],
            self.media[member],
            loop,
            seed=f"{self.seed}/member/{member}/{self.starts}",
            raft_options=self.raft_options,
            snapshot_count=self.snapshot_count,
            founders=founders,
        )
        self.trace(f"{member} starts at applied {process.engine.applied_index}")
        self.processes[member] = process
        process.begin()

    def _draw_raft_options(self) -> dict[str, Any]:
        """Small windows and messages make a few entries a long way."""
        draw = self.draws["clock"]
        return {
            "election_ticks": draw.choice([5, 10]),
            "max_message_bytes": draw.choice([40, 200, 1 << 16]),
            "max_inflight_messages": draw.choice([1, 4, 256]),
            "pre_vote": draw.random() < 0.7,
        }

    def _founds(self, member: int) -> bool:
        return any(each.id == member for each in self.founding)

    def stop(self, member: int, *, power: bool) -> None:
        """End a process without warning."""
        process = self.processes.pop(member, None)
        if process is None:
            return
        self.trace(f"{member} is gone")
        process.crash(self.draws["disk"], power=power)
        for each in (*self._askers, *self.administrators, *self.watchers, *self.user_watchers):
            if each.process is process:
                each.lost()

    def died(self, process: Process, reason: str) -> None:
        """A process ends itself; somebody starts it again."""
        self.trace(f"{process.id} ends: {reason}")
        # Not within its own call: what it was doing runs to its end first.
        process.loop.closed = True
        self.time.after(0.0, self._bury, process)

    def _bury(self, process: Process) -> None:
        if self.processes.get(process.id) is process:
            self.stop(process.id, power=False)
            self._start_later(process.id)

    def _start_later(self, member: int) -> None:
        pause = 0.1 if self.healing else self.draws["faults"].random() * 2
        self.time.after(pause, self._start_again, member)

    def _start_again(self, member: int) -> None:
        if member not in self.processes and member not in self.retired:
            self.start(member)

    # --- members that come and go ---

    @property
    def machines(self) -> list[int]:
        """Where a process should run."""
        return [each for each in sorted(self.disks) if each not in self.retired]

    def _next_member(self) -> int:
        self._newest_member += 1
        return self._newest_member

    def member_changed(self, process: Process, change: raft_pb2.ConfChange) -> None:
        """Somebody has applied a change: the first to do so tells those who run the machines."""
        member = change.node_id
        if change.type == raft_pb2.ConfChangeRemoveNode:
            if member == process.id:
                self.died(process, "removed")
            if member not in self.retired:
                self.retired.add(member)
                self.time.after(0.1 if self.healing else self.draws["faults"].random() * 3, self._retire, member)
        elif member not in self.disks:
            self._add_machine(member)
            self._start_later(member)

    def _retire(self, member: int) -> None:
        self.stop(member, power=False)

    def _any_process(self, draw: str = "load") -> Process | None:
        running = [self.processes[each] for each in sorted(self.processes)]
        return self.draws[draw].choice(running) if running else None

    def _primaries(self) -> list[Process]:
        """Processes that believe to keep the leases."""
        running = [self.processes[each] for each in sorted(self.processes)]
        return [each for each in running if each.lessor.is_primary and each.loop.stopped_until <= self.time.now]

    def leaders(self) -> list[Process]:
        """Processes that take themselves for leaders."""
        return [each for each in self.processes.values() if each.raw.is_leader]

    def leader_configurations(self) -> list[ConfState]:
        return [each.raw.conf_state() for each in self.leaders()]

    # --- the wire ---

    def send(self, process: Process, messages: Sequence[Message]) -> None:
        if not process.alive:
            return
        for message in messages:
            self.checks.sent(process.id, message)
            view = snapshots.attach(process, message) if message.type == raft_pb2.MsgSnap else None
            self.network.send(message, view)

    def _deliver(self, message: Message, view: FrozenView | None) -> None:
        process = self.processes.get(message.to)
        if view is not None:
            self._report_snapshot(message, ok=process is not None)
        if process is None or process.membership.is_removed(message.from_):
            return
        if view is not None:
            process.loop.call_soon(process.receiver.take, message, view)
        else:
            process.loop.call_soon(process.node.receive, message)

    def _lost(self, message: Message) -> None:
        process = self.processes.get(message.from_)
        if message.type == raft_pb2.MsgSnap:
            self._report_snapshot(message, ok=False)
        elif process is not None:
            process.loop.call_soon(process.node.unreachable, message.to)

    def _report_snapshot(self, message: Message, *, ok: bool) -> None:
        sender = self.processes.get(message.from_)
        if sender is not None:
            sender.loop.call_soon(partial(sender.node.snapshot_sent, message.to, ok=ok))

    # --- faults ---

    def _next_fault(self) -> None:
        self.time.after(self.draws["faults"].expovariate(1 / self.mix.mean_pause), self._fault)

    def _fault(self) -> None:
        if self.healing:
            return
        draw = self.draws["faults"]
        kinds = [kind for kind in faults.KINDS if self.mix.weights[kind]]
        if kinds:
            kind = draw.choices(kinds, [self.mix.weights[each] for each in kinds])[0]
            self.trace(f"fault: {kind}")
            getattr(self, f"_fault_{kind}")(draw)
        self._next_fault()

    def _cut(self, members: set[int], *, one_way: bool) -> None:
        self.network.cuts.clear()
        self.network.isolate(members, set(self.disks), one_way=one_way)
        self.time.after(self.draws["faults"].uniform(0.3, 5.0), self.network.cuts.clear)

    def _fault_split(self, draw: random.Random) -> None:
        ids = self.machines
        self._cut(set(draw.sample(ids, draw.randint(1, len(ids) - 1))), one_way=False)

    def _fault_one_way(self, draw: random.Random) -> None:
        ids = self.machines
        self._cut(set(draw.sample(ids, draw.randint(1, len(ids) - 1))), one_way=True)

    def _fault_isolate_leader(self, draw: random.Random) -> None:
        leaders = self.leaders()
        if leaders:
            self._cut({leaders[0].id}, one_way=draw.random() < 0.3)

    def elected(self, process: Process) -> None:
        """Some leaders do not last."""
        draw = self.draws["faults"]
        if self.mix.coups and not self.healing and draw.random() < self.mix.coups:
            self.time.after(draw.random() * 0.1, self._depose, process)

    def _depose(self, process: Process) -> None:
        draw = self.draws["faults"]
        if self.healing or self.processes.get(process.id) is not process:
            return
        self.trace(f"fault: {process.id} does not last")
        if draw.random() < 0.5:
            self._cut({process.id}, one_way=False)
        else:
            self.stop(process.id, power=True)
            self._start_later(process.id)

    def _fault_kill(self, draw: random.Random) -> None:
        self._crash(draw, power=False)

    def _fault_power(self, draw: random.Random) -> None:
        self._crash(draw, power=True)

    def _crash(self, draw: random.Random, *, power: bool) -> None:
        if self.processes:
            leaders = self.leaders()
            victim = leaders[0].id if leaders and draw.random() < 0.4 else draw.choice(sorted(self.processes))
            self.stop(victim, power=power)
            self._start_later(victim)

    def _fault_power_all(self, _draw: random.Random) -> None:
        for member in sorted(self.processes):
            self.stop(member, power=True)
            self._start_later(member)

    def _fault_stall(self, draw: random.Random) -> None:
        if self.processes:
            process = self.processes[draw.choice(sorted(self.processes))]
            process.loop.stopped_until = self.time.now + draw.uniform(0.2, 3.0)

    def _fault_slow_disk(self, draw: random.Random) -> None:
        self.media[draw.choice(self.machines)].slow_until = self.time.now + draw.uniform(0.5, 4.0)

    def _fault_fail_disk(self, draw: random.Random) -> None:
        self.media[draw.choice(self.machines)].fails = True

    def _fault_transfer(self, draw: random.Random) -> None:
        leaders = self.leaders()
        others = [each for each in sorted(self.processes) if not leaders or each != leaders[0].id]
        if leaders and others:
            target = draw.choice(others)
            transfer = getattr(leaders[0].raw, "transfer_leadership", None)
            if transfer is not None:
                transfer(target)

    # --- healing ---

    def _heal(self) -> None:
        self.trace("all is well from here on")
        self.healing = True
        self.network.heal()
        for medium in self.media.values():
            medium.sound, medium.fails, medium.slow_until = True, False, 0.0
        for process in self.processes.values():
            process.loop.stopped_until = 0.0
            process.loop.run_true()
        self.operator.stopped = True
        for member in sorted(self.retired):
            self._retire(member)
        for member in self.machines:
            self._start_again(member)

    def _await_convergence(self) -> None:
        clients = self._askers
        answers = [client.answers for client in clients]
        for _ in range(HEALING_TICKS_MAX):
            self.time.run_until(self.time.now + TICK_SECONDS)
            if all(client.answers > before for client, before in zip(clients, answers, strict=True)):
                break
        else:
            waiting = [client.name for client, before in zip(clients, answers, strict=True) if client.answers <= before]
            raise Violation(f"no answer for {waiting} in {HEALING_TICKS_MAX} ticks without faults: {self.describe()}")
        for each in (*clients, *self.administrators, *self.holders):
            each.stopped = True
        for _ in range(HEALING_TICKS_MAX):
            self.time.run_until(self.time.now + TICK_SECONDS)
            if self._is_settled():
                return
        raise Violation(f"not settled in {HEALING_TICKS_MAX} ticks without faults or load: {self.describe()}")

    def _is_settled(self) -> bool:
        processes = [self.processes[each] for each in sorted(self.processes)]
        if not processes:
            return False
        leaders = {process.node.leader for process in processes}
        applied = {process.applier.applied_index for process in processes}
        committed = {process.raw.committed for process in processes}
        last = {process.engine.log.last_index() for process in processes}
        if any(each.busy for each in (*self._askers, *self.administrators)) or sorted(self.processes) != self.machines:
            return False
        if any(process.lessor.leases() for process in processes):
            return False
        if any(process.store.compactions.pending or process.hub.has_work for process in processes):
            return False
        revision = processes[0].store.current_revision
        watched = all(watcher.next_revision > revision for watcher in self.watchers)
        return len(leaders) == len(applied) == 1 and 0 not in leaders and applied == committed == last and watched

    def describe(self) -> str:
        return "; ".join(
            f"{each}: {process.raw.status()} applied {process.applier.applied_index} leases {process.lessor.leases()}"
            for each, process in sorted(self.processes.items())
        )

    def hashes(self) -> dict[int, tuple[int, int, int]]:
        """Each running member's HashKV at the newest revision."""
        return {
            member: tuple(finish(process.store.hash_kv_steps(0)))  # type: ignore[misc]
            for member, process in sorted(self.processes.items())
        }
