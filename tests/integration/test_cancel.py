"""Cancelling, over HTTP, on a real log with real workers: exactly one outcome, whenever it comes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio

from actors import Job, Message, Pipeline, Retry, stage
from actors.contracts.envelope import Envelope
from actors.contracts.events import Cancelled, CancelRequested, Delta, Outcome, Record, StepStarted
from actors.engines import Engine, Scripted
from actors.engines.scripted import tokens_of
from actors.journal import Journal
from actors.runtime.job_log import JobLog
from actors.runtime.writer import utc_now
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.scribe import Scribe, new_address
from tests.serving import served, settings_for
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, a_hand

SPEECH = "The headrace feeds the wheel, and the wheel turns the stone."
LONG = " ".join(f"word{n}" for n in range(400))
R1 = pytest.mark.parametrize("servers", ["r1"], indirect=True)
"""What one server shows as well as three."""


class Question(Message):
    text: str = "why?"


class Draft(Message):
    text: str


class Answer(Message):
    text: str


async def write(question: Question, job: Job, engine: Engine) -> Draft:
    return Draft(text=await job.speak(engine, question.text, max_tokens=1_000))


async def polish(draft: Draft, job: Job) -> Answer:
    return Answer(text=draft.text.upper())


def analysis(engine: Scripted) -> Pipeline:
    return Pipeline("analysis", stage(uses=engine, retry=Retry(first=0.0))(write), stage()(polish))


class OneByOne(Scripted):
    """Makes as many tokens as it is given leave for."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.leave = asyncio.Semaphore(0)

    async def _wait_until(self, due: float, aborted: asyncio.Event) -> None:
        await super()._wait_until(due, aborted)
        await self.leave.acquire()

    def let(self, tokens: int) -> None:
        for _ in range(tokens):
            self.leave.release()


@pytest_asyncio.fixture
async def office(journal: Journal) -> AsyncIterator[Office]:
    async with office_on(journal) as office:
        yield office


@pytest_asyncio.fixture
async def http(servers: Servers, office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(servers, nats_replicas=servers.replicas)) as http:
        yield http


def is_event(n: int, event: Envelope) -> bool:
    return event.n >= n or isinstance(event, Outcome)


async def cancel(http: httpx.AsyncClient, job: Scribe, **wish: Any) -> httpx.Response:
    return await http.post(f"/v1/jobs/{job.address.job}/cancel", json=wish)


def outcome_in(records: list[Record]) -> str:
    """The one outcome there is."""
    (outcome,) = (r.event for r in records if isinstance(r.event, Outcome))
    return outcome.kind


def tokens_in(records: list[Record]) -> int:
    return sum(len(r.event.tokens) for r in records if isinstance(r.event, Delta))


