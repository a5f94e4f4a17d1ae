"""The fold: what a job's messages say about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from actors.contracts.chain import NO_TEXT, Chain, digest, text_digest
from actors.contracts.envelope import Fact
from actors.contracts.errors import Failure
from actors.contracts.events import (
    Aborted,
    Cancelled,
    CancelRequested,
    Completed,
    DeadLettered,
    Delta,
    Expired,
    Failed,
    HandOff,
    InputRequired,
    Origin,
    Outcome,
    Progress,
    Record,
    StepFailed,
    StepPart,
    StepReleased,
    StepStarted,
    Text,
    Told,
)
from actors.contracts.generation import FinishReason, Usage

Status = Literal[
    "queued", "running", "input_required", "completed", "failed", "cancelled", "expired", "aborted", "dead_lettered"
]


@dataclass(frozen=True, slots=True)
class Part:
    """A stored piece of a step: what `job.once` returned."""

    value: JsonValue
    type: str | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class StepState:
    """What a job's messages say about one step: the one that the hand-off at `handoff_seq` gave out.

    `owner` is the claim of the newest `step.started`; it is `open` while nothing says how that attempt ended.
    `crashes` counts attempts that began and neither failed, nor asked, nor were handed back, an open one included.
    `tokens` and `text` are what the step has said since its last reset; `wasted` counts the tokens that were generated
    for nothing. `question` is what it asks and nobody has told it yet, `told` what it was told, by the question's key.
    `chain` is the end of the whole job's log.
    """

    handoff_seq: int
    handoff: HandOff
    chain: Chain
    closed: bool = False
    cancel: bool = False
    cancel_reason: str | None = None
    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    owner: StepStarted | None = None
    open: bool = False
    newest_at: datetime | None = None
    errors: tuple[Failure, ...] = ()
    retry_at: datetime | None = None
    tokens: tuple[int, ...] = ()
    text: str = ""
    finish_reason: FinishReason | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    question: InputRequired | None = None
    wasted: int = 0

    @property
    def usage(self) -> Usage:
        """What the stored parts of this step used, and what its earlier attempts wasted."""
        return sum((part.usage for part in self.parts.values()), Usage(wasted_tokens=self.wasted))

    @property
    def total(self) -> Usage:
        """What the job used up to here: before this step, by its stored parts, and for the text it has said."""
        return self.handoff.usage + self.usage + Usage(output_tokens=len(self.tokens))

    def owned_by(self, claim: str) -> bool:
        return self.owner is not None and self.owner.claim == claim


@dataclass(frozen=True, slots=True)
class JobState:
    """What a job's messages say about it as a whole."""

    status: Status
    origin: Origin
    chain: Chain
    step: StepState | None
    outcome: Outcome | None
    started: bool
    usage: Usage
    stage: str | None
    attempts: int
    text: str
    updated: datetime

    @property
    def question(self) -> InputRequired | None:
        """What it asks; None when it asks nothing."""
        return self.step.question if self.step and not self.outcome else None

    @property
    def waits_until(self) -> datetime | None:
        """Up to when it was put off, or may be answered; None when nothing of that kind holds it up."""
        step = self.step
        if step is None or self.outcome or step.open:
            return None
        return step.question.until if step.question else step.handoff.start_at or step.retry_at


def fold_step(records: Sequence[Record], handoff_seq: int) -> StepState | None:
    """Fold the step that the hand-off at `handoff_seq` gave out. None when that hand-off is not in the log any more.

    `records` are the job's messages in order. The step begins at the hand-off's `of`, so that budgets, stored pieces
    and tokens carry over when the same step is given out again.
    """
    handoff = next((r.event for r in records if r.seq == handoff_seq), None)
    if not isinstance(handoff, HandOff):
        return None
    fold = _StepFold(handoff_seq, handoff)
    for record in records:
        fold.take(record)
    return fold.state()


def fold_job(records: Sequence[Record]) -> JobState | None:
    """Fold a whole job. None when there is no message of it, or only text."""
    facts = [r for r in records if not r.is_text and isinstance(r.event, Fact)]
    outcome = next((r.event for r in facts if isinstance(r.event, Outcome)), None)
    given = [r for r in facts if isinstance(r.event, HandOff)]
    head = given[-1].event if given else outcome
    if not isinstance(head, HandOff | Outcome):
        return None
    step = fold_step(records, given[-1].seq) if given else None
    # A step that is not the first can only be there because work was done, also where the log is only a tail.
    started = any(isinstance(r.event, StepStarted) for r in facts) or any(_first_n(r) > 1 for r in given)
    return JobState(
        status=_status(outcome, started, asks=bool(step and step.question)),
        origin=head.origin,
        chain=chain_of(records),
        step=step,
        outcome=outcome,
        started=started,
        usage=outcome.usage if outcome else head.usage,
        stage=head.stage if isinstance(head, HandOff) else None,
        attempts=step.attempts if step else 0,
        text=_said(records),
        updated=facts[-1].event.at if facts[-1].seq >= records[-1].seq else records[-1].event.at,
    )


