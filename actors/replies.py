"""What the server says over HTTP, as values: this is what the clients hand out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from actors.contracts.envelope import Instant
from actors.contracts.fold import Status
from actors.contracts.generation import FinishReason, JsonSchema, Usage
from actors.contracts.subjects import Lane


class Reply(BaseModel):
    """Anything the server says. What a newer server adds is kept, so that it is still there in `model_dump_json()`."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)


class Trouble(Reply):
    """An error as a job's log keeps it."""

    type: str
    message: str

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class Problem(Reply):
    """Why a request was refused (RFC 9457)."""

    type: str = "about:blank"
    title: str = ""
    status: int
    detail: str = ""
    errors: tuple[str | dict[str, Any], ...] = ()
    known: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One sentence for a person, with every single fault in it, and with the names that would have been known."""
        said = (self.detail or self.title or f"the server answered {self.status}").rstrip(".")
        faults = [text for text in map(_fault, self.errors) if text not in said]
        known = [name for name in self.known if name not in said]
        said += f": {'; '.join(faults)}" if faults else ""
        return said + (f"; there are: {', '.join(known)}" if known else "")


def _fault(fault: str | dict[str, Any]) -> str:
    """One of a problem's `errors`: as it is, or `where: what` out of an object."""
    if isinstance(fault, str):
        return fault
    where = fault.get("pointer") or fault.get("loc") or ""
    what = fault.get("detail") or fault.get("msg") or fault.get("message") or ""
    place = ".".join(map(str, where)) if isinstance(where, list | tuple) else str(where)
    return ": ".join(part for part in (place, str(what)) if part) or str(fault)


class Accepted(Reply):
    """A job that is stored: it will reach its outcome, whatever becomes of this client.

    `waits_until` is the time until which it is put off, or until which it may be answered.
    """

    id: str
    status: Status
    pipeline: str
    version: str
    lane: Lane
    created: Instant
    deadline: Instant
    waits_until: Instant | None = None
    links: dict[str, str] = Field(default_factory=dict)


class Question(Reply):
    """What a job asks a person. An answer names its `id`, and fits `expects`, a JSON schema.

    After `until` nobody is asked any more. `misfit` says why the answer before was none.
    """

    id: int
    question: str
    expects: JsonSchema = Field(default_factory=dict)
    until: Instant | None = None
    misfit: str | None = None


class Job(Accepted):
    """A job as it stands. `text` is what it has said so far, `answer` the body of its answer once it is completed.

    `cancelling` says that it was asked to stop and its worker has not ended it yet. `question` is what it asks.
    """

    cancelling: bool = False
    updated: Instant
    stage: str | None = None
    attempts: int = 0
    question: Question | None = None
    reason: str | None = None
    text: str | None = None
    answer: dict[str, Any] | None = None
    error: Trouble | None = None
    usage: Usage = Usage()
    metadata: dict[str, str] = Field(default_factory=dict)
    redriven_from: str | None = None

    @property
    def ended(self) -> bool:
        return self.status not in ("queued", "running", "input_required")


class JobSummary(Reply):
    """A job in the list of jobs; `updated` is the time of its last fact."""

    id: str
    status: Status
    pipeline: str
    lane: Lane
    stage: str | None = None
    created: Instant
    updated: Instant
    links: dict[str, str] = Field(default_factory=dict)


class JobPage(Reply):
    """Some jobs, the newest first. `next` is where the next page begins; None when there is none.

    `behind` is how many facts of the log the list does not know yet; None when nobody can say.
    """

    jobs: tuple[JobSummary, ...]
    next: str | None = None
    behind: int | None = None


class DeadLetterSummary(Reply):
    """A job that used up its budget, and what people did about it: `redriven` are the jobs that were made of it."""

    id: str
    pipeline: str
    version: str
    lane: Lane
    stage: str
    created: Instant
    died: Instant
    reason: str
    tenant: str | None = None
    error: Trouble | None = None
    attempts: int
    crashes: int
    review: Literal["open", "redriven", "discarded"]
    redriven: tuple[str, ...] = ()
    discarded: str | None = None
    links: dict[str, str] = Field(default_factory=dict)


class LogEntry(Reply):
    """One message of a job's log as it is stored: where, when, and what; a text where that is no JSON."""

    sequence: int
    subject: str
    stored: Instant
    event: dict[str, Any] | str


class Traced(Trouble):
    """An error with where it was raised."""

    trace: str = ""


class Happening(Reply):
    """A fact of a job's log, by its number, its kind and its writer."""

    n: int
    kind: str
    by: str
    at: Instant


class DeadLetter(DeadLetterSummary):
    """All that is known of a dead letter. With `cut`, some of `errors` or `partial` did not fit into it.

    `input`, of the wire name `type`, is what the stage that failed was given; a redrive begins there.
    """

    input: dict[str, Any]
    type: str
    errors: tuple[Traced, ...] = ()
    partial: str = ""
    cut: bool = False
    deliveries: int = 0
    deadline: Instant
    usage: Usage = Usage()
    metadata: dict[str, str] = Field(default_factory=dict)
    redriven_from: str | None = None
    timeline: tuple[Happening, ...] = ()


