"""Tenants share a stage by weight, no lane is starved, and a freed slot asks few queues, however many there are."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from actors.clock import Clock
from actors.contracts.events import Aborted, Completed
from actors.contracts.limits import LIMITS, Limits
from actors.contracts.subjects import LANES, LOCAL, Lane, Queue, Subject, arrivals_subject
from actors.engines import Scripted
from actors.journal import Appender, Journal, flows, pull
from actors.journal.connection import Link
from actors.journal.flows import BLIND, LISTED_S, Flows
from actors.journal.lag import Flow, flow_of, queues_of, stage_lag
from actors.journal.mirror import Mirror
from actors.journal.pull import LANE_TURN, Acks, Delivery, Puller, equal
from actors.journal.shares import Shares
from actors.journal.shelf import Shelf
from actors.journal.topology import ensure, ensure_queue
from actors.runtime.settings import Settings
from tests.integration.conftest import ACK_WAIT_S, R1, STAGES, opened
from tests.nats_servers import Servers
from tests.office import office_on
from tests.pipelines import PATHS, Prepared, Wish, recital, recite
from tests.scribe import Scribe, an_origin, new_address
from tests.workers import a_hand, with_engine

BACKSTOP_S = 40.0
NEVER_S = 600.0
"""A lease so long that what comes again can only have been given back."""

HEAVY, LIGHT = 1, 2
TENANTS = {0: LOCAL, HEAVY: "heavy", LIGHT: "light"}


class Slots:
    """A worker's free places."""

    def __init__(self, free: int) -> None:
        self.free = free

    def __call__(self) -> int:
        return self.free


@asynccontextmanager
async def pulling(
    journal: Journal, room: Slots, weight: Callable[[int], float] = equal, *, stage: str = "write"
) -> AsyncIterator[Puller]:
    puller = Puller(journal.pulls, stage, room, weight=weight)
    await puller.open()
    try:
        yield puller
    finally:
        await puller.close()


async def post(journal: Journal, share: int, jobs: int = 1, lane: Lane = "standard", stage: str = "write") -> None:
    """So many jobs of the tenant who has this share."""
    queue = Queue(stage, lane, share)
    await ensure_queue(journal.signals, queue, ack_wait=NEVER_S)
    for _ in range(jobs):
        await Scribe(journal.appender, new_address(lane, TENANTS.get(share, "c"), share)).hand_off(stage)
    if jobs:
        await _seen(journal, queue)


async def _seen(journal: Journal, queue: Queue) -> None:
    """What is stored may be there a moment before a pull that does not wait is given it."""
    async with asyncio.timeout(BACKSTOP_S):
        while not ((flow := await flow_of(journal.signals, queue)).waiting or flow.running):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def take(puller: Puller) -> list[Delivery]:
    async with asyncio.timeout(BACKSTOP_S):
        return await puller.next()


def share_of(delivery: Delivery) -> int:
    return Subject.parse(delivery.record.subject).share


def lane_of(delivery: Delivery) -> Lane:
    return Subject.parse(delivery.record.subject).lane


async def take_one_by_one(puller: Puller, times: int) -> list[Delivery]:
    return [delivery for _ in range(times) for delivery in await take(puller)]


@R1
async def test_tenants_with_a_backlog_are_started_in_proportion_to_their_weights(journal: Journal) -> None:
    await post(journal, 0, 12)
    await post(journal, HEAVY, 12)
    await post(journal, LIGHT, 12)
    async with pulling(journal, Slots(1), {0: 1.0, HEAVY: 1.0, LIGHT: 2.0}.__getitem__) as puller:
        started = Counter(share_of(delivery) for delivery in await take_one_by_one(puller, 12))
    assert started == {0: 3, HEAVY: 3, LIGHT: 6}


@R1
async def test_many_slots_at_once_are_given_by_weight_too(journal: Journal) -> None:
    await post(journal, HEAVY, 30)
    await post(journal, LIGHT, 3)
    async with pulling(journal, Slots(12)) as puller:
        started = Counter(share_of(delivery) for delivery in await take(puller))
    assert started == {HEAVY: 9, LIGHT: 3}


async def test_the_next_slot_is_the_light_tenants_however_much_of_the_heavy_one_waits(journal: Journal) -> None:
    await post(journal, HEAVY, 60)
    async with pulling(journal, Slots(1)) as puller:
        await take_one_by_one(puller, 5)
        for _ in range(3):
            await post(journal, LIGHT)
            await _told(puller, Queue("write", "standard", LIGHT))
            assert [share_of(delivery) for delivery in await take_one_by_one(puller, 2)] == [LIGHT, HEAVY]


