"""What the list says of a job is what its whole log says, fact by fact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from actors.contracts.envelope import Envelope
from actors.contracts.errors import Failure
from actors.contracts.events import (
    Completed,
    Failed,
    HandOff,
    InputRequired,
    Record,
    ReviewDiscarded,
    StepFailed,
    StepStarted,
    place,
)
from actors.contracts.fold import fold_job
from actors.contracts.messages import Packed
from actors.projection.entry import Entry, entered
from tests.scribe import Note, an_origin, new_address

Happening = tuple[type[Envelope], dict[str, Any]]

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ORIGIN = an_origin()
FAILURE = Failure(type="RuntimeError", message="it broke")
CLAIM: dict[str, Any] = {"stage": "recite", "attempt": 1, "claim": "c", "worker": "w", "ack": "a"}


def log(*events: Happening) -> list[Record]:
    """A job's facts, one after the other."""
    address, records = new_address(), []
    for n, (kind, fields) in enumerate(events, 1):
        event = kind(**{"n": n, "by": "test", "at": NOW + timedelta(seconds=n), **fields})
        first, topic = place(event)
        records.append(Record(n, str(address.subject(first, topic)), event.encode()))
    return records


def give(stage: str, **more: Any) -> Happening:
    return HandOff, {"stage": stage, "origin": ORIGIN, "message": Packed.of(Note()), **more}


def test_after_every_fact_the_entry_is_what_the_fold_says() -> None:
    lives: list[list[Happening]] = [
        [give("prepare"), give("recite"), (StepStarted, CLAIM), (Completed, _ending(answer=Packed.of(Note())))],
        [
            give("recite"),
            (StepStarted, CLAIM),
            (StepFailed, {"claim": "c", "error": FAILURE, "retry_at": NOW}),
            give("recite", of=1),
            (StepStarted, CLAIM),
            (Failed, _ending(stage="recite", error=FAILURE)),
            (ReviewDiscarded, {"reason": "seen"}),
        ],
        [
            give("recite"),
            (StepStarted, CLAIM),
            (
                InputRequired,
                {"stage": "recite", "claim": "c", "key": "k", "question": "?", "expects": {}, "until": NOW},
            ),
            give("recite", of=1),
        ],
    ]
    for life in lives:
        entry: Entry | None = None
        records = log(*life)
        for at, record in enumerate(records, 1):
            entry, state = entered(entry, record), fold_job(records[:at])
            assert entry is not None
            assert state is not None
            assert (entry.status, entry.updated) == (state.status, state.updated), record
            assert (entry.pipeline, entry.created) == (state.origin.pipeline, state.origin.created)


def test_the_tail_of_a_log_is_enough_and_bytes_that_are_no_event_are_passed_over() -> None:
    whole = log(give("prepare"), give("recite"), (StepStarted, CLAIM), (Completed, _ending(answer=Packed.of(Note()))))
    assert (entry := entered(None, whole[3])) is not None
    assert entry.status == "completed"
    assert (entry := entered(None, whole[1])) is not None
    assert (entry.status, entry.stage) == ("running", "recite")
    assert entered(None, whole[2]) is None
    assert entered(entry, Record(9, whole[0].subject, b"{}")) == entry


def test_a_job_that_is_made_again_under_an_id_that_was_forgotten_begins_anew() -> None:
    done = log(give("recite"), (StepStarted, CLAIM), (Completed, _ending(answer=Packed.of(Note()))))
    entry: Entry | None = None
    for record in (*done, done[0]):
        entry = entered(entry, record)
    assert entry is not None
    assert entry.status == "queued"


def _ending(**fields: Any) -> dict[str, Any]:
    return {"origin": ORIGIN, **fields}
