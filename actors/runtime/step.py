"""One delivery of a hand-off, from pull to ack."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from pydantic import ValidationError

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
from actors.engines.protocol import Engine, EngineError
from actors.journal.append import TooLarge
from actors.journal.connection import Unanswered
from actors.journal.later import Later
from actors.journal.pull import Acks, Delivery
from actors.pipeline.catalogue import Catalogue
from actors.pipeline.job import Job
from actors.pipeline.pipeline import Pipeline
from actors.pipeline.stage import Stage
from actors.runtime.company import Company, Disbanded
from actors.runtime.crash_points import CrashPoint
from actors.runtime.effort import Effort, Experience
from actors.runtime.metered import Metered
from actors.runtime.pacing import TextLanes
from actors.runtime.rules import Verdict
from actors.runtime.step_log import Question, RunningStep
from actors.runtime.strangers import PAUSE_S, RENEWED_AT, Given, Strangers
from actors.runtime.writer import FactStamp, Pen, Settled, StepWriter

log = logging.getLogger(__name__)

CRASH_PAUSE_S = 1.0
"""How long a job waits after the engine under it died, so that its replacement can start."""

PUT_OFF_PAUSE_S = 1.0
"""How long a step that asks waits where it cannot be noted when that is to end, in seconds."""

SOON = timedelta(seconds=2)
"""A time that is so near may have come by the server's clock, though not by ours."""

LONGEST_NAK_S = 30.0
"""A longer delay is kept by the log, in seconds: the hand-off is acknowledged then, and given out again."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every step of a worker works with."""

    stage: Stage
    pipelines: Catalogue
    resource: Any
    pen: Pen
    acks: Acks
    later: Later
    lanes: TextLanes
    rng: Random = field(default_factory=Random)
    strangers: Strangers = field(default_factory=Strangers)
    experience: Experience = field(default_factory=Experience)

    @property
    def claims_first(self) -> bool:
        """Engine steps and steps with effects are claimed before they begin; a pure step just appends its output."""
        return self.stage.effects or isinstance(self.resource, Engine)


