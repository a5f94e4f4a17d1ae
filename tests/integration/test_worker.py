"""The worker: the way of a job, and answers that get lost on it."""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from actors import Job, Retry
from actors.contracts.events import Completed
from actors.contracts.fold import fold_job
from actors.engines import Engine, Scripted
from actors.engines.scripted import tokens_of
from actors.journal.topology import JOBS
from actors.runtime.writer import Pen
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office
from tests.thinking import SPEECH, TOKENS, Answer, Draft, Question, analysis, write
from tests.trouble import Blinking, Lagging, LosesAnswers, Turnstile
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, a_hand


async def test_a_job_goes_to_its_answer(servers: Servers, office: Office) -> None:
    pipeline, writing, polishing = analysis()
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Question())
        records = await office.outcome(job)
        await office.ear.until(b"+ACK", times=2)
    assert kinds(records) == ["handoff", "step.started", "handoff", "completed"]
    assert said(records, "write") == SPEECH
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": SPEECH.upper()}
    assert answer.usage.output_tokens == TOKENS
    assert answer.usage.prompt_tokens == len(tokens_of(Question().text))
    assert answer.origin == job.origin
    state = fold_job(records)
    assert state is not None
    assert (state.status, state.usage) == ("completed", answer.usage)
    assert await office.waiting("write") == await office.waiting("polish") == (0, 0)


@R1
async def test_many_jobs_at_once_each_go_to_their_own_answer(servers: Servers, office: Office) -> None:
    engine = Scripted(says=lambda prompt: f"You asked {prompt}, did you not?", token_s=0.001)
    pipeline, writing, polishing = analysis(engine)
    async with (
        a_hand(servers, pipeline, writing),
        a_hand(servers, pipeline, writing),
        a_hand(servers, pipeline, polishing),
    ):
        jobs = [await office.post(pipeline, Question(text=f"number {n}")) for n in range(30)]
        for n, job in enumerate(jobs):
            records = await office.outcome(job)
            assert kinds(records) == ["handoff", "step.started", "handoff", "completed"]
            assert said(records, "write") == f"You asked number {n}, did you not?"


@R1
async def test_no_inference_begins_before_its_start_is_stored(servers: Servers, office: Office) -> None:
    """However a stage uses its engine."""

    async def thinks(question: Question, job: Job, engine: Engine) -> Draft:
        return await engine.structured(question.text, Draft)

    engine = Scripted(says_structured=lambda prompt: {"text": prompt})
    pipeline, writing, _ = analysis(engine, writes=thinks)
    made: list[Turnstile] = []

    def held(pen: Pen) -> Pen:
        made.append(Turnstile(pen.appender, "step.started"))
        return replace(pen, appender=made[0])

    async with a_hand(servers, pipeline, writing, pen=held):
        job = await office.post(pipeline, Question())
        await asyncio.wait_for(made[0].reached.wait(), BACKSTOP_S)
        await office.journal.appends.request("$JS.API.INFO")
        assert (engine.pulse().running, engine.pulse().steps) == (0, 0)
        made[0].open.set()
        await office.until_kind(job, "handoff", times=2)
    assert engine.pulse().steps > 0


@R1
async def test_text_is_kept_for_a_day_past_its_jobs_deadline(servers: Servers, office: Office) -> None:
    """Nothing of a job may expire before its outcome."""
    pipeline, writing, _ = analysis()
    async with a_hand(servers, pipeline, writing):
        job = await office.post(pipeline, Question(), seconds=3_600.0)
        await office.until_kind(job, "handoff", times=2)
    [text, *_] = [record for record in await office.log(job) if record.is_text]
    kept = await office.journal.signals.api(f"STREAM.MSG.GET.{JOBS}", {"seq": text.seq})
    found = re.search(rb"Nats-TTL: (\d+)s", base64.b64decode(kept["message"]["hdrs"]))
    assert found is not None
    assert text.stored_at is not None
    until = text.stored_at + timedelta(seconds=int(found.group(1)) + 1)
    assert until >= job.origin.deadline + timedelta(hours=24)


