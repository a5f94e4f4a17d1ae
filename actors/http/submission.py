"""A submission: what a client sends to have a job done."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from starlette.requests import Request

from actors.contracts.chain import digest
from actors.contracts.messages import Message
from actors.contracts.subjects import Lane, new_key
from actors.http.body import json_in, malformed, misfit
from actors.http.hook_wishes import JobWebhook, expect_https
from actors.http.problem import BAD_KEY, INVALID, Refusal, fault
from actors.pipeline import Pipeline

_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)
"""However it was sent, the same request is the same bytes."""


def _written_out(value: object) -> object:
    """A number is not to be taken for a time."""
    if isinstance(value, int | float) or (isinstance(value, str) and "T" not in value.upper()):
        raise ValueError("write a time as 2026-11-25T08:00:00Z")
    return value


LONGEST_DELAY_S = 10**9
"""What is longer is no time that this calendar has; what is too long for a deadline is refused by that."""

Delay = Annotated[int, Field(strict=True, ge=0, le=LONGEST_DELAY_S)]
Moment = Annotated[AwareDatetime, BeforeValidator(_written_out)]
Label = Annotated[str, Field(min_length=1, max_length=64)]
LabelValue = Annotated[str, Field(max_length=512)]


class Submission(BaseModel):
    """A job to be done: the pipeline's input, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Message
    lane: Lane = Field(default="standard", description="Who goes first: interactive, then standard, then batch.")
    deadline: int | None = Field(
        default=None, description="Whole seconds from acceptance to the outcome at the latest."
    )
    start_after: Delay | Moment | None = Field(
        default=None,
        description="Not to begin before: whole seconds from acceptance, or a time such as 2026-11-25T08:00:00Z. "
        "Without a `deadline`, the usual one counts from there.",
    )
    metadata: dict[Label, LabelValue] = Field(
        default_factory=dict, max_length=16, description="Whatever helps you find the job again; kept with it."
    )

    webhook: JobWebhook | None = Field(
        default=None, description="Where it is told what becomes of this job, beside the tenant's own webhooks."
    )

    def times(self, accepted: datetime, *, deadline: int, longest: int) -> Times:
        """When the job begins, and when it must have its outcome, in seconds from acceptance where they are given.

        `deadline` is for those that name none. Raises Refusal when it would begin too late.
        """
        match self.start_after:
            case int(seconds):
                start_at = accepted + timedelta(seconds=seconds)
            case other:
                start_at = max(accepted, other or accepted)
        latest = accepted + timedelta(seconds=longest)
        if self.deadline:
            latest = accepted + timedelta(seconds=self.deadline)
        elif start_at < latest:
            latest = min(latest, start_at + timedelta(seconds=deadline))
        if start_at >= latest:
            within = f"within {self.deadline or longest:,} s, which is its deadline"
            raise Refusal(
                INVALID,
                "Let it start earlier, or give it a later `deadline`.",
                errors=[fault(("start_after",), f"it must start {within}")],
            )
        return Times(start_at if start_at > accepted else None, latest)


@dataclass(frozen=True, slots=True)
class Times:
    """When a job begins, None for at once, and when it must have its outcome."""

    start_at: datetime | None
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Asked:
    """A submission that fits, the digest that says whether another one is the same, and its size in bytes.

    `door` is which of OpenAI's ways it came by, if any.
    """

    submission: Submission
    fingerprint: str
    size: int
    door: str | None = None


class Form:
    """What a submission to one pipeline has to look like."""

    def __init__(self, pipeline: Pipeline, *, max_deadline: int, allow_http: bool = False) -> None:
        deadline = Submission.model_fields["deadline"]
        self.pipeline = pipeline
        self._allow_http = allow_http
        self.model: type[Submission] = create_model(
            f"A job for {pipeline.name}",
            __base__=Submission,
            input=(pipeline.input, Field(description=f"What {pipeline.name} takes.")),
            deadline=(
                Annotated[int, Field(strict=True, ge=1, le=max_deadline)] | None,
                Field(default=None, description=deadline.description),
            ),
        )

    def read(self, body: bytes | bytearray) -> Asked:
        """The submission in a body. Raises Refusal: 400 when it is not JSON, 422 when it does not fit."""
        said = json_in(body)
        try:
            submission = self.model.model_validate_json(body)
        except ValidationError as error:
            raise misfit(error, self._advice) from None
        if submission.webhook:
            expect_https(submission.webhook.url, allow_http=self._allow_http, within="webhook")
        return Asked(submission, self._fingerprint(submission, said["input"], said.get("start_after")), len(body))

    def _fingerprint(self, submission: Submission, said: Any, start_after: Any) -> str:
        """Taken over the input as it was sent, so that a default that a new version adds makes it no other request."""
        whole = {
            "pipeline": self.pipeline.name,
            "input": said,
            "lane": submission.lane,
            "deadline": submission.deadline,
            "metadata": submission.metadata,
        }
        if submission.start_after is not None:
            whole["start_after"] = start_after
        if submission.webhook is not None:
            whole["webhook"] = submission.webhook.model_dump(mode="json")
        try:
            return digest(_CANONICAL.encode(whole).encode())
        except ValueError:
            raise malformed("a number in it is too large to be kept") from None

    @property
    def _advice(self) -> str:
        return f"Correct what `errors` names; GET /v1/pipelines has the schema of what {self.pipeline.name} takes."


def key_of(request: Request) -> str:
    """The Idempotency-Key of a request, or a new one. Raises Refusal."""
    match request.headers.getlist("Idempotency-Key"):
        case []:
            return new_key()
        case [key] if _KEY.fullmatch(key):
            return key
    raise Refusal(BAD_KEY, "Send one Idempotency-Key of 1 to 255 printable ASCII characters, or none.")
