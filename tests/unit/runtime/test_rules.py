"""The rule of a worker that was refused or given a hand-off that is not fresh, in its order: the first that applies."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.events import CancelRequested
from actors.contracts.fold import StepState, fold_step
from actors.contracts.retry import DELIVERIES, Retry
from actors.runtime.rules import Verdict, decide
from tests.records import START, Log

NOW = START + timedelta(minutes=1)
LATE = START + timedelta(hours=2)
ME = "m"
THREE_OF_EACH = Retry(attempts=3, crashes=3)


def log_of(history: str) -> StepState:
    """The fold of a step in which these happened: claims by letter, F and R for how the last one ended, X a cancel,
    W another hand-off, f a failure to be tried again only in an hour."""
    log, owner = Log(), ""
    given_out = log.hand_off()
    for what in history:
        match what:
            case "F":
                log.fail(owner)
            case "f":
                log.fail(owner, retry_in=3_600)
            case "R":
                log.release(owner)
            case "X":
                log.add(CancelRequested)
            case "W":
                log.hand_off("polish")
            case claim:
                owner = claim
                log.start(claim)
    state = fold_step(log.records, given_out.seq)
    assert state is not None
    return state


def verdict(
    history: str,
    *,
    claiming: bool = True,
    gone: str | None = None,
    now: datetime = NOW,
    retry: Retry = THREE_OF_EACH,
    deliveries: int = 2,
) -> Verdict:
    state = log_of(history)
    return decide(state, ME, claiming=claiming, gone=gone, now=now, retry=retry, deliveries=deliveries)


RUNNING: dict[str, Any] = {"claiming": False}
LATE_RUNNING: dict[str, Any] = {"claiming": False, "now": LATE}

TABLE: list[tuple[str, dict[str, Any], Verdict]] = [
    # 1. closed
    ("W", {}, Verdict.ACK),
    ("mW", RUNNING, Verdict.ACK),
    ("mXW", RUNNING, Verdict.ACK),
    ("aW", {"now": LATE}, Verdict.ACK),
    ("abcW", {}, Verdict.ACK),
    ("aW", RUNNING, Verdict.ACK),
    # 2. not mine, and what was refused was not my claim
    ("ma", RUNNING, Verdict.LET_GO),
    ("maF", RUNNING, Verdict.LET_GO),
    ("maX", RUNNING, Verdict.LET_GO),
    ("ma", LATE_RUNNING, Verdict.LET_GO),
    ("ma", {"claiming": False, "gone": "a"}, Verdict.LET_GO),
    # 3. not mine and started
    ("a", {}, Verdict.ASK_OWNER),
    ("aX", {}, Verdict.ASK_OWNER),
    ("a", {"now": LATE}, Verdict.ASK_OWNER),
    ("abc", {}, Verdict.ASK_OWNER),
    ("a", {"deliveries": DELIVERIES}, Verdict.ASK_OWNER),
    ("ab", {"gone": "a"}, Verdict.ASK_OWNER),
    # 4. somebody wants it stopped
    ("mX", RUNNING, Verdict.CANCEL),
    ("mX", LATE_RUNNING, Verdict.CANCEL),
    ("aX", {"gone": "a"}, Verdict.CANCEL),
    ("aFX", {}, Verdict.CANCEL),
    ("aRX", {"now": LATE}, Verdict.CANCEL),
    ("aFbFcFX", {}, Verdict.CANCEL),
    # 5. past the deadline
    ("", {"now": LATE}, Verdict.EXPIRE),
    ("m", LATE_RUNNING, Verdict.EXPIRE),
    ("mF", LATE_RUNNING, Verdict.EXPIRE),
    ("a", {"now": LATE, "gone": "a"}, Verdict.EXPIRE),
    ("abc", {"now": LATE, "gone": "c"}, Verdict.EXPIRE),
    ("", {"now": LATE, "deliveries": DELIVERIES}, Verdict.EXPIRE),
    # 6. mine
    ("m", RUNNING, Verdict.GO_ON),
    ("m", {}, Verdict.GO_ON),
    ("abm", RUNNING, Verdict.GO_ON),
    ("aFbFm", RUNNING, Verdict.GO_ON),
    ("m", {"claiming": False, "deliveries": DELIVERIES}, Verdict.GO_ON),
    ("mF", RUNNING, Verdict.HAND_BACK),
    ("mR", RUNNING, Verdict.HAND_BACK),
    ("aFbFmF", RUNNING, Verdict.HAND_BACK),
    # 7. a budget is used up
    ("aFbFcF", {}, Verdict.BURY),
    ("abc", {"gone": "c"}, Verdict.BURY),
    ("abcR", {"retry": Retry(crashes=2)}, Verdict.BURY),
    ("a", {"gone": "a", "retry": Retry(crashes=1)}, Verdict.BURY),
    ("aF", {"retry": Retry(attempts=1)}, Verdict.BURY),
    ("", {"deliveries": DELIVERIES}, Verdict.BURY),
    ("aF", {"deliveries": DELIVERIES + 7}, Verdict.BURY),
    ("aFbFcf", {}, Verdict.BURY),
    # its time has not come
    ("af", {}, Verdict.HAND_BACK),
    ("aFbf", {}, Verdict.HAND_BACK),
    # 8. nobody has it
    ("", {}, Verdict.CLAIM),
    ("aF", {}, Verdict.CLAIM),
    ("aR", {}, Verdict.CLAIM),
    ("aRbRcRdR", {}, Verdict.CLAIM),
    ("a", {"gone": "a"}, Verdict.CLAIM),
    ("ab", {"gone": "b"}, Verdict.CLAIM),
    ("aFbFc", {"gone": "c"}, Verdict.CLAIM),
    ("", {"deliveries": DELIVERIES - 1}, Verdict.CLAIM),
    ("afb", {"gone": "b"}, Verdict.CLAIM),
]


@pytest.mark.parametrize(("history", "known", "expected"), TABLE)
def test_the_first_that_applies(history: str, known: dict[str, Any], expected: Verdict) -> None:
    assert verdict(history, **known) is expected


def test_a_hand_off_that_is_gone_is_acked() -> None:
    known: dict[str, Any] = {"gone": None, "now": NOW, "retry": Retry(), "deliveries": 1}
    assert decide(None, ME, claiming=True, **known) is Verdict.ACK
    assert decide(None, ME, claiming=False, **known) is Verdict.ACK


def test_the_deadline_itself_is_past() -> None:
    deadline = log_of("").handoff.origin.deadline
    assert verdict("", now=deadline) is Verdict.EXPIRE
    assert verdict("", now=deadline - timedelta(microseconds=1)) is Verdict.CLAIM


def test_the_time_of_the_next_try_itself_has_come() -> None:
    state = log_of("af")
    assert state.retry_at is not None
    given_back: dict[str, Any] = {"claiming": True, "gone": None, "retry": Retry(), "deliveries": 2}
    handoff = state.handoff
    later = handoff.model_copy(update={"origin": handoff.origin.model_copy(update={"deadline": LATE})})
    now, state = state.retry_at, replace(state, handoff=later)
    assert decide(state, ME, now=now, **given_back) is Verdict.CLAIM


HISTORIES = st.text(alphabet="abmFfRXW", max_size=8).filter(lambda history: history[:1] not in ("F", "f", "R"))
KNOWN = st.fixed_dictionaries(
    {
        "claiming": st.booleans(),
        "gone": st.sampled_from([None, "a", "b"]),
        "now": st.sampled_from([NOW, LATE]),
        "deliveries": st.sampled_from([1, 2, DELIVERIES]),
    }
)


@given(HISTORIES, KNOWN)
def test_whatever_the_log_says_nobody_acts_on_what_is_not_theirs(history: str, known: dict[str, Any]) -> None:
    state, found = log_of(history), verdict(history, **known)
    if state.closed:
        assert found is Verdict.ACK
        return
    assert found is not Verdict.ACK
    mine = state.owned_by(ME)
    if found is Verdict.GO_ON:
        assert mine
        assert state.open
    if not mine and not known["claiming"]:
        assert found is Verdict.LET_GO
    if not mine and state.open and not state.owned_by(known["gone"] or ""):
        assert found in (Verdict.LET_GO, Verdict.ASK_OWNER)
    if found is Verdict.CLAIM:
        assert not state.cancel
        assert known["now"] is NOW
        assert state.failures < 3
        assert state.crashes < 3
