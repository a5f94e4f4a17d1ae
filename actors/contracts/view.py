"""An event as the readers of a stream see it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from actors.contracts.envelope import Envelope
from actors.contracts.events import (
    Cancelled,
    CancelRequested,
    Completed,
    DeadLettered,
    Delta,
    Failed,
    HandOff,
    InputRequired,
    Outcome,
    Progress,
    ReviewDiscarded,
    ReviewRedriven,
    StepFailed,
    StepPart,
    StepReleased,
    StepStarted,
)


def kind_for_readers(event: Envelope | None) -> str:
    """The name that a stream gives an event: its kind, `gap` for one the log lost, `reset` where text became void."""
    match event:
        case None:
            return "gap"
        case StepStarted(reset=True):
            return "reset"
    return event.kind


def view(event: Envelope | None, *, first_n: int, n: int) -> str:
    """The JSON that readers get for the events `first_n` to `n`.

    Token ids, acknowledgement subjects, digests and inputs stay in the log; who may read them reads the log.
    """
    shown: dict[str, Any] = {"n": n}
    if event is None:
        return json.dumps({"n": n, "from": first_n, "to": n})
    shown["at"] = event.at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    match event:
        case HandOff():
            shown |= {"stage": event.stage, "type": event.message.type} | _told(event)
        case StepStarted():
            shown |= {"stage": event.stage, "attempt": event.attempt, "from": event.from_, "worker": event.worker}
        case StepFailed():
            shown |= {
                "error": {"type": event.error.type, "message": event.error.message},
                "retry_at": _moment(event.retry_at),
            }
        case StepReleased():
            shown |= {"reason": event.reason}
        case StepPart():
            shown |= {"key": event.key}
        case InputRequired():
            shown |= {"stage": event.stage, **question(event)}
        case CancelRequested(reason=str(reason)) | ReviewDiscarded(reason=reason):
            shown["reason"] = reason
        case ReviewRedriven():
            shown["to"] = event.to
        case Delta():
            shown |= {"stage": event.stage, "from": event.from_, "text": event.text}
            if event.finish_reason:
                shown["finish_reason"] = event.finish_reason
        case Progress():
            shown |= {"stage": event.stage, "message": event.message}
            shown |= {k: v for k, v in (("done", event.done), ("total", event.total)) if v is not None}
        case Outcome():
            shown |= _outcome(event)
    return json.dumps(shown, ensure_ascii=False)


def question(event: InputRequired) -> dict[str, Any]:
    """A question as people see it, wherever it is shown."""
    shown: dict[str, Any] = {"question": event.question, "expects": event.expects}
    if event.until:
        shown["until"] = _moment(event.until)
    if event.misfit:
        shown["misfit"] = event.misfit
    return shown


def _told(event: HandOff) -> dict[str, Any]:
    """That a question is over, or that the job is put off; the answer itself stays in the log, as inputs do."""
    shown: dict[str, Any] = {"start_at": _moment(event.start_at)} if event.start_at else {}
    if event.told:
        shown |= {"question": event.told.question, "timed_out": event.told.timed_out}
    return shown


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _outcome(event: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = {"usage": event.usage.model_dump()}
    match event:
        case Completed():
            shown["answer"] = event.answer.body
        case Cancelled(reason=str(reason)):
            shown["reason"] = reason
        case Failed():
            shown |= {"stage": event.stage, "error": {"type": event.error.type, "message": event.error.message}}
        case DeadLettered():
            shown |= {"stage": event.stage, "reason": event.reason}
            shown |= {"attempts": event.attempts, "crashes": event.crashes}
    return shown
