"""A worker killed at every crash point, at every pass: the job ends once, and nothing that is stored is done again."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from actors.contracts.events import Completed, Record, StepPart
from actors.contracts.fold import fold_step
from actors.engines.scripted import Cue, tokens_of
from actors.runtime.crash_points import CrashPoint
from tests import pipelines
from tests.integration.conftest import opened
from tests.integration.test_asking import ASKING
from tests.nats_servers import Servers
from tests.office import Office, office_on, starts
from tests.pipelines import (
    SPEECH,
    Delivered,
    Errand,
    Parcel,
    Prepared,
    applaud,
    deliver,
    errands,
    fetch,
    recital,
    walker,
)
from tests.scribe import Scribe
from tests.verify import kinds, said
from tests.workers import Nursery, Orders, Pass, a_hand, all_there

LONG = " ".join([SPEECH] * 6)
TOKENS = len(tokens_of(LONG))
SPEAKS = {"says": LONG, "token_s": 0.02}

PIECES = ["one of milk", "two of milk"]

P = CrashPoint
THINKING = [
    *[Pass(point) for point in (P.AFTER_PULL, P.BEFORE_STARTED, P.AFTER_STARTED)],
    *[Pass(point, nth) for nth in (1, 2) for point in (P.BEFORE_PART, P.AFTER_PART)],
    *[Pass(point, nth) for nth in range(1, 6) for point in (P.BEFORE_TEXT, P.AFTER_TEXT)],
    *[Pass(point) for point in (P.BEFORE_OUTPUT, P.AFTER_OUTPUT, P.BEFORE_ACK, P.AFTER_ACK)],
]
PURE = [Pass(point) for point in (P.AFTER_PULL, P.BEFORE_OUTPUT, P.AFTER_OUTPUT, P.BEFORE_ACK, P.AFTER_ACK)]
STUMBLING = [Pass(point) for point in (P.BEFORE_FAILED, P.AFTER_FAILED, P.BEFORE_NAK, P.AFTER_NAK)]
DRAINING = [Pass(point) for point in (P.BEFORE_RELEASED, P.AFTER_RELEASED, P.BEFORE_NAK, P.AFTER_NAK)]


def test_every_point_is_in_a_sweep() -> None:
    assert {each.point for each in THINKING + PURE + STUMBLING + DRAINING + ASKING} == set(CrashPoint)


@pytest.fixture(autouse=True)
def long_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walker, "says", LONG)
    monkeypatch.setattr(walker, "computed", {})
    monkeypatch.setattr(pipelines, "fetched", Counter())


async def crashed(
    office: Office, nursery: Nursery, servers: Servers, stage: str, passes: list[Pass]
) -> tuple[list[Scribe], list[list[Record]]]:
    """As many jobs as passes, each with a worker of its own that was killed at its pass, and the logs then."""
    message = Errand(text="milk") if stage == "fetch" else Parcel(text=LONG, pieces=PIECES)
    orders = [Orders(servers.urls, stage=stage, concurrency=1, engine=SPEAKS, dies=each) for each in passes]
    processes = [nursery.bear(each) for each in orders]
    await all_there(office.journal, stage, len(passes))
    jobs = [await office.post(errands, message, to=stage) for _ in passes]
    assert [await nursery.gone(process) for process in processes] == [-9] * len(passes)
    return jobs, [await office.log(job) for job in jobs]


def answered(records: list[Record]) -> None:
    """Fails where a job is not answered as if nothing had happened."""
    answer = records[-1].event
    assert isinstance(answer, Completed)
    assert answer.answer.body == Delivered(text=LONG, pieces=PIECES).model_dump()


def spoken(records: list[Record]) -> int:
    return len(tokens_of(said(records, "fetch")))


def parts(records: list[Record]) -> set[str]:
    return {r.event.key for r in records if isinstance(r.event, StepPart)}


async def test_a_thinking_worker_may_die_at_any_point(r1: Servers, nursery: Nursery) -> None:
    async with opened(r1, ack_wait=5.0) as journal, office_on(journal) as office:
        jobs, before = await crashed(office, nursery, r1, "fetch", THINKING)
        ends = Counter(log[-1].event.kind for log in before)
        assert ends == {"handoff": 2 + 3, "step.started": 2, "step.part": 4, "delta": 10}
        async with a_hand(r1, errands, fetch), a_hand(r1, errands, deliver):
            after = [await office.outcome(job) for job in jobs]
    needed, pieces = 0, Counter[str]()
    for crash, whole in zip(before, after, strict=True):
        answered(whole)
        again = starts(whole)[len(starts(crash)) :]
        if "handoff" in kinds(crash)[1:]:
            assert not again, "a stored output was computed again"
            continue
        assert [start.from_ for start in again] == [spoken(crash)]
        needed += TOKENS - spoken(crash)
        pieces.update({"one", "two"} - parts(crash))
    assert sum(walker.computed.values()) == needed, "a stored token was made again"
    assert pipelines.fetched == pieces, "a stored piece was worked for again"


async def test_a_worker_that_only_computes_may_die_at_any_point(r1: Servers, nursery: Nursery) -> None:
    async with opened(r1, ack_wait=5.0) as journal, office_on(journal) as office:
        jobs, before = await crashed(office, nursery, r1, "deliver", PURE)
        assert Counter(log[-1].event.kind for log in before) == {"handoff": 2, "completed": 3}
        async with a_hand(r1, errands, deliver):
            await office.ear.until(b"+ACK", times=len(jobs))
            for job, crash in zip(jobs, before, strict=True):
                whole = await office.outcome(job)
                answered(whole)
                if crash[-1].event.kind == "completed":
                    assert whole[-1].data == crash[-1].data


@pytest.mark.parametrize("dies", STUMBLING, ids=lambda each: each.point.value)
async def test_a_worker_may_die_while_it_says_that_its_attempt_failed(
    r1: Servers, nursery: Nursery, dies: Pass
) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        doomed = nursery.bear(Orders(r1.urls, stage="fetch", engine=SPEAKS, dies=dies))
        job = await office.post(errands, Errand(text="milk", stumbles=1))
        assert await nursery.gone(doomed) == -9
        before = await office.log(job)
        async with a_hand(r1, errands, fetch), a_hand(r1, errands, deliver):
            whole = await office.outcome(job)
    answered(whole)
    said_so = dies.point is not P.BEFORE_FAILED
    assert kinds(before).count("step.failed") == said_so
    assert kinds(whole).count("step.failed") == said_so, "the crash cost a failure too"
    assert len(starts(whole)) == 2
    assert not pipelines.fetched, "a stored piece was worked for again"


@pytest.mark.parametrize("dies", DRAINING, ids=lambda each: each.point.value)
async def test_a_worker_may_die_while_it_hands_back(r1: Servers, nursery: Nursery, dies: Pass) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        orders = Orders(r1.urls, stage="fetch", engine=SPEAKS, dies=dies, drains=Pass(P.AFTER_TEXT, 2))
        doomed = nursery.bear(orders)
        job = await office.post(errands, Errand(text="milk"))
        assert await nursery.gone(doomed) == -9
        before = await office.log(job)
        async with a_hand(r1, errands, fetch), a_hand(r1, errands, deliver):
            whole = await office.outcome(job)
    answered(whole)
    step = fold_step(whole, whole[0].seq)
    assert step is not None
    lost = 1 if dies.point is P.BEFORE_RELEASED else 0
    assert (step.failures, step.crashes) == (0, lost + 1), "the attempt that ended well is counted with those lost"
    assert [start.from_ for start in starts(whole)] == [0, spoken(before)]
    assert sum(walker.computed.values()) == TOKENS - spoken(before)


async def test_sixty_three_jobs_live_beside_one_that_kills_its_worker(r1: Servers, nursery: Nursery) -> None:
    """All are lost with the worker once; then in groups; then alone, and only the killer is ever lost a third time."""
    poison = (Cue("crash", at=3, when="poison"),)
    orders = Orders(r1.urls, concurrency=64, engine={"cues": poison, "token_s": 0.01})
    async with opened(r1) as journal, office_on(journal) as office:
        good = [await office.post(recital, Prepared(text=f"{n}"), to="recite") for n in range(63)]
        killer = await office.post(recital, Prepared(text="poison"), to="recite")

        async def replace_the_dead() -> None:
            while True:
                await nursery.gone(nursery.bear(orders))

        async with a_hand(r1, recital, applaud):
            serve = asyncio.create_task(replace_the_dead())
            try:
                logs = await asyncio.gather(*(office.outcome(job) for job in (*good, killer)))
            finally:
                serve.cancel()
    *lived, died = logs
    assert Counter(log[-1].event.kind for log in lived) == {"completed": 63}
    assert died[-1].event.kind == "dead_lettered"
    assert len(starts(died)) == 3
    assert max(len(starts(log)) for log in lived) <= 3
    assert sum(len(starts(log)) == 3 for log in lived) < 64 // 4, "more were lost twice than may run beside one"
