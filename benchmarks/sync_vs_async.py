"""One engine behind a synchronous endpoint and behind Headrace, for ever more users.

`python -m benchmarks.sync_vs_async`. Users ask when they like, not when others have been answered. Both sides are taken
right after each other, in turns of order, with the same moments of asking; each has an engine of its own, the same one,
and the other side is idle.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from benchmarks.answering import HEADRACE, SYNCHRONOUS, draw, measures
from benchmarks.asking import QUICK, TEXT, Asking, ask_all
from benchmarks.command import data_folder, keep, options
from benchmarks.crowd import Desk
from benchmarks.desks import HeadraceDesk, SynchronousDesk
from benchmarks.installed import Installed
from benchmarks.machine import machine
from benchmarks.result import Result

NAME = "sync_vs_async"


async def measure(asking: Asking, folder: Path) -> Result:
    """Start an installation with the endpoint beside it, take every block, and stop. The plot goes to `folder`."""
    began, body = datetime.now(UTC), {"input": {"text": TEXT, "tokens": asking.tokens}}
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        pipelines = ("benchmarks.pipelines:counselling",)
        installed = await stack.enter_async_context(Installed(data, pipelines, beside={"synchronous": {}}))
        desks: dict[str, Desk] = {
            SYNCHRONOUS: SynchronousDesk(installed.address, "/synchronous/", body),
            HEADRACE: HeadraceDesk(installed.address, "counselling", body),
        }
        sides = await ask_all(asking, desks)
    draw(sides, folder / f"{NAME}.png")
    return Result.of(NAME, facts, measures(sides), began=began, quick=asking is QUICK)


def main() -> None:
    asked = options(__doc__).parse_args()
    keep(uvloop.run(measure(QUICK if asked.quick else Asking(), asked.out)), asked.out)


if __name__ == "__main__":
    main()
