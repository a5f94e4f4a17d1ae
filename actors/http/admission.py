"""Admission: a job is refused while there is still room for those that were accepted."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from actors.contracts.subjects import LANES, Lane
from actors.http.drain import Drain
from actors.http.problem import BACKLOG, FULL, Refusal
from actors.journal import Journal, Unanswered
from actors.journal.journal import PatientJournal
from actors.journal.lag import Flow, Lag, stage_flows
from actors.journal.room import Room, measure
from actors.pipeline import Pipeline

log = logging.getLogger(__name__)

FULL_AT = 0.9
"""No new job is taken when this part of the log is taken: the rest is for those that run."""

EASED_AT = 0.9
"""Who is refused for a backlog is asked back when it is down to this part of its bound: not all for one free place."""

LOOK_EVERY_S = 0.5
REST = 50
"""A look is followed by a rest so many times as long: the server counts 20,000 jobs in 8 ms, and more in more."""

STALE_S = 15.0
"""What was seen longer ago says nothing."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look saw, and when."""

    at: float
    room: Room
    flows: Mapping[str, list[Flow]]

    def ahead(self, stage: str, lane: Lane) -> int:
        """How many hand-offs wait for a stage that go before a new one in this lane."""
        return sum(flow.waiting for flow in self.flows.get(stage, []) if flow.lane in _not_after(lane))

    @property
    def bytes_of_a_job(self) -> int:
        """What the jobs that are kept take, one with another."""
        return self.room.bytes // max(1, self.room.jobs)


@dataclass(slots=True)
class LetIn:
    """What this process has let in since it looked, so that a burst between two looks does not pass the marks."""

    bytes: int = 0
    jobs: int = 0
    waiting: Counter[tuple[str, Lane]] = field(default_factory=Counter)

    def count(self, stage: str, lane: Lane, size: int) -> None:
        self.bytes += size
        self.jobs += 1
        self.waiting[stage, lane] += 1


class Admission:
    """Looks about twice a second, while jobs are posted, and remembers; a request only asks what it remembers.

    What is not known is admitted: the log itself refuses what it has no room for. A backlog is counted per stage, with
    the lanes that go first, so what waits in `batch` never keeps out what is `interactive`.
    """

    def __init__(
        self,
        pipelines: Iterable[Pipeline],
        *,
        max_jobs: int,
        max_backlog: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = list(dict.fromkeys(stage.name for pipeline in pipelines for stage in pipeline.stages))
        self._max_jobs = max_jobs
        self._max_backlog = max_backlog
        self._clock = clock
        self._asked = asyncio.Event()
        self._seen: Seen | None = None
        self._since = LetIn()
        self._freed = {"bytes": 0, "jobs": 0}
        self._drains: defaultdict[str, Drain] = defaultdict(Drain)

    @asynccontextmanager
    async def looking(self, journals: PatientJournal) -> AsyncIterator[None]:
        """While this is entered, it looks whenever somebody has asked."""
        looking = asyncio.create_task(self._look_when_asked(journals))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    def admit(self, pipeline: Pipeline, lane: Lane, size: int) -> None:
        """Let a job of so many bytes in, or raise Refusal: 503 when the log is nearly full, 429 when too much waits."""
        self._asked.set()
        seen = self._seen
        if seen is None or self._clock() - seen.at > STALE_S:
            return
        known, since = seen.room, self._since
        room = replace(known, bytes=known.bytes + since.bytes, jobs=known.jobs + since.jobs)
        if room.taken >= FULL_AT:
            raise self._full(room)
        for stage in pipeline.stages:
            ahead = seen.ahead(stage.name, lane) + sum(since.waiting[stage.name, one] for one in _not_after(lane))
            if ahead >= self._max_backlog:
                raise self._backlog(stage.name, ahead)
        # As a rule every stage says again about as much as it was given; or it takes what the others have taken.
        grown = max(size * (len(pipeline.stages) + 1), seen.bytes_of_a_job)
        since.count(pipeline.entry.name, lane, grown)

    async def room(self, journal: Journal, flows: Iterable[Iterable[Flow | Lag]]) -> Room:
        """How full the log is now, asked and not remembered. Raises Unanswered."""
        return await measure(journal, flows, max_jobs=self._max_jobs)

    def take(self, seen: Seen) -> None:
        """Remember a look."""
        before, self._seen, self._since = self._seen, seen, LetIn()
        if before is not None:
            self._freed["bytes"] += max(0, before.room.bytes - seen.room.bytes)
            self._freed["jobs"] += max(0, before.room.jobs - seen.room.jobs)
        for what, freed in self._freed.items():
            self._drains[what].note(seen.at, freed)
        for stage, flows in seen.flows.items():
            self._drains[_of(stage)].note(seen.at, sum(flow.left for flow in flows))

    async def _look_when_asked(self, journals: PatientJournal) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            began = self._clock()
            try:
                self.take(await self._look(await journals.connected(LOOK_EVERY_S)))
            except Unanswered as error:
                log.info("cannot see how full it is", extra={"action": "admission_blind", "reason": str(error)})
                began = self._clock()  # it was waiting, and asked for nothing
            await asyncio.sleep(max(LOOK_EVERY_S, REST * (self._clock() - began)))

    async def _look(self, journal: Journal) -> Seen:
        flows = await stage_flows(journal.signals, self._stages)
        return Seen(self._clock(), await self.room(journal, flows.values()), flows)

    def _full(self, room: Room) -> Refusal:
        excess = {"bytes": room.bytes - FULL_AT * room.max_bytes, "jobs": room.jobs - FULL_AT * room.max_jobs}
        taken = {"bytes": room.bytes_taken, "jobs": room.jobs_taken}
        wait = max(self._drains[what].retry_after(excess[what]) for what in taken if taken[what] >= FULL_AT)
        return Refusal(
            FULL,
            f"It is {math.floor(100 * room.taken)} % full, and the rest is for the jobs that run; jobs that have ended "
            f"are forgotten to make room. Send the same request again in {wait} s. If it stays so, discard dead "
            "letters, or let the server keep more (HEADRACE_MAX_BYTES, HEADRACE_MAX_JOBS).",
            headers={"Retry-After": str(wait)},
        )

    def _backlog(self, stage: str, ahead: int) -> Refusal:
        wait = self._drains[_of(stage)].retry_after(ahead - EASED_AT * self._max_backlog)
        return Refusal(
            BACKLOG,
            f"{ahead:,} jobs wait for {stage!r}, and {self._max_backlog:,} may. Send the same request again in {wait} "
            "s, or in a lane that goes first. If it stays so, give that stage more replicas.",
            headers={"Retry-After": str(wait)},
            stage=stage,
            waiting=ahead,
        )


def _not_after(lane: Lane) -> tuple[Lane, ...]:
    return LANES[: LANES.index(lane) + 1]


def _of(stage: str) -> str:
    return f"stage {stage}"
