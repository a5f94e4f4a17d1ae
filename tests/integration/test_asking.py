"""A job that asks a person waits for days if need be, holds nothing, and goes on when it is told."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any

import httpx
import pytest
import pytest_asyncio

from actors import Job, Pipeline, stage
from actors.audit.replay import replay
from actors.audit.verify import verify as audited
from actors.contracts.chain import digest
from actors.contracts.events import Completed, DeadLettered, Failed, HandOff, InputRequired, Record, StepPart
from actors.delays import Delays
from actors.engines import Engine
from actors.engines.scripted import tokens_of
from actors.journal.later import Later
from actors.journal.topology import LATER, ensure
from actors.journal.trail import Trail
from actors.repair import Repair
from actors.runtime.again import wake_up
from actors.runtime.crash_points import CrashPoint
from actors.runtime.job_log import JobLog
from actors.runtime.writer import utc_now
from actors.takeover import Takeover
from tests import pipelines
from tests.integration.conftest import R1, opened
from tests.ledger import copied
from tests.nats_servers import Servers
from tests.office import Office, office_on, starts
from tests.pipelines import SPEECH, Advice, Case, adviser, consult, counsel
from tests.scribe import Scribe
from tests.serving import hear, served, settings_for
from tests.shown import block
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, Nursery, Orders, Pass, a_hand, all_there

TOKENS = len(tokens_of(SPEECH))
YEAR, SURE = {"year": 1850}, True
P = CrashPoint


@pytest_asyncio.fixture
async def http(servers: Servers, office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(servers, nats_replicas=servers.replicas)) as http:
        yield http


@pytest.fixture(autouse=True)
def nothing_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adviser, "computed", {})
    monkeypatch.setattr(pipelines, "looked_up", Counter())


def delays() -> Delays:
    return Delays(f"clock/{secrets.token_hex(4)}", utc_now)


@asynccontextmanager
async def the_clock(office: Office) -> AsyncIterator[None]:
    task = asyncio.create_task(delays().run(office.journal))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def a_question(office: Office, job: Scribe, nth: int = 1) -> InputRequired:
    """The n-th that the job asks, once it does and nobody holds it any more."""
    asked = (await office.until_kind(job, "input.required", times=nth))[-1]
    assert isinstance(asked, InputRequired)
    return asked


async def idle(office: Office) -> None:
    """Wait until no hand-off waits or is with a worker."""
    async with asyncio.timeout(BACKSTOP_S):
        while await office.waiting("consult") != (0, 0):
            pass


async def put_off_jobs(office: Office) -> int:
    return int((await office.journal.signals.api(f"STREAM.INFO.{LATER}"))["state"]["messages"])


async def answer(http: httpx.AsyncClient, job: Scribe, question: int, value: Any) -> httpx.Response:
    return await http.post(f"/v1/jobs/{job.address.job}/input", json={"question": question, "answer": value})


async def standing(http: httpx.AsyncClient, job: Scribe) -> dict[str, Any]:
    told: dict[str, Any] = (await http.get(f"/v1/jobs/{job.address.job}")).json()
    return told


def advised(records: list[Record], year: int | None = 1850) -> None:
    """Fails where the job does not have its answer, or something that was stored was done again."""
    end = records[-1].event
    assert isinstance(end, Completed)
    assert end.answer.body == Advice(text=SPEECH, year=year, sure=True).model_dump()
    assert said(records, "consult") == SPEECH
    assert len([r for r in records if isinstance(r.event, StepPart)]) == 1


async def test_a_job_asks_and_goes_on_when_it_is_told(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    async with a_hand(servers, counsel, consult):
        job = await office.post(counsel, Case(text="the mill"))
        first = await a_question(office, job)
        await idle(office)
        told = await standing(http, job)
        assert (told["status"], told["stage"]) == ("input_required", "consult")
        assert told["question"]["id"] == first.n
        assert told["question"]["question"] == "When was the mill built?"
        assert told["question"]["expects"]["required"] == ["year"]
        taken = await answer(http, job, first.n, YEAR)
        assert (taken.status_code, taken.json()["status"]) == (200, "running")
        second = await a_question(office, job, 2)
        assert (await answer(http, job, second.n, SURE)).status_code == 200
        records = await office.outcome(job)
    advised(records)
    once_more = ["handoff", "step.started"]
    assert kinds(records) == [
        *["handoff", "step.started", "step.part", "input.required"],
        *[*once_more, "input.required", *once_more, "completed"],
    ]
    given = [r.event for r in records if isinstance(r.event, HandOff)]
    assert [event.of for event in given] == [None, 1, 1]
    assert [event.told.answer for event in given if event.told] == [YEAR, SURE]
    assert all(event.by.startswith("ingress/") for event in given[1:])
    assert [start.attempt for start in starts(records)] == [1, 2, 3]
    assert sum(adviser.computed.values()) == TOKENS, "what was said was generated again"
    assert pipelines.looked_up == {"the mill": 1}, "what was stored was done again"
    assert await put_off_jobs(office) == 0, "an answered question has a time-out left"


@R1
async def test_a_reader_of_events_sees_the_question_and_that_it_was_answered(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    async with a_hand(servers, counsel, consult):
        job = await office.post(counsel, Case(text="the mill", patience=600))
        for nth, value in enumerate((YEAR, SURE), 1):
            await answer(http, job, (await a_question(office, job, nth)).n, value)
        await office.outcome(job)
        heard = (await hear(http, job.address.job)).events
    first, second = (e for e in heard if e.kind == "input.required")
    assert first.data["question"] == "When was the mill built?"
    assert first.data["expects"]["properties"]["year"]["type"] == "integer"
    assert "until" in first.data
    assert "until" not in second.data
    assert second.data["expects"] == {"type": "boolean"}
    again = [e.data for e in heard if e.kind == "handoff"][1:]
    assert [(e["question"], e["timed_out"]) for e in again] == [(first.n, False), (second.n, False)]
    assert "1850" not in str(again), "inputs stay in the log"


@R1
async def test_an_answer_is_checked_taken_once_and_never_for_another_question(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    async with a_hand(servers, counsel, consult):
        job = await office.post(counsel, Case(text="the mill"))
        first = await a_question(office, job)
        for wrong in ({"year": "old"}, {"year": 0}, {}, {"year": 1850, "more": 1}, "1850", None, [YEAR]):
            refused = await answer(http, job, first.n, wrong)
            assert (refused.status_code, refused.json()["title"]) == (422, "The request does not fit")
            assert refused.json()["expects"] == first.expects
            assert refused.json()["errors"][0]["pointer"].startswith("#/answer")
            assert "old" not in str(refused.json()["errors"])
        assert (await answer(http, job, first.n + 1, YEAR)).json()["question"] == first.n
        assert (await answer(http, job, first.n + 1, YEAR)).status_code == 409
        taken = await asyncio.gather(*(answer(http, job, first.n, YEAR) for _ in range(20)))
        assert {each.status_code for each in taken} == {200}
        otherwise = await answer(http, job, first.n, {"year": 1900})
        assert (otherwise.status_code, otherwise.json()["type"]) == (409, "urn:headrace:problem:answered-otherwise")
        second = await a_question(office, job, 2)
        late = await answer(http, job, first.n, SURE)
        assert (late.status_code, late.json()["question"]) == (409, second.n)
        assert (await answer(http, job, first.n, {"year": 1850})).status_code == 200
        assert (await answer(http, job, second.n, SURE)).status_code == 200
        advised(await office.outcome(job))
        assert (await answer(http, job, second.n, SURE)).json()["status"] == "completed"
        assert (await answer(http, job, second.n + 1, SURE)).status_code == 409


@R1
async def test_what_cannot_be_an_answer_is_refused(servers: Servers, office: Office, http: httpx.AsyncClient) -> None:
    job = await office.post(counsel, Case(text="the mill"))
    assert (await answer(http, job, 1, YEAR)).status_code == 409, "it has asked nothing"
    path = f"/v1/jobs/{job.address.job}/input"
    deep = b'{"question": 4, "answer": ' + b"[" * 200 + b"]" * 200 + b"}"
    for body, status in ((b"", 422), (b"{", 400), (b'{"question": "4", "answer": 1}', 422), (deep, 400)):
        refused = await http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert refused.status_code == status, refused.text
    for name in ("nothing", "a" * 26):
        assert (await http.post(f"/v1/jobs/{name}/input", json={"question": 1, "answer": 1})).status_code == 404
    assert kinds(await office.log(job)) == ["handoff"]


@R1
async def test_an_answer_that_the_stage_itself_cannot_take_is_asked_for_again(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    """A rule that no schema can say is only known where the code is."""
    async with a_hand(servers, counsel, consult):
        job = await office.post(counsel, Case(text="the mill"))
        first = await a_question(office, job)
        assert (await answer(http, job, first.n, {"year": 2_020})).status_code == 200
        again = await a_question(office, job, 2)
        assert (again.key, again.question) == (first.key, first.question)
        assert again.misfit == "year: Value error, that is no mill"
        assert (await standing(http, job))["question"]["misfit"] == again.misfit
        await answer(http, job, again.n, YEAR)
        await answer(http, job, (await a_question(office, job, 3)).n, SURE)
        advised(await office.outcome(job))


@R1
async def test_nobody_answers_in_time_and_the_stage_goes_on_without(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    async with a_hand(servers, counsel, consult), the_clock(office):
        job = await office.post(counsel, Case(text="the mill", patience=0.5))
        sure = await a_question(office, job, 2)
        first = next(r.event for r in await office.log(job) if isinstance(r.event, InputRequired))
        assert first.until is not None
        late = await answer(http, job, first.n, YEAR)
        assert (late.status_code, "in time" in late.json()["detail"]) == (409, True)
        await answer(http, job, sure.n, SURE)
        records = await office.outcome(job)
    advised(records, year=None)
    told = next(r.event for r in records if isinstance(r.event, HandOff) and r.event.told)
    assert (told.told.timed_out if told.told else None, told.by.partition("/")[0]) == (True, "clock")
    assert told.at >= first.until - timedelta(seconds=0.1)


async def asks_only(case: Case, job: Job) -> Advice:
    return Advice(text=await job.ask("What is it?", timeout=case.patience), year=None, sure=True)


def asking(run: Any) -> Pipeline:
    run.__name__ = "consult"
    return Pipeline("counsel", stage()(run))


@R1
async def test_a_stage_that_does_not_expect_silence_ends_the_job_as_failed(servers: Servers, office: Office) -> None:
    pipeline = asking(asks_only)
    async with a_hand(servers, pipeline, pipeline.stages[0]), the_clock(office):
        records = await office.outcome(await office.post(pipeline, Case(text="x", patience=0.3)))
    end = records[-1].event
    assert isinstance(end, Failed)
    assert end.error.type == "NotAnswered"
    assert "What is it?" in end.error.message


@R1
async def test_a_question_whose_time_comes_before_it_is_stored_is_not_forgotten(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock finds the job due while its worker still holds it, and ticks it off."""
    put_off, looked = Later.put_off, False

    async def put_off_and_look(later: Later, tenant: str, job: str, n: int, until: datetime) -> None:
        nonlocal looked
        await put_off(later, tenant, job, n, until)
        if not looked:
            async with asyncio.timeout(BACKSTOP_S):
                while not await later.due():
                    pass
            assert await delays().round(office.journal) == 0
            looked = True

    monkeypatch.setattr(Later, "put_off", put_off_and_look)
    pipeline = asking(asks_only)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Case(text="x", patience=0.1))
        await a_question(office, job)
        assert looked
        await idle(office)
        assert await put_off_jobs(office)
        async with the_clock(office):
            assert isinstance((await office.outcome(job))[-1].event, Failed)


