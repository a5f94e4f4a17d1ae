"""The spare: a replica that is loaded and idle, until one that works is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from actors.journal.connection import Link, Unanswered
from actors.runtime.lookout import decision_on
from actors.runtime.presence import Owners, WorkerStatus, workers_of

LOOK_EVERY_S = 0.5
"""How often it is looked at who is there, in seconds."""

WATCH_EVERY_S = 0.05
"""How often a spare asks those that work whether they are still there, in seconds."""

SILENT_S = 5.0
"""For how long one that is there may be too busy to answer before its place is taken, in seconds."""

STANDS_BY = "a warm spare: it works as soon as another one is lost"


def in_line(there: Iterable[WorkerStatus]) -> list[str]:
    """The replicas that can work, in the order in which they are to: who came first works first."""
    able = (worker for worker in there if worker.state == "ready" and worker.role != "overflow")
    return [worker.worker for worker in sorted(able, key=lambda worker: (worker.since, worker.worker))]


class SpareTurn:
    """One replica's place in the line of a stage that has spares. The first that the load needs work, the rest wait.

    Each replica finds its place by itself, from what all of them answer and from what was decided on their number. Two
    may be wrong about it for a moment: then one more works, or one less. While it is not known how many are needed, all
    of them work.
    """

    def __init__(self, link: Link, stage: str, me: str, spares: int) -> None:
        self._link = link
        self._owners = Owners(link)
        self._stage = stage
        self._me = me
        self._spares = spares
        self._needed: int | None = None
        self._heard: dict[str, tuple[float, WorkerStatus]] = {}
        self._line: list[str] = []
        self._stands_by = True

    @property
    def holds_back(self) -> str:
        return STANDS_BY if self._stands_by else ""

    async def watch(self, wake: Callable[[], None]) -> None:
        while True:
            try:
                await self._look()
                self._decide(wake)
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._replace_who_is_lost(wake)
            except Unanswered:
                await self._link.wait_until_up()
                await asyncio.sleep(WATCH_EVERY_S)
            except TimeoutError:
                continue

    async def _look(self) -> None:
        there, decision = await asyncio.gather(
            workers_of(self._link, self._stage), decision_on(self._link, self._stage)
        )
        now = asyncio.get_running_loop().time()
        self._heard |= {worker.worker: (now, worker) for worker in there}
        for name in [name for name, (at, _) in self._heard.items() if at < now]:
            if now - self._heard[name][0] > SILENT_S or await self._owners.is_there(name) is False:
                del self._heard[name]
        self._line = in_line(worker for _, worker in self._heard.values())
        if decision:
            self._needed = max(1, decision.replicas - self._spares)

    def _decide(self, wake: Callable[[], None]) -> None:
        stood_by, self._stands_by = self._stands_by, self._me not in self._working
        if stood_by and not self._stands_by:
            wake()

    @property
    def _working(self) -> Sequence[str]:
        return self._line[: self._needed]

    async def _replace_who_is_lost(self, wake: Callable[[], None]) -> None:
        """Ask those that work again and again, and move up in the line when one is gone."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            if self._stands_by:
                for worker in [worker for worker in self._working if worker != self._me]:
                    if await self._owners.is_there(worker) is False:
                        del self._heard[worker]
                        self._line.remove(worker)
                        self._decide(wake)
