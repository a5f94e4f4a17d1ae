"""Workers, the clock and the ingress, each in a process of its own that may be killed.

`python -m benchmarks.hands <orders as JSON>` says its name in one line, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, assert_never

import psutil
import uvicorn
from pydantic import BaseModel, ConfigDict, JsonValue
from starlette.types import ASGIApp

from actors.clock import Clock
from actors.ingress import ingress
from actors.journal.journal import Journal
from actors.runtime.presence import workers_of
from actors.runtime.replica import Replica
from actors.runtime.settings import Settings
from benchmarks.machine import ROOT
from benchmarks.pipelines import recounted
from benchmarks.tally import Tally

HOST = "127.0.0.1"
READY_S = 240.0
STOP_S = 30.0
LOOK_EVERY_S = 0.02


class Orders(BaseModel):
    """What a process is told: who it is, and what it needs for that.

    `stage` is a worker's; `first_token_s` and `tally` are what its engine is set to, if that is the one with a tally;
    `port` is the ingress's.
    """

    model_config = ConfigDict(frozen=True)

    role: Literal["worker", "clock", "ingress"]
    settings: dict[str, JsonValue]
    stage: str = ""
    first_token_s: float = 0.0
    tally: Path | None = None
    port: int = 0


class Hand:
    """One of these processes, as whoever started it sees it. `name` is a worker's in the log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process

    @classmethod
    async def start(cls, orders: Orders) -> Hand:
        command = [sys.executable, "-m", "benchmarks.hands", orders.model_dump_json()]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
        assert process.stdout
        name = (await process.stdout.readline()).decode().strip()
        if not name:
            raise RuntimeError("a process ended before it began; what it said is above")
        return cls(name, process)

    def kill(self) -> float:
        """SIGKILL to it and all that it has started; when that was, in seconds since 1970."""
        me = psutil.Process(self._process.pid)
        everybody = [me, *me.children(recursive=True)]
        began = time.time()
        for process in everybody:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return began

    async def stop(self) -> None:
        """It has ended when this returns, in whatever state it was."""
        if self._process.returncode is None:
            assert self._process.stdin
            self._process.stdin.close()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
        await self._process.wait()


class Staff:
    """Starts hands, and stops those that are left on the way out. An async context manager's value."""

    def __init__(self, settings: dict[str, JsonValue]) -> None:
        self._settings = settings
        self._hands: list[Hand] = []

    async def hire(
        self,
        role: Literal["worker", "clock", "ingress"],
        *,
        stage: str = "",
        first_token_s: float = 0.0,
        tally: Path | None = None,
        port: int = 0,
    ) -> Hand:
        settings = self._settings
        orders = Orders(role=role, settings=settings, stage=stage, first_token_s=first_token_s, tally=tally, port=port)
        hand = await Hand.start(orders)
        self._hands.append(hand)
        return hand

    async def stop(self) -> None:
        await asyncio.gather(*(hand.stop() for hand in self._hands))


@asynccontextmanager
async def staff(settings: dict[str, JsonValue]) -> AsyncIterator[Staff]:
    """Hands that all have these settings."""
    hired = Staff(settings)
    try:
        yield hired
    finally:
        await hired.stop()


async def until_ready(journal: Journal, stage: str, workers: int) -> None:
    """Until so many workers of a stage are ready, and no others are there."""
    async with asyncio.timeout(READY_S):
        while [w.state for w in await workers_of(journal.signals, stage)] != ["ready"] * workers:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_EVERY_S)


async def _obey(orders: Orders) -> None:
    settings = Settings.model_validate(orders.settings)
    match orders.role:
        case "worker":
            recounted.first_token_s = orders.first_token_s
            recounted.tally = Tally(orders.tally) if orders.tally else None
            replica = Replica(settings, orders.stage)
            name, work = replica.name, replica.run()
        case "clock":
            name, work = "clock", Clock(settings).run()
        case "ingress":
            name, work = "ingress", _serve(ingress(settings), orders.port)
        case never:
            assert_never(never)
    print(name, flush=True)
    loop, working = asyncio.get_running_loop(), asyncio.create_task(work)

    def end() -> None:
        loop.remove_reader(sys.stdin.fileno())
        working.cancel()

    loop.add_reader(sys.stdin.fileno(), end)
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def _serve(app: ASGIApp, port: int) -> None:
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_config=None))
    serving = asyncio.create_task(server.serve())
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving


if __name__ == "__main__":
    logging.getLogger("actors").setLevel(logging.ERROR)  # that connections break is what is measured
    asyncio.run(_obey(Orders.model_validate_json(sys.argv[1])))
    os._exit(0)  # a thread of a library must not hold it up
