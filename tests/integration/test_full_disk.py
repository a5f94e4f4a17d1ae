"""A full disk costs time and no job: service comes back by itself once there is room."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import httpx
import pytest

from actors.client import AsyncHeadrace
from actors.contracts.events import Delta
from actors.journal import Journal, Undecided
from actors.journal.disk import MIN_FREE
from actors.journal.server import DIED, DISK_FULL, DISK_HAS_ROOM, RESTARTED, EmbeddedServer
from actors.runtime.settings import Settings
from tests.actions import Actions, watched_actions
from tests.disk import Disk
from tests.nats_servers import lone
from tests.pipelines import PATHS
from tests.scribe import Scribe
from tests.serving import served, until_ready, working

KEEPER = "/v1/pipelines/keeper/jobs"
BIG = "x" * 100_000


@pytest.fixture
def actions() -> Iterator[Actions]:
    with watched_actions() as actions:
        yield actions


def settings_on(server: EmbeddedServer) -> Settings:
    return Settings(
        nats_url=server.url, pipelines=PATHS, max_bytes=server.jobs_bytes, audit_max_bytes=server.audit_bytes
    )


async def post_until_the_disk_is_full(http: httpx.AsyncClient) -> tuple[list[str], str]:
    """The jobs that were answered 202, and the key of the first that was not."""
    accepted: list[str] = []
    while (answer := await http.post(KEEPER, json={"input": {"data": BIG}})).status_code == 202:
        accepted.append(answer.json()["id"])
    assert answer.status_code == 503, answer.text
    return accepted, answer.json()["key"]


async def talk_on(journal: Journal, job: Scribe) -> None:
    """Text without end. Raises Undecided when it is not stored."""
    for n in itertools.count():
        delta = job.event(Delta, stage="keep", text=BIG, tokens=(n,), from_=n).encode()
        seq = await journal.appender.append(job.address, "text", "keep", delta, expect=job.chain.seq, patience=1.0)
        job.chain = job.chain.with_text(seq, delta)


@pytest.mark.timeout(120)
async def test_no_accepted_job_is_lost_on_a_full_disk_and_service_comes_back_once_there_is_room(
    small_disk: Disk, actions: Actions
) -> None:
    async with EmbeddedServer(small_disk.path / "nats") as server:
        settings, pid = settings_on(server), server.pid
        async with served(settings, patience=1.0) as http, working(settings, "keep"):
            small_disk.fill(leave=8 << 20)
            accepted, key = await post_until_the_disk_is_full(http)
            assert accepted
            told = await actions.next(DISK_FULL)
            assert told["needed"] == told["free"] + MIN_FREE
            not_ready = await http.get("/readyz")
            assert not_ready.status_code == 503
            assert "disk" in not_ready.json()["detail"]
            assert server.pid == pid  # it is not started again before there is room

            small_disk.make_room()
            await actions.next(DISK_HAS_ROOM)
            assert (await actions.next(RESTARTED))["pid"] != pid
            await until_ready(http)
            again = await http.post(KEEPER, json={"input": {"data": BIG}}, headers={"Idempotency-Key": key})
            assert again.status_code in (200, 202)
            async with AsyncHeadrace(str(http.base_url)) as client, asyncio.timeout(60):
                for job in (*accepted, again.json()["id"]):
                    assert len((await client.result(job))["data"]) == len(BIG)
    assert [actions.count(action) for action in (DISK_FULL, DISK_HAS_ROOM, RESTARTED, DIED)] == [1, 1, 1, 0]


async def test_a_disk_that_has_room_is_no_reason_to_start_the_server_again(small_disk: Disk, actions: Actions) -> None:
    async with EmbeddedServer(small_disk.path / "nats") as server:
        settings, pid = settings_on(server), server.pid
        async with served(settings, patience=1.0) as http:
            small_disk.fill(leave=MIN_FREE // 2)
            assert (await http.post(KEEPER, json={"input": {"data": 1}})).status_code == 202
            assert (await http.get("/readyz")).status_code == 200
        assert server.pid == pid
    assert actions.count(DISK_FULL) == 0


@pytest.mark.timeout(120)
async def test_a_server_of_ones_own_that_stores_nothing_is_told_of_until_it_was_started_again(
    small_disk: Disk, actions: Actions
) -> None:
    servers = lone(small_disk.path / "nats")
    await servers.start()
    settings = Settings(nats_url=servers.url, pipelines=PATHS)
    try:
        async with served(settings, patience=1.0) as http, Journal.open(servers.urls, "test") as journal:
            small_disk.fill(leave=2 << 20)
            job = Scribe(journal.appender)
            await job.hand_off("keep")
            # Text alone: the audit has no part in it, so that only the stream of jobs freezes.
            with pytest.raises(Undecided):
                await talk_on(journal, job)
            for room in (False, True):
                if room:
                    small_disk.make_room()
                not_ready = await http.get("/readyz")
                assert not_ready.status_code == 503
                assert "disk is full" in not_ready.json()["detail"]
            assert any("no space left" in line["reason"] for line in actions.all if line["action"] == "log_unavailable")
            await servers.stop()
            await servers.start()
            await until_ready(http)
            assert (await http.post(KEEPER, json={"input": {"data": 1}})).status_code == 202
            assert len(await journal.reader.job(job.address.tenant, job.address.job)) >= job.chain.n
    finally:
        await servers.close()
