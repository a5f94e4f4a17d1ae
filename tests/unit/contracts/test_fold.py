from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.contracts.events import (
    Aborted,
    Cancelled,
    CancelRequested,
    Completed,
    DeadLettered,
    Expired,
    Failed,
    HandOff,
    Outcome,
    Progress,
    Record,
    ReviewDiscarded,
    ReviewRedriven,
    StepPart,
)
from actors.contracts.fold import JobState, StepState, fold_job, fold_step
from actors.contracts.generation import Usage
from actors.contracts.messages import Packed
from tests.records import BROKEN, ORIGIN, START, Log

NOTE = Packed(type="Note", body={"text": "done"})


def step(log: Log, handoff: Record | None = None) -> StepState:
    """The fold of a hand-off: the newest, unless another is named."""
    given = handoff or next(r for r in reversed(log.records) if isinstance(r.event, HandOff))
    state = fold_step(log.records, given.seq)
    assert state is not None
    return state


def job(log: Log) -> JobState:
    state = fold_job(log.records)
    assert state is not None
    return state


def test_a_fresh_hand_off_has_no_owner_and_no_history() -> None:
    log = Log()
    given = log.hand_off()
    state = step(log)
    assert state.handoff == given.event
    assert (state.chain.seq, state.chain.n) == (given.seq, 1)
    assert not state.open
    assert not state.closed
    assert (state.attempts, state.failures, state.crashes, state.owner) == (0, 0, 0, None)


def test_a_hand_off_that_the_log_does_not_have_any_more_folds_to_nothing() -> None:
    log = Log()
    given = log.hand_off()
    started = log.start()
    assert fold_step(log.records[1:], given.seq) is None
    assert fold_step(log.records, started.seq) is None
    assert fold_step([], given.seq) is None
    assert fold_job([]) is None


@pytest.mark.parametrize("ending", ["another stage", "the same stage", "the same step", "an outcome"])
def test_a_hand_off_is_closed_by_whatever_comes_after_it_not_by_a_stage_name(ending: str) -> None:
    log = Log()
    given = log.hand_off("write")
    log.start()
    assert not step(log, given).closed
    match ending:
        case "another stage":
            log.hand_off("polish")
        case "the same stage":
            log.hand_off("write")
        case "the same step":
            log.hand_off("write", of=1)
        case "an outcome":
            log.add(Cancelled, origin=ORIGIN)
    assert step(log, given).closed


def test_what_follows_a_closed_hand_off_is_not_its_own() -> None:
    log = Log()
    first = log.hand_off()
    log.start("a")
    log.say("Mill", (1,), 0)
    log.hand_off("polish")
    log.start("b")
    log.fail("b")
    log.say("race", (2,), 0)
    state = step(log, first)
    assert (state.tokens, state.failures, state.attempts) == ((1,), 0, 1)
    assert state.owned_by("a")
    assert state.chain == step(log).chain


HISTORIES = {
    # what happened: attempts, failures, crashes, open, owner
    "": (0, 0, 0, False, None),
    "a": (1, 0, 1, True, "a"),
    "aF": (1, 1, 0, False, "a"),
    "aR": (1, 0, 0, False, "a"),
    "ab": (2, 0, 2, True, "b"),
    "abF": (2, 1, 1, False, "b"),
    "abR": (2, 0, 1, False, "b"),
    "aFbFc": (3, 2, 1, True, "c"),
    "aRbRc": (3, 0, 1, True, "c"),
    "abc": (3, 0, 3, True, "c"),
}


@pytest.mark.parametrize("history", HISTORIES)
def test_attempts_pair_with_their_verdicts_by_claim(history: str) -> None:
    log = Log()
    log.hand_off()
    owner = ""
    for letter in history:
        match letter:
            case "F":
                log.fail(owner)
            case "R":
                log.release(owner)
            case claim:
                owner = claim
                log.start(claim)
    state = step(log)
    found = (state.attempts, state.failures, state.crashes, state.open, state.owner and state.owner.claim)
    assert found == HISTORIES[history]


