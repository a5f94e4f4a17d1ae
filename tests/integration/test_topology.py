"""The streams are made once, by whoever is first, on whatever room there is; queues, as many as there may be."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actors.contracts.events import HandOff
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import Queue, plain_queues
from actors.journal import Journal, topology
from actors.journal.lag import queues_of
from actors.journal.mirror import Mirror
from actors.journal.server_config import Identity, is_free
from actors.journal.shares import Shares
from actors.journal.topology import AUDIT, JOBS, NoMoreQueues, ensure, ensure_queue, queues
from actors.runtime import replica as replicas
from tests.actions import watched_actions
from tests.integration.conftest import ACK_WAIT_S, R1, STAGES
from tests.integration.test_replica import becomes, running
from tests.nats_servers import Node, Servers
from tests.office import office_on
from tests.pipelines import Recital, recital

MIB = 1 << 20


async def test_streams_that_leave_little_room_are_found_there_by_everybody_else(tmp_path: Path) -> None:
    identity = Identity.new(is_free).model_copy(update={"room": 150 * MIB})
    servers = Servers([Node(identity, tmp_path)])
    await servers.start()
    try:
        async with Journal.open(servers.urls, "test") as journal:
            wanted = {"max_bytes": 88 * MIB, "audit_max_bytes": 33 * MIB}
            await asyncio.gather(*(ensure(journal.signals, ["write"], **wanted) for _ in range(3)))
            await ensure(journal.signals, ["write"], **wanted)
            await ensure(journal.signals, ["write"], max_bytes=80 * MIB, audit_max_bytes=33 * MIB)
            held = {name: await journal.signals.api(f"STREAM.INFO.{name}") for name in (JOBS, AUDIT)}
        assert {name: info["config"]["max_bytes"] for name, info in held.items()} == {
            JOBS: 80 * MIB,
            AUDIT: 33 * MIB,
        }
    finally:
        await servers.close()


async def test_a_server_that_goes_away_while_the_queues_are_listed_is_waited_for(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Journal.open(r1.urls, "test") as journal:
        api, returning = journal.signals.api, list[asyncio.Task[None]]()

        async def and_goes_away(call: str, *rest: Any, **options: Any) -> dict[str, Any]:
            if call == f"CONSUMER.NAMES.{JOBS}" and not returning:
                await r1.kill()
                returning.append(asyncio.create_task(r1.start()))
            return await api(call, *rest, **options)

        monkeypatch.setattr(journal.signals, "api", and_goes_away)
        async with asyncio.timeout(60):
            await ensure(journal.signals, ["write"])
        assert returning
        await asyncio.gather(*returning)
        assert set(await queues(journal.signals)) == set(plain_queues(["write"]))


@R1
async def test_jobs_for_whose_share_there_is_no_room_wait_in_the_lane_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def share(tenant: str) -> int:
        fresh = Shares(Mirror(LIMITS, Limits), ack_wait=ACK_WAIT_S)
        return await fresh.of(journal.signals, tenant, "batch", ["write", "polish"])

    assert await share("a") == 1
    monkeypatch.setattr(topology, "MAX_CONSUMERS", len(await queues_of(journal.signals, STAGES)) + 1)
    await ensure(journal.signals, ["write"])
    with watched_actions() as actions:
        assert await share("b") == 0
        said = await actions.next("no_more_queues")
    assert "the queue polish-batch-02" in said["reason"]
    assert await share("a") == 1
    with watched_actions() as actions:  # who starts now finds a share that not every stage has a queue in
        await ensure(journal.signals, STAGES)
        said = await actions.next("no_more_queues")
    assert "the queue polish-batch-02" in said["reason"]
    monkeypatch.undo()
    await ensure(journal.signals, ["write"])
    assert await share("b") == 2


async def test_a_replica_for_whose_queues_there_is_no_room_says_so_until_there_is(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "MAX_CONSUMERS", 2)
    monkeypatch.setattr(replicas, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(replicas, "LONGEST_RETRY_S", 0.1)
    async with Journal.open(r1.urls, "test") as journal, office_on(journal) as office, running(r1, "applaud"):
        failed = await becomes(journal, "applaud", "failed")
        assert "there is no room for the queue applaud-batch: the log has 2 and takes no more" in failed.detail
        assert "serve some stages by an installation of their own" in failed.detail
        with pytest.raises(NoMoreQueues):
            await ensure_queue(journal.signals, Queue("write", "batch"), ack_wait=ACK_WAIT_S)
        job = await office.post(recital, Recital(text="so it was"), to="applaud")
        monkeypatch.setattr(topology, "MAX_CONSUMERS", 4_096)
        await becomes(journal, "applaud", "ready")
        assert not isinstance((await office.outcome(job))[-1].event, HandOff)
