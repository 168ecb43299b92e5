from __future__ import annotations

import pytest

from etcdpy.client.failures import Failure, etcd_error, reason_of_cancelled_watch
from etcdpy.client.retrying import ATTEMPTS_MAX, PAUSE_SECONDS, Attempts
from etcdpy.errors import (
    AuthOldRevision,
    Code,
    Compacted,
    EtcdError,
    InvalidAuthToken,
    NoLeader,
    NotSupportedForLearner,
    PermissionDenied,
    StatusError,
    UserEmpty,
)

NEVER_SENT = Failure(Code.UNAVAILABLE, "failed to connect to all addresses; last error: refused")
LOST = Failure(Code.UNAVAILABLE, "recvmsg:Connection reset by peer (104)")
NO_LEADER = Failure(Code.UNAVAILABLE, "etcdserver: no leader")
COMPACTED = Failure(Code.OUT_OF_RANGE, Compacted.message)
LATE = Failure(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")


def attempts(*, repeatable: bool = False, may_log_in: bool = False, endpoints: int = 3) -> Attempts:
    return Attempts(repeatable=repeatable, may_log_in=may_log_in, endpoints=endpoints, jitter=lambda: 0.5)


@pytest.mark.parametrize("failure", [LOST, NO_LEADER])
def test_only_what_is_repeatable_is_made_again_after_it_may_have_arrived(failure: Failure) -> None:
    attempts(repeatable=True).pause_before_next(failure)
    with pytest.raises(EtcdError) as raised:
        attempts().pause_before_next(failure)
    assert raised.value is failure.error


def test_what_was_never_sent_is_made_again() -> None:
    assert attempts().pause_before_next(NEVER_SENT) == 0


@pytest.mark.parametrize("failure", [COMPACTED, LATE])
def test_a_final_answer_is_raised(failure: Failure) -> None:
    with pytest.raises(type(failure.error)):
        attempts(repeatable=True).pause_before_next(failure)


def test_pauses_come_after_each_quorum_and_attempts_end() -> None:
    made = attempts(repeatable=True)
    pauses = [made.pause_before_next(NO_LEADER) for _ in range(ATTEMPTS_MAX - 1)]
    assert pauses[:4] == [0, PAUSE_SECONDS, 0, PAUSE_SECONDS]
    with pytest.raises(NoLeader):
        made.pause_before_next(NO_LEADER)


def test_a_learner_sends_elsewhere_if_there_is_such() -> None:
    learner = Failure(NotSupportedForLearner.code, NotSupportedForLearner.message)
    assert attempts().pause_before_next(learner) == 0
    with pytest.raises(NotSupportedForLearner):
        attempts(endpoints=1).pause_before_next(learner)


@pytest.mark.parametrize("kind", [InvalidAuthToken, AuthOldRevision, UserEmpty])
def test_a_login_is_tried_once(kind: type[EtcdError]) -> None:
    failure = Failure(kind.code, kind.message)
    made = attempts(may_log_in=True)
    assert made.needs_login(failure)
    assert not made.needs_login(failure)
    with pytest.raises(kind):
        made.pause_before_next(failure)
    assert not attempts().needs_login(failure)


def test_errors_are_those_of_the_table() -> None:
    assert type(etcd_error(Code.PERMISSION_DENIED, "etcdserver: permission denied")) is PermissionDenied
    unknown = etcd_error(Code.INTERNAL, "what")
    assert (type(unknown), unknown.code, unknown.message) == (StatusError, Code.INTERNAL, "what")
    late = LATE.error
    assert (type(late), late.code, str(late)) == (StatusError, Code.DEADLINE_EXCEEDED, "context deadline exceeded")


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("rpc error: code = PermissionDenied desc = etcdserver: permission denied", PermissionDenied),
        ("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", InvalidAuthToken),
        ("etcdserver: mvcc: required revision has been compacted", Compacted),
        ("mvcc: watcher range is empty", StatusError),
    ],
)
def test_the_reason_of_a_cancelled_watch(reason: str, kind: type[EtcdError]) -> None:
    assert type(reason_of_cancelled_watch(reason)) is kind
