"""The pace of text: how much of it a process and a job may put into the log at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

TEXTS_IN_FLIGHT = 4
"""Text appends that one process has under way at most: the log syncs one by one, and jobs must not wait behind text."""

MIN_GAP_S = 0.010
"""The least time between two text appends of one job, in seconds: in it others (a cancel) can append."""


class TextLanes:
    """Lets at most so many text appends of a process run at once, in the order in which jobs asked."""

    def __init__(self, at_once: int = TEXTS_IN_FLIGHT) -> None:
        self._free = asyncio.Semaphore(at_once)

    def pace(self) -> Pace:
        """The pace of one job's text."""
        return Pace(self._free)


class Pace:
    """Spaces one job's text appends: the first goes at once, the next ones leave a gap in which others can append."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._not_before = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the gap and for a free lane; what the engine makes meanwhile joins the piece, so take it inside."""
        loop = asyncio.get_running_loop()
        if (wait := self._not_before - loop.time()) > 0:
            await asyncio.sleep(wait)
        async with self._free:
            began = loop.time()
            yield
            ended = loop.time()
        self._not_before = ended + max(MIN_GAP_S, 2 * (ended - began))
