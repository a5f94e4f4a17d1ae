"""Pulling hand-offs: what fits and no more, urgent lanes first, over kills and elections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from threading import Thread

import pytest

from actors.contracts.subjects import LANES, Lane
from actors.journal import Journal, pull
from actors.journal.connection import ApiError
from actors.journal.pull import LANE_TURN, Acks, Delivery, Puller
from actors.journal.topology import JOBS
from tests.integration.conftest import opened
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.scribe import Scribe, new_address

BACKSTOP_S = 40.0
NEVER_S = 600.0
"""A lease so long that what comes again can only have been given back."""


class Slots:
    """A worker's free places."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self) -> int:
        return self.free


@asynccontextmanager
async def pulling(journal: Journal, room: Slots, *, stage: str = "write") -> AsyncIterator[Puller]:
    puller = Puller(journal.pulls, stage, room)
    await puller.open()
    try:
        yield puller
    finally:
        await puller.close()


async def post(journal: Journal, *lanes: Lane) -> list[str]:
    """A job per lane; their ids."""
    jobs = []
    for lane in lanes:
        scribe = Scribe(journal.appender, new_address(lane))
        await scribe.hand_off("write")
        jobs.append(scribe.address.job)
    return jobs


def jobs_of(deliveries: Sequence[Delivery]) -> list[str]:
    return [delivery.record.subject.rpartition(".")[2] for delivery in deliveries]


def lane_of(delivery: Delivery) -> str:
    return delivery.record.subject.split(".")[2]


async def take(puller: Puller) -> list[Delivery]:
    async with asyncio.timeout(BACKSTOP_S):
        return await puller.next()


async def waits(puller: Puller, room: Slots | None = None) -> asyncio.Task[list[Delivery]]:
    """A worker that has asked and got nothing: its standing pulls are at the server. What it gets takes up room."""

    async def ask() -> list[Delivery]:
        got = await puller.next()
        if room:
            room.free -= len(got)
        return got

    asking = asyncio.create_task(ask())
    async with asyncio.timeout(BACKSTOP_S):
        while len(puller._standing) < len(LANES):
            await puller._link.request("$JS.API.INFO")
    await puller._link.request("$JS.API.INFO")
    assert not asking.done()
    return asking


async def test_a_delivery_is_the_hand_off_as_it_was_stored(journal: Journal) -> None:
    scribe = Scribe(journal.appender)
    written = await scribe.hand_off("write")
    async with pulling(journal, Slots(1)) as puller:
        (delivery,) = await take(puller)
        assert delivery.record.event == written
        assert delivery.record.seq == scribe.chain.seq
        assert delivery.count == 1
        await Acks(journal.pulls).again(delivery.ack)
        (again,) = await take(puller)
        assert (again.record.seq, again.count) == (scribe.chain.seq, 2)


async def test_urgent_lanes_come_first(journal: Journal) -> None:
    posted = await post(journal, "batch", "standard", "interactive", "batch", "interactive")
    async with pulling(journal, Slots(5)) as puller:
        got = await take(puller)
    assert [lane_of(d) for d in got] == ["interactive", "interactive", "standard", "batch", "batch"]
    assert jobs_of(got) == [posted[i] for i in (2, 4, 1, 0, 3)]


async def test_within_a_lane_it_is_first_come_first_served(journal: Journal) -> None:
    lanes: list[Lane] = ["standard"] * 10
    posted = await post(journal, *lanes)
    async with pulling(journal, Slots(1)) as puller:
        got = [jobs_of(await take(puller))[0] for _ in range(10)]
    assert got == posted


async def test_the_batch_lane_has_its_turn_however_much_is_urgent(journal_r1: Journal) -> None:
    urgent: list[Lane] = ["interactive"] * (LANE_TURN + 5)
    await post(journal_r1, "batch", *urgent)
    async with pulling(journal_r1, Slots(1)) as puller:
        taken = [lane_of((await take(puller))[0]) for _ in range(LANE_TURN)]
    assert taken == ["interactive"] * (LANE_TURN - 1) + ["batch"]


