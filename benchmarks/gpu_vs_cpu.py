"""What replicas are worth, of a GPU stage and of a CPU stage: `python -m benchmarks.gpu_vs_cpu`.

Jobs and tokens a second, the time to the first token and what a million tokens cost, against the number of replicas of
one stage; the other has work so light that it does not count. Without a GPU the scripted engine stands for one (it
keeps its pace and takes no CPU), and a small model in the CPU build of vLLM is taken beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

import uvloop
from pydantic import JsonValue

from actors.pipeline import Pipeline, Stage
from benchmarks.command import data_folder, options, small_model
from benchmarks.curve import Curve, Point, Series, Window, mean
from benchmarks.estimate import median
from benchmarks.followed import Client, Followed
from benchmarks.installed import Installed
from benchmarks.machine import gpu, machine
from benchmarks.pipelines import crunch, real_study, study, think, think_for_real
from benchmarks.prices import CPU_HOUR, GPU_HOUR, Prices
from benchmarks.progress import tell
from benchmarks.result import Result

NAME = "gpu_vs_cpu"
TEXT = "Which mills on this river have two wheels, and what does each of them grind?"
LIGHT_ROUNDS, HEAVY_ROUNDS = 500, 30_000
LIGHT_TOKENS, HEAVY_TOKENS = 4, 32

FEWEST = 4
"""So many jobs have to end in a window, however long that takes."""


@dataclass(frozen=True, slots=True)
class Study:
    """A pipeline of a CPU stage and a stage that thinks, how many users keep either busy, and what is counted in it.

    Where a job takes seconds, and many end together, it is measured so many times `longer`.
    """

    pipeline: Pipeline
    users: int
    series: tuple[Series, ...]
    replicas: tuple[int, ...] = (1, 2, 4)
    on_gpus: bool = True
    longer: int = 1


SCRIPTED = Series("GPU, scripted", think, HEAVY_TOKENS, LIGHT_ROUNDS)
REAL = Series("GPU, vLLM", think_for_real, HEAVY_TOKENS, LIGHT_ROUNDS)
CPU = Series("CPU", crunch, LIGHT_TOKENS, HEAVY_ROUNDS)

PACED = Study(study, 24, (SCRIPTED, CPU))
ON_GPUS = Study(real_study, 256, (REAL, CPU))
ON_CPUS = Study(real_study, 16, (replace(REAL, kind="CPU, vLLM"),), replicas=(1, 2), on_gpus=False, longer=6)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure in each of how many rounds, and with which share of the users.

    Every second round goes backwards, so that what comes and goes meanwhile meets all numbers of replicas.
    """

    seconds: float = 4.0
    ramp_s: float = 2.0
    rounds: int = 2
    share: float = 1.0
    most: int = 4


QUICK = Plan(seconds=2.0, ramp_s=0.5, rounds=1, share=0.25, most=2)


async def scale(installed: Installed, stage: Stage, replicas: int) -> None:
    """Give a stage so many replicas; those that it has stay, because it is the same version."""
    await installed.deploy(stage.name, replicas, version=NAME)
    await installed.ready({stage.name: replicas})


async def take(installed: Installed, client: Client, of: Study, plan: Plan, point: Point) -> None:
    """Give the stage so many replicas, and keep all users busy: for a while, and until a few jobs have ended."""
    series = point.series
    await scale(installed, series.stage, point.replicas)
    asked: dict[str, JsonValue] = {"text": TEXT, "tokens": series.tokens, "rounds": series.rounds}
    begin = time.time() + plan.ramp_s
    end, ended = begin + plan.seconds * of.longer, list[Followed]()

    async def user() -> None:
        while time.time() < end or len(ended) < FEWEST:
            job = await client.follow(of.pipeline.name, asked)
            if job.ended >= begin:
                ended.append(job)

    with installed.processes.watched() as busy:
        await asyncio.gather(*(user() for _ in range(max(1, int(of.users * plan.share)))))
    end = max(end, sorted(job.ended for job in ended)[FEWEST - 1])
    window = Window([job for job in ended if job.ended <= end], begin, end, busy)
    point.windows.append(window)
    tell(f"{series.kind}, {point.load}: {len(window.jobs) / (end - begin):.1f} jobs/s")


