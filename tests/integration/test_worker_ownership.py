"""Nobody writes who is not the owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nats.aio.msg import Msg

from actors import Job
from actors.contracts.events import StepStarted
from tests.actions import watched_actions
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office
from tests.thinking import Answer, Draft, analysis
from tests.verify import kinds
from tests.workers import BACKSTOP_S, a_hand

Naughty = Callable[[Job, asyncio.Event], Awaitable[Any]]


async def swallows(job: Job, taken: asyncio.Event) -> None:
    await taken.wait()
    for key in ("one", "two", "three"):
        with suppress(BaseException):
            await job.once(key, lambda: _value([]))


async def gathers(job: Job, taken: asyncio.Event) -> None:
    await taken.wait()
    pieces = (job.once(key, lambda: _value([])) for key in ("one", "two", "three"))
    await asyncio.gather(*pieces, return_exceptions=True)


async def groups(job: Job, taken: asyncio.Event) -> None:
    await taken.wait()
    async with asyncio.TaskGroup() as group:
        for key in ("one", "two", "three"):
            group.create_task(job.once(key, lambda: _value([])))


async def leaves_behind(job: Job, taken: asyncio.Event) -> None:
    async def later(key: str) -> None:
        await taken.wait()
        await job.once(key, lambda: _value([]))

    left.extend(asyncio.create_task(later(key)) for key in ("one", "two", "three"))
    await taken.wait()
    await job.report("still here")


left: list[asyncio.Task[None]] = []


@R1
@pytest.mark.parametrize("naughty", [swallows, gathers, groups, leaves_behind])
async def test_a_zombie_stores_nothing_whatever_its_stage_does_with_the_error(
    servers: Servers, office: Office, naughty: Naughty
) -> None:
    taken = asyncio.Event()

    async def stubborn(draft: Draft, job: Job) -> Answer:
        await job.once("zero", lambda: _value([]))
        await naughty(job, taken)
        return Answer(text="a zombie's")

    pipeline, _, polishing = analysis(polishes=stubborn)
    async with a_hand(servers, pipeline, polishing):
        with watched_actions() as actions:
            job = await office.post(pipeline, Draft(text="x"), to="polish")
            await office.until_kind(job, "step.part")
            heir: dict[str, Any] = {"stage": "polish", "worker": "polish-heir", "ack": "$JS.ACK.x"}
            await office.insist(job, StepStarted, attempt=2, claim="heir", **heir)
            taken.set()
            await actions.next("step_settled", verdict="LET_GO")
        await asyncio.gather(*left, return_exceptions=True)
        left.clear()
        records = await office.log(job)
    assert kinds(records) == ["handoff", "step.started", "step.part", "step.started"]
    assert records[-1].event.by == "test/scribe"
    assert office.ear.count(b"+ACK") == office.ear.count(b"-NAK") == 0


@R1
async def test_what_a_stage_leaves_running_stores_nothing_after_its_output(servers: Servers, office: Office) -> None:
    goes, ended = asyncio.Event(), asyncio.Event()

    async def forgetful(draft: Draft, job: Job) -> Answer:
        async def later() -> None:
            try:
                await goes.wait()
                await job.report("and another thing")
            finally:
                ended.set()

        left.append(asyncio.create_task(later()))
        return Answer(text="done")

    pipeline, _, polishing = analysis(polishes=forgetful)
    async with a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        await office.until_kind(job, "completed")
        goes.set()
        await asyncio.wait_for(ended.wait(), BACKSTOP_S)
        await asyncio.gather(*left, return_exceptions=True)
        left.clear()
        assert kinds(await office.log(job), text=True) == ["handoff", "completed"]


@R1
@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
async def test_a_silent_owner_keeps_its_claim_while_its_newest_event_is_new(
    servers: Servers, office: Office, old: bool
) -> None:
    async def says_nothing(question: Msg) -> None:
        return

    await office.journal.signals.subscribe("worker.polish-silent", says_nothing)
    pipeline, _, polishing = analysis()
    job = await office.post(pipeline, Draft(text="x"), to="polish")
    at = datetime.now(UTC) - timedelta(hours=old)
    owner: dict[str, Any] = {"stage": "polish", "worker": "polish-silent", "ack": "$JS.ACK.x", "at": at}
    await job.write(StepStarted, attempt=1, claim="silent", **owner)
    with watched_actions() as actions:
        async with a_hand(servers, pipeline, polishing, ack_wait=600.0):
            if old:
                assert kinds(await office.outcome(job))[-1] == "completed"
            else:
                await actions.next("step_settled", verdict="LET_GO")
                assert kinds(await office.log(job)) == ["handoff", "step.started"]


async def _value(tries: list[int]) -> int:
    tries.append(1)
    return len(tries)
