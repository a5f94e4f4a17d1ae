"""The pipeline `analysis` with a scripted model: what readers are told, and workers killed between every two steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors import Message
from actors.contracts.events import Completed, HandOff, Progress, Record, StepPart
from actors.exchange import Call, Draft, Question, ToolCalls, ToolResults
from actors.postprocess import polish
from actors.retrieval import retrieve
from actors.runtime.crash_points import CrashPoint
from tests import analysis_pipeline
from tests.analysis_pipeline import (
    ANSWER,
    GROUNDED,
    PATHS,
    PRODUCT,
    QUESTION,
    QUOTIENT,
    RESULTS,
    analysis,
    call_tools,
    rings,
    write,
)
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import Office, office_on, starts
from tests.scribe import Scribe
from tests.verify import kinds
from tests.workers import Nursery, Orders, Pass, a_hand, all_there

ACK_WAIT_S = 3.0
STAGES = ("retrieve", "write", "call_tools", "polish")
DRAFT = Draft(text=ANSWER, passages=GROUNDED.passages, results=RESULTS.results)
CALLED = ["calculator(7 * 45) = 315", "calculator(45 / 7) = 6.42857"]

P = CrashPoint
ENDS = [Pass(point) for point in (P.BEFORE_OUTPUT, P.AFTER_OUTPUT, P.AFTER_ACK)]
STEPS: list[tuple[str, Message, list[Pass]]] = [
    ("retrieve", Question(text=QUESTION), [*ENDS, Pass(P.AFTER_TEXT)]),
    ("write", GROUNDED, [*ENDS, Pass(P.AFTER_TEXT), Pass(P.BEFORE_PART), Pass(P.AFTER_PART)]),
    ("call_tools", ToolCalls(grounded=GROUNDED, turn=1, calls=[PRODUCT, QUOTIENT]), ENDS),
    ("write", RESULTS, ENDS),
    ("polish", DRAFT, ENDS),
]
"""Each step of a job, what it is given, and where a worker is killed in it."""

CALLING = [
    Pass(P.AFTER_STARTED),
    *[Pass(point, nth) for nth in (1, 2, 3) for point in (P.AFTER_TEXT, P.BEFORE_PART, P.AFTER_PART)],
]
"""Between the calls of one turn, of which there are three."""


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@asynccontextmanager
async def an_office(servers: Servers) -> AsyncIterator[Office]:
    async with opened(servers, ack_wait=ACK_WAIT_S, stages=STAGES) as journal, office_on(journal) as office:
        yield office


@asynccontextmanager
async def all_hands(servers: Servers) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for stage in (retrieve, write, call_tools, polish):
            await stack.enter_async_context(a_hand(servers, analysis, stage))
        yield


def told(records: list[Record]) -> list[tuple[str, str, int | None, int | None]]:
    """What readers were told on the way: stage, message, done, total."""
    return [(e.stage, e.message, e.done, e.total) for e in (r.event for r in records) if isinstance(e, Progress)]


def answer(records: list[Record]) -> dict[str, Any]:
    outcome = records[-1].event
    assert isinstance(outcome, Completed), outcome
    return outcome.answer.body


async def test_readers_are_told_what_is_done_by_names_that_stay(r1: Servers) -> None:
    async with an_office(r1) as office, all_hands(r1):
        records = await office.outcome(await office.post(analysis, Question(text=QUESTION)))
    assert told(records) == [
        ("retrieve", "retrieving", None, None),
        ("retrieve", "passages", 3, 3),
        ("write", "choosing tools", None, None),
        ("call_tools", "calling calculator", None, None),
        ("call_tools", "calling calculator", None, None),
    ]
    said = answer(records)
    assert said["text"] == ANSWER
    assert said["calls"] == CALLED
    assert said["sources"][0] == "mills/tailrace"


async def test_what_is_wrong_with_a_call_goes_back_to_the_model(r1: Servers) -> None:
    wrong = [
        Call(tool="calendar"),
        Call(tool="calculator", arguments={"sum": 1}),
        Call(tool="calculator", arguments={"expression": "7 / 0"}),
        PRODUCT,
    ]
    async with an_office(r1) as office, all_hands(r1):
        calls = ToolCalls(grounded=GROUNDED, turn=1, calls=wrong)
        records = await office.outcome(await office.post(analysis, calls, to="call_tools"))
    given = [r.event.message for r in records if isinstance(r.event, HandOff) and r.event.stage == "write"]
    results = ToolResults.model_validate(given[0].body)
    assert [result.failed for result in results.results] == [True, True, True, False]
    assert results.more, "it may try again"
    unknown, unfit, impossible, right = [result.value for result in results.results]
    assert unknown == "there is no tool 'calendar'; there are: calculator, ring"
    assert "expression: Field required" in unfit
    assert "division by zero" in impossible
    assert right == "315"
    assert answer(records)["text"] == ANSWER


async def test_a_model_that_never_has_enough_is_made_to_answer(r1: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    def insatiable(asked: str) -> dict[str, Any]:
        call = Call(tool="calculator", arguments={"expression": f"{asked.count('=')} + 1"})
        return {"calls": [call.model_dump()], "then": "call more"}

    monkeypatch.setattr(analysis_pipeline.model, "says_structured", insatiable)
    free = GROUNDED.model_copy(update={"question": "Add 0 and 1 and 2 and 3."})
    async with an_office(r1) as office, all_hands(r1):
        records = await office.outcome(await office.post(analysis, free, to="write"))
    assert answer(records)["calls"] == [f"calculator({n} + 1) = {n + 1}" for n in range(3)]


async def crashed(
    office: Office, nursery: Nursery, servers: Servers, stage: str, passes: list[Pass], messages: list[Message]
) -> list[Scribe]:
    """As many jobs as passes, each with a worker of its own that was killed at its pass."""
    orders = [Orders(servers.urls, stage=stage, concurrency=1, dies=each, pipelines=PATHS) for each in passes]
    processes = [nursery.bear(each) for each in orders]
    await all_there(office.journal, stage, len(passes))
    jobs = [await office.post(analysis, message, to=stage) for message in messages]
    assert [await nursery.gone(process) for process in processes] == [-9] * len(passes)
    for job in jobs:
        for start in starts(await office.log(job)):
            await office.journal.pulls.send(start.ack, b"-NAK")  # as the clock does, so that no lease is waited for
    return jobs


async def test_workers_may_die_between_every_two_steps(r1: Servers, nursery: Nursery) -> None:
    async with an_office(r1) as office:
        for stage, message, passes in STEPS:
            jobs = await crashed(office, nursery, r1, stage, passes, [message] * len(passes))
            before = [await office.log(job) for job in jobs]
            async with all_hands(r1):
                after = [await office.outcome(job) for job in jobs]
            assert len({kinds(crash, text=True)[-1] for crash in before}) > 1, "all were killed at one place"
            for crash, whole in zip(before, after, strict=True):
                said = answer(whole)
                assert (said["text"], said["sources"][0]) == (ANSWER, "mills/tailrace")
                assert said["calls"] == (CALLED[:1] if message in (RESULTS, DRAFT) else CALLED)
                assert [r.data for r in whole[: len(crash)]] == [r.data for r in crash], "what was stored has changed"
                handed = Counter(r.event.stage for r in whole if isinstance(r.event, HandOff))
                assert handed["call_tools"] <= 1, "a step that was over was done again"
                assert handed["polish"] == 1
                stored = Counter(r.event.key for r in whole if isinstance(r.event, StepPart))
                assert set(stored.values()) <= {1}, "a stored piece was worked for again"


async def test_a_crash_between_two_calls_repeats_neither(r1: Servers, nursery: Nursery, tmp_path: Path) -> None:
    """A call whose result is stored never runs again; one that was cut off does, under the key that it had."""
    bells = [tmp_path / f"bell-{n}" for n in range(len(CALLING))]
    async with an_office(r1) as office:
        jobs = await crashed(office, nursery, r1, "call_tools", CALLING, [rings(bell, 3) for bell in bells])
        before = [await office.log(job) for job in jobs]
        rung_before = [bell.read_text().split() if bell.exists() else [] for bell in bells]
        async with all_hands(r1):
            after = [await office.outcome(job) for job in jobs]
    between = 0
    for job, bell, crash, rung, whole in zip(jobs, bells, before, rung_before, after, strict=True):
        keys = {f"{job.address.job}-1-{n}": f"call {n}" for n in range(3)}
        stored = {r.event.key for r in crash if isinstance(r.event, StepPart)}
        again = bell.read_text().split()[len(rung) :]
        assert {*rung, *again} == set(keys), "a key changed, or a call was lost"
        assert sorted(again) == sorted(key for key, piece in keys.items() if piece not in stored)
        assert len(answer(whole)["calls"]) == 3
        between += 0 < len(stored) < 3
    assert between >= 4, "the kills did not come between the calls"
