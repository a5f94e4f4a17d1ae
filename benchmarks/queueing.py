"""How long a job waits until it is started, alone and beside a backlog of others that take every slot.

All jobs take equally long, and the slots are filled one after the other, so that they are freed one after the other: a
job that goes next waits for no more than one such gap, whoever it is of.
"""

from __future__ import annotations

import asyncio
from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

from nats.aio.msg import Msg

from actors.contracts.events import Outcome, StepStarted
from actors.contracts.subjects import LIVE, Lane, Queue, Subject
from actors.journal.journal import Journal
from actors.journal.lag import flow_of
from actors.journal.read import record_of
from actors.journal.topology import JOBS
from benchmarks.estimate import estimate, percentile, summary
from benchmarks.pipelines import LONG_TOKEN_S, Ask, crossing
from benchmarks.posting import post
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure

STAGE = crossing.entry.name
TOKENS = 12
RUNS_S = TOKENS * LONG_TOKEN_S
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Sender:
    """Somebody who posts so many jobs a second."""

    rate: float
    lane: Lane = "standard"
    tenant: str = "local"
    share: int = 0

    @property
    def queue(self) -> Queue:
        return Queue(STAGE, self.lane, self.share)


@dataclass(frozen=True, slots=True)
class Question:
    """Who is looked at, beside whom, and by how many gaps between freed slots p99 may lie over `ratio` of it alone.

    `gap` is which gap: the one that comes up on average, or one that only one in a hundred is longer than.
    """

    part: str
    text: str
    load: str
    light: Sender
    heavy: Sender
    ratio: float
    gap: Literal["mean", "p99"]
    bar: Bar


