"""Dead letters as HTTP shows them; `actors/replies.py` reads them back."""

from __future__ import annotations

import json
from collections.abc import Sequence

from actors.contracts.envelope import Fact
from actors.contracts.errors import Failure
from actors.contracts.events import Record
from actors.contracts.letter import Letter
from actors.contracts.subjects import Subject
from actors.contracts.view import view
from actors.http.reports import Report, links


def summary(letter: Letter) -> Report:
    """A dead letter in a list."""
    event, newest = letter.event, letter.event.errors[-1:]
    return {
        "id": letter.job,
        "tenant": letter.address.tenant,
        "pipeline": event.origin.pipeline,
        "version": event.origin.version,
        "lane": Subject.parse(letter.record.subject).lane,
        "stage": event.stage,
        "created": event.origin.created,
        "died": event.at,
        "reason": event.reason,
        "error": {"type": newest[0].type, "message": newest[0].message} if newest else None,
        "attempts": event.attempts,
        "crashes": event.crashes,
        "review": letter.review,
        "redriven": letter.redriven,
        "discarded": letter.discarded.reason if letter.discarded else None,
        "links": links(letter.job) | {"dead_letter": f"/v1/dead-letters/{letter.job}"},
    }


def whole(letter: Letter, records: Sequence[Record]) -> Report:
    """All that is known of a dead letter; `records` are the job's messages as far as they are kept."""
    event = letter.event
    return summary(letter) | {
        "input": event.input.body,
        "type": event.input.type,
        "errors": [_error(error) for error in event.errors],
        "partial": event.partial,
        "cut": event.cut,
        "deliveries": event.deliveries,
        "deadline": event.origin.deadline,
        "usage": event.usage.model_dump(),
        "metadata": event.origin.metadata,
        "redriven_from": event.origin.redriven_from,
        "timeline": [_happened(r.event) for r in records if not r.is_text and isinstance(r.event, Fact)],
    }


def _error(error: Failure) -> Report:
    return {"type": error.type, "message": error.message, "trace": error.trace}


def _happened(event: Fact) -> Report:
    seen: Report = json.loads(view(event, first_n=event.n, n=event.n))
    return {"kind": event.kind, "by": event.by, **seen}
