"""Several jobs are followed as one, and let go as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from actors.journal.braid import braided
from actors.journal.follow import Follower, Place
from actors.journal.mailbox import Item

JOBS = {("local", "a"): Place(), ("local", "b"): Place()}


class Scripted:
    """Gives each job so many items at once, and then perhaps an error."""

    def __init__(self, items: int, error: Exception | None = None) -> None:
        self.followed = 0
        self._items = items
        self._error = error

    @asynccontextmanager
    async def follow(self, tenant: str, job: str, after: Place, *, held: int) -> AsyncIterator[AsyncIterator[Item]]:
        self.followed += 1
        try:
            yield self._told()
        finally:
            self.followed -= 1

    async def _told(self) -> AsyncIterator[Item]:
        for n in range(1, self._items + 1):
            yield Item(n, n, n, None)
        if self._error:
            raise self._error


def of(scripted: Scripted) -> Any:
    return braided(cast(Follower, scripted), JOBS)


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_reader_that_leaves_what_waits_for_it_is_let_go(taken: int) -> None:
    scripted = Scripted(items=9)
    async with asyncio.timeout(20):
        async with of(scripted) as items:
            for _ in range(taken):
                await anext(items)
            for _ in range(9):
                await asyncio.sleep(0)  # more is there than is taken
    assert scripted.followed == 0


async def test_it_ends_once_all_have_ended() -> None:
    async with asyncio.timeout(20), of(Scripted(items=3)) as items:
        numbers = [(job, item.n) async for (_, job), item in items]
    assert sorted(numbers) == [(job, n) for job in "ab" for n in (1, 2, 3)]


async def test_what_goes_wrong_with_one_job_is_told_to_the_reader() -> None:
    async with asyncio.timeout(20), of(Scripted(items=1, error=ValueError("no event"))) as items:
        with pytest.raises(ValueError, match="no event"):
            async for _ in items:
                pass