@R1
async def test_a_job_that_waits_for_a_person_past_its_deadline_is_expired(servers: Servers, office: Office) -> None:
    pipeline = asking(asks_only)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Case(text="x", patience=3_600), seconds=1.0)
        assert (await a_question(office, job)).until is None, "the deadline comes first"
    async with the_clock(office):
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "input.required", "expired"]


@R1
async def test_a_job_that_asks_is_cancelled_at_once(servers: Servers, office: Office, http: httpx.AsyncClient) -> None:
    async with a_hand(servers, counsel, consult):
        job = await office.post(counsel, Case(text="the mill"))
        asked = await a_question(office, job)
        cancelled = await http.post(f"/v1/jobs/{job.address.job}/cancel", json={"reason": "never mind"})
        assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
        assert (await answer(http, job, asked.n, YEAR)).status_code == 409
        records = await office.outcome(job)
    assert kinds(records)[-2:] == ["input.required", "cancelled"]


Move = Callable[[], Awaitable[int]]
"""Something that is done about a job that waits; what HTTP says to it, 0 where nobody asks it."""


def moves(office: Office, http: httpx.AsyncClient, job: Scribe, question: int) -> dict[str, Move]:
    """An answer, a cancel, and the end of the time in which somebody may answer."""

    async def tell() -> int:
        return (await answer(http, job, question, "a mill")).status_code

    async def stop() -> int:
        return (await http.post(f"/v1/jobs/{job.address.job}/cancel")).status_code

    async def time_out() -> int:
        log = JobLog(office.journal, job.address.tenant, job.address.job, by="clock/test", now=utc_now)
        if (state := await log.read()) and state.step and state.question:
            await wake_up(log, state, state.step)
        return 0

    return {"completed": tell, "cancelled": stop, "failed": time_out}


