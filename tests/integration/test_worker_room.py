"""A worker that the log has no room for keeps what it has, and stores it once there is room."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from actors.contracts.events import Delta, HandOff
from actors.engines import Scripted
from actors.journal import Journal, Undecided
from actors.journal.forget import forget
from actors.journal.room import size
from actors.journal.topology import ensure
from tests.integration.conftest import ACK_WAIT_S, STAGES
from tests.nats_servers import Servers
from tests.office import office_on, starts
from tests.pipelines import Prepared, Wish, applaud, prepare, recital, recite
from tests.scribe import Scribe
from tests.verify import said, verify_open
from tests.workers import a_hand, with_engine

MAX_BYTES = 200_000
SPEECH = "Whoever waits for room keeps what he holds. " * 20


async def fill(journal: Journal) -> list[int]:
    """Text of another job, until nothing fits any more; where it lies."""
    filler = Scribe(journal.appender)
    await filler.hand_off("past")
    sequences = [filler.chain.seq]
    for length in (10_000, 1_000, 100, 1):
        with contextlib.suppress(Undecided):
            while True:
                delta = filler.event(Delta, stage="past", text="x" * length, tokens=(1,), from_=0).encode()
                seq = await journal.appender.append(
                    filler.address, "text", "past", delta, expect=filler.chain.seq, patience=1.0
                )
                filler.chain = filler.chain.with_text(seq, delta)
                sequences.append(seq)
    return sequences


@pytest.mark.timeout(90)
async def test_a_worker_without_room_keeps_its_lease_and_goes_on_when_there_is_room(servers: Servers) -> None:
    engine = Scripted(says=SPEECH, gate=asyncio.Event())
    async with Journal.open(servers.urls, "test") as journal, office_on(journal) as office:
        await ensure(journal.signals, STAGES, replicas=servers.replicas, max_bytes=MAX_BYTES, ack_wait=ACK_WAIT_S)
        async with a_hand(servers, recital, with_engine(recite, engine)):
            job = await office.post(recital, Prepared(text="go"), to="recite")
            await office.until_kind(job, "step.started")
            filled = await fill(journal)
            taken, most = await size(journal)
            assert taken > 0.99 * most
            assert engine.gate is not None
            engine.gate.set()
            [start] = starts(await office.log(job))
            beats = office.ear.count(b"+WPI", start.ack)
            await office.ear.until(b"+WPI", times=beats + 5, ack=start.ack)  # longer than a lease
            assert [r for r in await office.log(job) if isinstance(r.event, HandOff)][1:] == []
            assert office.ear.count(b"-NAK") == 0

            await forget(journal.signals, filled)
            await office.until_kind(job, "handoff", times=2)
        records = await office.log(job)
        verify_open(records)
        assert [start.attempt for start in starts(records)] == [1]
        assert said(records, "recite") == SPEECH


@pytest.mark.timeout(90)
async def test_an_output_waits_for_room_too_and_is_computed_once(r1: Servers) -> None:
    async with Journal.open(r1.urls, "test") as journal, office_on(journal) as office:
        await ensure(journal.signals, STAGES, max_bytes=MAX_BYTES, ack_wait=ACK_WAIT_S)
        job = await office.post(recital, Wish(text="w" * 50_000))
        filled = await fill(journal)
        async with a_hand(r1, recital, prepare):
            await office.ear.until(b"+WPI", times=5)
            assert len([r for r in await office.log(job) if isinstance(r.event, HandOff)]) == 1
            await forget(journal.signals, filled)
            await office.until_kind(job, "handoff", times=2)
        async with a_hand(r1, recital, with_engine(recite, Scripted(says="go"))), a_hand(r1, recital, applaud):
            records = await office.outcome(job)
        assert [start.attempt for start in starts(records) if start.stage == "prepare"] in ([], [1])
