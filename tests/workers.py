"""Workers for tests: in this process, to be stopped in any way, and in processes of their own, to be killed."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import secrets
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from random import Random
from typing import Any

from actors.contracts.subjects import LANES, Lane
from actors.engines import Engine
from actors.journal import Journal
from actors.journal.later import Later
from actors.journal.pull import Acks
from actors.pipeline import Catalogue, Pipeline, Stage
from actors.runtime.bench import Bench
from actors.runtime.crash_points import CrashPoint
from actors.runtime.pacing import TextLanes
from actors.runtime.presence import Owners, Presence, WorkerStatus, workers_of
from actors.runtime.replica import Replica, load_pipelines
from actors.runtime.settings import Settings
from actors.runtime.worker import Worker
from actors.runtime.writer import Pen
from tests.nats_servers import Servers
from tests.pipelines import EVERY_PATH, adviser, reciter, walker

ACK_WAIT_S = 1.0
HANG_AFTER_S = 60.0
BACKSTOP_S = 30.0


@dataclass
class Hand:
    """A worker in this process, with connections of its own."""

    name: str
    journal: Journal
    worker: Worker
    task: asyncio.Task[None]

    async def vanish(self) -> None:
        """As if it had been killed: from here on it says nothing more, to anybody."""
        for link in (self.journal.appends, self.journal.pulls, self.journal.signals, self.journal.replays):
            await link.close()
        self.task.cancel()
        await asyncio.wait({self.task})


@asynccontextmanager
async def a_hand(
    servers: Servers,
    pipeline: Pipeline,
    stage: Stage,
    *,
    ack_wait: float = ACK_WAIT_S,
    hang_after: float = HANG_AFTER_S,
    acks: Callable[[Journal], Acks] = lambda journal: Acks(journal.pulls),
    pen: Callable[[Pen], Pen] = lambda pen: pen,
    lanes: Sequence[Lane] = LANES,
) -> AsyncIterator[Hand]:
    """A worker of a stage that runs until it is left, or whatever the test does to it."""
    name = f"{stage.name}-{secrets.token_hex(3)}"
    async with contextlib.AsyncExitStack() as stack:
        journal = await stack.enter_async_context(Journal.open(servers.urls, name, Random(1)))
        resource = await stack.enter_async_context(stage.uses) if stage.uses else None
        written_with = Pen(
            worker=name,
            appender=journal.appender,
            reader=journal.reader,
            owners=Owners(journal.signals),
            retry=stage.retry,
            ack_wait=ack_wait,
            model=resource.revision if isinstance(resource, Engine) else None,
        )
        known = Catalogue([pipeline])
        bench = Bench(
            stage, known, resource, pen(written_with), acks(journal), Later(journal.pulls), TextLanes(), Random(1)
        )
        worker = Worker(bench, journal.pulls, ack_wait=ack_wait, hang_after=hang_after, lanes=lanes)
        status = WorkerStatus(worker=name, stage=stage.name, state="ready")
        await Presence(journal.signals, holds=worker.holds, look=worker.look, status=lambda: status).open()
        task = asyncio.create_task(worker.run())
        try:
            yield Hand(name, journal, worker, task)
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()):
                raise error


def with_engine(stage: Stage, engine: Engine) -> Stage:
    """The same stage, on another engine."""
    return replace(stage, uses=engine)


@dataclass(frozen=True)
class Orders:
    """What a worker in a process of its own is told. `engine` are the fields of the scripted engine."""

    urls: list[str]
    stage: str = "recite"
    ack_wait: float = ACK_WAIT_S
    hang_after: float = HANG_AFTER_S
    concurrency: int = 16
    engine: dict[str, Any] = field(default_factory=dict)
    dies: Pass | None = None
    drains: Pass | None = None
    pipelines: tuple[str, ...] = EVERY_PATH


@dataclass(frozen=True)
class Pass:
    """When a worker passes a crash point for the n-th time."""

    point: CrashPoint
    nth: int = 1


class Trap:
    """Counts the passes of crash points; at the one of its orders the process is killed, or begins to drain."""

    def __init__(self, orders: Orders, drain: Callable[[], None]) -> None:
        self._orders = orders
        self._drain = drain
        self._passes: Counter[CrashPoint] = Counter()

    def __call__(self, point: CrashPoint) -> None:
        self._passes[point] += 1
        now = Pass(point, self._passes[point])
        if now == self._orders.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if now == self._orders.drains:
            self._drain()


def _obey(orders: Orders) -> None:
    for engine in (reciter, walker, adviser):
        vars(engine).update(orders.engine)
    for stage in [stage for pipeline in load_pipelines(orders.pipelines).values() for stage in pipeline.stages]:
        object.__setattr__(stage, "concurrency", orders.concurrency)  # it is frozen, and this process is ours alone
    settings = Settings(
        nats_url=",".join(orders.urls),
        pipelines=orders.pipelines,
        max_bytes=1 << 30,
        ack_wait=orders.ack_wait,
        hang_after=orders.hang_after,
    )

    async def work() -> None:
        draining: set[asyncio.Task[None]] = set()
        trap = Trap(orders, lambda: draining.add(asyncio.create_task(replica.stop(0.0))))
        replica = Replica(settings, orders.stage, reached=trap)
        await replica.run()

    asyncio.run(work())


async def all_there(journal: Journal, stage: str, count: int) -> None:
    """Wait until so many workers of a stage are ready."""
    async with asyncio.timeout(BACKSTOP_S):
        while sum(worker.state == "ready" for worker in await workers_of(journal.signals, stage)) < count:
            pass


class Nursery:
    """Makes workers in processes of their own, which a test may kill, stop and let go on."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "pytest"])
        self._born: list[BaseProcess] = []

    def bear(self, orders: Orders) -> BaseProcess:
        """A replica of a stage of `tests.pipelines`."""
        process = self._context.Process(target=_obey, args=(orders,), daemon=True)
        process.start()
        self._born.append(process)
        return process

    @staticmethod
    def pause(process: BaseProcess) -> None:
        """SIGSTOP."""
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)

    @staticmethod
    def wake(process: BaseProcess) -> None:
        """SIGCONT."""
        assert process.pid is not None
        os.kill(process.pid, signal.SIGCONT)

    @staticmethod
    async def gone(process: BaseProcess) -> int:
        """Wait for its end; its exit code."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(process.sentinel, ended.set)
        try:
            async with asyncio.timeout(BACKSTOP_S):
                await ended.wait()
        finally:
            loop.remove_reader(process.sentinel)
        process.join()
        assert process.exitcode is not None
        return process.exitcode

    def close(self) -> None:
        for process in self._born:
            process.kill()
            process.join()
