"""A long delay is kept by the log and by nobody else; when it is over the same step is given out again."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors import Job, Pipeline, Retry, RetryableError
from actors.contracts.events import DeadLettered, Failed, HandOff, StepFailed
from actors.contracts.fold import JobState
from actors.contracts.messages import Packed
from actors.delays import Delays
from actors.engines import Engine, Scripted
from actors.journal import Unanswered, append
from actors.journal.append import MAX_MESSAGE, NotStored
from actors.journal.later import Later
from actors.journal.topology import LATER
from actors.repair import Repair
from actors.runtime import ending
from actors.runtime.cancel import cancel
from actors.runtime.job_log import JobLog
from actors.runtime.presence import Owners
from actors.runtime.writer import utc_now
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office, starts
from tests.scribe import Scribe, an_origin
from tests.thinking import SPEECH, TOKENS, Answer, Draft, Question, analysis
from tests.trouble import NoAcks
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, a_hand

DELAY_S = 1.0


@pytest.fixture(autouse=True)
def short_naks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second counts as long."""
    monkeypatch.setattr(ending, "LONGEST_NAK_S", DELAY_S / 2)


async def speaks_and_stumbles(question: Question, job: Job, engine: Engine) -> Draft:
    text = await job.speak(engine, question.text, max_tokens=1_000)
    if job.attempt == 1:
        raise RetryableError("not now", delay=DELAY_S)
    return Draft(text=text)


def delays() -> Delays:
    return Delays(f"clock/{secrets.token_hex(4)}", utc_now)


@asynccontextmanager
async def running(office: Office, *each: Delays) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(delays.run(office.journal)) for delays in each]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def put_off_jobs(office: Office) -> int:
    """How many jobs are put off or due."""
    info = await office.journal.signals.api(f"STREAM.INFO.{LATER}")
    return int(info["state"]["messages"])


async def acked(office: Office, stage: str) -> None:
    """Wait until nothing of a stage waits or is under way."""
    async with asyncio.timeout(BACKSTOP_S):
        while await office.waiting(stage) != (0, 0):
            pass


async def test_a_step_that_is_put_off_holds_no_place_and_goes_on_from_what_it_said(
    servers: Servers, office: Office
) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine, writes=speaks_and_stumbles)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "step.failed")
        await acked(office, "write")
        assert await put_off_jobs(office) == 1
        async with running(office, delays(), delays()):
            records = await office.outcome(job)
            async with asyncio.timeout(BACKSTOP_S):
                while await put_off_jobs(office):
                    pass
    tried = ["step.started", "step.failed"]
    assert kinds(records) == ["handoff", *tried, "handoff", "step.started", "handoff", "completed"]
    again = next(r.event for r in records[1:] if isinstance(r.event, HandOff))
    failed = next(r.event for r in records if isinstance(r.event, StepFailed))
    assert (again.of, again.stage, again.by.partition("/")[0]) == (1, "write", "clock")
    assert again.at >= failed.retry_at - timedelta(seconds=DELAY_S / 2)
    assert [start.attempt for start in starts(records)] == [1, 2]
    assert starts(records)[1].from_ == TOKENS
    assert said(records, "write") == SPEECH
    assert engine.pulse().steps == TOKENS, "what was said was generated again"


@R1
async def test_delays_use_up_the_budget_as_retries_do(servers: Servers, office: Office) -> None:
    async def stumbles(question: Question, job: Job, engine: Engine) -> Draft:
        raise RetryableError(f"attempt {job.attempt}", delay=DELAY_S)

    pipeline, writing, _ = analysis(writes=stumbles, retry=Retry(attempts=2))
    async with a_hand(servers, pipeline, writing), running(office, delays()):
        records = await office.outcome(await office.post(pipeline, Question()))
    letter = records[-1].event
    assert isinstance(letter, DeadLettered)
    assert (letter.attempts, letter.crashes) == (2, 0)
    assert [error.message for error in letter.errors] == ["attempt 1", "attempt 2"]


