"""Parts of Ray and Serve are killed under jobs that run: none of them is lost, and none is computed twice."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from actors.client import AsyncHeadrace, Patience
from actors.replies import Completed, Delta, StepStarted
from actors.runtime.cluster import VITAL
from tests.installation import installation
from tests.slow_pipeline import WORDS
from tests.streams import read, text_of

TALES = "tests.slow_pipeline:tales"
JOBS = 12
STUBBORN = Patience(tries=1_000, first=0.1, longest=0.5)
BACKSTOP_S = 120.0

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not os.environ.get("MINUTES"), reason="two more starts of Ray: only in `make chaos`"),
]


async def speaking(client: AsyncHeadrace, jobs: list[str]) -> None:
    """Wait until one of the jobs says something."""
    async for event in client.events(jobs[0]):
        if isinstance(event, Delta):
            return


def only(found: list[psutil.Process]) -> psutil.Process:
    [process] = found
    return process


async def test_a_killed_controller_costs_no_job_anything(tmp_path: Path) -> None:
    with installation(tmp_path, pipelines=[TALES]) as running:
        async with AsyncHeadrace(running.url, patience=STUBBORN) as client, asyncio.timeout(BACKSTOP_S):
            jobs = [(await client.submit("tales", {"name": f"{n}"})).id for n in range(JOBS)]
            await speaking(client, jobs)
            controller = only(running.processes("ray::ServeController"))
            controller.send_signal(signal.SIGKILL)
            jobs += [(await client.submit("tales", {"name": f"after {n}"})).id for n in range(JOBS)]
            streams = await asyncio.gather(*(read(client, job) for job in jobs))
            while controller.pid in (pids := {p.pid for p in running.processes("ray::ServeController")}) or not pids:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # Serve says nothing about it
    for events in streams:
        assert isinstance(events[-1], Completed)
        assert text_of(events) == WORDS
        assert sum(isinstance(event, StepStarted) for event in events) == 1


@pytest.mark.parametrize("vital", VITAL)
async def test_the_end_of_ray_costs_no_job(tmp_path: Path, vital: str) -> None:
    """Everything is started again by itself, on the same port; readers come back, and jobs go on where they were."""
    with installation(tmp_path, pipelines=[TALES]) as running:
        async with AsyncHeadrace(running.url, patience=STUBBORN) as client, asyncio.timeout(BACKSTOP_S):
            jobs = [(await client.submit("tales", {"name": f"{n}"})).id for n in range(JOBS)]
            reading = [asyncio.create_task(read(client, job)) for job in jobs]
            await speaking(client, jobs)
            killed = only(running.processes(f"/{vital} "))
            killed.send_signal(signal.SIGKILL)
            streams = await asyncio.gather(*reading)
        assert f"headrace: {vital} has died" in " ".join(running.said)
    for events in streams:
        assert isinstance(events[-1], Completed)
        assert text_of(events) == WORDS
    assert any(sum(isinstance(event, StepStarted) for event in events) > 1 for events in streams)
