"""A notice: what a webhook says about a job, by Standard Webhooks or in OpenAI's words."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from actors.contracts.envelope import Fact
from actors.contracts.events import Cancelled, Completed, InputRequired, Origin, Outcome
from actors.contracts.webhook import TEST

RESPONSES = "responses"
"""The `door` of jobs that were made as responses of OpenAI's API; of all others it is told in our own words."""

RESPONSE_ID = "resp_"
"""How the id of a response begins; its job's follows."""

MOST_BYTES = 20_000
"""What a receiver may expect at most. Source: Standard Webhooks 1.0.0, payload size."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is said: the event's name, and the body of every delivery of it, as it is signed."""

    event: str
    body: str


def notice(event: Fact, origin: Origin, job: str, of: str) -> Notice | None:
    """What is said about an outcome or a question; None for what nobody is told of. `of` is the fact's digest."""
    match event:
        case Outcome() if origin.door == RESPONSES:
            return _in_openais_words(event, job, of)
        case Outcome():
            return _native(event, f"job.{event.kind}", event.kind, origin, job)
        case InputRequired():
            return _native(event, "job.input_required", "input_required", origin, job, question=event.n)
    return None


def trial(endpoint: str, now: datetime) -> Notice:
    """What is said to try an endpoint."""
    told = {"type": TEST, "timestamp": _moment(now), "data": {"endpoint": endpoint}}
    return Notice(TEST, _written(told))


def delivery_id(of: str, endpoint: str) -> str:
    """The `webhook-id` under which an endpoint is told of something: the same however often it is told.

    `of` is the digest of what it is told of.
    """
    return f"msg_{_short(f'{of} {endpoint}')}"


def _native(event: Fact, name: str, status: str, origin: Origin, job: str, **more: int) -> Notice:
    data: dict[str, Any] = {
        "id": job,
        "status": status,
        "pipeline": origin.pipeline,
        **more,
        "links": {"self": f"/v1/jobs/{job}", "events": f"/v1/events/{job}"},
    }
    told = {"type": name, "timestamp": _moment(event.at), "data": data | {"metadata": origin.metadata}}
    body = _written(told)
    if len(body.encode()) > MOST_BYTES:  # it is with the job, for whoever asks
        body = _written(told | {"data": data})
    return Notice(name, body)


def _in_openais_words(outcome: Outcome, job: str, of: str) -> Notice:
    name = f"response.{_response_status(outcome)}"
    told = {
        "id": f"evt_{_short(of)}",
        "object": "event",
        "created_at": int(outcome.at.timestamp()),
        "type": name,
        "data": {"id": RESPONSE_ID + job},
    }
    return Notice(name, _written(told))


def _response_status(outcome: Outcome) -> str:
    match outcome:
        case Completed(answer=answer):
            return "incomplete" if answer.body.get("finish_reason") == "length" else "completed"
        case Cancelled():
            return "cancelled"
    return "failed"


def _written(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _short(said: str) -> str:
    return base64.b32encode(hashlib.sha256(said.encode()).digest()[:17])[:26].decode().lower()
