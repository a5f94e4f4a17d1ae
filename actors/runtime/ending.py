"""How a step ends: what is appended to the log for it, and what becomes of its delivery."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

from actors.contracts.errors import Failure, RetryableError, TerminalError
from actors.contracts.events import (
    Aborted,
    Cancelled,
    Completed,
    DeadLettered,
    Expired,
    Failed,
    HandOff,
    InputRequired,
    Outcome,
    StepFailed,
    StepReleased,
)
from actors.contracts.fold import StepState
from actors.contracts.generation import Usage
from actors.contracts.letter import remains_of
from actors.contracts.messages import Message, Packed
from actors.engines.protocol import EngineError
from actors.journal.append import TooLarge
from actors.journal.connection import Unanswered
from actors.journal.pull import Delivery
from actors.pipeline.stage import Stage
from actors.runtime.bench import Bench
from actors.runtime.crash_points import CrashPoint
from actors.runtime.metered import Metered
from actors.runtime.rules import Verdict
from actors.runtime.step_log import Question
from actors.runtime.strangers import PAUSE_S, RENEWED_AT
from actors.runtime.writer import FactStamp, Settled, StepWriter

log = logging.getLogger(__name__)

CRASH_PAUSE_S = 1.0
"""How long a job waits after the engine under it died, so that its replacement can start."""

PUT_OFF_PAUSE_S = 1.0
"""How long a step that asks waits where it cannot be noted when that is to end, in seconds."""

SOON = timedelta(seconds=2)
"""A time that is so near may have come by the server's clock, though not by ours."""

LONGEST_NAK_S = 30.0
"""A longer delay is kept by the log, in seconds: the hand-off is acknowledged then, and given out again."""