@R1
@pytest.mark.parametrize("first", ["completed", "cancelled", "failed"])
async def test_of_an_answer_a_cancel_and_a_time_out_the_first_counts(
    servers: Servers, office: Office, http: httpx.AsyncClient, first: str
) -> None:
    pipeline = asking(asks_only)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Case(text="x", patience=600))
        each = moves(office, http, job, (await a_question(office, job)).n)
        await each.pop(first)()
        records = await office.outcome(job)
        late = {name: await move() for name, move in each.items()}
        assert [r.data for r in await office.log(job)] == [r.data for r in records]
    assert records[-1].event.kind == first
    assert late.get("completed", 409) == 409
    assert late.get("cancelled", 200) == 200


@R1
async def test_however_an_answer_a_cancel_and_a_time_out_race_there_is_one_outcome(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    pipeline = asking(asks_only)

    async def race(number: int) -> tuple[int, str]:
        job = await office.post(pipeline, Case(text="x", patience=600))
        each = moves(office, http, job, (await a_question(office, job)).n)
        order = sorted(each, key=lambda name: digest(f"{name}{number}".encode()))
        answers = dict(zip(order, await asyncio.gather(*(each[name]() for name in order)), strict=True))
        return answers["completed"], (await office.outcome(job))[-1].event.kind

    async with a_hand(servers, pipeline, pipeline.stages[0]):
        for told, end in await asyncio.gather(*(race(number) for number in range(30))):
            # An answer that was taken may still be overtaken by the cancel, before the stage goes on with it.
            assert end in (("completed", "cancelled") if told == 200 else ("failed", "cancelled"))


@R1
async def test_hundreds_of_jobs_that_ask_hold_no_worker_and_no_place(servers: Servers, office: Office) -> None:
    """They wait with the log alone; whoever comes after them does not wait behind them."""
    pipeline, count = asking(asks_only), 500
    async with served(settings_for(servers)) as http, a_hand(servers, pipeline, pipeline.stages[0]) as hand:
        jobs: list[Scribe] = []
        while len(jobs) < count:
            jobs += await asyncio.gather(*(office.post(pipeline, Case(text="x")) for _ in range(20)))
        async with asyncio.timeout(BACKSTOP_S):
            while await office.journal.reader.count("job.ask.>") < count:
                pass
        await idle(office)
        assert (hand.worker.jobs, hand.worker.free) == (0, pipeline.stages[0].concurrency)
        assert await Takeover(["consult"], []).give_out_again(office.journal, hand.name) == 0
        assert await Repair(["consult"], "clock/test", utc_now).round(office.journal) == 0
        room = (await http.get("/v1/stages")).json()["room"]
        assert room["jobs"] >= count, "jobs that wait take no room"
        newcomer = await office.post(pipeline, Case(text="y"))
        asked = await a_question(office, newcomer)
        await answer(http, newcomer, asked.n, "a mill")
        assert kinds(await office.outcome(newcomer))[-1] == "completed"
        await answer(http, jobs[0], (await a_question(office, jobs[0])).n, "a mill")
        assert kinds(await office.outcome(jobs[0]))[-1] == "completed"


@R1
@pytest.mark.parametrize("late", [False, True], ids=["before its time", "after its time"])
async def test_a_time_out_that_was_lost_is_noted_again(servers: Servers, office: Office, late: bool) -> None:
    pipeline = asking(asks_only)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Case(text="x", patience=1_800))
        await a_question(office, job)
        await idle(office)
        await office.journal.signals.api(f"STREAM.PURGE.{LATER}")
        by = Repair(["consult"], "clock/test", lambda: utc_now() + timedelta(hours=0.75 * late))
        assert await by.round(office.journal) == late
        if late:
            assert kinds(await office.outcome(job))[-1] == "failed"
        else:
            assert await Later(office.journal.signals).noted("local", job.address.job) is not None


