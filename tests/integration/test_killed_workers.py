"""Workers in processes of their own: killed at every token, and stopped past their lease."""

from __future__ import annotations

import asyncio

import pytest

from actors.contracts.events import Completed, Record
from actors.engines.scripted import Cue, tokens_of
from actors.runtime.presence import Owners
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import office_on, starts
from tests.pipelines import SPEECH, Applause, Prepared, applaud, recital, recite, reciter
from tests.verify import kinds, said
from tests.workers import BACKSTOP_S, Nursery, Orders, a_hand, all_there

TOKENS = len(tokens_of(SPEECH))


async def test_a_worker_killed_at_any_token_is_followed_by_one_that_goes_on_from_there(
    r1: Servers, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed before each token: the reader sees one unbroken text, and no stored token is paid twice."""
    monkeypatch.setattr(reciter, "computed", {})
    deaths = tuple(Cue("crash", at=k, when=f"<{k}>") for k in range(TOKENS))
    doomed = Orders(r1.urls, concurrency=1, engine={"cues": deaths, "token_s": 0.02})
    async with opened(r1, ack_wait=5.0) as journal, office_on(journal) as office:
        processes = [nursery.bear(doomed) for _ in range(TOKENS)]
        await all_there(journal, "recite", TOKENS)
        jobs = [await office.post(recital, Prepared(text=f"<{k}>"), to="recite") for k in range(TOKENS)]
        assert [await nursery.gone(process) for process in processes] == [-9] * TOKENS
        before = [await office.log(job) for job in jobs]
        async with a_hand(r1, recital, recite), a_hand(r1, recital, applaud):
            after = [await office.outcome(job) for job in jobs]
    paid = 0
    for k, (crashed, whole) in enumerate(zip(before, after, strict=True)):
        stored = stored_tokens(crashed)
        assert stored <= k
        assert kinds(whole) == ["handoff", "step.started", "step.started", "handoff", "completed"]
        assert [start.from_ for start in starts(whole)[:2]] == [0, stored]
        assert whole[: len(crashed)][-1].data == crashed[-1].data
        assert said(whole, "recite") == SPEECH
        answer = whole[-1].event
        assert isinstance(answer, Completed)
        assert answer.answer.body == Applause(text=SPEECH, words=len(SPEECH.split())).model_dump()
        assert answer.usage.output_tokens == TOKENS
        paid += TOKENS - stored
    assert sum(stored_tokens(log) for log in before) > TOKENS, "the kills came before anything was stored"
    assert sum(reciter.computed.values()) == paid, "a stored token was made again"


def stored_tokens(records: list[Record]) -> int:
    return len(tokens_of(said(records, "recite")))


async def test_a_worker_stopped_past_its_lease_says_nothing_when_it_wakes(
    r1: Servers, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes = asyncio.Event()
    monkeypatch.setattr(reciter, "gate", goes)
    paused = Orders(r1.urls, concurrency=1, engine={"says": "a zombie's words " * 400, "token_s": 0.02})
    async with opened(r1) as journal, office_on(journal) as office:
        zombie = nursery.bear(paused)
        await all_there(journal, "recite", 1)
        job = await office.post(recital, Prepared(text="sing"), to="recite")
        await office.until_kind(job, "delta", times=3)
        nursery.pause(zombie)
        async with a_hand(r1, recital, recite), a_hand(r1, recital, applaud):
            await office.until_kind(job, "step.started", times=2)
            before = await office.log(job)
            first, second = starts(before)
            assert first.worker != second.worker
            assert second.from_ == stored_tokens(before) > 0

            nursery.wake(zombie)
            async with asyncio.timeout(BACKSTOP_S):
                while await Owners(journal.signals).runs(first.worker, first.claim) is not False:
                    pass
            assert [r.data for r in await office.log(job)] == [r.data for r in before]
            assert office.ear.count(b"+ACK", first.ack) == office.ear.count(b"-NAK", first.ack) == 0
            signs = office.ear.count(b"+WPI", first.ack)
            await office.ear.until(b"+WPI", times=office.ear.count(b"+WPI", second.ack) + 3, ack=second.ack)
            assert office.ear.count(b"+WPI", first.ack) == signs, "it extends its successor's lease"

            goes.set()
            await office.outcome(job)

        # It is a worker as any other again.
        other = await office.post(recital, Prepared(text="again"), to="recite")
        started = (await office.until_kind(other, "step.started"))[-1]
        assert started.by.startswith(f"{first.worker}/")


async def test_a_poison_job_dies_by_itself_and_takes_no_other_with_it(r1: Servers, nursery: Nursery) -> None:
    """It kills every worker that runs it; after its budget it is a dead letter, and its neighbours are answered."""
    poison = (Cue("crash", at=2, when="poison"),)
    orders = Orders(r1.urls, engine={"cues": poison, "token_s": 0.02})
    async with opened(r1) as journal, office_on(journal) as office:
        job = await office.post(recital, Prepared(text="poison"), to="recite")
        for crash in range(1, 4):
            process = nursery.bear(orders)
            await office.until_kind(job, "step.started", times=crash)
            assert await nursery.gone(process) == -9
        async with a_hand(r1, recital, recite), a_hand(r1, recital, applaud):
            other = await office.post(recital, Prepared(text="wholesome"), to="recite")
            neighbour = await office.outcome(other)
            records = await office.outcome(job)
    assert kinds(records) == ["handoff", "step.started", "step.started", "step.started", "dead_lettered"]
    assert kinds(neighbour)[-1] == "completed"
