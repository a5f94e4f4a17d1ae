"""Repair: a job that has no outcome, and that nobody will be given any more, is given out again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from actors.contracts.errors import HeadraceError
from actors.contracts.subjects import DEAD, DONE, PUT_OFF, Address, Queue, Subject, facts
from actors.journal.connection import Unanswered
from actors.journal.journal import Journal
from actors.journal.lag import ack_floor, queues_of
from actors.journal.later import Later
from actors.journal.topology import ACK_WAIT_S, ensure_queue
from actors.runtime.again import WakeUp, wake_up, wakes_at
from actors.runtime.cancel import cancel
from actors.runtime.job_log import JobLog
from actors.runtime.presence import Owners
from actors.runtime.writer import Clock

log = logging.getLogger(__name__)

Floors = dict[Queue, int]


class Repair:
    """Looks for hand-offs that count as acknowledged though the log does not show them done.

    None should be there, but of jobs that wait for their time or for a person; of those it sees to it that their time
    is noted. A consumer whose state was damaged, an ack that was sent by hand, or a delay that was lost would make one;
    the job would wait for ever, and its client with it. A queue that nobody has made, though something was handed off
    to it, is made: a stage of a new version, and a tenant whose share only the version before knew of.
    """

    def __init__(self, stages: Sequence[str], by: str, now: Clock, *, ack_wait: float = ACK_WAIT_S) -> None:
        self._stages = tuple(stages)
        self._ack_wait = ack_wait
        self._by = by
        self._now = now

    async def round(self, journal: Journal) -> int:
        """Look at every job that has no outcome; how many lost ones go on, or were ended. Raises Unanswered."""
        # First the floors: what is acknowledged by then has its next message in the log when that is read.
        queues = await queues_of(journal.signals, self._stages)
        floors = {queue: await ack_floor(journal.signals, queue) for queue in queues}
        given = 0
        for job in sorted(await self._open(journal) - await self._given_out(journal, floors), key=lambda job: job.job):
            try:
                given += await self._look_at(journal, job, floors)
            except Unanswered:
                raise
            except HeadraceError as error:  # this job's alone
                log.error(
                    "a job cannot be repaired", extra={"action": "repair_failed", "job": job.job, "reason": str(error)}
                )
        return given

    async def _open(self, journal: Journal) -> set[Address]:
        """The jobs that were handed to a stage, or put off before that, and have no outcome."""
        topics = (*self._stages, PUT_OFF)
        handed = {job for topic in topics for job in await self._jobs(journal, facts(topic))}
        return handed - await self._jobs(journal, facts(DONE)) - await self._jobs(journal, facts(DEAD))

    @staticmethod
    async def _jobs(journal: Journal, subjects: str) -> set[Address]:
        return {Subject.parse(subject).address for subject in await journal.reader.subjects(subjects)}

    @staticmethod
    async def _given_out(journal: Journal, floors: Floors) -> set[Address]:
        """The jobs that are with a worker or wait for one."""
        found = set()
        for queue, position in floors.items():
            while page := await journal.reader.after(queue.handoffs, position):
                found |= {Subject.parse(record.subject).address for record in page}
                position = page[-1].seq
        return found

    async def _look_at(self, journal: Journal, found: Address, floors: Floors) -> bool:
        job = JobLog(journal, found.tenant, found.job, by=self._by, now=self._now)
        while (state := await job.read()) is not None and not state.outcome and (step := state.step) is not None:
            subject = Subject.parse(job.records[-1].subject)
            queue = Queue(step.handoff.stage, subject.lane, subject.share)
            if queue.stage in self._stages and queue not in floors:
                await ensure_queue(journal.signals, queue, ack_wait=self._ack_wait)
                log.error("found a queue that was missing", extra={"action": "queue_repaired", "queue": queue.token})
            if step.handoff_seq > floors.get(queue, 0) and not step.handoff.start_at:
                return False
            if step.open and step.owner and await self._runs(journal, step.owner.worker, step.owner.claim):
                return False
            if step.cancel:  # only an outcome may follow that
                await cancel(job, Owners(journal.signals), step.cancel_reason)
                return False
            time = None if step.open else wakes_at(step)
            if time is not None and time > self._now():
                await Later(journal.signals).put_off(found.tenant, found.job, step.handoff.n, time)
                return False
            if (done := await wake_up(job, state, step)) is not WakeUp.REFUSED:
                told = {"action": "job_repaired", "job": found.job, "done": done.name}
                log.error("found a job that was lost", extra=told)
                return True
        return False

    @staticmethod
    async def _runs(journal: Journal, worker: str, claim: str) -> bool:
        """Whether its owner runs it, or may do so and does not answer just now."""
        return await Owners(journal.signals).runs(worker, claim) is not False
