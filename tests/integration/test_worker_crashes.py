"""Workers and engines that are lost, and deliveries that come twice."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from actors import Job, Retry
from actors.contracts.events import DeadLettered, Record
from actors.contracts.fold import fold_step
from actors.engines import EngineError, Scripted
from actors.engines.scripted import Cue, tokens_of
from actors.journal.topology import JOBS
from actors.runtime import presence
from tests.actions import watched_actions
from tests.integration.conftest import R1
from tests.nats_servers import Servers
from tests.office import Office, starts
from tests.thinking import LONG, SPEECH, TOKENS, Answer, Draft, Question, analysis
from tests.trouble import NoAcks, NoLease
from tests.verify import kinds, said, verify_open
from tests.workers import BACKSTOP_S, a_hand


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
            async with a_hand(servers, pipeline, chosen) as second:
                await actions.next("step_settled", verdict="LET_GO")
                while second.worker.jobs:
                    await office.log(job)  # whatever it has to say about it is said once its step is over
                assert first.worker.jobs == 1
                before = len(office.ear.heard)
                goes.set()
                await office.until(job, lambda e: e.kind == "completed" or (e.kind == "handoff" and e.n > 1))
                [owner] = starts(await office.log(job))
                await office.ear.until(b"+ACK", ack=owner.ack)
            assert [what for _, what in office.ear.heard[before:]] == [b"+ACK"]
            assert [heard for heard in office.ear.heard if heard[1] != b"+WPI"] == [(owner.ack, b"+ACK")]
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
async def test_the_lease_of_a_step_whose_engine_hangs_runs_out(servers: Servers, office: Office) -> None:
    """Another worker is given it; and lets it go, for as long as the one that hangs says that it runs it."""
    pipeline, writing, _ = analysis(Scripted(says=SPEECH, cues=(Cue("hang", at=3),)))
    healthy = replace(writing, uses=Scripted(says=SPEECH))
    async with a_hand(servers, pipeline, writing, hang_after=0.3):
        job = await office.post(pipeline, Question())
        await office.until_kind(job, "step.started")
        with watched_actions() as actions:
            async with a_hand(servers, pipeline, healthy):
                await actions.next("step_settled", verdict="LET_GO")
    assert kinds(await office.log(job)) == ["handoff", "step.started"]


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


@R1
async def test_a_restart_of_the_server_takes_no_job_from_a_worker_that_lives(
    servers: Servers, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After it every delivery comes again, to whoever is back first; the owner may be back a moment later."""
    monkeypatch.setattr(presence, "REJOIN_S", 3.0)  # on a busy machine a moment is long
    engine = Scripted(says=LONG, token_s=0.005)
    pipeline, writing, polishing = analysis(engine)
    async with AsyncExitStack() as stack:
        for _ in range(4):
            await stack.enter_async_context(a_hand(servers, pipeline, writing))
        await stack.enter_async_context(a_hand(servers, pipeline, polishing))
        jobs = [await office.post(pipeline, Question(text=f"{n}")) for n in range(12)]
        for job in jobs:
            await office.until_kind(job, "delta")
        await servers.kill()
        await servers.start()
        logs = [await office.outcome(job) for job in jobs]
    assert [len(starts(records)) for records in logs] == [1] * 12
