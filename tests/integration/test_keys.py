"""Whoever has no key comes no further; whoever has one sees what is its tenant's, and nothing else is there for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, AuthenticationError, NotFoundError
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route, WebSocketRoute

from actors.client import AsyncHeadrace, NotFound, Refused
from actors.contracts.api_key import id_of, new_api_key
from actors.contracts.errors import Failure
from actors.contracts.events import DeadLettered
from actors.contracts.messages import Packed
from actors.contracts.subjects import Address, job_id
from actors.contracts.tenant import token_of
from actors.http.session import COOKIE
from actors.ingress import ingress
from actors.journal.api_keys import ApiKeys
from actors.results import results
from actors.runtime.settings import Settings
from tests.callers import Keys, a_key_each, bearer, key_office
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.pipelines import TALKS, Anything
from tests.scribe import Scribe, an_origin
from tests.serving import EVENTS, listening, settings_for, until_ready

KEEP = "/v1/pipelines/keeper/jobs"
CHAT: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "Speak."}], "stream": True}
SOON_S = 20.0


@dataclass(frozen=True)
class Row:
    """How one route is asked, and what another tenant is answered that names acme's job (or response) in it."""

    other: int
    body: dict[str, Any] | None = None
    is_open: bool = False
    of: str = "job"
    query: str = ""


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""How a WebSocket is asked for. Source: RFC 6455, 1.3."""

HERE, GONE = Row(200), Row(404)

ROWS: dict[tuple[str, str], Row] = {
    ("POST", KEEP): Row(202, {"input": {"data": 1}}),
    ("POST", "/v1/pipelines/chat/jobs"): Row(422, {}),
    ("POST", "/v1/pipelines/talks/jobs"): Row(422, {}),
    ("POST", "/v1/pipelines/{pipeline}/jobs"): GONE,
    ("GET", "/v1/pipelines"): HERE,
    ("GET", "/v1/jobs"): HERE,
    ("GET", "/v1/jobs/{id}"): GONE,
    ("POST", "/v1/jobs/{id}/cancel"): GONE,
    ("GET", "/v1/jobs/{id}/log"): GONE,
    ("POST", "/v1/jobs/{id}/input"): Row(404, {"question": 1, "answer": 1}),
    ("GET", "/v1/events/{id}"): GONE,
    ("POST", "/v1/events/{id}/session"): GONE,
    ("GET", "/v1/events"): Row(404, query="jobs"),
    ("WS", "/v1/events/{id}/ws"): GONE,
    ("GET", "/v1/dead-letters"): HERE,
    ("GET", "/v1/dead-letters/{id}"): Row(404, of="letter"),
    ("POST", "/v1/dead-letters/{id}/redrive"): Row(404, of="letter"),
    ("POST", "/v1/dead-letters/{id}/discard"): Row(404, {"reason": "mine"}, of="letter"),
    ("GET", "/v1/webhooks"): HERE,
    ("POST", "/v1/webhooks"): Row(201, {"url": "https://hooks.example/"}),
    ("GET", "/v1/webhooks/secret"): HERE,
    ("POST", "/v1/webhooks/secret/rotate"): HERE,
    ("GET", "/v1/webhooks/{id}"): Row(404, of="webhook"),
    ("PATCH", "/v1/webhooks/{id}"): Row(404, {"disabled": True}, of="webhook"),
    ("DELETE", "/v1/webhooks/{id}"): Row(404, of="webhook"),
    ("POST", "/v1/webhooks/{id}/rotate"): Row(404, of="webhook"),
    ("POST", "/v1/webhooks/{id}/test"): Row(404, of="webhook"),
    ("GET", "/v1/webhooks/{id}/deliveries"): Row(404, of="webhook"),
    ("POST", "/v1/webhooks/{id}/deliveries/{delivery}/replay"): Row(404, of="webhook"),
    ("GET", "/v1/stages"): Row(403),
    ("GET", "/v1/models"): HERE,
    ("GET", "/v1/models/{model}"): GONE,
    ("POST", "/v1/responses"): Row(400, {}),
    ("GET", "/v1/responses/{id}"): Row(404, of="response"),
    ("DELETE", "/v1/responses/{id}"): Row(404, of="response"),
    ("GET", "/v1/responses/{id}/input_items"): Row(404, of="response"),
    ("POST", "/v1/responses/{id}/cancel"): Row(404, of="response"),
    ("POST", "/v1/chat/completions"): Row(400, {}),
    ("GET", "/openapi.json"): HERE,
    ("GET", "/docs"): HERE,
    ("GET", "/docs/oauth2-redirect"): HERE,
    ("GET", "/healthz"): Row(200, is_open=True),
    ("GET", "/readyz"): Row(200, is_open=True),
}


def closed(servers: Servers, **more: Any) -> Settings:
    return settings_for(servers, **more).model_copy(update={"pipelines": (*TALKS, "tests.pipelines:keeper")})


def routes_of(routes: list[BaseRoute], before: str = "") -> Iterator[tuple[str, str]]:
    """Every method and path, also those of applications within."""
    for route in routes:
        if isinstance(route, WebSocketRoute):
            yield "WS", before + route.path
            continue
        assert isinstance(route, Route), route
        if isinstance(route.app, Starlette):
            yield from routes_of(route.app.routes)
        else:
            yield from ((method, before + route.path) for method in route.methods or {"GET"} if method != "HEAD")


@dataclass(frozen=True)
class Mine:
    """What acme has: a job, a response, a dead letter, and a webhook with its secret."""

    job: str
    response: str
    letter: str
    webhook: str
    secrets: tuple[str, ...]

    @property
    def signs(self) -> tuple[str, ...]:
        """By what an answer could give any of it away."""
        return (self.job, self.letter, self.response, self.webhook, *self.secrets)

    def path(self, path: str, row: Row) -> str:
        named = {"job": self.job, "letter": self.letter, "response": self.response, "webhook": self.webhook}[row.of]
        place = path.format_map(Names(id=named, pipeline="none"))
        return f"{place}?{row.query}={named}" if row.query else place


class Names(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return "none"


@asynccontextmanager
async def of_acme(servers: Servers) -> AsyncIterator[tuple[httpx.AsyncClient, Keys, Mine, ApiKeys]]:
    """An installation in which acme has something of everything, and nobody else has anything."""
    async with listening(closed(servers)) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        await until_ready(http)
        async with key_office(servers) as office, opened(servers) as journal:
            keys = await a_key_each(office)
            for path in ("/v1/pipelines", f"{EVENTS}/none"):  # each process hears of the first key by itself
                await until(partial(http.get, path), 401)
            acme = bearer(keys.acme)
            job = (await http.post(KEEP, json={"input": {"data": 1}}, headers=acme)).json()["id"]
            asked = {"model": "chat", "input": "Speak.", "background": True}
            response = (await http.post("/v1/responses", json=asked, headers=acme)).json()["id"]
            hook = (await http.post("/v1/webhooks", json={"url": "https://a.example/"}, headers=acme)).json()
            own = (await http.get("/v1/webhooks/secret", headers=acme)).json()["secret"]
            of = Address("standard", token_of("acme"), job_id("acme", "dead"))
            letter = Scribe(journal.appender, of, origin=an_origin(pipeline="keeper"))
            await letter.hand_off("keep", Anything(data=1))
            await letter.write(
                DeadLettered,
                origin=letter.origin,
                stage="keep",
                reason="it failed",
                input=Packed.of(Anything(data=1)),
                errors=(Failure(type="RuntimeError", message="it broke"),),
                attempts=3,
                crashes=0,
                deliveries=3,
            )
            yield http, keys, Mine(job, response, of.job, hook["id"], (hook["secret"], own)), office


def test_every_route_has_a_row(r1: Servers) -> None:
    settings = closed(r1)
    api = ingress(settings)
    there = {*routes_of(api.routes), *routes_of(results(settings).routes, EVENTS)}
    there |= {(m.upper(), path) for path, methods in api.openapi()["paths"].items() for m in methods}
    assert {(method, path.replace(":path", "").rstrip("/")) for method, path in there} == set(ROWS)


async def test_no_route_answers_without_a_key_that_is_good_nor_says_anything_of_another_tenants_job(
    r1: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wrong = {"none": None, "wrong": new_api_key().text, "forged": "x", "name": "local"}
    async with of_acme(r1) as (http, keys, mine, _):
        tampered = keys.acme[:-1] + ("a" if keys.acme[-1] != "a" else "b")
        bad = {**wrong, "revoked": keys.revoked, "expired": keys.expired, "tampered": tampered}
        for (method, path), row in ROWS.items():
            place = mine.path(path, row)
            method, more = ("GET", UPGRADE) if method == "WS" else (method, {})
            for name, key in bad.items():
                answer = await http.request(method, place, json=row.body, headers=more | (bearer(key) if key else {}))
                said = f"{method} {path} with the key {name}: {answer.status_code} {answer.text}"
                if row.is_open:
                    assert answer.status_code == 200, said
                    continue
                assert answer.status_code == 401, said
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), said
                assert not any(sign in answer.text for sign in mine.signs), said
                if path.startswith(("/v1/models", "/v1/responses", "/v1/chat")):
                    assert answer.json()["error"]["code"] == "invalid_api_key", said
                else:
                    assert answer.headers["Content-Type"] == "application/problem+json", said
            answer = await http.request(method, place, json=row.body, headers=more | bearer(keys.rival))
            assert answer.status_code == row.other, f"{method} {path}: {answer.status_code} {answer.text}"
            if row.other in (200, 201):
                assert not any(sign in answer.text for sign in mine.signs), path
        # All of it is still acme's, as it was.
        acme = bearer(keys.acme)
        assert (await http.get(f"/v1/jobs/{mine.job}", headers=acme)).json()["status"] == "queued"
        assert (await http.get(f"/v1/responses/{mine.response}", headers=acme)).json()["status"] == "queued"
        [hook] = (await http.get("/v1/webhooks", headers=acme)).json()["webhooks"]
        assert (hook["id"], hook["disabled"], hook["old_secret_until"]) == (mine.webhook, None, None)
        assert (await http.get("/v1/webhooks/secret", headers=acme)).json()["secret"] in mine.secrets
        listed = (await http.get("/v1/dead-letters", headers=acme)).json()["dead_letters"]
        assert [(one["id"], one["review"]) for one in listed] == [(mine.letter, "open")]
        # And the operator sees it, works on it, and finds it under its own tenant.
        operator = bearer(keys.operator)
        assert (await http.get(f"/v1/jobs/{mine.job}", headers=operator)).json()["id"] == mine.job
        listed = (await http.get("/v1/dead-letters", headers=operator)).json()["dead_letters"]
        assert [(one["id"], one["tenant"]) for one in listed] == [(mine.letter, "acme")]
        assert (await http.get("/v1/stages", headers=operator)).status_code == 200
        again = await http.post(f"/v1/dead-letters/{mine.letter}/redrive", headers=operator)
        assert again.status_code == 202
        assert (await http.get(f"/v1/jobs/{again.json()['id']}", headers=acme)).status_code == 200
        assert (await http.get(f"/v1/jobs/{again.json()['id']}", headers=bearer(keys.rival))).status_code == 404
        for key in (keys.acme, keys.revoked):
            assert not any(key in record.getMessage() or key in str(vars(record)) for record in caplog.records)


async def test_one_key_of_idempotency_is_another_job_for_every_tenant(r1: Servers) -> None:
    async with of_acme(r1) as (http, keys, _, _):
        made = [
            await http.post(KEEP, json={"input": {"data": 1}}, headers={"Idempotency-Key": "k", **bearer(key)})
            for key in (keys.acme, keys.rival, keys.acme)
        ]
        assert [answer.status_code for answer in made] == [202, 202, 200]
        ids = [answer.json()["id"] for answer in made]
        assert ids == [job_id("acme", "k"), job_id(token_of("rival-9.1"), "k"), job_id("acme", "k")]


async def test_a_revoked_key_cuts_its_open_streams_and_no_others(r1: Servers) -> None:
    async with of_acme(r1) as (http, keys, mine, office):
        other = (await office.make("acme", now=datetime.now(UTC))).text
        streams = [
            ("GET", f"{EVENTS}/{mine.job}", None, keys.acme),
            ("GET", f"/v1/responses/{mine.response}?stream=true", None, keys.acme),
            ("POST", "/v1/chat/completions", CHAT, keys.acme),
        ]
        plain = {"model": "chat", "input": "Speak."}
        waits = asyncio.create_task(http.post("/v1/responses", json=plain, headers=bearer(keys.acme)))
        begun = [asyncio.Event() for _ in streams]

        async def read(begin: asyncio.Event, method: str, path: str, body: Any, key: str) -> None:
            async with http.stream(method, path, json=body, headers=bearer(key)) as answer:
                assert answer.status_code == 200
                async for _ in answer.aiter_bytes():
                    begin.set()

        cut = [asyncio.create_task(read(begin, *asked)) for begin, asked in zip(begun[:2], streams[:2], strict=True)]
        stays = asyncio.create_task(read(begun[2], "GET", f"{EVENTS}/{mine.job}", None, other))
        async with asyncio.timeout(SOON_S):
            await asyncio.gather(*(event.wait() for event in begun))
            await office.revoke(id_of(keys.acme) or "", now=datetime.now(UTC))
            await asyncio.gather(*cut)
            answer = await waits
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert not stays.done()
        assert (await http.get(f"/v1/jobs/{mine.job}", headers=bearer(keys.acme))).status_code == 401
        stays.cancel()
        await asyncio.wait({stays})


async def test_a_key_that_expires_cuts_what_it_opened(r1: Servers) -> None:
    async with of_acme(r1) as (http, _, mine, office):
        now = datetime.now(UTC)
        short = (await office.make("acme", now=now, expires=now + timedelta(seconds=2))).text
        async with asyncio.timeout(SOON_S):
            async with http.stream("GET", f"{EVENTS}/{mine.job}", headers=bearer(short)) as stream:
                assert stream.status_code == 200
                async for _ in stream.aiter_bytes():
                    pass
        assert (await http.get(f"/v1/jobs/{mine.job}", headers=bearer(short))).status_code == 401


async def test_a_browser_reads_the_events_of_one_job_with_a_cookie_that_its_page_cannot_see(r1: Servers) -> None:
    async with of_acme(r1) as (http, keys, mine, office):
        begun = await http.post(f"{EVENTS}/{mine.job}/session", headers=bearer(keys.acme))
        assert begun.status_code == 204
        cookie = begun.headers["Set-Cookie"]
        for part in ("HttpOnly", "SameSite=strict", f"Path={EVENTS}/{mine.job}", "Max-Age=3600"):
            assert part in cookie
        assert keys.acme not in cookie
        assert "Secure" not in cookie
        behind_tls = {**bearer(keys.acme), "X-Forwarded-Proto": "https"}
        assert "Secure" in (await http.post(f"{EVENTS}/{mine.job}/session", headers=behind_tls)).headers["Set-Cookie"]
        value = begun.cookies[COOKIE]

        async def status(path: str, value: str = value, method: str = "GET", **headers: str) -> int:
            http.cookies.clear()
            said = {"Cookie": f"{COOKIE}={value}", **headers}
            async with http.stream(method, path, headers=said) as answer:
                return answer.status_code

        events, own = f"{EVENTS}/{mine.job}", str(http.base_url).rstrip("/")
        assert await status(events) == 200
        assert await status(events, Origin=own) == 200
        assert await status(events, Origin="https://evil.example") == 403
        assert await status(events, Origin="null") == 403
        elsewhere = [f"{EVENTS}/{mine.letter}", f"/v1/jobs/{mine.job}", "/v1/pipelines", "/v1/dead-letters"]
        assert [await status(path) for path in elsewhere] == [401] * 4
        assert await status(f"{events}/session", method="POST") == 401
        cancels = f"{events}?cancel_on_disconnect=true"
        assert await status(cancels) == 403
        assert await status(cancels, method="HEAD", **bearer(keys.acme)) == 200
        assert await status(f"{events}?cancel_on_disconnect=false") == 200
        key, expires, signature = value.split(".")
        longer, unsigned = f"{key}.{int(expires) + 1}.{signature}", f"{key}.{expires}.{'0' * 64}"
        forged = [longer, unsigned, f"{key}.1.{signature}", "", "."]
        assert [await status(events, one) for one in forged] == [401] * 5
        async with asyncio.timeout(SOON_S):
            async with http.stream("GET", events, headers={"Cookie": f"{COOKIE}={value}"}) as stream:
                await office.revoke(key, now=datetime.now(UTC))
                async for _ in stream.aiter_bytes():
                    pass
        assert await status(events) == 401


async def test_pages_of_other_sites_are_let_in_by_a_list_only(r1: Servers) -> None:
    asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    named = closed(r1, cors_origins="https://app.example, https://b.example")
    async with listening(named) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        answer = await http.options(KEEP, headers={**asks, "Access-Control-Request-Headers": "authorization"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        answer = await http.get("/v1/pipelines", headers={"Origin": "https://b.example"})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "https://b.example")
        assert "Origin" in answer.headers["Vary"]
        evil = await http.get("/v1/pipelines", headers={"Origin": "https://evil.example"})
        assert evil.status_code == 403
        assert "Access-Control-Allow-Origin" not in evil.headers
    async with listening(closed(r1)) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        answer = await http.options(KEEP, headers=asks)
        assert "Access-Control-Allow-Origin" not in answer.headers


async def test_without_keys_it_is_open_on_loopback_to_its_own_names_only(r1: Servers) -> None:
    async with listening(closed(r1)) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        made = await http.post(KEEP, json={"input": {"data": 1}}, headers={"Authorization": "Bearer whatever"})
        assert (made.status_code, made.json()["id"]) == (202, job_id("local", made.headers["Idempotency-Key"]))
        names = {"localhost:1": 200, "[::1]": 200, "app.localhost": 200, "evil.example": 403, "127.0.0.1.evil": 403}
        for host, status in names.items():
            assert (await http.get("/v1/stages", headers={"Host": host})).status_code == status, host
        for origin, status in {"http://localhost:3000": 200, "https://evil.example": 403, "null": 403}.items():
            assert (await http.get("/v1/stages", headers={"Origin": origin})).status_code == status, origin
        assert (await http.post(f"{EVENTS}/{made.json()['id']}/session")).status_code == 204
        watching = http.stream("GET", f"{EVENTS}/{made.json()['id']}")
        async with asyncio.timeout(SOON_S), key_office(r1) as office, watching as stream:
            key = (await office.make("acme", now=datetime.now(UTC))).text
            async for _ in stream.aiter_bytes():  # the first key closes what was open
                pass
        await until(partial(http.get, "/v1/stages"), 401)
        hosts = {"Host": "headrace.example", **bearer(key)}
        assert (await http.get("/v1/pipelines", headers=hosts)).status_code == 200


async def test_elsewhere_than_on_loopback_nobody_is_let_in_without_a_key(r1: Servers) -> None:
    async with listening(closed(r1, host="0.0.0.0")) as url, httpx.AsyncClient(base_url=url) as http:
        await until_ready(http)
        answer = await http.get("/v1/pipelines")
        assert (answer.status_code, answer.json()["type"]) == (401, "urn:headrace:problem:invalid-api-key")
        assert "headrace keys create" in answer.json()["detail"]
        async with key_office(r1) as office:
            key = await office.make("acme", now=datetime.now(UTC))
        assert (await http.get("/v1/pipelines", headers=bearer(key.text))).status_code == 200


async def test_what_cannot_be_read_opens_nothing(r1: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async with of_acme(r1) as (http, keys, mine, _):
        await r1.kill()
        monkeypatch.setattr("actors.http.keyring.STALE_S", 0.0)
        paths = (f"/v1/jobs/{mine.job}", "/v1/pipelines", f"{EVENTS}/{mine.job}", "/v1/models")
        shown: list[dict[str, str]] = [bearer(keys.acme), bearer(new_api_key().text), {}]
        asked = [http.get(path, headers=headers) for path in paths for headers in shown]
        for answer in await asyncio.gather(*asked):
            assert answer.status_code == 503, (answer.url, answer.text)
            assert "Retry-After" in answer.headers
        assert (await http.get("/healthz")).status_code == 200
        monkeypatch.undo()
        await r1.start()
        await until_ready(http)
        await until(lambda: http.get(f"/v1/jobs/{mine.job}", headers=bearer(keys.acme)), 200)


async def test_the_clients_bring_their_key(r1: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    async with of_acme(r1) as (http, keys, mine, _):
        url = str(http.base_url)
        async with AsyncHeadrace(url, api_key=keys.acme) as client:
            assert (await client.job(mine.job)).id == mine.job
        async with AsyncHeadrace(url, api_key=keys.rival) as client:
            with pytest.raises(NotFound):
                await client.job(mine.job)
        monkeypatch.setenv("HEADRACE_API_KEY", keys.acme)
        async with AsyncHeadrace(url) as client:
            assert (await client.job(mine.job)).id == mine.job
        monkeypatch.delenv("HEADRACE_API_KEY")
        async with AsyncHeadrace(url) as client:
            with pytest.raises(Refused, match="headrace keys create"):
                await client.job(mine.job)
        for key, error in ((keys.rival, NotFoundError), (keys.revoked, AuthenticationError)):
            async with AsyncOpenAI(base_url=f"{url}v1" if url.endswith("/") else f"{url}/v1", api_key=key) as openai:
                with pytest.raises(error):
                    await openai.responses.retrieve(mine.response)


async def until(ask: Callable[[], Any], status: int) -> None:
    async with asyncio.timeout(SOON_S):
        while (await ask()).status_code != status:  # noqa: ASYNC110  # it is what others have, too
            await asyncio.sleep(0.02)
