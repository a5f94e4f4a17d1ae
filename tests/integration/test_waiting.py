"""Native HTTP, on a real server with real workers: waiting for an outcome, knowing what changed, reading the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from actors.contracts.events import parse
from actors.contracts.subjects import LOCAL
from actors.journal import Journal
from actors.journal.server_process import ask
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, reciter
from tests.serving import served, settings_for, stored, working

RECITAL = "/v1/pipelines/recital/jobs"
GO = {"input": {"text": "go"}}
STAGES = ("prepare", "recite", "applaud")
LONG, SHORT = {"Prefer": "wait=60"}, {"Prefer": "wait=1"}


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """While it is not set, the engine says nothing."""
    reciter.gate = asyncio.Event()
    yield reciter.gate
    reciter.gate = None


@pytest.fixture
async def http(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(r1)) as http:
        yield http


@pytest.fixture
async def at_work(r1: Servers, http: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The same, with workers."""
    async with working(settings_for(r1), *STAGES):
        yield http


async def subscriptions(servers: Servers) -> int:
    """How many there are of readers that follow a job."""
    page = await ask(servers.nodes[0].identity, "/connz?subs=1")
    found = [subject for one in page["connections"] for subject in one.get("subscriptions_list") or []]
    return sum(subject.startswith("live.") for subject in found)


async def until_followed(servers: Servers, readers: int) -> None:
    async with asyncio.timeout(20):
        while await subscriptions(servers) != readers:
            pass


