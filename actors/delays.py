"""Delays: what was put off is given out again when its time has come."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from actors.contracts.events import HandOff
from actors.contracts.fold import JobState, StepState
from actors.journal.connection import Unanswered
from actors.journal.journal import Journal
from actors.journal.later import Due, Later
from actors.runtime.job_log import JobLog
from actors.runtime.writer import Clock, FactStamp

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often is looked for what is due, in seconds."""

EARLY = timedelta(seconds=10)
"""How much before its time, by our clock, something that the server finds due is given out."""


class Delays:
    """Gives the steps out again that are due. There may be two at it: the second append is refused."""

    def __init__(self, by: str, now: Clock) -> None:
        self._by = by
        self._now = now

    async def run(self, journal: Journal) -> None:
        """Look after what is due until cancelled."""
        while True:
            try:
                await self.round(journal)
            except Unanswered as error:
                log.info("what is due waits", extra={"action": "delays_retry", "reason": str(error)})
            await asyncio.sleep(LOOK_S)

    async def round(self, journal: Journal) -> int:
        """Give out what is due now; how many steps. Raises Unanswered."""
        later, given = Later(journal.signals), 0
        for due in await later.due():
            given += await self._look_after(journal, later, due)
            await later.done(due)
        return given

    async def _look_after(self, journal: Journal, later: Later, due: Due) -> bool:
        job = JobLog(journal, due.tenant, due.job, by=self._by, now=self._now)
        await job.read()
        while (step := _idle_step(job.state)) is not None and step.handoff.n == due.n:
            if step.retry_at is not None and step.retry_at - self._now() > EARLY:
                await later.put_off(due.tenant, due.job, due.n, step.retry_at)
                return False
            if await give_out_again(job, step):
                log.info("gave out again what was put off", extra={"action": "delay_over", "job": due.job})
                return True
        return False


def _idle_step(state: JobState | None) -> StepState | None:
    """The step of a job that nobody runs; None where somebody does, or the job has its outcome."""
    step = state.step if state and not state.outcome else None
    return None if step is None or step.open else step


async def give_out_again(job: JobLog, step: StepState) -> bool:
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
        )

    return await job.append(build)
