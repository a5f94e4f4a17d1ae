"""Whether load is fair, and what that costs: `python -m benchmarks.fairness`.

The two sides of a comparison are taken right after each other, in turns of order; that is one block of its bootstrap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import uvloop
from pydantic import JsonValue

from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import LANES, SHARES, Queue
from actors.journal.journal import Journal
from actors.journal.server import EmbeddedServer
from actors.journal.shelf import Shelf
from actors.journal.topology import ACK_WAIT_S, ensure, ensure_queue
from actors.runtime.scales import LOOK_EVERY_S
from benchmarks.command import data_folder, keep, options
from benchmarks.estimate import estimate, median, summary
from benchmarks.hands import staff, until_ready
from benchmarks.machine import machine
from benchmarks.pipelines import SLOTS, Ask, crossing, relay, shelf
from benchmarks.posting import post
from benchmarks.progress import tell
from benchmarks.queueing import STAGE, Crossings, Heard, Question, Sender, wait_for
from benchmarks.result import Bar, Measure, Result

PIPELINES = ("benchmarks.pipelines:crossing", "benchmarks.pipelines:shelf", "benchmarks.pipelines:relay")
STAGES = (STAGE, *(stage.name for pipeline in (shelf, relay) for stage in pipeline.stages))
"""All but the first have no worker: what is appended for them is appended, and that is all."""

WORKERS = 2
LIGHT_PER_S = 1.0
LIGHT, HEAVY = 1, 2
WEIGHT = 3.0

LANE = Question(
    part="a",
    text="p99 start in the interactive lane beside a full batch lane, over 1.25 times that without it",
    load=f"{LIGHT_PER_S:g} job/s, {8 * LIGHT_PER_S:g}/s in batch",
    light=Sender(LIGHT_PER_S, "interactive"),
    heavy=Sender(8 * LIGHT_PER_S, "batch"),
    ratio=1.25,
    gap="p99",
    bar=Bar(most=1),
)
TENANT = Question(
    part="b",
    text="p99 start of a tenant beside one who sends 50 times as much, over alone",
    load=f"{LIGHT_PER_S:g} job/s, {50 * LIGHT_PER_S:g}/s of the other",
    light=Sender(LIGHT_PER_S, tenant="light", share=LIGHT),
    heavy=Sender(50 * LIGHT_PER_S, tenant="heavy", share=HEAVY),
    ratio=1.0,
    gap="mean",
    bar=Bar(most=1.5),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: blocks of so many seconds a side, contests, and rounds with and without shares."""

    blocks: int = 3
    seconds: float = 18.0
    contest_s: float = 21.0
    rounds: int = 3
    append_s: float = 1.5
    jobs: int = 30


QUICK = Plan(blocks=2, seconds=1.0, contest_s=1.0, rounds=2, append_s=0.2, jobs=3)


async def weights(crossings: Crossings, journal: Journal, plan: Plan) -> Measure:
    """(c) How many more are started of who weighs more."""
    kept = Shelf(journal.signals, LIMITS, Limits)
    await kept.put("heavy", Limits(weight=WEIGHT, share=HEAVY), expect=(await kept.get("heavy")).seq)
    await asyncio.sleep(2 * LOOK_EVERY_S)  # every worker has looked
    senders = [Sender(8, tenant="light", share=LIGHT), Sender(8, tenant="heavy", share=HEAVY)]
    contests = [await crossings.contest(senders, seconds=plan.contest_s / 3) for _ in range(3)]
    await kept.put("heavy", Limits(share=HEAVY), expect=(await kept.get("heavy")).seq)

    def ratio(drawn: Sequence[list[int]]) -> float:
        return sum(heavy for _, heavy in drawn) / sum(light for light, _ in drawn)

    light, heavy = (sum(side) for side in zip(*contests, strict=True))
    return Measure(
        part="c",
        question=f"jobs started of a tenant who weighs {WEIGHT:g}, over those of one who weighs 1",
        load="both always have some waiting",
        estimate=estimate(contests, ratio),
        bar=Bar(least=0.9 * WEIGHT),
        detail=f"{heavy} and {light} jobs were started",
        raw={"started": [list(each) for each in contests]},
    )


async def starving(crossings: Crossings, plan: Plan) -> Measure:
    """(d) What is left for a lane where a more urgent one could take everything."""
    senders = [Sender(8, "interactive"), Sender(8, "batch")]
    contests = [await crossings.contest(senders, seconds=plan.contest_s)]
    (urgent, batch) = contests[0]
    return Measure(
        part="d",
        question="of all starts, the part of the batch lane while interactive jobs always wait",
        load=f"{WORKERS} workers with {SLOTS} slots each",
        estimate=estimate(contests, lambda drawn: sum(b for _, b in drawn) / sum(u + b for u, b in drawn)),
        detail=f"{batch} of {urgent + batch} starts",
        raw={"started": [list(each) for each in contests]},
    )


@dataclass(frozen=True, slots=True)
class Toll:
    """What the log does in a second, how long a job waits for a worker that waits for it, and the server's memory."""

    appends_per_s: float
    starts: list[float]
    memory: int


