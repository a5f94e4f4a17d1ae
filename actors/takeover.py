"""Takeover: what a worker held when it died is given to another at once."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import defaultdict
from collections.abc import Sequence

from actors.contracts.events import NotAnEvent, Record, StepStarted
from actors.contracts.fold import fold_step
from actors.contracts.subjects import Queue, Subject
from actors.journal.connection import Unanswered
from actors.journal.departures import departures
from actors.journal.journal import ROLES, Journal
from actors.journal.lag import held, queues_of
from actors.journal.pull import Acks
from actors.runtime.presence import Owners, workers_of

log = logging.getLogger(__name__)

GRACE_S = 0.3
"""A connection that went may come back: so long is waited before its worker is asked whether it is there. One that lost
all of its connections together has died, and is asked at once."""

BEAT_S = 1.0
MISSED_BEATS = 3
SWEEP_EVERY = 10
"""Every so many beats, also the owners of whatever is under way are looked for: one may have died unseen."""

SIGNALS = "signals"
"""The role of the connection that a worker answers on; when that goes, the worker may have."""


class Takeover:
    """Watches every stage's workers, and ends the leases of those that are gone.

    The server's events tell at once; where it has no system account for us, three missed beats do. A wrong guess costs
    an attempt, never correctness: the next worker asks the owner first, and every append compares.
    """

    def __init__(self, stages: Sequence[str], sys_urls: Sequence[str]) -> None:
        self._stages = tuple(stages)
        self._sys_urls = tuple(sys_urls)
        self._missed: dict[str, int] = {}

    async def run(self, journal: Journal) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._count_beats(journal))
            if self._sys_urls:
                tasks.create_task(self._hear_departures(journal))

    async def give_out_again(self, journal: Journal, worker: str) -> int:
        """End the leases of what this worker held; how many. Raises Unanswered."""
        acks, given = Acks(journal.pulls), 0
        for owner in await self._owners(journal, self._stage(worker)):
            if owner.worker == worker:
                await acks.again(owner.ack)
                given += 1
        return given

    async def _hear_departures(self, journal: Journal) -> None:
        async with departures(self._sys_urls) as names, asyncio.TaskGroup() as asking:
            lost: defaultdict[str, set[str]] = defaultdict(set)
            async for name in names:
                worker, _, role = name.rpartition(":")
                if self._stage(worker) not in self._stages:
                    continue
                lost[worker].add(role)
                if lost[worker] >= set(ROLES):
                    del lost[worker]
                    asking.create_task(self._departed(journal, worker))
                elif role == SIGNALS:
                    asking.create_task(self._departed(journal, worker, grace=GRACE_S))

    async def _count_beats(self, journal: Journal) -> None:
        for beat in itertools.count():
            try:
                seen = await asyncio.gather(*(workers_of(journal.signals, stage) for stage in self._stages))
                here = {status.worker for workers in seen for status in workers}
                self._missed = {w: n + 1 for w, n in self._missed.items()} | dict.fromkeys(here, 0)
                gone = {w for w, n in self._missed.items() if n >= MISSED_BEATS}
                if beat % SWEEP_EVERY == 0:
                    gone |= {o.worker for stage in self._stages for o in await self._owners(journal, stage)} - here
                for worker in gone:
                    await self._departed(journal, worker, grace=GRACE_S)
            except Unanswered:
                self._missed.clear()  # it is we who heard nothing
            await asyncio.sleep(BEAT_S)

    async def _departed(self, journal: Journal, worker: str, *, grace: float = 0.0) -> None:
        """Somebody says that this worker is gone: ask, and if nobody is there, give out what it held."""
        await asyncio.sleep(grace)
        try:
            if await Owners(journal.signals).is_there(worker) is not False:
                return
            self._missed.pop(worker, None)
            given = await self.give_out_again(journal, worker)
        except Unanswered as error:
            log.info("a takeover was put off", extra={"action": "takeover_retry", "reason": str(error)})
            return  # its leases end by themselves
        log.info("a worker is gone", extra={"action": "worker_gone", "worker": worker, "given_out_again": given})

    async def _owners(self, journal: Journal, stage: str) -> list[StepStarted]:
        """The claims of a stage that nothing has ended yet."""
        found = []
        for queue in await queues_of(journal.signals, [stage]):
            for record in await self._in_flight(journal, queue):
                address = Subject.parse(record.subject).address
                step = fold_step(await journal.reader.job(address.tenant, address.job), record.seq)
                if step and step.open and not step.closed and step.owner:
                    found.append(step.owner)
        return found

    async def _in_flight(self, journal: Journal, queue: Queue) -> list[Record]:
        """The hand-offs in a queue that were delivered to somebody and not acknowledged."""
        begin, end = await held(journal.signals, queue)
        found: list[Record] = []
        while begin < end and (page := await journal.reader.after(queue.handoffs, begin)):
            found += [record for record in page if record.seq <= end and _is_event(record)]
            begin = page[-1].seq
        return found

    @staticmethod
    def _stage(worker: str) -> str:
        """A worker is named after its stage."""
        return worker.rpartition("-")[0]


def _is_event(record: Record) -> bool:
    try:
        return bool(record.event)
    except NotAnEvent:
        return False