@pytest.mark.parametrize("seed", range(3))
async def test_there_is_never_more_than_fits(r1: Servers, seed: int) -> None:
    rng, room = Random(seed), Slots(7)
    lanes: list[Lane] = [rng.choice(LANES) for _ in range(60)]
    running: list[Delivery] = []
    done: list[str] = []
    async with opened(r1, ack_wait=NEVER_S) as journal, pulling(journal, room) as puller:
        posting = asyncio.create_task(post(journal, *lanes))
        while len(done) < 60:
            if room.free and len(done) + len(running) < 60:
                got = await take(puller)
                assert 1 <= len(got) <= room.free
                running += got
                room.free -= len(got)
            for delivery in rng.sample(running, rng.randint(1, len(running))):
                await Acks(journal.pulls).done(delivery.ack)
                running.remove(delivery)
                done += jobs_of([delivery])
                room.free += 1
        assert sorted(done) == sorted(await posting)


async def test_a_surplus_goes_back_at_once(r1: Servers) -> None:
    async with (
        opened(r1, ack_wait=NEVER_S) as journal,
        office_on(journal) as office,
        opened(r1, ack_wait=NEVER_S) as another,
        pulling(journal, room := Slots(1)) as puller,
    ):
        asking = await waits(puller, room)
        posted = await post(journal, "batch", "standard", "interactive")
        async with asyncio.timeout(BACKSTOP_S):
            got = await asking
            await office.ear.until(b"-NAK", times=2)
        assert len(got) == 1
        async with pulling(another, Slots(3)) as second:
            rest: list[Delivery] = []
            while len(rest) < 2:
                rest += await take(second)
        assert sorted(jobs_of(got + rest)) == sorted(posted)


async def test_without_room_nothing_is_kept(r1: Servers) -> None:
    room = Slots(1)
    async with (
        opened(r1, ack_wait=NEVER_S) as journal,
        office_on(journal) as office,
        pulling(journal, room) as puller,
    ):
        asking = await waits(puller)
        room.free = 0
        await post(journal, "standard")
        await office.ear.until(b"-NAK")
        async with asyncio.timeout(BACKSTOP_S):
            assert await asking == []
        room.free = 1
        [delivery] = await take(puller)
        assert delivery.count == 2
        assert office.ear.count(b"-NAK") == 1


async def test_waiting_pulls_survive_a_kill_and_a_restart(servers: Servers) -> None:
    async with opened(servers) as journal, pulling(journal, Slots(1)) as puller:
        asking = await waits(puller)
        leader = await servers.leader_of(JOBS)
        await servers.kill(leader)
        await servers.start(leader)
        posted = await post(journal, "standard")
        async with asyncio.timeout(BACKSTOP_S):
            assert jobs_of(await asking) == posted


async def test_waiting_pulls_survive_elections(r3: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pull, "HEARTBEAT_S", 0.5)
    async with opened(r3) as journal, pulling(journal, Slots(1)) as puller:
        for _ in range(3):
            asking = await waits(puller)
            for lane in LANES:
                with suppress(ApiError):  # 10008: it has no leader just now
                    await journal.signals.api(f"CONSUMER.LEADER.STEPDOWN.{JOBS}.write-{lane}")
            posted = await post(journal, "standard")
            async with asyncio.timeout(BACKSTOP_S):
                (delivery,) = await asking
            assert jobs_of([delivery]) == posted
            await Acks(journal.pulls).done(delivery.ack)