@R1
async def test_a_slot_that_is_freed_asks_as_few_queues_with_many_tenants_as_with_few(journal: Journal) -> None:
    for share in range(3, 20):
        await post(journal, share, 0)
    await post(journal, HEAVY, 60)
    async with pulling(journal, Slots(1)) as puller:
        await take_one_by_one(puller, 20)  # each has been asked once
        before = puller._pulls
        taken = await take_one_by_one(puller, 20)
        asked = puller._pulls - before
    assert {share_of(delivery) for delivery in taken} == {HEAVY}
    # interactive and standard themselves, the one that has something, and one more: batch on some turns.
    assert asked <= 20 * 4 + 2


async def test_a_busy_worker_is_told_of_the_first_job_of_a_new_tenant(journal: Journal) -> None:
    await post(journal, HEAVY, 10)
    async with pulling(journal, Slots(1)) as puller:
        await take_one_by_one(puller, 3)
        await post(journal, LIGHT)
        await _told(puller, Queue("write", "standard", LIGHT))
        assert [share_of(delivery) for delivery in await take(puller)] == [LIGHT]


@R1
async def test_an_idle_worker_gets_the_first_job_of_a_new_tenant(journal: Journal) -> None:
    async with pulling(journal, Slots(1)) as puller:
        asking = asyncio.create_task(puller.next())
        async with asyncio.timeout(BACKSTOP_S):
            while len(puller._standing) < len(LANES):
                await journal.pulls.request("$JS.API.INFO")
            await post(journal, LIGHT)
            assert [share_of(delivery) for delivery in await asking] == [LIGHT]


@R1
async def test_a_queue_that_was_told_of_and_seemed_empty_is_asked_again(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pull, "SETTLED_S", 60.0)
    for share in range(3, 20):  # so many that it is not found blindly
        await post(journal, share, 0)
    await post(journal, LIGHT, 0)
    await post(journal, HEAVY, 60)
    async with pulling(journal, Slots(1)) as puller:
        await take_one_by_one(puller, 5)
        puller._waits.clear()
        await journal.appends.send(arrivals_subject("write", "standard-02"))
        await _told(puller, Queue("write", "standard", LIGHT))
        assert [share_of(delivery) for delivery in await take(puller)] == [HEAVY]
        monkeypatch.setattr(Appender, "_tell_arrival", _say_nothing)
        await post(journal, LIGHT)
        assert [share_of(delivery) for delivery in await take(puller)] == [LIGHT]


async def _say_nothing(_: Appender, place: Subject) -> None:
    pass


async def _told(puller: Puller, queue: Queue) -> None:
    async with asyncio.timeout(BACKSTOP_S):
        while queue.token not in puller._waits:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@R1
async def test_what_came_back_to_a_share_and_was_not_told_is_found(journal: Journal) -> None:
    await post(journal, LIGHT)
    await post(journal, HEAVY, 30)
    async with pulling(journal, Slots(1)) as puller:
        first = await take_one_by_one(puller, 6)
        (light,) = [delivery for delivery in first if share_of(delivery) == LIGHT]
        await Acks(journal.pulls).again(light.ack)
        again = [delivery for delivery in await take_one_by_one(puller, 6) if share_of(delivery) == LIGHT]
    assert [(delivery.record.seq, delivery.count) for delivery in again] == [(light.record.seq, 2)]


@R1
async def test_no_lane_is_starved_by_those_that_go_first(journal: Journal) -> None:
    turns = 2 * LANE_TURN + 2
    for lane in LANES:
        await post(journal, HEAVY, turns, lane)
    async with pulling(journal, Slots(1)) as puller:
        taken = [lane_of(delivery) for delivery in await take_one_by_one(puller, turns)]
    assert Counter(taken) == {"interactive": turns - 4, "standard": 2, "batch": 2}
    assert taken[: LANE_TURN - 1] == ["interactive"] * (LANE_TURN - 1)


@R1
async def test_the_turn_of_a_lane_that_was_passed_over_is_one_slot_however_many_are_free(journal: Journal) -> None:
    for lane in LANES:
        await post(journal, 0, 2 * LANE_TURN, lane)
    room = Slots(1)
    async with pulling(journal, room) as puller:
        await take_one_by_one(puller, LANE_TURN - 1)
        room.free = 8
        taken = Counter(lane_of(delivery) for delivery in await take(puller))
    assert taken == {"interactive": 6, "standard": 1, "batch": 1}


