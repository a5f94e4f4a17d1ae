"""Again: a step that nobody runs goes on, because its time has come, somebody has answered it, or it was lost."""

from __future__ import annotations

import enum
from datetime import datetime

from actors.contracts.errors import Failure, TerminalError
from actors.contracts.events import Aborted, Expired, Failed, HandOff, Told
from actors.contracts.fold import JobState, StepState
from actors.journal.append import TooLarge
from actors.runtime.job_log import JobLog
from actors.runtime.writer import FactStamp


class WakeUp(enum.Enum):
    """What became of a step when its time had come."""

    REFUSED = "the job's log has gone on: look again"
    GIVEN_OUT = "it was given out again"
    TIMED_OUT = "it was given out again, and is told that nobody has answered it"
    FAILED = "what gives it out again is too large: the job has failed"
    ENDED = "the job's deadline has passed while it waited for a person: it has its outcome"


def wakes_at(step: StepState) -> datetime | None:
    """When something is to be done about a step that nobody runs; None where nothing says so."""
    deadline = step.handoff.origin.deadline
    if step.question:
        return min(step.question.until or deadline, deadline)
    return step.handoff.start_at or step.retry_at


async def wake_up(job: JobLog, state: JobState, step: StepState) -> WakeUp:
    """Do what is due about a step that nobody runs."""
    try:
        return await _go_on(job, state, step)
    except TooLarge as error:
        return WakeUp.FAILED if await _end_failed(job, state, step, error) else WakeUp.REFUSED


async def _go_on(job: JobLog, state: JobState, step: StepState) -> WakeUp:
    if (question := step.question) is None:
        return WakeUp.GIVEN_OUT if await give_out_again(job, step) else WakeUp.REFUSED
    if question.until is None:
        return WakeUp.ENDED if await end_overdue(job, state, step) else WakeUp.REFUSED
    told = Told(question=question.n, key=question.key, timed_out=True)
    return WakeUp.TIMED_OUT if await give_out_again(job, step, told) else WakeUp.REFUSED


async def give_out_again(job: JobLog, step: StepState, told: Told | None = None) -> bool:
    """Append a hand-off that gives the same step out again; what it has cost and stored so far counts on.

    False when the job's log has gone on.
    """
    before = step.handoff

    def build(stamp: FactStamp) -> HandOff:
        return HandOff(
            **stamp,
            stage=before.stage,
            of=before.first_n,
            origin=before.origin,
            message=before.message,
            usage=before.usage,
            told=told,
        )

    return await job.append(build)


async def _end_failed(job: JobLog, state: JobState, step: StepState, error: TooLarge) -> bool:
    failure = Failure.of(TerminalError(f"output_too_large: {step.handoff.stage!r} cannot be given out again: {error}"))
    stage, text = step.handoff.stage, job.text_digest
    return await job.append(
        lambda stamp: Failed(**stamp, origin=state.origin, stage=stage, error=failure, usage=step.total, text=text)
    )


async def end_overdue(job: JobLog, state: JobState, step: StepState) -> bool:
    """Append the outcome of a job whose deadline has passed. False when the job's log has gone on."""
    outcome, text = Expired if state.started else Aborted, job.text_digest
    return await job.append(lambda stamp: outcome(**stamp, origin=state.origin, usage=step.total, text=text))
