"""The pace of text: how much of it a process and a job may put into the log at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TEXTS_IN_FLIGHT = 4
"""Text appends that one process has under way at most: the log syncs one by one, and jobs must not wait behind text."""

MIN_GAP_S = 0.010
"""The least time between two text appends of one job, in seconds: in it others (a cancel) can append."""


class TextLanes:
    """Lets at most so many text appends of a process run at once, in the order in which jobs asked.

    A job's first text goes before the next texts of the others: its reader has nothing yet, theirs have.
    """

    def __init__(self, at_once: int = TEXTS_IN_FLIGHT) -> None:
        self._free = at_once
        self._first: deque[asyncio.Future[None]] = deque()
        self._next: deque[asyncio.Future[None]] = deque()

    def pace(self) -> Pace:
        """The pace of one job's text."""
        return Pace(self)

    @asynccontextmanager
    async def lane(self, *, first: bool) -> AsyncIterator[None]:
        """Wait for a free lane and hold it; `first` says that the job has had none yet."""
        if self._free:
            self._free -= 1
        else:
            await self._wait_in(self._first if first else self._next)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait_in(self, queue: deque[asyncio.Future[None]]) -> None:
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(mine)
        try:
            await mine
        except asyncio.CancelledError:
            if not mine.cancelled():  # it became ours in the same moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Give a lane to whoever waits, or keep it."""
        for queue in (self._first, self._next):
            while queue:
                if not (waiting := queue.popleft()).done():
                    waiting.set_result(None)
                    return
        self._free += 1


class Pace:
    """Spaces one job's text appends: the first goes at once, the next ones leave a gap in which others can append."""

    def __init__(self, lanes: TextLanes) -> None:
        self._lanes = lanes
        self._not_before = 0.0
        self._first = True

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the gap and for a free lane; what the engine makes meanwhile joins the piece, so take it inside."""
        loop = asyncio.get_running_loop()
        if (wait := self._not_before - loop.time()) > 0:
            await asyncio.sleep(wait)
        first, self._first = self._first, False
        async with self._lanes.lane(first=first):
            began = loop.time()
            yield
            ended = loop.time()
        self._not_before = ended + max(MIN_GAP_S, 2 * (ended - began))