@dataclass(slots=True)
class Heard:
    """When jobs were handed off, started and ended, by the server's own clock."""

    asked: dict[str, datetime] = field(default_factory=dict)
    started: dict[str, datetime] = field(default_factory=dict)
    ended: dict[str, datetime] = field(default_factory=dict)

    async def listen(self, journal: Journal) -> None:
        for topic in (STAGE, "step", "done"):
            await journal.live.subscribe(f"{LIVE}job.{topic}.>", self._take)

    async def _take(self, message: Msg) -> None:
        record = record_of(message)
        subject, event, at = Subject.parse(record.subject), record.event, record.stored_at
        assert at
        if subject.queue:
            self.asked[subject.job] = at
        elif isinstance(event, StepStarted):
            self.started[subject.job] = at
        elif isinstance(event, Outcome):
            self.ended[subject.job] = at

    def waits(self, jobs: Sequence[str]) -> list[float]:
        """Seconds from each hand-off to its start."""
        return [(self.started[job] - self.asked[job]).total_seconds() for job in jobs]

    def overtaken(self, jobs: Sequence[str], by: Sequence[str]) -> list[int]:
        """How many of others were started while each of these waited."""
        others = sorted(self.started[job] for job in by if job in self.started)
        return [bisect(others, self.started[job]) - bisect(others, self.asked[job]) for job in jobs]

    def gaps(self, jobs: Sequence[str]) -> list[float]:
        """Seconds between each two of these ends."""
        ends = sorted(self.ended[job] for job in jobs if job in self.ended)
        return [(after - before).total_seconds() for before, after in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class Block:
    """What the light one waited alone, and beside the heavy one; how many of that one's were started while it waited,
    and in all; and how far apart slots were freed.
    """

    alone: list[float]
    beside: list[float]
    overtaken: list[int]
    heavy_started: int
    gaps: list[float]


class Crossings:
    """Takes blocks of both sides with one set of workers, who have so many slots."""

    def __init__(self, journal: Journal, heard: Heard, *, slots: int) -> None:
        self._journal = journal
        self._heard = heard
        self._slots = slots

    async def block(self, question: Question, *, seconds: float, beside_first: bool) -> Block:
        """Both sides, one right after the other."""
        if beside_first:
            beside, alone = await self._beside(question, seconds), await self._alone(question, seconds)
        else:
            alone, beside = await self._alone(question, seconds), await self._beside(question, seconds)
        return replace(beside, alone=alone)

    async def contest(self, senders: Sequence[Sender], *, seconds: float) -> list[int]:
        """How many jobs of each were started while all of them always had some waiting."""
        jobs = [[await self._post(sender) for _ in range(3 * self._slots)] for sender in senders]
        began, end = datetime.now(UTC), asyncio.get_running_loop().time() + seconds
        for mine, more in zip(jobs, await asyncio.gather(*(self._keep_posting(s, end) for s in senders)), strict=True):
            mine += more
        starts = self._heard.started
        started = [sum(job in starts and starts[job] >= began for job in mine) for mine in jobs]
        for sender in senders:
            await self._drop(sender.queue)
        for sender in senders:
            await self._until_idle(sender.queue)
        return started

    async def _alone(self, question: Question, seconds: float) -> list[float]:
        jobs = await self._keep_posting(question.light, asyncio.get_running_loop().time() + seconds)
        await self._until_ended(jobs)
        return self._heard.waits(jobs)

    async def _beside(self, question: Question, seconds: float) -> Block:
        light, heavy = question.light, question.heavy
        others: list[str] = []
        for _ in range(self._slots):
            others.append(await self._post(heavy))
            await asyncio.sleep(RUNS_S / self._slots)
        others += [await self._post(heavy) for _ in range(2 * self._slots)]
        end = asyncio.get_running_loop().time() + seconds
        jobs, more = await asyncio.gather(self._keep_posting(light, end), self._keep_posting(heavy, end))
        others += more
        await self._until_ended(jobs)
        waits, gaps = self._heard.waits(jobs), self._heard.gaps([*jobs, *others])
        overtaken = self._heard.overtaken(jobs, others)
        await self._drop(heavy.queue)
        await self._until_idle(heavy.queue)
        return Block([], waits, overtaken, sum(job in self._heard.started for job in others), gaps)

    async def _keep_posting(self, sender: Sender, end: float) -> list[str]:
        loop, jobs = asyncio.get_running_loop(), list[str]()
        due = loop.time()
        while due < end:
            jobs.append(await self._post(sender))
            due += 1 / sender.rate
            await asyncio.sleep(max(0.0, due - loop.time()))
        return jobs

    async def _post(self, sender: Sender) -> str:
        ask = Ask(text="", tokens=TOKENS)
        return await post(self._journal, crossing, ask, lane=sender.lane, tenant=sender.tenant, share=sender.share)

    async def _until_ended(self, jobs: Sequence[str]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not all(job in self._heard.ended for job in jobs):  # noqa: ASYNC110  # they are other processes
                await asyncio.sleep(0.05)

    async def _drop(self, queue: Queue) -> None:
        """Take what still waits out of the log: nobody is to work on it while the other side is taken."""
        await self._journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": queue.handoffs})

    async def _until_idle(self, queue: Queue) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while (flow := await flow_of(self._journal.signals, queue)).waiting or flow.running:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def wait_for(crossings: Crossings, question: Question, *, blocks: int, seconds: float) -> list[Measure]:
    """So many blocks of both sides, in turns of order."""
    taken = []
    for at in range(blocks):
        taken.append(await crossings.block(question, seconds=seconds, beside_first=at % 2 == 1))
        tell(f"({question.part}) {at + 1}: {_worse(question)(taken[-1:]):.2f} gaps")
    return [_measure(question, taken), _overtaken(question, taken)]


def _worse(question: Question) -> Callable[[Sequence[Block]], float]:
    def worse(drawn: Sequence[Block]) -> float:
        alone = percentile([wait for block in drawn for wait in block.alone], 99)
        beside = percentile([wait for block in drawn for wait in block.beside], 99)
        mean, p99 = _gaps(drawn)
        return (beside - question.ratio * alone) / (mean if question.gap == "mean" else p99)

    return worse


def _gaps(drawn: Sequence[Block]) -> tuple[float, float]:
    """The gap between two freed slots, on average and p99, in seconds."""
    every = [gap for block in drawn for gap in block.gaps]
    return sum(every) / len(every), percentile(every, 99)


def _measure(question: Question, blocks: Sequence[Block]) -> Measure:
    alone = [wait for block in blocks for wait in block.alone]
    beside = [wait for block in blocks for wait in block.beside]
    p50, p99 = (1000 * percentile(beside, q) for q in (50, 99))
    started, (mean, longest) = sum(block.heavy_started for block in blocks), _gaps(blocks)
    return Measure(
        part=question.part,
        question=question.text,
        load=question.load,
        estimate=estimate(blocks, _worse(question)),
        unit=f"{question.gap} gaps",
        bar=question.bar,
        detail=(
            f"p99 {p99:.0f} ms (p50 {p50:.0f}) beside it, {1000 * percentile(alone, 99):.0f} ms alone; a slot is freed "
            f"every {1000 * mean:.0f} ms (p99 {1000 * longest:.0f}); {started} of the others were started meanwhile"
        ),
        raw={
            "alone": dict(summary(alone)),
            "beside": dict(summary(beside)),
            "gap": dict(summary([gap for block in blocks for gap in block.gaps])),
            "others_started": [block.heavy_started for block in blocks],
        },
    )


def _overtaken(question: Question, blocks: Sequence[Block]) -> Measure:
    """The same in starts, which a machine that stands still now and then does not change."""
    counts = [count for block in blocks for count in block.overtaken]
    return Measure(
        part=question.part,
        question="of the others, started while one waited, p99",
        load=question.load,
        estimate=estimate(blocks, lambda drawn: percentile([n for block in drawn for n in block.overtaken], 99)),
        unit="starts",
        detail=f"{sum(count == 0 for count in counts)} of {len(counts)} were the next to be started",
        raw={"overtaken": [list(block.overtaken) for block in blocks]},
    )
