"""The clock: it ends overdue jobs that nobody runs, and keeps the watch for workers that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

from actors.contracts.envelope import Envelope
from actors.contracts.events import Aborted, Expired, HandOff, NotAnEvent, Record, place
from actors.contracts.fold import StepState, fold_job, fold_step
from actors.contracts.subjects import LANES, Lane, Subject, handoffs
from actors.journal.append import Refused
from actors.journal.connection import Unanswered
from actors.journal.journal import Journal
from actors.journal.lag import ack_floor
from actors.runtime.replica import load_pipelines
from actors.runtime.settings import Settings
from actors.runtime.writer import Clock as Now
from actors.runtime.writer import utc_now
from actors.takeover import Takeover

log = logging.getLogger(__name__)

ROUND_S = 10.0


class Clock:
    """Walks every stage's open hand-offs, every few seconds.

    It may be absent for minutes, and there may be two: it appends by the same rule as everybody, so doing a thing twice
    is harmless. What somebody runs it leaves to them: a worker ends its own overdue jobs.
    """

    def __init__(self, settings: Settings, *, now: Now = utc_now, every: float = ROUND_S) -> None:
        self._settings = settings
        self._stages = sorted({s.name for p in load_pipelines(settings.pipelines).values() for s in p.stages})
        self._now = now
        self._every = every
        self._name = f"clock/{secrets.token_hex(4)}"
        self._stopping = asyncio.Event()
        self._takeover = Takeover(self._stages, settings.nats_sys_urls)

    async def run(self) -> None:
        """Work until stopped."""
        async with Journal.open(self._settings.nats_urls, self._name.replace("/", "-")) as journal:
            watching = asyncio.create_task(self._takeover.run(journal))
            try:
                await self._go_round(journal)
            finally:
                watching.cancel()
                await asyncio.wait({watching})

    async def _go_round(self, journal: Journal) -> None:
        while not self._stopping.is_set():
            try:
                await self.round(journal)
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
        for stage in self._stages:
            for lane in LANES:
                ended += await self._walk(journal, stage, lane)
        return ended

    async def _walk(self, journal: Journal, stage: str, lane: Lane) -> int:
        position, ended = await ack_floor(journal.signals, stage, lane), 0
        while page := await journal.reader.after(handoffs(stage, lane), position):
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
        address = Subject.parse(record.subject).address
        records = await journal.reader.job(address.tenant, address.job)
        step, job = fold_step(records, record.seq), fold_job(records)
        if step is None or job is None or step.closed or step.open:
            return False
        event = self._outcome(step, began=job.started)
        kind, topic = place(event)
        try:
            await journal.appender.append(address, kind, topic, event.encode(), expect=step.chain.seq)
        except Refused:
            return False  # somebody went on with it; the next round looks again
        log.info("ended an overdue job", extra={"action": "job_overdue", "job": address.job, "outcome": event.kind})
        return True

    def _outcome(self, step: StepState, *, began: bool) -> Envelope:
        chain = step.chain
        outcome = Expired if began else Aborted
        return outcome(
            n=chain.n + 1,
            by=self._name,
            at=self._now(),
            prev=chain.prev,
            origin=step.handoff.origin,
            usage=step.handoff.usage + step.usage,
        )
