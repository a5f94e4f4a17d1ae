"""A delivery: one event on its way to one endpoint, with all that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from actors.contracts.carried import Carried
from actors.contracts.envelope import Instant

Status = Literal["pending", "delivered", "failed"]

SCHEDULE: tuple[float, ...] = (0.0, 5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""How long after the attempt before each is made, in seconds. Source: Standard Webhooks 1.0.0, retry schedule."""

JITTER = 0.1
"""A pause is longer by up to so much of it, so that what failed together does not come back together."""

MOST_ATTEMPTS = 50
"""How many attempts are kept, of one that people replay again and again."""

EXHAUSTED = "it was tried as often as it may be"


class Attempt(Carried):
    """One try: when it began, how many seconds it took, and what was answered, or went wrong."""

    at: Instant
    took: float
    status: int | None = None
    error: str | None = None

    @property
    def succeeded(self) -> bool:
        """Only 2xx counts; a redirect is an answer like any other."""
        return self.status is not None and 200 <= self.status < 300


class Delivery(Carried):
    """What is kept of a delivery. Its `id` is the `webhook-id`, and its `body` is what is signed, at every attempt.

    `url` is that of a job's own webhook; an endpoint's stands with the endpoint. It is tried when it is `due`, `tries`
    times since it was made or replayed. Once it has ended, `reason` says why it is not delivered.
    """

    v: int = 1
    id: str
    event: str
    job: str | None = None
    url: str | None = None
    body: str
    created: Instant
    due: Instant | None = None
    tries: int = 0
    status: Status = "pending"
    reason: str | None = None
    attempts: tuple[Attempt, ...] = ()

    def tried(self, attempt: Attempt, schedule: Sequence[float], *, luck: float, least: float = 0.0) -> Delivery:
        """What it is after an attempt: delivered, due again, or failed for good.

        `luck`, from 0 to 1, is how much of the jitter the pause gets; `least`, in seconds, is what the
        receiver asks for.
        """
        known = self._with(attempt, tries=self.tries + 1)
        if attempt.succeeded:
            return known.model_copy(update={"status": "delivered", "due": None})
        if known.tries >= len(schedule):
            return known.ended(EXHAUSTED)
        pause = max(schedule[known.tries] * (1 + JITTER * luck), least)
        return known.model_copy(update={"due": attempt.at + timedelta(seconds=attempt.took + pause)})

    def refused(self, attempt: Attempt, reason: str) -> Delivery:
        """What it is after an attempt that no other would better."""
        return self._with(attempt, tries=self.tries + 1).ended(reason)

    def ended(self, reason: str) -> Delivery:
        """It is not tried any more."""
        return self.model_copy(update={"status": "failed", "due": None, "reason": reason})

    def replayed(self, now: datetime) -> Delivery:
        """The same once more, from the first attempt on, under the same id."""
        return self.model_copy(update={"status": "pending", "due": now, "tries": 0, "reason": None})

    def _with(self, attempt: Attempt, *, tries: int) -> Delivery:
        kept = (*self.attempts, attempt)[-MOST_ATTEMPTS:]
        return self.model_copy(update={"attempts": kept, "tries": tries})
