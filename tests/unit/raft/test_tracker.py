from __future__ import annotations

import pytest

from etcdpy.raft.inflights import Inflights
from etcdpy.raft.tracker import Configuration, Progress, ProgressState, Tracker
from etcdpy.raft.types import ConfState


def progress(match: int = 0, next_index: int = 1, messages: int = 3, size: int = 100) -> Progress:
    made = Progress(next_index, Inflights(messages, size))
    made.match = match
    return made


# --- the window ---


def test_the_window_is_bounded_by_messages_and_by_bytes() -> None:
    window = Inflights(2, 100)
    window.add(5, 10)
    assert not window.full
    window.add(6, 10)
    assert window.full
    window.free_to(5)
    assert (len(window), window.bytes, window.full) == (1, 10, False)
    window.add(9, 95)
    assert window.full
    window.free_to(4)
    assert len(window) == 2
    window.free_to(100)
    assert (len(window), window.bytes) == (0, 0)


def test_the_window_takes_what_comes_in_order_while_there_is_room() -> None:
    window = Inflights(1, 100)
    window.add(5, 1)
    with pytest.raises(AssertionError):
        window.add(6, 1)
    window = Inflights(9, 100)
    window.add(5, 1)
    with pytest.raises(AssertionError):
        window.add(5, 1)


# --- the states ---


def test_probing_sends_one_message_with_entries_and_waits() -> None:
    made = progress(next_index=5)
    made.sent(0, 0, 0)
    assert not made.paused, "an empty one does not count"
    made.sent(2, 10, 0)
    assert made.paused
    assert made.next == 5
    assert made.acknowledge(6)
    assert (made.match, made.next, made.paused) == (6, 7, False)


def test_replicating_runs_ahead_until_the_window_is_full() -> None:
    made = progress(match=4, next_index=5)
    made.become_replicate()
    for _ in range(3):
        assert not made.paused
        made.sent(2, 10, 4)
    assert made.paused
    assert (made.next, len(made.inflights), made.sent_commit) == (11, 3, 4)
    made.flow_paused = False
    made.sent(0, 0, 5)
    assert made.paused, "an empty one through a full window pauses as well"


def test_a_refusal_in_flight_goes_back_to_what_is_known() -> None:
    made = progress(match=4, next_index=5)
    made.become_replicate()
    made.sent(6, 10, 9)
    assert not made.refuse(4, 2), "older than what is acknowledged"
    assert made.refuse(10, 7)
    assert (made.state, made.next, len(made.inflights), made.sent_commit) == (ProgressState.PROBE, 5, 0, 4)


@pytest.mark.parametrize(
    ("rejected", "hint", "next_index"), [(9, 9, 9), (9, 5, 6), (9, 0, 3)], ids=["one back", "hint", "match"]
)
def test_a_refusal_while_probing_goes_to_the_hint(rejected: int, hint: int, next_index: int) -> None:
    made = progress(match=2, next_index=10)
    made.flow_paused = True
    assert made.refuse(rejected, hint)
    assert (made.next, made.paused) == (next_index, False)


def test_a_late_refusal_while_probing_is_ignored() -> None:
    assert not progress(match=2, next_index=10).refuse(8, 5)


def test_a_snapshot_stops_everything_else() -> None:
    made = progress(match=2, next_index=3)
    made.become_snapshot(10)
    assert (made.paused, made.next, made.pending_snapshot) == (True, 11, 10)
    assert not made.refuse(10, 5)
    made.snapshot_reported(ok=True)
    assert (made.state, made.next, made.paused) == (ProgressState.PROBE, 11, True)
    made.become_snapshot(20)
    made.snapshot_reported(ok=False)
    assert (made.state, made.next, made.paused) == (ProgressState.PROBE, 3, True)


def test_the_commit_index_is_told_when_it_can_help() -> None:
    made = progress(match=4, next_index=5)
    made.become_replicate()
    made.sent(2, 2, 4)
    assert not made.wants_commit(4)
    assert made.wants_commit(5)
    made.sent_commit = 6
    assert not made.wants_commit(7), "it has been told about everything that it has"


def test_text() -> None:
    made = progress(match=4, next_index=5, messages=1)
    made.become_replicate()
    made.sent(1, 1, 4)
    made.is_learner = True
    assert repr(made) == "replicate match=4 next=6 learner paused inactive inflight=1[full]"
    made.become_snapshot(9)
    assert "snapshot=9" in repr(made)


# --- the group ---


def tracker(state: ConfState) -> Tracker:
    return Tracker(Configuration.from_conf_state(state), 4, 10, 100)


def test_a_quorum_must_be_heard_between_two_checks() -> None:
    made = tracker(ConfState((1, 2, 3), (4,)))
    made.progress[1].recent_active = True
    made.progress[4].recent_active = True
    assert not made.check_activity(1), "a learner is no quorum"
    made.progress[2].recent_active = True
    assert made.check_activity(1)
    assert not made.check_activity(1)
    assert made.progress[1].recent_active, "a leader hears itself"


def test_both_halves_must_be_heard() -> None:
    made = tracker(ConfState((1, 4, 5), (), (1, 2, 3)))
    for member in (1, 2):
        made.progress[member].recent_active = True
    assert not made.check_activity(1)
    for member in (2, 5):
        made.progress[member].recent_active = True
    assert made.check_activity(1)


def test_a_new_member_is_probed_at_the_end_and_counts_as_heard() -> None:
    made = tracker(ConfState((1, 2)))
    made.acknowledge(2, 3)
    made.switch(Configuration.from_conf_state(ConfState((1, 2), (3,))), 7)
    assert (made.progress[2].match, made.matches[2]) == (3, 3)
    new = made.progress[3]
    assert (new.match, new.next, new.is_learner, new.recent_active) == (0, 7, True, True)
