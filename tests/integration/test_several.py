"""The result actor, on a real server: several jobs on one stream, and one on a WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse
from nats.aio.subscription import Subscription
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from actors import replies
from actors.client import AsyncHeadrace
from actors.contracts.events import Completed, Delta, StepStarted
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.messages import Packed
from actors.contracts.subjects import LOCAL
from actors.forgetting import forget_job
from actors.http.places import BETWEEN
from actors.journal import Journal, Unanswered
from actors.journal.braid import braided
from actors.journal.connection import OnMessage
from actors.journal.follow import Follower, Place
from actors.journal.shelf import Shelf
from actors.results import MOST_JOBS
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, reciter
from tests.scribe import Note, Scribe
from tests.serving import EVENTS, hear, served, settings_for, working

STAGES = ("prepare", "recite", "applaud")


@pytest.fixture
async def http(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(r1)) as http:
        yield http


@pytest.fixture
def slow() -> Iterator[None]:
    """The engine takes its time, so that jobs run beside each other."""
    reciter.token_s = 0.02
    yield
    reciter.token_s = 0.0


async def read(http: httpx.AsyncClient, jobs: list[str], *, last: str = "", most: int = 10**6) -> list[ServerSentEvent]:
    """What comes on one stream, to its end or until there is enough."""
    found: list[ServerSentEvent] = []
    headers = {"Last-Event-ID": last} if last else {}
    async with aconnect_sse(http, "GET", EVENTS, params={"jobs": ",".join(jobs)}, headers=headers) as source:
        if source.response.status_code == 204:
            return []
        async for event in source.aiter_sse():
            if event.event != "message":
                found.append(event)
            if len(found) == most:
                break
    return found


def of(events: list[ServerSentEvent], job: str) -> list[dict[str, Any]]:
    told = [event.json() for event in events]
    return [one for one in told if one["job"] == job]


async def recitals(http: httpx.AsyncClient, number: int) -> list[str]:
    answers = [await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": "go"}}) for _ in range(number)]
    return [answer.json()["id"] for answer in answers]


async def done(scribe: Scribe) -> str:
    """A job with three events."""
    await scribe.hand_off("recite")
    await scribe.write(StepStarted, stage="recite", attempt=1, claim="c", worker="w", ack="a")
    await scribe.write(Completed, origin=scribe.origin, answer=Packed.of(Note(text="done")))
    return scribe.address.job


@pytest.mark.usefixtures("slow")
async def test_a_stream_of_several_jobs_has_every_event_of_each_in_order_and_ends_with_the_last_outcome(
    r1: Servers, http: httpx.AsyncClient
) -> None:
    jobs = await recitals(http, 3)
    async with working(settings_for(r1), *STAGES), asyncio.timeout(30):
        events = await read(http, jobs)
    for job in jobs:
        alone = (await hear(http, job)).events
        assert "".join(one.get("text", "") for one in of(events, job)) == SPEECH
        assert [one["n"] for one in of(events, job)][-1] == alone[-1].n
        assert [n for one in of(events, job) if (n := one["n"])] == sorted({one["n"] for one in of(events, job)})
        assert {"job": job, **alone[-1].data} == of(events, job)[-1]
    texts = [event.json()["job"] for event in events if event.event == "delta"]
    assert texts != sorted(texts, key=jobs.index), "they did not come beside each other"


@pytest.mark.usefixtures("slow")
async def test_a_reader_of_several_jobs_that_is_cut_again_and_again_sees_each_event_once(
    r1: Servers, http: httpx.AsyncClient
) -> None:
    jobs = await recitals(http, 2)
    seen: list[ServerSentEvent] = []
    async with working(settings_for(r1), *STAGES), asyncio.timeout(30):
        while more := await read(http, jobs, last=seen[-1].id if seen else "", most=4):
            seen += more
    for job in jobs:
        numbers = [one["n"] for one in of(seen, job)]
        assert numbers == sorted(set(numbers))
        assert "".join(one.get("text", "") for one in of(seen, job)) == SPEECH
        assert "answer" in of(seen, job)[-1]
    whole = await read(http, jobs)
    for at in range(0, len(whole), 5):
        rest = await read(http, jobs, last=whole[at].id)
        for job in jobs:
            assert of(rest, job) == [one for one in of(whole, job) if one not in of(whole[: at + 1], job)]


@pytest.mark.usefixtures("slow")
async def test_the_client_reads_several_jobs_and_knows_which_is_which(r1: Servers, http: httpx.AsyncClient) -> None:
    jobs = await recitals(http, 3)
    texts = dict.fromkeys(jobs, "")
    last: dict[str, str] = {}
    async with (
        working(settings_for(r1), *STAGES),
        AsyncHeadrace(str(http.base_url)) as headrace,
        asyncio.timeout(30),
        aclosing(headrace.events_of(jobs)) as events,
    ):
        async for job, event in events:
            texts[job] += event.text if isinstance(event, replies.Delta) else ""
            last[job] = event.kind
    assert texts == dict.fromkeys(jobs, SPEECH)
    assert last == dict.fromkeys(jobs, "completed")


async def test_who_has_all_its_streams_is_asked_back(http: httpx.AsyncClient, journal_r1: Journal) -> None:
    scribe = Scribe(journal_r1.appender)
    await scribe.hand_off("recite")
    job = scribe.address.job
    await Shelf(journal_r1.signals, LIMITS, Limits).put(LOCAL, Limits(readers=1), expect=0)
    async with http.stream("GET", f"{EVENTS}/{job}"):
        await until(http, job, 429)  # what was set is known a little later
        answer = await http.get(f"{EVENTS}/{job}")
        told = answer.json()
        assert (answer.status_code, told["limit"], told["most"]) == (429, "readers", 1)
        assert answer.headers["Retry-After"] in told["detail"]
        assert (await http.get(EVENTS, params={"jobs": job})).status_code == 429
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://{http.base_url.host}:{http.base_url.port}{EVENTS}/{job}/ws")
        assert refused.value.response.status_code == 429
    await until(http, job, 200)


async def until(http: httpx.AsyncClient, job: str, status: int) -> None:
    """Open streams, and close them at once, until one is answered so."""
    async with asyncio.timeout(30):
        while True:
            async with http.stream("GET", f"{EVENTS}/{job}") as answer:
                if answer.status_code == status:
                    return
            await asyncio.sleep(0.02)


async def test_the_id_of_an_event_is_a_place_in_each_job(http: httpx.AsyncClient, journal_r1: Journal) -> None:
    first, second = [await done(Scribe(journal_r1.appender)) for _ in range(2)]
    events = await read(http, [first, second])
    assert len(events) == 6
    last = events[-1].id.split(BETWEEN)
    assert [place.partition(".")[0] for place in last] == ["3", "3"]
    seqs = [(await journal_r1.reader.last(LOCAL, job)) for job in (first, second)]
    assert last == [f"3.{record.seq}" for record in seqs if record]
    assert [(e.json()["job"], e.json()["n"]) for e in await read(http, [first, second], last="3-2")] == [(second, 3)]
    assert [(e.json()["job"], e.json()["n"]) for e in await read(http, [second, first], last="3-2")] == [(first, 3)]
    assert await read(http, [first, second], last="3-3") == []
    assert await read(http, [first, first], last="3") == []


async def test_a_job_that_was_forgotten_meanwhile_is_gone_and_holds_up_nobody(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    kept, lost = Scribe(journal_r1.appender), Scribe(journal_r1.appender)
    jobs = [await done(kept), await done(lost)]
    end = await journal_r1.reader.last(LOCAL, jobs[1])
    assert end is not None
    assert await forget_job(journal_r1, end, None)
    events = await read(http, jobs, last="2-2")
    assert [(e.event, e.json()["job"]) for e in events] == [("gone", jobs[1]), ("completed", jobs[0])]
    assert await read(http, jobs, last=events[-1].id) == []
    refused = await http.get(EVENTS, params={"jobs": ",".join(jobs)})
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:headrace:problem:unknown-job")
    assert jobs[1] in refused.json()["detail"]


async def test_several_jobs_that_cannot_all_be_followed_leave_nothing_behind(
    r1: Servers, journal_r1: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, subscribe = Follower(journal_r1.live, journal_r1.reader), journal_r1.live.subscribe

    async def once(subject: str, take: OnMessage) -> Subscription:
        subscription = await subscribe(subject, take)
        await r1.kill()
        return subscription

    scribes = [Scribe(journal_r1.appender) for _ in range(3)]
    for scribe in scribes:
        await scribe.hand_off("recite")
    monkeypatch.setattr(journal_r1.live, "subscribe", once)
    before = asyncio.all_tasks()
    with pytest.raises(Unanswered):
        async with braided(follower, {(LOCAL, scribe.address.job): Place() for scribe in scribes}):
            pass
    assert follower.watched == 0
    await r1.start()
    async with asyncio.timeout(20):
        await asyncio.gather(*(task for task in asyncio.all_tasks() - before if "spin" in repr(task)))


async def test_what_is_no_list_of_jobs_or_no_place_in_them_is_refused(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    job = await done(Scribe(journal_r1.appender))
    many = ",".join(f"{'a' * 24}{a}{b}" for a in "abcdefgh" for b in "abcdefgh")
    assert many.count(",") >= MOST_JOBS
    for params, status, kind in (
        ({}, 400, "bad-option"),
        ({"jobs": ""}, 400, "bad-option"),
        ({"jobs": many}, 400, "bad-option"),
        ({"jobs": job, "cancel_on_disconnect": "true"}, 400, "bad-option"),
        ({"jobs": f"{job},*"}, 404, "unknown-job"),
        ({"jobs": f"{job},"}, 404, "unknown-job"),
        ({"jobs": job, "after": "1-1"}, 400, "bad-place"),
        ({"jobs": job, "after": "x"}, 400, "bad-place"),
        ({"jobs": job, "after": "1-"}, 400, "bad-place"),
    ):
        answer = await http.get(EVENTS, params=params)
        assert (answer.status_code, answer.json()["type"]) == (status, f"urn:headrace:problem:{kind}"), params


async def heard(http: httpx.AsyncClient, job: str, query: str = "") -> list[dict[str, Any]]:
    """What comes on a WebSocket until it is closed."""
    found, code = [], None
    url = f"ws://{http.base_url.host}:{http.base_url.port}{EVENTS}/{job}/ws{query}"
    async with asyncio.timeout(20), connect(url) as socket:
        try:
            while True:
                found.append(json.loads(await socket.recv()))
        except ConnectionClosed as closed:
            code = closed.rcvd and closed.rcvd.code
    assert code == 1000
    return found


async def test_a_websocket_has_the_same_events_after_any_place_and_ends_with_the_outcome(
    r1: Servers, http: httpx.AsyncClient
) -> None:
    [job] = await recitals(http, 1)
    async with working(settings_for(r1), *STAGES):
        live = await heard(http, job)
    alone = (await hear(http, job)).events
    assert "".join(one["data"].get("text", "") for one in live) == SPEECH
    whole = await heard(http, job)
    assert [(one["id"], one["event"], one["data"]) for one in whole] == [(e.id, e.kind, e.data) for e in alone]
    for at, one in enumerate(whole):
        assert await heard(http, job, f"?after={one['id']}") == whole[at + 1 :]


async def test_a_websocket_of_no_job_is_not_opened_and_one_that_goes_away_is_let_go(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    for job, query, status in (("a" * 26, "", 404), ("nothing", "", 404)):
        with pytest.raises(InvalidStatus) as refused:
            await heard(http, job, query)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body or b"")["type"] == "urn:headrace:problem:unknown-job"
    scribe = Scribe(journal_r1.appender)
    await scribe.hand_off("recite")
    url = f"ws://{http.base_url.host}:{http.base_url.port}{EVENTS}/{scribe.address.job}/ws"
    async with connect(url) as socket:
        assert json.loads(await socket.recv())["event"] == "handoff"
        for said in ("what a client says", b"is passed over", b""):
            await socket.send(said)
        await (await socket.ping())  # it was heard
        await scribe.write(Delta, stage="recite", text="a", tokens=(1,), from_=0)
        assert json.loads(await socket.recv())["data"]["text"] == "a"
