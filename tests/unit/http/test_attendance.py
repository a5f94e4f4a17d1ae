"""A job is given up when the last reader that it depends on has gone and stays away."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from actors.http.attendance import Attendance, Seat

GRACE_S = 5.0


class Hall:
    """An attendance whose time the test moves, and what was given up."""

    def __init__(self) -> None:
        self.given_up: list[str] = []
        self.asked: list[float] = []
        self._over = asyncio.Event()
        self.attendance = Attendance(self._give_up, grace=GRACE_S, sleep=self._sleep)

    async def _give_up(self, job: str) -> None:
        self.given_up.append(job)

    async def _sleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._over.wait()

    @contextmanager
    def reader(self, job: str = "a", *, leaves: bool = True) -> Iterator[None]:
        seat = Seat()
        with self.attendance.taken(seat, job):
            yield
            if leaves:
                seat.leave()

    async def pass_grace(self) -> None:
        """Let all that waits go on."""
        await _settle()
        self._over.set()
        await _settle()
        self._over.clear()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def hall() -> Hall:
    return Hall()


async def test_a_job_is_given_up_when_its_reader_left_and_the_grace_is_over(hall: Hall) -> None:
    with hall.reader():
        await _settle()
    await _settle()
    assert hall.given_up == []
    assert hall.asked == [GRACE_S]
    await hall.pass_grace()
    assert hall.given_up == ["a"]


async def test_a_reader_that_returns_within_the_grace_keeps_its_job(hall: Hall) -> None:
    with hall.reader():
        pass
    await _settle()
    with hall.reader(leaves=False):
        await hall.pass_grace()
    await hall.pass_grace()
    assert hall.given_up == []


async def test_every_departure_begins_a_grace_of_its_own(hall: Hall) -> None:
    for _ in range(2):
        with hall.reader():
            await _settle()
        await _settle()
    assert hall.asked == [GRACE_S, GRACE_S]
    await hall.pass_grace()
    assert hall.given_up == ["a"]


async def test_a_reader_that_stays_keeps_the_job_for_all(hall: Hall) -> None:
    with hall.reader(leaves=False):
        with hall.reader():
            pass
        await hall.pass_grace()
    await hall.pass_grace()
    assert hall.given_up == []


async def test_a_reader_keeps_only_its_own_job(hall: Hall) -> None:
    with hall.reader("b", leaves=False):
        with hall.reader("a"):
            pass
        await hall.pass_grace()
    assert hall.given_up == ["a"]


async def test_nothing_is_given_up_once_it_is_closed(hall: Hall) -> None:
    with hall.reader():
        pass
    await _settle()
    await hall.attendance.close()
    await hall.pass_grace()
    assert hall.given_up == []
    assert len(asyncio.all_tasks()) == 1
