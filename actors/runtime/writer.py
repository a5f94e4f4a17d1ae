"""The one appender of a running step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypedDict

from actors.contracts.chain import Chain, digest
from actors.contracts.envelope import Envelope, Fact
from actors.contracts.events import HandOff, Outcome, Record, StepStarted, Text, place
from actors.contracts.fold import StepState, fold_step
from actors.contracts.generation import FinishReason
from actors.contracts.retry import Retry
from actors.contracts.subjects import Address, Subject
from actors.journal.append import Appender, Refused
from actors.journal.pull import Delivery
from actors.journal.read import Reader
from actors.runtime.rules import Verdict, decide

TEXT_OUTLIVES = timedelta(hours=24)
"""How long text is kept past its job's deadline. Nothing of a job may expire before its outcome."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


class Stamp(TypedDict):
    """What the writer fills in on every event."""

    n: int
    by: str
    at: datetime


class FactStamp(Stamp):
    """What it fills in on facts: their place in the chain too."""

    prev: str


class Owners(Protocol):
    """Who can be asked whether a claim still runs."""

    async def runs(self, worker: str, claim: str) -> bool | None:
        """True: it runs it. False: it does not, or there is no such worker any more. None: silence."""
        ...


class Settled(BaseException):
    """What becomes of this hand-off is decided, and it is not to go on here.

    Not an Exception, so that a stage's own `except Exception` does not hold it up.
    """

    def __init__(self, verdict: Verdict, state: StepState | None) -> None:
        super().__init__(verdict.name)
        self.verdict = verdict
        self.state = state


@dataclass(frozen=True, slots=True)
class Pen:
    """What every step of a worker writes with."""

    worker: str
    appender: Appender
    reader: Reader
    owners: Owners
    retry: Retry
    ack_wait: float
    model: str | None = None
    now: Clock = utc_now


