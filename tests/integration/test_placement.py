"""Stages are placed as they were declared, a spare takes over, and CPUs relieve GPUs. Ray is told of GPUs that are not
there: what it gives to whom is the same.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from actors.client import AsyncHeadrace, Patience
from actors.replies import Completed, Delta, Event, Progress, Replica, StepStarted
from benchmarks.installed import Installed
from tests.placed_pipeline import LONG

pytestmark = [pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]

PIPELINES = tuple(f"tests.placed_pipeline:{name}" for name in ("milled", "sifted", "weighed"))
GPUS = {"GPU": 3, "accelerator_type:H100": 1}
BACKSTOP_S = 90.0
LOOK_EVERY_S = 0.1


@dataclass
class Mill:
    """An installation on a machine of which Ray believes that it has three GPUs."""

    client: AsyncHeadrace

    async def replicas(self, stage: str) -> dict[str, Replica]:
        [found] = [found for found in await self.client.stages() if found.stage == stage]
        return {replica.worker: replica for replica in found.replicas}

    async def roles(self, stage: str, *wanted: str) -> dict[str, str]:
        """Which replica has which role, once they are all ready and have just these."""
        while True:
            there = (await self.replicas(stage)).values()
            roles = {replica.worker: replica.role for replica in there if replica.state == "ready"}
            if sorted(roles.values()) == sorted(wanted) and len(there) == len(wanted):
                return dict(roles)
            await asyncio.sleep(LOOK_EVERY_S)

    async def starters(self, job: str) -> list[str]:
        """The replicas that began it, in order."""
        return [event.worker async for event in self.client.events(job) if isinstance(event, StepStarted)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mill(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mill]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps(GPUS))
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        async with (
            asyncio.timeout(BACKSTOP_S * 2),
            Installed(tmp_path_factory.mktemp("data"), PIPELINES, drain=1.0) as installed,
            AsyncHeadrace(f"http://{installed.address.host}:{installed.address.port}", patience=Patience(60)) as client,
        ):
            yield Mill(client)


async def test_each_replica_sees_the_gpus_that_its_stage_declares(mill: Mill) -> None:
    async with asyncio.timeout(BACKSTOP_S):
        await mill.roles("mill", "regular", "overflow")
        await mill.roles("sift", "regular", "spare")
        milled, sifted, weighed = [
            await mill.client.result((await mill.client.submit(pipeline, message)).id)
            for pipeline, message in (("milled", {"text": "a"}), ("sifted", {"text": "b"}), ("weighed", {}))
        ]
    assert len(set(milled["gpus"].split(","))) == 2
    assert sifted["gpus"] in {"0", "1", "2"} - set(milled["gpus"].split(","))
    assert weighed["gpus"] == ""


async def test_a_spare_stands_by_loaded_and_takes_over_from_one_that_is_killed(mill: Mill) -> None:
    async with asyncio.timeout(BACKSTOP_S):
        roles = await mill.roles("sift", "regular", "spare")
        working, spare = sorted(roles, key=roles.__getitem__)
        standing_by = (await mill.replicas("sift"))[spare]
        assert (standing_by.free, standing_by.jobs) == (0, 0)
        assert standing_by.detail
        assert standing_by.detail.startswith("a warm spare")

        job = await mill.client.submit("sifted", {"text": LONG})
        seen: list[Event] = []
        async for event in mill.client.events(job.id):
            seen.append(event)
            if isinstance(event, Delta) and not any(isinstance(e, Delta) for e in seen[:-1]):
                os.kill(next(int(e.message) for e in seen if isinstance(e, Progress)), signal.SIGKILL)
        assert isinstance(seen[-1], Completed)
        assert seen[-1].answer["text"] == LONG
        assert [event.worker for event in seen if isinstance(event, StepStarted)] == [working, spare]

        after = await mill.roles("sift", "regular", "spare")
    assert after[spare] == "regular"
    assert working not in after


async def test_a_job_that_waits_too_long_for_a_gpu_is_taken_by_the_cpus(mill: Mill) -> None:
    async with asyncio.timeout(BACKSTOP_S):
        roles = await mill.roles("mill", "regular", "overflow")
        on_gpus, on_cpus = sorted(roles, key=roles.__getitem__, reverse=True)
        long, waits = [(await mill.client.submit("milled", {"text": text})).id for text in (LONG, "quick")]
        assert await mill.starters(waits) == [on_cpus]
        assert (await mill.client.result(waits))["gpus"] == ""
        assert await mill.starters(long) == [on_gpus]
        fresh = (await mill.client.submit("milled", {"text": "quick"})).id
        assert await mill.starters(fresh) == [on_gpus]
        assert (await mill.replicas("mill"))[on_cpus].detail == "overflow: it works when a job has waited for 0.5 s"
