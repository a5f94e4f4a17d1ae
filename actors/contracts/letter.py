"""A dead letter, and what people did about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from actors.contracts.errors import Failure
from actors.contracts.events import DeadLettered, Record, ReviewDiscarded, ReviewRedriven
from actors.contracts.subjects import Address, Subject

Review = Literal["open", "redriven", "discarded"]

PARTIAL_KEPT = 192 * 1024
ERRORS_KEPT = 64 * 1024
"""What a dead letter keeps of the partial output and of the chain of errors, in bytes of JSON: 256 KiB together."""


@dataclass(frozen=True, slots=True)
class Letter:
    """The outcome of a job that used up its budget. `redriven` are the jobs that were made of it, in order."""

    record: Record
    event: DeadLettered
    redriven: tuple[str, ...] = ()
    discarded: ReviewDiscarded | None = None

    @property
    def address(self) -> Address:
        return Subject.parse(self.record.subject).address

    @property
    def job(self) -> str:
        return self.address.job

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


class Remains(NamedTuple):
    """What a dead letter has room for of a job's errors and of what it said; `cut` says that there was more."""

    errors: tuple[Failure, ...]
    partial: str
    cut: bool


def remains_of(errors: tuple[Failure, ...], said: str) -> Remains:
    """The newest errors and the beginning of the text, as much of each as is kept; the last error always."""
    kept, partial = _newest(errors), _beginning(said, PARTIAL_KEPT)
    return Remains(kept, partial, len(kept) < len(errors) or len(partial) < len(said))


def _newest(errors: tuple[Failure, ...]) -> tuple[Failure, ...]:
    """The newest errors that fit; the last one always."""
    size, first = 0, len(errors)
    while first > 0:
        size += len(errors[first - 1].model_dump_json())
        if size > ERRORS_KEPT and first < len(errors):
            break
        first -= 1
    return errors[first:]


def _beginning(text: str, most: int) -> str:
    """The beginning of a text that takes up at most so many bytes as JSON."""
    kept = text[:most]
    while (size := len(json.dumps(kept, ensure_ascii=False).encode())) > most:
        kept = kept[: len(kept) * most // size]
    return kept
