"""What replicas are worth, of a GPU stage and of a CPU stage: `python -m benchmarks.gpu_vs_cpu`.

Jobs a second and the time to the first token, against the number of replicas of one stage; the other has work so light
that it does not count. Without a GPU the scripted engine stands for one: it keeps its pace and takes no CPU.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from pydantic import JsonValue

from benchmarks.command import data_folder, options, small_model
from benchmarks.estimate import estimate, median, summary
from benchmarks.followed import Client, Followed
from benchmarks.installed import Installed
from benchmarks.machine import gpu, machine
from benchmarks.processes import Shares, typical
from benchmarks.progress import tell
from benchmarks.result import Measure, Result

NAME = "gpu_vs_cpu"
TEXT = "Which mills on this river have two wheels, and what does each of them grind?"
LIGHT_ROUNDS, HEAVY_ROUNDS = 500, 30_000
LIGHT_TOKENS, HEAVY_TOKENS = 4, 32
SLICE_S = 1.0


@dataclass(frozen=True, slots=True)
class Study:
    """A pipeline of a CPU stage and a GPU stage, and how many users it takes to keep either busy."""

    pipeline: str
    gpu_stage: str
    users: int
    cpu_stage: str = "crunch"


SCRIPTED = Study("study", "think", users=24)
REAL = Study("real_study", "think_for_real", users=256)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure, with how many replicas, and with which share of the users."""

    replicas: tuple[int, ...] = (1, 2, 4)
    seconds: float = 8.0
    ramp_s: float = 2.0
    share: float = 1.0


QUICK = Plan(replicas=(1, 2), seconds=1.0, ramp_s=0.5, share=0.25)


@dataclass(frozen=True, slots=True)
class Point:
    """What one number of replicas gave: the jobs that ended after the ramp, and when the window began and ended."""

    kind: str
    replicas: int
    jobs: list[Followed]
    begin: float
    end: float
    busy: Shares

    @property
    def slices(self) -> list[float]:
        """Jobs a second, slice by slice."""
        count = max(1, round((self.end - self.begin) / SLICE_S))
        length = (self.end - self.begin) / count
        ended = [0] * count
        for job in self.jobs:
            ended[min(int((job.ended - self.begin) / length), count - 1)] += 1
        return [jobs / length for jobs in ended]

    @property
    def first_tokens(self) -> list[float]:
        return [job.generated.first_token_s for job in self.jobs]

    @property
    def load(self) -> str:
        return f"{self.replicas} {self.kind} replica" + ("s" if self.replicas > 1 else "")

    def measures(self) -> list[Measure]:
        raw: dict[str, JsonValue] = {"replicas": self.replicas, "busy_cores": dict(typical([self.busy]))}
        return [
            Measure(
                part=self.kind,
                question="jobs/s",
                load=self.load,
                estimate=estimate(self.slices, lambda drawn: sum(drawn) / len(drawn)),
                raw=raw | {"jobs_per_s": [round(rate, 2) for rate in self.slices]},
            ),
            Measure(
                part=self.kind,
                question="time to first token, p50",
                load=self.load,
                unit="s",
                estimate=estimate(self.first_tokens, median),
                raw={"replicas": self.replicas, "first_token": dict(summary(self.first_tokens))},
            ),
        ]


async def take(installed: Installed, client: Client, study: Study, plan: Plan, kind: str, replicas: int) -> Point:
    """Give the stage of this kind so many replicas, and keep all users busy for a while."""
    await installed.scale(study.gpu_stage if kind == "GPU" else study.cpu_stage, replicas)
    rounds, tokens = (LIGHT_ROUNDS, HEAVY_TOKENS) if kind == "GPU" else (HEAVY_ROUNDS, LIGHT_TOKENS)
    began = time.time()
    begin, end = began + plan.ramp_s, began + plan.ramp_s + plan.seconds

    async def user() -> list[Followed]:
        jobs = []
        while time.time() < end:
            jobs.append(await client.follow(study.pipeline, {"text": TEXT, "tokens": tokens, "rounds": rounds}))
        return jobs

    with installed.processes.watched() as busy:
        jobs = [job for jobs in await asyncio.gather(*(user() for _ in range(study.users))) for job in jobs]
    point = Point(kind, replicas, [job for job in jobs if begin <= job.ended < end], begin, end, busy)
    tell(f"{point.load}: {sum(point.slices) / len(point.slices):.1f} jobs/s")
    return point


async def measure(study: Study, plan: Plan, folder: Path) -> Result:
    """Start an installation, take every point, and stop it. The plot is written to `folder`."""
    began = datetime.now(UTC)
    model = str(small_model()) if study.pipeline == REAL.pipeline else ""
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        installed = await stack.enter_async_context(Installed(data, (f"benchmarks.pipelines:{study.pipeline}",), model))
        client = stack.enter_context(closing(Client(installed.address)))
        points = [await take(installed, client, study, plan, "GPU", replicas) for replicas in plan.replicas]
        points += [await take(installed, client, study, plan, "CPU", replicas) for replicas in plan.replicas]
    draw(points, study, folder / f"{NAME}.png")
    measures = [measure for point in points for measure in point.measures()]
    return Result.of(NAME, facts, measures, began=began, quick=plan is QUICK)


def draw(points: Sequence[Point], study: Study, path: Path) -> None:
    """Both curves of both figures, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (rates, waits) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    engine = "vLLM" if study.pipeline == REAL.pipeline else "scripted engine"
    for kind, label, marker in (("GPU", f"GPU stage ({engine})", "o"), ("CPU", "CPU stage", "s")):
        curve = [point for point in points if point.kind == kind]
        replicas = [point.replicas for point in curve]
        per_s = [sum(point.slices) / len(point.slices) for point in curve]
        [line] = rates.plot(replicas, per_s, marker=marker, label=label)
        rates.plot(replicas, [per_s[0] * n / replicas[0] for n in replicas], ":", color=line.get_color(), linewidth=1)
        waits.plot(replicas, [median(point.first_tokens) for point in curve], marker=marker, label=label)
    rates.set(xlabel="replicas", ylabel="jobs a second", ylim=(0, None), title="throughput (dotted: in proportion)")
    waits.set(xlabel="replicas", ylabel="seconds", ylim=(0, None), title=f"time to first token, {study.users} users")
    for axes in (rates, waits):
        axes.set_xticks(sorted({point.replicas for point in points}))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--engine", choices=("scripted", "vllm"), help="default: vllm where a GPU is")
    asked = parser.parse_args()
    real = asked.engine == "vllm" or (asked.engine is None and gpu() is not None)
    plan, study = (QUICK if asked.quick else Plan()), (REAL if real else SCRIPTED)
    study = replace(study, users=int(study.users * plan.share))
    result = uvloop.run(measure(study, plan, asked.out))
    tell(f"written to {result.write(asked.out)}")


if __name__ == "__main__":
    main()