@R1
async def test_a_lane_that_has_its_slots_anyway_takes_no_turn_from_one_that_goes_first(journal: Journal) -> None:
    await post(journal, 0, 3 * LANE_TURN, "batch")
    async with pulling(journal, Slots(1)) as puller:
        for _ in range(LANE_TURN):
            await post(journal, 0, 1, "interactive")
            assert [lane_of(delivery) for delivery in await take_one_by_one(puller, 2)] == ["interactive", "batch"]


@R1
async def test_tenants_get_shares_of_their_own_with_their_first_jobs_and_keep_them(journal: Journal) -> None:
    async def share(tenant: str) -> int:
        fresh = Shares(Mirror(LIMITS, Limits), ack_wait=ACK_WAIT_S)
        return await fresh.of(journal.signals, tenant, "batch", ["write", "polish"])

    shelf = Shelf(journal.signals, LIMITS, Limits)
    await shelf.put("b", Limits(weight=3, waiting=7), expect=0)
    assert [await share(tenant) for tenant in (LOCAL, "a", "b", "c", "a", LOCAL)] == [0, 1, 2, 3, 1, 0]
    assert {entry.name: entry.value for entry in await shelf.all()} == {
        "a": Limits(share=1),
        "b": Limits(weight=3, waiting=7, share=2),
        "c": Limits(share=3),
    }
    shared = [queue for queue in await queues_of(journal.signals, STAGES) if queue.share]
    assert sorted(queue.consumer for queue in shared) == [
        f"{stage}-batch-0{n}" for stage in ("polish", "write") for n in (1, 2, 3)
    ]
    together = await asyncio.gather(*(share("d") for _ in range(8)))
    assert len(set(together)) == 1


@R1
async def test_a_new_stage_serves_every_share_that_there_is(journal: Journal) -> None:
    await post(journal, LIGHT, 0)
    await post(journal, HEAVY, 0, "batch")
    await ensure(journal.signals, ["write_2"])
    shared = [queue for queue in await queues_of(journal.signals, ["write_2"]) if queue.share]
    assert sorted(queue.consumer for queue in shared) == ["write_2-batch-01", "write_2-standard-02"]


@R1
async def test_the_lag_of_a_lane_is_that_of_all_its_shares(journal: Journal) -> None:
    await post(journal, 0, 1)
    await post(journal, LIGHT, 2)
    await post(journal, HEAVY, 3)
    async with pulling(journal, Slots(1)) as puller:
        (running,) = await take(puller)
        lags = {lag.lane: lag for lag in await stage_lag(journal.signals, journal.reader, "write")}
    assert [(lags[lane].waiting, lags[lane].running) for lane in LANES] == [(0, 0), (5, 1), (0, 0)]
    oldest = lags["standard"].oldest
    assert oldest is not None
    assert running.record.seq == 1