def test_a_late_verdict_ends_its_own_attempt_and_nobody_elses() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.start("b")
    log.fail("a")
    state = step(log)
    assert (state.failures, state.crashes) == (1, 1)
    assert state.open
    assert state.owned_by("b")


def test_failures_keep_their_errors_and_the_time_of_the_next_try() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    failed = log.fail("a", retry_in=30)
    state = step(log)
    assert state.errors == (BROKEN,)
    assert state.retry_at == START + timedelta(seconds=33)
    assert failed.stored_at == START + timedelta(seconds=3)


def test_tokens_and_text_are_all_that_the_step_has_said() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.say("Mill", (1, 2), 0)
    log.add(Progress, stage="write", message="half")
    log.start("b", from_=2)
    log.say("race", (3,), 2)
    assert step(log).finish_reason is None
    log.say(".", (4,), 3, finish_reason="stop")
    state = step(log)
    assert (state.tokens, state.text, state.finish_reason) == ((1, 2, 3, 4), "Millrace.", "stop")
    assert job(log).text == "Millrace."


def test_a_reset_makes_what_was_said_void() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.say("Mill", (1,), 0, finish_reason="stop")
    log.start("b", reset=True)
    assert (step(log).tokens, step(log).text, step(log).finish_reason) == ((), "", None)
    assert job(log).text == ""
    log.say("Head", (9,), 0)
    assert (step(log).tokens, job(log).text) == ((9,), "Head")


def test_the_newest_sign_of_life_is_a_start_a_piece_or_text() -> None:
    log = Log()
    log.hand_off()
    assert step(log).newest_at is None
    started = log.start("a")
    assert step(log).newest_at == started.event.at
    part = log.add(StepPart, key="k", value=1)
    assert step(log).newest_at == part.event.at
    log.add(CancelRequested)
    assert step(log).newest_at == part.event.at


def test_parts_are_kept_by_key_with_what_they_used() -> None:
    log = Log()
    log.hand_off()
    log.start()
    log.add(StepPart, key="one", value=[1, None], usage=Usage(prompt_tokens=3, output_tokens=2))
    log.add(StepPart, key="none", value=None, usage=Usage(output_tokens=5))
    state = step(log)
    assert state.parts["one"].value == [1, None]
    assert state.parts["none"].value is None
    assert state.usage == Usage(prompt_tokens=3, output_tokens=7)


def test_a_step_given_out_again_carries_its_budgets_tokens_and_pieces() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.say("Mill", (1, 2), 0)
    log.add(StepPart, key="k", value=7)
    log.fail("a")
    log.start("b", from_=2)
    again = log.hand_off(of=1)
    log.start("c", from_=2)
    log.say("race", (3,), 2)
    state = step(log, again)
    assert (state.attempts, state.failures, state.crashes) == (3, 1, 2)
    assert (state.tokens, state.text, state.parts["k"].value) == ((1, 2, 3), "Millrace", 7)
    assert state.owned_by("c")
    assert not state.closed
    twice = log.hand_off(of=1)
    assert step(log, twice).failures == 1
    assert step(log, again).closed


def test_a_step_given_out_again_in_a_loop_does_not_take_the_turn_before_for_its_own() -> None:
    log = Log()
    log.hand_off("write")
    log.start("a")
    log.fail("a")
    log.hand_off("call_tools")
    turn = log.hand_off("write")
    log.start("b")
    log.fail("b")
    again = log.hand_off("write", of=turn.event.n)
    assert (step(log, again).failures, step(log, again).attempts) == (1, 1)


def test_a_cancel_is_seen_until_the_step_ends() -> None:
    log = Log()
    given = log.hand_off()
    log.start()
    log.add(CancelRequested, reason="enough")
    assert step(log, given).cancel


