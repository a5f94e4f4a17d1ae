"""Overload is said early, in seconds: what was accepted is done, and the rest is asked to come back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from actors.client import AsyncHeadrace
from actors.contracts.events import DeadLettered
from actors.contracts.messages import Packed
from actors.http.drain import LONGEST_S, STANDSTILL_S
from actors.journal import Journal
from actors.journal.room import size
from actors.runtime.settings import Settings
from tests.nats_servers import Servers
from tests.pipelines import PATHS, SPEECH, Anything, reciter
from tests.scribe import Scribe, an_origin
from tests.serving import served, working
from tests.ticking import ticking

RECITAL = "/v1/pipelines/recital/jobs"
KEEPER = "/v1/pipelines/keeper/jobs"
STAGES = ("prepare", "recite", "applaud")
BIG = "x" * 100_000
LEAST = 16 << 20
"""The smallest log that the settings allow, in bytes."""

GO: dict[str, Any] = {"input": {"text": "go"}}


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """While it is not set, the engine says nothing."""
    reciter.gate = asyncio.Event()
    yield reciter.gate
    reciter.gate = None


def settings_of(servers: Servers, **more: Any) -> Settings:
    return Settings(nats_url=",".join(servers.urls), pipelines=PATHS, **more)


async def post_until(
    http: httpx.AsyncClient, path: str, status: int, body: dict[str, Any], key: str = ""
) -> tuple[list[str], httpx.Response]:
    """Post until the answer is this one; the jobs that were accepted before, and that answer."""
    accepted: list[str] = []
    async with asyncio.timeout(40):
        while True:
            answer = await http.post(path, json=body, headers={"Idempotency-Key": key} if key else {})
            if answer.status_code == status:
                return accepted, answer
            if answer.status_code == 202:
                accepted.append(answer.json()["id"])


def asked_back(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """A problem that says when to come back, in whole seconds, and what to do."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert 1 <= int(answer.headers["Retry-After"]) <= LONGEST_S
    said: dict[str, Any] = answer.json()
    assert said["type"] == f"urn:headrace:problem:{kind}"
    assert f"in {answer.headers['Retry-After']} s" in said["detail"]
    return said


@pytest.mark.timeout(120)
async def test_a_log_that_fills_up_takes_no_new_job_finishes_all_it_took_and_takes_new_ones_again(
    r1: Servers, gate: asyncio.Event
) -> None:
    settings = settings_of(r1, max_bytes=LEAST)
    keyed = {"Idempotency-Key": "known"}
    async with served(settings) as http, working(settings, *STAGES, "keep"), Journal.open(r1.urls, "test") as journal:
        client = AsyncHeadrace(str(http.base_url))
        known = (await http.post(RECITAL, json=GO, headers=keyed)).json()["id"]
        runs = [known, *[(await http.post(RECITAL, json=GO)).json()["id"] for _ in range(4)]]
        accepted: list[str] = []
        while (taken := (await size(journal))[0]) < 0.9 * LEAST:
            more, full = await post_until(http, KEEPER, 503, {"input": {"data": BIG}})
            asked_back(full, 503, "full")
            accepted += more
        assert taken < 0.97 * LEAST
        late, full = await post_until(http, RECITAL, 503, GO)  # what was seen last may be a moment old
        asked_back(full, 503, "full")

        replay = await http.post(RECITAL, json=GO, headers=keyed)
        assert (replay.status_code, replay.json()["id"]) == (200, known)
        cancelled = await http.post(f"/v1/jobs/{runs.pop()}/cancel")
        assert cancelled.status_code in (200, 202)

        gate.set()
        assert [(await client.result(job))["text"] for job in runs] == [SPEECH] * 4
        assert [len((await client.result(job))["data"]) for job in accepted] == [len(BIG)] * len(accepted)
        last, full = await post_until(http, RECITAL, 503, GO)
        asked_back(full, 503, "full")

        async with ticking(settings):
            _, again = await post_until(http, RECITAL, 202, GO)
            for job in (*late, *last, again.json()["id"]):
                assert (await client.result(job))["text"] == SPEECH
        await client.aclose()