@R1
async def test_a_job_that_is_put_off_can_be_cancelled_at_once(servers: Servers, office: Office) -> None:
    pipeline, writing, _ = analysis(writes=speaks_and_stumbles)
    async with a_hand(servers, pipeline, writing):
        job = await office.post(pipeline, Question())
        await acked_after_failure(office, job)
        log = JobLog(office.journal, job.address.tenant, job.address.job, by="ingress/test", now=utc_now)
        await log.read()
        await cancel(log, Owners(office.journal.signals), None)
        before = await office.outcome(job)
        async with running(office, delays()), asyncio.timeout(BACKSTOP_S):
            while await put_off_jobs(office):
                pass
        assert [r.data for r in await office.log(job)] == [r.data for r in before]
    assert kinds(before)[-1] == "cancelled"


async def acked_after_failure(office: Office, job: Scribe) -> None:
    await office.until_kind(job, "step.failed")
    await acked(office, "write")


@R1
async def test_where_nothing_can_be_put_off_the_consumer_keeps_the_delay(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(later: Later, tenant: str, job: str, n: int, until: datetime) -> None:
        raise Unanswered("no such stream")

    monkeypatch.setattr(Later, "put_off", refuses)
    pipeline, writing, polishing = analysis(writes=speaks_and_stumbles)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Question())
        await office.ear.until(b"-NAK")
        records = await office.outcome(job)
    assert kinds(records)[-1] == "completed"
    assert kinds(records).count("handoff") == 2


@R1
async def test_a_worker_lost_between_putting_off_and_the_ack_costs_nothing(servers: Servers, office: Office) -> None:
    """The hand-off comes again before its time; it is put off again, and given out once."""
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine, writes=speaks_and_stumbles)
    async with a_hand(servers, pipeline, writing, acks=lambda j: NoAcks(j.pulls)) as first:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "step.failed")
        async with asyncio.timeout(BACKSTOP_S):
            while not await put_off_jobs(office):
                pass
        await first.vanish()
    async with (
        a_hand(servers, pipeline, writing),
        a_hand(servers, pipeline, polishing),
        running(office, delays()),
    ):
        records = await office.outcome(job)
    assert len(starts(records)) == 2
    assert engine.pulse().steps == TOKENS


@R1
async def test_the_newest_time_of_a_job_counts(servers: Servers, office: Office) -> None:
    later, job, now = Later(office.journal.signals), "a" * 26, datetime.now(UTC)
    await later.put_off("local", job, 1, now + timedelta(hours=1))
    await later.put_off("local", job, 1, now + timedelta(seconds=1))
    async with asyncio.timeout(BACKSTOP_S):
        while not (due := await later.due()):
            pass
    assert [(d.tenant, d.job) for d in due] == [("local", job)]
    await later.done(due[0])
    assert await later.due() == []
    assert await put_off_jobs(office) == 0


@R1
async def test_a_step_that_only_computes_is_put_off_as_any(servers: Servers, office: Office) -> None:
    async def stumbles(draft: Draft, job: Job) -> Answer:
        raise RetryableError("not now", delay=DELAY_S)

    pipeline, _, polishing = analysis(polishes=stumbles, retry=Retry(attempts=2))
    async with a_hand(servers, pipeline, polishing), running(office, delays()):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records).count("handoff") == 2
    assert kinds(records)[-1] == "dead_lettered"


@R1
async def test_what_was_given_out_already_is_not_given_out_again(servers: Servers, office: Office) -> None:
    """A clock that was killed before it ticked a job off leaves it due."""
    pipeline, _, _ = analysis()
    job = await office.post(pipeline, Question())
    later = Later(office.journal.signals)
    await job.hand_off("write", Question(), of=1)
    await later.put_off("local", job.address.job, 1, datetime.now(UTC))
    async with asyncio.timeout(BACKSTOP_S):
        while not await later.due():
            pass
    assert await delays().round(office.journal) == 0
    assert len(await office.log(job)) == 2
    assert await later.due() == []


