"""A job may be put off from the start: it waits in the log alone, and goes on when its time has come."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from actors.contracts.events import HandOff
from actors.contracts.subjects import LOCAL
from actors.delays import Delays
from actors.journal import Journal, Unanswered
from actors.journal.later import Later
from actors.journal.topology import LATER
from actors.repair import Repair
from actors.runtime.writer import utc_now
from tests.integration.conftest import R1, opened
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.pipelines import keep, keeper
from tests.scribe import Scribe
from tests.serving import served, settings_for
from tests.verify import kinds
from tests.workers import a_hand


@pytest_asyncio.fixture
async def http(servers: Servers, office: Office) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_for(servers, nats_replicas=servers.replicas, deadline=3_600)) as http:
        yield http


@asynccontextmanager
async def the_clock(journal: Journal) -> AsyncIterator[None]:
    task = asyncio.create_task(Delays(f"clock/{secrets.token_hex(4)}", utc_now).run(journal))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def post(http: httpx.AsyncClient, key: str = "", **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": key or secrets.token_hex(8)}
    return await http.post("/v1/pipelines/keeper/jobs", json={"input": {"data": 1}, **more}, headers=headers)


async def put_off(http: httpx.AsyncClient, office: Office, **more: Any) -> Scribe:
    """A job that was stored, as a test follows it."""
    accepted = await post(http, **more)
    assert accepted.status_code == 202, accepted.text
    job = Scribe(office.journal.appender)
    job.address = type(job.address)("standard", LOCAL, accepted.json()["id"])
    return job


async def report(http: httpx.AsyncClient, job: Scribe) -> dict[str, Any]:
    told: dict[str, Any] = (await http.get(f"/v1/jobs/{job.address.job}")).json()
    return told


async def noted(office: Office) -> int:
    return int((await office.journal.signals.api(f"STREAM.INFO.{LATER}"))["state"]["messages"])


async def test_a_job_begins_when_its_time_has_come_and_not_before(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    async with a_hand(servers, keeper, keep):
        accepted = await post(http, start_after=1)
        at = datetime.fromisoformat(accepted.json()["created"]) + timedelta(seconds=1)
        assert (accepted.status_code, accepted.json()["status"]) == (202, "queued")
        assert datetime.fromisoformat(accepted.json()["waits_until"]) == at
        job = await put_off(http, office, start_after=1)
        waiting = await report(http, job)
        assert (waiting["status"], waiting["stage"]) == ("queued", "keep")
        assert await office.waiting("keep") == (0, 0), "it waits in its stage's queue"
        async with the_clock(office.journal):
            records = await office.outcome(job)
    assert kinds(records) == ["handoff", "handoff", "step.started", "completed"]
    first, again = (r.event for r in records[:2])
    assert isinstance(first, HandOff)
    assert isinstance(again, HandOff)
    assert records[0].subject.startswith("job.later.")
    assert (first.stage, again.stage, again.of, again.start_at) == ("keep", "keep", 1, None)
    assert first.start_at is not None
    assert again.at >= first.start_at - timedelta(seconds=0.1)
    assert first.origin.deadline == first.start_at + timedelta(seconds=3_600), (
        "the usual deadline counts from the start"
    )
    assert (await report(http, job)).get("waits_until") is None


@R1
@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"start_after": 60}, 202),
        ({"start_after": "2100-01-01T00:00:00Z"}, 422),
        ({"start_after": 60, "deadline": 60}, 422),
        ({"start_after": 60, "deadline": 61}, 202),
        ({"start_after": 6 * 86_400}, 422),
        ({"start_after": 5 * 86_400}, 202),
        ({"start_after": -1}, 422),
        ({"start_after": 1.5}, 422),
        ({"start_after": True}, 422),
        ({"start_after": "60"}, 422),
        ({"start_after": "2026-11-25T08:00:00"}, 422),
        ({"start_after": "tomorrow"}, 422),
        ({"start_after": "2020-01-01T00:00:00+01:00"}, 202),
        ({"start_after": 0}, 202),
        ({"start_after": None}, 202),
    ],
    ids=str,
)
async def test_a_start_lies_before_the_deadline(http: httpx.AsyncClient, more: dict[str, Any], status: int) -> None:
    answer = await post(http, **more)
    assert answer.status_code == status, answer.text
    if status == 422:
        assert all(e["pointer"].startswith("#/start_after") for e in answer.json()["errors"]), answer.text
    elif more["start_after"] in (None, 0) or str(more["start_after"]).startswith("2020"):
        assert "waits_until" not in answer.json(), "a start that has passed is none"
    else:
        assert "waits_until" in answer.json()


@R1
async def test_the_same_request_again_is_the_same_job_with_its_first_time(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    first, again = [await post(http, "key", start_after=3_600) for _ in range(2)]
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["waits_until"] == first.json()["waits_until"]
    assert (await post(http, "key", start_after=60)).status_code == 422
    assert (await post(http, "key")).status_code == 422
    assert await noted(office) == 1


@R1
async def test_who_was_cut_off_before_the_time_was_noted_makes_it_good_by_sending_it_again(
    servers: Servers, office: Office, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object) -> None:
        raise Unanswered("no such stream")

    with monkeypatch.context() as without:
        without.setattr(Later, "put_off", refuses)
        unknown = await post(http, "key", start_after=3_600)
        assert (unknown.status_code, unknown.json()["key"]) == (503, "key")
    assert await noted(office) == 0
    assert (await post(http, "key", start_after=3_600)).status_code == 200
    assert await noted(office) == 1


@R1
async def test_a_start_that_was_lost_is_found(servers: Servers, office: Office, http: httpx.AsyncClient) -> None:
    job = await put_off(http, office, start_after=600)
    await office.journal.signals.api(f"STREAM.PURGE.{LATER}")
    assert await Repair(["keep"], "clock/test", utc_now).round(office.journal) == 0
    assert await noted(office) == 1
    late = Repair(["keep"], "clock/test", lambda: utc_now() + timedelta(seconds=601))
    await office.journal.signals.api(f"STREAM.PURGE.{LATER}")
    assert await late.round(office.journal) == 1
    assert await late.round(office.journal) == 0
    async with a_hand(servers, keeper, keep):
        assert kinds(await office.outcome(job)) == ["handoff", "handoff", "step.started", "completed"]


@R1
async def test_a_job_that_is_put_off_is_cancelled_at_once_and_never_begins(
    servers: Servers, office: Office, http: httpx.AsyncClient
) -> None:
    job = await put_off(http, office, start_after=600)
    cancelled = await http.post(f"/v1/jobs/{job.address.job}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert await noted(office) == 0
    assert kinds(await office.outcome(job)) == ["handoff", "cancelled"]


@R1
async def test_a_start_survives_the_server(r1: Servers, office: Office, http: httpx.AsyncClient) -> None:
    job = await put_off(http, office, start_after=2)
    await r1.kill()
    await r1.start()
    again = opened(r1, "after")
    async with again as journal, office_on(journal) as after, a_hand(r1, keeper, keep), the_clock(journal):
        records = await after.outcome(job)
    assert kinds(records) == ["handoff", "handoff", "step.started", "completed"]


def test_a_time_without_a_timezone_is_refused_before_it_is_sent() -> None:
    from actors.client import BadRequest, Headrace

    with pytest.raises(BadRequest, match="timezone"), Headrace() as headrace:
        headrace.submit("keeper", {"data": 1}, start_after=datetime(2026, 11, 25, 8, tzinfo=UTC).replace(tzinfo=None))