class Looks:
    """Looks at what goes through a stage, and notes which queues are asked."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.flows = Flows(journal.signals, "write", now=lambda: self.now)
        self.now = 0.0
        self.asked: list[Queue] = []
        monkeypatch.setattr(flows, "flow_of", self._flow_of)

    async def _flow_of(self, link: Link, queue: Queue) -> Flow:
        self.asked.append(queue)
        return await flow_of(link, queue)

    async def look(self) -> int:
        """How many wait, as it sees it."""
        self.asked.clear()
        return sum(flow.waiting for flow in await self.flows.look())


@R1
async def test_a_look_asks_few_queues_of_tenants_who_have_nothing_and_all_in_turn(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = range(3, 3 * BLIND)
    for share in shares:
        await post(journal, share, 0)
    await post(journal, HEAVY, 5)
    looks = Looks(journal, monkeypatch)
    await looks.flows.open()
    assert await looks.look() == 5
    assert len(looks.asked) == len(shares) + 1 + len(LANES)
    seen = set[int]()
    for _ in range(3):
        assert await looks.look() == 5
        assert len(looks.asked) <= len(LANES) + 1 + BLIND
        seen |= {queue.share for queue in looks.asked}
    assert seen == {0, HEAVY, *shares}


@R1
async def test_what_comes_to_a_share_is_seen_at_the_next_look(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "BLIND", 0)
    await post(journal, LIGHT, 0)
    looks = Looks(journal, monkeypatch)
    await looks.flows.open()
    assert [await looks.look(), await looks.look()] == [0, 0]
    for share, waiting in ((LIGHT, 1), (HEAVY, 2)):  # one that was there and empty, and a new one
        await post(journal, share)
        async with asyncio.timeout(BACKSTOP_S):
            while Queue("write", "standard", share) not in looks.flows._told:
                await journal.signals.request("$JS.API.INFO")
        assert await looks.look() == waiting


@R1
async def test_what_came_to_a_share_and_was_not_told_is_seen_before_long(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Appender, "_tell_arrival", _say_nothing)
    shares = range(1, 3 * BLIND + 1)
    for share in shares:
        await post(journal, share, 0)
    looks = Looks(journal, monkeypatch)
    await looks.flows.open()
    assert await looks.look() == 0
    for share in shares:
        await post(journal, share)
    assert [await looks.look() for _ in range(3)] == [BLIND, 2 * BLIND, 3 * BLIND]
    await post(journal, 30)
    looks.now += LISTED_S
    assert await looks.look() == 3 * BLIND + 1, "a queue that is new"


async def test_after_a_restart_of_the_server_every_queue_is_asked_again(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "BLIND", 0)
    async with opened(r1) as journal:
        await post(journal, LIGHT, 0)
        looks = Looks(journal, monkeypatch)
        await looks.flows.open()
        assert await looks.look() == 0
        await r1.kill()
        await r1.start()
        await journal.wait_until_up()
        assert await looks.look() == 0
        assert Queue("write", "standard", LIGHT) in looks.asked


@R1
async def test_a_connection_that_comes_back_in_the_middle_of_a_look_leaves_no_queue_unasked(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Appender, "_tell_arrival", _say_nothing)
    await post(journal, LIGHT, 0)
    looks = Looks(journal, monkeypatch)
    await looks.flows.open()

    async def and_is_back(link: Link, queue: Queue) -> Flow:
        for call in journal.signals.reconnected:
            call()
        return await flow_of(link, queue)

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(flows, "flow_of", and_is_back)
        assert [await looks.look() for _ in range(3)] == [0, 0, 0]
    assert [await looks.look() for _ in range(3)] == [0, 0, 0]
    await post(journal, LIGHT)
    assert await looks.look() == 1


async def test_a_job_of_a_tenant_is_done_by_a_worker_and_kept_in_its_share(r1: Servers) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        await ensure_queue(journal.signals, Queue("recite", "batch", LIGHT), ack_wait=ACK_WAIT_S)
        origin = an_origin(pipeline=recital.name, version=recital.version)
        job = Scribe(journal.appender, new_address("batch", "light", LIGHT), origin=origin)
        await ensure_queue(journal.signals, Queue("applaud", "batch", LIGHT), ack_wait=ACK_WAIT_S)
        async with (
            a_hand(r1, recital, with_engine(recite, Scripted(says="said"))),
            a_hand(r1, recital, recital.stages[-1]),
        ):
            await job.hand_off("recite", Prepared(text="go"))
            records = await office.outcome(job)
    assert isinstance(records[-1].event, Completed)
    assert {record.subject.split(".")[2] for record in records} == {"batch-02"}


async def test_the_clock_ends_an_overdue_job_in_any_share(r1: Servers) -> None:
    async with opened(r1) as journal, office_on(journal) as office:
        await ensure_queue(journal.signals, Queue("prepare", "standard", LIGHT), ack_wait=ACK_WAIT_S)
        origin = an_origin(pipeline=recital.name, version=recital.version, seconds=-1)
        job = Scribe(journal.appender, new_address("standard", "light", LIGHT), origin=origin)
        await job.hand_off("prepare", Wish(text="late"))
        clock = Clock(Settings(nats_url=r1.url, pipelines=PATHS))
        assert await clock.round(journal) == 1
        assert isinstance((await office.outcome(job))[-1].event, Aborted)


@pytest.mark.parametrize("tenant", ["light", "a" * 26])
@R1
async def test_what_a_tenant_has_waiting_is_counted_apart(journal: Journal, tenant: str) -> None:
    queue = Queue("write", "standard", LIGHT)
    await ensure_queue(journal.signals, queue, ack_wait=NEVER_S)
    for whose in (tenant, "other", tenant, "other", "other"):
        await Scribe(journal.appender, new_address("standard", whose, LIGHT)).hand_off("write")
    assert await journal.reader.count(queue.of(tenant)) == 2
    assert await journal.reader.count(queue.of(tenant), after=1) == 1