@R1
async def test_a_cancel_at_every_event_number_leaves_one_outcome(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    engine = Scripted(says=SPEECH, token_s=0.02)
    pipeline = analysis(engine)
    writing, polishing = pipeline.stages
    found = []
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        whole = len(await office.outcome(await office.post(pipeline, Question())))
        for n in range(1, whole + 1):
            job = await office.post(pipeline, Question())
            await office.until(job, partial(is_event, n))
            answer = await cancel(http, job, reason=f"at {n}")
            assert answer.status_code in (200, 202)
            assert (answer.status_code == 202) is answer.json()["cancelling"]
            records = await office.outcome(job)
            found.append(outcome_in(records))
            if found[-1] == "cancelled":
                assert isinstance(records[-1].event, Cancelled)
                assert records[-1].event.reason == f"at {n}"
                assert "cancel.requested" not in kinds(records)[:-2]
                assert records[-1].event.usage.output_tokens >= tokens_in(records)
            again = await cancel(http, job)
            assert (again.status_code, again.json()["status"]) == (200, found[-1])
        assert await office.waiting("write") == (0, 0)
    assert found[0] == "cancelled"
    assert found[-1] == "completed"
    assert engine.pulse().running == 0


@R1
async def test_a_cancel_that_was_decided_before_the_job_ended_is_not_stored_after_it(office: Office) -> None:
    job = Scribe(office.journal.appender, new_address())
    await job.hand_off("write")
    await job.write(StepStarted, stage="write", attempt=1, claim="c", worker="write-1", ack="$JS.ACK.x")
    log = JobLog(office.journal, job.address.tenant, job.address.job, by="ingress/test", now=utc_now)
    await log.read()
    await job.write(Cancelled, origin=job.origin)
    assert not await log.append(lambda stamp: CancelRequested(**stamp))
    assert kinds(await office.log(job)) == ["handoff", "step.started", "cancelled"]


@R1
async def test_of_two_who_have_decided_to_end_a_job_one_does(office: Office) -> None:
    job = Scribe(office.journal.appender, new_address())
    await job.hand_off("write")
    logs = [
        JobLog(office.journal, job.address.tenant, job.address.job, by=f"ingress/{n}", now=utc_now) for n in range(2)
    ]
    for log in logs:
        await log.read()
    assert [await log.append(lambda stamp: Cancelled(**stamp, origin=job.origin)) for log in logs] == [True, False]
    assert kinds(await office.outcome(job)) == ["handoff", "cancelled"]


async def test_a_cancel_that_races_with_completion_leaves_one_outcome(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    pipeline = analysis(Scripted(says="short"))
    writing, polishing = pipeline.stages

    async def race(late: int) -> tuple[str, str]:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "handoff", times=1 + late)
        answer = await cancel(http, job)
        assert answer.status_code in (200, 202)
        return outcome_in(await office.outcome(job)), answer.json()["status"]

    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        for outcome, told in await asyncio.gather(*(race(n % 2) for n in range(20))):
            assert outcome in ("cancelled", "completed")
            assert told in ("running", outcome)


@R1
async def test_a_job_that_waits_is_cancelled_at_once_and_a_second_cancel_is_the_same(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    engine = Scripted(says=SPEECH)
    pipeline = analysis(engine)
    job = await office.post(pipeline, Question())
    first, second = await cancel(http, job, reason="enough"), await cancel(http, job, reason="more than enough")
    assert (first.status_code, first.json()["status"], first.json()["reason"]) == (200, "cancelled", "enough")
    assert (second.status_code, second.content) == (200, first.content)
    assert kinds(await office.outcome(job)) == ["handoff", "cancelled"]
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        await office.ear.until(b"+ACK")
    assert engine.pulse().steps == 0


@R1
async def test_twenty_people_who_cancel_at_once_cancel_once(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    job = await office.post(analysis(Scripted()), Question())
    answers = await asyncio.gather(*(cancel(http, job, reason=str(n)) for n in range(20)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.content for a in answers}) == 1
    assert kinds(await office.outcome(job)) == ["handoff", "cancelled"]


@R1
async def test_an_engine_that_waits_is_stopped_by_the_hint_and_makes_no_token_more(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    engine = OneByOne(says=SPEECH)
    pipeline = analysis(engine)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Question())
        engine.let(3)
        await office.until(job, lambda event: isinstance(event, Delta) and event.from_ + len(event.tokens) == 3)
        answer = await cancel(http, job)
        assert (answer.status_code, answer.json()["status"]) == (202, "running")
        records = await office.outcome(job)
        engine.let(10)
        assert list(engine.computed.values()) == [3]
        assert engine.pulse().running == 0
    assert kinds(records) == ["handoff", "step.started", "cancel.requested", "cancelled"]
    assert SPEECH.startswith(said(records, "write"))
    assert tokens_in(records) == 3


@R1
async def test_after_a_cancel_the_engine_makes_at_most_one_token_more(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    engine = OneByOne(says=LONG)
    pipeline = analysis(engine)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Question())
        engine.let(1)
        await office.until_kind(job, "delta")
        await cancel(http, job)
        engine.let(1)
        await office.outcome(job)
        assert sum(engine.computed.values()) <= 2 < len(tokens_of(LONG))


@R1
async def test_a_job_that_speaks_without_a_pause_can_be_cancelled(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    engine = Scripted(says=" ".join(f"word{n}" for n in range(20_000)), token_s=0.0005)
    pipeline = analysis(engine)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "delta", times=30)
        assert (await cancel(http, job)).status_code in (200, 202)
        assert outcome_in(await office.outcome(job)) == "cancelled"


@R1
async def test_a_job_whose_worker_is_gone_is_cancelled_at_once(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    pipeline = analysis(OneByOne(says=SPEECH))
    async with a_hand(servers, pipeline, pipeline.stages[0]) as hand:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "step.started")
        await hand.vanish()
        answer = await cancel(http, job)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert kinds(await office.outcome(job)) == ["handoff", "step.started", "cancel.requested", "cancelled"]


@R1
@pytest.mark.parametrize("effects", [True, False])
async def test_a_function_that_cannot_be_interrupted_has_its_output_dropped(
    servers: Servers, office: Office, http: httpx.AsyncClient, effects: bool
) -> None:
    begun, goes, over = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def polish(draft: Draft, job: Job) -> Answer:
        loop.call_soon_threadsafe(begun.set)
        goes.wait(BACKSTOP_S)
        over.set()
        return Answer(text="too late")

    pipeline = Pipeline("analysis", stage(effects=effects)(polish))
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Draft(text="x"))
        await asyncio.wait_for(begun.wait(), BACKSTOP_S)
        assert (await cancel(http, job)).status_code == (202 if effects else 200)
        records = await office.outcome(job)  # while it still computes
        assert not over.is_set()
        goes.set()
        assert await asyncio.to_thread(over.wait, BACKSTOP_S)
        await office.ear.until(b"+ACK")
    assert kinds(records)[-1] == "cancelled"
    assert kinds(await office.log(job)) == kinds(records)


@R1
async def test_what_is_no_job_or_no_wish_is_refused(http: httpx.AsyncClient, office: Office) -> None:
    for id in ("nothing", "*", new_address().job):
        assert (await http.post(f"/v1/jobs/{id}/cancel")).status_code == 404
    job = await office.post(analysis(Scripted()), Question())
    path = f"/v1/jobs/{job.address.job}/cancel"
    for body, status in ((b"{", 400), (b"[]", 422), (b'{"why": 1}', 422), (b'{"reason": 1}', 422)):
        answer = await http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text
    assert (await http.post(path, json={"reason": "x" * 501})).status_code == 422
    assert (await http.post(path, content=b'{"reason": "x"}')).status_code == 415
    assert kinds(await office.log(job)) == ["handoff"]
    assert (await http.post(path)).status_code == 200


async def test_without_a_server_it_can_be_asked_again(r1: Servers) -> None:
    async with served(settings_for(r1), patience=0.5) as http:
        accepted = await http.post("/v1/pipelines/keeper/jobs", json={"input": {"data": 1}})
        await r1.kill()
        down = await http.post(f"{accepted.headers['Location']}/cancel")
        assert (down.status_code, down.headers["Content-Type"]) == (503, "application/problem+json")
        assert "Retry-After" in down.headers
        await r1.start()
        async with asyncio.timeout(BACKSTOP_S):
            while (again := await http.post(f"{accepted.headers['Location']}/cancel")).status_code == 503:
                pass
        assert (again.status_code, again.json()["status"]) == (200, "cancelled")