class DeadLetterPage(Reply):
    """Some dead letters, the oldest first. `next` is where the next page begins; None when there is none."""

    dead_letters: tuple[DeadLetterSummary, ...]
    next: str | None = None


class Webhook(Reply):
    """Where a tenant is told of `events`. While it is `disabled` nothing is sent, and `why` says why.

    Until `old_secret_until` what was signed before a rotation verifies too.
    """

    id: str
    url: str
    events: tuple[str, ...]
    description: str = ""
    created: Instant
    disabled: Instant | None = None
    why: str | None = None
    old_secret_until: Instant | None = None
    links: dict[str, str] = Field(default_factory=dict)


class NewWebhook(Webhook):
    """One that was just made, with the secret that its deliveries are verified with."""

    secret: str


class WebhookSecret(Reply):
    """What deliveries are verified with."""

    secret: str
    old_secret_until: Instant | None = None


class DeliveryAttempt(Reply):
    """One try of a delivery: how many seconds it took, and what was answered, or went wrong."""

    at: Instant
    took: float
    status: int | None = None
    error: str | None = None


class Delivery(Reply):
    """One event on its way to a webhook, under this `webhook-id` at every attempt; it is tried next when it is due."""

    id: str
    event: str
    job: str | None = None
    url: str | None = None
    status: Literal["pending", "delivered", "failed"]
    reason: str | None = None
    created: Instant
    due: Instant | None = None
    attempts: tuple[DeliveryAttempt, ...] = ()


class DeliveryPage(Reply):
    """Some deliveries, those first that changed longest ago. `next` is where the next page begins; None at the end."""

    deliveries: tuple[Delivery, ...]
    next: str | None = None


class WebhooksReport(Reply):
    """How far webhooks are: outcomes that are still to be told, and deliveries that have not ended; None: unknown."""

    behind: int | None = None
    waiting: int | None = None


class Route(Reply):
    """A message type on its way: from the stage that gives it (None: the input) to the one that takes it (None)."""

    giver: str | None = None
    message: str
    taker: str | None = None


class PipelineReport(Reply):
    """A pipeline that takes jobs, with the JSON schemas of what it takes and what it answers.

    `finishing` are older versions of it, which finish the jobs that began on them and take no new ones.
    """

    name: str
    version: str
    input: JsonSchema
    answer: JsonSchema
    stages: tuple[str | dict[str, Any], ...] = ()
    routes: tuple[Route, ...] = ()
    finishing: tuple[str, ...] = ()

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(stage if isinstance(stage, str) else str(stage.get("stage", stage)) for stage in self.stages)

    @property
    def text_field(self) -> str | None:
        """The input's field that mere text can stand for: the one that is required, or else the only one of text."""
        texts = [name for name, field in self.input.get("properties", {}).items() if field.get("type") == "string"]
        candidates = self.input.get("required") or texts
        return candidates[0] if len(candidates) == 1 and candidates[0] in texts else None


class Backlog(Reply):
    """Jobs that wait and jobs that run. `oldest_age_s` is how long the oldest has been waiting, None when none is."""

    waiting: int = 0
    running: int = 0
    oldest_age_s: float | None = None


class Replica(Reply):
    """One of a stage's equal actors; `detail` says what it is doing, or why it cannot, and `for_s` how long already.

    `done` is how far it is with that, from 0 to 1, where it is known. A `spare` is loaded and stands by for one that is
    lost; an `overflow` has no GPU, and helps where jobs have waited too long.
    """

    worker: str
    state: Literal["starting", "loading", "ready", "draining", "failed"]
    role: Literal["regular", "spare", "overflow"] = "regular"
    detail: str | None = None
    done: float | None = None
    for_s: float | None = None
    jobs: int = 0
    free: int | None = None


class Scaling(Reply):
    """How many replicas a stage may have, how many it is to have, and why; `wanted` is None when nobody can say.

    `spare` of them are beyond what the load needs. Those of an overflow are not counted here.
    """

    min: int
    max: int
    wanted: int | None = None
    reason: str = ""
    spare: int = 0


class UnknownVersion(Reply):
    """A version that the replicas of a stage do not know, and how many jobs, about, wait for one that does."""

    pipeline: str
    version: str
    jobs: int


class StageReport(Backlog):
    """A stage's lag, as a whole and per lane, its replicas, and what was decided on their number.

    `tokens_waiting` is about how many tokens of work wait, prompts and what is generated; None where nobody can say, or
    the stage declares no `tokens_per_replica`. `unknown` are versions that its replicas do not know: their jobs wait,
    and count as running. `note` says what is to be done about a stage that no pipeline has any more.
    """

    stage: str
    pipelines: tuple[str, ...] = ()
    lanes: dict[str, Backlog] = Field(default_factory=dict)
    replicas: tuple[Replica, ...] = ()
    scaling: Scaling | None = None
    tokens_waiting: int | None = None
    unknown: tuple[UnknownVersion, ...] = ()
    note: str | None = None


