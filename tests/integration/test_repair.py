"""A job that no consumer will give out any more, though it has not ended, is given out again; no other is touched."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta

import pytest

from actors.contracts.errors import Failure
from actors.contracts.events import Cancelled, CancelRequested, HandOff, StepFailed, StepStarted
from actors.engines import Scripted
from actors.journal.later import Later
from actors.journal.pull import Acks, Puller
from actors.journal.topology import LATER
from actors.repair import Repair
from actors.runtime.writer import utc_now
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office
from tests.scribe import Scribe, new_address
from tests.thinking import LONG, SPEECH, Draft, Question, analysis
from tests.verify import kinds
from tests.workers import BACKSTOP_S, a_hand


def repair() -> Repair:
    return Repair(["write", "polish"], f"clock/{secrets.token_hex(4)}", utc_now)


async def lose(office: Office, stage: str) -> None:
    """Acknowledge a hand-off that nobody has done, as a damaged consumer would."""
    puller, acks = Puller(office.journal.pulls, stage, lambda: 1), Acks(office.journal.pulls)
    await puller.open()
    for delivery in await puller.next():
        await acks.done(delivery.ack)
    await puller.close()
    async with asyncio.timeout(BACKSTOP_S):
        while (await office.waiting(stage))[1]:
            pass


async def test_a_lost_job_is_given_out_again_once(servers: Servers, office: Office) -> None:
    pipeline, writing, polishing = analysis(Scripted(says=SPEECH))
    lost = await office.post(pipeline, Question())
    await lose(office, "write")
    waiting = await office.post(pipeline, Question())
    assert await repair().round(office.journal) == 1
    assert await repair().round(office.journal) == 0
    again = (await office.log(lost))[-1].event
    assert isinstance(again, HandOff)
    assert (again.of, again.stage) == (1, "write")
    assert len(await office.log(waiting)) == 1
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        for job in (lost, waiting):
            assert kinds(await office.outcome(job))[-1] == "completed"
    assert await repair().round(office.journal) == 0


@R1
async def test_two_that_repair_at_once_give_it_out_once(servers: Servers, office: Office) -> None:
    pipeline, _, _ = analysis()
    job = await office.post(pipeline, Question())
    await lose(office, "write")
    assert sum(await asyncio.gather(*(repair().round(office.journal) for _ in range(4)))) == 1
    assert len(await office.log(job)) == 2


@R1
async def test_a_job_that_somebody_runs_is_theirs(servers: Servers, office: Office) -> None:
    gate = asyncio.Event()
    pipeline, writing, polishing = analysis(Scripted(says=LONG, gate=gate))
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Question())
        started = (await office.until_kind(job, "step.started"))[-1]
        assert isinstance(started, StepStarted)
        await office.journal.pulls.send(started.ack, b"+ACK")
        async with asyncio.timeout(BACKSTOP_S):
            while (await office.waiting("write"))[1]:
                pass
        assert await repair().round(office.journal) == 0
        gate.set()
        assert kinds(await office.outcome(job))[-1] == "completed"


@R1
async def test_a_job_whose_owner_is_gone_with_its_delivery_is_given_out_again(servers: Servers, office: Office) -> None:
    pipeline, writing, polishing = analysis(Scripted(says=SPEECH))
    job = await office.post(pipeline, Question())
    await lose(office, "write")
    await job.write(StepStarted, stage="write", attempt=1, claim="gone", worker="write-gone", ack="$JS.ACK.x")
    assert await repair().round(office.journal) == 1
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert kinds(records)[:4] == ["handoff", "step.started", "handoff", "step.started"]


@R1
async def test_a_lost_job_that_is_to_be_cancelled_gets_that_outcome_and_is_not_given_out(office: Office) -> None:
    pipeline, _, _ = analysis()
    job = await office.post(pipeline, Question())
    await lose(office, "write")
    await job.write(StepStarted, stage="write", attempt=1, claim="gone", worker="write-gone", ack="$JS.ACK.x")
    await job.write(CancelRequested, reason="a mistake")
    assert await repair().round(office.journal) == 0
    records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "cancel.requested", "cancelled"]
    assert isinstance(records[-1].event, Cancelled)
    assert records[-1].event.reason == "a mistake"


@R1
@pytest.mark.parametrize("late", [False, True], ids=["before its time", "after its time"])
async def test_a_delay_that_was_lost_is_kept_again(servers: Servers, office: Office, late: bool) -> None:
    pipeline, _, _ = analysis()
    job = await office.post(pipeline, Draft(text="x"), to="polish")
    await lose(office, "polish")
    await job.write(StepStarted, stage="polish", attempt=1, claim="c", worker="polish-1", ack="$JS.ACK.x")
    at = datetime.now(UTC) + timedelta(hours=-1 if late else 1)
    await job.write(StepFailed, claim="c", error=Failure(type="RuntimeError", message="m"), retry_at=at)
    await Later(office.journal.signals).put_off("local", job.address.job, 1, datetime.now(UTC) + timedelta(hours=2))
    await office.journal.signals.api(f"STREAM.PURGE.{LATER}")
    assert await repair().round(office.journal) == (1 if late else 0)
    kept = await office.journal.signals.api(f"STREAM.INFO.{LATER}", {"subjects_filter": ">"})
    assert list(kept["state"].get("subjects", {})) == ([] if late else [f"later.at.local.{job.address.job}"])


@R1
async def test_a_job_in_a_queue_that_nobody_made_is_found(office: Office) -> None:
    """A worker of the next version hands over to its new stage, in a share that only the version before knew of."""
    job = Scribe(office.journal.appender, new_address(tenant="acme", share=7))
    await job.hand_off("write")
    assert await repair().round(office.journal) == 0
    puller = Puller(office.journal.pulls, "write", lambda: 1)
    await puller.open()
    async with asyncio.timeout(BACKSTOP_S):
        [delivery] = await puller.next()
    assert delivery.record.subject.endswith(f".acme.{job.address.job}")
    await puller.close()


@R1
async def test_jobs_that_have_ended_are_left_alone(servers: Servers, office: Office) -> None:
    pipeline, writing, polishing = analysis(Scripted(says=SPEECH))
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        jobs = [await office.post(pipeline, Question()) for _ in range(5)]
        logs = [await office.outcome(job) for job in jobs]
        assert await repair().round(office.journal) == 0
    for job, log in zip(jobs, logs, strict=True):
        assert len(await office.log(job)) == len(log)
