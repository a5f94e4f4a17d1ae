"""What becomes of jobs is told to whoever asked for it: at least once, signed, and for as long as it takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, InvalidWebhookSignatureError
from standardwebhooks.webhooks import WebhookVerificationError
from typer.testing import CliRunner

from actors import endpoints, herald, postman, webhooks
from actors.cli import app
from actors.client import AsyncHeadrace
from actors.contracts.delivery import EXHAUSTED, SCHEDULE, Delivery
from actors.contracts.events import Cancelled, Completed, DeadLettered, HandOff, InputRequired, Record
from actors.contracts.messages import Packed
from actors.contracts.notice import RESPONSES, notice
from actors.contracts.subjects import LOCAL, new_key
from actors.contracts.webhook import Endpoint, JobHook, Secrets
from actors.journal import Journal, Reader, Unanswered, hooks, topology
from actors.journal.endpoints import MOST_ENDPOINTS, OF_JOBS, Endpoints
from actors.journal.hooks import STATUS, Hooks
from actors.journal.topology import AUDIT, HERALD, HOOKS, JOBS
from actors.postman import TO_AN_ENDPOINT
from actors.replies import Webhook
from tests.actions import watched_actions
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.pipelines import TALKS, Anything
from tests.receivers import BACKSTOP_S, LOOPBACK, carried, carried_elsewhere, receiving
from tests.scribe import Note, Scribe, an_origin, new_address
from tests.serving import served, settings_for, working
from tests.shown import block

AT_ONCE = tuple(0.0 for _ in SCHEDULE)
NEVER = (0.0, 86_400.0)


def now() -> datetime:
    return datetime.now(UTC)


def _the_same(at: datetime) -> datetime:
    return at


def an_endpoint(url: str, **more: Any) -> Endpoint:
    return Endpoint(**{"url": url, "secrets": Secrets.new(), "created": now(), **more})


class Desk:
    """What a test has beside the actor: endpoints, jobs that end, and the log of deliveries."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.endpoints = Endpoints(journal.signals)
        self.hooks = Hooks(journal.signals)

    async def endpoint(self, url: str, *, tenant: str = LOCAL, **more: Any) -> tuple[str, Endpoint]:
        made = an_endpoint(url, **more)
        id, _ = await self.endpoints.make(tenant, new_key(), made)
        return id, made

    async def job(self, tenant: str = LOCAL, **origin: Any) -> Scribe:
        made_of = an_origin().model_copy(update=origin)
        job = Scribe(self.journal.appender, new_address(tenant=tenant), origin=made_of)
        await job.hand_off("write")
        return job

    async def completed(self, tenant: str = LOCAL, **origin: Any) -> str:
        """The id of a job that has its answer."""
        job = await self.job(tenant, **origin)
        await job.write(Completed, origin=job.origin, answer=Packed.of(Note(text="done")))
        return job.address.job

    async def deliveries(self, endpoint: str, tenant: str = LOCAL) -> list[Delivery]:
        return [kept.delivery for kept in (await self.hooks.after(0, tenant=tenant, endpoint=endpoint))[0]]

    async def until(
        self, endpoint: str, wanted: Callable[[list[Delivery]], bool], tenant: str = LOCAL
    ) -> list[Delivery]:
        """The deliveries to an endpoint, once they are so."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                try:
                    if wanted(found := await self.deliveries(endpoint, tenant)):
                        return found
                except Unanswered:
                    await self.journal.wait_until_up()
                await asyncio.sleep(0.01)

    async def until_tried(self, endpoint: str, times: int) -> list[Delivery]:
        return await self.until(endpoint, lambda all: bool(all) and len(all[0].attempts) == times)

    async def until_behind(self, number: int) -> None:
        """Until so many outcomes have to be told."""
        async with asyncio.timeout(BACKSTOP_S):
            while await self.hooks.behind() != number:  # noqa: ASYNC110  # nobody says when
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have made or replayed, or done to an endpoint, is seen at once."""
    monkeypatch.setattr(postman, "LOOK_S", 0.05)


@pytest_asyncio.fixture
async def desk(r1: Servers) -> AsyncIterator[Desk]:
    async with opened(r1) as journal:
        yield Desk(journal)


async def test_an_outcome_is_told_once_and_signed_so_that_the_reference_library_verifies_it(
    r1: Servers, desk: Desk
) -> None:
    async with carried(r1), receiving() as receiver:
        id, endpoint = await desk.endpoint(receiver.url)
        job = await desk.completed(metadata={"order": "7"})
        [got] = await receiver.times(1)
        said = got.verified(endpoint.secrets.newest)
        assert said["type"] == "job.completed"
        assert datetime.fromisoformat(said["timestamp"]) <= now()
        assert said["data"] == {
            "id": job,
            "status": "completed",
            "pipeline": "analysis",
            "links": {"self": f"/v1/jobs/{job}", "events": f"/v1/events/{job}"},
            "metadata": {"order": "7"},
        }
        assert got.headers["content-type"] == "application/json"
        assert "." not in got.id
        [delivery] = await desk.until(id, lambda all: bool(all) and all[0].status == "delivered")
        assert (delivery.id, delivery.job, delivery.due) == (got.id, job, None)
        assert [(a.status, a.error) for a in delivery.attempts] == [(200, None)]
        flipped = got.body[:-3] + bytes([got.body[-3] ^ 1]) + got.body[-2:]
        for forged in (
            {"body": flipped},
            {"headers": {**got.headers, "webhook-id": f"{got.id[:-1]}0"}},
            {"headers": {**got.headers, "webhook-timestamp": str(int(got.headers["webhook-timestamp"]) + 1)}},
        ):
            with pytest.raises(WebhookVerificationError):
                type(got)(**{**vars(got), **forged}).verified(endpoint.secrets.newest)
        with pytest.raises(WebhookVerificationError):
            got.verified(Secrets.new().newest)
        shown: dict[str, Any] = {}
        exec(compile(block("from standardwebhooks"), "README.md", "exec"), shown)
        assert shown["received"](got.body, got.headers, endpoint.secrets.newest) == said
        assert shown["received"](got.body, got.headers, endpoint.secrets.newest) is None
    assert len(receiver.got) == 1