class RoomReport(Reply):
    """How full the log is. From seven tenths on what has ended is forgotten, from nine tenths no new job is taken.

    Dead letters are among the jobs; only a discard lets them go, so there is a bound over which somebody has to look.
    `max_bytes` is None where the server sets no limit.
    """

    bytes: int
    max_bytes: int | None = None
    jobs: int
    max_jobs: int
    dead_letters: int
    max_dead_letters: int


class Event(Reply):
    """Something that happened to a job, number `n`. An event of a kind that this version does not know is just this.

    `id` is where a reader resumes after it: `<n>.<sequence>`. Only a gap has no time.
    """

    KIND: ClassVar[str] = ""
    kind: str
    id: str
    n: int
    at: Instant | None = None


class HandedOff(Event):
    """The job's next message, of the wire name `type`, is for `stage`; not before `start_at`.

    After a question it is the same message again, and `question` says which: it was answered, or has `timed_out`.
    """

    KIND = "handoff"
    stage: str
    type: str
    start_at: Instant | None = None
    question: int | None = None
    timed_out: bool = False


class StepStarted(Event):
    """A worker took the step. It goes on after the first `from_` tokens, which are stored."""

    KIND = "step.started"
    stage: str
    attempt: int
    worker: str
    from_: int = Field(default=0, alias="from")


class StepFailed(Event):
    """An attempt failed; the next begins at `retry_at` at the earliest."""

    KIND = "step.failed"
    error: Trouble
    retry_at: Instant | None = None


class StepReleased(Event):
    """A worker handed the step back unfinished."""

    KIND = "step.released"
    reason: str | None = None


class StepPart(Event):
    """A piece of the step's work is stored and never done again."""

    KIND = "step.part"
    key: str | None = None


class InputRequired(Event):
    """A step asks a person, and the job waits; an answer names the number `n`. The rest is as in `Question`."""

    KIND = "input.required"
    stage: str
    question: str
    expects: JsonSchema = Field(default_factory=dict)
    until: Instant | None = None
    misfit: str | None = None


class CancelRequested(Event):
    """Somebody wants the job to stop."""

    KIND = "cancel.requested"
    reason: str | None = None


class Delta(Event):
    """Generated text, whose first token is the step's token number `from_`; the pieces of a slow reader come merged."""

    KIND = "delta"
    stage: str
    text: str
    from_: int = Field(default=0, alias="from")
    finish_reason: FinishReason | None = None


class Progress(Event):
    """What a stage is doing."""

    KIND = "progress"
    stage: str
    message: str
    done: int | None = None
    total: int | None = None


class Gap(Event):
    """The events `from_` to `to` are no longer kept."""

    KIND = "gap"
    from_: int = Field(alias="from")
    to: int


class Gone(Event):
    """A job that was begun to be read is not kept any more. It is on a stream of several jobs only."""

    KIND = "gone"
    id: str = ""
    n: int = 0


class Reset(Event):
    """What the step has said before is void; it starts over."""

    KIND = "reset"
    stage: str | None = None


class Outcome(Event):
    """How the job ended: its last event."""

    usage: Usage = Usage()


class Completed(Outcome):
    """The job has its answer."""

    KIND = "completed"
    answer: dict[str, Any]


class Failed(Outcome):
    """The job cannot succeed."""

    KIND = "failed"
    stage: str | None = None
    error: Trouble | None = None


class Cancelled(Outcome):
    """Somebody asked for it."""

    KIND = "cancelled"
    reason: str | None = None


class Expired(Outcome):
    """The deadline passed after work on it had begun."""

    KIND = "expired"


class Aborted(Outcome):
    """The deadline passed before anybody began."""

    KIND = "aborted"


class DeadLettered(Outcome):
    """A budget is used up; a person decides."""

    KIND = "dead_lettered"
    stage: str | None = None
    reason: str | None = None


_KINDS: dict[str, type[Event]] = {
    kind.KIND: kind
    for kind in (
        HandedOff,
        StepStarted,
        StepFailed,
        StepReleased,
        StepPart,
        InputRequired,
        CancelRequested,
        Delta,
        Progress,
        Gap,
        Gone,
        Reset,
        Completed,
        Failed,
        Cancelled,
        Expired,
        Aborted,
        DeadLettered,
    )
}


def event_of(kind: str, id: str, data: Mapping[str, Any]) -> Event:
    """The event that a server-sent event carries. Raises pydantic's ValidationError when it is none."""
    return _KINDS.get(kind, Event).model_validate({**data, "kind": kind, "id": id})
