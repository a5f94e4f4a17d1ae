"""A crew of Celery workers; one that ends is started again, as by whatever supervises them."""

from __future__ import annotations

import asyncio
import sys
from types import TracebackType
from typing import Self

import psutil

from benchmarks.celery_app import until_ready
from benchmarks.celery_worker import Orders
from benchmarks.machine import ROOT

STOP_S = 20.0


class Crew:
    """So many workers with the same orders. An async context manager; entered, they are ready."""

    def __init__(self, orders: Orders, workers: int) -> None:
        self._orders = orders
        self._workers = workers
        self._kept: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._kept = [asyncio.create_task(self._keep()) for _ in range(self._workers)]
        try:
            await self.ready()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def ready(self) -> None:
        """Wait until just so many are there."""
        await until_ready(self._orders.url, f"{self._orders.queue}-", self._workers)

    async def _keep(self) -> None:
        while True:
            command = [sys.executable, "-m", "benchmarks.celery_worker", self._orders.model_dump_json()]
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=asyncio.subprocess.PIPE)
            try:
                await process.wait()
            except asyncio.CancelledError:
                await _end(process)
                raise

    async def _stop(self) -> None:
        for kept in self._kept:
            kept.cancel()
        await asyncio.gather(*self._kept, return_exceptions=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        for each in psutil.Process(process.pid).children(recursive=True):
            each.kill()
        process.kill()
        await process.wait()
