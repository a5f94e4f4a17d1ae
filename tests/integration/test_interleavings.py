"""Every order in which workers, a cancel and the clock can come to the log of one job, drawn by chance, on the server.

Each of them stops before every read and every append; which of them goes on next, and which of the workers dies, is
hypothesis' choice. However they meet, the log is whole, and there is one outcome.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import Job, Pipeline, stage
from actors.clock import Clock
from actors.contracts.events import CancelRequested, Completed, HandOff, Outcome, Record
from actors.contracts.subjects import Address, Kind
from actors.engines import Engine, Scripted
from actors.journal import Appender, Journal, Reader
from actors.journal.later import Later
from actors.journal.pull import Acks, Delivery
from actors.journal.topology import ensure
from actors.pipeline import Catalogue
from actors.runtime.bench import Bench
from actors.runtime.cancel import cancel
from actors.runtime.company import Company
from actors.runtime.job_log import JobLog
from actors.runtime.pacing import TextLanes
from actors.runtime.presence import Owners
from actors.runtime.settings import Settings
from actors.runtime.step import Step
from actors.runtime.writer import Pen, utc_now
from tests.nats_servers import Servers, cluster, lone
from tests.scribe import Scribe, an_origin
from tests.thinking import AT_ONCE, Answer, Question
from tests.verify import kinds, said, verify

TEXT = "one two three four"
BACKSTOP_S = 60.0
LEASE_S = 1.0


async def write(question: Question, job: Job, engine: Engine) -> Answer:
    piece = await job.once("piece", lambda: asyncio.sleep(0, "kept"))
    return Answer(text=f"{piece}: {await job.speak(engine, question.text, max_tokens=100)}")


writing = stage(uses=Scripted(says=TEXT), retry=AT_ONCE)(write)
solo = Pipeline("solo", writing)


class Turns:
    """Lets one of several tasks go on at a time, each from one read or append to its next."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: defaultdict[str, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._changed = asyncio.Event()

    def begin(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.tasks[name] = task = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._changed.set())

    async def mine(self, name: str) -> None:
        """Wait to be chosen."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[name].append(turn)
        self._changed.set()
        await turn

    async def run(self, choose: Callable[[list[str]], str]) -> None:
        """Until all have ended. `choose` names one of those that wait; after a `!` it is killed."""
        while ready := await self._ready():
            chosen = choose(ready)
            if chosen.startswith("!"):
                self.tasks[chosen[1:]].cancel()
                await asyncio.wait({self.tasks[chosen[1:]]})
            else:
                self._waiting[chosen].popleft().set_result(None)

    async def _ready(self) -> list[str]:
        """Those that wait, once everybody who has not ended does."""
        async with asyncio.timeout(BACKSTOP_S):
            while True:
                self._changed.clear()
                live = [name for name, task in self.tasks.items() if not task.done()]
                for turns in self._waiting.values():
                    while turns and turns[0].done():
                        turns.popleft()
                ready = [name for name in live if self._waiting[name]]
                if len(ready) == len(live):
                    return sorted(ready)
                await self._changed.wait()


class TurnAppender(Appender):
    def __init__(self, real: Appender, turns: Turns, name: str) -> None:
        self._real, self._turns, self._name = real, turns, name

    async def append(self, address: Address, kind: Kind, topic: str, data: bytes, **options: Any) -> int:
        await self._turns.mine(self._name)
        return await self._real.append(address, kind, topic, data, **options)


class TurnReader(Reader):
    def __init__(self, real: Reader, turns: Turns, name: str) -> None:
        super().__init__(real._link)
        self._turns, self._name = turns, name

    async def job(self, tenant: str, job: str, *, after: int = 0, at_least: int = 0) -> list[Record]:
        await self._turns.mine(self._name)
        return await super().job(tenant, job, after=after, at_least=at_least)


class Neighbours(Owners):
    """Says of a claim whether the worker that has it lives, as its presence would; `steps` are their names by claim."""

    def __init__(self, steps: dict[str, str], turns: Turns) -> None:
        self.steps = steps
        self.turns = turns

    async def runs(self, worker: str, claim: str) -> bool | None:
        return claim in self.steps and not self.turns.tasks[self.steps[claim]].done()

    async def look(self, worker: str, claim: str) -> bool | None:
        return await self.runs(worker, claim)  # what is said beside the log may get lost

    async def is_there(self, worker: str) -> bool | None:
        return any(name == worker and not self.turns.tasks[name].done() for name in self.steps.values())


class Scene:
    """One job, and all who come to its log."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turns = Turns()
        self._steps: dict[str, str] = {}
        self._owners = Neighbours(self._steps, self._turns)
        self._late = False
        origin = an_origin(pipeline=solo.name, version=solo.version)
        self.job = Scribe(journal.appender, origin=origin)

    async def post(self) -> None:
        self._engine = await Scripted(says=TEXT).__aenter__()
        given = await self.job.hand_off("write", Question())
        address = self.job.address
        self._record = Record(self.job.chain.seq, str(address.subject("job", "write")), given.encode())

    def _now(self) -> datetime:
        return utc_now() + (timedelta(days=1) if self._late else timedelta())

    def _as(self, name: str) -> Journal:
        return replace(
            self._journal,
            appender=TurnAppender(self._journal.appender, self._turns, name),
            reader=TurnReader(self._journal.reader, self._turns, name),
        )

    def worker(self, name: str, *, count: int) -> None:
        """A worker that is given the hand-off, as the how-manieth delivery of it."""
        journal, claim = self._as(name), secrets.token_hex(8)
        pen = Pen(
            worker=name,
            appender=journal.appender,
            reader=journal.reader,
            owners=self._owners,
            retry=writing.retry,
            ack_wait=LEASE_S,
            now=self._now,
        )
        acks, later = Acks(self._journal.pulls), Later(self._journal.pulls)
        bench = Bench(writing, Catalogue([solo]), self._engine, pen, acks, later, TextLanes(), Random(1))
        delivery = Delivery(self._record, count, f"$JS.ACK.none.of.{count}.these.1.1.0")
        step = Step(bench, Company(1), delivery, claim)
        self._steps[claim] = name
        self._turns.begin(name, step.run())

    def ingress(self) -> None:
        """Somebody who wants the job stopped."""
        log = JobLog(
            self._as("ingress"), self.job.address.tenant, self.job.address.job, by="ingress/test", now=self._now
        )

        async def stop() -> None:
            await log.read()
            await cancel(log, self._owners, None)

        self._turns.begin("ingress", stop())

    def clock(self) -> None:
        """The deadline passes, and the clock looks."""
        clock = Clock(Settings(), now=self._now)

        async def strike() -> None:
            await self._turns.mine("clock")
            self._late = True
            with patch("actors.clock.Owners", lambda _: self._owners):
                await clock.round(self._as("clock"))

        self._turns.begin("clock", strike())

    async def play(self, choose: Callable[[list[str]], str]) -> None:
        await self._turns.run(choose)
        for name, task in self._turns.tasks.items():
            assert task.cancelled() or task.exception() is None, f"{name}: {task.exception()!r}"

    async def log(self) -> list[Record]:
        last = await self._journal.reader.last(self.job.address.tenant, self.job.address.job)
        assert last is not None
        return await self._journal.reader.job(self.job.address.tenant, self.job.address.job, at_least=last.seq)