def a_draft(scribe: Scribe, size: int, **fields: Any) -> Draft:
    """A message whose first hand-off has so many bytes."""
    empty = scribe.event(HandOff, stage="polish", origin=scribe.origin, message=Packed.of(Draft(text="")), **fields)
    return Draft(text="x" * (size - len(empty.encode())))


async def put_off_at_the_limit(office: Office, pipeline: Pipeline) -> tuple[Scribe, Scribe]:
    """Two jobs that are due, oldest first: one whose first hand-off has the most bytes, and a small one."""
    origin = an_origin(pipeline=pipeline.name, version=pipeline.version)
    large, small = (Scribe(office.journal.appender, origin=origin) for _ in range(2))
    at, later = datetime.now(UTC), Later(office.journal.signals)
    await large.hand_off("polish", a_draft(large, MAX_MESSAGE, start_at=at, at=at), start_at=at, at=at)
    await small.hand_off("polish", Draft(text="small"), start_at=at)
    for number, job in enumerate((large, small), 1):
        await later.put_off(job.address.tenant, job.address.job, 1, at)
        async with asyncio.timeout(BACKSTOP_S):
            while len(await later.due()) < number:
                pass
    assert [due.job for due in await later.due()] == [large.address.job, small.address.job]
    return large, small


@R1
async def test_a_job_whose_first_hand_off_has_the_most_bytes_is_given_out_again(
    servers: Servers, office: Office
) -> None:
    pipeline, _, polishing = analysis()
    large, small = await put_off_at_the_limit(office, pipeline)
    assert len((await office.log(large))[0].data) == MAX_MESSAGE
    assert await delays().round(office.journal) == 2
    assert len((await office.log(large))[1].data) > MAX_MESSAGE
    async with a_hand(servers, pipeline, polishing):
        assert kinds(await office.outcome(small))[-1] == "completed"


@R1
@pytest.mark.parametrize("lost", [False, True], ids=["by the delays", "by a repair"])
async def test_a_job_that_is_too_large_to_be_given_out_again_fails_and_holds_up_no_other(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    monkeypatch.setattr(append, "MAX_AGAIN", MAX_MESSAGE)
    pipeline, _, _ = analysis()
    large, small = await put_off_at_the_limit(office, pipeline)
    if lost:
        assert await Repair(["polish"], f"clock/{secrets.token_hex(4)}", utc_now).round(office.journal) == 2
    else:
        assert await delays().round(office.journal) == 2
        assert await Later(office.journal.signals).due() == []
    end = (await office.outcome(large))[-1].event
    assert isinstance(end, Failed)
    assert "output_too_large" in end.error.message
    assert end.stage == "polish"
    assert kinds(await office.log(small)) == ["handoff", "handoff"]


@R1
@pytest.mark.parametrize("lost", [False, True], ids=["by the delays", "by a repair"])
async def test_a_job_that_cannot_be_looked_after_holds_up_no_other(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lost: bool
) -> None:
    read = JobLog.read

    async def reads(self: JobLog) -> JobState | None:
        if self.job == large.address.job:
            raise NotStored("a bug of ours")
        return await read(self)

    pipeline, _, _ = analysis()
    large, small = await put_off_at_the_limit(office, pipeline)
    monkeypatch.setattr(JobLog, "read", reads)
    one = Repair(["polish"], f"clock/{secrets.token_hex(4)}", utc_now) if lost else delays()
    assert await one.round(office.journal) == 1
    assert "a bug of ours" in [getattr(record, "reason", "") for record in caplog.records]
    assert len(await office.log(large)) == 1
    assert kinds(await office.log(small)) == ["handoff", "handoff"]
