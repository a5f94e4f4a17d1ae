"""The wait for an outcome: a request stays open until its job has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from actors.contracts.events import Outcome
from actors.http.caller import Owned
from actors.http.stream import until_gone
from actors.journal import Journal
from actors.journal.follow import Follower, Place

T = TypeVar("T")


class Waiting:
    """Follows jobs for requests that wait: one live subscription per job and process, and nobody polls."""

    def __init__(self) -> None:
        self._follower: Follower | None = None

    def follower(self, journal: Journal) -> Follower:
        """What they are followed by; the same for as long as the log is open."""
        if self._follower is None:
            self._follower = Follower(journal.live, journal.reader)
        return self._follower

    async def outcome(
        self, journal: Journal, job: Owned, within: float, *, after: Place | None = None
    ) -> Outcome | None:
        """How a job ends that had not ended at `after`; None when it does not within so many seconds."""
        follows = self.follower(journal).follow(*job, after or Place())
        try:
            async with asyncio.timeout(within), follows as items:
                async for item in items:
                    if isinstance(item.event, Outcome):
                        return item.event
        except TimeoutError:
            pass
        return None


async def while_there(request: Request, waiting: Coroutine[Any, Any, T]) -> T:
    """What it comes to, for as long as the client is there to hear it. Raises ClientDisconnect."""
    task, gone = asyncio.create_task(waiting), asyncio.create_task(until_gone(request.receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.wait({task, gone})
