"""So many jobs at once: how they are accepted, and what waits and runs on how many replicas until all are done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.contracts.subjects import DONE, facts
from actors.journal.journal import Journal
from actors.journal.lag import stage_flows
from actors.runtime.presence import workers_of
from benchmarks.estimate import estimate, percentile, summary
from benchmarks.pipelines import SURGE_REPLICAS, surge
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure
from benchmarks.scaling import decided, reversals
from benchmarks.wire import Address, Connection

STAGE = surge.entry.name
TOKENS = 8
LOOK_EVERY_S = 0.25
DRAIN_S = 400.0
SETTLE_S = 40.0
"""How long the replicas may take to be as few again as there is work for."""


@dataclass(frozen=True, slots=True)
class Look:
    """The stage as it was so many seconds after the first POST; `wanted` replicas were decided on."""

    at: float
    waiting: int
    running: int
    ready: int
    wanted: int
    ended: int


@dataclass(frozen=True, slots=True)
class Flood:
    """When each job was posted and how long its answer took, in seconds; and what was seen of the stage."""

    posted: list[float]
    taken: list[float]
    looks: list[Look]
    drained: float

    @property
    def accepted(self) -> float:
        """When the last answer came."""
        return max(at + taken for at, taken in zip(self.posted, self.taken, strict=True))


async def flood(address: Address, journal: Journal, *, jobs: int, connections: int) -> Flood:
    """Post so many jobs over so many connections, each as soon as the one before is answered, and see them done."""
    opened = [await Connection.open(address) for _ in range(connections)]
    request = address.post(f"/v1/pipelines/{surge.name}/jobs", {"input": {"text": "", "tokens": TOKENS}})
    before = await journal.reader.count(facts(DONE))
    began, left = time.perf_counter(), jobs
    posted: list[float] = []
    taken: list[float] = []
    looks: list[Look] = []

    async def post(connection: Connection) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            at = time.perf_counter()
            status, body = await connection.ask(request)
            if status != 202:
                raise RuntimeError(f"a job was answered {status}: {body[:500]!r}")
            posted.append(at - began)
            taken.append(time.perf_counter() - at)

    async def look() -> Look:
        workers = await workers_of(journal.signals, STAGE)
        flows = (await stage_flows(journal.signals, [STAGE]))[STAGE]
        seen = Look(
            at=time.perf_counter() - began,
            waiting=sum(flow.waiting for flow in flows),
            running=sum(flow.running for flow in flows),
            ready=sum(worker.state == "ready" for worker in workers),
            wanted=await decided(journal.signals, STAGE),
            ended=await journal.reader.count(facts(DONE)) - before,
        )
        looks.append(seen)
        return seen

    async def watch() -> float:
        while (seen := await look()).ended < jobs:  # noqa: ASYNC110  # it is in other processes
            await asyncio.sleep(LOOK_EVERY_S)
        drained = seen.at
        while seen.wanted > SURGE_REPLICAS.min and seen.at < drained + SETTLE_S:
            await asyncio.sleep(LOOK_EVERY_S)
            seen = await look()
        return drained

    async with asyncio.timeout(DRAIN_S), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        for connection in opened:
            group.create_task(post(connection))
    for connection in opened:
        connection.close()
    tell(f"(a) {jobs} jobs: accepted after {max(posted):.1f} s, drained after {watching.result():.1f} s")
    return Flood(posted, taken, looks, watching.result())


def flooded(flood: Flood, connections: int) -> list[Measure]:
    """(a) The burst."""
    jobs, taken = len(flood.taken), flood.taken
    load = f"{jobs:,} jobs at once, {connections} connections"
    rate = jobs / flood.accepted
    most = max(look.waiting + look.running for look in flood.looks)
    return [
        Measure(
            part="a",
            question=f"accept latency, p{q}",
            load=load,
            estimate=estimate(taken, lambda drawn, q=q: 1000 * percentile(drawn, q)),  # type: ignore[misc]
            unit="ms",
            detail=f"{rate:.0f} jobs/s are accepted, beside replicas that start and work" if q == 50 else "",
            raw={"accept": dict(summary(taken)), "accepted_per_s": round(rate, 1)} if q == 50 else {},
        )
        for q in (50, 99)
    ] + [
        Measure(
            part="a",
            question="from the first POST to the last outcome",
            load=load,
            estimate=estimate([flood.drained], lambda drawn: drawn[0]),
            unit="s",
            detail=(
                f"{jobs / flood.drained:.0f} jobs/s; up to {most:,} waited or ran, on up to "
                f"{max(look.ready for look in flood.looks)} replicas"
            ),
            raw={"looks": [[round(x, 2) for x in _row(look)] for look in flood.looks]},
        ),
        Measure(
            part="a",
            question="jobs without an outcome",
            load=load,
            estimate=estimate([flood], lambda drawn: jobs - drawn[0].looks[-1].ended),
            unit="jobs",
            bar=Bar(most=0),
        ),
        Measure(
            part="a",
            question="times that the number of replicas turned round, from few to many and to few",
            load=load,
            estimate=estimate([flood], lambda drawn: reversals([look.wanted for look in drawn[0].looks])),
            bar=Bar(most=1),
        ),
    ]


def draw(flood: Flood, path: Path) -> None:
    """What was seen, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (lag, replicas, accepts) = pyplot.subplots(3, 1, figsize=(8, 7), sharex=True, layout="constrained")
    at = [look.at for look in flood.looks]
    lag.plot(at, [look.waiting for look in flood.looks], label="waiting")
    lag.plot(at, [look.running for look in flood.looks], label="running")
    lag.plot(at, [look.ended for look in flood.looks], ":", label="ended")
    lag.set(ylabel="jobs", ylim=(0, None), title=f"{len(flood.taken):,} jobs at once")
    replicas.step(at, [look.wanted for look in flood.looks], where="post", label="wanted")
    replicas.step(at, [look.ready for look in flood.looks], "--", where="post", label="ready")
    replicas.set(ylabel="replicas", ylim=(0, None))
    for q, style in ((99, "-"), (50, ":")):
        accepts.plot(*_by_second(flood, q), style, label=f"p{q}")
    accepts.set(xlabel="seconds", ylabel="accept latency, ms", ylim=(0, None))
    for axes in (lag, replicas, accepts):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _by_second(flood: Flood, q: float) -> tuple[list[float], list[float]]:
    seconds = range(int(max(flood.posted)) + 1)
    slices = [[t for at, t in zip(flood.posted, flood.taken, strict=True) if int(at) == s] for s in seconds]
    filled = [(s + 0.5, 1000 * percentile(taken, q)) for s, taken in zip(seconds, slices, strict=True) if taken]
    return [at for at, _ in filled], [value for _, value in filled]


def _row(look: Look) -> Sequence[float]:
    return look.at, look.waiting, look.running, look.ready, look.wanted, look.ended
