"""One delivery of a hand-off, from pull to ack."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from actors.contracts.errors import Failure, RetryableError, TerminalError
from actors.contracts.events import (
    Aborted,
    Cancelled,
    Completed,
    DeadLettered,
    Expired,
    Failed,
    HandOff,
    StepFailed,
    StepReleased,
)
from actors.contracts.fold import StepState
from actors.contracts.generation import Usage
from actors.contracts.messages import Message, Packed
from actors.engines.protocol import Engine, EngineError
from actors.journal.append import TooLarge
from actors.journal.pull import Acks, Delivery
from actors.pipeline.job import Job
from actors.pipeline.pipeline import Pipeline
from actors.pipeline.stage import Stage
from actors.runtime.metered import Metered
from actors.runtime.pacing import TextLanes
from actors.runtime.rules import Verdict
from actors.runtime.step_log import RunningStep
from actors.runtime.writer import FactStamp, Pen, Settled, StepWriter

log = logging.getLogger(__name__)

PARTIAL_KEPT = 256 * 1024
ERROR_KEPT = 64 * 1024
CRASH_PAUSE_S = 1.0
"""How long a job waits after the engine under it died, so that its replacement can start."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every step of a worker works with."""

    stage: Stage
    pipelines: Mapping[str, Pipeline]
    resource: Any
    pen: Pen
    acks: Acks
    lanes: TextLanes
    rng: Random = field(default_factory=Random)

    @property
    def claims_first(self) -> bool:
        """Engine steps and steps with effects are claimed before they begin; a pure step's first append is its output."""
        return self.stage.effects or isinstance(self.resource, Engine)


