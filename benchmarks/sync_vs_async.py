"""One engine behind a synchronous endpoint and behind Headrace, for ever more users.

`python -m benchmarks.sync_vs_async`. Users ask when they like, not when others have been answered. Both sides are taken
right after each other, in turns of order, with the same moments of asking; each has an engine of its own, the same one,
and the other side is idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import uvloop

from benchmarks.answering import FEW, HEADRACE, SYNCHRONOUS, Block, Side, measures
from benchmarks.command import data_folder, options
from benchmarks.crowd import Desk, crowd
from benchmarks.desks import HeadraceDesk, SynchronousDesk
from benchmarks.installed import Installed
from benchmarks.machine import machine
from benchmarks.progress import tell
from benchmarks.report import table
from benchmarks.result import Result

NAME = "sync_vs_async"
TEXT = "Which mills on this river have two wheels, and what does each of them grind?"


@dataclass(frozen=True, slots=True)
class Plan:
    """So many rounds of these crowds: how many users, and for how many seconds they ask."""

    crowds: tuple[tuple[int, float], ...] = ((5, 12.0), (FEW, 12.0), (500, 8.0), (1_000, 6.0))
    rounds: int = 2
    tokens: int = 64


QUICK = Plan(crowds=((50, 1.0), (200, 1.0)), rounds=1, tokens=8)


async def take(plan: Plan, desks: Mapping[str, Desk]) -> list[Block]:
    """Every round of every crowd, on both sides."""
    blocks = []
    for number in range(plan.rounds):
        for at, (users, seconds) in enumerate(plan.crowds):
            for side in sorted(desks, reverse=(number + at) % 2 == 0):
                asked = await crowd(desks[side], users, seconds, Random(1_000 * number + users))
                blocks.append(Block(side, users, asked))
                tell(str(blocks[-1]))
                await desks[side].idle()
    return blocks


async def measure(plan: Plan, folder: Path) -> Result:
    """Start an installation with the endpoint beside it, take every block, and stop. The plot goes to `folder`."""
    began, body = datetime.now(UTC), {"input": {"text": TEXT, "tokens": plan.tokens}}
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        pipelines = ("benchmarks.pipelines:counselling",)
        installed = await stack.enter_async_context(Installed(data, pipelines, beside=("synchronous",)))
        desks: dict[str, Desk] = {
            SYNCHRONOUS: SynchronousDesk(installed.address, "/synchronous/", body),
            HEADRACE: HeadraceDesk(installed.address, "counselling", body),
        }
        for desk in desks.values():
            await desk.idle()
            await crowd(desk, users=10, seconds=1.0, rng=Random(0))
        blocks = await take(plan, desks)
    sides = [
        Side(name, users, [block for block in blocks if (block.side, block.users) == (name, users)])
        for users, _ in plan.crowds
        for name in (SYNCHRONOUS, HEADRACE)
    ]
    draw(sides, folder / f"{NAME}.png")
    return Result.of(NAME, facts, measures(sides), began=began, quick=plan is QUICK)


def draw(sides: Sequence[Side], path: Path) -> None:
    """What users wait for an answer to their POST, how many get none, and how many answers there are."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, (waits, errors, rates) = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for name, marker in ((SYNCHRONOUS, "s"), (HEADRACE, "o")):
        curve = [side for side in sides if side.name == name]
        users = [side.users for side in curve]
        [line] = waits.plot(users, [side.posted(99) for side in curve], marker=marker, label=f"{name}, p99")
        waits.plot(users, [side.posted(50) for side in curve], ":", color=line.get_color(), label=f"{name}, p50")
        errors.plot(users, [100 * side.errors / len(side.asked) for side in curve], marker=marker, label=name)
        rates.plot(users, [side.per_s for side in curve], marker=marker, label=name)
    waits.set(yscale="log", ylabel="seconds", title="answer to the POST")
    errors.set(ylim=(-2, 102), ylabel="%", title="questions without an answer")
    rates.set(ylim=(0, None), ylabel="answers a second", title="answers")
    for axes in (waits, errors, rates):
        axes.set(xscale="log", xlabel="users")
        axes.set_xticks(
            sorted({side.users for side in sides}), [f"{users:,}" for users in sorted({s.users for s in sides})]
        )
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(loc="center left", fontsize="small")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    asked = options(__doc__).parse_args()
    result = uvloop.run(measure(QUICK if asked.quick else Plan(), asked.out))
    print(table(result))
    tell(f"written to {result.write(asked.out)}")


if __name__ == "__main__":
    main()
