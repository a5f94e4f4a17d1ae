"""The clock ends overdue jobs that nobody runs, and leaves everything else alone."""

from __future__ import annotations

import asyncio

import pytest

from actors.clock import Clock
from actors.contracts.events import Aborted, Cancelled, CancelRequested, Expired, StepStarted
from actors.engines import Scripted
from actors.runtime.settings import Settings
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.pipelines import PATHS, Prepared, Wish, recital, recite
from tests.workers import a_hand, with_engine


def a_clock(servers: Servers) -> Clock:
    return Clock(Settings(nats_url=",".join(servers.urls), pipelines=PATHS))


async def test_an_overdue_job_that_nobody_began_is_aborted(servers: Servers) -> None:
    async with opened(servers) as journal, office_on(journal) as office:
        job = await office.post(recital, Wish(text="late"), seconds=-1)
        in_time = await office.post(recital, Wish(text="in time"))
        assert await a_clock(servers).round(journal) == 1
        assert isinstance((await office.outcome(job))[-1].event, Aborted)
        assert len(await office.log(in_time)) == 1
        assert await a_clock(servers).round(journal) == 0


async def test_an_overdue_job_that_went_a_step_is_expired(r1: Servers) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        job = await office.post(recital, Wish(text="late"), seconds=-1)
        await job.hand_off("recite", Prepared(text="late"))
        assert await a_clock(r1).round(journal) == 1
        assert isinstance((await office.outcome(job))[-1].event, Expired)


async def test_an_overdue_job_that_somebody_runs_is_left_to_them(r1: Servers) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        await _running_job_is_left_alone(r1, office)


async def _running_job_is_left_alone(servers: Servers, office: Office) -> None:
    gate = asyncio.Event()
    async with a_hand(servers, recital, with_engine(recite, Scripted(says="said", gate=gate))):
        job = await office.post(recital, Prepared(text="go"), to="recite", seconds=2)
        await office.until_kind(job, "step.started")
        clock = Clock(Settings(nats_url=",".join(servers.urls), pipelines=PATHS), now=lambda: job.origin.deadline)
        assert await clock.round(office.journal) == 0
        records = await office.outcome(job)  # the worker ends it itself, at its deadline
    assert isinstance(records[-1].event, Expired)
    assert records[-1].event.by.startswith("recite-")


@pytest.mark.parametrize("stage", ["recite", "polish"], ids=["a stage of today", "a stage that is gone"])
@pytest.mark.parametrize("cancelled", [False, True], ids=["as it is", "to be cancelled"])
async def test_an_overdue_job_whose_worker_was_lost_is_ended(r1: Servers, stage: str, cancelled: bool) -> None:
    """There may be no worker any more that would be given it."""
    async with opened(r1) as journal, office_on(journal) as office:
        job = await office.post(recital, Prepared(text="late"), to=stage, seconds=-1)
        await job.write(StepStarted, stage=stage, attempt=1, claim="gone", worker=f"{stage}-gone", ack="$JS.ACK.x")
        if cancelled:
            await job.write(CancelRequested, reason="a mistake")
        assert await a_clock(r1).round(journal) == 1
        assert isinstance((await office.outcome(job))[-1].event, Cancelled if cancelled else Expired)
        assert await a_clock(r1).round(journal) == 0


async def test_two_clocks_at_once_end_a_job_once(r1: Servers) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        job = await office.post(recital, Wish(text="late"), seconds=-1)
        ended = await asyncio.gather(*(a_clock(r1).round(journal) for _ in range(2)))
        assert sum(ended) == 1
        assert isinstance((await office.outcome(job))[-1].event, Aborted)