def chain_of(records: Iterable[Record], chain: Chain = Chain()) -> Chain:  # noqa: B008  # a value, never changed
    """Where the log ends that these messages make up after those of `chain`; its `text` is that of the newest step."""
    for record in records:
        chain = _grown(chain, record)
    return chain


def _grown(chain: Chain, record: Record) -> Chain:
    event = record.event
    if record.is_text:
        return replace(chain, seq=record.seq, n=event.n, text=text_digest(chain.text, record.data))
    new_step = isinstance(event, HandOff) and event.of is None
    return replace(chain, seq=record.seq, n=event.n, prev=digest(record.data), text=NO_TEXT if new_step else chain.text)


def _first_n(record: Record) -> int:
    assert isinstance(record.event, HandOff)
    return record.event.first_n


def _status(outcome: Outcome | None, started: bool, *, asks: bool) -> Status:
    match outcome:
        case None:
            return "input_required" if asks else "running" if started else "queued"
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case Cancelled():
            return "cancelled"
        case Expired():
            return "expired"
        case Aborted():
            return "aborted"
        case DeadLettered():
            return "dead_lettered"
    raise AssertionError(f"no status for {outcome!r}")


def _said(records: Sequence[Record]) -> str:
    """The text of the newest step that said anything, since its last reset."""
    said: list[str] = []
    for record in records:
        match record.event:
            case Delta(from_=0, text=text):
                said = [text]
            case Delta(text=text):
                said.append(text)
            case StepStarted(reset=True):
                said = []
    return "".join(said)


class _StepFold:
    """Takes a job's messages one by one and keeps what matters to one step."""

    def __init__(self, handoff_seq: int, handoff: HandOff) -> None:
        self._seq = handoff_seq
        self._handoff = handoff
        self._first_n = handoff.first_n
        self._chain = Chain()
        self._inside = self._closed = self._cancel = False
        self._cancel_reason: str | None = None
        self._failures = 0
        self._open: dict[str, bool] = {}
        self._owner: StepStarted | None = None
        self._newest_at: datetime | None = None
        self._retry_at: datetime | None = None
        self._errors: list[Failure] = []
        self._tokens: list[int] = []
        self._text: list[str] = []
        self._finish: FinishReason | None = None
        self._parts: dict[str, Part] = {}
        self._told: dict[str, Told] = {}
        self._question: InputRequired | None = None
        self._wasted = 0

    def take(self, record: Record) -> None:
        event = record.event
        self._chain = _grown(self._chain, record)
        if isinstance(event, HandOff):
            self._inside = event.first_n == self._first_n
        if isinstance(event, HandOff | Outcome):
            self._question = None
            if record.seq > self._seq:
                self._closed = True
                return
        if self._inside and not self._closed:
            self._within(event)
            self._closed = isinstance(event, InputRequired) and record.seq > self._seq

    def _within(self, event: object) -> None:
        match event:
            case StepStarted():
                self._owner = event
                self._open[event.claim] = True
                if event.reset:
                    self._wasted += len(self._tokens)
                    self._tokens, self._text, self._finish = [], [], None
            case StepFailed():
                self._failures += 1
                self._open[event.claim] = False
                self._errors.append(event.error)
                self._retry_at = event.retry_at
                self._wasted += event.wasted or 0
            case StepReleased():
                self._open[event.claim] = False
                self._wasted += event.wasted or 0
            case StepPart():
                self._parts[event.key] = Part(event.value, event.type, event.usage)
            case InputRequired():
                self._open[event.claim] = False
                self._question = event
                self._wasted += event.wasted or 0
            case HandOff(told=Told() as told):
                self._told[told.key] = told
            case CancelRequested():
                self._cancel, self._cancel_reason = True, event.reason
            case Delta():
                self._tokens.extend(event.tokens)
                self._text.append(event.text)
                self._finish = event.finish_reason
        if isinstance(event, StepStarted | StepPart | Text):
            self._newest_at = event.at

    def state(self) -> StepState:
        owner = self._owner
        return StepState(
            handoff_seq=self._seq,
            handoff=self._handoff,
            chain=self._chain,
            closed=self._closed,
            cancel=self._cancel,
            cancel_reason=self._cancel_reason,
            attempts=sum(1 for _ in self._open),
            failures=self._failures,
            crashes=sum(self._open.values()),
            owner=owner,
            open=owner is not None and self._open[owner.claim],
            newest_at=self._newest_at,
            errors=tuple(self._errors),
            retry_at=self._retry_at,
            tokens=tuple(self._tokens),
            text="".join(self._text),
            finish_reason=self._finish,
            parts=self._parts,
            told=self._told,
            question=self._question,
            wasted=self._wasted,
        )


__all__ = ["JobState", "Part", "Progress", "Status", "StepState", "chain_of", "fold_job", "fold_step"]
