"""Delays: what was put off goes on when its time has come: a start, a retry, or a question that nobody answered."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from actors.contracts.errors import HeadraceError
from actors.contracts.fold import JobState, StepState
from actors.journal.connection import Unanswered
from actors.journal.journal import Journal
from actors.journal.later import Due, Later
from actors.runtime.again import WakeUp, wake_up, wakes_at
from actors.runtime.job_log import JobLog
from actors.runtime.writer import Clock

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often is looked for what is due, in seconds."""

EARLY = timedelta(seconds=10)
"""How much before its time, by our clock, something that the server finds due is given out."""


class Delays:
    """Looks after the jobs that are due. There may be two at it: the second append is refused."""

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
        """Look after what is due now; how many jobs went on or ended. Raises Unanswered."""
        later, given = Later(journal.signals), 0
        for due in await later.due():
            try:
                given += await self._look_after(journal, later, due)
            except Unanswered:
                raise
            except HeadraceError as error:  # this job's alone; the repair looks at it again
                log.error("a job cannot go on", extra={"action": "delay_failed", "job": due.job, "reason": str(error)})
            await later.done(due)
        return given

    async def _look_after(self, journal: Journal, later: Later, due: Due) -> bool:
        job = JobLog(journal, due.tenant, due.job, by=self._by, now=self._now)
        while (state := await job.read()) is not None and (step := _idle_step(state)) and step.handoff.n == due.n:
            time = wakes_at(step)
            if time is not None and time - self._now() > EARLY:
                await later.put_off(due.tenant, due.job, due.n, time)
                return False
            if (done := await wake_up(job, state, step)) is not WakeUp.REFUSED:
                log.info("what was put off goes on", extra={"action": "delay_over", "job": due.job, "done": done.name})
                return True
        return False


def _idle_step(state: JobState) -> StepState | None:
    """The step of a job that nobody runs; None where somebody does, or the job has its outcome."""
    step = None if state.outcome else state.step
    return None if step is None or step.open else step
