"""Where the time of a job of `analysis` goes, with the real model: `python -m benchmarks.analysis_job`.

The question wants a tool, so there are five steps: retrieve, choose tools, call them, answer, polish.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import uvloop

from actors.client import AsyncHeadrace
from benchmarks.command import data_folder, options, small_model
from benchmarks.estimate import estimate, median, percentile, summary
from benchmarks.installed import Installed
from benchmarks.machine import machine
from benchmarks.progress import tell
from benchmarks.result import Measure, Result
from benchmarks.walked import Walked, Way, way_of

NAME = "analysis_job"
QUESTION = {"text": "What is a tailrace, and what is 7 times 45?"}
REAL, SCRIPTED = "actors.analysis:analysis", "benchmarks.scripted_analysis:analysis"
WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How many jobs, by so many users who each wait for an answer before they ask again."""

    jobs: int = 16
    users: tuple[int, ...] = (1, 8)


QUICK = Plan(jobs=2, users=(1,))


async def take(client: AsyncHeadrace, plan: Plan, users: int) -> list[Way]:
    """The ways of all jobs."""

    async def user() -> list[Way]:
        return [await ask(client) for _ in range(plan.jobs // users)]

    return [way for ways in await asyncio.gather(*(user() for _ in range(users))) for way in ways]


async def ask(client: AsyncHeadrace) -> Way:
    """One job, from its submission to its answer."""
    accepted = await client.submit("analysis", QUESTION)
    return way_of([event async for event in client.events(accepted.id)])


def measures(ways: list[Way], users: int) -> list[Measure]:
    """Each step in turn, then the job as a whole."""
    load = f"{users} user" + ("s" if users > 1 else "")
    names = [step.name for step in ways[0].steps]
    alike = [way for way in ways if [step.name for step in way.steps] == names]
    by_step = [[way.steps[at] for way in alike] for at in range(len(names))]
    return [*(_step(steps, load) for steps in by_step), *_whole(ways, load)]


def _step(steps: list[Walked], load: str) -> Measure:
    waited, worked = [step.waited for step in steps], [step.worked for step in steps]
    return Measure(
        part=steps[0].name,
        question="time in the step, p50",
        load=load,
        estimate=estimate([step.took for step in steps], median),
        unit="s",
        detail=f"waits {1000 * median(waited):.1f} ms, works {1000 * median(worked):.1f} ms",
        raw={"waited": dict(summary(waited)), "worked": dict(summary(worked))},
    )


def _whole(ways: list[Way], load: str) -> list[Measure]:
    took, firsts = [way.took for way in ways], [way.first_token for way in ways]
    prompt, output = ([getattr(way.usage, f"{kind}_tokens") for way in ways] for kind in ("prompt", "output"))
    return [
        Measure(
            part="job",
            question="first hand-off to answer, p50",
            load=load,
            estimate=estimate(took, median),
            unit="s",
            detail=f"p90 {percentile(took, 90):.1f} s; the answer begins after {median(firsts):.1f} s",
            raw={"took": dict(summary(took)), "first_token": dict(summary(firsts))},
        ),
        Measure(
            part="job",
            question="output tokens, mean",
            load=load,
            estimate=estimate(output, lambda drawn: sum(drawn) / len(drawn)),
            detail=f"and {sum(prompt) / len(prompt):.0f} prompt tokens, in two requests",
            raw={"prompt_tokens": prompt, "output_tokens": output},
        ),
    ]


async def measure(plan: Plan, *, scripted: bool) -> Result:
    """Start an installation, ask it, and stop it."""
    began = datetime.now(UTC)
    model = "" if scripted else str(small_model())
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        installed = await stack.enter_async_context(Installed(data, (SCRIPTED if scripted else REAL,), model))
        url = f"http://{installed.address.host}:{installed.address.port}"
        client = await stack.enter_async_context(AsyncHeadrace(url))
        for _ in range(WARM_UP):
            await ask(client)
        found: list[Measure] = []
        for users in plan.users:
            tell(f"{plan.jobs} jobs of {users} users")
            found += measures(await take(client, plan, users), users)
    return Result.of(NAME, facts, found, began=began, quick=scripted)


def main() -> None:
    asked = options(__doc__).parse_args()
    result = uvloop.run(measure(QUICK if asked.quick else Plan(), scripted=asked.quick))
    tell(f"written to {result.write(asked.out)}")


if __name__ == "__main__":
    main()
