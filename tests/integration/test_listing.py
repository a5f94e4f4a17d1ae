"""The list of jobs, over HTTP on a real server: it is what the logs say, and is made again whenever it has to be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from actors.cli import app
from actors.client import AsyncHeadrace
from actors.contracts.errors import Failure
from actors.contracts.events import (
    Aborted,
    Cancelled,
    Completed,
    DeadLettered,
    Expired,
    Failed,
    InputRequired,
    ReviewDiscarded,
    StepFailed,
    StepStarted,
)
from actors.contracts.messages import Packed
from actors.contracts.subjects import LOCAL
from actors.forgetting import forget_job
from actors.journal import Journal
from actors.projection import projector
from actors.projection.table import FILE, Position, Table
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.scribe import Note, Scribe, an_origin, new_address
from tests.serving import served, settings_for, until_ready

Json = dict[str, Any]

FAILURE = Failure(type="RuntimeError", message="it broke")


@pytest.fixture
async def http(servers: Servers) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(servers, nats_replicas=servers.replicas)) as http:
        yield http


@pytest.fixture
async def alone(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    """On one server."""
    async with served(settings_for(r1)) as http:
        yield http


async def listed(http: httpx.AsyncClient, **params: object) -> list[Json]:
    """A page of the list, once nothing is missing in it."""
    async with asyncio.timeout(20):
        while True:
            answer = await http.get("/v1/jobs", params={name: str(value) for name, value in params.items()})
            assert answer.status_code == 200, answer.text
            if answer.json()["behind"] == 0:
                found: list[Json] = answer.json()["jobs"]
                return found


def ids(jobs: list[Json]) -> list[str]:
    return [job["id"] for job in jobs]


async def started(journal: Journal, **origin: Any) -> Scribe:
    scribe = Scribe(journal.appender, origin=an_origin(**origin))
    await scribe.hand_off("recite")
    await scribe.write(StepStarted, stage="recite", attempt=1, claim="c", worker="w", ack="a")
    return scribe


async def one_of_each(journal: Journal) -> list[Scribe]:
    """A job for every way in which one can be, the oldest first."""
    queued = Scribe(journal.appender, new_address("batch"))
    await queued.hand_off("prepare")
    running, handed_on, retried, asks, dead = [await started(journal) for _ in range(5)]
    await handed_on.hand_off("applaud")
    await retried.write(StepFailed, claim="c", error=FAILURE, retry_at=retried.origin.deadline)
    await retried.hand_off("recite", of=1)
    await asks.write(
        InputRequired, stage="recite", claim="c", key="k", question="?", expects={}, until=asks.origin.deadline
    )
    given: Json = {"stage": "recite", "reason": "r", "input": Packed.of(Note()), "errors": (FAILURE,)}
    await dead.write(DeadLettered, origin=dead.origin, **given, attempts=3, crashes=0, deliveries=3)
    await dead.write(ReviewDiscarded, reason="seen")
    ended = [await started(journal) for _ in range(5)]
    endings: list[tuple[Any, Json]] = [
        (Completed, {"answer": Packed.of(Note())}),
        (Failed, {"stage": "recite", "error": FAILURE}),
        (Cancelled, {"reason": "enough"}),
        (Expired, {}),
        (Aborted, {}),
    ]
    for scribe, (kind, fields) in zip(ended, endings, strict=True):
        await scribe.write(kind, origin=scribe.origin, **fields)
    return sorted(
        [queued, running, handed_on, retried, asks, dead, *ended], key=lambda s: (s.origin.created, s.address.job)
    )


async def assert_as_the_logs_say(http: httpx.AsyncClient, jobs: list[Scribe]) -> None:
    found = await listed(http)
    assert ids(found) == [scribe.address.job for scribe in reversed(jobs)]
    shown = ("id", "status", "pipeline", "lane", "created", "links")
    for one in found:
        whole = (await http.get(f"/v1/jobs/{one['id']}")).json()
        assert {name: one[name] for name in shown} == {name: whole[name] for name in shown}
        assert one["stage"] == whole["stage"]


async def test_the_list_says_of_every_job_what_its_log_says(http: httpx.AsyncClient, journal: Journal) -> None:
    jobs = await one_of_each(journal)
    await assert_as_the_logs_say(http, jobs)
    statuses = {job["status"] for job in await listed(http)}
    assert len(statuses) == 9, "not every status there is has a job here"


async def test_jobs_are_found_by_status_pipeline_and_time(alone: httpx.AsyncClient, journal_r1: Journal) -> None:
    jobs = await one_of_each(journal_r1)
    other = await started(journal_r1, pipeline="other")
    everything = await listed(alone)
    for status in {job["status"] for job in everything}:
        assert ids(await listed(alone, status=status)) == ids([j for j in everything if j["status"] == status])
    assert ids(await listed(alone, status="queued,failed")) == ids(
        [job for job in everything if job["status"] in ("queued", "failed")]
    )
    assert ids(await listed(alone, pipeline="other")) == [other.address.job]
    assert await listed(alone, pipeline="nothing") == []
    at = jobs[5].origin.created
    since, until = (
        ids(await listed(alone, since=at.isoformat())),
        ids(await listed(alone, until=at.isoformat())),
    )
    assert (len(since), len(until)) == (7, 5)
    assert [*since, *until] == ids(everything)
    assert await listed(alone, since=(at + timedelta(hours=1)).isoformat()) == []


async def test_the_client_and_the_command_line_list_jobs(
    alone: httpx.AsyncClient, journal_r1: Journal, r1: Servers
) -> None:
    jobs = await one_of_each(journal_r1)
    everything = [scribe.address.job for scribe in reversed(jobs)]
    async with AsyncHeadrace(str(alone.base_url)) as client:
        assert [job.id async for job in client.jobs()] == everything
        ended = [job async for job in client.jobs(status="completed", since=jobs[0].origin.created)]
        assert [job.status for job in ended] == ["completed"]

    async def printed(*words: str) -> str:
        url = [] if words[0] == "rebuild" else ["--url", str(alone.base_url)]
        done = await asyncio.to_thread(CliRunner().invoke, app, ["jobs", *words, *url])
        assert done.exit_code == 0, done.output
        return done.output

    assert [line.split()[0] for line in (await printed("list")).splitlines()[1:]] == everything
    assert ids(json.loads(await printed("list", "--json", "--limit", "3", "--since", "1h"))) == everything[:3]
    assert "no jobs fit" in await printed("list", "--pipeline", "nothing")
    assert "anew" in await printed("rebuild", "--data", str(settings_for(r1).data))
    assert Table(settings_for(r1).data).position().seq == 0
    assert ids(await listed(alone)) == everything


async def test_pages_follow_each_other_while_jobs_are_made(alone: httpx.AsyncClient, journal_r1: Journal) -> None:
    made = [await started(journal_r1) for _ in range(7)]
    seen: list[str] = []
    params: Json = {"limit": 3}
    await listed(alone)
    while True:
        page = (await alone.get("/v1/jobs", params=params)).json()
        seen += ids(page["jobs"])
        await started(journal_r1)  # it is newer than all pages that follow
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert seen == [scribe.address.job for scribe in reversed(made)]


UNFIT = [
    "status=done",
    "status=queued,x",
    "limit=0",
    "limit=201",
    "limit=x",
    "limit=-1",
    "since=yesterday",
    "since=2026-11-23",
    "until=1",
    "until=2026-11-23T00:00:00",
    "cursor=1",
    f"cursor=x.{'a' * 26}",
    "cursor=1.%27%3B",
]


async def test_a_query_that_is_none_is_refused(alone: httpx.AsyncClient) -> None:
    for query in UNFIT:
        answer = await alone.get(f"/v1/jobs?{query}")
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:headrace:problem:bad-page"), query


@pytest.mark.parametrize("damage", ["missing", "no database", "no table", "other schema", "reset"])
async def test_a_list_that_is_missing_damaged_or_reset_is_made_again_by_itself(
    r1: Servers, alone: httpx.AsyncClient, journal_r1: Journal, damage: str
) -> None:
    jobs = await one_of_each(journal_r1)
    await assert_as_the_logs_say(alone, jobs)
    file = settings_for(r1).data / FILE
    match damage:
        case "missing":
            file.unlink()
        case "no database":
            file.with_name(f"{FILE}-wal").unlink(missing_ok=True)
            file.write_bytes(b"x" * 10_000)
        case "no table":
            with sqlite3.connect(file) as table:
                table.execute("DROP TABLE jobs")
            table.close()
        case "other schema":
            with sqlite3.connect(file) as table:
                table.execute("PRAGMA user_version = 99")
            table.close()
        case _:
            Table(file.parent).begin_anew()
    await assert_as_the_logs_say(alone, jobs)


async def test_a_table_of_another_log_or_of_other_facts_under_the_same_sequences_begins_anew(
    r1: Servers, alone: httpx.AsyncClient, journal_r1: Journal
) -> None:
    jobs = await one_of_each(journal_r1)
    table = Table(settings_for(r1).data)
    await assert_as_the_logs_say(alone, jobs)
    real = table.position()
    lost = Scribe(journal_r1.appender)
    record = (await journal_r1.reader.job(LOCAL, jobs[0].address.job))[0]
    ghost = type(record)(record.seq, str(lost.address.subject("job", "recite")), record.data)
    for wrong in (
        Position(real.seq, real.log, "0" * 64),
        Position(real.seq + 1_000, real.log, real.digest),
        Position(real.seq, "2020-01-01T00:00:00Z", real.digest),
    ):
        assert table.bring_forward([ghost], table.position(), wrong)
        await assert_as_the_logs_say(alone, jobs)


async def test_what_is_forgotten_or_deleted_leaves_the_list(
    alone: httpx.AsyncClient, journal_r1: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "STRUCK_AT_ONCE", 2)
    jobs = await one_of_each(journal_r1)
    await assert_as_the_logs_say(alone, jobs)
    ended = {one["id"] for one in await listed(alone, status="completed,failed,cancelled")}
    gone = [job for job in jobs if job.address.job in ended]
    assert len(gone) == 3
    for scribe in gone:
        end = await journal_r1.reader.last(LOCAL, scribe.address.job)
        assert end is not None
        assert await forget_job(journal_r1, end, None)
    async with asyncio.timeout(20):
        while len(await listed(alone)) > len(jobs) - len(gone):
            pass
    await assert_as_the_logs_say(alone, [job for job in jobs if job not in gone])


async def test_what_stands_on_a_subject_that_is_no_jobs_is_passed_over(
    alone: httpx.AsyncClient, journal_r1: Journal
) -> None:
    jobs = await one_of_each(journal_r1)
    for subject in ("job.done.standard.local.nobody", "job.recite.express.local." + "a" * 26):
        await journal_r1.signals.request(subject, b"{}")
    jobs.append(await started(journal_r1))
    jobs.sort(key=lambda s: (s.origin.created, s.address.job))
    await assert_as_the_logs_say(alone, jobs)
    [completed] = await listed(alone, status="completed")
    end = await journal_r1.reader.last(LOCAL, completed["id"])
    assert end is not None
    assert await forget_job(journal_r1, end, None)
    async with asyncio.timeout(20):
        while completed["id"] in ids(await listed(alone)):
            pass


async def test_two_processes_keep_one_list_and_each_answers_with_it(r1: Servers, journal_r1: Journal) -> None:
    async with served(settings_for(r1)) as one, served(settings_for(r1)) as other:
        jobs = []
        for _ in range(5):
            jobs += [await started(journal_r1) for _ in range(20)]
            await asyncio.gather(*(http.get("/v1/jobs") for http in (one, other) for _ in range(3)))
        jobs.sort(key=lambda s: (s.origin.created, s.address.job))
        for http in (one, other):
            assert ids(await listed(http, limit=200)) == [scribe.address.job for scribe in reversed(jobs)]


async def test_without_the_log_it_answers_with_what_it_knows_and_says_that_it_does_not_know_more(
    r1: Servers, alone: httpx.AsyncClient, journal_r1: Journal
) -> None:
    jobs = await one_of_each(journal_r1)
    await assert_as_the_logs_say(alone, jobs)
    await r1.kill()
    answer = (await alone.get("/v1/jobs")).json()
    assert (len(answer["jobs"]), answer["behind"]) == (len(jobs), None)
    await r1.start()
    await until_ready(alone)
    async with opened(r1, "again") as journal:
        jobs.append(await started(journal))
    jobs.sort(key=lambda s: (s.origin.created, s.address.job))
    await assert_as_the_logs_say(alone, jobs)


async def test_a_folder_that_cannot_be_written_costs_nothing_but_the_list(r1: Servers) -> None:
    settings = settings_for(r1)
    settings.data.parent.mkdir(parents=True, exist_ok=True)
    blocked = settings.data.with_name("a-file")
    blocked.write_text("")
    async with served(settings.model_copy(update={"data": blocked})) as http:
        answer = await http.get("/v1/jobs")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:headrace:problem:unavailable")
        accepted = await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": "go"}})
        assert (await http.get(accepted.headers["Location"])).status_code == 200
