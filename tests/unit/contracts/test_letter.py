"""A dead letter and its review, out of any tail of a job's log."""

from __future__ import annotations

import pytest

from actors.contracts.events import Cancelled, DeadLettered, ReviewDiscarded, ReviewRedriven
from actors.contracts.letter import fold_letter
from actors.contracts.messages import Packed
from tests.records import BROKEN, JOB, ORIGIN, Log


def buried() -> Log:
    log = Log()
    log.hand_off()
    log.start()
    log.add(
        DeadLettered,
        origin=ORIGIN,
        stage="write",
        reason="it failed",
        input=Packed(type="Note", body={"text": "write"}),
        errors=(BROKEN,),
        attempts=1,
        crashes=0,
        deliveries=1,
    )
    return log


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_any_tail_that_has_it_shows_it(kept: int) -> None:
    letter = fold_letter(buried().records[kept:])
    assert letter is not None
    assert (letter.job, letter.event.stage, letter.review) == (JOB, "write", "open")


def test_what_people_did_is_told_in_order_and_once() -> None:
    log = buried()
    for job in ("one", "two", "one"):
        log.add(ReviewRedriven, to=job)
    letter = fold_letter(log.records)
    assert letter is not None
    assert (letter.review, letter.redriven) == ("redriven", ("one", "two"))


def test_a_discard_is_the_last_word_and_the_first_one_counts() -> None:
    log = buried()
    log.add(ReviewDiscarded, reason="enough")
    log.add(ReviewRedriven, to="one")
    log.add(ReviewDiscarded, reason="more than enough")
    letter = fold_letter(log.records)
    assert letter is not None
    assert letter.discarded is not None
    assert (letter.review, letter.discarded.reason) == ("discarded", "enough")


def test_a_job_that_ended_otherwise_is_none() -> None:
    log = Log()
    log.hand_off()
    assert fold_letter(log.records) is None
    log.add(Cancelled, origin=ORIGIN)
    assert fold_letter(log.records) is None