async def test_a_response_is_told_in_openais_words_which_their_client_verifies_and_parses(
    r1: Servers, desk: Desk
) -> None:
    async with carried(r1), receiving() as receiver:
        _, endpoint = await desk.endpoint(receiver.url, events=("response.*",))
        ends: list[tuple[str, type[Any], dict[str, Any]]] = [
            ("completed", Completed, {"answer": Packed(type="Reply", body={"text": "x", "finish_reason": "stop"})}),
            ("incomplete", Completed, {"answer": Packed(type="Reply", body={"text": "x", "finish_reason": "length"})}),
            ("cancelled", Cancelled, {}),
        ]
        jobs = {}
        for status, kind, more in ends:
            job = await desk.job(door=RESPONSES)
            await job.write(kind, origin=job.origin, **more)
            jobs[f"resp_{job.address.job}"] = f"response.{status}"
        await desk.completed()  # one of our own, which the filter holds back
        got = await receiver.times(3)
        told = [one.unwrapped(endpoint.secrets.newest) for one in got]
        assert {event.data.id: event.type for event in told} == jobs
        assert all(event.object == "event" and event.id.startswith("evt_") for event in told)
        assert {type(event).__name__ for event in told} == {
            "ResponseCompletedWebhookEvent",
            "ResponseIncompleteWebhookEvent",
            "ResponseCancelledWebhookEvent",
        }
        other = got[0].body.replace(b"completed", b"completee")
        with pytest.raises(InvalidWebhookSignatureError):
            type(got[0])(got[0].path, got[0].headers, other + b" ").unwrapped(endpoint.secrets.newest)


async def test_filters_tenants_and_the_time_of_its_making_say_what_an_endpoint_is_told(r1: Servers, desk: Desk) -> None:
    async with receiving() as receiver, receiving() as rival:
        old, _ = await desk.endpoint(f"{receiver.url}/late", created=now() + timedelta(hours=1))
        only, _ = await desk.endpoint(f"{receiver.url}/dead", events=("job.dead_lettered", "job.input_required"))
        off, _ = await desk.endpoint(f"{receiver.url}/off", disabled=now(), why="not now")
        await desk.endpoint(rival.url, tenant="rival")
        mine = await desk.completed()
        dead = await desk.job()
        await dead.write(
            DeadLettered,
            origin=dead.origin,
            stage="write",
            reason="it failed",
            input=Packed.of(Note()),
            attempts=3,
            crashes=0,
            deliveries=3,
        )
        asks = await desk.job()
        await asks.write(InputRequired, stage="write", claim="c", key="k", question="Which mill?", expects={})
        other = await desk.completed("rival")
        async with carried(r1):
            got = await receiver.times(2)
            assert [json.loads(one.body)["data"]["id"] for one in await rival.times(1)] == [other]
        told = {one["type"]: one["data"] for one in (json.loads(g.body) for g in got)}
        assert {g.path for g in got} == {"/hook/dead"}
        assert told["job.dead_lettered"]["id"] == dead.address.job
        assert told["job.input_required"]["id"] == asks.address.job
        assert told["job.input_required"]["question"] == 2
        assert [await desk.deliveries(each) for each in (old, off)] == [[], []]
        assert len(await desk.deliveries("*", tenant="*")) == 3
        assert len(await desk.deliveries(only)) == 2
        assert mine not in {data["id"] for data in told.values()}


