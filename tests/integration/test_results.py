"""The result actor, on a real server: readers come and go and fall behind, and each sees every event once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpx
import pytest

from actors.client import AsyncHeadrace
from actors.contracts.events import CancelRequested, Completed, Delta, Progress, ReviewDiscarded, StepStarted
from actors.contracts.messages import Packed
from actors.contracts.subjects import LIVE, LOCAL
from actors.journal import Journal
from actors.journal.follow import Follower, Place
from actors.journal.server_process import ask
from actors.journal.topology import JOBS
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, reciter
from tests.scribe import Note, Scribe
from tests.serving import EVENTS, Sent, hear, listening, served, settings_for, until_ready, working

STAGES = ("prepare", "recite", "applaud")
SOON_S = 30.0
"""A backstop for what has long happened when everything is right."""


@pytest.fixture
async def http(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(r1)) as http:
        yield http


@pytest.fixture
def scribe(journal_r1: Journal) -> Scribe:
    return Scribe(journal_r1.appender)


async def claimed(scribe: Scribe) -> None:
    """A job that a worker has begun to speak."""
    await scribe.hand_off("recite")
    await scribe.write(StepStarted, stage="recite", attempt=1, claim="c", worker="w", ack="a")


async def speak(scribe: Scribe, *texts: str) -> None:
    for at, text in enumerate(texts):
        await scribe.write(Delta, stage="recite", text=text, tokens=(at,), from_=at)


async def complete(scribe: Scribe) -> None:
    await scribe.write(Completed, origin=scribe.origin, answer=Packed.of(Note(text="done")))


async def test_a_reader_resumed_at_every_event_number_sees_each_event_once(r1: Servers) -> None:
    settings = settings_for(r1)
    async with served(settings) as http, working(settings, *STAGES):
        job = (await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": "go"}})).json()["id"]
        whole = (await hear(http, job)).events
        assert [e.n for e in whole] == list(range(1, len(whole) + 1))
        assert "".join(e.data["text"] for e in whole if e.kind == "delta") == SPEECH
        for seen in whole[:-1]:
            for resumed in (
                await hear(http, job, last=seen.id),
                await hear(http, job, after=seen.id),
                await hear(http, job, after=str(seen.n)),
                await hear(http, job, last=seen.id, after="0"),
                await hear(http, job, last=f"{seen.n}.{10**9}"),  # the log was restored, and the place is another one
            ):
                assert resumed.events == whole[seen.n :]


async def test_a_reader_cut_after_every_event_of_a_running_job_sees_each_event_once(r1: Servers) -> None:
    settings = settings_for(r1)
    async with served(settings) as http:
        job = (await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": "go"}})).json()["id"]
        seen: list[Sent] = []
        async with working(settings, *STAGES), asyncio.timeout(SOON_S):
            while not seen or seen[-1].kind != "completed":
                seen.append(await one_event(http, job, seen[-1].id if seen else None))
        assert [e.n for e in seen] == list(range(1, len(seen) + 1))
        assert seen == (await hear(http, job)).events


async def one_event(http: httpx.AsyncClient, job: str, last: str | None) -> Sent:
    """The next event; then the connection is cut."""
    headers = {"Last-Event-ID": last} if last else {}
    async with http.stream("GET", f"{EVENTS}/{job}", headers=headers) as response:
        assert response.status_code == 200
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            fields[name] = value
            if name == "data":
                return Sent(fields["id"], fields["event"], json.loads(value))
    raise AssertionError("the stream ended before an event came")


async def test_a_reader_past_the_outcome_is_told_not_to_come_back(http: httpx.AsyncClient, scribe: Scribe) -> None:
    job = scribe.address.job
    await claimed(scribe)
    await complete(scribe)
    for after in ("3", f"3.{scribe.chain.seq}", "4"):
        heard = await hear(http, job, last=after)
        assert (heard.status, heard.headers["Cache-Control"]) == (204, "no-store")
    await scribe.write(ReviewDiscarded, reason="seen")
    for after in ("3", "4"):
        assert (await hear(http, job, after=after)).status == 204
    assert [e.kind for e in (await hear(http, job, after="2")).events] == ["completed"]


async def test_a_place_that_is_none_is_refused(http: httpx.AsyncClient, scribe: Scribe) -> None:
    await claimed(scribe)
    for place in ("x", "-1", "1.", ".1", "1.2.3", "1e3", "٣", "1" * 40, "1 2", "0x1"):
        answer = await http.get(f"{EVENTS}/{scribe.address.job}", params={"after": place})
        assert answer.status_code == 400
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:headrace:problem:bad-place"


async def left_at_once(http: httpx.AsyncClient, job: str, **params: str) -> None:
    """A reader that takes one event and goes away."""
    async with http.stream("GET", f"{EVENTS}/{job}", params=params) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                return


async def until_cancelled(http: httpx.AsyncClient, job: str) -> Sent:
    async with asyncio.timeout(SOON_S):
        return (await hear(http, job)).events[-1]


BOUND = {"cancel_on_disconnect": "true"}


async def test_a_running_job_whose_reader_goes_away_is_cancelled_in_the_name_of_the_result_actor(
    r1: Servers, journal_r1: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reciter, "gate", asyncio.Event())
    settings = settings_for(r1)
    async with served(settings, grace=0.0) as http, working(settings, *STAGES), asyncio.timeout(SOON_S):
        job = (await http.post("/v1/pipelines/recital/jobs", json={"input": {"text": "go"}})).json()["id"]
        async with (
            AsyncHeadrace(str(http.base_url)) as client,
            aclosing(client.events(job, cancel_on_disconnect=True)) as events,
        ):
            async for event in events:
                if event.kind == "step.started":
                    break
        outcome = await until_cancelled(http, job)
        assert (outcome.kind, outcome.data["reason"]) == ("cancelled", "its reader went away")
    asked = [r.event for r in await journal_r1.reader.job(LOCAL, job) if isinstance(r.event, CancelRequested)]
    assert [event.by.partition("/")[0] for event in asked] == ["events"]


async def test_only_a_reader_that_asked_for_it_and_went_away_by_itself_ends_its_job(
    r1: Servers, scribe: Scribe, journal_r1: Journal
) -> None:
    others = [Scribe(journal_r1.appender) for _ in range(3)]
    for one in (*others, scribe):
        await one.hand_off("recite")
    free, explicit, ended = (one.address.job for one in others)
    async with served(settings_for(r1), stream_life=0.2, grace=0.0) as http:
        await left_at_once(http, free)
        await left_at_once(http, explicit, cancel_on_disconnect="false")
        async with http.stream("GET", f"{EVENTS}/{ended}", params=BOUND) as response:
            await response.aread()  # to the end of the stream's life
        await left_at_once(http, scribe.address.job, **BOUND)
        assert (await until_cancelled(http, scribe.address.job)).kind == "cancelled"  # what came later is done
    for job in (free, explicit, ended):
        assert len(await journal_r1.reader.job(LOCAL, job)) == 1


async def test_a_job_is_not_cancelled_when_the_result_actor_stops(
    r1: Servers, scribe: Scribe, journal_r1: Journal
) -> None:
    await scribe.hand_off("recite")
    began = asyncio.Event()

    async def stay(http: httpx.AsyncClient) -> None:
        with contextlib.suppress(httpx.TransportError):
            async with http.stream("GET", f"{EVENTS}/{scribe.address.job}", params=BOUND) as response:
                async for _ in response.aiter_lines():
                    began.set()

    listens = listening(settings_for(r1), grace=0.0)
    async with asyncio.timeout(SOON_S), asyncio.TaskGroup() as readers, listens as url:
        http = httpx.AsyncClient(base_url=url, timeout=20)
        await until_ready(http)
        readers.create_task(stay(http))
        await began.wait()
    await http.aclose()
    assert len(await journal_r1.reader.job(LOCAL, scribe.address.job)) == 1


async def test_what_is_no_yes_or_no_is_refused(http: httpx.AsyncClient, scribe: Scribe) -> None:
    await claimed(scribe)
    for value in ("", "1", "yes", "True", "true,true"):
        answer = await http.get(f"{EVENTS}/{scribe.address.job}", params={"cancel_on_disconnect": value})
        assert answer.status_code == 400
        assert answer.json()["type"] == "urn:headrace:problem:bad-option"
        assert "=true" in answer.json()["detail"]


async def test_a_stream_says_how_it_is_to_be_kept_and_when_to_come_back(
    http: httpx.AsyncClient, scribe: Scribe
) -> None:
    await claimed(scribe)
    await complete(scribe)
    heard = await hear(http, scribe.address.job)
    assert heard.headers["Content-Type"].partition(";")[0] == "text/event-stream"
    assert heard.headers["Cache-Control"] == "no-store"
    assert heard.headers["X-Accel-Buffering"] == "no"
    assert heard.retry_ms is not None
    assert 300 <= heard.retry_ms <= 1_500
    head = await http.head(f"{EVENTS}/{scribe.address.job}")
    assert (head.status_code, head.content, head.headers["Cache-Control"]) == (200, b"", "no-store")


async def test_a_stream_ends_when_its_life_is_over_and_the_client_goes_on(r1: Servers, scribe: Scribe) -> None:
    await claimed(scribe)

    async def at_once(seconds: float) -> None:
        return None

    async with served(settings_for(r1), stream_life=0.2) as http:
        ended = await hear(http, scribe.address.job)
        assert [e.kind for e in ended.events] == ["handoff", "step.started"]
        async with AsyncHeadrace(str(http.base_url), sleep=at_once) as client, asyncio.timeout(SOON_S):
            reading = asyncio.create_task(collect(client, scribe.address.job))
            await hear(http, scribe.address.job)  # at least one life of the client's stream has passed
            await speak(scribe, "a", "b")
            await complete(scribe)
            assert await reading == [1, 2, 3, 4, 5]


async def collect(client: AsyncHeadrace, job: str) -> list[int]:
    """The numbers of all events, and nothing else of them."""
    return [event.n async for event in client.events(job)]


async def test_text_that_was_forgotten_is_a_gap_and_never_a_silent_hole(
    http: httpx.AsyncClient, scribe: Scribe, journal_r1: Journal
) -> None:
    await claimed(scribe)
    await speak(scribe, "a", "b", "c")
    await complete(scribe)
    await journal_r1.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": "text.>"})
    whole = (await hear(http, scribe.address.job)).events
    assert [e.kind for e in whole] == ["handoff", "step.started", "gap", "completed"]
    assert whole[2].data == {"n": 5, "from": 3, "to": 5}
    for seen in whole[:-1]:
        assert (await hear(http, scribe.address.job, last=seen.id)).events == whole[whole.index(seen) + 1 :]
    inside = (await hear(http, scribe.address.job, last="4.4")).events
    assert [(e.kind, e.data.get("from")) for e in inside] == [("gap", 5), ("completed", None)]


async def test_a_stream_waits_while_the_server_is_away_and_goes_on_by_itself(
    http: httpx.AsyncClient, r1: Servers, scribe: Scribe
) -> None:
    await claimed(scribe)
    began = asyncio.Event()

    async def read() -> list[str]:
        kinds = []
        async with http.stream("GET", f"{EVENTS}/{scribe.address.job}") as response:
            async for line in response.aiter_lines():
                if line.startswith("event: "):
                    kinds.append(line.removeprefix("event: "))
                    began.set()
        return kinds

    reading = asyncio.create_task(read())
    async with asyncio.timeout(SOON_S):
        await began.wait()
        await r1.kill()
        await r1.start()
        await speak(scribe, "a")
        await complete(scribe)
        assert await reading == ["handoff", "step.started", "delta", "completed"]


async def test_one_that_resumes_while_the_server_is_away_is_kept_and_told_to_come_again_when_it_is_back(
    r1: Servers, http: httpx.AsyncClient, scribe: Scribe
) -> None:
    await scribe.hand_off("recite")
    await r1.kill()
    url = f"{EVENTS}/{scribe.address.job}"
    refused = await http.get(url)
    assert refused.status_code == 503
    assert "Retry-After" in refused.headers
    async with asyncio.timeout(SOON_S), http.stream("GET", url, headers={"Last-Event-ID": "1.1"}) as kept:
        assert kept.status_code == 200  # on anything else a browser's EventSource gives up for good
        lines = kept.aiter_lines()
        assert (await anext(lines)).startswith("retry: ")
        await r1.start()
        assert [line async for line in lines if line] == [": the log is there again"]


@pytest.mark.parametrize(("pieces", "most"), [(50, 40), (600, 600)], ids=["merged", "read again"])
async def test_a_reader_that_does_not_read_holds_up_little_and_then_gets_everything(
    http: httpx.AsyncClient, scribe: Scribe, pieces: int, most: int
) -> None:
    await claimed(scribe)
    texts = [f"{at:05}" + "x" * 20_000 for at in range(pieces)]
    loop, slow = asyncio.get_running_loop(), socket.socket()
    slow.setblocking(False)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    await loop.sock_connect(slow, (http.base_url.host, http.base_url.port))
    await loop.sock_sendall(slow, f"GET {EVENTS}/{scribe.address.job} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    got = bytearray()
    while b"step.started" not in got:
        got += await loop.sock_recv(slow, 128)

    tracemalloc.start()
    try:
        async with AsyncHeadrace(str(http.base_url)) as client:
            fast = asyncio.create_task(collect(client, scribe.address.job))
            await speak(scribe, *texts)
            await complete(scribe)
            assert (await fast)[-1] == pieces + 3  # so all has passed the other's mailbox, too
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 6e6

    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    while not got.endswith(b"0\r\n\r\n"):
        got += await loop.sock_recv(slow, 1 << 20)
    slow.close()
    events = events_in(bytes(got))
    said = [e for e in events if "text" in e]
    assert "".join(e["text"] for e in said) == "".join(texts)
    assert [e["n"] for e in events] == sorted({e["n"] for e in events})
    assert events[-1]["n"] == pieces + 3
    assert len(said) <= most  # what waits is merged; past what a mailbox takes, the log is read again


def events_in(answer: bytes) -> list[dict[str, Any]]:
    """The data of the events in an answer, whose body is chunked."""
    plain, at = bytearray(), answer.index(b"\r\n\r\n") + 4
    while at < len(answer):
        end = answer.index(b"\r\n", at)
        size = int(answer[at:end], 16)
        plain += answer[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return [json.loads(line[6:]) for line in plain.decode().split("\n") if line.startswith("data: ")]


async def test_readers_of_one_job_share_a_subscription_and_leave_none_behind(
    journal_r1: Journal, r1: Servers, scribe: Scribe
) -> None:
    follower = Follower(journal_r1.live, journal_r1.reader)
    job = scribe.address.job
    await claimed(scribe)

    async def read() -> list[int]:
        async with follower.follow(LOCAL, job, Place()) as events:
            return [item.n async for item in events]

    reading = [asyncio.create_task(read()) for _ in range(20)]
    async with asyncio.timeout(SOON_S):
        async with follower.follow(LOCAL, job, Place()) as events:
            assert (await anext(events)).n == 1
            assert follower.watched == 1
            assert await live_subscriptions(r1, job) == 1
        gone = asyncio.create_task(read())
        await asyncio.sleep(0)
        gone.cancel()
        await scribe.write(Progress, stage="recite", message="reading")
        await complete(scribe)
        assert await asyncio.gather(*reading) == [[1, 2, 3, 4]] * 20
    assert follower.watched == 0
    async with asyncio.timeout(SOON_S):
        while await live_subscriptions(r1, job):  # the server hears of it a moment later
            pass


async def test_a_reader_that_leaves_while_its_subscription_opens_leaves_none_behind(
    journal_r1: Journal, r1: Servers, scribe: Scribe
) -> None:
    follower = Follower(journal_r1.live, journal_r1.reader)
    entering = asyncio.create_task(follower.follow(LOCAL, scribe.address.job, Place()).__aenter__())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    entering.cancel()
    await asyncio.wait({entering})
    assert entering.cancelled()
    await journal_r1.live.client.flush()
    assert follower.watched == 0
    assert await live_subscriptions(r1, scribe.address.job) == 0


async def live_subscriptions(servers: Servers, job: str) -> int:
    """How many subscriptions to a job the server has."""
    page = await ask(servers.nodes[0].identity, "/connz?subs=1")
    subjects = [subject for c in page["connections"] for subject in c.get("subscriptions_list") or []]
    return sum(subject.startswith(LIVE) and subject.endswith(job) for subject in subjects)