def test_kinds_of_a_newer_version_have_their_number_and_change_nothing_else() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    before = step(log)
    newer = b'{"v":2,"n":3,"kind":"step.paused","by":"write-1/a","at":1795437015.5,"prev":"x"}'
    log.records.append(Record(9, str(log.records[-1].subject), newer))
    after = step(log)
    assert (after.chain.n, after.chain.seq) == (3, 9)
    assert replace(after, chain=before.chain) == before
    assert job(log).status == "running"


OUTCOMES: dict[type[Outcome], dict[str, object]] = {
    Completed: {"answer": NOTE},
    Failed: {"stage": "write", "error": BROKEN},
    Cancelled: {},
    Expired: {},
    Aborted: {},
    DeadLettered: {"stage": "write", "reason": "spent", "input": NOTE, "attempts": 3, "crashes": 0, "deliveries": 3},
}


@pytest.mark.parametrize("kind", OUTCOMES)
def test_a_job_has_the_status_of_its_outcome_whatever_review_follows(kind: type[Outcome]) -> None:
    log = Log()
    log.hand_off()
    log.start()
    ended = log.add(kind, origin=ORIGIN, usage=Usage(output_tokens=9), **OUTCOMES[kind])
    log.add(ReviewRedriven, to="another")
    log.add(ReviewDiscarded, reason="seen")
    state = job(log)
    assert state.status == ended.event.kind
    assert state.outcome == ended.event
    assert state.usage == Usage(output_tokens=9)
    tail = fold_job([ended])
    assert tail is not None
    assert (tail.status, tail.outcome, tail.origin, tail.usage) == (state.status, state.outcome, ORIGIN, state.usage)


def test_a_job_runs_from_its_first_claim_or_its_second_step_on() -> None:
    log = Log()
    log.hand_off("retrieve")
    assert job(log).status == "queued"
    log.hand_off("retrieve", of=1)
    assert job(log).status == "queued"
    second = log.hand_off("write")
    assert job(log).status == "running"
    tail = fold_job([second])
    assert tail is not None
    assert tail.status == "running"
    log.start()
    assert (job(log).status, job(log).stage, job(log).attempts) == ("running", "write", 1)


def test_text_alone_is_no_job() -> None:
    log = Log()
    log.say("Mill", (1,), 0)
    assert fold_job(log.records) is None


HAPPENINGS = st.lists(st.sampled_from("abcdFRpqt.XWPow"), max_size=40)


def written(happenings: list[str]) -> Log:
    """A log in which these things happened, one after the other, sensibly or not."""
    log = Log()
    first = log.hand_off().event.n
    owner, said = "a", 0
    for what in happenings:
        match what:
            case "F":
                log.fail(owner)
            case "R":
                log.release(owner)
            case "p" | "q":
                log.add(StepPart, key=what, value=len(log.records), usage=Usage(output_tokens=1))
            case "t":
                log.say("ab", (said, said + 1), said)
                said += 2
            case ".":
                log.add(Progress, stage="write", message="on")
            case "X":
                log.add(CancelRequested)
            case "W" | "P":
                first, said = log.hand_off("write" if what == "W" else "polish").event.n, 0
            case "o":
                log.hand_off("write", of=first)
            case "w":
                owner = f"w{len(log.records)}"
                log.start(owner, reset=True)
                said = 0
            case claim:
                owner = f"{claim}{len(log.records)}"
                log.start(owner, from_=said)
    return log


@given(HAPPENINGS)
def test_the_fold_of_a_tail_from_a_steps_first_hand_off_is_the_fold_of_the_whole(happenings: list[str]) -> None:
    log = written(happenings)
    given = [r for r in log.records if isinstance(r.event, HandOff)]
    for handoff in given:
        assert isinstance(handoff.event, HandOff)
        begins = next(i for i, r in enumerate(log.records) if r.event.n == handoff.event.first_n)
        assert fold_step(log.records[begins:], handoff.seq) == fold_step(log.records, handoff.seq)
    newest = next(r for r in reversed(given) if r.event.first_n == r.event.n)  # type: ignore[attr-defined]
    tail = fold_job(log.records[log.records.index(newest) :])
    assert tail is not None
    assert replace(tail, text="") == replace(job(log), text="", started=tail.started)
    assert tail.started or not job(log).started