class Step:
    """Runs the stage once for one delivery, and leaves the log and the lease as the protocol wants them."""

    def __init__(self, bench: Bench, company: Company, delivery: Delivery, claim: str) -> None:
        self._bench = bench
        self._company = company
        self._delivery = delivery
        self._writer = StepWriter(bench.pen, delivery, claim)
        self._engine = Metered(bench.resource, claim) if isinstance(bench.resource, Engine) else None
        self._usage: Usage | None = None
        self._release_reason = ""
        self._work: asyncio.Task[Message] | None = None
        self._running: RunningStep | None = None

    @property
    def claim(self) -> str:
        return self._writer.claim

    @property
    def ack(self) -> str:
        """The subject that this step's lease hangs on."""
        return self._delivery.ack

    @property
    def job(self) -> str:
        return self._writer.address.job

    @property
    def _given(self) -> Given:
        return self.job, self._writer.handoff.first_n

    def tokens_left(self, effort: Effort) -> float:
        """About how many tokens it still takes, if it is like the jobs before it."""
        taken = self._engine.taken if self._engine else 0
        return max(0.0, effort.of(len(self._delivery.record.data)) - taken)

    def release(self, reason: str) -> None:
        """Hand the step back at the next chance: what was said is stored and stays, no budget is spent."""
        self._release_reason = reason
        if self._work and not (self._running and self._running.hush()):
            self._work.cancel()

    async def look(self) -> None:
        """Look into the log, where somebody says that there is something for this step; stop it if that is so."""
        try:
            await self._writer.read_again()
        except Settled:
            if self._work:
                self._work.cancel()

    async def run(self) -> None:
        """Claim, work, hand over, ack; or whatever the log says instead. Raises nothing but CancelledError."""
        self._bench.pen.reached(CrashPoint.AFTER_PULL)
        try:
            try:
                self._look_for_version()
                async with self._company.place(await self._crashes()):
                    await self._begin()
                    output = await self._do()
                    await self._hand_over(output)
            except Disbanded as error:
                await self._hand_back(_HandedBack(str(error)))
            except _Asks as asks:
                await self._ask(asks.question)
            except _Stranger as stranger:
                await self._send_away(stranger)
            except _HandedBack as back:
                await self._hand_back(back)
            except _Overdue:
                await self._settle(Settled(Verdict.EXPIRE, self._writer.state))
            except Exception as error:
                await self._fail(_cause(error))
        except Settled as settled:
            await self._settle(settled)

    @property
    def _is_fresh(self) -> bool:
        # One that is given out again, of an earlier hand-off, has a history however fresh its delivery is.
        return self._delivery.count == 1 and not self._writer.handoff.of

    async def _crashes(self) -> int:
        """How many workers were lost while they ran this. Raises Settled when it is not to be run any more."""
        state = None if self._is_fresh else await self._writer.study()
        return state.crashes if state else 0

    async def _begin(self) -> None:
        overdue = self._bench.pen.now() >= self._writer.handoff.origin.deadline
        if not self._is_fresh or overdue:
            await self._writer.claim_by_rule()
        elif self._bench.claims_first:
            await self._writer.ensure_claimed()

    async def _do(self) -> Message:
        """The stage's output. Raises what the stage raises, _Asks, _HandedBack, _Overdue and Settled."""
        self._writer.check()
        if self._release_reason:
            raise _HandedBack(self._release_reason)
        pipeline, stage, kind = self._look_for_version()
        message = self._message(pipeline, kind)
        pace = self._bench.lanes.pace()
        running = self._running = RunningStep(self._writer, pipeline, pace, self._engine, self._stop_work)
        self._work = asyncio.create_task(self._call(stage, message, self._job(running)))
        origin = self._writer.handoff.origin
        left = (origin.deadline - self._bench.pen.now()).total_seconds()
        limit = left if self._engine else min(left, self._bench.stage.timeout)
        try:
            async with asyncio.timeout(limit):
                output = await self._work
        except asyncio.CancelledError:
            if _cancelled_from_outside():
                raise
            self._writer.check()
            if running.question:
                raise _Asks(running.question) from None
            if self._release_reason:
                raise _HandedBack(self._release_reason) from None
            raise RuntimeError("the stage was cancelled, and not by its worker") from None
        except TimeoutError:
            if not self._work.cancelled():
                raise  # the stage's own
            if limit == left:
                raise _Overdue from None
            raise RetryableError(f"the step took longer than its timeout of {self._bench.stage.timeout:g} s") from None
        except BaseExceptionGroup:
            self._writer.check()  # a task group wraps Settled, which then is no Exception any more
            raise
        finally:
            self._work.cancel()
            await asyncio.wait({self._work})
            self._writer.leave()
            running.close()
            self._usage = running.usage
        if running.question:
            raise _Asks(running.question)
        if type(output) not in stage.gives:  # exactly: a message goes by its own type
            allowed = " or ".join(m.__name__ for m in stage.gives)
            raise TypeError(f"stage {stage.name!r} returned {type(output).__name__}; it declares {allowed}")
        return output

    def _stop_work(self) -> None:
        if self._work:
            self._work.cancel()

    async def _call(self, stage: Stage, message: Message, job: Job) -> Message:
        arguments: tuple[Any, ...] = (message, job)
        if stage.uses is not None:
            arguments = (*arguments, self._engine or self._bench.resource)
        if stage.is_async:
            output: Message = await stage.run(*arguments)
            return output
        return await asyncio.to_thread(stage.run, *arguments)

    def _look_for_version(self) -> tuple[Pipeline, Stage, type[Message]]:
        """The job's pipeline, the function of the stage that runs, and what that is given.

        Raises _Stranger for a job of a version that this worker cannot run; before any claim, so that it costs nothing.
        """
        origin, wire_name = self._writer.handoff.origin, self._writer.handoff.message.type
        if self._given in self._bench.strangers:
            raise _Stranger(f"version {origin.version} of pipeline {origin.pipeline!r} has another {wire_name}")
        pipeline = self._bench.pipelines.of(origin.pipeline, origin.version)
        if pipeline is None:
            raise _Stranger(f"no pipeline {origin.pipeline!r} is served here")
        kind = pipeline.messages.get(wire_name)
        stage = pipeline.taker(kind) if kind else None
        if kind is None or stage is None or stage.name != self._bench.stage.name:
            raise _Stranger(f"stage {self._bench.stage.name!r} takes no {wire_name} in version {pipeline.version}")
        return pipeline, stage, kind

    def _message(self, pipeline: Pipeline, kind: type[Message]) -> Message:
        try:
            return kind.model_validate(self._writer.handoff.message.body)
        except ValidationError as error:
            version = self._writer.handoff.origin.version
            if version == pipeline.version:
                raise
            raise _Stranger(f"version {version} of pipeline {pipeline.name!r} has another {kind.__name__}") from error

    def _job(self, running: RunningStep) -> Job:
        origin, address = self._writer.handoff.origin, self._writer.address
        return Job(
            id=address.job,
            pipeline=origin.pipeline,
            attempt=self._writer.attempt,
            deadline=origin.deadline,
            log=running,
            tenant=address.tenant,
            lane=address.lane,
            metadata=origin.metadata,
        )

    async def _hand_over(self, output: Message) -> None:
        """One append: the next hand-off, or the outcome. Then ack; when that is lost the log answers the redelivery."""
        handoff = self._writer.handoff
        pipeline, _, _ = self._look_for_version()
        taker = pipeline.taker(type(output))
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
        if self._engine and self._is_fresh:  # of one that goes on, others have done a part
            size, engine = len(self._delivery.record.data), self._engine
            self._bench.experience.note(size, engine.taken, most=engine.context)
        await self._ack()

    async def _ask(self, question: Question) -> None:
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
                    claim=self.claim,
                    key=question.key,
                    question=question.text,
                    expects=question.expects,
                    until=until,
                    misfit=question.misfit,
                    wasted=self._wasted,
                )
            )
        except TooLarge as error:
            await self._fail(error)
            return
        self._note("step_asks")
        # The clock may have looked before the question was there, and left the step to its worker.
        if self._bench.pen.now() >= (until or deadline) - SOON:
            await self._insist_on(until or deadline)
        await self._ack()

    async def _hand_back(self, back: _HandedBack) -> None:
        self._writer.check()
        if self._writer.may_be_claimed:
            await self._end_released(back.reason)
        self._note("step_released", reason=back.reason)
        await self._give_back(back.delay)

    async def _end_released(self, reason: str) -> None:
        await self._writer.end(
            lambda stamp: StepReleased(**stamp, claim=self.claim, reason=reason, wasted=self._wasted)
        )

    async def _send_away(self, stranger: _Stranger) -> None:
        """Let it wait for a worker that knows its version; that costs no budget, however long it takes."""
        handoff = self._writer.handoff
        self._bench.strangers.note(self._given, handoff.stage, handoff.origin, str(stranger))
        back = _HandedBack(f"{stranger}; serve the version that does", PAUSE_S)
        if self._delivery.count < RENEWED_AT:
            await self._hand_back(back)
            return
        self._writer.check()
        await self._writer.study()
        if self._writer.may_be_claimed:  # that it is a stranger may only be seen after the claim
            await self._end_released(back.reason)
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

    async def _fail(self, error: Exception) -> None:
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
            lambda stamp: StepFailed(**stamp, claim=self.claim, error=failure, retry_at=retry_at, wasted=self._wasted)
        )
        await self._give_back(delay)

    async def _bury(
        self, reason: str, state: StepState | None, last: Failure | None = None, decided: Settled | None = None
    ) -> None:
        """The outcome `dead_lettered`, as one append that is complete in itself."""
        handoff = self._writer.handoff
        errors = (*(state.errors if state else ()), *((last,) if last else ()))
        failing = last is not None and state is not None and state.owned_by(self.claim)  # open, and not a crash
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

    async def _settle(self, settled: Settled) -> None:
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
        if self._usage is None:
            return before + (known.usage + Usage(output_tokens=len(known.tokens)) if known else Usage())
        lost = 0 if answered else self._wasted or 0
        return before + self._usage + Usage(output_tokens=-lost, wasted_tokens=lost)

    async def _ack(self) -> None:
        self._bench.pen.reached(CrashPoint.BEFORE_ACK)
        await self._bench.acks.done(self.ack)
        self._bench.pen.reached(CrashPoint.AFTER_ACK)

    async def _give_back(self, delay: float) -> None:
        """Let it be given out again, to anybody, after `delay` seconds."""
        self._bench.pen.reached(CrashPoint.BEFORE_NAK)
        until = self._bench.pen.now() + timedelta(seconds=delay)
        if delay > LONGEST_NAK_S and await self._put_off(until):
            await self._ack()
        else:
            await self._bench.acks.again(self.ack, delay)
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
        known = {"action": action, "stage": self._bench.stage.name, "job": self.job}
        log.info("a step ended otherwise", extra={**known, **fields})


class _Asks(Exception):
    """The step waits for a person."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.key)
        self.question = question


class _Stranger(Exception):
    """The job is of a version that this worker does not know."""


class _HandedBack(Exception):
    """The step is to be handed back unfinished, and not given out again for `delay` seconds."""

    def __init__(self, reason: str, delay: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.delay = delay


class _Overdue(Exception):
    """The job's deadline has passed."""


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _too_large(what: str, error: TooLarge) -> TerminalError:
    return TerminalError(f"output_too_large: {what} cannot be stored: {error}")


def _cause(error: Exception) -> Exception:
    """What decides: the error itself, or of those that a task group has collected the one that says most."""
    leaves = list(_leaves(error))
    for kind in (EngineError, TerminalError, TooLarge, RetryableError):
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return error


def _leaves(error: Exception) -> Iterator[Exception]:
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
