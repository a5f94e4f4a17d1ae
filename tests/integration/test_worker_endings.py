"""Jobs that are ended from outside: their deadline, a cancel, a worker that stops."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal

import pytest

from actors import Job, Retry
from actors.contracts.events import Cancelled, CancelRequested, Completed, Expired
from actors.engines import Engine, Scripted
from actors.engines.scripted import Cue, tokens_of
from actors.journal.topology import JOBS
from actors.runtime.writer import Pen
from tests.actions import watched_actions
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office, starts
from tests.thinking import LONG, SPEECH, TOKENS, Answer, Draft, Question, analysis, write
from tests.trouble import StoresAndHolds, Turnstile
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, a_hand


@R1
async def test_a_job_whose_deadline_passed_in_the_queue_is_aborted(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, _ = analysis(engine)
    async with a_hand(servers, pipeline, writing):
        records = await office.outcome(await office.post(pipeline, Question(), seconds=-1))
        await office.ear.until(b"+ACK")
    assert kinds(records) == ["handoff", "aborted"]
    assert engine.pulse().steps == 0


@R1
@pytest.mark.parametrize("to", ["write", "polish"])
async def test_a_job_whose_deadline_passes_while_it_runs_expires(servers: Servers, office: Office, to: str) -> None:
    async def waits(draft: Draft, job: Job) -> Answer:
        await job.report("waiting")
        await asyncio.Event().wait()
        raise AssertionError

    engine = Scripted(says=LONG, token_s=0.02)
    pipeline, writing, polishing = analysis(engine, polishes=waits)
    async with a_hand(servers, pipeline, writing if to == "write" else polishing):
        job = await office.post(pipeline, Question() if to == "write" else Draft(text="x"), to=to, seconds=0.5)
        records = await office.outcome(job)
        await office.ear.until(b"+ACK")
        assert engine.pulse().running == 0
    assert kinds(records) == ["handoff", "step.started", "expired"]
    expired = records[-1].event
    assert isinstance(expired, Expired)
    assert expired.at >= job.origin.deadline
    assert expired.text is not None
    if to == "write":
        assert expired.usage.output_tokens >= len(tokens_of(said(records, "write"))) > 0


@R1
async def test_a_cancel_stops_what_is_running(servers: Servers, office: Office) -> None:
    engine = Scripted(says=LONG, token_s=0.02)
    pipeline, writing, _ = analysis(engine)
    async with a_hand(servers, pipeline, writing):
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "delta", times=3)
        await office.insist(job, CancelRequested, reason="enough")
        records = await office.outcome(job)
        await office.ear.until(b"+ACK")
        made = engine.pulse()
    assert kinds(records) == ["handoff", "step.started", "cancel.requested", "cancelled"]
    cancelled = records[-1].event
    assert isinstance(cancelled, Cancelled)
    assert cancelled.reason == "enough"
    assert cancelled.text is not None
    stored = len(tokens_of(said(records, "write")))
    assert made.running == 0
    assert stored < made.steps < len(tokens_of(LONG))
    assert records[-2].event.kind == "cancel.requested", "after a cancel only an outcome"


class OneAtATime(asyncio.Event):
    """A gate that shuts again behind everybody who passes."""

    def is_set(self) -> bool:
        passes = super().is_set()
        self.clear()
        return passes

    async def wait(self) -> Literal[True]:
        await super().wait()
        self.clear()
        return True


@R1
async def test_after_a_cancel_the_engine_makes_one_more_token_at_most(servers: Servers, office: Office) -> None:
    gate = OneAtATime()
    engine = Scripted(says=LONG, gate=gate)
    pipeline, writing, _ = analysis(engine)
    async with a_hand(servers, pipeline, writing):
        job = await office.post(pipeline, Question())
        for token in range(1, 4):
            gate.set()
            await office.until_kind(job, "delta", times=token)
        await office.insist(job, CancelRequested)
        gate.set()
        records = await office.outcome(job)
        gate.set()
        await office.ear.until(b"+ACK")
    assert kinds(records, text=True)[2:] == ["delta"] * 3 + ["cancel.requested", "cancelled"]
    assert (engine.pulse().steps, engine.pulse().running) == (4, 0)


@R1
async def test_a_cancel_of_a_step_that_only_has_its_output_left_drops_the_output(
    servers: Servers, office: Office
) -> None:
    goes = asyncio.Event()

    async def waits(draft: Draft, job: Job) -> Answer:
        await job.report("waiting")
        await goes.wait()
        return Answer(text="too late")

    pipeline, _, polishing = analysis(polishes=waits)
    async with a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        await office.until_kind(job, "progress")
        await office.insist(job, CancelRequested)
        goes.set()
        records = await office.outcome(job)
    assert kinds(records)[-2:] == ["cancel.requested", "cancelled"]


@R1
async def test_a_job_cancelled_in_the_queue_gets_no_inference(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, _ = analysis(engine)
    job = await office.post(pipeline, Question())
    await job.write(Cancelled, origin=job.origin)
    async with a_hand(servers, pipeline, writing):
        await office.ear.until(b"+ACK")
        assert kinds(await office.outcome(job)) == ["handoff", "cancelled"]
    assert engine.pulse().steps == 0


@R1
async def test_a_drain_hands_back_and_another_goes_on_from_what_is_stored(servers: Servers, office: Office) -> None:
    slow, fast = Scripted(says=SPEECH, token_s=0.05), Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(slow, retry=Retry(attempts=1, crashes=1))
    async with a_hand(servers, pipeline, writing) as first:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "delta", times=3)
        await asyncio.wait_for(first.worker.drain(0.0), BACKSTOP_S)
        await asyncio.wait_for(first.task, BACKSTOP_S)
        assert slow.pulse().running == 0
    async with a_hand(servers, pipeline, replace(writing, uses=fast)), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.released", "step.started", "handoff", "completed"]
    again = starts(records)[1]
    assert 0 < again.from_ < TOKENS
    assert fast.pulse().steps == TOKENS - again.from_


@R1
async def test_a_drain_stores_what_was_said_and_no_token_is_computed_twice(servers: Servers, office: Office) -> None:
    stuck, fast = Scripted(says=SPEECH, cues=(Cue("hang", at=7),)), Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(stuck)
    turnstiles: list[Turnstile] = []

    def held_back(pen: Pen) -> Pen:
        turnstiles.append(Turnstile(pen.appender, "delta"))
        return replace(pen, appender=turnstiles[0])

    async with a_hand(servers, pipeline, writing, pen=held_back) as first, asyncio.timeout(BACKSTOP_S):
        job = await office.post(pipeline, Question())
        await turnstiles[0].reached.wait()
        while stuck.pulse().steps < 7:  # noqa: ASYNC110  # the engine waits for nothing until then
            await asyncio.sleep(0)
        draining = asyncio.create_task(first.worker.drain(0.0))
        while stuck.pulse().running:  # noqa: ASYNC110
            await asyncio.sleep(0)
        turnstiles[0].open.set()
        await draining
    async with a_hand(servers, pipeline, replace(writing, uses=fast)), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.released", "step.started", "handoff", "completed"]
    assert starts(records)[1].from_ == 7
    assert stuck.pulse().steps + fast.pulse().steps == TOKENS
    assert said(records, "write") == SPEECH
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.usage.output_tokens == TOKENS


@R1
async def test_a_drain_lets_finish_what_can(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH, token_s=0.01)
    pipeline, writing, _ = analysis(engine)
    async with a_hand(servers, pipeline, writing) as hand:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "delta")
        await asyncio.wait_for(hand.worker.drain(BACKSTOP_S), BACKSTOP_S)
        records = await office.log(job)
        late = await office.post(pipeline, Question())
        await asyncio.wait_for(hand.task, BACKSTOP_S)
    assert kinds(records) == ["handoff", "step.started", "handoff"]
    assert kinds(await office.log(late)) == ["handoff"]


@R1
@pytest.mark.parametrize("kind", ["step.started", "step.part", "delta"])
async def test_a_drain_in_the_middle_of_an_append_costs_no_budget(servers: Servers, office: Office, kind: str) -> None:
    async def pieces(question: Question, job: Job, engine: Engine) -> Draft:
        await job.once("key", lambda: _value([]))
        return await write(question, job, engine)

    pipeline, writing, polishing = analysis(writes=pieces, retry=Retry(attempts=1, crashes=1))
    made: list[StoresAndHolds] = []

    def held(pen: Pen) -> Pen:
        made.append(StoresAndHolds(pen.appender, kind))
        return replace(pen, appender=made[0])

    async with a_hand(servers, pipeline, writing, pen=held) as first:
        job = await office.post(pipeline, Question())
        await asyncio.wait_for(made[0].reached.wait(), BACKSTOP_S)
        draining = asyncio.create_task(first.worker.drain(0.0))
        await asyncio.sleep(0)
        made[0].open.set()
        await asyncio.wait_for(draining, BACKSTOP_S)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert kinds(records)[-1] == "completed"
    assert said(records, "write") == SPEECH


async def _value(tries: list[int]) -> int:
    tries.append(1)
    return len(tries)


@R1
async def test_a_job_that_was_deleted_while_it_ran_is_let_go(servers: Servers, office: Office) -> None:
    engine = Scripted(says=LONG, token_s=0.01)
    pipeline, writing, _ = analysis(engine)
    with watched_actions() as actions:
        async with a_hand(servers, pipeline, writing) as hand:
            job = await office.post(pipeline, Question())
            await office.until_kind(job, "delta")
            await office.journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": job.address.filter})
            await actions.next("step_settled", verdict="ACK")
            await office.ear.until(b"+ACK")
            assert engine.pulse().running == 0
            await hand.worker.drain(BACKSTOP_S)
    assert await office.journal.reader.last(job.address.tenant, job.address.job) is None
    assert await office.waiting("write") == (0, 0)


@R1
async def test_a_drain_does_not_wait_for_an_engine_that_hangs(servers: Servers, office: Office) -> None:
    stuck, fast = Scripted(says=SPEECH, cues=(Cue("hang", at=3),)), Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(stuck)
    async with a_hand(servers, pipeline, writing, hang_after=0.3) as first, asyncio.timeout(BACKSTOP_S):
        job = await office.post(pipeline, Question())
        while not first.worker.trouble:  # noqa: ASYNC110  # it is a matter of time, and of nothing else
            await asyncio.sleep(0.01)
        await first.worker.drain(10 * BACKSTOP_S)
    async with a_hand(servers, pipeline, replace(writing, uses=fast)), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.released", "step.started", "handoff", "completed"]
    assert stuck.pulse().steps + fast.pulse().steps == TOKENS
