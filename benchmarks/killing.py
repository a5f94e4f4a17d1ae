"""Killing: what becomes of the jobs that a process is working on when it is killed, on each side."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from actors.journal.topology import ACK_WAIT_S
from benchmarks.crowd import Asked, Desk
from benchmarks.estimate import estimate, median
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure
from benchmarks.tally import Tally

PATIENCE_S = 2 * ACK_WAIT_S
"""A job without an answer after this time is lost: on every side, others may have it after half of that."""

LOOK_EVERY_S = 0.02


@dataclass(frozen=True, slots=True)
class Scene:
    """Where it happens: a desk, the tally of the processes behind it, and how to wait until all of those are there."""

    desk: Desk
    tally: Tally
    ready: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Load:
    """So many jobs at once, of so many tokens each."""

    jobs: int
    tokens: int

    @property
    def needed(self) -> int:
        return self.jobs * self.tokens


@dataclass(frozen=True, slots=True)
class Killed:
    """One kill: jobs that were answered, tokens of all processes and of the one that was killed, and, in seconds, how
    long after the kill the last answer came; None if there was none.
    """

    load: Load
    answered: int
    computed: int
    by_killed: int
    last_s: float | None

    @property
    def lost(self) -> int:
        return self.load.jobs - self.answered

    @property
    def for_nothing(self) -> int:
        """Tokens that are in no answer, or were computed before."""
        return self.computed - self.answered * self.load.tokens


async def kill(name: str, scene: Scene, load: Load) -> Killed:
    """Ask for all jobs at once; when a third of their tokens is made, kill the process that has made most of them."""
    await scene.ready()
    before = scene.tally.by_process

    def made() -> dict[int, int]:
        return {process: tokens - before.get(process, 0) for process, tokens in scene.tally.by_process.items()}

    jobs = [Asked(sent=time.time()) for _ in range(load.jobs)]
    async with asyncio.TaskGroup() as group:
        for job in jobs:
            group.create_task(_ask(scene.desk, job))
        async with asyncio.timeout(PATIENCE_S):
            while sum(made().values()) < load.needed / 3:  # noqa: ASYNC110  # they are other processes
                await asyncio.sleep(LOOK_EVERY_S)
        victim = max(made().items(), key=lambda process: process[1])[0]
        os.kill(victim, signal.SIGKILL)
        killed, by_killed = time.time(), made()[victim]
    ends = [job.ended for job in jobs if not job.trouble]
    taken = Killed(load, len(ends), sum(made().values()), by_killed, max(ends) - killed if ends else None)
    tell(f"{name}, a process killed: {taken.lost} of {load.jobs} jobs lost, {taken.for_nothing} tokens for nothing")
    return taken


async def kill_all(scenes: Mapping[str, Scene], load: Load, *, times: int) -> dict[str, list[Killed]]:
    """So many kills on each side. All sides at once: most of the time nothing happens, but for waiting."""
    rounds = [await asyncio.gather(*(kill(name, scene, load) for name, scene in scenes.items())) for _ in range(times)]
    return {name: [kills[at] for kills in rounds] for at, name in enumerate(scenes)}


async def _ask(desk: Desk, job: Asked) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            await desk.ask(job)
    except TimeoutError:
        job.trouble = "lost"


def killed(name: str, kills: Sequence[Killed], bar: Bar | None = None) -> list[Measure]:
    """What one side's kills cost. `bar` is for jobs that were lost."""
    load = f"{kills[0].load.jobs} jobs, {len(kills)} kill" + ("s" if len(kills) > 1 else "")
    lost, jobs = sum(one.lost for one in kills), sum(one.load.jobs for one in kills)
    computed, needed = sum(one.computed for one in kills), sum(one.load.needed for one in kills)
    last = [one.last_s for one in kills if one.last_s is not None]
    measures = [
        Measure(
            part=name,
            question="killed amid jobs: jobs lost",
            load=load,
            estimate=estimate(kills, lambda drawn: sum(one.lost for one in drawn)),
            bar=bar,
            detail=f"{lost} of {jobs}",
        ),
        Measure(
            part=name,
            question="killed amid jobs: tokens made for nothing, over those that the killed process had made",
            load=load,
            estimate=estimate(kills, _for_nothing),
            detail=f"{computed} made, of {needed} that {jobs} answers need",
            raw={"by_killed": [one.by_killed for one in kills], "computed": [one.computed for one in kills]},
        ),
    ]
    if not last:
        return measures
    until = Measure(
        part=name,
        question="killed amid jobs: SIGKILL to the last answer, p50",
        load=load,
        unit="s",
        estimate=estimate(last, median),
        detail=f"and none for {lost}" if lost else "",
        raw={"last_s": [round(each, 3) for each in last]},
    )
    return [*measures, until]


def _for_nothing(kills: Sequence[Killed]) -> float:
    return sum(one.for_nothing for one in kills) / sum(one.by_killed for one in kills)