class StepWriter:
    """Appends for one delivery of a hand-off, in order, each append comparing.

    Everything else of the step asks it: it holds the claim, the chain, and what the log said when the step began.
    Its methods raise Settled when the log says that this hand-off is not to go on here.
    """

    def __init__(self, pen: Pen, delivery: Delivery, claim: str) -> None:
        self._pen = pen
        self._delivery = delivery
        self.claim = claim
        self.record: Record = delivery.record
        event = delivery.record.event
        if not isinstance(event, HandOff):
            raise TypeError(f"a {event.kind} was delivered as a hand-off")
        self.handoff: HandOff = event
        self.address: Address = Subject.parse(delivery.record.subject).address
        self.state: StepState | None = None
        self.claimed = False
        self._chain = Chain(seq=self.record.seq, n=event.n, prev=digest(self.record.data))
        self._lock = asyncio.Lock()
        self._text_ttl = int((event.origin.deadline + TEXT_OUTLIVES - pen.now()).total_seconds())

    @property
    def text_digest(self) -> str | None:
        """The digest of what this step has said; None when it said nothing."""
        return self._chain.text or None

    @property
    def attempt(self) -> int:
        """Which attempt of the step this is, from 1."""
        if self.state is None:
            return 1
        return self.state.attempts + (0 if self.state.owned_by(self.claim) else 1)

    @property
    def said(self) -> tuple[int, ...]:
        """The token ids that earlier attempts of this step stored."""
        return self.state.tokens if self.state else ()

    @property
    def shown(self) -> str:
        """The text of `said`."""
        return self.state.text if self.state else ""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the step's generation ended, if its end is stored."""
        return self.state.finish_reason if self.state else None

    async def ensure_claimed(self) -> None:
        """Claim now, if it was not necessary before."""
        async with self._lock:
            await self._claim()

    async def claim_fresh(self) -> None:
        """Claim a delivery that looks fresh: no read, `step.started` is compared with the hand-off itself."""
        async with self._lock:
            await self._claim()

    async def claim_by_rule(self) -> None:
        """Claim a delivery that somebody may have had before: read, fold, decide."""
        async with self._lock:
            await self._look(claiming=True)
            if not self.claimed:
                await self._claim()

    async def put(self, build: Callable[[FactStamp], Fact]) -> None:
        """Store a fact. One that does not end the step needs a claim, and takes it if there is none yet."""
        async with self._lock:
            ends = isinstance(fact := build(self._fact_stamp()), HandOff | Outcome)
            if not self.claimed and not ends:
                await self._claim()
                fact = build(self._fact_stamp())
            while not await self._append(fact):
                fact = build(self._fact_stamp())

    async def say(self, build: Callable[[Stamp], Text]) -> None:
        """Store text; needs a claim, and takes it if there is none yet."""
        async with self._lock:
            await self._claim()
            while not await self._append(build(self._stamp())):
                pass

    async def read_again(self) -> StepState | None:
        """What the log says now, in full."""
        async with self._lock:
            await self._look(claiming=not self.claimed)
        return self.state

    def adopt(self, state: StepState) -> None:
        """Go on from what a fold saw."""
        self.state = state
        self.claimed = state.owned_by(self.claim)
        # Expired text moves the last sequence back, and the numbers with it; ours never go back.
        self._chain = replace(state.chain, n=max(state.chain.n, self._chain.n))

    async def _claim(self) -> None:
        while not self.claimed:
            state = self.state
            reset = bool(state and state.tokens and state.owner and state.owner.model != self._pen.model)
            event = StepStarted(
                **self._fact_stamp(),
                stage=self.handoff.stage,
                attempt=self.attempt,
                claim=self.claim,
                worker=self._pen.worker,
                ack=self._delivery.ack,
                from_=0 if reset or not state else len(state.tokens),
                reset=reset,
                model=self._pen.model,
            )
            if await self._append(event, claiming=True):
                self.claimed = True
                if reset and state:
                    self.state = replace(state, tokens=(), text="", finish_reason=None)

    async def _append(self, event: Envelope, *, claiming: bool | None = None) -> bool:
        """Store `event`; False when the log has gone on and the same thing must be said anew."""
        data = event.encode()
        kind, topic = place(event)
        is_text = isinstance(event, Text)
        try:
            seq = await self._pen.appender.append(
                self.address, kind, topic, data, expect=self._chain.seq, ttl=max(1, self._text_ttl) if is_text else None
            )
        except Refused as refused:
            records = await self._look(claiming=not self.claimed if claiming is None else claiming, at_least=refused.last)
            return any(r.data == data for r in records)  # our own, its answer lost: it counts, and the fold has it
        self._chain = self._chain.with_text(seq, data) if is_text else self._chain.with_fact(seq, data)
        return True

    async def _look(self, *, claiming: bool, at_least: int = 0) -> list[Record]:
        """Read, fold and decide. Returns when the step may go on or be claimed; else raises Settled."""
        gone: str | None = None
        while True:
            after = 0 if self.handoff.of else self.record.seq - 1
            records = await self._pen.reader.job(
                self.address.tenant, self.address.job, after=after, at_least=max(at_least, self.record.seq)
            )
            state = fold_step(records, self.record.seq)
            verdict = decide(
                state,
                self.claim,
                claiming=claiming,
                gone=gone,
                now=self._pen.now(),
                retry=self._pen.retry,
                deliveries=self._delivery.count,
            )
            if verdict is not Verdict.ASK_OWNER or state is None or state.owner is None:
                break
            if not await self._is_gone(state.owner, state.newest_at):
                raise Settled(Verdict.LET_GO, state)
            gone = state.owner.claim
        if state is not None:
            self.adopt(state)
        if verdict not in (Verdict.GO_ON, Verdict.CLAIM):
            raise Settled(verdict, state)
        return records

    async def _is_gone(self, owner: StepStarted, newest_at: datetime | None) -> bool:
        match await self._pen.owners.runs(owner.worker, owner.claim):
            case True:
                return False
            case False:
                return True
        quiet = self._pen.now() - (newest_at or owner.at)
        return quiet.total_seconds() >= self._pen.ack_wait / 2

    def _stamp(self) -> Stamp:
        return Stamp(n=self._chain.n + 1, by=f"{self._pen.worker}/{self.claim}", at=self._pen.now())

    def _fact_stamp(self) -> FactStamp:
        return FactStamp(**self._stamp(), prev=self._chain.prev)
