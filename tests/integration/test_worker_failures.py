"""What a failure of a step costs, and how it ends."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from actors import Job, Message, Pipeline, Retry, RetryableError, TerminalError, stage
from actors.contracts.events import DeadLettered, Failed, HandOff, Record, StepFailed, StepStarted
from actors.engines import Engine, Scripted
from actors.journal.topology import JOBS
from actors.runtime import ending
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office
from tests.scribe import Scribe
from tests.thinking import TOKENS, Answer, Draft, Question, analysis
from tests.verify import kinds
from tests.workers import a_hand


class LongDraft(Draft):
    """A draft, and more."""


async def headers(office: Office, record: Record) -> str:
    found = await office.journal.signals.api(f"STREAM.MSG.GET.{JOBS}", {"seq": record.seq})
    return base64.b64decode(found["message"]["hdrs"]).decode()


async def broken(question: Question, job: Job, engine: Engine) -> Draft:
    raise RuntimeError(f"attempt {job.attempt} broke")


async def broken_polish(draft: Draft, job: Job) -> Answer:
    raise RuntimeError(f"attempt {job.attempt} broke")


@R1
@pytest.mark.parametrize("to", ["write", "polish"])
async def test_failures_use_up_their_budget_and_the_last_is_the_dead_letter(
    servers: Servers, office: Office, to: str
) -> None:
    pipeline, writing, polishing = analysis(writes=broken, polishes=broken_polish)
    async with a_hand(servers, pipeline, writing if to == "write" else polishing):
        job = await office.post(pipeline, Question() if to == "write" else Draft(text="x"), to=to)
        records = await office.outcome(job)
        await office.ear.until(b"+ACK")
    tried = ["step.started", "step.failed"]
    assert kinds(records) == ["handoff", *tried, *tried, "step.started", "dead_lettered"]
    letter, handoff = records[-1].event, records[0].event
    assert isinstance(letter, DeadLettered)
    assert isinstance(handoff, HandOff)
    assert (letter.stage, letter.attempts, letter.crashes, letter.deliveries) == (to, 3, 0, 3)
    assert [error.message for error in letter.errors] == [f"attempt {n} broke" for n in (1, 2, 3)]
    assert (letter.input, letter.origin, letter.cut) == (handoff.message, job.origin, False)
    assert "Nats-TTL: never" in await headers(office, records[-1])
    assert office.ear.count(b"-NAK") == 2
    assert await office.waiting(to) == (0, 0)


@R1
async def test_a_dead_letter_has_what_was_said_and_fits_whatever_that_was(servers: Servers, office: Office) -> None:
    nasty = "\x01\U0001f600\\" * 70_000

    async def speaks_and_breaks(question: Question, job: Job, engine: Engine) -> Draft:
        await job.speak(engine, "x", max_tokens=1_000_000)
        raise RuntimeError("\x01" * 100_000)

    pipeline, writing, _ = analysis(Scripted(says=nasty), writes=speaks_and_breaks, retry=Retry(attempts=2, first=0.0))
    async with a_hand(servers, pipeline, writing):
        records = await office.outcome(await office.post(pipeline, Question(text="q" * 1_000_000)))
    letter = records[-1].event
    assert isinstance(letter, DeadLettered)
    assert letter.cut
    assert nasty.startswith(letter.partial)
    assert len(letter.partial) > 1_000
    assert letter.input.body == {"text": "q" * 1_000_000}
    assert letter.errors


@R1
@pytest.mark.parametrize("message", ["caf\udce9.txt", "\ud800"])
async def test_an_error_that_utf8_cannot_hold_is_a_failure_as_any(
    servers: Servers, office: Office, message: str
) -> None:
    async def fails(draft: Draft, job: Job) -> Answer:
        raise OSError(message)

    pipeline, _, polishing = analysis(polishes=fails, retry=Retry(attempts=2, first=0.0))
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records)[-1] == "dead_lettered"


@R1
async def test_a_terminal_error_ends_the_job_at_once(servers: Servers, office: Office) -> None:
    async def refuses(question: Question, job: Job, engine: Engine) -> Draft:
        await job.speak(engine, question.text)
        raise TerminalError("this cannot be answered")

    pipeline, writing, _ = analysis(writes=refuses)
    async with a_hand(servers, pipeline, writing):
        records = await office.outcome(await office.post(pipeline, Question()))
        await office.ear.until(b"+ACK")
    assert kinds(records) == ["handoff", "step.started", "failed"]
    failed = records[-1].event
    assert isinstance(failed, Failed)
    assert (failed.stage, failed.error.type, failed.error.message) == (
        "write",
        "TerminalError",
        "this cannot be answered",
    )
    assert failed.usage.output_tokens == TOKENS


@R1
async def test_a_retryable_error_is_tried_again_after_its_delay(servers: Servers, office: Office) -> None:
    async def busy_once(draft: Draft, job: Job) -> Answer:
        if job.attempt == 1:
            raise RetryableError("busy", delay=0.3)
        return Answer(text=f"attempt {job.attempt}")

    pipeline, _, polishing = analysis(polishes=busy_once)
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records) == ["handoff", "step.started", "step.failed", "step.started", "completed"]
    failed, again = records[2].event, records[3].event
    assert isinstance(failed, StepFailed)
    assert isinstance(again, StepStarted)
    assert again.at >= failed.retry_at > failed.at
    assert again.attempt == 2


@R1
@pytest.mark.parametrize("delay", [float("inf"), 1e15, -5.0, float("nan")])
async def test_no_delay_is_so_odd_that_the_job_has_no_outcome(servers: Servers, office: Office, delay: float) -> None:
    async def busy(draft: Draft, job: Job) -> Answer:
        raise RetryableError("busy", delay=delay)

    pipeline, _, polishing = analysis(polishes=busy, retry=Retry(attempts=2, first=0.0))
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish", seconds=0.5))
    assert kinds(records)[-1] in ("expired", "dead_lettered")


@R1
async def test_errors_that_come_out_of_a_task_group_are_told_apart(servers: Servers, office: Office) -> None:
    async def in_parallel(draft: Draft, job: Job) -> Answer:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            group.create_task(_raise(TerminalError("no")))
        return Answer(text="never")

    pipeline, _, polishing = analysis(polishes=in_parallel)
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records) == ["handoff", "failed"]


async def _raise(error: Exception) -> None:
    raise error


@R1
async def test_a_stage_that_cancels_itself_has_failed(servers: Servers, office: Office) -> None:
    async def cancels(draft: Draft, job: Job) -> Answer:
        raise asyncio.CancelledError

    pipeline, _, polishing = analysis(polishes=cancels, retry=Retry(attempts=2, first=0.0))
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    letter = records[-1].event
    assert isinstance(letter, DeadLettered)
    assert (len(letter.errors), letter.crashes) == (2, 0)


@R1
async def test_a_step_over_its_timeout_is_tried_again(servers: Servers, office: Office) -> None:
    async def hangs_once(draft: Draft, job: Job) -> Answer:
        if job.attempt == 1:
            await asyncio.Event().wait()
        return Answer(text="done")

    pipeline, _, polishing = analysis(polishes=hangs_once, timeout=0.2)
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records) == ["handoff", "step.started", "step.failed", "step.started", "completed"]
    failed = records[2].event
    assert isinstance(failed, StepFailed)
    assert "timeout of 0.2 s" in failed.error.message


@R1
@pytest.mark.parametrize("output", [Question(), LongDraft(text="more")])
async def test_an_output_that_was_not_declared_is_a_failure(servers: Servers, office: Office, output: Message) -> None:
    async def gives_another(question: Question, job: Job, engine: Engine) -> Draft:
        return output  # type: ignore[return-value]

    pipeline, writing, _ = analysis(writes=gives_another, retry=Retry(attempts=1))
    async with a_hand(servers, pipeline, writing):
        letter = (await office.outcome(await office.post(pipeline, Question())))[-1].event
    assert isinstance(letter, DeadLettered)
    assert f"returned {type(output).__name__}; it declares Draft" in letter.errors[0].message


@R1
async def test_an_output_too_large_to_be_stored_fails_the_job(servers: Servers, office: Office) -> None:
    async def floods(draft: Draft, job: Job) -> Answer:
        return Answer(text="x" * (1 << 20))

    pipeline, _, polishing = analysis(polishes=floods)
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    failed = records[-1].event
    assert isinstance(failed, Failed)
    assert "output_too_large" in failed.error.message
    assert "keep large data elsewhere" in failed.error.message


@R1
async def test_a_piece_too_large_to_be_stored_fails_the_job_without_doing_it_again(
    servers: Servers, office: Office
) -> None:
    tries: list[int] = []

    async def hoards(draft: Draft, job: Job) -> Answer:
        async def much() -> str:
            tries.append(1)
            return "x" * (1 << 20)

        return Answer(text=await job.once("much", much))

    pipeline, _, polishing = analysis(polishes=hoards)
    async with a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records) == ["handoff", "step.started", "failed"]
    assert len(tries) == 1


@R1
async def test_a_payload_that_does_not_parse_counts_as_a_failure(servers: Servers, office: Office) -> None:
    pipeline, writing, _ = analysis(retry=Retry(attempts=2, first=0.0))
    async with a_hand(servers, pipeline, writing):
        job = Scribe(office.journal.appender, origin=(await office.post(pipeline, Question())).origin)
        poison = job.event(HandOff, stage="write", origin=job.origin, message={"type": "Question", "body": {"text": 5}})
        await job.write(HandOff, stage="write", origin=job.origin, message=poison.message)
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.failed", "step.started", "dead_lettered"]


@R1
async def test_bytes_that_are_no_hand_off_do_not_stop_the_worker(servers: Servers, office: Office) -> None:
    pipeline, _, polishing = analysis()
    async with a_hand(servers, pipeline, polishing):
        for garbage in (
            b"",
            b"\xff",
            b'{"v":1,"n":1,"kind":"handoff","by":"x","at":1e300}',
            b'{"v":9,"n":1,"kind":"new","by":"x","at":1}',
        ):
            lost = Scribe(office.journal.appender)
            await office.journal.appender.append(lost.address, "job", "polish", garbage, expect=0)
        records = await office.outcome(await office.post(pipeline, Draft(text="x"), to="polish"))
    assert kinds(records) == ["handoff", "completed"]


@R1
@pytest.mark.parametrize(
    "unknown", [{"pipeline": "tomorrow"}, {"version": "f" * 12}], ids=["another pipeline", "another version"]
)
async def test_a_job_of_a_version_that_this_worker_does_not_know_waits(
    servers: Servers, office: Office, unknown: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling update fails no job: what an old worker cannot read is left to the new ones, and costs nothing."""
    monkeypatch.setattr(ending, "PAUSE_S", 0.05)
    retry = Retry(attempts=1, crashes=1, first=0.0)
    pipeline, writing, _ = analysis(retry=retry)

    class Newer(Message):
        text: str
        mood: str

    async def write(question: Newer, job: Job, engine: Engine) -> Draft:
        return Draft(text=f"{question.text} {question.mood}")

    write.__annotations__["question"] = Newer
    Newer.__name__ = "Question"
    newer = Pipeline(unknown.get("pipeline", "analysis"), stage(uses=Scripted(), retry=retry)(write))
    async with a_hand(servers, pipeline, writing):
        job = await office.post(newer, Newer(text="a", mood="b"), **unknown)
        await office.ear.until(b"-NAK", times=3)
    async with a_hand(servers, newer, newer.entry):
        records = await office.outcome(job)
    looked = ["step.started", "step.released"] if "version" in unknown else []
    assert kinds(records) == ["handoff", *looked, "step.started", "completed"]
