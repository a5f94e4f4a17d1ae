"""Webhooks as HTTP shows them; `actors/replies.py` reads them back."""

from __future__ import annotations

from datetime import datetime

from actors.contracts.delivery import Attempt, Delivery
from actors.contracts.webhook import Endpoint, Secrets
from actors.http.reports import Report


def endpoint(id: str, known: Endpoint, now: datetime) -> Report:
    """An endpoint, without its secret."""
    return {
        "id": id,
        "url": known.url,
        "events": known.events,
        "description": known.description,
        "created": known.created,
        "disabled": known.disabled,
        "why": known.why,
        "old_secret_until": known.secrets.old_until(now),
        "links": {"self": f"/v1/webhooks/{id}", "deliveries": f"/v1/webhooks/{id}/deliveries"},
    }


def secret(known: Secrets, now: datetime) -> Report:
    """A secret, for those who are to know it."""
    return {"secret": known.newest, "old_secret_until": known.old_until(now)}


def delivery(known: Delivery) -> Report:
    """A delivery, with every attempt that is kept. What was said is with the job, not here."""
    return {
        "id": known.id,
        "event": known.event,
        "job": known.job,
        "url": known.url,
        "status": known.status,
        "reason": known.reason,
        "created": known.created,
        "due": known.due,
        "attempts": [_attempt(one) for one in known.attempts],
    }


def _attempt(known: Attempt) -> Report:
    return {"at": known.at, "took": known.took, "status": known.status, "error": known.error}