async def test_a_question_is_told_though_the_replica_that_is_asked_lags(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lags(*_: object, **__: object) -> tuple[list[Record], bool]:
        return [], False

    async with receiving() as receiver:
        await desk.endpoint(receiver.url)
        job = await desk.job()
        await job.write(InputRequired, stage="write", claim="c", key="k", question="Which mill?", expects={})
        monkeypatch.setattr(Reader, "page", lags)
        async with carried(r1):
            [got] = await receiver.times(1)
    assert json.loads(got.body)["data"]["id"] == job.address.job


async def test_a_jobs_own_webhook_is_signed_with_its_tenants_own_secret(r1: Servers, desk: Desk) -> None:
    async with carried(r1), receiving() as receiver:
        job = await desk.completed(webhook=JobHook(url=receiver.url))
        await desk.completed(webhook=JobHook(url=receiver.url, events=("job.failed",)))
        [got] = await receiver.times(1)
        secrets = await desk.endpoints.signing(LOCAL)
        assert got.verified(secrets.newest)["data"]["id"] == job
        [delivery] = await desk.until(OF_JOBS, lambda all: bool(all) and all[0].status == "delivered")
        assert (delivery.job, delivery.url) == (job, receiver.url)


async def test_what_is_not_taken_is_tried_again_by_whoever_is_there_then_under_the_same_id(
    r1: Servers, desk: Desk
) -> None:
    async with receiving(500, 302, 429, 503, 200, headers="location: http://127.0.0.1:1/\r\n") as receiver:
        id, endpoint = await desk.endpoint(receiver.url)
        async with carried(r1, schedule=AT_ONCE):
            await desk.completed()
            await receiver.times(1)
        async with carried(r1, schedule=AT_ONCE):  # the first was killed; another goes on
            await receiver.times(2)
            await r1.kill()
            await r1.start()
            got = await receiver.times(5)
            [delivery] = await desk.until(id, lambda all: all[0].status == "delivered")
        assert {one.id for one in got} == {delivery.id}
        assert {one.body for one in got} == {got[0].body}
        for one in got:
            one.verified(endpoint.secrets.newest)
        assert {one.path for one in got} == {"/hook"}
        statuses = [attempt.status for attempt in delivery.attempts]
        assert statuses[-1] == 200
        assert set(statuses) <= {500, 302, 429, 503, 200}


async def test_an_attempt_that_died_with_its_actor_is_made_again_under_the_same_id(r1: Servers, desk: Desk) -> None:
    async with receiving() as receiver:
        receiver.opened.clear()
        id, endpoint = await desk.endpoint(receiver.url)
        await desk.completed()
        with carried_elsewhere(r1) as actor:
            await receiver.times(1)
            await desk.until_behind(0)
            actor.kill()
        receiver.opened.set()
        with carried_elsewhere(r1):
            first, second = await receiver.times(2)
            [delivery] = await desk.until(id, lambda all: all[0].status == "delivered")
        assert (first.id, first.body) == (second.id, second.body) == (delivery.id, delivery.body.encode())
        second.verified(endpoint.secrets.newest)
        assert [attempt.status for attempt in delivery.attempts] == [200]


async def test_a_pause_outlasts_actor_and_server_and_every_attempt_has_its_own_time(r1: Servers, desk: Desk) -> None:
    """The time that passes is the actor's, so nobody waits for it."""
    began = now()
    async with receiving(500) as receiver:
        id, _ = await desk.endpoint(receiver.url)
        job = await desk.completed()
        stamps = []
        passed = 0.0
        for number, pause in enumerate(SCHEDULE, 1):
            passed += pause * 1.2 + 1.0
            at = began + timedelta(seconds=passed)
            async with carried(r1, now=partial(_the_same, at)):
                got = await receiver.times(number)
                [delivery] = await desk.until_tried(id, number)
            stamps.append(int(got[-1].headers["webhook-timestamp"]))
            assert stamps[-1] == int(at.timestamp())
            if number == 5:
                await r1.kill()
                await r1.start()
        assert len(set(stamps)) == len(SCHEDULE)
        assert len({one.id for one in receiver.got}) == 1
        assert (delivery.status, delivery.reason, delivery.due) == ("failed", EXHAUSTED, None)
        assert delivery.job == job
        assert len(receiver.got) == len(SCHEDULE)


async def test_a_slow_receiver_holds_up_nobody_else(r1: Servers, desk: Desk) -> None:
    async with carried(r1), receiving() as slow, receiving() as quick:
        slow.opened.clear()
        await desk.endpoint(slow.url, events=("job.completed",))
        for _ in range(3 * TO_AN_ENDPOINT):
            await desk.completed()
        await slow.times(TO_AN_ENDPOINT)
        await desk.until_behind(0)
        await desk.endpoint(quick.url)
        told = await desk.completed()
        own = await desk.completed(webhook=JobHook(url=quick.url))
        got = [json.loads(one.body)["data"]["id"] for one in await quick.times(3)]
        assert sorted(got) == sorted([told, own, own])
        assert len(slow.got) == TO_AN_ENDPOINT  # no more at a time
        slow.opened.set()
        await slow.times(3 * TO_AN_ENDPOINT + 2)


async def test_a_receiver_that_does_not_answer_in_time_has_not_taken_it(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "WITHIN_S", 0.2)
    async with carried(r1, schedule=AT_ONCE), receiving() as receiver:
        receiver.opened.clear()
        id, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        await receiver.times(2)
        receiver.opened.set()
        [delivery] = await desk.until(id, lambda all: all[0].status == "delivered")
    assert "took longer than 0.2 s" in (delivery.attempts[0].error or "")
    assert delivery.attempts[-1].status == 200


async def test_an_actor_that_is_stopped_lets_what_is_under_way_end_and_begins_nothing_more(
    r1: Servers, desk: Desk
) -> None:
    async with receiving() as receiver:
        receiver.opened.clear()
        id, _ = await desk.endpoint(receiver.url)
        async with carried(r1) as actor:
            await desk.completed()
            await receiver.times(1)
            await actor.stop(BACKSTOP_S)
            await desk.completed()
            receiver.opened.set()
            await desk.until(id, lambda all: [one.status for one in all] == ["delivered"])
        assert len(receiver.got) == 1
        async with carried(r1):
            await desk.until(id, lambda all: [one.status for one in all] == ["delivered"] * 2)
        assert len(receiver.got) == 2


async def test_a_delivery_that_cannot_even_be_tried_keeps_no_other_from_being_carried(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postman, "ASIDE_S", 0.05)
    sign, broken = Secrets.sign, asyncio.Event()

    def breaks_once(secrets: Secrets, id: str, body: str, at: datetime) -> str:
        if broken.is_set():
            return sign(secrets, id, body, at)
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(Secrets, "sign", breaks_once)
    with watched_actions() as actions:
        async with receiving() as receiver, carried(r1):
            await desk.endpoint(receiver.url)
            jobs = {await desk.completed() for _ in range(3)}
            got = await receiver.times(3)
    assert actions.count("delivery_broken") == 1
    assert {json.loads(one.body)["data"]["id"] for one in got} == jobs


async def test_an_outcome_that_cannot_even_be_told_keeps_no_other_from_being_told(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(herald, "ASIDE_S", 0.05)
    broken = asyncio.Event()

    def breaks_once(*of: Any) -> Any:
        if broken.is_set():
            return notice(*of)
        broken.set()
        raise RuntimeError("a bug")

    monkeypatch.setattr(herald, "notice", breaks_once)
    async with receiving() as receiver:
        await desk.endpoint(receiver.url)
        jobs = {await desk.completed() for _ in range(3)}
        with watched_actions() as actions:
            async with carried(r1):
                got = await receiver.times(3)
                await desk.until_behind(0)
    assert actions.count("outcome_broken") == 1
    assert {json.loads(one.body)["data"]["id"] for one in got} == jobs


@pytest.mark.usefixtures("desk")
async def test_an_actor_that_can_read_nothing_any_more_ends_so_that_serve_makes_another(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Hooks, "after", breaks)
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(BACKSTOP_S):
            await webhooks.Webhooks(settings_for(r1)).run()
    assert raised.group_contains(RuntimeError, match="a bug")


async def test_what_is_not_public_is_not_asked_and_the_log_says_how_it_would_be(r1: Servers, desk: Desk) -> None:
    async with receiving() as canary, carried(r1, allow=""):
        id, _ = await desk.endpoint(canary.url)
        await desk.endpoint(f"http://localhost:{canary.port}/")
        await desk.completed(webhook=JobHook(url=f"http://[::ffff:127.0.0.1]:{canary.port}/"))
        for endpoint in (id, OF_JOBS):
            [delivery] = await desk.until(endpoint, lambda all: bool(all) and all[0].status == "failed")
            assert len(delivery.attempts) == 1
            assert "not public" in (delivery.attempts[0].error or "")
            assert "HEADRACE_EGRESS_ALLOW" in (delivery.reason or "")
            assert "127.0.0.1" not in f"{delivery.reason} {delivery.attempts[0].error}"  # nobody maps what is inside
        assert canary.connects == 0


async def test_an_endpoint_that_is_gone_is_disabled_and_nothing_more_is_sent_to_it(r1: Servers, desk: Desk) -> None:
    async with carried(r1), receiving(410) as receiver:
        id, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        [delivery] = await desk.until(id, lambda all: bool(all) and all[0].status == "failed")
        assert delivery.reason == "it answered 410 Gone"
        endpoint = await desk.endpoints.get(LOCAL, id)
        assert endpoint
        assert (bool(endpoint.disabled), endpoint.why) == (True, "it answered 410 Gone")
        await desk.completed()
        await desk.until_behind(0)
        other, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        await desk.until(other, lambda all: bool(all) and all[0].status == "failed")
        assert len(await desk.deliveries(id)) == 1
        assert len(receiver.got) == 2


async def test_an_endpoint_that_leads_elsewhere_by_now_is_not_disabled_by_who_is_gone(r1: Servers, desk: Desk) -> None:
    async with carried(r1, schedule=AT_ONCE), receiving(410) as gone, receiving() as there:
        gone.opened.clear()
        id, _ = await desk.endpoint(gone.url)
        await desk.completed()
        await gone.times(1)
        await desk.endpoints.change(LOCAL, id, lambda endpoint: endpoint.model_copy(update={"url": there.url}))
        gone.opened.set()
        [delivery] = await desk.until(id, lambda all: all[0].status != "pending")
        assert [attempt.status for attempt in delivery.attempts] == [410, 200]
        endpoint = await desk.endpoints.get(LOCAL, id)
        assert endpoint
        assert endpoint.disabled is None


async def test_a_webhook_that_no_version_should_have_taken_keeps_no_other_from_being_carried(
    r1: Servers, desk: Desk
) -> None:
    odd = ("https://a]/", "https://[::1/", "https://a.example:65536/")
    for at, url in enumerate(odd):
        id = f"msg_{'a' * 25}{'abc'[at]}"
        kept = Delivery(id=id, event="job.failed", body="{}", url=url, created=now(), due=now())
        assert await desk.hooks.make(LOCAL, OF_JOBS, kept)
    async with receiving() as receiver, carried(r1):
        for url in odd:
            await desk.completed(webhook=JobHook(url=url))
        job = await desk.completed(webhook=JobHook(url=receiver.url))
        [got] = await receiver.times(1)
        assert json.loads(got.body)["data"]["id"] == job
        await desk.until(OF_JOBS, lambda all: [one.status for one in all].count("failed") == 2 * len(odd))


async def test_what_waits_for_an_endpoint_ends_when_that_is_deleted_or_disabled(r1: Servers, desk: Desk) -> None:
    async with carried(r1, schedule=NEVER), receiving(500) as receiver:
        deleted, _ = await desk.endpoint(receiver.url)
        disabled, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        for id in (deleted, disabled):
            await desk.until(id, lambda all: bool(all) and len(all[0].attempts) == 1)
        await desk.endpoints.remove(LOCAL, deleted)
        change = {"disabled": now(), "why": "somebody disabled it"}
        await desk.endpoints.change(LOCAL, disabled, lambda endpoint: endpoint.model_copy(update=change))
        reasons = []
        for id in (deleted, disabled):
            [delivery] = await desk.until(id, lambda all: all[0].status == "failed")
            reasons.append(delivery.reason)
        assert reasons == ["the endpoint was deleted", "the endpoint is disabled: somebody disabled it"]
        assert len(receiver.got) == 2


async def test_after_a_rotation_both_secrets_verify_until_the_old_one_ends(r1: Servers, desk: Desk) -> None:
    async with receiving() as receiver:
        id, old = await desk.endpoint(receiver.url)
        rotated = await desk.endpoints.change(
            LOCAL, id, lambda one: one.model_copy(update={"secrets": one.secrets.rotated(now())})
        )
        assert rotated
        newest = rotated.secrets.newest
        assert newest != old.secrets.newest
        async with carried(r1):
            await desk.completed()
            [got] = await receiver.times(1)
        assert len(got.headers["webhook-signature"].split()) == 2
        for secret in (old.secrets.newest, newest):
            assert got.verified(secret)["type"] == "job.completed"
            assert got.verified(secret) == json.loads(got.body)
        later = now() + timedelta(hours=25)
        assert len(rotated.secrets.sign(got.id, "{}", later).split()) == 1


async def test_a_delivery_that_is_replayed_is_sent_again_under_its_id(r1: Servers, desk: Desk) -> None:
    async with carried(r1), receiving() as receiver:
        id, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        [delivery] = await desk.until(id, lambda all: bool(all) and all[0].status == "delivered")
        kept = await desk.hooks.get(LOCAL, id, delivery.id)
        assert kept
        await desk.hooks.change(kept, delivery.replayed(now()))
        first, second = await receiver.times(2)
        assert (first.id, first.body) == (second.id, second.body)
        [delivery] = await desk.until(id, lambda all: len(all[0].attempts) == 2)
        assert delivery.status == "delivered"


async def test_what_is_replayed_while_it_is_on_its_way_is_sent_once_more(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postman, "LOOK_S", BACKSTOP_S)  # it learns of the replay by what it stores, and not before
    async with carried(r1), receiving() as receiver:
        receiver.opened.clear()
        id, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        await receiver.times(1)
        [delivery] = await desk.deliveries(id)
        kept = await desk.hooks.get(LOCAL, id, delivery.id)
        assert kept
        await desk.hooks.change(kept, delivery.replayed(now()))
        receiver.opened.set()
        first, second = await receiver.times(2)
        assert (first.id, first.body) == (second.id, second.body)
        await desk.until(id, lambda all: all[0].status == "delivered")


async def test_an_outcome_that_is_given_out_twice_is_told_once(r1: Servers, desk: Desk) -> None:
    """What the server forgot was acknowledged comes again, and so does everything after its consumer was lost."""
    async with receiving() as receiver:
        id, _ = await desk.endpoint(receiver.url)
        await desk.completed()
        async with carried(r1):
            await desk.until(id, lambda all: bool(all) and all[0].status == "delivered")
        await desk.journal.signals.api(f"CONSUMER.DELETE.{AUDIT}.{HERALD}")
        async with carried(r1):
            last = await desk.completed()
            got = await receiver.times(2)
        assert [json.loads(one.body)["data"]["id"] for one in got][-1] == last
        assert len(await desk.deliveries(id)) == 2
        assert len(receiver.got) == 2


async def test_two_that_do_it_at_once_keep_one_delivery_of_each(servers: Servers) -> None:
    async with opened(servers) as journal, receiving() as receiver:
        desk = Desk(journal)
        id, endpoint = await desk.endpoint(receiver.url)
        async with carried(servers), carried(servers):
            jobs = {await desk.completed() for _ in range(10)}
            told = await desk.until(id, lambda all: len([one for one in all if one.status == "delivered"]) == len(jobs))
        assert {one.job for one in told} == jobs
        assert {one.id for one in told} == {one.id for one in receiver.got}
        for one in receiver.got:
            one.verified(endpoint.secrets.newest)


async def test_the_consumer_that_is_lost_while_it_works_is_made_again(r1: Servers, desk: Desk) -> None:
    async with receiving() as receiver, carried(r1):
        await desk.endpoint(receiver.url)
        await desk.completed()
        await receiver.times(1)
        await desk.journal.signals.api(f"CONSUMER.DELETE.{AUDIT}.{HERALD}")
        await desk.completed()
        assert len({one.id for one in await receiver.times(2)}) == 2


async def test_where_all_deliveries_were_deleted_new_ones_are_made_and_carried(r1: Servers, desk: Desk) -> None:
    async with receiving() as receiver, carried(r1):
        await desk.endpoint(receiver.url)
        await desk.completed()
        await receiver.times(1)
        await desk.journal.signals.api(f"STREAM.DELETE.{HOOKS}")
        await desk.completed()
        assert len({one.id for one in await receiver.times(2)}) == 2


async def test_outcomes_of_jobs_that_are_forgotten_are_told_all_the_same(r1: Servers, desk: Desk) -> None:
    async with receiving() as receiver:
        await desk.endpoint(receiver.url)
        job = await desk.completed()
        await desk.until_behind(1)
        await desk.journal.signals.api(f"STREAM.PURGE.{JOBS}")
        async with carried(r1):
            [got] = await receiver.times(1)
        assert json.loads(got.body)["data"]["id"] == job


async def test_where_there_is_no_room_for_deliveries_they_wait_and_none_is_lost(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "MOST_DELIVERIES", 2)
    with watched_actions() as actions:
        async with receiving() as receiver:
            id, _ = await desk.endpoint(receiver.url)
            jobs = {await desk.completed() for _ in range(5)}
            await desk.until_behind(5)
            async with carried(r1):
                await actions.next("deliveries_wait")
                for _ in range(2):
                    await desk.until(id, lambda all: [one.status for one in all] == ["delivered"] * 2)
                    assert await desk.hooks.prune(0) == 2
                got = await receiver.times(5)
                await desk.until_behind(0)
    assert {json.loads(one.body)["data"]["id"] for one in got} == jobs
    assert len(got) == 5


async def test_what_an_actor_that_died_had_no_room_for_is_told_by_the_next(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "MOST_DELIVERIES", 2)
    with watched_actions() as actions:
        async with receiving() as receiver:
            id, _ = await desk.endpoint(receiver.url)
            jobs = {await desk.completed() for _ in range(3)}
            await desk.until_behind(3)
            async with carried(r1):
                await actions.next("deliveries_wait")
                await desk.until(id, lambda all: [one.status for one in all] == ["delivered"] * 2)
            monkeypatch.setattr(topology, "MOST_DELIVERIES", 3)
            async with carried(r1):
                got = await receiver.times(3)
    assert {json.loads(one.body)["data"]["id"] for one in got} == jobs


async def test_a_tenant_whose_receivers_take_nothing_leaves_room_for_the_others(
    r1: Servers, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "MOST_DELIVERIES", 4)
    monkeypatch.setattr(postman, "MOST_OF_A_TENANT", 2)
    monkeypatch.setattr(herald, "CROWDED_S", 0.1)
    async with receiving(500) as broken, receiving() as receiver, carried(r1, schedule=NEVER):
        id, _ = await desk.endpoint(broken.url, tenant="rival")
        await desk.completed("rival")
        await desk.until(id, lambda all: len(all) == 1, "rival")
        await desk.completed("rival")
        await desk.until(id, lambda all: len(all) == 2, "rival")
        for _ in range(3):
            await desk.completed("rival")
        await desk.endpoint(receiver.url)
        for _ in range(2):
            await desk.completed()
        await receiver.times(2)
        assert len(await desk.deliveries(id, "rival")) == 2
        await desk.endpoints.remove("rival", id)
        await desk.until_behind(0)  # they were put off, and not lost


async def test_what_has_ended_is_forgotten_first_and_what_waits_never(r1: Servers, desk: Desk) -> None:
    kept = []
    for number in range(6):
        id = f"msg_{'a' * 25}{'abcdef'[number]}"
        delivery = Delivery(id=id, event="job.failed", body="{}", created=now(), due=now())
        made = await desk.hooks.make(LOCAL, OF_JOBS, delivery)
        assert made
        kept.append(await desk.hooks.change(made, delivery.ended("enough")) if number % 2 else made)
    assert await desk.hooks.make(LOCAL, OF_JOBS, kept[1].delivery) is None
    assert await desk.hooks.prune(5) == 1
    assert len(await desk.deliveries(OF_JOBS)) == 5
    assert await desk.hooks.prune(0) == 2
    assert {one.id for one in await desk.deliveries(OF_JOBS)} == {one.delivery.id for one in kept[::2]}


async def test_outcomes_that_are_nobodys_business_are_passed_over_by_the_batch(r1: Servers, desk: Desk) -> None:
    job = await desk.job()
    data = job.event(Completed, origin=job.origin, answer=Packed.of(Note())).encode()
    for _ in range(20):
        appends = [desk.journal.appender.append(new_address(), "job", "done", data, expect=0) for _ in range(50)]
        await asyncio.gather(*appends)
    with watched_actions() as actions:
        async with receiving() as receiver, carried(r1):
            await desk.completed(webhook=JobHook(url=receiver.url))
            await receiver.times(1)
            await desk.until_behind(0)
    assert await desk.hooks.count() == 1
    assert actions.count("deliveries_wait") == 0
    assert len(receiver.got) == 1


async def test_the_actor_waits_for_a_server_and_for_a_list_of_networks_that_can_be_read(r1: Servers) -> None:
    with watched_actions() as actions:
        async with carried(r1, allow="nonsense") as actor:
            await actions.next("egress_unusable")
            await actor.check()
            await actor.stop(0.0)
        async with carried(r1) as actor, AsyncExitStack() as stack:
            await actions.next("hooks_not_made")  # there is no log yet
            journal = await stack.enter_async_context(opened(r1))
            async with asyncio.timeout(BACKSTOP_S):
                while True:
                    try:
                        said = json.loads((await journal.signals.request(STATUS)).data)
                        break
                    except Unanswered:
                        await asyncio.sleep(0.01)
            assert said == {"waiting": 0, "has_room": True}
            await actor.stop(1.0)


@pytest_asyncio.fixture
async def http(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP API alone."""
    async with served(settings_for(r1)) as http:
        yield http


HOOKS_PATH = "/v1/webhooks"
KEEP = "/v1/pipelines/keeper/jobs"


@asynccontextmanager
async def installed(r1: Servers, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The HTTP API, a worker, and the actor."""
    settings = settings_for(r1, **{"egress_allow": LOOPBACK, **more})
    async with served(settings) as http, working(settings, "keep"), carried(r1):
        yield http


async def until_ended(http: httpx.AsyncClient, id: str, number: int = 1) -> list[dict[str, Any]]:
    """The deliveries of a webhook, once there are so many and each has ended."""
    async with asyncio.timeout(BACKSTOP_S):
        while True:
            found: list[dict[str, Any]] = (await http.get(f"{HOOKS_PATH}/{id}/deliveries")).json()["deliveries"]
            if len(found) == number and all(one["status"] != "pending" for one in found):
                return found
            await asyncio.sleep(0.01)


async def test_over_http_an_endpoint_is_made_tried_told_rotated_and_deleted(r1: Servers) -> None:
    async with installed(r1) as http, receiving() as receiver:
        made = await http.post(HOOKS_PATH, json={"url": receiver.url, "description": "books"})
        assert made.status_code == 201
        hook = made.json()
        here = made.headers["Location"]
        assert hook["secret"].startswith("whsec_")
        assert hook["events"] == ["job.*", "response.*"]
        shown = (await http.get(here)).json()
        assert shown == {name: value for name, value in hook.items() if name != "secret"}
        assert (await http.get(HOOKS_PATH)).json() == {"webhooks": [shown]}

        tried = await http.post(f"{here}/test")
        assert (tried.status_code, tried.json()["event"]) == (202, "webhook.test")
        [got] = await receiver.times(1)
        assert got.verified(hook["secret"])["data"] == {"endpoint": hook["id"]}

        assert (await http.post(KEEP, json={"input": {"data": 1}})).status_code == 202
        assert (await receiver.times(2))[1].verified(hook["secret"])["type"] == "job.completed"
        told = await until_ended(http, hook["id"], 2)
        assert {one["id"] for one in told} == {one.id for one in receiver.got}
        assert [[attempt["status"] for attempt in one["attempts"]] for one in told] == [[200], [200]]

        rotated = (await http.post(f"{here}/rotate")).json()
        again = await http.post(f"{here}/deliveries/{told[0]['id']}/replay")
        assert (again.status_code, again.json()["status"]) == (202, "pending")
        third = (await receiver.times(3))[2]
        assert third.id == told[0]["id"]
        for secret in (hook["secret"], rotated["secret"]):
            third.verified(secret)
        await until_ended(http, hook["id"], 2)

        changed = await http.patch(here, json={"events": ["response.*"], "disabled": True})
        assert (changed.json()["events"], changed.json()["why"]) == (["response.*"], "somebody disabled it")
        for path in (f"{here}/test", f"{here}/deliveries/{told[0]['id']}/replay"):
            refused = await http.post(path)
            assert (refused.status_code, refused.json()["type"]) == (409, "urn:headrace:problem:disabled")
        assert (await http.patch(here, json={"disabled": False})).json()["disabled"] is None

        assert (await http.delete(here)).json()["id"] == hook["id"]
        assert [(await http.request(*asked)).status_code for asked in (("GET", here), ("DELETE", here))] == [404, 404]
        stages = (await http.get("/v1/stages")).json()
        assert stages["webhooks"] == {"behind": 0, "waiting": 0}


async def test_over_http_the_same_key_makes_one_endpoint_and_shows_its_secret_again(http: httpx.AsyncClient) -> None:
    async def make(key: str, url: str) -> httpx.Response:
        return await http.post(HOOKS_PATH, json={"url": url}, headers={"Idempotency-Key": key})

    first, again = await make("a", "https://mill.example/hook"), await make("a", "https://mill.example/hook")
    assert (first.status_code, again.status_code, again.headers["Idempotent-Replay"]) == (201, 200, "true")
    assert (again.json(), again.headers["Location"]) == (first.json(), first.headers["Location"])
    here = first.headers["Location"]
    assert (await http.patch(here, json={"description": "books"})).status_code == 200
    changed = await make("a", "https://mill.example/hook")
    assert (changed.status_code, changed.json()["description"]) == (200, "books")
    other = await make("a", "https://weir.example/hook")
    assert (other.status_code, other.json()["type"]) == (422, "urn:headrace:problem:key-reused")
    assert (await make("b", "https://mill.example/hook")).status_code == 201
    assert len((await http.get(HOOKS_PATH)).json()["webhooks"]) == 2
    assert (await http.delete(here)).status_code == 200
    anew = await make("a", "https://mill.example/hook")
    assert (anew.status_code, anew.headers["Location"]) == (201, here)
    assert anew.json()["secret"] != first.json()["secret"]


async def test_over_http_an_endpoint_that_takes_nothing_is_not_tried_without_end(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postman, "MOST_OF_A_TENANT", 1)
    async with receiving(500) as receiver:
        async with installed(r1) as http:
            here = (await http.post(HOOKS_PATH, json={"url": receiver.url})).headers["Location"]
            assert (await http.post(f"{here}/test")).status_code == 202
            await receiver.times(1)
            with monkeypatch.context() as slow:
                slow.setattr(hooks, "SAID_S", BACKSTOP_S)
                refused = await http.post(f"{here}/test")
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
            assert "disable the webhooks that take none" in refused.json()["detail"]
        async with served(settings_for(r1, egress_allow=LOOPBACK)) as http:  # where nobody carries them, nobody knows
            assert (await http.post(f"{here}/test")).status_code == 202


async def test_over_http_a_job_names_its_own_webhook(r1: Servers) -> None:
    async with installed(r1) as http, receiving() as receiver:
        body = {"input": {"data": 1}, "webhook": {"url": receiver.url, "events": ["job.completed"]}}
        headers = {"Idempotency-Key": "k"}
        job = (await http.post(KEEP, json=body, headers=headers)).json()["id"]
        assert (await http.post(KEEP, json=body, headers=headers)).json()["id"] == job
        other = {**body, "webhook": {"url": receiver.url}}
        assert (await http.post(KEEP, json=other, headers=headers)).json()["type"].endswith("key-reused")
        secret = (await http.get(f"{HOOKS_PATH}/secret")).json()["secret"]
        [got] = await receiver.times(1)
        assert got.verified(secret)["data"]["id"] == job
        [delivery] = await until_ended(http, "jobs")
        assert (delivery["job"], delivery["url"]) == (job, receiver.url)
        rotated = (await http.post(f"{HOOKS_PATH}/secret/rotate")).json()["secret"]
        await http.post(f"{HOOKS_PATH}/jobs/deliveries/{delivery['id']}/replay")
        second = (await receiver.times(2))[1]
        assert second.id == got.id
        for one in (secret, rotated):
            second.verified(one)


async def test_over_http_what_no_endpoint_can_be_is_refused_by_name(http: httpx.AsyncClient) -> None:
    too_long = "https://a.example/" + "a" * 2_048
    odd = ("https://a]/", "https://a.example:65536/")
    for url in ("http://a.example/", "ftp://a.example/", "https://name:word@a.example/", "https://", too_long, *odd):
        answer = await http.post(HOOKS_PATH, json={"url": url})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/url"), url
        answer = await http.post(KEEP, json={"input": {"data": 1}, "webhook": {"url": url}})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/webhook/url"), url
    wishes: list[tuple[dict[str, Any], str]] = [
        ({"events": ["job.done"]}, "#/events/0"),
        ({"events": []}, "#/events"),
        ({"secret": "x"}, "#/secret"),
    ]
    for wish, pointer in wishes:
        answer = await http.post(HOOKS_PATH, json={"url": "https://a.example/", **wish})
        assert answer.status_code == 422
        assert all(error["pointer"].startswith(pointer) for error in answer.json()["errors"]), answer.text
    assert (await http.get(HOOKS_PATH)).json() == {"webhooks": []}


async def test_a_dead_letter_that_is_redriven_keeps_its_webhook(http: httpx.AsyncClient, r1: Servers) -> None:
    async with opened(r1) as journal:
        hook, desk = JobHook(url="https://a.example/"), Desk(journal)
        dead = await desk.job(pipeline="keeper", webhook=hook, door=RESPONSES)
        gave_up = {"stage": "keep", "reason": "it failed", "attempts": 3, "crashes": 0, "deliveries": 3}
        await dead.write(DeadLettered, origin=dead.origin, input=Packed.of(Anything(data=1)), **gave_up)
        job = (await http.post(f"/v1/dead-letters/{dead.address.job}/redrive")).json()["id"]
        [first, *_] = [record.event for record in await journal.reader.job(LOCAL, job)]
        assert isinstance(first, HandOff)
        assert (first.origin.webhook, first.origin.door) == (hook, RESPONSES)


async def test_over_http_a_tenant_has_so_many_endpoints_at_most(http: httpx.AsyncClient) -> None:
    answers = [await http.post(HOOKS_PATH, json={"url": f"https://{n}.example/"}) for n in range(MOST_ENDPOINTS + 1)]
    assert [answer.status_code for answer in answers] == [201] * MOST_ENDPOINTS + [409]
    assert "Delete one" in answers[-1].json()["detail"]


async def test_over_http_deliveries_come_by_the_page_and_by_their_status(
    http: httpx.AsyncClient, r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = (await http.post(HOOKS_PATH, json={"url": "https://a.example/"})).json()["id"]
    made = [(await http.post(f"{HOOKS_PATH}/{id}/test")).json()["id"] for _ in range(5)]
    async with opened(r1) as journal:
        hooks = Hooks(journal.signals)
        for name in made[:2]:
            kept = await hooks.get(LOCAL, id, name)
            assert kept
            await hooks.change(kept, kept.delivery.ended("enough"))
    seen, cursor, place = [], "", f"{HOOKS_PATH}/{id}/deliveries"
    while cursor is not None:
        page = (await http.get(place, params={"limit": "2", **({"cursor": cursor} if cursor else {})})).json()
        seen += [one["id"] for one in page["deliveries"]]
        cursor = page["next"]
    assert seen == [*made[2:], *made[:2]]
    failed = (await http.get(place, params={"status": "failed"})).json()
    assert [one["id"] for one in failed["deliveries"]] == made[:2]
    monkeypatch.setattr(endpoints, "MOST_LOOKS", 1)
    short = (await http.get(place, params={"status": "delivered"})).json()
    assert short["deliveries"] == []
    assert (await http.get(place, params={"status": "delivered", "cursor": short["next"]})).json()["next"] is None
    for query in ({"status": "lost"}, {"limit": "0"}, {"cursor": "x"}):
        assert (await http.get(place, params=query)).status_code == 400
    for path in (f"{place}/msg_{'a' * 26}/replay", f"{place}/nothing/replay", f"{HOOKS_PATH}/*/deliveries/x/replay"):
        assert (await http.post(path)).status_code == 404
    assert (await http.get(f"{HOOKS_PATH}/*/deliveries")).status_code == 404


async def test_on_the_command_line_a_webhook_is_made_tried_replayed_rotated_and_deleted(r1: Servers) -> None:
    async with installed(r1) as http, receiving() as receiver:

        async def run(*args: str) -> tuple[str, str]:
            said = await asyncio.to_thread(CliRunner().invoke, app, ["webhooks", *args, "--url", str(http.base_url)])
            assert said.exit_code == 0, said.output
            return said.stdout.strip(), said.stderr.strip()

        assert await run("list") == ("", "there are no webhooks")
        secret, told = await run("create", receiver.url, "--event", "job.failed", "--description", "books")
        id = told.split()[1].rstrip(";")
        listed, _ = await run("list")
        for word in (id, receiver.url, "job.failed", "enabled", "books"):
            assert word in listed
        assert secret not in listed
        delivery, _ = await run("test", id)
        [got] = await receiver.times(1)
        got.verified(secret)
        await until_ended(http, id)
        shown, _ = await run("deliveries", id)
        for word in (delivery, "webhook.test", "delivered", "200"):
            assert word in shown
        assert (await run("deliveries", id, "--status", "failed"))[1] == "no deliveries fit"
        newest, _ = await run("rotate", id)
        await run("replay", id, delivery)
        again = (await receiver.times(2))[1]
        for one in (secret, newest):
            again.verified(one)
        await http.patch(f"{HOOKS_PATH}/{id}", json={"disabled": True})
        assert "disabled: somebody disabled it" in (await run("list"))[0]
        await run("enable", id)
        assert json.loads((await run("list", "--json"))[0])[0]["disabled"] is None
        own = [(await run(*args))[0] for args in (["secret"], ["rotate", "jobs"], ["secret"])]
        assert own[0] != own[1] == own[2]
        assert json.loads((await run("secret", "--json"))[0])["old_secret_until"]
        assert "is deleted" in (await run("delete", id))[1]


async def test_the_client_submits_with_a_webhook_and_the_openai_client_unwraps_what_a_response_is_told(
    r1: Servers,
) -> None:
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(receiving())
        paths = ("tests.pipelines:keeper", *TALKS)
        settings = settings_for(r1, egress_allow=LOOPBACK).model_copy(update={"pipelines": paths})
        http = await stack.enter_async_context(served(settings))
        await stack.enter_async_context(working(settings, "keep", "talk"))
        await stack.enter_async_context(carried(r1))
        client = await stack.enter_async_context(AsyncHeadrace(str(http.base_url)))
        hook = await client.create_webhook(receiver.url, events=["response.completed"])
        assert await client.webhooks() == (Webhook.model_validate(hook.model_dump(exclude={"secret"})),)
        asked = AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none")
        response = await asked.responses.create(model="chat", input="Speak.", background=True)
        [got] = await receiver.times(1)
        event = got.unwrapped(hook.secret)
        assert (event.type, event.data.id) == ("response.completed", response.id)
        assert (await asked.responses.retrieve(event.data.id)).status == "completed"
        await client.change_webhook(hook.id, events=["job.failed"])
        said = ["submit", "keeper", '{"data": 1}', "--webhook", receiver.url, "--url", str(http.base_url)]
        submitted = await asyncio.to_thread(CliRunner().invoke, app, said)
        job = await client.submit("keeper", {"data": 1}, webhook={"url": receiver.url, "events": ["job.failed"]})
        assert submitted.stdout.strip() not in ("", job.id)
        second = (await receiver.times(2))[1]
        assert second.verified((await client.webhook_secret()).secret)["data"]["id"] == submitted.stdout.strip()
        await asked.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Speak."}])
        assert [one.event async for one in client.deliveries(hook.id)] == ["response.completed"]
        await client.delete_webhook(hook.id)
