"""Feature gates (`--feature-gates=A=true,B=false`): which exist, and which are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from etcdpy.server.go_values import GoValueError, parse_bool, quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate: its stage as etcd names it, its default, and what it does here (`inert` says why it does nothing)."""

    name: str
    stage: str
    default: bool
    help: str
    inert: str = ""


GATES: Final = {
    gate.name: gate
    for gate in (
        Gate("AllAlpha", "ALPHA", False, "Sets every alpha gate that is not named itself."),
        Gate("AllBeta", "BETA", False, "Sets every beta gate that is not named itself."),
        Gate(
            "CompactHashCheck",
            "ALPHA",
            False,
            "The leader compares the followers' hashes after a compaction.",
        ),
        Gate(
            "FastLeaseKeepAlive",
            "BETA",
            True,
            "A lease is renewed without waiting for the applied index.",
        ),
        Gate(
            "InitialCorruptCheck",
            "ALPHA",
            False,
            "A member compares its hash with its peers' before it serves.",
        ),
        Gate("LeaseCheckpoint", "ALPHA", False, "The leader replicates what is left of long leases."),
        Gate("LeaseCheckpointPersist", "ALPHA", False, "What is left of a lease survives restarts."),
        Gate(
            "PriorityRequest",
            "ALPHA",
            False,
            "Lease revocations may queue when other requests are refused.",
        ),
        Gate(
            "SetMemberLocalAddr",
            "ALPHA",
            False,
            "Connections to peers leave from the advertised peer address.",
        ),
        Gate("StopGRPCServiceOnDefrag", "ALPHA", False, "The health service says NOT_SERVING while defragmenting."),
        Gate(
            "TxnModeWriteWithSharedBuffer",
            "BETA",
            True,
            "How etcd buffers reads inside a write transaction.",
            "there is no such buffer here",
        ),
    )
}

_GROUPS: Final = {"AllAlpha": "ALPHA", "AllBeta": "BETA"}


class GateError(ValueError):
    """A --feature-gates value that cannot be used; the message is etcd's."""


@dataclass(frozen=True, slots=True)
class FeatureGates:
    """The gates of one member. `given` holds what was named, in the order it was named."""

    given: Mapping[str, bool]

    def enabled(self, name: str) -> bool:
        """Whether the gate is on. The name must exist."""
        gate = GATES[name]
        if name in self.given:
            return self.given[name]
        for group, stage in _GROUPS.items():
            if group in self.given and gate.stage == stage and name not in _GROUPS:
                return self.given[group]
        return gate.default

    def __iter__(self) -> Iterator[tuple[Gate, bool]]:
        return ((gate, self.enabled(gate.name)) for gate in GATES.values())

    def __str__(self) -> str:
        return ",".join(f"{name}={'true' if on else 'false'}" for name, on in sorted(self.given.items()))


NONE_GIVEN: Final = FeatureGates({})


def parse_gates(text: str, before: FeatureGates = NONE_GIVEN) -> FeatureGates:
    """`A=true,B=false` on top of what an earlier flag said. Raises GateError."""
    given = dict(before.given)
    for part in filter(None, text.split(",")):
        name, equals, value = (each.strip() for each in part.partition("="))
        if not equals:
            raise GateError(f"missing bool value for {name}")
        try:
            on = parse_bool(value)
        except GoValueError:
            reason = f"strconv.ParseBool: parsing {quote(value)}: invalid syntax"
            raise GateError(f"invalid value of {name}={value}, err: {reason}") from None
        if name not in GATES:
            raise GateError(f"unrecognized feature gate: {name}")
        given[name] = on
    return FeatureGates(given)