class Stage:
    """Servers and a log, for examples that are no coroutines of the test's own loop."""

    def __init__(self, servers: Servers) -> None:
        self.runner = asyncio.Runner()
        self._servers = servers
        self._opening = Journal.open(servers.urls, "interleavings")
        self.journal = self.runner.run(self._open())

    async def _open(self) -> Journal:
        await self._servers.start()
        journal = await self._opening.__aenter__()
        await ensure(journal.signals, ["write"], replicas=self._servers.replicas, ack_wait=LEASE_S)
        return journal

    def close(self) -> None:
        async def close() -> None:
            await self._opening.__aexit__(None, None, None)
            await self._servers.close()

        self.runner.run(close())
        self.runner.close()


@pytest.fixture(scope="module", params=["r1", "r3"])
def theatre(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("interleavings")
    made = Stage(lone(folder) if request.param == "r1" else cluster(folder))
    try:
        yield made
    finally:
        made.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    script=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 7)), max_size=60),
    cancels=st.booleans(),
    expires=st.booleans(),
    workers=st.integers(1, 3),
)
def test_however_they_meet_there_is_one_outcome_and_every_token_once(
    theatre: Stage, script: list[tuple[int, int]], cancels: bool, expires: bool, workers: int
) -> None:
    # Written before anybody acts: who waits may differ from run to run, as a real server answers when it likes.
    lines, killed = iter(script), 0

    def choose(ready: list[str]) -> str:
        nonlocal killed
        at, fate = next(lines, (0, 0))
        name = ready[at % len(ready)]
        if name.startswith("write") and killed < 2 and fate == 7:
            killed += 1
            return f"!{name}"
        return name

    async def act() -> list[Record]:
        scene = Scene(theatre.journal)
        await scene.post()
        for n in range(workers):
            scene.worker(f"write-{n}", count=n + 1)
        if cancels:
            scene.ingress()
        if expires:
            scene.clock()
        await scene.play(choose)
        # Whoever is left: JetStream gives a hand-off out again until somebody acknowledges it.
        scene.worker("write-last", count=9)
        await scene.play(lambda ready: ready[0])
        return await scene.log()

    records = theatre.runner.run(act())
    verify(records)
    events = [record.event for record in records]
    outcome = next(event for event in events if isinstance(event, Outcome))
    if isinstance(outcome, Completed):
        assert said(records, "write") == TEXT
        assert outcome.answer.body == {"text": f"kept: {TEXT}"}
    else:
        assert cancels or expires
        assert TEXT.startswith(said(records, "write"))
    assert kinds(records).count("step.part") <= 1
    assert len([event for event in events if isinstance(event, HandOff)]) == 1
    wished = [event.n for event in events if isinstance(event, CancelRequested)]
    assert not wished or outcome.n == wished[0] + 1, "something was stored between the wish and the outcome"
