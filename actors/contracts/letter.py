"""A dead letter, and what people did about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from actors.contracts.events import DeadLettered, Record, ReviewDiscarded, ReviewRedriven
from actors.contracts.subjects import Subject

Review = Literal["open", "redriven", "discarded"]


@dataclass(frozen=True, slots=True)
class Letter:
    """The outcome of a job that used up its budget. `redriven` are the jobs that were made of it, in order."""

    record: Record
    event: DeadLettered
    redriven: tuple[str, ...] = ()
    discarded: ReviewDiscarded | None = None

    @property
    def job(self) -> str:
        return Subject.parse(self.record.subject).job

    @property
    def review(self) -> Review:
        """Where it stands: a discard is the last word."""
        return "discarded" if self.discarded else "redriven" if self.redriven else "open"


def fold_letter(records: Sequence[Record]) -> Letter | None:
    """The dead letter among a job's messages; None when the job did not end so."""
    letter = next((r for r in records if not r.is_text and isinstance(r.event, DeadLettered)), None)
    if letter is None or not isinstance(letter.event, DeadLettered):
        return None
    events = [r.event for r in records if r.seq > letter.seq]
    return Letter(
        record=letter,
        event=letter.event,
        redriven=tuple(dict.fromkeys(e.to for e in events if isinstance(e, ReviewRedriven))),
        discarded=next((e for e in events if isinstance(e, ReviewDiscarded)), None),
    )
