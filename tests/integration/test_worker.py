"""The worker: a job to its answer through every kind of bad luck."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from actors import Job, Message, Pipeline, Retry, RetryableError, Stage, TerminalError, stage
from actors.contracts.events import (
    Cancelled,
    CancelRequested,
    Completed,
    DeadLettered,
    Delta,
    Expired,
    Failed,
    HandOff,
    Record,
    StepFailed,
    StepPart,
    StepStarted,
    parse,
)
from actors.contracts.fold import fold_job, fold_step
from actors.contracts.subjects import Address, Kind
from actors.engines import Engine, EngineError, Scripted
from actors.engines.scripted import Cue, tokens_of
from actors.journal import Appender, Journal, Reader, Unanswered
from actors.journal.pull import Acks
from actors.journal.topology import JOBS
from actors.runtime.writer import Pen
from tests.actions import watched_actions
from tests.nats_servers import Servers
from tests.office import Office, office_on, starts
from tests.scribe import Scribe
from tests.verify import kinds, said, verify_open
from tests.workers import BACKSTOP_S, a_hand

SPEECH = "The headrace feeds the wheel, and the wheel turns the stone."
TOKENS = len(tokens_of(SPEECH))
LONG = " ".join(f"word{n}" for n in range(400))


class Question(Message):
    text: str = "what does the headrace do?"


class Draft(Message):
    text: str


class LongDraft(Draft):
    """A draft, and more."""


class Answer(Message):
    text: str


async def write(question: Question, job: Job, engine: Engine) -> Draft:
    return Draft(text=await job.speak(engine, question.text, max_tokens=1_000))


async def polish(draft: Draft, job: Job) -> Answer:
    return Answer(text=draft.text.upper())


def analysis(
    engine: Engine | None = None,
    *,
    writes: Callable[..., Any] = write,
    polishes: Callable[..., Any] = polish,
    retry: Retry = Retry(first=0.0),  # noqa: B008
    **options: Any,
) -> tuple[Pipeline, Stage, Stage]:
    """A pipeline of a stage that thinks and one that does not, whatever their functions are called."""
    writes.__name__, polishes.__name__ = "write", "polish"
    writing = stage(uses=engine or Scripted(says=SPEECH), retry=retry, **options)(writes)
    polishing = stage(retry=retry, **options)(polishes)
    return Pipeline("analysis", writing, polishing), writing, polishing


@pytest_asyncio.fixture
async def office(journal: Journal) -> AsyncIterator[Office]:
    async with office_on(journal) as office:
        yield office


@pytest.fixture
def on_one_server(request: pytest.FixtureRequest) -> None:
    """Marks what one server can show."""


R1 = pytest.mark.parametrize("servers", ["r1"], indirect=True)
"""What one server shows as well as three."""


async def headers(office: Office, record: Record) -> str:
    found = await office.journal.signals.api(f"STREAM.MSG.GET.{JOBS}", {"seq": record.seq})
    return base64.b64decode(found["message"]["hdrs"]).decode()


class Turnstile(Appender):
    """Holds back the first append of some kind until it is let through."""

    def __init__(self, real: Appender, kind: str) -> None:
        self._real = real
        self._kind = kind
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        if parse(data).kind == self._kind:
            self.reached.set()
            await self.open.wait()
        return await self._real.append(address, kind, topic, data, **options)


class LosesAnswers(Appender):
    """Everything is stored, and then appended again as if no answer had come."""

    def __init__(self, real: Appender) -> None:
        self._real = real

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        await self._real.append(address, kind, topic, data, **options)
        return await self._real.append(address, kind, topic, data, **options)


class Blinking(Reader):
    """Has no answer every other time."""

    def __init__(self, real: Reader) -> None:
        self._real = real
        self.asked = 0

    async def job(self, tenant: str, job: str, *, after: int = 0, at_least: int = 0) -> list[Record]:
        self.asked += 1
        if self.asked % 2:
            raise Unanswered("nobody leads")
        return await self._real.job(tenant, job, after=after, at_least=at_least)


class Lagging(Reader):
    """A replica that never has the newest message; the leader has it."""

    def __init__(self, real: Reader) -> None:
        self._real = real

    async def job(self, tenant: str, job: str, *, after: int = 0, at_least: int = 0) -> list[Record]:
        found = await self._real.job(tenant, job, after=after, at_least=at_least)
        return [record for record in found if record.seq <= max(at_least, found[-2].seq if len(found) > 1 else 0)]


class NoAcks(Acks):
    """Its acks are lost on the way."""

    async def done(self, ack: str) -> None:
        return


class NoLease(Acks):
    """Its signs of work are lost on the way."""

    async def working(self, ack: str) -> None:
        return


# The way of a job.


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
    engine = Scripted(says=SPEECH)
    pipeline, writing, _ = analysis(engine)
    made: list[Turnstile] = []

    def held(pen: Pen) -> Pen:
        made.append(Turnstile(pen.appender, "step.started"))
        return replace(pen, appender=made[0])

    async with a_hand(servers, pipeline, writing, pen=held):
        job = await office.post(pipeline, Question())
        await asyncio.wait_for(made[0].reached.wait(), BACKSTOP_S)
        assert engine.pulse().running == 0
        made[0].open.set()
        await office.until_kind(job, "handoff", times=2)
    assert engine.pulse().steps == TOKENS


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


# Answers that get lost, reads that fail.


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


async def _value(tries: list[int]) -> int:
    tries.append(1)
    return len(tries)


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


# Failures.


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
    servers: Servers, office: Office, unknown: dict[str, Any]
) -> None:
    """A rolling update fails no job: what an old worker cannot read is left to the new ones, and costs nothing."""
    retry = Retry(attempts=1, crashes=1, first=0.0, longest=0.05)
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
        await office.until_kind(job, "step.released", times=3)
    async with a_hand(servers, newer, newer.entry):
        records = await office.outcome(job)
    assert kinds(records)[-1] == "completed"
    assert "step.failed" not in kinds(records)


# The end of a job from outside.


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


# Crashes and takeovers.


async def test_a_crash_after_the_output_is_stored_runs_nothing_again(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine)
    async with a_hand(servers, pipeline, writing, acks=lambda j: NoAcks(j.pulls)) as first:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "handoff", times=2)
        await first.vanish()
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        await office.ear.until(b"+ACK", times=2)
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "handoff", "completed"]
    assert engine.pulse().steps == TOKENS


@R1
async def test_a_crash_after_the_outcome_is_stored_appends_nothing_more(servers: Servers, office: Office) -> None:
    pipeline, _, polishing = analysis()
    async with a_hand(servers, pipeline, polishing, acks=lambda j: NoAcks(j.pulls)) as first:
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        await office.outcome(job)
        await first.vanish()
    async with a_hand(servers, pipeline, polishing):
        await office.ear.until(b"+ACK")
        assert kinds(await office.outcome(job)) == ["handoff", "completed"]


@R1
@pytest.mark.parametrize("to", ["write", "polish"])
async def test_two_workers_given_one_delivery_ask_and_the_second_lets_go(
    servers: Servers, office: Office, to: str
) -> None:
    goes = asyncio.Event()

    async def waits(draft: Draft, job: Job) -> Answer:
        await job.report("waiting")
        await goes.wait()
        return Answer(text="done")

    engine = Scripted(says=SPEECH, gate=goes)
    pipeline, writing, polishing = analysis(engine, polishes=waits)
    chosen = writing if to == "write" else polishing
    with watched_actions() as actions:
        async with a_hand(servers, pipeline, chosen, acks=lambda j: NoLease(j.pulls)) as first:
            job = await office.post(pipeline, Question() if to == "write" else Draft(text="x"), to=to)
            await office.until_kind(job, "step.started")
            async with a_hand(servers, pipeline, chosen):
                await actions.next("step_settled", verdict="LET_GO")
                assert first.worker.jobs == 1
                before = len(office.ear.heard)
                goes.set()
                await office.until(job, lambda e: e.kind == "completed" or (e.kind == "handoff" and e.n > 1))
                await office.ear.until(b"+ACK")
            assert [what for _, what in office.ear.heard[before:]] == [b"+ACK"]
    records = await office.log(job)
    verify_open(records)
    assert kinds(records).count("step.started") == 1


@R1
async def test_two_that_race_at_a_pure_step_store_one_output(servers: Servers, office: Office) -> None:
    both, goes = asyncio.Barrier(2), asyncio.Event()

    async def meets(draft: Draft, job: Job) -> Answer:
        async with asyncio.timeout(BACKSTOP_S):
            await both.wait()
            await goes.wait()
        return Answer(text="done")

    pipeline, _, polishing = analysis(polishes=meets)
    async with (
        a_hand(servers, pipeline, polishing, acks=lambda j: NoLease(j.pulls)),
        a_hand(servers, pipeline, polishing, acks=lambda j: NoLease(j.pulls)),
    ):
        job = await office.post(pipeline, Draft(text="x"), to="polish")
        await office.until_kind(job, "step.started")
        goes.set()
        records = await office.outcome(job)
        await office.ear.until(b"+ACK")
    assert kinds(records) == ["handoff", "step.started", "completed"]


@R1
async def test_crashes_use_up_their_own_budget(servers: Servers, office: Office) -> None:
    engine = Scripted(says=LONG, token_s=0.01)
    pipeline, writing, _ = analysis(engine, retry=Retry(attempts=1, crashes=2))
    job = await office.post(pipeline, Question())
    for crash in (1, 2):
        async with a_hand(servers, pipeline, writing) as hand:
            await office.until_kind(job, "step.started", times=crash)
            await hand.vanish()
    async with a_hand(servers, pipeline, writing):
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.started", "dead_lettered"]
    letter = records[-1].event
    assert isinstance(letter, DeadLettered)
    assert (letter.attempts, letter.crashes, letter.errors) == (2, 2, ())
    assert letter.partial == said(records, "write")
    assert "lost" in letter.reason
    assert letter.text == last_text_digest(records)


def last_text_digest(records: list[Record]) -> str | None:
    state = fold_step(records[:-1], records[0].seq)
    assert state is not None
    return state.chain.text or None


@R1
async def test_an_engine_that_dies_costs_a_crash_and_its_worker_takes_no_more(servers: Servers, office: Office) -> None:
    dying = Scripted(says=SPEECH, token_s=0.02, cues=(Cue("die", at=5),))
    pipeline, writing, polishing = analysis(dying, retry=Retry(attempts=1, crashes=2, first=0.0))
    healthy = replace(writing, uses=Scripted(says=SPEECH))
    with watched_actions() as actions:
        async with a_hand(servers, pipeline, writing) as first:
            job = await office.post(pipeline, Question())
            await actions.next("engine_died")
            others = [await office.post(pipeline, Question()) for _ in range(3)]
            with pytest.raises(EngineError, match="told to die"):
                first.worker.check()
            assert first.worker.free == 0
            async with a_hand(servers, pipeline, healthy), a_hand(servers, pipeline, polishing):
                records = await office.outcome(job)
                rest = [await office.outcome(other) for other in others]
    assert kinds(records) == ["handoff", "step.started", "step.started", "handoff", "completed"]
    assert said(records, "write") == SPEECH
    for log in rest:
        assert kinds(log) == ["handoff", "step.started", "handoff", "completed"]


@R1
async def test_an_engine_that_hangs_loses_its_lease_and_its_worker_takes_no_more(
    servers: Servers, office: Office
) -> None:
    hanging = Scripted(says=SPEECH, cues=(Cue("hang", at=3),))
    pipeline, writing, polishing = analysis(hanging)
    healthy = replace(writing, uses=Scripted(says=SPEECH))
    async with a_hand(servers, pipeline, writing, hang_after=0.3) as first:
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "step.started")
        async with asyncio.timeout(BACKSTOP_S):
            while first.worker.free:
                await first.journal.pulls.request("$JS.API.INFO")
        with pytest.raises(EngineError, match="hangs"):
            first.worker.check()
        await first.vanish()
    async with a_hand(servers, pipeline, healthy), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.started", "handoff", "completed"]


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


class StoresAndHolds(Appender):
    """Stores, and holds back the answer to the first append of a kind."""

    def __init__(self, real: Appender, kind: str) -> None:
        self._real = real
        self._kind = kind
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        seq = await self._real.append(address, kind, topic, data, **options)
        if parse(data).kind == self._kind and not self.reached.is_set():
            self.reached.set()
            await self.open.wait()
        return seq


async def test_a_restart_of_the_server_in_the_middle_of_a_text_changes_nothing(
    servers: Servers, office: Office
) -> None:
    engine = Scripted(says=LONG, token_s=0.005)
    pipeline, writing, polishing = analysis(engine)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "delta", times=5)
        leader = await servers.leader_of(JOBS)
        await servers.kill(leader)
        await servers.start(leader)
        records = await office.outcome(job)
    assert said(records, "write") == LONG
    assert kinds(records)[-1] == "completed"
    assert len(starts(records)) == 1, "one worker, so nobody can have taken over"
    assert engine.pulse().steps == len(tokens_of(LONG))


# What a step does on its way.


@R1
async def test_once_stores_and_is_not_done_again(servers: Servers, office: Office) -> None:
    done: list[str] = []

    async def pieces(question: Question, job: Job, engine: Engine) -> Draft:
        async def work(key: str) -> Any:
            done.append(key)
            return {"list": [1, None, {"deep": "x"}], "none": None, "draft": Draft(text="kept")}[key]

        found = [await job.once(key, lambda key=key: work(key)) for key in ("list", "none", "draft", "list")]  # type: ignore[misc]
        if job.attempt == 1:
            raise RuntimeError("after the pieces")
        return Draft(text=repr(found))

    pipeline, writing, polishing = analysis(writes=pieces)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Question()))
    assert done == ["list", "none", "draft"]
    assert kinds(records).count("step.part") == 3
    given = next(r.event for r in records if isinstance(r.event, HandOff) and r.event.stage == "polish")
    expected = [[1, None, {"deep": "x"}], None, Draft(text="kept"), [1, None, {"deep": "x"}]]
    assert given.message.body == {"text": repr(expected)}


@R1
async def test_pieces_done_in_parallel_are_each_stored_once_and_counted_once(servers: Servers, office: Office) -> None:
    async def tools(question: Question, job: Job, engine: Engine) -> Draft:
        async def think(n: int) -> str:
            made = await engine.structured(f"tool {n}", Thought)
            return made.text

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job.once(f"tool {n}", lambda n=n: think(n))) for n in range(5)]  # type: ignore[misc]
        return Draft(text=" ".join(task.result() for task in tasks))

    engine = Scripted(says_structured=lambda prompt: {"text": prompt})
    pipeline, writing, polishing = analysis(engine, writes=tools)

    def deaf(pen: Pen) -> Pen:
        return replace(pen, appender=LosesAnswers(pen.appender))

    async with a_hand(servers, pipeline, writing, pen=deaf), a_hand(servers, pipeline, polishing):
        records = await office.outcome(await office.post(pipeline, Question()))
    assert kinds(records).count("step.part") == 5
    parts = [r.event for r in records if isinstance(r.event, StepPart)]
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": "TOOL 0 TOOL 1 TOOL 2 TOOL 3 TOOL 4"}
    assert answer.usage.output_tokens == engine.pulse().steps
    assert sum(part.usage.output_tokens for part in parts) == engine.pulse().steps


class Thought(Message):
    text: str


@R1
async def test_a_step_given_out_again_goes_on_with_its_budget_and_its_text(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine, retry=Retry(attempts=1, crashes=3))
    job = await office.post(pipeline, Question())
    tokens = tokens_of(SPEECH)
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": engine.revision}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    text = SPEECH[: SPEECH.index(" feeds")]
    await job.write(
        Delta, by="write-gone/gone", stage="write", text=text, tokens=tuple(tokens[: len(tokens_of(text))]), from_=0
    )
    await job.write(StepPart, key="k", value=1)
    await job.hand_off("write", Question(), of=1)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    begun = starts(records)
    assert [start.from_ for start in begun] == [0, len(tokens_of(text))]
    assert begun[1].attempt == 2
    assert said(records, "write") == SPEECH
    assert engine.pulse().steps == TOKENS - len(tokens_of(text))


@R1
async def test_a_changed_model_begins_again_and_says_so(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH, model="newer")
    pipeline, writing, polishing = analysis(engine)
    job = await office.post(pipeline, Question())
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": "scripted/older"}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    await job.write(Delta, by="write-gone/gone", stage="write", text="Another", tokens=(1, 2), from_=0)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        await office.journal.pulls.send("$JS.ACK.gone", b"")
        records = await office.outcome(job)
    begun = starts(records)[1]
    assert (begun.reset, begun.from_, begun.model) == (True, 0, "scripted/newer")
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": SPEECH.upper()}
    assert answer.usage.output_tokens == TOKENS


@R1
async def test_a_resume_that_finds_the_end_of_the_text_calls_no_engine(servers: Servers, office: Office) -> None:
    engine = Scripted(says=SPEECH)
    pipeline, writing, polishing = analysis(engine)
    job = await office.post(pipeline, Question())
    gone: dict[str, Any] = {"stage": "write", "worker": "write-gone", "ack": "$JS.ACK.gone", "model": engine.revision}
    await job.write(StepStarted, attempt=1, claim="gone", **gone)
    whole: dict[str, Any] = {"text": SPEECH, "tokens": tuple(tokens_of(SPEECH)), "from_": 0, "finish_reason": "stop"}
    await job.write(Delta, by="write-gone/gone", stage="write", **whole)
    async with a_hand(servers, pipeline, writing), a_hand(servers, pipeline, polishing):
        records = await office.outcome(job)
    assert engine.pulse().steps == 0
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == {"text": SPEECH.upper()}


# Nobody writes who is not the owner.


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
