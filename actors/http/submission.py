"""A submission: what a client sends to have a job done."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import from_json
from starlette.requests import Request

from actors.contracts.chain import digest
from actors.contracts.messages import Message
from actors.contracts.subjects import Lane, new_key
from actors.http.problem import BAD_KEY, BAD_MEDIA_TYPE, INVALID, MALFORMED, TOO_LARGE, Refusal, fault
from actors.pipeline import Pipeline

MAX_BODY = 1 << 20
MAX_FAULTS = 20
"""How many faults of one body are named."""

FAULTS_LOOKED_AT = 1_000
"""Listing the faults of a body that has more would take the memory of many bodies."""

_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")

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
    metadata: dict[Label, LabelValue] = Field(
        default_factory=dict, max_length=16, description="Whatever helps you find the job again; kept with it."
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A submission that fits, and the digest that says whether another one is the same."""

    submission: Submission
    fingerprint: str


class Form:
    """What a submission to one pipeline has to look like."""

    def __init__(self, pipeline: Pipeline, *, max_deadline: int) -> None:
        deadline = Submission.model_fields["deadline"]
        self.pipeline = pipeline
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
        try:
            said = from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise _malformed(str(error)) from None
        try:
            submission = self.model.model_validate_json(body)
        except ValidationError as error:
            raise self._misfit(error) from None
        return Asked(submission, self._fingerprint(submission, said["input"]))

    def _fingerprint(self, submission: Submission, said: Any) -> str:
        """Taken over the input as it was sent, so that a default that a new version adds makes it no other request."""
        whole = {
            "pipeline": self.pipeline.name,
            "input": said,
            "lane": submission.lane,
            "deadline": submission.deadline,
            "metadata": submission.metadata,
        }
        try:
            return digest(json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
        except ValueError:
            raise _malformed("a number in it is too large to be kept") from None

    def _misfit(self, error: ValidationError) -> Refusal:
        detail = f"Correct what `errors` names; GET /v1/pipelines has the schema of what {self.pipeline.name} takes."
        if error.error_count() > FAULTS_LOOKED_AT:
            return Refusal(INVALID, detail, errors=[fault((), f"{error.error_count()} values in it do not fit")])
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return Refusal(INVALID, detail, errors=[fault(e["loc"], e["msg"]) for e in found[:MAX_FAULTS]])


def key_of(request: Request) -> str:
    """The Idempotency-Key of a request, or a new one. Raises Refusal."""
    match request.headers.getlist("Idempotency-Key"):
        case []:
            return new_key()
        case [key] if _KEY.fullmatch(key):
            return key
    raise Refusal(BAD_KEY, "Send one Idempotency-Key of 1 to 255 printable ASCII characters, or none.")


async def body_of(request: Request) -> bytearray:
    """The body of a request, if it is JSON and not too large; no more than that is ever held. Raises Refusal."""
    _check_type(request)
    length = request.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > MAX_BODY:
        raise too_large()
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise too_large()
    return body


def too_large() -> Refusal:
    return Refusal(
        TOO_LARGE, f"A job may have {MAX_BODY:,} bytes. Keep large data elsewhere and send its address.", limit=MAX_BODY
    )


def too_deep() -> Refusal:
    """It is JSON, but wrapped into a message of the log it could not be read back."""
    return _malformed("it is nested too deeply")


def _malformed(why: str) -> Refusal:
    return Refusal(
        MALFORMED,
        f"The body cannot be read: {why}. Send one JSON object in UTF-8, without NaN, Infinity or lone surrogates, "
        "nested less than 200 deep.",
    )


def _check_type(request: Request) -> None:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise Refusal(BAD_MEDIA_TYPE, "Send it with Content-Type: application/json (with curl, --json instead of -d).")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refusal(BAD_MEDIA_TYPE, "Send the body uncompressed, without Content-Encoding.")