class Step:
    """Runs the stage once for one delivery, and leaves the log and the lease as the protocol wants them."""

    def __init__(self, bench: Bench, delivery: Delivery, claim: str) -> None:
        self._bench = bench
        self._delivery = delivery
        self._writer = StepWriter(bench.pen, delivery, claim)
        self._engine = Metered(bench.resource, claim) if isinstance(bench.resource, Engine) else None
        self._usage: Usage | None = None
        self._released = ""
        self._work: asyncio.Task[Message] | None = None

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

    def release(self, reason: str) -> None:
        """Hand the step back at the next chance: what is stored stays, no budget is spent."""
        self._released = reason
        if self._work:
            self._work.cancel()

    async def run(self) -> None:
        """Claim, work, hand over, ack; or whatever the log says instead. Raises nothing but CancelledError."""
        try:
            try:
                await self._begin()
                output = await self._do()
                await self._hand_over(output)
            except Settled as settled:
                await self._settle(settled)
            except _Released:
                await self._hand_back()
            except _Overdue:
                await self._settle(Settled(Verdict.EXPIRE, self._writer.state))
            except EngineError as error:
                # Not this job's failure: its claim stays open in the log and counts as a crash.
                self._note("engine_died", reason=str(error))
                await self._bench.acks.again(self.ack, CRASH_PAUSE_S)
            except Exception as error:
                await self._fail(error)
        except Settled as settled:
            await self._settle(settled)

    async def _begin(self) -> None:
        fresh = self._delivery.count == 1
        overdue = self._bench.pen.now() >= self._writer.handoff.origin.deadline
        if not fresh or overdue:
            await self._writer.claim_by_rule()
        elif self._bench.claims_first:
            await self._writer.claim_fresh()

    async def _do(self) -> Message:
        """The stage's output. Raises what the stage raises, _Released, _Overdue and Settled."""
        if self._released:
            raise _Released
        pipeline = self._pipeline()
        message = pipeline.messages[self._writer.handoff.message.type].model_validate(self._writer.handoff.message.body)
        running = RunningStep(self._writer, pipeline, self._bench.lanes.pace(), self._engine)
        self._work = asyncio.create_task(self._call(message, self._job(running)))
        origin = self._writer.handoff.origin
        left = (origin.deadline - self._bench.pen.now()).total_seconds()
        limit = left if self._engine else min(left, self._bench.stage.timeout)
        try:
            async with asyncio.timeout(limit):
                output = await self._work
        except asyncio.CancelledError:
            if self._released and not _cancelled_from_outside():
                raise _Released from None
            raise
        except TimeoutError:
            if not self._work.cancelled():
                raise  # the stage's own
            if limit == left:
                raise _Overdue from None
            raise RetryableError(f"the step took longer than its timeout of {self._bench.stage.timeout:g} s") from None
        finally:
            self._work.cancel()
            await asyncio.wait({self._work})
            self._usage = running.usage
        if not isinstance(output, self._bench.stage.gives):
            allowed = " or ".join(m.__name__ for m in self._bench.stage.gives)
            raise TypeError(f"stage {self._bench.stage.name!r} returned {type(output).__name__}; it declares {allowed}")
        return output

    async def _call(self, message: Message, job: Job) -> Message:
        stage = self._bench.stage
        arguments: tuple[Any, ...] = (message, job)
        if stage.uses is not None:
            arguments = (*arguments, self._engine or self._bench.resource)
        if stage.is_async:
            output: Message = await stage.run(*arguments)
            return output
        return await asyncio.to_thread(stage.run, *arguments)

    def _pipeline(self) -> Pipeline:
        name = self._writer.handoff.origin.pipeline
        pipeline = self._bench.pipelines.get(name)
        if pipeline is None or self._writer.handoff.message.type not in pipeline.messages:
            raise RetryableError(
                f"this worker does not know pipeline {name!r} with message {self._writer.handoff.message.type!r}; "
                "deploy the version that does, or redrive the job",
                delay=self._bench.stage.retry.longest,
            )
        return pipeline

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
        """One append: the next stage's hand-off, or the outcome. Then ack; a lost ack is a redelivery, and the log answers it."""
        handoff = self._writer.handoff
        taker = self._pipeline().taker(type(output))
        packed, usage = Packed.of(output), self._total(None)

        def build(stamp: FactStamp) -> HandOff | Completed:
            text = self._writer.text_digest
            if taker is None:
                return Completed(**stamp, origin=handoff.origin, answer=packed, usage=usage, text=text)
            return HandOff(**stamp, stage=taker.name, origin=handoff.origin, message=packed, usage=usage, text=text)

        try:
            await self._writer.put(build)
        except TooLarge as error:
            raise TerminalError(f"output_too_large: the output of {self._bench.stage.name!r} cannot be stored: {error}") from error
        await self._bench.acks.done(self.ack)

    async def _hand_back(self) -> None:
        if self._writer.claimed:
            await self._writer.put(lambda stamp: StepReleased(**stamp, claim=self.claim, reason=self._released))
        self._note("step_released", reason=self._released)
        await self._bench.acks.again(self.ack)

    async def _fail(self, error: Exception) -> None:
        handoff, stage = self._writer.handoff, self._bench.stage
        failure = Failure.of(error)
        self._note("step_failed", error=failure.type)
        if isinstance(error, TerminalError):
            usage = self._total(None)
            await self._writer.put(
                lambda stamp: Failed(
                    **stamp, origin=handoff.origin, stage=stage.name, error=failure, usage=usage, text=self._writer.text_digest
                )
            )
            await self._bench.acks.done(self.ack)
            return
        failures = (self._writer.state.failures if self._writer.state else 0) + 1
        if stage.retry.spent(failures, 0):
            await self._bury("it failed as often as it may", await self._writer.read_again(), failure)
            return
        asked = error.delay if isinstance(error, RetryableError) else None
        delay = stage.retry.delay(failures, self._bench.rng) if asked is None else asked
        retry_at = self._bench.pen.now() + timedelta(seconds=delay)
        await self._writer.put(lambda stamp: StepFailed(**stamp, claim=self.claim, error=failure, retry_at=retry_at))
        await self._bench.acks.again(self.ack, delay)

    async def _bury(self, reason: str, state: StepState | None, last: Failure | None = None) -> None:
        """The outcome `dead_lettered`, as one append that is complete in itself."""
        handoff = self._writer.handoff
        errors = (*(state.errors if state else ()), *((last,) if last else ()))
        partial = state.text if state else ""
        kept, cut = _cut(errors)
        await self._writer.put(
            lambda stamp: DeadLettered(
                **stamp,
                origin=handoff.origin,
                stage=self._bench.stage.name,
                reason=reason,
                input=handoff.message,
                errors=kept,
                attempts=max(state.attempts if state else 0, len(errors)),
                crashes=state.crashes if state else 0,
                deliveries=self._delivery.count,
                partial=partial[:PARTIAL_KEPT],
                cut=cut or len(partial) > PARTIAL_KEPT,
                usage=self._total(state),
                text=self._writer.text_digest,
            )
        )
        self._note("dead_lettered", reason=reason)
        await self._bench.acks.done(self.ack)

    async def _settle(self, settled: Settled) -> None:
        """Do what was decided, until the log agrees."""
        while True:
            self._note("step_settled", verdict=settled.verdict.name)
            try:
                await self._carry_out(settled.verdict, settled.state)
                return
            except Settled as again:
                settled = again

    async def _carry_out(self, verdict: Verdict, state: StepState | None) -> None:
        handoff = self._writer.handoff
        usage = self._total(state)
        match verdict:
            case Verdict.ACK:
                await self._bench.acks.done(self.ack)
            case Verdict.LET_GO | Verdict.ASK_OWNER:
                pass  # an append, an ack or a nak would act on my successor's lease
            case Verdict.HAND_BACK:
                await self._bench.acks.again(self.ack, self._until_retry(state))
            case Verdict.CANCEL:
                await self._writer.put(lambda stamp: Cancelled(**stamp, origin=handoff.origin, usage=usage))
                await self._bench.acks.done(self.ack)
            case Verdict.EXPIRE:
                begun = self._writer.claimed or bool(state and state.attempts) or handoff.n > 1
                outcome = Expired if begun else Aborted
                await self._writer.put(lambda stamp: outcome(**stamp, origin=handoff.origin, usage=usage))
                await self._bench.acks.done(self.ack)
            case Verdict.BURY:
                lost = state is not None and state.crashes >= self._bench.stage.retry.crashes
                await self._bury("its worker was lost as often as it may" if lost else "its budget is used up", state)
            case Verdict.GO_ON | Verdict.CLAIM:
                raise AssertionError(f"{verdict} settles nothing")

    def _total(self, state: StepState | None) -> Usage:
        """The job's usage with this step's: what it counted while it ran, or what the log has of an attempt before it."""
        earlier = state.usage if state else Usage()
        return self._writer.handoff.usage + (earlier if self._usage is None else self._usage)

    def _until_retry(self, state: StepState | None) -> float:
        if state is None or state.retry_at is None:
            return 0.0
        return max(0.0, (state.retry_at - self._bench.pen.now()).total_seconds())

    def _note(self, action: str, **fields: object) -> None:
        log.info("a step ended otherwise", extra={"action": action, "stage": self._bench.stage.name, "job": self.job, **fields})


class _Released(Exception):
    """The step is to be handed back."""


class _Overdue(Exception):
    """The job's deadline has passed."""


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _cut(errors: tuple[Failure, ...]) -> tuple[tuple[Failure, ...], bool]:
    """The newest errors that fit, and whether any had to be left out."""
    kept: list[Failure] = []
    size = 0
    for error in reversed(errors):
        size += len(error.message) + len(error.trace)
        if size > ERROR_KEPT:
            break
        kept.insert(0, error)
    return tuple(kept), len(kept) < len(errors)
