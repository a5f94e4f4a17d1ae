"""An entry: what the table says about one job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from actors.contracts.envelope import Fact
from actors.contracts.events import Completed, HandOff, InputRequired, NotAnEvent, Outcome, Record, StepStarted
from actors.contracts.fold import Status
from actors.contracts.subjects import Lane, Subject

OPEN: tuple[Status, ...] = ("queued", "running", "input_required")


@dataclass(frozen=True, slots=True)
class Entry:
    """A job in the list of jobs: the fold of its facts, as far as a list shows it."""

    tenant: str
    job: str
    pipeline: str
    lane: Lane
    status: Status
    stage: str | None
    created: datetime
    updated: datetime

    @property
    def has_ended(self) -> bool:
        return self.status not in OPEN


def entered(entry: Entry | None, record: Record) -> Entry | None:
    """What the table says after the next fact of a job; None while it cannot say anything."""
    try:
        event = record.event
    except NotAnEvent:
        return entry
    match event:
        case HandOff() | Outcome() if entry is None or event.n == 1:
            entry = _new(record, event)
        case Fact() if entry is not None:
            entry = replace(entry, updated=event.at)
    if entry is None or (entry.has_ended and not isinstance(event, Outcome)):
        return entry
    match event:
        case HandOff():
            goes_on = event.first_n > 1 or (event.n > 1 and entry.status != "queued")
            return replace(entry, status="running" if goes_on else "queued", stage=event.stage)
        case StepStarted():
            return replace(entry, status="running")
        case InputRequired():
            return replace(entry, status="input_required")
        case Outcome():
            stage = None if isinstance(event, Completed) else getattr(event, "stage", entry.stage)
            return replace(entry, status=_ended(event), stage=stage)
    return entry


def _new(record: Record, event: HandOff | Outcome) -> Entry:
    subject, origin = Subject.parse(record.subject), event.origin
    stage = event.stage if isinstance(event, HandOff) else None
    return Entry(
        subject.tenant, subject.job, origin.pipeline, subject.lane, "queued", stage, origin.created, updated=event.at
    )


def _ended(outcome: Outcome) -> Status:
    status: Status = outcome.kind  # type: ignore[assignment]  # an outcome's kind is the status of its job
    return status
