"""The ingress, on a real server, with real workers: jobs go in, answers come out, and bad input leaves no trace."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from actors.client import AsyncHeadrace, Refused, Unavailable
from actors.contracts.subjects import LOCAL, job_id
from actors.http.body import MAX_BODY
from actors.ingress import ingress
from actors.journal import Journal
from actors.journal.follow import Follower, Place
from actors.replies import Completed, Job
from actors.results import results
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.pipelines import SPEECH, reciter
from tests.serving import Front, hear, listening, served, settings_for, stored, until_ready, working

RECITAL = "/v1/pipelines/recital/jobs"
KEEPER = "/v1/pipelines/keeper/jobs"
JSON = {"Content-Type": "application/json"}
STAGES = ("prepare", "recite", "applaud")
PROBLEM = "application/problem+json"


@pytest.fixture
def gate() -> Iterator[asyncio.Event]:
    """While it is not set, the engine says nothing."""
    reciter.gate = asyncio.Event()
    yield reciter.gate
    reciter.gate = None


async def test_a_job_goes_in_by_post_and_its_answer_comes_out(r1: Servers) -> None:
    settings = settings_for(r1)
    async with served(settings) as http, working(settings, *STAGES):
        accepted = await http.post(RECITAL, json={"input": {"text": "go"}, "lane": "batch", "metadata": {"team": "a"}})
        said = accepted.json()
        assert accepted.status_code == 202
        assert accepted.headers["Location"] == said["links"]["self"] == f"/v1/jobs/{said['id']}"
        assert said["id"] == job_id(LOCAL, accepted.headers["Idempotency-Key"])
        assert (said["status"], said["pipeline"], said["lane"]) == ("queued", "recital", "batch")

        heard = await hear(http, said["id"])
        assert [e.n for e in heard.events] == list(range(1, len(heard.events) + 1))
        assert heard.events[0].kind == "handoff"
        assert heard.events[-1].kind == "completed"
        assert "".join(e.data["text"] for e in heard.events if e.kind == "delta") == SPEECH

        job = (await http.get(said["links"]["self"])).json()
        assert job["status"] == "completed"
        assert job["answer"] == {"text": SPEECH, "words": 11}
        assert job["metadata"] == {"team": "a"}
        assert job["usage"]["output_tokens"] > 0


async def test_the_python_client_submits_follows_and_gets_the_answer(r1: Servers) -> None:
    settings = settings_for(r1)
    async with served(settings) as http, working(settings, *STAGES), AsyncHeadrace(str(http.base_url)) as client:
        accepted = await client.submit("recital", {"text": "go"}, key="once", deadline=60)
        assert (accepted.deadline - accepted.created).total_seconds() == 60
        events = [event async for event in client.events(accepted.id)]
        assert isinstance(events[-1], Completed)
        assert await client.result(accepted.id) == {"text": SPEECH, "words": 11}
        assert (await client.submit("recital", {"text": "go"}, key="once", deadline=60)).id == accepted.id
        with pytest.raises(Refused, match="another body"):
            await client.submit("recital", {"text": "other"}, key="once", deadline=60)
        with pytest.raises(Refused, match=r"#/input/text.*valid string"):
            await client.submit("recital", {"text": 5})
        with pytest.raises(Refused, match="recital, keeper"):
            await client.submit("nothing", {})
        assert [p.name for p in await client.pipelines()] == ["recital", "keeper"]
        assert {s.stage for s in await client.stages()} == {*STAGES, "keep"}


async def test_a_running_job_shows_what_it_has_said_so_far(r1: Servers, gate: asyncio.Event) -> None:
    settings = settings_for(r1)
    async with served(settings) as http, AsyncHeadrace(str(http.base_url)) as client, working(settings, *STAGES):
        accepted = await client.submit("recital", {"text": "go"})
        async for event in client.events(accepted.id):
            if event.kind == "step.started" and getattr(event, "stage", "") == "recite":
                job = await client.job(accepted.id)
                assert (job.status, job.stage, job.attempts, job.text) == ("running", "recite", 1, None)
                gate.set()
            if event.kind == "delta":
                job = await client.job(accepted.id)
                assert SPEECH.startswith(job.text or "?") or job.status == "completed"
        assert (await client.job(accepted.id)).status == "completed"


async def test_the_same_key_and_body_are_the_same_job_and_another_body_is_refused(
    r1: Servers, journal_r1: Journal
) -> None:
    async with served(settings_for(r1)) as http:
        headers = JSON | {"Idempotency-Key": "my key/1"}
        first = await http.post(RECITAL, content=b'{"input":{"text":"go","times":2},"deadline":60}', headers=headers)
        again = await http.post(
            RECITAL, content=b'{"deadline": 60, "input": {"times": 2, "text": "g\\u006f"}}', headers=headers
        )
        assert (first.status_code, again.status_code) == (202, 200)
        assert again.headers["Idempotent-Replay"] == "true"
        assert "Idempotent-Replay" not in first.headers
        assert Job.model_validate_json(again.content).id == first.json()["id"]
        for body in (
            b'{"input":{"text":"go","times":3},"deadline":60}',
            b'{"input":{"text":"go","times":2}}',
            b'{"input":{"text":"go","times":2},"deadline":60,"lane":"batch"}',
            b'{"input":{"text":"go","times":2},"deadline":60,"metadata":{"a":"b"}}',
        ):
            other = await http.post(RECITAL, content=body, headers=headers)
            assert other.status_code == 422
            assert other.json()["type"] == "urn:headrace:problem:key-reused"
        elsewhere = await http.post(KEEPER, json={"input": {"data": 1}}, headers={"Idempotency-Key": "my key/1"})
        assert elsewhere.status_code == 422
        assert await stored(journal_r1) == 1


async def test_a_thousand_racing_submissions_under_one_key_make_one_job(servers: Servers, journal: Journal) -> None:
    """Through an ingress at each server: on a cluster two of them follow, and may know of the job later."""
    async with AsyncExitStack() as stack:
        settings = settings_for(servers, nats_replicas=servers.replicas)
        each = [settings.model_copy(update={"nats_url": url}) for url in servers.urls]
        doors = [await stack.enter_async_context(served(one)) for one in each]
        headers, input = {"Idempotency-Key": "race"}, {"input": {"text": "go"}}
        race = [doors[n % len(doors)].post(RECITAL, json=input, headers=headers, timeout=60) for n in range(1_000)]
        answers = await asyncio.gather(*race)
        assert sorted(a.status_code for a in answers) == [200] * 999 + [202]
        assert {a.json()["id"] for a in answers} == {job_id(LOCAL, "race")}
        assert await stored(journal) == 1


DEEP = 100_000
BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "malformed"),
    "malformed": (b'{"input": {"text": "go"}', 400, "malformed"),
    "not JSON": (b"input=go", 400, "malformed"),
    "two values": (b'{"input": {"text": "go"}} {}', 400, "malformed"),
    "NaN": (b'{"input": {"data": NaN}}', 400, "malformed"),
    "Infinity": (b'{"input": {"data": -Infinity}}', 400, "malformed"),
    "a number too large": (b'{"input": {"data": 1e999}}', 400, "malformed"),
    "a number too long": (b'{"input": {"data": ' + b"9" * 5_000 + b"}}", 400, "malformed"),
    "a lone surrogate": (b'{"input": {"data": "\\ud800"}}', 400, "malformed"),
    "a lone low surrogate": (b'{"input": {"data": "\\udc00"}}', 400, "malformed"),
    "no UTF-8": (b'{"input": {"data": "\xff"}}', 400, "malformed"),
    "a surrogate as bytes": (b'{"input": {"data": "\xed\xa0\x80"}}', 400, "malformed"),
    "very deep": (b'{"input": {"data": ' + b"[" * DEEP + b"]" * DEEP + b"}}", 400, "malformed"),
    "a little too deep": (b'{"input": {"data": ' + b"[" * 199 + b"]" * 199 + b"}}", 400, "malformed"),
    "no object": (b"[]", 422, "invalid"),
    "null": (b"null", 422, "invalid"),
    "no input": (b"{}", 422, "invalid"),
    "wrong type": (b'{"input": {"data": 1, "secret": 7}}', 422, "invalid"),
    "input no object": (b'{"input": "go"}', 422, "invalid"),
    "unknown field": (b'{"input": {"data": 1, "dota": 1}}', 422, "invalid"),
    "unknown wish": (b'{"input": {"data": 1}, "colour": "red"}', 422, "invalid"),
    "unknown lane": (b'{"input": {"data": 1}, "lane": "fast"}', 422, "invalid"),
    "a lane with a wildcard": (b'{"input": {"data": 1}, "lane": "*"}', 422, "invalid"),
    "deadline zero": (b'{"input": {"data": 1}, "deadline": 0}', 422, "invalid"),
    "deadline too far": (b'{"input": {"data": 1}, "deadline": 518401}', 422, "invalid"),
    "deadline in parts": (b'{"input": {"data": 1}, "deadline": 1.5}', 422, "invalid"),
    "deadline in words": (b'{"input": {"data": 1}, "deadline": "60"}', 422, "invalid"),
    "metadata of numbers": (b'{"input": {"data": 1}, "metadata": {"a": 1}}', 422, "invalid"),
    "metadata too long": (b'{"input": {"data": 1}, "metadata": {"a": "' + b"x" * 513 + b'"}}', 422, "invalid"),
    "metadata too many": (
        json.dumps({"input": {"data": 1}, "metadata": {str(i): "" for i in range(17)}}).encode(),
        422,
        "invalid",
    ),
}


@pytest.fixture
async def http(r1: Servers) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(r1)) as http:
        yield http


async def test_a_bad_body_is_a_problem_and_leaves_nothing_in_the_log(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    answers = {name: await http.post(KEEPER, content=body, headers=JSON) for name, (body, _, _) in BAD_BODIES.items()}
    assert {n: (a.status_code, kind_of(a)) for n, a in answers.items()} == {
        n: (status, kind) for n, (_, status, kind) in BAD_BODIES.items()
    }
    assert max(len(a.content) for a in answers.values()) < 4_000
    assert await stored(journal_r1) == 0


async def test_what_is_just_not_too_deep_can_be_read_back(http: httpx.AsyncClient) -> None:
    body = b'{"input": {"data": ' + b"[" * 190 + b"]" * 190 + b"}}"
    accepted = await http.post(KEEPER, content=body, headers=JSON)
    assert accepted.status_code == 202
    assert (await http.get(accepted.headers["Location"])).json()["status"] == "queued"


async def test_a_body_with_very_many_faults_is_answered_in_few_words(http: httpx.AsyncClient) -> None:
    body = json.dumps({"input": {"text": "go"}, **{str(i): 0 for i in range(50_000)}}).encode()
    answer = await http.post(RECITAL, content=body, headers=JSON)
    assert_problem(answer, 422, "invalid")
    assert "50000" in answer.json()["errors"][0]["detail"]


async def test_an_oversize_body_is_refused_before_it_is_sent_or_held(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    announced = await http.post(RECITAL, content=b" " * (MAX_BODY + 1), headers=JSON)
    assert_problem(announced, 413, "too-large")

    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST {RECITAL} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {1 << 40}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (await reader.readline())[:12] == b"HTTP/1.1 413"  # it was not asked to go on
    writer.close()

    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    piece = b"%x\r\n%s\r\n" % (64 << 10, b" " * (64 << 10))

    async def pour() -> None:
        while True:  # a body without an end
            writer.write(piece)
            await writer.drain()

    pouring = asyncio.create_task(pour())
    assert (await asyncio.wait_for(reader.readline(), 20))[:12] == b"HTTP/1.1 413"
    pouring.cancel()
    writer.close()
    assert await stored(journal_r1) == 0


async def test_the_largest_body_that_fits_is_taken_and_one_that_fits_no_message_is_not(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    frame = len('{"input":{"data":""}}')
    whole = await http.post(KEEPER, content=b'{"input":{"data":"%s"}}' % (b"x" * (MAX_BODY - frame)), headers=JSON)
    assert_problem(whole, 413, "too-large")  # with its envelope it is over the limit of a message
    assert await stored(journal_r1) == 0
    fits = await http.post(KEEPER, content=b'{"input":{"data":"%s"}}' % (b"x" * (MAX_BODY - 4_096)), headers=JSON)
    assert fits.status_code == 202


async def test_a_body_that_is_not_said_to_be_json_is_refused(http: httpx.AsyncClient, journal_r1: Journal) -> None:
    for media_type in (None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"):
        headers = {"Content-Type": media_type} if media_type is not None else {}
        answer = await http.post(RECITAL, content=b'{"input":{"text":"go"}}', headers=headers)
        assert_problem(answer, 415, "bad-media-type")
    packed = await http.post(RECITAL, content=b"\x1f\x8b", headers=JSON | {"Content-Encoding": "gzip"})
    assert_problem(packed, 415, "bad-media-type")
    assert await stored(journal_r1) == 0


async def test_a_key_that_cannot_be_used_is_refused(http: httpx.AsyncClient, journal_r1: Journal) -> None:
    for keys in ([b""], [b"k" * 256], [b"a\tb"], [b"k\xe9y"], [b"one", b"two"]):
        headers = [(b"Content-Type", b"application/json"), *((b"Idempotency-Key", key) for key in keys)]
        answer = await http.post(RECITAL, content=b'{"input":{"text":"go"}}', headers=headers)
        assert_problem(answer, 400, "bad-key")
    assert await stored(journal_r1) == 0


async def test_any_other_key_makes_an_id_that_is_one_token(http: httpx.AsyncClient) -> None:
    for key in ("*", ">", "a.b.c", "job.step.>", "with space", "k" * 255, '"quoted"', "{}"):
        accepted = await http.post(RECITAL, json={"input": {"text": "go"}}, headers={"Idempotency-Key": key})
        assert accepted.status_code == 202
        assert accepted.json()["id"] == job_id(LOCAL, key)
        assert accepted.headers["Idempotency-Key"] == key


async def test_an_unknown_pipeline_is_answered_with_the_known_ones(
    http: httpx.AsyncClient, journal_r1: Journal
) -> None:
    for name in ("nothing", "*", ">", "a.b", "%20", "RECITAL", "recital%00", "%F0%9F%92%A7", "x" * 300):
        answer = await http.post(f"/v1/pipelines/{name}/jobs", json={"input": {"text": "go"}})
        assert_problem(answer, 404, "unknown-pipeline")
        assert answer.json()["known"] == ["recital", "keeper"]
        assert "recital, keeper" in answer.json()["detail"]
    assert await stored(journal_r1) == 0


async def test_an_id_that_no_job_has_is_not_found(http: httpx.AsyncClient) -> None:
    for place in ("/v1/jobs", "/v1/events"):
        for id in ("*", "%3E", "a.b", "%20", "%2A", "a" * 25, "A" * 26, "a" * 27, "0" * 26, "%00", "a%0Ab", "a" * 26):
            answer = await http.get(httpx.URL(http.base_url, raw_path=f"{place}/{id}".encode()))
            assert_problem(answer, 404, "unknown-job")


async def test_what_there_is_not_is_a_problem_too(http: httpx.AsyncClient) -> None:
    for path in ("/", "/v1", "/v1/jobs/a/b", "/v1/events/", "/v1/events/a/b", "/v1/stages/"):
        assert_problem(await http.get(path), 404, "not-found")
    for method, path, allowed in (
        ("DELETE", "/v1/stages", "GET, HEAD"),
        ("GET", RECITAL, "POST"),
        ("PUT", RECITAL, "POST"),
        ("POST", f"/v1/events/{'a' * 26}", "GET, HEAD"),
        ("OPTIONS", f"/v1/events/{'a' * 26}", "GET, HEAD"),
    ):
        answer = await http.request(method, path)
        assert_problem(answer, 405, "bad-method")
        assert sorted(answer.headers["Allow"].split(", ")) == sorted(allowed.split(", "))


async def test_a_bug_leaks_nothing_to_the_client_and_no_content_to_the_log(
    http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = await http.post(KEEPER, json={"input": {"data": "prompt-7", "secret": "word-7"}})
        accepted = await http.post(KEEPER, json={"input": {"data": "prompt-8"}})
    assert_problem(answer, 500, "unexpected")
    assert accepted.status_code == 202
    assert "word-7" not in answer.text
    said = [str(vars(record)) for record in caplog.records if not record.name.startswith(("httpcore", "httpx"))]
    assert any("request_broken" in line for line in said)
    assert not any("word-7" in line or "prompt-" in line for line in said)


async def test_without_a_server_submissions_can_be_sent_again_and_the_first_after_it_is_back_succeeds(
    r1: Servers,
) -> None:
    async with served(settings_for(r1), patience=2.0) as http:
        before = await http.post(RECITAL, json={"input": {"text": "before"}})
        await r1.kill()
        down = await http.post(RECITAL, json={"input": {"text": "go"}})
        assert_problem(down, 503, "unavailable")
        assert int(down.headers["Retry-After"]) >= 1
        assert down.json()["id"] == job_id(LOCAL, down.json()["key"])
        assert_problem(await http.get("/readyz"), 503, "unavailable")
        assert (await http.get("/healthz")).status_code == 200
        paths = (before.headers["Location"], before.json()["links"]["events"], "/v1/stages")
        for answer in await asyncio.gather(*(http.get(path) for path in paths)):
            assert_problem(answer, 503, "unavailable")
            assert "Retry-After" in answer.headers
        assert_problem(await http.post(RECITAL, json={"input": {"text": 1}}), 422, "invalid")

        await r1.start()
        key = {"Idempotency-Key": down.json()["key"]}
        retry = await http.post(RECITAL, json={"input": {"text": "go"}}, headers=key)
        assert retry.status_code in (200, 202)  # 200 if the one that was answered 503 was stored after all
        assert retry.json()["id"] == down.json()["id"]
        await until_ready(http)
        assert (await http.get(before.headers["Location"])).json()["id"] == before.json()["id"]


async def test_it_answers_before_there_is_a_server_and_is_ready_once_there_is_one(
    r1: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    await r1.kill()
    async with listening(settings_for(r1), patience=0.2) as url, httpx.AsyncClient(base_url=url, timeout=20) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert_problem(await http.get("/readyz"), 503, "unavailable")
        # Whether keys are needed is not known yet, so nobody is let in.
        for answer in await asyncio.gather(http.get("/v1/pipelines"), http.get(f"/v1/events/{'a' * 26}")):
            assert_problem(answer, 503, "unavailable")
        down = await http.post(RECITAL, json={"input": {"text": "go"}})
        assert_problem(down, 503, "unavailable")
        assert "Retry-After" in down.headers
        await r1.start()
        await until_ready(http)
        assert (await http.post(RECITAL, json={"input": {"text": "go"}})).status_code == 202
        refused = [vars(r)["error"] for r in caplog.records if getattr(r, "action", "") == "connection_error"]
        assert all(refused.count(error) <= 10 for error in refused)  # each of ten connections says it once


async def test_the_client_says_with_which_key_to_submit_again(r1: Servers) -> None:
    async def at_once(seconds: float) -> None:
        return None

    listens = served(settings_for(r1), patience=0.1)
    async with listens as http, AsyncHeadrace(str(http.base_url), sleep=at_once) as client:
        await r1.kill()
        with pytest.raises(Unavailable, match="with the key my-key") as raised:
            await client.submit("recital", {"text": "go"}, key="my-key")
        assert raised.value.retry_after == 1
        await r1.start()


async def test_a_submission_is_stored_even_if_its_request_is_cancelled(r1: Servers) -> None:
    settings = settings_for(r1)
    front = Front(ingress(settings), results(settings))
    body, sent = asyncio.Event(), []
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"idempotency-key", b"left")]
    scope = {"type": "http", "method": "POST", "path": RECITAL, "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        body.set()
        return {"type": "http.request", "body": b'{"input":{"text":"go"}}', "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    client = httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://localhost")
    async with opened(r1) as journal, front._lifespan(front.api), client as http:
        while (await http.get("/v1/pipelines")).status_code != 200:  # until it is known that nobody needs a key
            pass
        await r1.kill()
        request = asyncio.create_task(front(scope, receive, send))
        await body.wait()
        await asyncio.sleep(0)  # the append begins
        request.cancel()  # as Serve does when the client goes away
        await asyncio.wait({request})
        assert request.cancelled()
        await r1.start()
        await journal.wait_until_up()
        follower = Follower(journal.live, journal.reader)
        async with asyncio.timeout(20), follower.follow(LOCAL, job_id(LOCAL, "left"), Place()) as events:
            assert (await anext(events)).n == 1
    assert not sent


async def test_stages_show_what_waits_without_a_worker_and_what_runs_with_one(r1: Servers, gate: asyncio.Event) -> None:
    settings = settings_for(r1)
    async with served(settings) as http, AsyncHeadrace(str(http.base_url)) as client:
        for lane in ("interactive", "standard", "standard"):
            job = (await http.post(RECITAL, json={"input": {"text": "go"}, "lane": lane})).json()["id"]
        waits = {s.stage: s for s in await client.stages()}
        assert (waits["prepare"].waiting, waits["prepare"].running, waits["prepare"].replicas) == (3, 0, ())
        assert {lane: b.waiting for lane, b in waits["prepare"].lanes.items()} == {
            "interactive": 1,
            "standard": 2,
            "batch": 0,
        }
        assert waits["prepare"].oldest_age_s is not None
        assert waits["recite"].oldest_age_s is None
        assert waits["prepare"].pipelines == ("recital",)
        async with working(settings, *STAGES):
            async for event in client.events(job):
                if event.kind == "step.started" and getattr(event, "stage", "") == "recite":
                    async with asyncio.timeout(20):
                        while (runs := {s.stage: s for s in await client.stages()})["recite"].running != 3:
                            pass
                    assert [(r.state, r.jobs, r.free) for r in runs["recite"].replicas] == [("ready", 3, 13)]
                    assert runs["prepare"].waiting == 0
                    gate.set()
            async with asyncio.timeout(20):
                while sum(s.waiting + s.running for s in await client.stages()):
                    pass


def kind_of(answer: httpx.Response) -> str:
    assert_problem(answer, answer.status_code, kind := str(answer.json()["type"]).rpartition(":")[2])
    return kind


def assert_problem(answer: httpx.Response, status: int, kind: str) -> None:
    """An answer that RFC 9457 would recognize, and that says what to do."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == PROBLEM
    problem = answer.json()
    assert problem["type"] == f"urn:headrace:problem:{kind}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"].endswith(".")
