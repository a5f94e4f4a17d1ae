"""The one appender of a running step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypedDict

from actors.contracts.chain import Chain, digest
from actors.contracts.envelope import Envelope, Fact
from actors.contracts.errors import HeadraceError
from actors.contracts.events import HandOff, Outcome, Record, StepStarted, Text, Told, place
from actors.contracts.fold import StepState, fold_step
from actors.contracts.generation import FinishReason
from actors.contracts.retry import Retry
from actors.contracts.subjects import DEAD, Address, Subject
from actors.journal.append import FOR_EVER, Appender, Refused
from actors.journal.connection import Unanswered
from actors.journal.pull import Delivery
from actors.journal.read import Reader
from actors.runtime.crash_points import Reached, around, pass_by
from actors.runtime.rules import Verdict, decide

log = logging.getLogger(__name__)

TEXT_OUTLIVES = timedelta(hours=24)
"""How long text is kept past its job's deadline. Nothing of a job may expire before its outcome."""

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0

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


class StepOver(HeadraceError):
    """The stage has returned: what it left running cannot store anything. Await all that a stage starts."""

    def __init__(self) -> None:
        super().__init__("the stage has returned; await everything that it starts before it returns")


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
    reached: Reached = pass_by


class StepWriter:
    """Appends for one delivery of a hand-off, in order, each append comparing.

    Everything else of the step asks it: it holds the claim, the chain, and what the log said when the step began.
    Its methods raise Settled when the log says that this hand-off is not to go on here. From then on the stage stores
    nothing more, whatever it does with that error; only the step itself does, what was decided (`end`).
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
        self._claim_sent = False
        self._settled: Settled | None = None
        self._stage_is_over = False
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
    def wasted(self) -> int:
        """How many tokens earlier attempts of this step generated for nothing."""
        return self.state.wasted if self.state else 0

    @property
    def shown(self) -> str:
        """The text of `said`."""
        return self.state.text if self.state else ""

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the step's generation ended, if its end is stored."""
        return self.state.finish_reason if self.state else None

    @property
    def told(self) -> Mapping[str, Told]:
        """What the step was told of its questions, by their keys."""
        return self.state.told if self.state else {}

    @property
    def may_be_claimed(self) -> bool:
        """Whether a claim is stored, or was sent and nobody waited for the answer."""
        return self.claimed or self._claim_sent

    async def ensure_claimed(self) -> None:
        """Claim, if that was not done before: no read, `step.started` is compared with the last that is known."""
        async with self._turn():
            await self._claim()

    async def study(self) -> StepState | None:
        """What the log says of a delivery that somebody may have had before, if it may be claimed. Raises Settled."""
        async with self._lock:
            await self._look(claiming=True)
        return self.state

    async def claim_by_rule(self) -> None:
        """Claim a delivery that somebody may have had before: read, fold, decide."""
        async with self._lock:
            await self._look(claiming=True)
            if not self.claimed:
                await self._claim()

    async def put(self, build: Callable[[FactStamp], Fact]) -> None:
        """Store a fact of the running stage; needs a claim, and takes it if there is none yet."""
        async with self._turn():
            await self._claim()
            await self._store(build)

    async def say(self, build: Callable[[Stamp], Text]) -> None:
        """Store text of the running stage; needs a claim, and takes it if there is none yet."""
        async with self._turn():
            await self._claim()
            while not await self._append(build(self._stamp())):
                pass

    def check(self) -> None:
        """Raises Settled when it is known that this hand-off is not to go on here."""
        if self._settled is not None:
            raise self._settled

    def leave(self) -> None:
        """The stage is over: from here on nothing that it may have left running is stored."""
        self._stage_is_over = True

    async def end(self, build: Callable[[FactStamp], Fact], *, decided: Settled | None = None) -> None:
        """Store what ends this attempt, or the job. Raises what the log has decided, unless this is it (`decided`)."""
        async with self._lock:
            if self._settled is not None and self._settled is not decided:
                raise self._settled
            if not isinstance(build(self._fact_stamp()), HandOff | Outcome):
                await self._claim()
            await self._store(build)

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

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """The stage's turn to append, one after the other. None once it is over, or this hand-off is somebody else's:
        the chain that the last look found is another writer's then, and an append that expects it would be stored."""
        async with self._lock:
            self.check()
            if self._stage_is_over:
                raise StepOver
            yield

    async def _store(self, build: Callable[[FactStamp], Fact]) -> None:
        while not await self._append(build(self._fact_stamp())):
            pass

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
            self._claim_sent = True
            if await self._append(event, claiming=True):
                self.claimed = True
                if reset and state:
                    void = state.wasted + len(state.tokens)
                    self.state = replace(state, tokens=(), text="", finish_reason=None, wasted=void)

    async def _append(self, event: Envelope, *, claiming: bool | None = None) -> bool:
        """Store `event`; False when the log has gone on and the same thing must be said anew."""
        data = event.encode()
        kind, topic = place(event)
        is_text = isinstance(event, Text)
        before, after = around(event)
        self._pen.reached(before)
        ttl = max(1, self._text_ttl) if is_text else FOR_EVER if topic == DEAD else None
        again, expect = isinstance(event, HandOff) and event.of is not None, self._chain.seq
        try:
            seq = await self._pen.appender.append(self.address, kind, topic, data, expect=expect, ttl=ttl, again=again)
        except Refused as refused:
            unclaimed = not self.claimed if claiming is None else claiming
            records = await self._look(claiming=unclaimed, at_least=refused.last)
            return any(r.data == data for r in records)  # our own, its answer lost: it counts, and the fold has it
        self._chain = self._chain.with_text(seq, data) if is_text else self._chain.with_fact(seq, data)
        self._pen.reached(after)
        return True

    async def _look(self, *, claiming: bool, at_least: int = 0) -> list[Record]:
        """Read, fold and decide. Returns when the step may go on or be claimed; else raises Settled."""
        gone: str | None = None
        while True:
            # What I have stored myself is there, whatever a replica that lags would show.
            records = await self._read(max(at_least, self._chain.seq))
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
                verdict = Verdict.LET_GO
                break
            gone = state.owner.claim
        if state is not None:
            self.adopt(state)
        if verdict not in (Verdict.GO_ON, Verdict.CLAIM):
            self._settled = Settled(verdict, state)
            raise self._settled
        return records

    async def _read(self, at_least: int) -> list[Record]:
        """The step's records, however long it takes: a log that cannot be read is no failure of the step."""
        after, pause = 0 if self.handoff.of else self.record.seq - 1, FIRST_PAUSE_S
        while True:
            try:
                return await self._pen.reader.job(self.address.tenant, self.address.job, after=after, at_least=at_least)
            except Unanswered as error:
                log.info("cannot read", extra={"action": "read_retry", "job": self.address.job, "reason": str(error)})
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

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