@dataclass(frozen=True, slots=True)
class Site:
    """A server with workers, and what is heard of them."""

    server: EmbeddedServer
    journal: Journal
    heard: Heard

    async def toll(self, plan: Plan) -> Toll:
        """What it costs here, for a tenant who is in no share."""
        end, done = time.perf_counter() + plan.append_s, 0

        async def append() -> None:
            nonlocal done
            while time.perf_counter() < end:
                await post(self.journal, shelf, Ask(text="", tokens=0))
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(append() for _ in range(32)))
        rate, jobs = done / (time.perf_counter() - began), list[str]()
        for _ in range(plan.jobs):
            jobs.append(await post(self.journal, crossing, Ask(text="", tokens=1)))
            while jobs[-1] not in self.heard.ended:  # noqa: ASYNC110  # it is in another process
                await asyncio.sleep(0.005)
        return Toll(rate, self.heard.waits(jobs), psutil.Process(self.server.pid).memory_info().rss)


@asynccontextmanager
async def site(data: Path, *, workers: int, shares: int = 0) -> AsyncIterator[Site]:
    """One with so many shares in each lane of each stage, whether or not anybody is in them."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(data / "nats"))
        sizes: dict[str, JsonValue] = {"max_bytes": server.jobs_bytes, "audit_max_bytes": server.audit_bytes}
        settings: dict[str, JsonValue] = {"nats_url": server.url, "pipelines": list(PIPELINES), "data": str(data)}
        journal = await stack.enter_async_context(Journal.open([server.url], "benchmark"))
        hired = await stack.enter_async_context(staff(settings | sizes))
        await ensure(journal.signals, STAGES, max_bytes=server.jobs_bytes, audit_max_bytes=server.audit_bytes)
        for queue in queues(shares):
            await ensure_queue(journal.signals, queue, ack_wait=ACK_WAIT_S)
        for _ in range(workers):
            await hired.hire("worker", stage=STAGE)
        await until_ready(journal, STAGE, workers)
        heard = Heard()
        await heard.listen(journal)
        yield Site(server, journal, heard)


def queues(shares: int) -> list[Queue]:
    """Those of so many shares."""
    return [Queue(stage, lane, n) for stage in STAGES for lane in LANES for n in range(1, shares + 1)]


async def cost(plain: Site, shared: Site, plan: Plan) -> list[Measure]:
    """(e) What it costs a tenant who is in no share that there are all the others that there can be."""
    rounds: list[tuple[Toll, Toll]] = []
    for at in range(plan.rounds):
        first = await (plain if at % 2 else shared).toll(plan)
        second = await (shared if at % 2 else plain).toll(plan)
        rounds.append((first, second) if at % 2 else (second, first))
        tell(f"(e) {at + 1}: {rounds[-1][1].appends_per_s / rounds[-1][0].appends_per_s:.2f} of the appends")
    more = len(queues(SHARES))
    load = f"{SHARES} shares: {more} more queues"
    rates = [median([pair[side].appends_per_s for pair in rounds]) for side in (0, 1)]
    starts = [[wait for pair in rounds for wait in pair[side].starts] for side in (0, 1)]

    def appends(drawn: Sequence[tuple[Toll, Toll]]) -> float:
        return median([shared.appends_per_s / plain.appends_per_s for plain, shared in drawn])

    def waits(drawn: Sequence[tuple[Toll, Toll]]) -> float:
        plain, shared = ([wait for pair in drawn for wait in pair[side].starts] for side in (0, 1))
        return median(shared) / median(plain)

    def memory(drawn: Sequence[tuple[Toll, Toll]]) -> float:
        return median([(shared.memory - plain.memory) / more / 1024 for plain, shared in drawn])

    return [
        Measure(
            part="e",
            question="appends/s of jobs, over those without shares",
            load=load,
            estimate=estimate(rounds, appends),
            detail=f"{rates[1]:.0f}/s of {rates[0]:.0f}/s",
            raw={"per_s": [[plain.appends_per_s, shared.appends_per_s] for plain, shared in rounds]},
        ),
        Measure(
            part="e",
            question="hand-off to a worker that waits, p50, over that without shares",
            load=load,
            estimate=estimate(rounds, waits),
            detail=f"{1000 * median(starts[1]):.1f} ms, {1000 * median(starts[0]):.1f} ms without",
            raw={"with": dict(summary(starts[1])), "without": dict(summary(starts[0]))},
        ),
        Measure(
            part="e",
            question="memory of nats-server for each queue more",
            load=load,
            estimate=estimate(rounds, memory),
            unit="KiB",
        ),
    ]


async def measure(plan: Plan) -> Result:
    """Start servers and workers, take every part, and stop them."""
    began = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        here = await stack.enter_async_context(site(data / "plain", workers=WORKERS))
        # First of all, while both logs are small.
        async with site(data / "shared", workers=WORKERS, shares=SHARES) as shared:
            tolls = await cost(here, shared, plan)
        for share in (LIGHT, HEAVY):
            await ensure_queue(here.journal.signals, Queue(STAGE, "standard", share), ack_wait=ACK_WAIT_S)
        crossings = Crossings(here.journal, here.heard, slots=WORKERS * SLOTS)
        lane, tenant = [await wait_for(crossings, q, blocks=plan.blocks, seconds=plan.seconds) for q in (LANE, TENANT)]
        measures = [
            *lane,
            *tenant,
            await weights(crossings, here.journal, plan),
            await starving(crossings, plan),
            *tolls,
        ]
    return Result.of("fairness", facts, measures, began=began, quick=plan is QUICK)


def main() -> None:
    asked = options(__doc__).parse_args()
    keep(uvloop.run(measure(QUICK if asked.quick else Plan())), asked.out)


if __name__ == "__main__":
    main()
