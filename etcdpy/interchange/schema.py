"""What etcd 3.7 keeps in its backend file, bucket by bucket, and where the same stands in our flat state.

    etcd's bucket     key -> value                                             ours
    alarm             AlarmMember -> empty                                     `a` + AlarmMember
    auth              authEnabled (1 byte), authRevision (8 bytes)             `u` + bucket + 0 + key
    authRoles         role -> authpb.Role                                      the same
    authUsers         user -> authpb.User                                      the same
    cluster           clusterVersion, downgrade (JSON)                         `m` + cluster_version, downgrade
    key               main 8, `_`, sub 8 [, `t`] -> mvccpb.KeyValue            `r` + main 8, sub 4 [, `t`]
    lease             id 8 -> leasepb.Lease                                    `l` + id 8
    members           id in hex -> JSON                                        `n` + id 8 -> etcdserverpb.Member
    members_removed   id in hex -> `removed`                                   `x` + id 8
    meta              consistent_index, term (8 bytes), confState (JSON)       applied index and term, conf_state
                      scheduledCompactRev, finishedCompactRev (as in `key`)    `m` + the same names, main 8
                      storageVersion                                           follows from the cluster's version

Values that are only carried are carried as they are. What belongs to one member alone (its id, the cluster's id) is in
neither; etcd keeps it in its write-ahead log.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from etcdpy.raft.types import ConfState
from etcdpy.wire import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

ALARM: Final = b"alarm"
AUTH: Final = b"auth"
AUTH_ROLES: Final = b"authRoles"
AUTH_USERS: Final = b"authUsers"
CLUSTER: Final = b"cluster"
KEY: Final = b"key"
LEASE: Final = b"lease"
MEMBERS: Final = b"members"
MEMBERS_REMOVED: Final = b"members_removed"
META: Final = b"meta"

AUTH_REVISION: Final = b"authRevision"
CLUSTER_VERSION: Final = b"clusterVersion"
CONF_STATE: Final = b"confState"
CONSISTENT_INDEX: Final = b"consistent_index"
DOWNGRADE: Final = b"downgrade"
FINISHED_COMPACTION: Final = b"finishedCompactRev"
SCHEDULED_COMPACTION: Final = b"scheduledCompactRev"
STORAGE_VERSION: Final = b"storageVersion"
TERM: Final = b"term"

REMOVED_MARK: Final = b"removed"
SUB_SEPARATOR: Final = b"_\0\0\0\0"
"""Between a revision's main number and the four bytes of the sub number that we store; etcd stores eight."""

_UNICODE_ESCAPES: Final = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_CONF_STATE_LISTS: Final = ("voters", "learners", "voters_outgoing", "learners_next")


def to_json(fields: object) -> str:
    """JSON as Go writes it, so that members' files can be compared."""
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).translate(_UNICODE_ESCAPES)


def hex_id(identity: int) -> bytes:
    """A member's id as etcd spells it: without leading zeros."""
    return b"%x" % identity


def parse_hex_id(text: bytes) -> int:
    """The id that etcd spelled so. Raises ValueError."""
    identity = int(text, 16)
    if not 0 <= identity < 1 << 64 or hex_id(identity) != text:
        raise ValueError(f"{text!r} is not a member id")
    return identity


def conf_state_json(conf_state: ConfState) -> bytes:
    """The group in JSON: its lists where they hold anything, and auto_leave."""
    fields: dict[str, object] = {name: list(getattr(conf_state, name)) for name in _CONF_STATE_LISTS}
    fields = {name: members for name, members in fields.items() if members}
    return to_json({**fields, "auto_leave": conf_state.auto_leave}).encode()


def parse_conf_state(text: bytes) -> ConfState:
    """The group from JSON. Raises ValueError."""
    fields = read_json(text)
    if not isinstance(fields, dict):
        raise ValueError("not an object")  # noqa: TRY004 - it is what the file holds that is wrong
    voters, learners, outgoing, learners_next = (_ids(fields, name) for name in _CONF_STATE_LISTS)
    return ConfState(voters, learners, outgoing, learners_next, fields.get("auto_leave") is True)


def _ids(fields: Mapping[str, Any], name: str) -> tuple[int, ...]:
    members = fields.get(name) or []
    if not isinstance(members, list) or not all(type(each) is int and 0 <= each < 1 << 64 for each in members):
        raise ValueError(f"`{name}` is not a list of member ids")
    return tuple(sorted(members))
