"""A dead worker's jobs are with another at once. Leases here last for minutes, so nothing else gives them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from actors import takeover
from actors.contracts.events import Completed, Delta, StepStarted
from actors.engines import Scripted
from actors.journal.topology import ensure
from tests.integration.conftest import STAGES, opened
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.pipelines import Prepared, recital, recite
from tests.workers import Nursery, Orders, a_hand, with_engine

ACK_WAIT_S = 600.0
TEXT = " ".join(f"w{n}" for n in range(200))


@asynccontextmanager
async def watched(servers: Servers, *, system_account: bool) -> AsyncIterator[Office]:
    """An office with long leases, and a watch over the workers of `recite`."""
    async with opened(servers) as journal, office_on(journal) as office:
        await ensure(journal.signals, STAGES, max_bytes=1 << 30, ack_wait=ACK_WAIT_S)
        watch = takeover.Takeover(["recite"], servers.sys_urls if system_account else [])
        watching = asyncio.create_task(watch.run(journal))
        try:
            yield office
        finally:
            watching.cancel()
            await asyncio.wait({watching})


@pytest.mark.parametrize("system_account", [True, False], ids=["told by the server", "by missed beats"])
async def test_a_killed_workers_job_goes_on_with_a_spare_long_before_its_lease_ends(
    r1: Servers, system_account: bool
) -> None:
    nursery = Nursery()
    try:
        async with watched(r1, system_account=system_account) as office:
            slow = {"says": TEXT, "token_s": 0.02}
            victim = nursery.bear(Orders(r1.urls, ack_wait=ACK_WAIT_S, engine=slow))
            job = await office.post(recital, Prepared(text="go"), to="recite")
            await office.until(job, lambda event: isinstance(event, Delta))
            spare = Scripted(says=TEXT, token_s=0.001)
            async with a_hand(r1, recital, with_engine(recite, spare), ack_wait=ACK_WAIT_S):
                victim.kill()
                assert await nursery.gone(victim) < 0
                seen = await office.until_kind(job, "handoff", times=2)
    finally:
        nursery.close()
    starts = [event for event in seen if isinstance(event, StepStarted)]
    assert [start.attempt for start in starts] == [1, 2]
    assert starts[1].from_ > 0
    assert "".join(event.text for event in seen if isinstance(event, Delta)) == TEXT
    stored = sum(len(event.tokens) for event in seen if isinstance(event, Delta))
    assert sum(spare.computed.values()) == stored - starts[1].from_


async def test_a_worker_that_lost_every_connection_is_not_waited_for(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(takeover, "GRACE_S", 600.0)
    monkeypatch.setattr(takeover, "MISSED_BEATS", 10**6)
    monkeypatch.setattr(takeover, "SWEEP_EVERY", 10**6)
    nursery = Nursery()
    try:
        async with watched(r1, system_account=True) as office:
            victim = nursery.bear(Orders(r1.urls, ack_wait=ACK_WAIT_S, engine={"says": TEXT, "token_s": 0.02}))
            job = await office.post(recital, Prepared(text="go"), to="recite")
            await office.until(job, lambda event: isinstance(event, Delta))
            async with a_hand(r1, recital, with_engine(recite, Scripted(says=TEXT)), ack_wait=ACK_WAIT_S):
                victim.kill()
                seen = await office.until_kind(job, "handoff", times=2)
    finally:
        nursery.close()
    assert [event.attempt for event in seen if isinstance(event, StepStarted)] == [1, 2]


async def test_a_worker_that_answers_keeps_its_jobs_whatever_is_said_of_it(r1: Servers) -> None:
    async with watched(r1, system_account=True) as office:
        engine = Scripted(says="all of it", gate=asyncio.Event())
        async with a_hand(r1, recital, with_engine(recite, engine), ack_wait=ACK_WAIT_S) as hand:
            job = await office.post(recital, Prepared(text="go"), to="recite")
            await office.until_kind(job, "step.started")
            # The server reports this connection gone; nats-py returns at once, and the worker answers.
            await hand.journal.signals.client._process_op_err(ConnectionResetError("cut by the test"))
            await hand.journal.signals.wait_until_up()
            assert engine.gate is not None
            engine.gate.set()
            seen = await office.until_kind(job, "handoff", times=2)
    assert [event.attempt for event in seen if isinstance(event, StepStarted)] == [1]
    assert not any(isinstance(event, Completed) for event in seen)