async def curves(of: Study, plan: Plan, prices: Prices) -> list[Curve]:
    """Start an installation, take every point of a study in every round, and stop it."""
    model = str(small_model()) if of.pipeline is real_study else ""
    numbers = [number for number in of.replicas if number <= plan.most]
    points = [Point(series, number) for series in of.series for number in numbers]
    async with AsyncExitStack() as stack:
        data, path = stack.enter_context(data_folder()), f"benchmarks.pipelines:{of.pipeline.name}"
        installed = await stack.enter_async_context(Installed(data, (path,), model))
        client = stack.enter_context(closing(Client(installed.address)))
        for series in of.series:  # what was there first is another version, and would be replaced while it is measured
            await scale(installed, series.stage, 0)
            await scale(installed, series.stage, 1)
        for turn in range(plan.rounds):
            for series, own in groupby(points if turn % 2 == 0 else points[::-1], lambda point: point.series):
                for point in own:
                    await take(installed, client, of, plan, point)
                await scale(installed, series.stage, 1)
    return [
        Curve(tuple(p for p in points if p.series is series), _other(of, series), prices, of.on_gpus)
        for series in of.series
    ]


def _other(of: Study, series: Series) -> Stage:
    """The stage of the study whose replicas are not counted."""
    [beside] = [stage for stage in of.pipeline.stages if stage.name != series.stage.name]
    return beside


async def measure(studies: Sequence[Study], plan: Plan, prices: Prices, folder: Path) -> Result:
    """Take every study, one after the other. The plot is written to `folder`."""
    began, taken = datetime.now(UTC), list[Curve]()
    with data_folder() as data:
        facts = machine(data)
    for each in studies:
        taken += await curves(each, plan, prices)
    draw(taken, folder / f"{NAME}.png")
    measures = [measure for curve in taken for measure in curve.measures()]
    return Result.of(NAME, facts, measures, began=began, quick=plan is QUICK)


def draw(taken: Sequence[Curve], path: Path) -> None:
    """All four figures against replicas, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, ((rates, tokens), (waits, costs)) = pyplot.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for curve, marker in zip(taken, "osD^", strict=False):
        replicas = [point.replicas for point in curve.points]
        per_s = [mean(point.jobs_per_s) for point in curve.points]
        [line] = rates.plot(replicas, per_s, marker=marker, label=curve.series.kind)
        color = line.get_color()
        rates.plot(replicas, [per_s[0] * n / replicas[0] for n in replicas], ":", color=color, linewidth=1)
        tokens.plot(replicas, [mean(p.tokens_per_s) for p in curve.points], marker=marker, color=color)
        waits.plot(replicas, [median(p.first_tokens) for p in curve.points], marker=marker, color=color)
        cost = [curve.cost(p, p.tokens_per_s) for p in curve.points]
        costs.plot(replicas, cost, marker=marker, color=color)
    rates.set(ylabel="jobs a second", title="jobs (dotted: in proportion)")
    tokens.set(ylabel="tokens a second", title="tokens")
    waits.set(ylabel="seconds, p50", title="time to first token, all users busy")
    costs.set(ylabel=str(taken[0].prices), title="cost of a million tokens")
    for axes in (rates, tokens, waits, costs):
        axes.set(xlabel="replicas of the stage", ylim=(0, None))
        axes.set_xticks(sorted({point.replicas for curve in taken for point in curve.points}))
        axes.grid(alpha=0.3)
    rates.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--engine", choices=("scripted", "vllm", "both"), help="default: vllm where a GPU is, else both"
    )
    parser.add_argument("--gpu-hour", type=float, default=GPU_HOUR, help="what one costs (default: %(default)s)")
    parser.add_argument("--cpu-hour", type=float, default=CPU_HOUR, help="of one core (default: %(default)s)")
    asked = parser.parse_args()
    real = ON_GPUS if gpu() else ON_CPUS
    engine = asked.engine or ("vllm" if gpu() else "scripted" if asked.quick else "both")
    studies = {"scripted": [PACED], "vllm": [real], "both": [PACED, real]}[engine]
    prices = Prices(asked.gpu_hour, asked.cpu_hour)
    result = uvloop.run(measure(studies, QUICK if asked.quick else Plan(), prices, asked.out))
    tell(f"written to {result.write(asked.out)}")


if __name__ == "__main__":
    main()
