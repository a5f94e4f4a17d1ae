"""Steps in load: how soon the number of replicas is decided on, and how often it turns round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from actors.contracts.subjects import scaling_subject
from actors.journal.connection import Link
from actors.journal.journal import Journal
from actors.journal.lag import stage_flows
from actors.runtime.presence import workers_of
from actors.runtime.scaling import Decision
from benchmarks.estimate import estimate, percentile
from benchmarks.pipelines import SWELL_REPLICAS, Ask, swell
from benchmarks.posting import post
from benchmarks.progress import tell
from benchmarks.result import Bar, Measure

STAGE = swell.entry.name
TOKENS = 18
JOBS = SWELL_REPLICAS.max * (SWELL_REPLICAS.lag_per_replica or 1)
LOOK_EVERY_S = 0.02
REST_S = 90.0
SETTLED_S = 1.5
"""How long it stays as it was before the next step."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step up and the end of its load: how long until all that were needed were decided on, and all decisions."""

    decided_s: float
    wanted: list[int]


def reversals(wanted: Sequence[int]) -> int:
    """How often a number went another way than before: up and, when the load is over, down again is once."""
    moves = [after > before for before, after in pairwise(wanted) if after != before]
    return sum(one != next for one, next in pairwise(moves))


async def decided(link: Link, stage: str) -> int:
    """How many replicas there are to be, as was decided last."""
    return Decision.model_validate_json((await link.request(scaling_subject(stage))).data).replicas


async def steps(journal: Journal, *, times: int) -> list[Step]:
    """So many steps of as many jobs as need every replica, each from rest."""
    taken = []
    for at in range(times):
        taken.append(await _step(journal))
        tell(f"(b) {at + 1}: decided after {1000 * taken[-1].decided_s:.0f} ms")
    return taken


async def _step(journal: Journal) -> Step:
    async with asyncio.timeout(REST_S):
        while not await _rests(journal):  # noqa: ASYNC110  # it is in other processes
            await asyncio.sleep(LOOK_EVERY_S)
    await asyncio.sleep(SETTLED_S)
    wanted = [await decided(journal.signals, STAGE)]
    began = time.perf_counter()
    await asyncio.gather(*(post(journal, swell, Ask(text="", tokens=TOKENS)) for _ in range(JOBS)))
    known = 0.0
    async with asyncio.timeout(REST_S):
        while not known or not await _rests(journal):
            wanted.append(await decided(journal.signals, STAGE))
            if not known and wanted[-1] == SWELL_REPLICAS.max:
                known = time.perf_counter() - began
            await asyncio.sleep(LOOK_EVERY_S)
    return Step(known, wanted)


async def _rests(journal: Journal) -> bool:
    """Whether nothing waits or runs, and there are as few replicas as there may be."""
    if await decided(journal.signals, STAGE) > SWELL_REPLICAS.min:
        return False
    flows = (await stage_flows(journal.signals, [STAGE]))[STAGE]
    if any(flow.waiting or flow.running for flow in flows):
        return False
    return [w.state for w in await workers_of(journal.signals, STAGE)] == ["ready"] * SWELL_REPLICAS.min


def stepped(taken: Sequence[Step]) -> list[Measure]:
    """(b) The decisions."""
    load = f"{len(taken)} steps of {JOBS} jobs, from {SWELL_REPLICAS.min} replica to {SWELL_REPLICAS.max}"
    times = [step.decided_s for step in taken]
    return [
        Measure(
            part="b",
            question="from the first hand-off of a step in load to the decision, p99",
            load=load,
            estimate=estimate(times, lambda drawn: percentile(drawn, 99)),
            unit="s",
            bar=Bar(most=0.5),
            detail=f"p50 {percentile(times, 50):.2f} s, at most {max(times):.2f} s",
            raw={"decided_s": [round(seconds, 3) for seconds in times]},
        ),
        Measure(
            part="b",
            question="reversals of a step, at most",
            load=load,
            estimate=estimate(taken, lambda drawn: max(reversals(step.wanted) for step in drawn)),
            bar=Bar(most=1),
            raw={"reversals": [reversals(step.wanted) for step in taken]},
        ),
    ]
