"""The hammer: the same request over so many connections, each as soon as the one before is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.wire import Connection


@dataclass(frozen=True, slots=True)
class Hammered:
    """What came of it: how long each answer took, the answers by status, and the cores that the hammer itself used."""

    seconds: float
    taken: list[float]
    statuses: Counter[int]
    own_cpu: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.taken) / self.seconds


async def hammer(connections: Sequence[Connection], request: bytes, *, seconds: float) -> Hammered:
    """Ask for so many seconds. What is under way then is waited for, and counts."""
    taken: list[float] = []
    statuses: Counter[int] = Counter()
    began, cpu = time.perf_counter(), time.process_time()
    end = began + seconds

    async def one(connection: Connection) -> None:
        while (asked := time.perf_counter()) < end:
            status, _ = await connection.ask(request)
            taken.append(time.perf_counter() - asked)
            statuses[status] += 1

    await asyncio.gather(*(one(connection) for connection in connections))
    spent = time.perf_counter() - began
    return Hammered(spent, taken, statuses, (time.process_time() - cpu) / spent)
