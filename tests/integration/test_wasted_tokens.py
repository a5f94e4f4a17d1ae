"""Tokens that were generated for nothing are counted, and counted apart from those that the job used."""

from __future__ import annotations

import asyncio

from actors import Job, Message, TerminalError
from actors.contracts.events import CancelRequested, Outcome, Record, StepFailed, StepReleased
from actors.contracts.generation import Usage
from actors.engines import Engine, Scripted
from actors.engines.scripted import tokens_of
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office
from tests.thinking import LONG, SPEECH, TOKENS, Draft, Question, analysis
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, a_hand


class Thought(Message):
    text: str


def used(records: list[Record]) -> Usage:
    outcome = records[-1].event
    assert isinstance(outcome, Outcome)
    return outcome.usage


@R1
async def test_a_silent_thought_of_a_failed_attempt_was_wasted(servers: Servers, office: Office) -> None:
    async def thinks(question: Question, job: Job, engine: Engine) -> Draft:
        async def think() -> str:
            return (await engine.structured("kept", Thought)).text

        await job.once("first", think)
        await engine.structured("not kept", Thought)
        if job.attempt < 3:
            raise RuntimeError("after two thoughts")
        return Draft(text=await job.speak(engine, question.text, max_tokens=1_000))

    engine = Scripted(says=SPEECH, says_structured=lambda prompt: {"text": prompt})
    kept, thrown = (len(tokens_of(f'{{"text": "{text}"}}')) for text in ("kept", "not kept"))
    pipeline, writing, polishing = analysis(engine, writes=thinks)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Question()))
    assert [r.event.wasted for r in records if isinstance(r.event, StepFailed)] == [thrown, thrown]
    usage = used(records)
    assert (usage.output_tokens, usage.wasted_tokens) == (kept + thrown + TOKENS, 2 * thrown)
    assert usage.output_tokens + usage.wasted_tokens == engine.pulse().steps


@R1
async def test_what_a_worker_that_stops_had_not_stored_was_wasted(servers: Servers, office: Office) -> None:
    thought = asyncio.Event()

    async def thinks(question: Question, job: Job, engine: Engine) -> Draft:
        await engine.structured("a thought", Thought)
        if job.attempt == 1:
            thought.set()
            await asyncio.Event().wait()
        return Draft(text="done")

    engine = Scripted(says_structured=lambda prompt: {"text": prompt})
    pipeline, writing, polishing = analysis(engine, writes=thinks)
    async with a_hand(servers, pipeline, writing) as first:
        job = await office.post(pipeline, Question())
        async with asyncio.timeout(BACKSTOP_S):
            await thought.wait()
        await first.worker.drain(0.0)
    each = engine.pulse().steps
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert [r.event.wasted for r in records if isinstance(r.event, StepReleased)] == [each]
    usage = used(records)
    assert (usage.output_tokens, usage.wasted_tokens) == (each, each)


@R1
async def test_what_a_cancelled_job_had_not_stored_was_wasted(servers: Servers, office: Office) -> None:
    engine = Scripted(says=LONG, token_s=0.002)
    pipeline, writing, _ = analysis(engine)
    async with a_hand(servers, pipeline, writing):
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "delta", times=3)
        await office.insist(job, CancelRequested)
        records = await office.outcome(job)
    assert kinds(records)[-1] == "cancelled"
    usage = used(records)
    assert usage.output_tokens == len(tokens_of(said(records, "write")))
    assert usage.output_tokens + usage.wasted_tokens == engine.pulse().steps


@R1
async def test_nothing_is_wasted_where_everything_was_used(servers: Servers, office: Office) -> None:
    async def refuses(question: Question, job: Job, engine: Engine) -> Draft:
        await job.speak(engine, question.text)
        raise TerminalError("this cannot be answered")

    pipeline, writing, _ = analysis(writes=refuses)
    async with a_hand(servers, pipeline, writing):
        usage = used(await office.outcome(await office.post(pipeline, Question())))
    assert (usage.output_tokens, usage.wasted_tokens) == (TOKENS, 0)
