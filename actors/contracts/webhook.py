"""A webhook: where a tenant wants to be told what becomes of its jobs, and what that is signed with."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from actors.contracts.carried import Carried

PREFIX = "whsec_"
"""What every secret begins with. Source: Standard Webhooks 1.0.0."""

SECRET_BYTES = 32
OVERLAP = timedelta(hours=24)
"""How long what a secret was rotated away from signs beside it, so that receivers can change over in their own time."""

MOST_SECRETS = 10
"""How many secrets sign at once; of more rotations in a day the oldest ends early."""

NativeEvent = Literal[
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "job.aborted",
    "job.dead_lettered",
    "job.input_required",
]
ResponseEvent = Literal["response.completed", "response.failed", "response.cancelled", "response.incomplete"]
"""What is told of a job that was made through OpenAI's API, in OpenAI's words."""

EventFilter = Literal[NativeEvent, ResponseEvent, "job.*", "response.*"]
"""The events that may be asked for: one by its name, or all of a kind."""

EVERYTHING: tuple[EventFilter, ...] = ("job.*", "response.*")

TEST = "webhook.test"
"""What is sent to try an endpoint; no filter holds it back."""

MOST_URL = 2_048

Url = Annotated[str, Field(min_length=1, max_length=MOST_URL)]


class Secret(Carried):
    """A secret as it is shown, and until when it signs; None: until it is rotated."""

    text: str
    until: datetime | None = None


class Secrets(Carried):
    """What deliveries are signed with, the newest first.

    They are kept as they are, because whoever signs has to have them: an HMAC knows no digest of its key.
    """

    each: tuple[Secret, ...]

    @classmethod
    def new(cls) -> Secrets:
        """A secret that nobody has."""
        return cls(each=(_new(),))

    @property
    def newest(self) -> str:
        return self.each[0].text

    def old_until(self, now: datetime) -> datetime | None:
        """Until when an older one signs too; None where none does."""
        return max((one.until for one in self.each[1:] if one.until and one.until > now), default=None)

    def rotated(self, now: datetime) -> Secrets:
        """The same with a new one; what signs now does so for `OVERLAP` more at most."""
        ends = now + OVERLAP
        older = [one if one.until else one.model_copy(update={"until": ends}) for one in self.each]
        good = [one for one in older if one.until and one.until > now]
        return self.model_copy(update={"each": (_new(), *good)[:MOST_SECRETS]})

    def sign(self, id: str, body: str, now: datetime) -> str:
        """The `webhook-signature` of a delivery that is sent now: one for each secret that is good, space-separated.

        Source: Standard Webhooks 1.0.0, symmetric signatures.
        """
        signed = f"{id}.{int(now.timestamp())}.{body}".encode()
        return " ".join(_signature(one.text, signed) for one in self.each if one.until is None or one.until > now)


class Endpoint(Carried):
    """What is kept of an endpoint. It is told of events that one of `events` fits, from when it was created on.

    While it is `disabled` it is told of nothing, and `why` says why. `fingerprint` is the digest of what was asked for
    when it was made.
    """

    url: str
    events: tuple[str, ...] = EVERYTHING
    description: str = ""
    secrets: Secrets
    created: datetime
    disabled: datetime | None = None
    why: str | None = None
    fingerprint: str | None = None

    def wants(self, event: str) -> bool:
        return self.disabled is None and fits(self.events, event)


class JobHook(Carried):
    """Where what becomes of one job is told, as it was said when the job was submitted."""

    url: str
    events: tuple[str, ...] = EVERYTHING

    def wants(self, event: str) -> bool:
        return fits(self.events, event)


def fits(filters: Iterable[str], event: str) -> bool:
    """Whether an event is among those that were asked for."""
    return any(one == event or (one.endswith(".*") and event.startswith(one[:-1])) for one in filters)


def _new() -> Secret:
    return Secret(text=PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