@R1
@pytest.mark.parametrize("answers", [True, False])
async def test_the_pipeline_that_readme_shows_asks_and_waits(
    servers: Servers, office: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    shown = ModuleType("letters")
    monkeypatch.setitem(sys.modules, "letters", shown)
    exec(compile(block("letters = Pipeline("), "README.md", "exec"), shown.__dict__)
    await ensure(office.journal.signals, ["approve"], max_bytes=1 << 30, ack_wait=1.0)
    async with a_hand(servers, shown.letters, shown.approve):
        job = await office.post(shown.letters, shown.Letter(text="Dear mill"), seconds=86_400)
        asked = await a_question(office, job)
        assert asked.question == "May this go out? Dear mill"
        if answers:
            assert (await answer(http, job, asked.n, {"go": True})).status_code == 200
        else:
            later = Repair(["approve"], "clock/test", lambda: utc_now() + timedelta(hours=1))
            async with asyncio.timeout(BACKSTOP_S):
                while not await later.round(office.journal):
                    pass
        end = (await office.outcome(job))[-1].event
    assert isinstance(end, Completed)
    sent, silent = {"text": "Dear mill", "remark": ""}, {"text": "", "remark": "nobody said so within an hour"}
    assert end.answer.body == (sent if answers else silent)


@R1
async def test_questions_and_answers_are_in_the_audit_log(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    async with a_hand(servers, counsel, consult):
        whole, waits = [await office.post(counsel, Case(text=text)) for text in ("the mill", "the race")]
        for nth, value in enumerate((YEAR, SURE), 1):
            await answer(http, whole, (await a_question(office, whole, nth)).n, value)
        await answer(http, waits, (await a_question(office, waits)).n, YEAR)
        await a_question(office, waits, 2)
        records = await office.outcome(whole)
    await copied(office.journal, max(records[-1].seq, (await office.log(waits))[-1].seq))
    trail, now = Trail(office.journal.replays), utc_now()
    assert not (await audited(trail, office.journal.reader, None, now=now)).findings
    replayed = await replay(trail, office.journal.reader, now=now)
    assert not replayed.findings
    assert replayed.by_status == {"completed": 1, "input_required": 1}


ASKING = [
    *[Pass(P.AFTER_PULL, nth) for nth in (1, 2, 3)],
    *[Pass(point, nth) for nth in (1, 2) for point in (P.BEFORE_ASKED, P.AFTER_ASKED)],
    *[Pass(point, nth) for nth in (1, 2, 3) for point in (P.BEFORE_STARTED, P.AFTER_STARTED)],
    *[Pass(point, nth) for nth in (1, 2, 3) for point in (P.BEFORE_ACK, P.AFTER_ACK)],
]


async def test_a_worker_may_die_at_any_point_around_a_question(r1: Servers, nursery: Nursery) -> None:
    """Each job has a worker of its own that dies at its point; then others go on, and nothing stored is done again."""
    orders = [Orders(r1.urls, stage="consult", concurrency=1, dies=each) for each in ASKING]
    async with opened(r1) as journal, office_on(journal) as office, served(settings_for(r1)) as http:

        async def answer_all(job: Scribe) -> None:
            for nth, value in enumerate((YEAR, SURE), 1):
                taken = await answer(http, job, (await a_question(office, job, nth)).n, value)
                assert taken.status_code == 200

        processes = [nursery.bear(each) for each in orders]
        await all_there(office.journal, "consult", len(ASKING))
        jobs = [await office.post(counsel, Case(text=f"mill {n}")) for n in range(len(ASKING))]
        answering = [asyncio.create_task(answer_all(job)) for job in jobs]
        async with a_hand(r1, counsel, consult):
            logs = await asyncio.gather(*(office.outcome(job) for job in jobs))
            await asyncio.gather(*answering)
        assert sum(process.exitcode == -9 for process in processes) > len(ASKING) // 2
    for log in logs:
        advised(log)
        asked = [r.event.key for r in log if isinstance(r.event, InputRequired)]
        assert len(asked) == len(set(asked)) == 2, "a question was asked twice"


async def asks_in_company(case: Case, job: Job) -> Advice:
    """What works beside a question is stopped with it; what is stored by then stays."""

    async def first() -> str:
        return await job.ask("first?", key="a")

    async def second() -> str:
        return await job.ask("second?", key="b")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each()) for each in (first, second)]
    return Advice(text=" ".join(task.result() for task in tasks), year=None, sure=True)


