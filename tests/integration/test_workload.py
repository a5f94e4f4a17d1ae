"""How many tokens wait is estimated at a bounded cost, and large prompts are met with more replicas than small ones."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from actors.contracts.events import Record
from actors.contracts.subjects import Queue
from actors.engines.scripted import tokens_of
from actors.journal import Journal, Reader
from actors.journal.lag import Flow, flow_of
from actors.journal.pull import Puller
from actors.journal.topology import ensure_queue
from actors.runtime.autoscaler import Autoscaler
from actors.runtime.effort import Effort
from actors.runtime.lookout import decision_on
from actors.runtime.presence import WorkerStatus, workers_of
from actors.runtime.sample import BYTES_PER_S, DRAWN, KEPT, Sample
from actors.runtime.scaling import Decision, Tokens
from actors.runtime.workload import Workload
from tests.integration.conftest import R1, opened
from tests.integration.test_replica import running
from tests.nats_servers import Servers
from tests.office import Office, office_on
from tests.pipelines import SPEECH, Prepared, recital, reciter
from tests.scribe import Note, Scribe, new_address

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

BACKSTOP_S = 60.0
JOBS = 6
MOST = 9
SMALL, LARGE = "go", "word " * 8_000
RULE = {
    "min": 0, "max": MOST, "lag_per_replica": 100, "concurrency": 16, "max_wait": 600.0, "down_after": 600.0,
    "tokens_per_replica": 12_000,
}  # fmt: skip


class CountingReader(Reader):
    """Counts what is read."""

    reads = 0

    async def newest(self, subjects: str) -> Record | None:
        self.reads += 1
        return await super().newest(subjects)

    async def after(self, subjects: str, seq: int, *, most: int = 256) -> list[Record]:
        self.reads += 1
        return await super().after(subjects, seq, most=most)


class Controller:
    """Asks an autoscaler as Serve's controller does, and does what it says."""

    def __init__(self, journal: Journal) -> None:
        self.autoscaler = Autoscaler("recite", RULE)
        self.journal = journal
        self.target = 0

    async def until(self, waiting: int, tokens: int) -> Decision:
        """What is decided once so much waits, and at least so many tokens."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                self._ask()
                load = self.autoscaler._lookout and self.autoscaler._lookout.load
                seen = load and load.waiting == waiting and load.tokens and load.tokens.waiting >= tokens
                if seen:
                    self._ask()
                decision = await decision_on(self.journal.signals, "recite")
                if seen and decision:
                    return decision

    def _ask(self) -> None:
        context = cast("AutoscalingContext", SimpleNamespace(target_num_replicas=self.target))
        self.target, _ = self.autoscaler(context)


async def post(office: Office, text: str) -> list[Scribe]:
    return [await office.post(recital, Prepared(text=text), to="recite") for _ in range(JOBS)]


async def recited(office: Office, jobs: list[Scribe]) -> None:
    for job in jobs:
        await office.until_kind(job, "handoff", times=2)


async def telling(journal: Journal) -> WorkerStatus:
    """The only worker of the stage, once it has learnt what jobs take."""
    async with asyncio.timeout(BACKSTOP_S):
        while True:
            for worker in await workers_of(journal.signals, "recite"):
                if worker.effort:
                    return worker


@asynccontextmanager
async def drained(servers: Servers) -> AsyncIterator[None]:
    """A worker of the stage, with no pull of it left at the server: what is posted next waits."""
    async with running(servers, "recite") as (replica, _):
        yield
        await replica.stop(1.0)


async def test_a_few_large_prompts_bring_up_more_replicas_than_as_many_small_ones(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_NATS_URL", r1.url)
    async with opened(r1) as journal, office_on(journal) as office:
        controller = Controller(journal)
        async with drained(r1):
            await recited(office, await post(office, SMALL))
            effort = (await telling(journal)).effort
            await controller.until(0, 0)
        assert effort
        assert effort.tokens == pytest.approx(len(tokens_of(SMALL)) + len(tokens_of(SPEECH)))
        small = await post(office, SMALL)
        few = await controller.until(JOBS, 1)
        assert few.replicas == 1
        assert few.tokens_waiting == pytest.approx(JOBS * effort.tokens, rel=0.1)
        async with drained(r1):
            await recited(office, small)
        large = await post(office, LARGE)
        most = JOBS * (len(tokens_of(LARGE)) + len(tokens_of(SPEECH)))
        many = await controller.until(JOBS, most // 2)
        assert many.replicas > 2, "before anything so large has run"
        assert many.reason.startswith("about ")
        assert "tokens wait" in many.reason
        async with drained(r1):
            await recited(office, large)


async def test_a_worker_says_about_how_many_tokens_are_still_before_it(
    r1: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = asyncio.Event()
    gate.set()
    monkeypatch.setattr(reciter, "gate", gate)
    takes = len(tokens_of(SMALL)) + len(tokens_of(SPEECH))
    async with opened(r1) as journal, office_on(journal) as office, running(r1, "recite") as (replica, _):
        assert (replica.status().effort, replica.status().tokens_left) == (None, None)
        await recited(office, await post(office, SMALL))
        gate.clear()
        jobs = await post(office, SMALL)
        for job in jobs:
            await office.until_kind(job, "step.started")
        assert replica.status().tokens_left == pytest.approx(JOBS * takes, rel=0.1)
        gate.set()
        await recited(office, jobs)
        async with asyncio.timeout(BACKSTOP_S):
            while replica.status().jobs:
                await workers_of(journal.signals, "recite")
        assert replica.status().tokens_left == 0


async def flowing(journal: Journal, queue: Queue, waiting: int) -> Flow:
    """What goes through a queue, once so much waits: it may be stored a moment before its consumer counts it."""
    async with asyncio.timeout(BACKSTOP_S):
        while (flow := await flow_of(journal.signals, queue)).waiting != waiting:
            pass
        return flow


def a_worker(name: str, **status: Any) -> WorkerStatus:
    return WorkerStatus(worker=name, stage="write", state="ready", **status)


@R1
async def test_who_cannot_say_counts_with_what_others_learnt_and_that_is_kept(journal: Journal) -> None:
    learnt = Effort().and_job(500, 100)
    of_before = a_worker("of an older version", jobs=2)
    busy = a_worker("busy", jobs=1, effort=learnt, tokens_left=40)
    helping = a_worker("helping", jobs=3, effort=learnt, tokens_left=300, role="overflow")
    workload = Workload(journal.reader, Random(1))
    assert await workload.look([], [of_before]) is None
    assert await workload.look([], [of_before, busy, helping]) == Tokens(0, 240)
    assert await workload.look([], [of_before]) == Tokens(0, 200)
    handoff = Queue("write", "standard")
    await Scribe(journal.appender, new_address()).hand_off("write")
    tokens = await workload.look([await flowing(journal, handoff, 1)], [])
    assert tokens
    assert tokens.waiting == pytest.approx(100, abs=50)


@R1
async def test_a_look_reads_few_of_those_that_wait_and_keeps_few_until_they_wait_no_more(journal: Journal) -> None:
    short, queue = "x" * 10, Queue("write", "standard")
    for n in range(2 * KEPT):
        await Scribe(journal.appender, new_address()).hand_off("write", Note(text=short * (1 + n % 2)))
    reader, clock = CountingReader(journal.signals), itertools.count()
    sample = Sample(reader, Random(1), now=lambda: next(clock))
    flow = await flowing(journal, queue, 2 * KEPT)
    seen = list[list[int]]()
    for _ in range(40):
        before = reader.reads
        seen.append(await sample.sizes([flow]))
        assert reader.reads - before <= 2 * DRAWN
    assert {len(sizes) for sizes in seen[-5:]} == {KEPT}
    assert sum(seen[-1]) / KEPT == pytest.approx((min(seen[-1]) + max(seen[-1])) / 2, abs=3)
    last = await journal.reader.newest(queue.handoffs)
    assert last
    (left,) = await sample.sizes([Flow(queue, 1, 0, 0, last.seq - 1)])
    assert left == len(last.data)
    reads = reader.reads
    assert await sample.sizes([Flow(queue, 1, 0, 0, last.seq - 1)]) == [left]
    assert reader.reads == reads, "all that waits is known"
    assert await sample.sizes([Flow(queue, 0, 1, 0, last.seq)]) == []


@R1
async def test_every_queue_is_looked_into_and_all_that_waits_is_known_in_the_end(journal: Journal) -> None:
    shared = Queue("write", "batch", 3)
    await ensure_queue(journal.signals, shared, ack_wait=600.0)
    for address in (new_address(), new_address("batch", "a", 3), new_address("batch", "a", 3)):
        await Scribe(journal.appender, address).hand_off("write")
    flows = [await flowing(journal, queue, n) for queue, n in ((Queue("write", "standard"), 1), (shared, 2))]
    sample = Sample(journal.reader, Random(1))
    async with asyncio.timeout(BACKSTOP_S):
        while len(await sample.sizes(flows)) < 3:
            pass


@R1
async def test_once_enough_are_known_new_ones_are_drawn_every_second(journal: Journal) -> None:
    for _ in range(2 * KEPT):
        await Scribe(journal.appender, new_address()).hand_off("write")
    reader, now = CountingReader(journal.signals), 0.0
    sample = Sample(reader, Random(1), now=lambda: now)
    flow = await flowing(journal, Queue("write", "standard"), 2 * KEPT)
    while len(await sample.sizes([flow])) < KEPT:
        now += 0.2
    reads = reader.reads
    now += 0.9
    await sample.sizes([flow])
    assert reader.reads == reads
    now += 0.2
    assert len(await sample.sizes([flow])) == KEPT
    assert reader.reads > reads


@R1
async def test_after_large_hand_offs_no_more_are_read_for_a_while(journal: Journal) -> None:
    for _ in range(20):
        await Scribe(journal.appender, new_address()).hand_off("write", Note(text="x" * (BYTES_PER_S // 4)))
    now = 0.0
    reader = CountingReader(journal.signals)
    sample = Sample(reader, Random(1), now=lambda: now)
    flow = await flowing(journal, Queue("write", "standard"), 20)
    await sample.sizes([flow])
    reads = reader.reads
    assert reads
    now = 0.5
    assert await sample.sizes([flow])
    assert reader.reads == reads
    now = 3.0
    await sample.sizes([flow])
    assert reader.reads > reads


@R1
async def test_what_was_delivered_is_no_part_of_the_sample(journal: Journal) -> None:
    await Scribe(journal.appender, new_address()).hand_off("write", Note(text="x" * 1_000))
    puller = Puller(journal.pulls, "write", lambda: 1)
    await puller.open()
    async with asyncio.timeout(BACKSTOP_S):
        (delivery,) = await puller.next()
    await Scribe(journal.appender, new_address()).hand_off("write")
    sample = Sample(journal.reader, Random(1))
    (size,) = await sample.sizes([await flowing(journal, Queue("write", "standard"), 1)])
    assert size < len(delivery.record.data)
    await puller.close()
