"""A braid: several jobs, followed as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from actors.journal.follow import Follower, Place
from actors.journal.mailbox import MOST_HELD, Item

Key = TypeVar("Key", bound=tuple[str, str])


@asynccontextmanager
async def braided(follower: Follower, jobs: Mapping[Key, Place]) -> AsyncIterator[AsyncIterator[tuple[Key, Item]]]:
    """The events of several jobs, by tenant and id, each after a place of its own, as they come, until all have ended.

    Each job's are in order. What waits for a reader that is slow is bounded for all of them together, as it is for one.
    Raises as `Follower.follow` does.
    """
    strands: asyncio.Queue[tuple[Key, Item] | None] = asyncio.Queue(maxsize=1)

    async def spin(job: Key, items: AsyncIterator[Item]) -> None:
        async for item in items:
            await strands.put((job, item))

    async def end() -> None:
        # Only where somebody reads still: once this is cancelled, nobody makes room for one more.
        over, _ = await asyncio.wait(spinning, return_when=asyncio.FIRST_EXCEPTION)
        await strands.put(None)
        for strand in over:
            strand.result()

    async def braid() -> AsyncIterator[tuple[Key, Item]]:
        while (strand := await strands.get()) is not None:
            yield strand
        await ending

    async with AsyncExitStack() as stack:
        followed = list[tuple[Key, AsyncIterator[Item]]]()
        for job, place in jobs.items():
            tenant, id = job
            follows = follower.follow(tenant, id, place, held=MOST_HELD // len(jobs))
            followed.append((job, await stack.enter_async_context(follows)))
        # Only once all are there: nobody would end these, should one of the jobs not be followed.
        spinning = [asyncio.create_task(spin(job, items)) for job, items in followed]
        ending = asyncio.create_task(end())
        try:
            yield braid()
        finally:
            for task in (ending, *spinning):
                task.cancel()
            await asyncio.wait({ending, *spinning})