@pytest.mark.timeout(120)
async def test_a_backlog_over_its_bound_is_429_until_the_stage_has_caught_up(r1: Servers, gate: asyncio.Event) -> None:
    settings = settings_of(r1, max_backlog=5)
    async with served(settings) as http, AsyncHeadrace(str(http.base_url)) as client:
        accepted, many = await post_until(http, RECITAL, 429, GO)
        said = asked_back(many, 429, "backlog")
        assert said["stage"] == "prepare"
        assert said["waiting"] >= 5
        assert len(accepted) >= 5
        room = (await http.get("/v1/stages")).json()["room"]
        assert (room["jobs"], room["max_jobs"], room["dead_letters"]) == (len(accepted), 200_000, 0)
        assert 0 < room["bytes"] < room["max_bytes"]
        keep = await http.post(KEEPER, json={"input": {"data": 1}})
        first = await http.post(RECITAL, json={**GO, "lane": "interactive"})
        assert (keep.status_code, first.status_code) == (202, 202)
        asked_back(await http.post(RECITAL, json={**GO, "lane": "batch"}), 429, "backlog")
        gate.set()
        async with working(settings, *STAGES):
            _, again = await post_until(http, RECITAL, 202, GO)
            for job in (*accepted, first.json()["id"], again.json()["id"]):
                assert (await client.result(job))["text"] == SPEECH


async def test_a_job_whose_key_is_known_is_answered_over_a_full_backlog_and_can_be_cancelled(r1: Servers) -> None:
    async with served(settings_of(r1, max_backlog=1)) as http:
        headers = {"Idempotency-Key": "known"}
        known = (await http.post(RECITAL, json=GO, headers=headers)).json()["id"]
        await post_until(http, RECITAL, 429, GO)
        replay = await http.post(RECITAL, json=GO, headers=headers)
        assert (replay.status_code, replay.json()["id"]) == (200, known)
        assert replay.headers["Idempotent-Replay"] == "true"
        other = await http.post(RECITAL, json={"input": {"text": "other"}}, headers=headers)
        assert other.status_code == 422
        assert (await http.post(RECITAL, json={"input": {"text": 5}})).status_code == 422
        assert (await http.post(f"/v1/jobs/{known}/cancel")).json()["status"] == "cancelled"


async def test_what_people_do_about_dead_letters_is_not_held_back(r1: Servers) -> None:
    async with served(settings_of(r1, max_backlog=1)) as http, Journal.open(r1.urls, "test") as journal:
        letters = []
        for _ in range(2):
            job = Scribe(journal.appender, origin=an_origin(pipeline="keeper"))
            await job.hand_off("past", Anything(data=1))
            given = {"stage": "keep", "reason": "it failed", "input": Packed.of(Anything(data=1))}
            await job.write(DeadLettered, origin=job.origin, **given, attempts=3, crashes=0, deliveries=3)
            letters.append(f"/v1/dead-letters/{job.address.job}")
        await post_until(http, KEEPER, 429, {"input": {"data": 1}})
        assert (await http.post(f"{letters[0]}/redrive", json={})).status_code == 202
        assert (await http.post(f"{letters[1]}/discard", json={"reason": "a test"})).status_code == 200


@pytest.mark.timeout(120)
async def test_the_client_waits_as_long_as_it_is_asked_to_and_its_job_is_taken_once_there_is_room(r1: Servers) -> None:
    settings = settings_of(r1, max_backlog=2)
    waits: list[float] = []
    async with served(settings) as http:
        _, refused = await post_until(http, RECITAL, 429, GO)

        async def wait(seconds: float) -> None:
            waits.append(seconds)
            async with working(settings, *STAGES):  # the stage catches up meanwhile
                await post_until(http, RECITAL, 202, GO)

        async with AsyncHeadrace(str(http.base_url), sleep=wait) as client:
            accepted = await client.submit("recital", {"text": "go"}, key="patient")
            assert (await client.submit("recital", {"text": "go"}, key="patient")).id == accepted.id
    assert waits[0] >= int(refused.headers["Retry-After"]) == STANDSTILL_S
