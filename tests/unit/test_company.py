"""Who runs beside whom in one worker."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from actors.runtime.company import Company, Disbanded


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Guest:
    """A job that wants a place, and keeps it until it is told to go."""

    def __init__(self, company: Company, crashes: int) -> None:
        self.is_in = False
        self._leaves = asyncio.Event()
        self.task = asyncio.create_task(self._visit(company, crashes))

    async def _visit(self, company: Company, crashes: int) -> None:
        async with company.place(crashes):
            self.is_in = True
            await self._leaves.wait()

    async def leave(self) -> None:
        self._leaves.set()
        await self.task
        await settle()


async def guests(company: Company, *crashes: int) -> list[Guest]:
    made = [Guest(company, each) for each in crashes]
    await settle()
    return made


async def test_jobs_without_a_history_take_every_place() -> None:
    company = Company(8)
    assert [guest.is_in for guest in await guests(company, *[0] * 8)] == [True] * 8
    assert company.most == 8


async def test_one_whose_worker_was_lost_runs_where_a_quarter_is_taken() -> None:
    company = Company(8)
    first, second, suspect = await guests(company, 0, 0, 1)
    assert (suspect.is_in, company.most) == (False, 2)
    await first.leave()
    assert suspect.is_in
    (third,) = await guests(company, 0)
    assert not third.is_in
    await suspect.leave()
    assert third.is_in
    assert second.is_in
    assert company.most == 8


async def test_one_whose_worker_was_lost_twice_runs_alone() -> None:
    company = Company(8)
    beside, suspect, later = await guests(company, 0, 2, 0)
    assert (suspect.is_in, later.is_in, company.most) == (False, False, 1)
    await beside.leave()
    assert (suspect.is_in, later.is_in) == (True, False)
    await suspect.leave()
    assert later.is_in


async def test_a_worker_of_few_places_lets_a_suspect_run_all_the_same() -> None:
    company = Company(1)
    (suspect,) = await guests(company, 1)
    assert suspect.is_in


async def test_one_that_goes_while_it_waits_holds_up_nobody() -> None:
    company = Company(4)
    beside, suspect, later = await guests(company, 0, 2, 0)
    suspect.task.cancel()
    await settle()
    assert later.is_in
    assert beside.is_in
    assert company.most == 4


async def test_one_that_goes_in_the_moment_it_is_let_in_leaves_its_place() -> None:
    company = Company(1)
    beside, waiting = await guests(company, 0, 0)
    beside._leaves.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.task.cancel()
    await settle()
    (next_one,) = await guests(company, 0)
    assert next_one.is_in


async def test_nobody_waits_for_a_worker_that_stops() -> None:
    company = Company(4)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(company.place(0))
        (suspect,) = await guests(company, 2)
        company.disband()
        with pytest.raises(Disbanded):
            await suspect.task
        with pytest.raises(Disbanded):
            await stack.enter_async_context(company.place(0))