class Ending:
    """Ends one delivery: one append where there is something to say, then the ack or the nak.

    `usage` is what the step has counted while it ran, once it has. All of it raises Settled when the log has gone on.
    """

    def __init__(self, bench: Bench, delivery: Delivery, writer: StepWriter, engine: Metered | None) -> None:
        self._bench = bench
        self._delivery = delivery
        self._writer = writer
        self._engine = engine
        self.usage: Usage | None = None

    async def hand_over(self, output: Message, taker: Stage | None) -> None:
        """One append: the next hand-off, or the outcome. Then ack; when that is lost the log answers the redelivery."""
        handoff = self._writer.handoff
        packed, usage = Packed.of(output), self._total(answered=True)

        def build(stamp: FactStamp) -> HandOff | Completed:
            text = self._writer.text_digest
            if taker is None:
                return Completed(**stamp, origin=handoff.origin, answer=packed, usage=usage, text=text)
            return HandOff(**stamp, stage=taker.name, origin=handoff.origin, message=packed, usage=usage, text=text)

        try:
            await self._writer.end(build)
        except TooLarge as error:
            raise _too_large(f"the output of {self._bench.stage.name!r}", error) from error
        await self._ack()

    async def ask(self, question: Question) -> None:
        """Leave the step to whoever answers. When that is to end is noted first, so that no crash can lose it."""
        self._writer.check()
        deadline, now = self._writer.handoff.origin.deadline, self._bench.pen.now()
        left = (deadline - now).total_seconds()
        until = None
        if question.timeout is not None and question.timeout < left:
            until = now + timedelta(seconds=question.timeout)
        await self._insist_on(until or deadline)
        try:
            await self._writer.end(
                lambda stamp: InputRequired(
                    **stamp,
                    stage=self._writer.handoff.stage,
                    claim=self._writer.claim,
                    key=question.key,
                    question=question.text,
                    expects=question.expects,
                    until=until,
                    misfit=question.misfit,
                    wasted=self._wasted,
                )
            )
        except TooLarge as error:
            await self.fail(error)
            return
        self._note("step_asks")
        # The clock may have looked before the question was there, and left the step to its worker.
        if self._bench.pen.now() >= (until or deadline) - SOON:
            await self._insist_on(until or deadline)
        await self._ack()

    async def hand_back(self, reason: str, delay: float = 0.0) -> None:
        """Unfinished, and not to be given out again for `delay` seconds; it costs no budget."""
        self._writer.check()
        if self._writer.may_be_claimed:
            await self._end_released(reason)
        self._note("step_released", reason=reason)
        await self._give_back(delay)

    async def _end_released(self, reason: str) -> None:
        await self._writer.end(
            lambda stamp: StepReleased(**stamp, claim=self._writer.claim, reason=reason, wasted=self._wasted)
        )

    async def send_away(self, why: str) -> None:
        """Let it wait for a worker that knows its version; that costs no budget, however long it takes."""
        handoff = self._writer.handoff
        reason = f"{why}; serve the version that does"
        if self._delivery.count < RENEWED_AT:
            await self.hand_back(reason, PAUSE_S)
            return
        self._writer.check()
        await self._writer.study()
        if self._writer.may_be_claimed:  # that it is a stranger may only be seen after the claim
            await self._end_released(reason)
        await self._writer.end(
            lambda stamp: HandOff(
                **stamp,
                stage=handoff.stage,
                of=handoff.first_n,
                origin=handoff.origin,
                message=handoff.message,
                usage=handoff.usage,
            )
        )
        await self._ack()

    async def fail(self, error: Exception) -> None:
        """By what was raised: a failed attempt, the outcome, or nobody's fault but the engine's."""
        self._writer.check()
        if isinstance(error, EngineError):
            await self._crash(error)
            return
        if isinstance(error, TooLarge):
            error = _too_large(f"what {self._bench.stage.name!r} keeps", error)
        failure = Failure.of(error)
        self._note("step_failed", error=failure.type)
        if isinstance(error, TerminalError):
            await self._end_failed(failure)
        else:
            await self._end_attempt(failure, error.delay if isinstance(error, RetryableError) else None)

    async def _crash(self, error: EngineError) -> None:
        """Not this job's failure: its claim stays open in the log and counts as a crash."""
        self._note("engine_died", reason=str(error))
        await self._give_back(CRASH_PAUSE_S)

    async def _end_failed(self, failure: Failure) -> None:
        handoff, stage, usage = self._writer.handoff, self._bench.stage, self._total()
        await self._writer.end(
            lambda stamp: Failed(
                **stamp,
                origin=handoff.origin,
                stage=stage.name,
                error=failure,
                usage=usage,
                text=self._writer.text_digest,
            )
        )
        await self._ack()

    async def _end_attempt(self, failure: Failure, asked: float | None) -> None:
        """This attempt failed: the step is tried again, or it was the last one."""
        stage = self._bench.stage
        failures = (self._writer.state.failures if self._writer.state else 0) + 1
        if stage.retry.spent(failures, 0):
            await self._bury("it failed as often as it may", await self._writer.read_again(), failure)
            return
        wished = stage.retry.delay(failures, self._bench.rng) if asked is None else asked
        now = self._bench.pen.now()
        # After its deadline nothing is tried again; whatever was wished for (a NaN too), it comes back for its outcome.
        delay = max(0.0, min((self._writer.handoff.origin.deadline - now).total_seconds(), wished))
        retry_at = now + timedelta(seconds=delay)
        await self._writer.end(
            lambda stamp: StepFailed(
                **stamp, claim=self._writer.claim, error=failure, retry_at=retry_at, wasted=self._wasted
            )
        )
        await self._give_back(delay)

    async def _bury(
        self, reason: str, state: StepState | None, last: Failure | None = None, decided: Settled | None = None
    ) -> None:
        """The outcome `dead_lettered`, as one append that is complete in itself."""
        handoff = self._writer.handoff
        errors = (*(state.errors if state else ()), *((last,) if last else ()))
        failing = last is not None and state is not None and state.owned_by(self._writer.claim)  # open, and not a crash
        said = state.text if state else ""
        remains = remains_of(errors, said)
        await self._writer.end(
            lambda stamp: DeadLettered(
                **stamp,
                origin=handoff.origin,
                stage=self._bench.stage.name,
                reason=reason,
                input=handoff.message,
                errors=remains.errors,
                attempts=max(state.attempts if state else 0, len(errors)),
                crashes=state.crashes - failing if state else 0,
                deliveries=self._delivery.count,
                partial=remains.partial,
                cut=remains.cut,
                usage=self._total(state),
                text=self._writer.text_digest,
            ),
            decided=decided,
        )
        self._note("dead_lettered", reason=reason)
        await self._ack()

    async def settle(self, settled: Settled) -> None:
        """Do what was decided, until the log agrees."""
        while True:
            self._note("step_settled", verdict=settled.verdict.name)
            try:
                await self._carry_out(settled)
                return
            except Settled as again:
                settled = again

    async def _carry_out(self, settled: Settled) -> None:
        state = settled.state
        match settled.verdict:
            case Verdict.ACK:
                await self._ack()
            case Verdict.LET_GO | Verdict.ASK_OWNER:
                pass  # an append, an ack or a nak would act on my successor's lease
            case Verdict.HAND_BACK:
                await self._give_back(self._until_retry(state))
            case Verdict.CANCEL | Verdict.EXPIRE:
                await self._end_early(settled)
            case Verdict.BURY:
                lost = state is not None and state.crashes >= self._bench.stage.retry.crashes
                reason = "its worker was lost as often as it may" if lost else "its budget is used up"
                await self._bury(reason, state, decided=settled)
            case Verdict.GO_ON | Verdict.CLAIM:
                raise AssertionError(f"{settled.verdict} settles nothing")

    async def _end_early(self, settled: Settled) -> None:
        """The outcome of a job that was cancelled, or is past its deadline."""
        handoff, state, usage = self._writer.handoff, settled.state, self._total(settled.state)
        begun = self._writer.claimed or bool(state and state.attempts) or handoff.first_n > 1
        reason = state.cancel_reason if state else None

        def build(stamp: FactStamp) -> Outcome:
            text = self._writer.text_digest
            if settled.verdict is Verdict.CANCEL:
                return Cancelled(**stamp, origin=handoff.origin, usage=usage, text=text, reason=reason)
            return (Expired if begun else Aborted)(**stamp, origin=handoff.origin, usage=usage, text=text)

        await self._writer.end(build, decided=settled)
        await self._ack()

    @property
    def _wasted(self) -> int | None:
        """How many tokens this attempt has generated that are not stored."""
        return (self._engine.unkept or None) if self._engine else None

    def _total(self, state: StepState | None = None, *, answered: bool = False) -> Usage:
        """The job's usage with this step's: what it counted while it ran, or what the log has of earlier attempts.

        What was generated, is not stored, and does not lead to an answer either was wasted.
        """
        before, known = self._writer.handoff.usage, state or self._writer.state
        if self.usage is None:
            return before + (known.usage + Usage(output_tokens=len(known.tokens)) if known else Usage())
        lost = 0 if answered else self._wasted or 0
        return before + self.usage + Usage(output_tokens=-lost, wasted_tokens=lost)

    async def _ack(self) -> None:
        self._bench.pen.reached(CrashPoint.BEFORE_ACK)
        await self._bench.acks.done(self._delivery.ack)
        self._bench.pen.reached(CrashPoint.AFTER_ACK)

    async def _give_back(self, delay: float) -> None:
        """Let it be given out again, to anybody, after `delay` seconds."""
        self._bench.pen.reached(CrashPoint.BEFORE_NAK)
        until = self._bench.pen.now() + timedelta(seconds=delay)
        if delay > LONGEST_NAK_S and await self._put_off(until):
            await self._ack()
        else:
            await self._bench.acks.again(self._delivery.ack, delay)
        self._bench.pen.reached(CrashPoint.AFTER_NAK)

    async def _insist_on(self, until: datetime) -> None:
        """Let the clock look after it then, however long it takes to store that."""
        while not await self._put_off(until):  # noqa: ASYNC110  # the server tells nobody when it can
            await asyncio.sleep(PUT_OFF_PAUSE_S)

    async def _put_off(self, until: datetime) -> bool:
        """Let the clock look after it then; False where that cannot be stored."""
        address = self._writer.address
        try:
            await self._bench.later.put_off(address.tenant, address.job, self._writer.handoff.n, until)
        except Unanswered as error:
            self._note("not_put_off", reason=str(error))
            return False
        return True

    def _until_retry(self, state: StepState | None) -> float:
        if state is None or state.retry_at is None:
            return 0.0
        return max(0.0, (state.retry_at - self._bench.pen.now()).total_seconds())

    def _note(self, action: str, **fields: object) -> None:
        known = {"action": action, "stage": self._bench.stage.name, "job": self._writer.address.job}
        log.info("a step ended otherwise", extra={**known, **fields})


def _too_large(what: str, error: TooLarge) -> TerminalError:
    return TerminalError(f"output_too_large: {what} cannot be stored: {error}")
