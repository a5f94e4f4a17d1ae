"""One delivery of a hand-off, from pull to ack."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from actors.contracts.errors import RetryableError, TerminalError
from actors.contracts.messages import Message
from actors.engines.protocol import Engine, EngineError
from actors.journal.append import TooLarge
from actors.journal.pull import Delivery
from actors.pipeline.job import Job
from actors.pipeline.pipeline import Pipeline
from actors.pipeline.stage import Stage
from actors.runtime.bench import Bench
from actors.runtime.company import Company, Disbanded
from actors.runtime.crash_points import CrashPoint
from actors.runtime.effort import Effort
from actors.runtime.ending import Ending
from actors.runtime.metered import Metered
from actors.runtime.rules import Verdict
from actors.runtime.step_log import Question, RunningStep
from actors.runtime.strangers import Given
from actors.runtime.writer import Settled, StepWriter


class Step:
    """Runs the stage once for one delivery, and leaves the log and the lease as the protocol wants them."""

    def __init__(self, bench: Bench, company: Company, delivery: Delivery, claim: str) -> None:
        self._bench = bench
        self._company = company
        self._delivery = delivery
        self._writer = StepWriter(bench.pen, delivery, claim)
        self._engine = Metered(bench.resource, claim) if isinstance(bench.resource, Engine) else None
        self._ending = Ending(bench, delivery, self._writer, self._engine)
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
            except (Disbanded, _HandedBack) as back:
                await self._ending.hand_back(str(back))
            except _Asks as asks:
                await self._ending.ask(asks.question)
            except _Stranger as stranger:
                handoff = self._writer.handoff
                self._bench.strangers.note(self._given, handoff.stage, handoff.origin, str(stranger))
                await self._ending.send_away(str(stranger))
            except _Overdue:
                await self._ending.settle(Settled(Verdict.EXPIRE, self._writer.state))
            except Exception as error:
                await self._ending.fail(_cause(error))
        except Settled as settled:
            await self._ending.settle(settled)

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
            self._ending.usage = running.usage
        if running.question:
            raise _Asks(running.question)
        if type(output) not in stage.gives:  # exactly: a message goes by its own type
            allowed = " or ".join(m.__name__ for m in stage.gives)
            raise TypeError(f"stage {stage.name!r} returned {type(output).__name__}; it declares {allowed}")
        return output

    async def _hand_over(self, output: Message) -> None:
        pipeline, _, _ = self._look_for_version()
        await self._ending.hand_over(output, pipeline.taker(type(output)))
        if self._engine and self._is_fresh:  # of one that goes on, others have done a part
            size = len(self._delivery.record.data)
            self._bench.experience.note(size, self._engine.taken, most=self._engine.context)

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


class _Asks(Exception):
    """The step waits for a person."""

    def __init__(self, question: Question) -> None:
        super().__init__(question.key)
        self.question = question


class _Stranger(Exception):
    """The job is of a version that this worker does not know."""


class _HandedBack(Exception):
    """The step is to be handed back unfinished."""


class _Overdue(Exception):
    """The job's deadline has passed."""


def _cancelled_from_outside() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


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