async def test_a_lost_standing_pull_is_made_again(r3: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server that held it is killed; the worker is connected to another one, which says nothing about it."""
    monkeypatch.setattr(pull, "HEARTBEAT_S", 0.3)
    async with opened(r3):
        leader = await r3.leader_of(JOBS)
        others = [url for index, url in enumerate(r3.urls) if index != leader]
        async with Journal.open(others[:1], "worker") as elsewhere, pulling(elsewhere, Slots(1)) as puller:
            asking = await waits(puller)
            await r3.kill(leader)
            posted = await post(elsewhere, "standard")
            async with asyncio.timeout(BACKSTOP_S):
                assert jobs_of(await asking) == posted
            await r3.start(leader)


async def test_closing_gives_back_what_nobody_took(r1: Servers) -> None:
    async with opened(r1, ack_wait=NEVER_S) as journal:
        room = Slots(1)
        puller = Puller(journal.pulls, "write", room)
        await puller.open()
        asking = await waits(puller)
        await puller.close()
        assert await asking == []
        posted = await post(journal, *LANES)
        async with pulling(journal, Slots(3)) as second:
            got: list[Delivery] = []
            while len(got) < 3:
                got += await take(second)
        assert sorted(jobs_of(got)) == sorted(posted)


async def test_closing_gives_back_what_is_just_arriving(r1: Servers) -> None:
    async with opened(r1, ack_wait=NEVER_S) as journal:
        puller = Puller(journal.pulls, "write", Slots(1))
        await puller.open()
        asking = await waits(puller)

        # Beside this loop, which does not read what arrives meanwhile.
        thread = Thread(target=lambda: asyncio.run(post_to(r1, *LANES)))
        thread.start()
        thread.join()
        await puller.close()
        got = await asking
        async with pulling(journal, Slots(3)) as second:
            while len(got) < 3:
                got += await take(second)
        assert sorted(lane_of(delivery) for delivery in got) == sorted(LANES)


async def post_to(servers: Servers, *lanes: Lane) -> None:
    async with Journal.open(servers.urls, "poster") as journal:
        await post(journal, *lanes)


async def test_a_worker_that_stops_while_it_starts_just_stops(journal_r1: Journal) -> None:
    early = Puller(journal_r1.pulls, "write", Slots(1))
    await early.close()
    await early.open()
    assert await take(early) == []

    puller = Puller(journal_r1.pulls, "write", Slots(1))
    opening = asyncio.create_task(puller.open())
    await asyncio.sleep(0)
    await puller.close()
    await opening
    assert await take(puller) == []
    await puller.close()


async def test_a_stage_without_its_consumers_is_asked_for_patiently(journal_r1: Journal) -> None:
    async with office_on(journal_r1) as office, pulling(journal_r1, Slots(1), stage="missing") as puller:
        asking = asyncio.create_task(puller.next())
        await asyncio.wait([asking], timeout=1.0)
        assert not asking.done()
        assert puller._pulls < 30
        assert isinstance(office, Office)
        asking.cancel()


async def test_what_was_asked_for_is_taken_though_there_is_no_room_any_more(journal: Journal) -> None:
    """Given back, the server would give it to the same pull again and again, until its deliveries are used up."""
    lanes: list[Lane] = ["standard"] * 12
    jobs = await post(journal, *lanes)

    class Shrinking(Slots):
        """Room that is gone after it was asked about once for each lane."""

        def __call__(self) -> int:
            self.free = max(0, self.free - 4)
            return self.free

    async with pulling(journal, Shrinking(20)) as puller:
        got = await take(puller)
    assert sorted(jobs_of(got)) == sorted(jobs)
    assert {delivery.count for delivery in got} == {1}


async def test_what_comes_while_the_puller_closes_is_given_out_again_once(journal: Journal) -> None:
    lanes: list[Lane] = ["standard"] * 40
    jobs = await post(journal, *lanes)
    async with pulling(journal, Slots(64)) as puller:
        asking = asyncio.create_task(puller.next())
        while not asking.done() and puller._asking is None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        puller._closing = True
        assert await asking == []
    async with pulling(journal, Slots(64)) as puller:
        got: list[Delivery] = []
        while len(got) < len(jobs):
            got += await take(puller)
    assert sorted(jobs_of(got)) == sorted(jobs)
    assert max(delivery.count for delivery in got) <= 2
