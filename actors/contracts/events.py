"""Every kind of message there is in the log."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from actors.contracts.carried import Carried
from actors.contracts.envelope import Envelope, Fact, Instant
from actors.contracts.errors import Failure, HeadraceError
from actors.contracts.generation import FinishReason, JsonSchema, Usage
from actors.contracts.messages import Packed
from actors.contracts.subjects import ASK, DEAD, PUT_OFF, Kind
from actors.contracts.webhook import JobHook


class Origin(Carried):
    """What was asked for, repeated in every hand-off and outcome so that the fold of any tail is valid.

    `fingerprint` is the digest of the canonical request; `deadline` is when the job must have its outcome;
    `redriven_from` is the dead letter that it was made of; `door` is which of OpenAI's ways it came by, if any;
    `webhook` is told what becomes of it.
    """

    pipeline: str
    version: str
    fingerprint: str
    created: Instant
    deadline: Instant
    metadata: dict[str, str] = Field(default_factory=dict)
    redriven_from: str | None = None
    door: str | None = None
    webhook: JobHook | None = None


class Told(BaseModel):
    """What a step is told about a question that it asked: the answer, or that nobody gave one in time.

    `question` is the number of the event that asked, `key` its name within the step.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    question: int
    key: str
    answer: JsonValue = None
    timed_out: bool = False


class HandOff(Fact):
    """This job's next message is for the stage of this topic.

    `of` is set when the same step is given out again: the number of the step's first hand-off, where its fold begins.
    `told` is why, where that was a question. `text` is the digest of the text that the step before this one said. With
    `start_at` it is for nobody yet: it stands aside, and is given out again when that time has come.
    """

    TOPIC: ClassVar[str] = ""
    kind: Literal["handoff"] = "handoff"
    stage: str
    of: int | None = None
    origin: Origin
    message: Packed
    usage: Usage = Usage()
    text: str | None = None
    told: Told | None = None
    start_at: Instant | None = None

    @property
    def first_n(self) -> int:
        """The event number at which this hand-off's step began."""
        return self.of or self.n


class StepStarted(Fact):
    """A worker took the hand-off. After this claim only it writes, except `cancel.requested` and an outcome.

    `ack` is the subject on which its delivery is acknowledged; `from` counts the tokens it goes on from. With `reset`,
    what the step said before is void.
    """

    TOPIC: ClassVar[str] = "step"
    kind: Literal["step.started"] = "step.started"
    stage: str
    attempt: int
    claim: str
    worker: str
    ack: str
    from_: int = Field(default=0, validation_alias="from", serialization_alias="from")
    reset: bool = False
    model: str | None = None


class StepFailed(Fact):
    """An attempt failed and will be tried again, not before `retry_at`. It generated `wasted` tokens for nothing."""

    TOPIC: ClassVar[str] = "step"
    kind: Literal["step.failed"] = "step.failed"
    claim: str
    error: Failure
    retry_at: Instant
    wasted: int | None = None


class StepReleased(Fact):
    """A worker handed the step back unfinished; this costs no budget. It generated `wasted` tokens for nothing."""

    TOPIC: ClassVar[str] = "step"
    kind: Literal["step.released"] = "step.released"
    claim: str
    reason: str
    wasted: int | None = None


class StepPart(Fact):
    """A piece of a step's work that is never done again: what `job.once(key, …)` returned, and what it used."""

    TOPIC: ClassVar[str] = "step"
    kind: Literal["step.part"] = "step.part"
    key: str
    value: JsonValue = None
    type: str | None = None
    usage: Usage = Usage()


class InputRequired(Fact):
    """The step asks a person, and goes on when it is told. Until then nobody runs it; this costs no budget.

    `expects` is the JSON schema of an answer, `until` the time up to which one is taken. `misfit` says why the answer
    to the same question before was none. The attempt that asks has generated `wasted` tokens for nothing.
    """

    TOPIC: ClassVar[str] = ASK
    kind: Literal["input.required"] = "input.required"
    stage: str
    claim: str
    key: str
    question: str
    expects: JsonSchema
    until: Instant | None = None
    misfit: str | None = None
    wasted: int | None = None


class CancelRequested(Fact):
    """Somebody wants a running job to stop; only an outcome may follow."""

    TOPIC: ClassVar[str] = "step"
    kind: Literal["cancel.requested"] = "cancel.requested"
    reason: str | None = None


class Outcome(Fact):
    """How a job ended. There is exactly one, and only `review.*` may follow it."""

    TOPIC: ClassVar[str] = "done"
    origin: Origin
    usage: Usage = Usage()
    text: str | None = None


class Completed(Outcome):
    """The job has its answer."""

    kind: Literal["completed"] = "completed"
    answer: Packed


