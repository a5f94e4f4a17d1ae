"""A replica: what is missing for a while does not end it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from actors.engines import Scripted
from actors.engines.protocol import EngineError
from actors.engines.scripted import Cue
from actors.journal import Journal
from actors.journal.topology import ensure
from actors.runtime import replica as replicas
from actors.runtime.presence import WorkerStatus, workers_of
from actors.runtime.replica import Replica
from actors.runtime.settings import Settings
from tests.actions import watched_actions
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import office_on
from tests.pipelines import PATHS, SPEECH, Prepared, Recital, recital, reciter
from tests.verify import kinds, said

BACKSTOP_S = 30.0


@asynccontextmanager
async def running(servers: Servers, stage: str, **settings: Any) -> AsyncIterator[tuple[Replica, asyncio.Task[None]]]:
    known = {"nats_url": ",".join(servers.urls), "pipelines": PATHS, "ack_wait": 1.0, **settings}
    replica = Replica(Settings(**known), stage)
    task = asyncio.create_task(replica.run())
    try:
        yield replica, task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def becomes(journal: Journal, stage: str, state: str) -> WorkerStatus:
    """Ask until the only worker of a stage says that it is so."""
    async with asyncio.timeout(BACKSTOP_S):
        while True:
            found = await workers_of(journal.signals, stage)
            if [worker.state for worker in found] == [state]:
                return found[0]


async def test_a_replica_takes_jobs_and_says_how_it_is(r1: Servers) -> None:
    async with opened(r1) as journal, office_on(journal) as office, running(r1, "applaud") as (replica, task):
        job = await office.post(recital, Recital(text="so it was"), to="applaud")
        assert kinds(await office.outcome(job)) == ["handoff", "completed"]
        (status,) = await workers_of(journal.signals, "applaud")
        assert (status.worker, status.stage, status.state, status.jobs) == (replica.name, "applaud", "ready", 0)
        await replica.check()
        await asyncio.wait_for(replica.stop(1.0), BACKSTOP_S)
        await asyncio.wait_for(task, BACKSTOP_S)


async def test_a_replica_that_starts_before_its_server_waits_for_it(r1: Servers) -> None:
    await r1.kill()
    with watched_actions() as actions:
        async with running(r1, "applaud") as (replica, task):
            assert replica.status().state == "starting"
            await r1.start()
            await actions.next("worker_state", state="ready")
            assert not task.done()


async def test_a_server_that_goes_away_while_a_replica_starts_does_not_end_it(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asyncio.Event()

    async def ensure_and_kill(*args: Any, **options: Any) -> None:
        await ensure(*args, **options)
        await r1.kill()
        made.set()

    monkeypatch.setattr(replicas, "ensure", ensure_and_kill)
    async with running(r1, "applaud") as (replica, task):
        await asyncio.wait_for(made.wait(), BACKSTOP_S)
        await asyncio.sleep(0)
        await r1.start()
        async with opened(r1) as journal, office_on(journal) as office:
            assert (await becomes(journal, "applaud", "ready")).worker == replica.name
            assert not task.done()
            job = await office.post(recital, Recital(text="so it was"), to="applaud")
            assert kinds(await office.outcome(job)) == ["handoff", "completed"]


async def test_an_engine_that_cannot_start_is_tried_again_and_jobs_wait(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_times: list[int] = []
    enter = Scripted.__aenter__

    async def fails_twice(engine: Scripted) -> Scripted:
        opened_times.append(1)
        if len(opened_times) < 3:
            raise EngineError("no memory for the model; choose a smaller one")
        return await enter(engine)

    monkeypatch.setattr(Scripted, "__aenter__", fails_twice)
    monkeypatch.setattr(replicas, "FIRST_RETRY_S", 0.05)
    async with opened(r1) as journal, office_on(journal) as office:
        job = await office.post(recital, Prepared(text="sing"), to="recite")
        with watched_actions() as actions:
            async with running(r1, "recite") as (replica, _):
                failed = await actions.next("open_failed")
                assert "choose a smaller one" in failed["reason"]
                await office.until_kind(job, "handoff", times=2)
                assert replica.status().state == "ready"
    assert len(opened_times) == 3


async def test_a_replica_whose_engine_died_says_so_and_asks_to_be_replaced(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reciter, "cues", (Cue("die", at=3),))
    monkeypatch.setattr(reciter, "_dead", "")
    async with opened(r1) as journal, office_on(journal) as office, running(r1, "recite") as (replica, _):
        job = await office.post(recital, Prepared(text="sing"), to="recite")
        status = await becomes(journal, "recite", "failed")
        assert "told to die" in status.detail
        assert status.free == 0
        with pytest.raises(EngineError, match="told to die"):
            await replica.check()
        monkeypatch.setattr(reciter, "cues", ())
        monkeypatch.setattr(reciter, "_dead", "")
        async with running(r1, "recite"):
            await office.until_kind(job, "handoff", times=2)
            records = await office.log(job)
    assert kinds(records) == ["handoff", "step.started", "step.started", "handoff"]
    assert said(records, "recite") == SPEECH
