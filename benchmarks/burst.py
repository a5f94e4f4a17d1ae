"""What a burst does, and how soon the number of replicas follows: `python -m benchmarks.burst`."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from actors.journal.journal import Journal
from benchmarks.command import data_folder, keep, options
from benchmarks.flooding import draw, flood, flooded
from benchmarks.installed import Installed
from benchmarks.machine import machine
from benchmarks.result import Result
from benchmarks.scaling import stepped, steps

PIPELINES = ("benchmarks.pipelines:surge", "benchmarks.pipelines:swell")


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: jobs at once, over so many connections, and steps in load."""

    jobs: int = 10_000
    connections: int = 256
    steps: int = 10


QUICK = Plan(jobs=300, connections=16, steps=1)


async def measure(plan: Plan, folder: Path) -> Result:
    """Start an installation, take both parts, and stop it. The plot is written to `folder`."""
    began = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        installed = await stack.enter_async_context(Installed(data, PIPELINES))
        journal = await stack.enter_async_context(Journal.open([installed.nats_url], "benchmark"))
        taken = await steps(journal, times=plan.steps)
        burst = await flood(installed.address, journal, jobs=plan.jobs, connections=plan.connections)
    draw(burst, folder / "burst.png")
    measures = [*flooded(burst, plan.connections), *stepped(taken)]
    return Result.of("burst", facts, measures, began=began, quick=plan is QUICK)


def main() -> None:
    asked = options(__doc__).parse_args()
    keep(uvloop.run(measure(QUICK if asked.quick else Plan(), asked.out)), asked.out)


if __name__ == "__main__":
    main()