class Failed(Outcome):
    """The job cannot succeed: a stage said so, or its output cannot be stored."""

    kind: Literal["failed"] = "failed"
    stage: str
    error: Failure


class Cancelled(Outcome):
    """Somebody asked for it."""

    kind: Literal["cancelled"] = "cancelled"
    reason: str | None = None


class Expired(Outcome):
    """The deadline passed after work on it had begun."""

    kind: Literal["expired"] = "expired"


class Aborted(Outcome):
    """The deadline passed before anybody began."""

    kind: Literal["aborted"] = "aborted"


class DeadLettered(Outcome):
    """A budget is used up; a person decides. Complete in itself: input, error chain, attempts, partial output."""

    TOPIC: ClassVar[str] = DEAD
    kind: Literal["dead_lettered"] = "dead_lettered"
    stage: str
    reason: str
    input: Packed
    errors: tuple[Failure, ...] = ()
    attempts: int
    crashes: int
    deliveries: int
    partial: str = ""
    cut: bool = False


class ReviewRedriven(Fact):
    """A person gave a dead letter another life, as the job `to`."""

    TOPIC: ClassVar[str] = "review"
    kind: Literal["review.redriven"] = "review.redriven"
    to: str


class ReviewDiscarded(Fact):
    """A person looked at a dead letter and let it be."""

    TOPIC: ClassVar[str] = "review"
    kind: Literal["review.discarded"] = "review.discarded"
    reason: str


class Text(Envelope):
    """What is said on the way: it expires, is not audited, and may be forgotten once the job is done."""

    stage: str


class Delta(Text):
    """Generated text with its token ids. `from` is the place of the first of them in the step's generation.

    The last delta carries `finish_reason`, so that a resume that finds it calls no engine.
    """

    kind: Literal["delta"] = "delta"
    text: str
    tokens: tuple[int, ...]
    from_: int = Field(validation_alias="from", serialization_alias="from")
    finish_reason: FinishReason | None = None


class Progress(Text):
    """What a stage is doing, for a reader."""

    kind: Literal["progress"] = "progress"
    message: str
    done: int | None = None
    total: int | None = None


class Unknown(Envelope):
    """A kind that a newer version writes: it has its number and its place, and is passed over."""


Event = (
    HandOff
    | StepStarted
    | StepFailed
    | StepReleased
    | StepPart
    | InputRequired
    | CancelRequested
    | Completed
    | Failed
    | Cancelled
    | Expired
    | Aborted
    | DeadLettered
    | ReviewRedriven
    | ReviewDiscarded
    | Delta
    | Progress
)

_EVENTS: TypeAdapter[Any] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


class NotAnEvent(HeadraceError):
    """Bytes in the log that are no event of any version; they are kept, and a person should look."""


def parse(data: bytes) -> Envelope:
    """The event in stored bytes; `Unknown` for a kind of a newer version. Raises NotAnEvent."""
    try:
        event: Envelope = _EVENTS.validate_json(data)
        return event
    except ValidationError as error:
        if any(e["type"] == "union_tag_invalid" for e in error.errors(include_url=False)):
            try:
                return Unknown.model_validate_json(data)
            except ValidationError:
                pass
        raise NotAnEvent(f"these {len(data)} bytes are no event: {_faults(error)}") from None


def _faults(error: ValidationError) -> str:
    """The first things that are wrong, without what was there instead: that may be somebody's prompt."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'all of it'}: {fault['msg']}" for fault in found[:3])


def place(event: Envelope) -> tuple[Kind, str]:
    """The kind and the topic of the subject that an event is stored on."""
    match event:
        case HandOff(start_at=None, stage=stage):
            return "job", stage
        case HandOff():
            return "job", PUT_OFF
        case Text(stage=stage):
            return "text", stage
        case Fact():
            topic: str = type(event).TOPIC  # type: ignore[attr-defined]  # every fact but a hand-off names its topic
            return "job", topic
    raise NotAnEvent(f"an event of kind {event.kind!r} has no subject")


class Record:
    """An event as the log holds it: its stream sequence, its subject, when it was stored, and its bytes."""

    __slots__ = ("__dict__", "data", "seq", "stored_at", "subject")

    def __init__(self, seq: int, subject: str, data: bytes, stored_at: datetime | None = None) -> None:
        self.seq = seq
        self.subject = subject
        self.data = data
        self.stored_at = stored_at

    @cached_property
    def event(self) -> Envelope:
        """Raises NotAnEvent."""
        return parse(self.data)

    @property
    def is_text(self) -> bool:
        return self.subject.startswith("text.")

    def __repr__(self) -> str:
        return f"Record({self.seq}, {self.subject!r}, {self.data[:80]!r})"