async def test_a_submission_that_waits_is_answered_with_the_outcome(at_work: httpx.AsyncClient) -> None:
    answer = await at_work.post(RECITAL, json=GO, headers=LONG | {"Idempotency-Key": "once"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=60")
    assert "Idempotent-Replay" not in answer.headers
    assert (answer.json()["status"], answer.json()["answer"]["text"]) == ("completed", SPEECH)
    assert (await at_work.get(answer.headers["Location"])).json() == answer.json()
    again = await at_work.post(RECITAL, json=GO, headers=LONG | {"Idempotency-Key": "once"})
    assert (again.status_code, again.json()) == (200, answer.json())
    assert again.headers["Idempotent-Replay"] == "true"


async def test_a_wait_that_is_over_before_the_job_is_answered_202_and_the_job_goes_on(
    at_work: httpx.AsyncClient, gate: asyncio.Event
) -> None:
    key = {"Idempotency-Key": "slow"}
    early = await at_work.post(RECITAL, json=GO, headers=SHORT | key)
    assert (early.status_code, early.headers["Preference-Applied"]) == (202, "wait=1")
    job = early.headers["Location"]
    assert early.json()["status"] == "queued"
    again = await at_work.post(RECITAL, json=GO, headers=SHORT | key)
    assert (again.status_code, again.headers["Idempotent-Replay"]) == (202, "true")
    looked = await at_work.get(job, headers=SHORT)
    assert (looked.status_code, looked.json()["status"]) == (200, "running")
    assert looked.headers["Preference-Applied"] == "wait=1"
    waiting = [asyncio.create_task(at_work.get(job, headers=LONG)) for _ in range(3)]
    waiting.append(asyncio.create_task(at_work.post(RECITAL, json=GO, headers=LONG | key)))
    gate.set()
    for answer in await asyncio.gather(*waiting):
        assert (answer.status_code, answer.json()["status"]) == (200, "completed")


@pytest.mark.parametrize("said", ["", "wait", "wait=", "wait=x", "wait=-1", "respond-async", "return=minimal; wait=1"])
async def test_a_preference_that_is_none_is_passed_over(http: httpx.AsyncClient, said: str) -> None:
    answer = await http.post(RECITAL, json=GO, headers={"Prefer": said})
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


async def test_the_first_wait_counts_and_no_more_is_promised_than_is_kept(at_work: httpx.AsyncClient) -> None:
    for said, applied in (("respond-async, wait=20", "20"), ('WAIT="7", wait=9', "7"), ("wait=999999", "300")):
        answer = await at_work.post(RECITAL, json=GO, headers={"Prefer": said})
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, f"wait={applied}")
    separate = [("Prefer", "return=minimal"), ("Prefer", "wait=30")]
    answer = await at_work.post(RECITAL, json=GO, headers=separate)
    assert answer.headers["Preference-Applied"] == "wait=30"


async def test_all_who_wait_for_a_job_share_one_subscription_and_who_leaves_waits_no_more(
    r1: Servers, http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    job = (await http.post(RECITAL, json=GO)).headers["Location"]
    waiting = [asyncio.create_task(http.get(job, headers=LONG)) for _ in range(4)]
    await until_followed(r1, 1)
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)
    await until_followed(r1, 0)
    assert (await http.get(job)).json()["status"] == "queued"
    left = asyncio.create_task(http.post(RECITAL, json=GO, headers=LONG))
    await until_followed(r1, 1)
    left.cancel()
    await until_followed(r1, 0)
    assert await stored(journal_r1) == 2  # a job is not given up because nobody waits for it


async def test_a_wait_outlives_the_server_of_the_log(r1: Servers, http: httpx.AsyncClient) -> None:
    waiting = asyncio.create_task(http.post(RECITAL, json=GO, headers=LONG, timeout=50))
    await until_followed(r1, 1)
    await r1.kill()
    await r1.start()
    async with working(settings_for(r1), *STAGES):
        answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


async def test_a_job_that_is_still_as_the_client_knows_it_is_not_sent_again(
    at_work: httpx.AsyncClient, gate: asyncio.Event
) -> None:
    job = (await at_work.post(RECITAL, json=GO)).headers["Location"]
    async with asyncio.timeout(20):
        while (first := await at_work.get(job)).json()["stage"] != "recite" or not first.json()["attempts"]:
            pass
    tag = first.headers["ETag"]
    for said in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        same = await at_work.get(job, headers={"If-None-Match": said})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    gate.set()
    done = await at_work.get(job, headers={"If-None-Match": tag, **LONG})
    assert (done.status_code, done.json()["status"]) == (200, "completed")
    assert done.headers["ETag"] != tag
    assert (await at_work.get(job, headers={"If-None-Match": done.headers["ETag"], **LONG})).status_code == 304


async def test_the_validator_is_made_of_the_last_event_s_number_and_sequence(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    job = (await http.post(RECITAL, json=GO)).headers["Location"]
    last = await journal_r1.reader.last(LOCAL, job.rpartition("/")[2])
    assert last is not None
    assert (await http.get(job)).headers["ETag"] == f'W/"{last.event.n}.{last.seq}"'


async def test_the_log_of_a_job_is_what_is_stored_and_goes_on_after_any_line(
    at_work: httpx.AsyncClient, journal_r1: Journal
) -> None:
    done = await at_work.post(RECITAL, json=GO, headers=LONG)
    id = done.json()["id"]
    answer = await at_work.get(f"/v1/jobs/{id}/log")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    records = await journal_r1.reader.job(LOCAL, id)
    lines = answer.content.splitlines(keepends=True)
    told = [json.loads(line) for line in lines]
    assert [(t["sequence"], t["subject"]) for t in told] == [(r.seq, r.subject) for r in records]
    assert [parse(json.dumps(t["event"]).encode()) for t in told] == [r.event for r in records]
    assert all(record.data in line for record, line in zip(records, lines, strict=True))
    for at, one in enumerate(told):
        rest = await at_work.get(f"/v1/jobs/{id}/log", params={"after": one["sequence"]})
        assert rest.content.splitlines(keepends=True) == lines[at + 1 :]


async def test_a_log_that_there_is_not_is_refused(http: httpx.AsyncClient) -> None:
    for id in ("nothing", "a" * 26):
        assert (await http.get(f"/v1/jobs/{id}/log")).status_code == 404
    job = (await http.post(RECITAL, json=GO)).headers["Location"]
    for after in ("x", "-1", "1.5", "9" * 19, "٣"):
        refused = await http.get(f"{job}/log", params={"after": after})
        assert (refused.status_code, refused.json()["type"]) == (400, "urn:headrace:problem:bad-place")
