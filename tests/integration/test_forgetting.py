"""Room is made by forgetting what has ended, oldest first, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from actors.contracts.errors import Failure
from actors.contracts.events import (
    Completed,
    DeadLettered,
    Delta,
    ReviewDiscarded,
    ReviewRedriven,
    StepStarted,
)
from actors.contracts.messages import Packed
from actors.forgetting import HIGH, LOW, Forgetting, forget_job
from actors.journal import Journal
from actors.journal.connection import ApiError, Link
from actors.journal.follow import Follower, Place
from actors.journal.forget import audited, forget
from actors.journal.lag import stage_flows
from actors.journal.room import Room, measure
from actors.journal.topology import AUDIT, JOBS, ensure
from actors.runtime.settings import Settings
from tests.integration.conftest import STAGES, opened
from tests.nats_servers import Servers
from tests.pipelines import PATHS
from tests.scribe import Note, Scribe
from tests.ticking import ticking

MAX_JOBS = 20
PIECE = "x" * 10_000


PAST = "past"
"""A stage whose hand-offs nobody holds: what the scribe has ended is not under way."""


async def ended(journal: Journal, *, pieces: int = 0) -> Scribe:
    """A job that was done, by hand."""
    job = await running(journal, PAST, pieces=pieces)
    await job.write(Completed, origin=job.origin, answer=Packed.of(Note(text="done")))
    return job


async def running(journal: Journal, stage: str = "write", *, pieces: int = 0) -> Scribe:
    """A job that a worker has, by hand."""
    job = Scribe(journal.appender)
    await job.hand_off(stage)
    await job.write(StepStarted, stage=stage, attempt=1, claim="c", worker="write-1", ack="a")
    for n in range(pieces):
        await job.write(Delta, stage=stage, text=PIECE, tokens=(n,), from_=n)
    return job


async def dead(journal: Journal, *, pieces: int = 1) -> Scribe:
    """A job that used up its budget, by hand."""
    job = await running(journal, PAST, pieces=pieces)
    errors = (Failure(type="RuntimeError", message="it broke"),)
    given = {"stage": "write", "reason": "it failed", "input": Packed.of(Note())}
    await job.write(DeadLettered, origin=job.origin, **given, errors=errors, attempts=3, crashes=0, deliveries=3)
    return job


async def left(journal: Journal, job: Scribe) -> list[str]:
    """What the log still has of a job, as the leader knows it."""
    records = await journal.reader.rest(job.address.tenant, job.address.job, after=0, at_least=job.chain.seq)
    return [record.event.kind for record in records]


async def taken(journal: Journal, *, max_jobs: int = MAX_JOBS) -> Room:
    flows = await stage_flows(journal.signals, STAGES)
    return await measure(journal, flows.values(), max_jobs=max_jobs)


async def until_audited(journal: Journal) -> None:
    """Until the audit has every fact that is in the log, where there is an audit."""
    info = await journal.signals.api(f"STREAM.INFO.{JOBS}")
    last = await journal.reader.after("job.>", int(info["state"]["last_seq"]) - 1)
    async with asyncio.timeout(20):
        while (known := await audited(journal.signals)) is not None and last and known < last[-1].seq:
            pass


async def without_audit(link: Link) -> None:
    with suppress(ApiError):
        await link.api(f"STREAM.DELETE.{AUDIT}")


@asynccontextmanager
async def small(servers: Servers, max_bytes: int) -> AsyncIterator[Journal]:
    """A log with so little room."""
    async with Journal.open(servers.urls, "test") as journal:
        await ensure(journal.signals, STAGES, replicas=servers.replicas, max_bytes=max_bytes)
        yield journal


async def test_below_the_mark_nothing_is_forgotten(journal: Journal) -> None:
    jobs = [await ended(journal, pieces=1) for _ in range(int(HIGH * MAX_JOBS))]
    assert await Forgetting(STAGES, max_jobs=MAX_JOBS).make_room(journal) == 0
    assert all([len(await left(journal, job)) == 4 for job in jobs])


async def test_above_the_mark_the_oldest_finished_jobs_go_and_what_runs_or_waits_for_people_stays(
    journal: Journal,
) -> None:
    runs, letter = await running(journal, pieces=2), await dead(journal)
    jobs = [await ended(journal) for _ in range(16)]
    await until_audited(journal)
    assert (await taken(journal)).jobs == 18
    assert await Forgetting(STAGES, max_jobs=MAX_JOBS).make_room(journal) >= 18 - LOW * MAX_JOBS
    assert (await taken(journal)).jobs <= LOW * MAX_JOBS
    assert len(await left(journal, runs)) == 4
    assert (await left(journal, letter))[-1] == "dead_lettered"
    kept = [bool(await left(journal, job)) for job in jobs]
    assert kept == sorted(kept)  # the oldest are gone
    assert not kept[0]


async def test_text_goes_before_jobs_and_a_reader_is_told_of_the_gap(servers: Servers) -> None:
    async with small(servers, 1 << 20) as journal:
        runs = await running(journal, pieces=10)
        jobs = [await ended(journal, pieces=10) for _ in range(6)]
        assert (await taken(journal)).bytes_taken > HIGH
        assert await Forgetting(STAGES, max_jobs=1_000).make_room(journal) == 0
        assert (await taken(journal)).bytes_taken <= LOW
        assert len(await left(journal, runs)) == 12
        assert await left(journal, jobs[0]) == ["handoff", "step.started", "completed"]
        follower, job = Follower(journal.live, journal.reader), jobs[0].address
        async with asyncio.timeout(20), follower.follow(job.tenant, job.job, Place()) as items:
            seen = [(item.first_n, item.n, item.event is None) async for item in items]
        assert seen == [(1, 1, False), (2, 2, False), (3, 12, True), (13, 13, False)]


async def test_of_a_dead_letter_that_nobody_has_discarded_only_the_text_goes(r1: Servers) -> None:
    async with small(r1, 1 << 20) as journal:
        letters = [await dead(journal, pieces=10) for _ in range(7)]
        assert await Forgetting(STAGES, max_jobs=1_000).make_room(journal) == 0
        assert (await taken(journal)).bytes_taken <= LOW
        assert await left(journal, letters[0]) == ["handoff", "step.started", "dead_lettered"]


async def test_where_text_is_not_enough_jobs_go_too(r1: Servers) -> None:
    async with small(r1, 400_000) as journal:
        big = [await ended(journal) for _ in range(3)]
        for _ in range(8):
            job = Scribe(journal.appender)
            await job.hand_off(PAST, Note(text=PIECE * 4))
            await job.write(Completed, origin=job.origin, answer=Packed.of(Note()))
        await until_audited(journal)
        assert await Forgetting(STAGES, max_jobs=1_000).make_room(journal) > 0
        assert (await taken(journal)).bytes_taken <= LOW
        assert await left(journal, big[0]) == []


async def test_a_dead_letter_goes_once_it_was_discarded_and_not_when_it_was_redriven(journal: Journal) -> None:
    redriven, discarded = await dead(journal), await dead(journal)
    await redriven.write(ReviewRedriven, to="a" * 26)
    await discarded.write(ReviewDiscarded, reason="a test")
    for _ in range(14):
        await dead(journal)
    await until_audited(journal)
    assert await Forgetting(STAGES, max_jobs=MAX_JOBS).make_room(journal) == 1
    assert await left(journal, discarded) == []
    assert (await left(journal, redriven))[-2:] == ["dead_lettered", "review.redriven"]


async def test_too_many_dead_letters_are_an_alarm_that_is_given_once(
    journal_r1: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    forgetting = Forgetting(STAGES, max_jobs=MAX_JOBS)
    letters = [await dead(journal_r1) for _ in range(3)]
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            await forgetting.make_room(journal_r1)
        assert [vars(r)["action"] for r in caplog.records] == ["many_dead_letters"]
        assert "discard" in caplog.text
        await letters[0].write(ReviewDiscarded, reason="a test")
        await until_audited(journal_r1)
        assert await forgetting.make_room(journal_r1) == 1
        await dead(journal_r1)
        await forgetting.make_room(journal_r1)
    assert [vars(r)["action"] for r in caplog.records] == ["many_dead_letters"] * 2


async def test_a_log_that_only_jobs_that_run_fill_says_so_and_forgets_none_of_them(
    journal_r1: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [await running(journal_r1) for _ in range(16)]
    with caplog.at_level(logging.ERROR):
        assert await Forgetting(STAGES, max_jobs=MAX_JOBS).make_room(journal_r1) == 0
    assert [vars(r)["action"] for r in caplog.records] == ["log_short_of_room"]
    assert "HEADRACE_MAX_BYTES" in caplog.text
    assert all([len(await left(journal_r1, job)) == 2 for job in jobs])


async def test_facts_wait_until_the_audit_has_them(journal_r1: Journal) -> None:
    await without_audit(journal_r1.signals)
    jobs = [await ended(journal_r1) for _ in range(16)]
    assert await audited(journal_r1.signals) is None
    await journal_r1.signals.api(f"STREAM.CREATE.{AUDIT}", {"name": AUDIT, "subjects": ["kept"], "storage": "file"})
    assert await audited(journal_r1.signals) == 0
    forgetting = Forgetting(STAGES, max_jobs=MAX_JOBS)
    assert await forgetting.make_room(journal_r1) == 0
    assert len(await left(journal_r1, jobs[0])) == 3
    await journal_r1.signals.api(f"STREAM.DELETE.{AUDIT}")
    sourced = {"name": AUDIT, "storage": "file", "sources": [{"name": JOBS, "filter_subject": "job.>"}]}
    await journal_r1.signals.api(f"STREAM.CREATE.{AUDIT}", sourced)
    await until_audited(journal_r1)
    assert await audited(journal_r1.signals) == jobs[-1].chain.seq
    assert await forgetting.make_room(journal_r1) > 0
    assert await left(journal_r1, jobs[0]) == []


async def test_a_job_made_anew_under_the_same_key_is_not_forgotten_for_the_old_one(journal: Journal) -> None:
    old = [await ended(journal) for _ in range(16)]
    await until_audited(journal)
    end = await journal.reader.last(old[0].address.tenant, old[0].address.job)
    await Forgetting(STAGES, max_jobs=MAX_JOBS).make_room(journal)
    new = Scribe(journal.appender, old[0].address)
    await new.hand_off("write")
    assert end is not None
    assert await forget_job(journal, end, None)  # as another clock would, that has read the old job
    assert await left(journal, new) == ["handoff"]


async def test_what_is_forgotten_already_is_no_trouble(journal: Journal) -> None:
    job = await ended(journal)
    for _ in range(2):
        await forget(journal.signals, [0, job.chain.seq, job.chain.seq - 1, job.chain.seq + 1_000])
    assert await left(journal, job) == ["handoff"]


async def test_a_job_that_was_forgotten_in_part_is_found_again(journal: Journal) -> None:
    jobs = [await ended(journal) for _ in range(16)]
    await forget(journal.signals, [jobs[0].chain.seq - 1, jobs[0].chain.seq - 2])  # and there it was cut off
    await until_audited(journal)
    await Forgetting(STAGES, max_jobs=MAX_JOBS).make_room(journal)
    assert await left(journal, jobs[0]) == []


async def test_two_that_make_room_at_once_forget_no_more_than_is_needed(journal: Journal) -> None:
    jobs = [await ended(journal) for _ in range(32)]
    await until_audited(journal)
    await asyncio.gather(*(Forgetting(STAGES, max_jobs=40).make_room(journal) for _ in range(2)))
    assert (await taken(journal, max_jobs=40)).jobs <= LOW * 40
    assert await left(journal, jobs[-1])


async def test_the_clock_makes_room_while_it_runs(servers: Servers) -> None:
    settings = Settings(nats_url=",".join(servers.urls), pipelines=PATHS, max_jobs=MAX_JOBS)
    async with opened(servers) as journal:
        jobs = [await ended(journal) for _ in range(16)]
        async with ticking(settings), asyncio.timeout(20):
            while await left(journal, jobs[0]):
                pass
        assert await left(journal, jobs[-1])