async def asks_and_clings(case: Case, job: Job) -> Advice:
    try:
        told = await job.ask("What is it?")
    except BaseException:
        told = "made up"
    return Advice(text=told, year=None, sure=True)


@R1
@pytest.mark.parametrize("run", [asks_in_company, asks_and_clings])
async def test_however_a_stage_asks_it_gets_no_answer_but_a_persons(
    servers: Servers, office: Office, http: httpx.AsyncClient, run: Any
) -> None:
    pipeline = asking(run)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Case(text="x"))
        told = []
        for nth in range(1, 3 if run is asks_in_company else 2):
            asked = await a_question(office, job, nth)
            told.append(f"answer to {asked.question}")
            await answer(http, job, asked.n, told[-1])
        end = (await office.outcome(job))[-1].event
    assert isinstance(end, Completed)
    assert end.answer.body["text"] == " ".join(told)


@R1
@pytest.mark.parametrize(
    ("question", "timeout", "kind"), [("", None, str), (5, None, str), ("x?", 0, str), ("x?", None, Engine)]
)
async def test_a_question_that_nobody_can_answer_fails_the_job_and_says_why(
    servers: Servers, office: Office, question: Any, timeout: float | None, kind: Any
) -> None:
    async def asks(case: Case, job: Job) -> Advice:
        return Advice(text=str(await job.ask(question, kind, timeout=timeout)), year=None, sure=True)

    pipeline = asking(asks)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        end = (await office.outcome(await office.post(pipeline, Case(text="x"))))[-1].event
    assert isinstance(end, Failed)
    assert end.error.type == "TerminalError"
    assert "job.ask" in end.error.message


@R1
async def test_asking_uses_up_no_budget(servers: Servers, office: Office, http: httpx.AsyncClient) -> None:
    """Ten questions, and still three failures to go."""

    async def asks(case: Case, job: Job) -> Advice:
        for number in range(10):
            await job.ask(f"{number}?")
        raise RuntimeError("now")

    pipeline = asking(asks)
    async with a_hand(servers, pipeline, pipeline.stages[0]):
        job = await office.post(pipeline, Case(text="x"))
        for nth in range(1, 11):
            await answer(http, job, (await a_question(office, job, nth)).n, "y")
        end = (await office.outcome(job))[-1].event
    assert isinstance(end, DeadLettered)
    assert (len(end.errors), end.crashes, end.attempts) == (3, 0, 13)
