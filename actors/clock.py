"""The clock: it ends overdue jobs that nobody runs, makes room, and keeps the watch for workers that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets

from actors.audit.notary import Notary
from actors.contracts.events import HandOff, NotAnEvent, Record
from actors.contracts.subjects import Queue, Subject
from actors.delays import Delays
from actors.forgetting import Forgetting
from actors.journal.connection import Unanswered
from actors.journal.journal import Journal
from actors.journal.lag import ack_floor, queues_of, stages_in_log
from actors.repair import Repair
from actors.runtime.again import end_overdue
from actors.runtime.cancel import cancel
from actors.runtime.job_log import JobLog
from actors.runtime.presence import Owners
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings
from actors.runtime.writer import Clock as Now
from actors.runtime.writer import utc_now
from actors.takeover import Takeover

log = logging.getLogger(__name__)

ROUND_S = 10.0
REPAIR_EVERY = 30
"""In the first round, and then in every so many-th, jobs that nobody has are looked for."""


class Clock:
    """Walks every stage's open hand-offs, every few seconds.

    It may be absent for minutes, and there may be two: it appends by the same rule as everybody, so doing a thing twice
    is harmless. What somebody runs it leaves to them: a worker ends its own overdue jobs.
    """

    def __init__(self, settings: Settings, *, now: Now = utc_now, every: float = ROUND_S) -> None:
        self._settings = settings
        self._stages = sorted(load_pipelines(settings.pipelines).stages)
        self._now = now
        self._every = every
        self._name = f"clock/{secrets.token_hex(4)}"
        self._stopping = asyncio.Event()
        self._takeover = Takeover(self._stages, settings.nats_sys_urls)
        self._notary = Notary(settings.checkpoint_folder, every=settings.checkpoint_every)
        self._delays = Delays(self._name, now)
        self._repair = Repair(self._stages, self._name, now, ack_wait=settings.ack_wait)
        self._forgetting = Forgetting(self._stages, max_jobs=settings.max_jobs, every=every)

    async def run(self) -> None:
        """Work until stopped."""
        # What breaks one of the tasks ends the clock, and Serve makes another.
        async with (
            Journal.open(self._settings.nats_urls, self._name.replace("/", "-")) as journal,
            asyncio.TaskGroup() as group,
        ):
            watches = (self._takeover, self._delays, self._notary, self._forgetting)
            beside = [group.create_task(watch.run(journal)) for watch in watches]
            await self._go_round(journal)
            for task in beside:
                task.cancel()

    async def _go_round(self, journal: Journal) -> None:
        for number in itertools.count():
            if self._stopping.is_set():
                return
            try:
                await self.round(journal)
                if number % REPAIR_EVERY == 0:
                    await self._repair.round(journal)
            except Unanswered as error:
                log.info("a round was cut short", extra={"action": "clock_retry", "reason": str(error)})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._stopping.wait()

    async def stop(self, within: float) -> None:
        """End after the round that is under way."""
        self._stopping.set()

    async def check(self) -> None:
        """It is well as long as it runs."""

    async def round(self, journal: Journal) -> int:
        """Look at every open hand-off once; how many jobs were ended. Raises Unanswered."""
        ended = 0
        # What waits for a version that nobody serves has its deadline too.
        for queue in await queues_of(journal.signals, {*self._stages, *await stages_in_log(journal.signals)}):
            ended += await self._walk(journal, queue)
        return ended

    async def _walk(self, journal: Journal, queue: Queue) -> int:
        position, ended = await ack_floor(journal.signals, queue), 0
        while page := await journal.reader.after(queue.handoffs, position):
            for record in page:
                if self._is_overdue(record):
                    ended += await self._end(journal, record)
            position = page[-1].seq
        return ended

    def _is_overdue(self, record: Record) -> bool:
        try:
            event = record.event
        except NotAnEvent:
            return False
        return isinstance(event, HandOff) and self._now() >= event.origin.deadline

    async def _end(self, journal: Journal, record: Record) -> bool:
        of = Subject.parse(record.subject)
        job = JobLog(journal, of.tenant, of.job, by=self._name, now=self._now)
        state = await job.read()
        step = state.step if state else None
        if state is None or step is None or state.outcome or step.handoff_seq != record.seq:
            return False
        owners, owner = Owners(journal.signals), step.owner if step.open else None
        if owner and await owners.runs(owner.worker, owner.claim) is not False:
            return False
        if step.cancel:  # that was asked for before
            await cancel(job, owners, step.cancel_reason)
            return bool(job.state and job.state.outcome)
        # Refused: somebody went on with it, and the next round looks again.
        if ended := await end_overdue(job, state, step):
            log.info("ended an overdue job", extra={"action": "job_overdue", "job": job.job})
        return ended
