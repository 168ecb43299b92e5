"""Changing a root authority under running members, in steps that can be taken up again wherever they were cut off.

    stage       ca.pem holds   signs   what comes next
    (none)      old            old     start: make the new one, trust both
    trusting    old, new       old     reissue, once every member lets in what the new one signs
    reissuing   new, old       new     reissue, again: it was cut off
    reissued    new, old       new     drop, once every member serves a certificate of the new one
    dropped     new            new     finish, once every member refuses what the old one signs
    (none)      new            new

No step is taken before each member shows at its own port that it took the last one. The stage lies in
`CA-rotation.json`; it is written before what it announces, so that a step that was cut off is done again and never
passed over. A member takes files when they change (real etcd: certificates so, authorities only by a restart).
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pki import files, keys, probe
from pki.authority import Authority, Issued, Request, create_root
from pki.errors import PkiError
from pki.inventory import Entry, stamp
from pki.profiles import PROFILES
from pki.reading import common_name, is_self_signed, key_digest
from pki.renewal import Signers, reissue, why_due
from pki.revocation import crl_paths, write_crl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from cryptography import x509

    from pki.store import KeyAccess, Made, Store

STAGES: Final = ("trusting", "reissuing", "reissued", "dropped")
NEXT_STEPS: Final = {"trusting": "reissue", "reissuing": "reissue", "reissued": "drop", "dropped": "finish"}
PROBE_NAME: Final = "rotation-probe"
_PROBE_DAYS: Final = 1


@dataclass(frozen=True, slots=True)
class State:
    """What `CA-rotation.json` says."""

    ca: str
    stage: str
    members: tuple[str, ...]
    started: str
    version: int = 1


@dataclass(slots=True)
class Rotation:
    """A rotation of one authority. `ask` meets a member; tests give another."""

    store: Store
    ca: str
    access: KeyAccess
    probe_common: str = PROBE_NAME
    """The common name to show, where members let in only some (`--peer-cert-allowed-cn`)."""
    ask: Callable[[str, probe.Question], probe.Answer] = probe.ask
    notes: list[str] = field(default_factory=list)

    # --- where it stands ---

    @property
    def state_path(self) -> Path:
        """The file with the stage."""
        return self.store.directory / f"{self.ca}-rotation.json"

    def state(self) -> State | None:
        """How far it got; None when none is under way. Raises PkiError for a damaged file."""
        if not self.state_path.exists():
            return None
        try:
            table = json.loads(files.read(self.state_path))
            state = State(**{**table, "members": tuple(table["members"])})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise PkiError(f"{self.state_path}: damaged; put back a copy of it") from None
        if state.version != 1 or state.stage not in STAGES or state.ca != self.ca:
            raise PkiError(f"{self.state_path}: not a rotation of {self.ca} that this version of etcdpy knows")
        return state

    def pending(self) -> list[Entry]:
        """What is still signed by another authority than the one that signs now."""
        return [entry for entry in self._tree(self.ca) if why_due(self.store, entry, 0)]

    # --- the steps ---

    def start(self, members: Sequence[str], *, common: str = "", days: int | None = None) -> State:
        """Make the new authority, and let `ca.pem` hold both."""
        for member in members:
            probe.address_of(member)
        state = self.state()
        if state is not None and state.stage != "trusting":
            raise PkiError(f"a rotation of {self.ca} is under way; its next step is `{NEXT_STEPS[state.stage]}`")
        own, _ = self._paths("")
        old = files.read_certificates(own)[0]
        if state is None:
            if not is_self_signed(old):
                raise PkiError(f"{own}: not a root; renew it with `etcdpy pki renew {self.ca}`")
            state = State(self.ca, "trusting", (), stamp(self.store.now))
            state = self._with(state, members)
            self._make_next(old, state, common, days)
        else:
            state = self._save(self._with(state, members))
        new = files.read_certificates(self._paths("-next")[0])[0]
        self._write(files.NewFile(own, files.to_pem([old, new])))
        return state

    def reissue(self, members: Sequence[str], *, unchecked: bool = False) -> list[Made]:
        """Sign with the new authority from now on, and make everything anew that the old one signed."""
        state = self._at("reissue", members)
        if state.stage in ("reissued", "dropped"):
            return []
        next_cert, next_key = self._paths("-next")
        if state.stage == "trusting":
            new = self._authority("-next")
            self._check(state, unchecked, self._lets_in, [new.certificate, self._own()], new)
            self._keep_old()
            state = self._save(dataclasses.replace(state, stage="reissuing"))
        if next_key.exists():
            self._switch(files.read_certificates(next_cert)[0], files.read(next_key))
        signers = Signers(self.store, self._access(""))
        # One after the other: what is under an authority is due once that has been made anew.
        late = (entry for entry in self._tree(self.ca) if why_due(self.store, entry, 0))
        made = [reissue(self.store, entry, signers.named(entry.ca)) for entry in late]
        if crl_paths(self.store.directory, self.ca)[0].exists():
            write_crl(self.store, signers.named(self.ca))
        self._save(dataclasses.replace(state, stage="reissued"))
        self._remove_next()
        return made

    def drop(self, members: Sequence[str], *, unchecked: bool = False) -> None:
        """Take the old authority out of `ca.pem`."""
        state = self._at("drop", members)
        if state.stage in ("trusting", "reissuing"):
            raise PkiError(f"the next step of this rotation is `reissue`, not `drop` ({self.state_path})")
        self._remove_next()
        if state.stage == "reissued":
            late = [entry.name for entry in self.pending()]
            if late:
                raise PkiError(f"still signed by the old CA: {', '.join(late)}; run `renew` first")
            new = self._authority("")
            self._check(state, unchecked, self._serves, [new.certificate], new)
            self._save(dataclasses.replace(state, stage="dropped"))
        self._write(files.NewFile(self._paths("")[0], files.to_pem([self._own()])))

    def finish(self, members: Sequence[str], *, unchecked: bool = False) -> list[Path]:
        """End it: the old authority is put aside under a name that nothing reads. Returns its files."""
        state = self._at("finish", members)
        if state.stage != "dropped":
            raise PkiError(f"the next step of this rotation is `{NEXT_STEPS[state.stage]}`, not `finish`")
        old_cert, old_key = self._paths("-old")
        retired = []
        if old_cert.exists():
            old = files.read_certificates(old_cert)[0]
            self._check_old_is_refused(state, unchecked, old)
            suffix = f"-retired-{old.serial_number:x}"[:17]
            # The certificate goes last: while it is there, a second run finds what is left to do.
            for source, target in zip((old_key, old_cert), reversed(self._paths(suffix)), strict=True):
                if source.exists():
                    source.replace(target)
                    retired.append(target)
        self.state_path.unlink()
        return retired

    def abort(self) -> None:
        """Go back to the old authority alone. Only possible while it still signs. Raises PkiError."""
        state = self._under_way()
        if state.stage != "trusting":
            step = NEXT_STEPS[state.stage]
            raise PkiError(f"the new CA signs already; go on with `{step}` and rotate once more if need be")
        self._write(files.NewFile(self._paths("")[0], files.to_pem([self._own()])))
        self.state_path.unlink()
        self._remove_next()

    # --- what members show ---

    def _check(
        self,
        state: State,
        unchecked: bool,
        judge: Callable[[str, probe.Answer], str],
        trusted: Sequence[x509.Certificate],
        signer: Authority,
    ) -> None:
        """Ask every member, showing a certificate of `signer`; raise PkiError that names those who are not as far."""
        if unchecked:
            return
        if not state.members:
            raise PkiError("name the client and peer port of every member with --taken-by https://HOST:PORT")
        question = probe.Question(trusted, self._probe_of(signer))
        faults = [fault for member in state.members if (fault := judge(member, self.ask(member, question)))]
        if faults:
            raise PkiError("; ".join(faults))

    @staticmethod
    def _lets_in(member: str, answer: probe.Answer) -> str:
        if answer.server_fault:
            return f"{member} serves a certificate of neither CA ({answer.server_fault})"
        if answer.refusal:
            return f"{member} does not let in what the new CA signs ({answer.refusal}): give it the new CA bundle"
        return ""

    @staticmethod
    def _serves(member: str, answer: probe.Answer) -> str:
        if answer.server_fault:
            return f"{member} still serves a certificate of the old CA: give it the new one"
        return f"{member} does not let in what the new CA signs ({answer.refusal})" if answer.refusal else ""

    def _check_old_is_refused(self, state: State, unchecked: bool, old: x509.Certificate) -> None:
        if unchecked:
            return
        new = self._authority("")
        self._check(state, unchecked, self._serves, [new.certificate], new)
        if old.not_valid_after_utc <= self.store.now:
            return  # nobody lets in what an expired authority signs
        if not self._paths("-old")[1].exists() and self.access.path is None:
            self.notes.append("the old CA's key is not here, so no member was asked whether it still lets it in")
            return
        shown, trusted = self._probe_of(self._authority("-old")), [new.certificate]
        for member in state.members:
            refused = self.ask(member, probe.Question(trusted, shown)).refusal
            if not refused and self.ask(member, probe.Question(trusted)).refusal:
                raise PkiError(f"{member} still lets in what the old CA signs: give it the new CA bundle")

    def _probe_of(self, signer: Authority) -> Issued:
        """A client certificate for one question; it is in the inventory, and its key nowhere."""
        request = Request(PROFILES["client"], self.probe_common, days=_PROBE_DAYS)
        issued = signer.issue(request, self.store.now)
        entry = Entry.of(issued.certificate, PROBE_NAME, "client", self.ca, signer.certificate, _PROBE_DAYS)
        self.store.inventory.add(entry, self.store.now)
        self.store.save()
        return issued

    # --- files ---

    def _paths(self, suffix: str) -> tuple[Path, Path]:
        return files.pair_paths(self.store.directory, self.ca + suffix)

    def _own(self) -> x509.Certificate:
        """The authority that signs now: the first of `ca.pem`."""
        return files.read_certificates(self._paths("")[0])[0]

    def _access(self, suffix: str) -> KeyAccess:
        """The key that lies here; the operator's path is for one that does not."""
        beside = self._paths(suffix)[1]
        return dataclasses.replace(self.access, path=None) if beside.exists() else self.access

    def _authority(self, suffix: str) -> Authority:
        return self.store.signer(self.ca + suffix, self._access(suffix)).authority

    def _write(self, *new: files.NewFile) -> None:
        files.write_all(new, force=True)

    def _make_next(self, old: x509.Certificate, state: State, common: str, days: int | None) -> None:
        _, passphrase = self.store.key(self.ca, self.access)
        request = Request(
            PROFILES["ca"],
            common or next_name(common_name(old.subject)),
            days=days,
            key_type=keys.KeyType.of(old.public_key()),
        )
        made = create_root(request, self.store.now)
        cert_path, key_path = self._paths("-next")
        self._write(
            files.NewFile(key_path, keys.to_pem(made.key, passphrase), files.KEY_MODE),
            files.NewFile(cert_path, files.to_pem([made.certificate])),
            self._state_file(state),
        )

    def _remove_next(self) -> None:
        """Leave no second copy of the new authority's key: its owner may take the one in use off this machine."""
        for path in self._paths("-next"):
            path.unlink(missing_ok=True)

    def _keep_old(self) -> None:
        """Put the old authority beside, before anything takes its place."""
        cert_path, key_path = self._paths("-old")
        own_key = self._paths("")[1]
        kept = [files.NewFile(cert_path, files.to_pem([self._own()]))]
        if own_key.exists():
            kept.append(files.NewFile(key_path, files.read(own_key), files.KEY_MODE))
        self._write(*kept)

    def _switch(self, new: x509.Certificate, key_pem: bytes) -> None:
        """Let the new authority sign. Done again it changes nothing."""
        cert_path, key_path = self._paths("")
        old = files.read_certificates(self._paths("-old")[0])[0]
        current = self.store.inventory.current(self.ca)
        if current is None or current.issuer_key != key_digest(new):
            days = (new.not_valid_after_utc - new.not_valid_before_utc).days
            self.store.inventory.add(Entry.of(new, self.ca, "ca", self.ca, new, days), self.store.now)
        self._write(
            self.store.inventory_file(),
            files.NewFile(key_path, key_pem, files.KEY_MODE),
            files.NewFile(cert_path, files.to_pem([new, old])),
        )

    # --- the state ---

    def _under_way(self) -> State:
        state = self.state()
        if state is None:
            raise PkiError(f"no rotation of {self.ca} is under way in {self.store.directory}; begin with `start`")
        return state

    def _at(self, step: str, members: Sequence[str]) -> State:
        """The state for a step, with the members that were named with it."""
        state = self._under_way()
        if state.stage == "reissuing" and step != "reissue":
            raise PkiError("the step `reissue` was cut off; run it again")
        return self._save(self._with(state, members)) if members else state

    def _with(self, state: State, members: Sequence[str]) -> State:
        for member in members:
            probe.address_of(member)
        return dataclasses.replace(state, members=tuple(dict.fromkeys((*state.members, *members))))

    def _state_file(self, state: State) -> files.NewFile:
        return files.NewFile(self.state_path, json.dumps(dataclasses.asdict(state), indent=1).encode() + b"\n")

    def _save(self, state: State) -> State:
        self._write(self._state_file(state))
        return state

    def _tree(self, ca: str) -> Iterator[Entry]:
        """What lives under an authority and lies here: authorities first, each followed by what is under it."""
        mine = [each for each in self.store.inventory.entries if each.ca == ca and each.name != ca]
        mine = [each for each in mine if each.state(self.store.now) == "valid" and self.store.has(each.name)]
        for entry in mine:
            if entry.profile == "ca":
                yield entry
                yield from self._tree(entry.name)
        yield from (each for each in mine if each.profile != "ca")


def next_name(common: str) -> str:
    """The common name of the next generation: `etcd CA`, `etcd CA G2`, `etcd CA G3`."""
    found = re.fullmatch(r"(.*) G(\d+)", common)
    base, generation = (found[1], int(found[2])) if found else (common, 1)
    ending = f" G{generation + 1}"
    return base[: 64 - len(ending)] + ending