@R1
async def test_nothing_is_acked_before_the_log_proves_it_done(servers: Servers, office: Office) -> None:
    pipeline, writing, _ = analysis()
    made: list[Turnstile] = []

    def held(pen: Pen) -> Pen:
        made.append(Turnstile(pen.appender, "handoff"))
        return replace(pen, appender=made[0])

    async with a_hand(servers, pipeline, writing, pen=held) as hand:
        job = await office.post(pipeline, Question())
        await asyncio.wait_for(made[0].reached.wait(), BACKSTOP_S)
        await hand.journal.pulls.request("$JS.API.INFO")  # whatever this connection has sent is through
        await office.journal.signals.request("$JS.API.INFO")
        assert office.ear.count(b"+ACK") == 0
        made[0].open.set()
        await office.until_kind(job, "handoff", times=2)
        await office.ear.until(b"+ACK")


@R1
async def test_a_pure_step_says_nothing_before_its_output(servers: Servers, office: Office) -> None:
    pipeline, _, polishing = analysis()
    async with a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        assert kinds(await office.outcome(job)) == ["handoff", "completed"]


@R1
async def test_a_step_with_effects_is_claimed_before_it_begins(servers: Servers, office: Office) -> None:
    pipeline, _, polishing = analysis(effects=True)
    async with a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        assert kinds(await office.outcome(job)) == ["handoff", "step.started", "completed"]


@R1
async def test_a_plain_function_runs_beside_the_loop(servers: Servers, office: Office) -> None:
    def shout(draft: Draft, job: Job) -> Answer:
        return Answer(text=f"{draft.text} {job.id} {job.attempt}")

    pipeline, _, polishing = analysis(polishes=shout)
    async with a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        answer = (await office.outcome(job))[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": f"x {job.address.job} 1"}


@pytest.mark.parametrize("fails", [False, True])
async def test_every_answer_may_get_lost_and_everything_is_stored_once(
    servers: Servers, office: Office, fails: bool
) -> None:
    tries: list[int] = []

    async def pieces(question: Question, job: Job, engine: Engine) -> Draft:
        await job.once("key", lambda: _value(tries))
        await job.report("on it")
        if fails:
            raise RuntimeError("it broke")
        return await write(question, job, engine)

    pipeline, writing, polishing = analysis(writes=pieces)

    def deaf(pen: Pen) -> Pen:
        return replace(pen, appender=LosesAnswers(pen.appender))

    async with a_hand(servers, pipeline, writing, pen=deaf), a_hand(servers, pipeline, polishing, pen=deaf):
        job = await office.post(pipeline, Question())
        records = await office.outcome(job)
    assert len(tries) == 1
    if fails:
        assert kinds(records).count("step.failed") == 2
        assert kinds(records)[-1] == "dead_lettered"
    else:
        assert kinds(records) == ["handoff", "step.started", "step.part", "handoff", "completed"]
        assert said(records, "write") == SPEECH
        answer = records[-1].event
        assert isinstance(answer, Completed)
        assert answer.usage.output_tokens == TOKENS


@R1
async def test_a_log_that_cannot_be_read_for_a_while_is_no_failure_of_the_step(
    servers: Servers, office: Office
) -> None:
    pipeline, writing, polishing = analysis(retry=Retry(attempts=1, crashes=1))
    made: list[Blinking] = []

    def blinking(pen: Pen) -> Pen:
        made.append(Blinking(pen.reader))
        return replace(pen, appender=LosesAnswers(pen.appender), reader=made[-1])

    async with a_hand(servers, pipeline, writing, pen=blinking), a_hand(servers, pipeline, polishing, pen=blinking):
        records = await office.outcome(await office.post(pipeline, Question()))
    assert kinds(records) == ["handoff", "step.started", "handoff", "completed"]
    assert made[0].asked > 2


@R1
async def test_a_replica_that_lags_costs_nothing(servers: Servers, office: Office) -> None:
    pipeline, writing, polishing = analysis(retry=Retry(attempts=1, crashes=1))

    def lagging(pen: Pen) -> Pen:
        return replace(pen, appender=LosesAnswers(pen.appender), reader=Lagging(pen.reader))

    async with a_hand(servers, pipeline, writing, pen=lagging), a_hand(servers, pipeline, polishing, pen=lagging):
        records = await office.outcome(await office.post(pipeline, Question()))
        failing = await office.post(pipeline, Draft(text="no"), to="polish")
        await office.outcome(failing)
    assert kinds(records) == ["handoff", "step.started", "handoff", "completed"]


async def _value(tries: list[int]) -> int:
    tries.append(1)
    return len(tries)