@given(HAPPENINGS)
def test_budgets_count_what_the_log_says(happenings: list[str]) -> None:
    log = written(happenings)
    state = step(log)
    mine, inside = [], False
    for record in log.records:
        if isinstance(record.event, HandOff):
            inside = record.event.first_n == state.handoff.first_n
        elif inside:
            mine.append(record.event)
    starts = [e.claim for e in mine if e.kind == "step.started"]  # type: ignore[attr-defined]
    ended = [e.claim for e in mine if e.kind in ("step.failed", "step.released") and e.claim in starts]  # type: ignore[attr-defined]
    assert state.crashes == len(set(starts) - set(ended))
    assert state.failures == sum(e.kind == "step.failed" for e in mine)
    assert [e.claim for e in mine if e.kind == "step.started"][-1:] == ([state.owner.claim] if state.owner else [])  # type: ignore[attr-defined]
    assert state.tokens == tuple(range(len(state.tokens)))
    assert state.chain.seq == log.records[-1].seq
    assert state.chain.n == len(log.records)


def test_a_step_that_asks_is_nobodys_and_has_cost_no_budget() -> None:
    log = Log()
    given = log.hand_off()
    log.start("a")
    asked = log.ask("a", wasted=3)
    state = step(log, given)
    assert state.closed
    assert not state.open
    assert (state.attempts, state.failures, state.crashes, state.wasted) == (1, 0, 0, 3)
    assert state.question == asked.event
    assert job(log).status == "input_required"
    assert job(log).question == asked.event


def test_what_a_step_was_told_is_there_when_it_starts_again() -> None:
    log = Log()
    first = log.hand_off()
    log.start("a")
    log.add(StepPart, key="k", value=1)
    year = log.ask("a", "year")
    log.tell(year, 1850)
    log.start("b")
    place = log.ask("b", "place")
    log.tell(place, timed_out=True, answer=None)
    log.start("c")
    state = step(log)
    assert state.owned_by("c")
    assert state.open
    assert (state.attempts, state.failures, state.crashes) == (3, 0, 1)
    assert state.parts["k"].value == 1
    assert {key: (told.question, told.answer, told.timed_out) for key, told in state.told.items()} == {
        "year": (year.event.n, 1850, False),
        "place": (place.event.n, None, True),
    }
    assert (state.question, job(log).status) == (None, "running")
    assert (step(log, first).closed, step(log, first).question) == (True, None)


def test_a_question_of_an_earlier_step_says_nothing_of_a_later_one() -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.tell(log.ask("a"))
    log.start("b")
    log.hand_off("polish")
    assert step(log).told == {}
    assert job(log).status == "running"


@pytest.mark.parametrize("ended", [Cancelled, Expired])
def test_a_job_that_asked_and_has_its_outcome_asks_no_more(ended: type[Outcome]) -> None:
    log = Log()
    log.hand_off()
    log.start("a")
    log.ask("a")
    log.add(ended, origin=ORIGIN)
    assert job(log).status == ended.model_fields["kind"].default
    assert job(log).question is None
    assert job(log).waits_until is None


def test_a_job_waits_until_it_starts_or_is_tried_again_or_may_not_be_answered_any_more() -> None:
    log = Log()
    start_at = START + timedelta(hours=1)
    log.hand_off(start_at=start_at)
    assert (job(log).status, job(log).waits_until) == ("queued", start_at)
    log.hand_off(of=1)
    assert (job(log).status, job(log).waits_until) == ("queued", None)
    log.start("a")
    assert job(log).waits_until is None
    log.fail("a", retry_in=60.0)
    assert job(log).waits_until == START + timedelta(seconds=64)
    log.start("b")
    log.ask("b", until=start_at)
    assert job(log).waits_until == start_at
