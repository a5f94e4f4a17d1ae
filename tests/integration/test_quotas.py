"""A tenant that has what its limits allow is answered 429, at every replica of the ingress."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import httpx
from typer.testing import CliRunner

from actors.client import AsyncHeadrace
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import LOCAL, Subject
from actors.contracts.tenant import token_of
from actors.engines.scripted import tokens_of
from actors.journal import Journal
from actors.journal.api_keys import ApiKeys
from actors.journal.shelf import Shelf
from actors.runtime.settings import Settings
from actors.tenants import tenants
from tests.nats_servers import Servers
from tests.pipelines import PATHS, SPEECH
from tests.serving import listening, served, working

RECITAL = "/v1/pipelines/recital/jobs"
KEEPER = "/v1/pipelines/keeper/jobs"
STAGES = ("prepare", "recite", "applaud")
GO: dict[str, Any] = {"input": {"text": "go"}}
BACKSTOP_S = 40.0


def settings_of(servers: Servers) -> Settings:
    return Settings(nats_url=",".join(servers.urls), pipelines=PATHS, max_bytes=1 << 30)


async def limit(servers: Servers, **caps: int) -> None:
    async with Journal.open(servers.urls, "test") as journal:
        shelf = Shelf(journal.signals, LIMITS, Limits)
        await shelf.put(LOCAL, Limits.model_validate(caps), expect=(await shelf.get(LOCAL)).seq)


async def limited(http: httpx.AsyncClient, policy: str) -> None:
    """Post jobs of no account until what was set is known."""
    async with asyncio.timeout(BACKSTOP_S):
        while (await post(http, KEEPER)).headers.get("RateLimit-Policy") != policy:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def post(http: httpx.AsyncClient, path: str = RECITAL, key: str = "") -> httpx.Response:
    body = GO if path == RECITAL else {"input": {"data": 1}}
    return await http.post(path, json=body, headers={"Idempotency-Key": key} if key else {})


async def until(http: httpx.AsyncClient, status: int) -> httpx.Response:
    async with asyncio.timeout(BACKSTOP_S):
        while (answer := await post(http)).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return answer


def asked_back(answer: httpx.Response, name: str, most: int) -> None:
    assert answer.status_code == 429
    said = answer.json()
    assert said["type"] == "urn:headrace:problem:quota"
    assert (said["limit"], said["most"]) == (name, most)
    assert f"in {int(answer.headers['Retry-After'])} s" in said["detail"]
    assert f'"{name}";r=0' in answer.headers["RateLimit"]


async def test_a_limit_that_is_reached_is_429_and_says_what_is_left_on_the_way_there(r1: Servers) -> None:
    async with served(settings_of(r1)) as http:
        assert "RateLimit" not in (await post(http)).headers
        await limit(r1, jobs_per_minute=1_000, waiting=4)
        await limited(http, '"jobs";q=1000;w=60, "waiting";q=4')
        asked_back(await until(http, 429), "waiting", 4)
        await limit(r1, jobs_per_minute=1)
        await limited(http, '"jobs";q=1;w=60')
        asked_back(await until(http, 429), "jobs", 1)


async def test_what_waits_in_the_lane_itself_counts_for_a_tenant_with_a_share_too(r1: Servers) -> None:
    async with served(settings_of(r1)) as http:
        waiting = [await post(http) for _ in range(6)]
        await limit(r1, waiting=1_000, share=5)
        async with asyncio.timeout(BACKSTOP_S):
            while _left(waiting[-1]) > 1_000 - len(waiting):
                waiting.append(await post(http))


def _left(answer: httpx.Response) -> float:
    """How many more may wait, as an answer says."""
    return float(answer.headers.get("RateLimit", '"waiting";r=inf').rpartition("=")[2])


async def test_every_replica_knows_what_the_others_let_in_and_an_answered_key_is_not_counted(r1: Servers) -> None:
    settings = settings_of(r1)
    async with served(settings) as http, listening(settings) as url, httpx.AsyncClient(base_url=url) as other:
        known = await post(http, key="known")
        await limit(r1, running=6)
        await limited(http, '"running";q=6')
        await limited(other, '"running";q=6')
        asked_back(await until(http, 429), "running", 6)
        asked_back(await until(other, 429), "running", 6)
        replay = await post(other, key="known")
        assert (replay.status_code, replay.json()["id"]) == (200, known.json()["id"])
        async with working(settings, *STAGES, "keep"):
            accepted = await until(http, 202)
            assert accepted.headers["RateLimit-Policy"] == '"running";q=6'
            await until(other, 202)


async def test_tokens_that_were_used_are_limited_by_the_minute(r1: Servers) -> None:
    settings, used = settings_of(r1), len(tokens_of(SPEECH))
    async with served(settings) as http, working(settings, *STAGES):
        await limit(r1, tokens_per_minute=used)
        refused = await until(http, 429)
        asked_back(refused, "tokens", used)
        assert 1 <= int(refused.headers["Retry-After"]) <= 60


async def test_a_job_that_comes_with_a_tenants_key_waits_in_its_share_and_is_done(r1: Servers) -> None:
    settings = settings_of(r1)
    async with served(settings) as http, Journal.open(r1.urls, "test") as journal:
        keys = {name: await ApiKeys(journal.signals).make(name, now=datetime.now(UTC)) for name in ("acme", "b-co")}
        shares = {}
        async with working(settings, *STAGES), AsyncHeadrace(str(http.base_url), api_key=keys["b-co"].text) as client:
            for name, key in keys.items():
                headers = {"Authorization": f"Bearer {key.text}"}
                job = (await http.post(RECITAL, json=GO, headers=headers)).json()["id"]
                first, *_ = await journal.reader.job(token_of(name), job)
                shares[name] = Subject.parse(first.subject).share
            assert (await client.result(job))["text"] == SPEECH
    assert shares == {"acme": 1, "b-co": 2}


async def test_a_first_job_of_a_tenant_is_answered_in_time_though_nobody_can_make_its_queues(r1: Servers) -> None:
    async with served(settings_of(r1), patience=0.2) as http, Journal.open(r1.urls, "test") as journal:
        key = await ApiKeys(journal.signals).make("acme", now=datetime.now(UTC))
        headers = {"Authorization": f"Bearer {key.text}"}
        assert (await http.post(RECITAL, json=GO, headers=headers)).status_code == 202
        await r1.kill()
        answer = await http.post(RECITAL, json=GO | {"lane": "batch"}, headers=headers)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        await r1.start()


async def typed(servers: Servers, *args: str) -> tuple[int, str]:
    """What `headrace tenants` answers, and its exit status."""
    said = await asyncio.to_thread(CliRunner().invoke, tenants, [*args, "--nats-url", servers.url])
    return said.exit_code, said.output


async def test_what_a_tenant_may_have_is_set_and_listed_by_people(r1: Servers) -> None:
    assert await typed(r1, "list", "--json") == (0, "{}\n")
    status, said = await typed(r1, "set", "acme", "--weight", "3", "--running", "5", "--waiting", "1")
    assert (status, said.split()[-8:]) == (0, ["acme", "3", "-", "-", "1", "5", "-", "-"])
    assert (await typed(r1, "set", "acme", "--waiting", "0", "--tokens-per-minute", "9000", "--readers", "7"))[0] == 0
    status, said = await typed(r1, "list", "--json")
    assert json.loads(said) == {"acme": {"weight": 3.0, "running": 5, "tokens_per_minute": 9000, "readers": 7}}
    for wrong in (["acme"], ["Acme Inc.", "--weight", "1"], ["acme", "--weight", "0"], ["acme", "--share", "99"]):
        status, _ = await typed(r1, "set", *wrong)
        assert status != 0
    assert (await typed(r1, "set", "acme-corp.", "--weight", "2"))[0] == 0
    assert "acme-corp." in (await typed(r1, "list"))[1]
