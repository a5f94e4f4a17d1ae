"""Dead letters over HTTP: listed, shown, redriven once by however many, discarded for good."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from actors.client import AsyncHeadrace
from actors.client import Refused as ClientRefused
from actors.contracts.errors import Failure
from actors.contracts.events import DeadLettered, HandOff, Outcome, ReviewDiscarded, ReviewRedriven
from actors.contracts.messages import Message, Packed
from actors.contracts.subjects import LOCAL, redriven_job_id
from actors.engines.scripted import Cue
from actors.journal import Journal
from actors.journal.topology import JOBS
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.pipelines import SPEECH, Prepared, Wish, recital, reciter
from tests.scribe import Scribe, new_address
from tests.serving import served, settings_for, working
from tests.verify import kinds, verify
from tests.workers import BACKSTOP_S

LETTERS = "/v1/dead-letters"
R1 = pytest.mark.parametrize("servers", ["r1"], indirect=True)
"""What one server shows as well as three."""


@pytest_asyncio.fixture
async def office(journal: Journal) -> AsyncIterator[Office]:
    async with office_on(journal) as office:
        yield office


@pytest_asyncio.fixture
async def http(servers: Servers, office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(servers, nats_replicas=servers.replicas)) as http:
        yield http


async def a_letter(office: Office, message: Message | None = None, *, stage: str = "recite", **origin: Any) -> Scribe:
    """A job that used up its budget, as a worker would have left it."""
    message = message or Prepared(text="go")
    job = await office.post(recital, message, to=stage, **origin)
    broken = Failure(type="RuntimeError", message="it broke", trace="somewhere")
    await job.write(
        DeadLettered,
        origin=job.origin,
        stage=stage,
        reason="it failed as often as it may",
        input=Packed.of(message),
        errors=(broken, broken),
        attempts=3,
        crashes=1,
        deliveries=4,
        partial="The head",
    )
    return job


def redrive_path(job: Scribe) -> str:
    return f"{LETTERS}/{job.address.job}/redrive"


async def redriven(http: httpx.AsyncClient, job: Scribe) -> httpx.Response:
    """The answer of one who does what a 503 says: twenty at once may make a log of three servers too slow for some."""
    async with asyncio.timeout(BACKSTOP_S):
        while (answer := await http.post(redrive_path(job))).status_code == 503:
            assert "Send the same request again" in answer.json()["detail"]
    return answer


def discard_path(job: Scribe) -> str:
    return f"{LETTERS}/{job.address.job}/discard"


def kind_of(answer: httpx.Response) -> str:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return str(answer.json()["type"]).rpartition(":")[2]


async def every_page(http: httpx.AsyncClient, **asked: Any) -> list[list[dict[str, Any]]]:
    pages, cursor = [], None
    while True:
        said = (await http.get(LETTERS, params={**asked, **({"cursor": cursor} if cursor else {})})).json()
        pages.append(said["dead_letters"])
        if (cursor := said["next"]) is None:
            return pages


@R1
async def test_a_job_that_failed_too_often_is_redriven_from_the_stage_that_failed(
    servers: Servers, office: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reciter, "cues", (Cue("fail", times=3),))
    async with working(settings_for(servers), "prepare", "recite", "applaud"):
        job = await office.post(recital, Wish(text="go"), seconds=600)
        dead = await office.outcome(job)
        assert isinstance(dead[-1].event, DeadLettered)
        shown = (await http.get(f"{LETTERS}/{job.address.job}")).json()
        assert (shown["stage"], shown["input"], shown["type"]) == ("recite", {"text": "go"}, "Prepared")
        assert (shown["attempts"], len(shown["errors"]), shown["review"]) == (3, 3, "open")
        assert [e["kind"] for e in shown["timeline"]] == kinds(dead)

        answer = await http.post(redrive_path(job))
        assert answer.status_code == 202
        new = answer.json()
        assert new["id"] == redriven_job_id(LOCAL, job.address.job, 1)
        assert answer.headers["Location"] == f"/v1/jobs/{new['id']}"
        async with asyncio.timeout(BACKSTOP_S):
            while (made := (await http.get(answer.headers["Location"])).json())["status"] in ("queued", "running"):
                pass
        assert (made["status"], made["answer"]["text"]) == ("completed", SPEECH)
        assert made["redriven_from"] == job.address.job
    records = await office.journal.reader.job(LOCAL, new["id"])
    verify(records)
    assert [r.event.stage for r in records if isinstance(r.event, HandOff)] == ["recite", "applaud"]
    old = await office.log(job)
    verify(old)
    assert isinstance(old[-1].event, ReviewRedriven)
    assert old[-1].event.to == new["id"]
    made_of = records[0].event
    assert isinstance(made_of, HandOff)
    assert (made_of.origin.deadline - made_of.origin.created) == (job.origin.deadline - job.origin.created)
    assert (await http.get(f"{LETTERS}/{job.address.job}")).json()["redriven"] == [new["id"]]


async def test_two_people_who_redrive_at_once_make_one_job(office: Office, http: httpx.AsyncClient) -> None:
    job = await a_letter(office)
    answers = await asyncio.gather(*(redriven(http, job) for _ in range(20)))
    first, *others = sorted((a.status_code for a in answers), reverse=True)
    assert first in (200, 202)
    assert set(others) == {200}
    assert {a.json()["id"] for a in answers} == {redriven_job_id(LOCAL, job.address.job, 1)}
    records = await office.log(job)
    verify(records)
    assert kinds(records) == ["handoff", "dead_lettered", "review.redriven"]


@R1
async def test_a_redrive_that_was_cut_off_before_its_note_is_found_again(
    office: Office, http: httpx.AsyncClient
) -> None:
    job = await a_letter(office)
    first = await http.post(redrive_path(job))
    await office.journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": f"job.review.*.{LOCAL}.{job.address.job}"})
    again = await http.post(redrive_path(job), json={"number": 1})
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert kinds(await office.log(job))[-1] == "review.redriven"


@R1
async def test_a_redrive_is_repeated_by_its_number_and_done_anew_by_the_next(
    office: Office, http: httpx.AsyncClient
) -> None:
    job = await a_letter(office)
    first = (await http.post(redrive_path(job), json={"number": 1})).json()["id"]
    assert (await http.post(redrive_path(job))).json()["id"] == first  # it still runs
    await http.post(f"/v1/jobs/{first}/cancel")
    repeated = await http.post(redrive_path(job), json={"number": 1})
    assert (repeated.status_code, repeated.json()["id"]) == (200, first)
    second = await http.post(redrive_path(job))
    assert (second.status_code, second.json()["id"]) == (202, redriven_job_id(LOCAL, job.address.job, 2))
    assert kind_of(await http.post(redrive_path(job), json={"number": 4})) == "redriven-otherwise"
    assert (await http.get(f"{LETTERS}/{job.address.job}")).json()["redriven"] == [first, second.json()["id"]]


@R1
async def test_the_input_may_be_edited_and_must_fit_the_stage(office: Office, http: httpx.AsyncClient) -> None:
    job = await a_letter(office)
    unfit: list[dict[str, Any]] = [
        {"input": {"text": 5}},
        {"input": {}},
        {"input": {"text": "go", "more": 1}},
        {"input": "go"},
    ]
    for body in unfit:
        answer = await http.post(redrive_path(job), json=body)
        assert kind_of(answer) == "invalid", body
        assert answer.json()["errors"][0]["pointer"].startswith("#/input")
    for other in ({"number": 0}, {"number": "1"}, {"lane": "batch"}):
        assert kind_of(await http.post(redrive_path(job), json=other)) == "invalid"
    assert kinds(await office.log(job)) == ["handoff", "dead_lettered"]
    new = (await http.post(redrive_path(job), json={"input": {"text": "better"}})).json()["id"]
    handoff = (await office.journal.reader.job(LOCAL, new))[0].event
    assert isinstance(handoff, HandOff)
    assert handoff.message.body == {"text": "better"}
    otherwise = await http.post(redrive_path(job), json={"input": {"text": "worse"}, "number": 1})
    assert (otherwise.status_code, kind_of(otherwise)) == (409, "redriven-otherwise")


@R1
async def test_what_nothing_here_takes_is_not_redriven(office: Office, http: httpx.AsyncClient) -> None:
    class Elsewhere(Message):
        text: str = "x"

    for job in (await a_letter(office, pipeline="another"), await a_letter(office, Elsewhere())):
        answer = await http.post(redrive_path(job))
        assert (answer.status_code, kind_of(answer)) == (409, "not-redrivable")


@R1
async def test_a_discard_is_for_good(office: Office, http: httpx.AsyncClient) -> None:
    job = await a_letter(office)
    first = await http.post(discard_path(job), json={"reason": "of no use"})
    again = await http.post(discard_path(job), json={"reason": "still of no use"})
    assert (first.status_code, first.json()["review"], first.json()["discarded"]) == (200, "discarded", "of no use")
    assert (again.status_code, again.json()) == (200, first.json())
    refused = await http.post(redrive_path(job))
    assert (refused.status_code, kind_of(refused)) == (409, "discarded")
    assert "of no use" in refused.json()["detail"]
    records = await office.log(job)
    verify(records)
    assert isinstance(records[-1].event, ReviewDiscarded)
    assert kinds(records) == ["handoff", "dead_lettered", "review.discarded"]
    assert kind_of(await http.post(discard_path(job), json={})) == "invalid"


@R1
async def test_what_people_did_is_kept_as_long_as_the_dead_letter(office: Office, http: httpx.AsyncClient) -> None:
    job = await a_letter(office)
    await http.post(redrive_path(job))
    await http.post(discard_path(job), json={"reason": "enough"})
    for record in (await office.log(job))[2:]:
        found = await office.journal.signals.api(f"STREAM.MSG.GET.{JOBS}", {"seq": record.seq})
        assert "Nats-TTL: never" in base64.b64decode(found["message"]["hdrs"]).decode()


@R1
async def test_a_dead_letter_whose_job_is_forgotten_is_shown_and_redriven_all_the_same(
    office: Office, http: httpx.AsyncClient
) -> None:
    job = await a_letter(office)
    await office.journal.signals.api(f"STREAM.PURGE.{JOBS}", {"filter": f"job.recite.*.{LOCAL}.{job.address.job}"})
    shown = (await http.get(f"{LETTERS}/{job.address.job}")).json()
    assert [e["kind"] for e in shown["timeline"]] == ["dead_lettered"]
    assert (await http.post(redrive_path(job))).status_code == 202


@R1
async def test_they_are_listed_in_pages_and_by_filter(office: Office, http: httpx.AsyncClient) -> None:
    assert await every_page(http) == [[]]
    jobs = [await a_letter(office, stage="recite" if n % 2 else "applaud") for n in range(21)]
    other = await a_letter(office, pipeline="another")
    await http.post(discard_path(jobs[3]), json={"reason": "no"})
    await http.post(redrive_path(jobs[5]))
    ids = [job.address.job for job in jobs]
    listed = [letter for page in await every_page(http, limit=4) for letter in page]
    assert [letter["id"] for letter in listed] == [*ids, other.address.job]
    assert [letter["review"] for letter in listed[3:6]] == ["discarded", "open", "redriven"]
    assert listed[0]["error"] == {"type": "RuntimeError", "message": "it broke"}
    odd = [letter["id"] for page in await every_page(http, stage="recite", pipeline="recital") for letter in page]
    assert odd == ids[1::2]
    assert [letter["id"] for letter in (await every_page(http, pipeline="another"))[0]] == [other.address.job]
    assert await every_page(http, pipeline="nothing") == [[]]
    for asked in ({"limit": 0}, {"limit": 201}, {"limit": "x"}, {"cursor": "-1"}, {"cursor": "9" * 30}):
        assert kind_of(await http.get(LETTERS, params=asked)) == "bad-page"


@R1
async def test_what_is_no_dead_letter_is_not_found(office: Office, http: httpx.AsyncClient) -> None:
    alive = await office.post(recital, Wish(text="go"))
    for id in ("nothing", "*", new_address().job, alive.address.job):
        for answer in (
            await http.get(f"{LETTERS}/{id}"),
            await http.post(f"{LETTERS}/{id}/redrive"),
            await http.post(f"{LETTERS}/{id}/discard", json={"reason": "no"}),
        ):
            assert (answer.status_code, kind_of(answer)) == (404, "unknown-dead-letter")
    assert not [r for r in await office.log(alive) if isinstance(r.event, Outcome)]


@R1
async def test_the_python_client_reviews_them(office: Office, http: httpx.AsyncClient) -> None:
    jobs = [await a_letter(office) for _ in range(3)]
    async with AsyncHeadrace(str(http.base_url)) as client:
        assert [letter.id async for letter in client.dead_letters(stage="recite")] == [j.address.job for j in jobs]
        first, second, third = (job.address.job for job in jobs)
        made = await client.redrive(first, input={"text": "better"})
        assert (await client.job(made.id)).redriven_from == first
        assert (await client.redrive(first, input={"text": "better"}, number=1)).id == made.id
        assert (await client.discard(second, reason="enough")).discarded == "enough"
        with pytest.raises(ClientRefused, match="enough"):
            await client.redrive(second)
        assert [e.kind for e in (await client.dead_letter(third)).timeline] == ["handoff", "dead_lettered"]
        assert [letter.review async for letter in client.dead_letters()] == ["redriven", "discarded", "open"]
        assert (await client.cancel(made.id)).status == "cancelled"
