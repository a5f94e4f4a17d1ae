"""The attendance of readers whose jobs are only worth their work while somebody reads them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

J = TypeVar("J")
Sleep = Callable[[float], Awaitable[object]]


@dataclass(slots=True)
class Seat:
    """One reader of a job, for as long as it is connected."""

    left: bool = False

    def leave(self) -> None:
        """It went away before the end; a stream that ends in any other way is no reason to give up its job."""
        self.left = True


class Attendance(Generic[J]):
    """Gives a job up once the last of its readers has gone and none has come back within `grace` seconds.

    Only readers of this process count, and only those that asked for it.
    """

    def __init__(self, give_up: Callable[[J], Awaitable[None]], *, grace: float, sleep: Sleep = asyncio.sleep) -> None:
        self._give_up = give_up
        self._grace = grace
        self._sleep = sleep
        self._present: Counter[J] = Counter()
        self._waiting: dict[J, asyncio.Task[None]] = {}

    @contextmanager
    def taken(self, seat: Seat, job: J) -> Iterator[None]:
        """While a reader of the job is here."""
        self._present[job] += 1
        if waiting := self._waiting.pop(job, None):
            waiting.cancel()
        try:
            yield
        finally:
            self._present[job] -= 1
            if not self._present[job]:
                del self._present[job]
                if seat.left:
                    self._wait_for_return(job)

    async def close(self) -> None:
        """Give up nothing more: who was here comes back somewhere else."""
        waiting = list(self._waiting.values())
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)

    def _wait_for_return(self, job: J) -> None:
        task = self._waiting[job] = asyncio.create_task(self._unless_somebody_returns(job))
        task.add_done_callback(lambda done: self._forget(job, done))

    async def _unless_somebody_returns(self, job: J) -> None:
        await self._sleep(self._grace)
        await self._give_up(job)

    def _forget(self, job: J, done: asyncio.Task[None]) -> None:
        if self._waiting.get(job) is done:
            del self._waiting[job]
