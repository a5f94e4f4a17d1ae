from __future__ import annotations

import asyncio
import time
from random import Random

from benchmarks.answering import Block, Side, measures
from benchmarks.crowd import PAUSE_S, Asked, answered_per_s, crowd
from benchmarks.desks import COME_BACK, TIMED_OUT


class Shut:
    """A desk that answers nobody until so many have asked."""

    def __init__(self, until: int) -> None:
        self.waiting = 0
        self._until = until
        self._opened = asyncio.Event()

    async def ask(self, asked: Asked) -> None:
        self.waiting += 1
        if self.waiting == self._until:
            self._opened.set()
        await self._opened.wait()
        asked.ended = time.time()

    async def idle(self) -> None: ...


async def test_nobody_waits_with_a_question_until_others_are_answered() -> None:
    desk = Shut(until=200)
    asked = await crowd(desk, users=round(200 * PAUSE_S / 0.2), seconds=0.2, rng=Random(1))
    assert len(asked) == desk.waiting == 200
    assert all(one.ended >= asked[-1].sent for one in asked)


def block(side: str, users: int, posted_s: float, *troubles: str) -> Block:
    """A hundred questions over ten seconds, answered two seconds later; the first of them had these troubles."""
    asked = [Asked(sent=n / 10, posted_s=posted_s, ended=n / 10 + 2.0) for n in range(100)]
    for one, trouble in zip(asked, troubles, strict=False):
        one.trouble = trouble
    return Block(side, users, asked)


def test_answers_a_second_are_counted_to_the_last_answer() -> None:
    asked = block("Headrace", 50, 0.1, TIMED_OUT, TIMED_OUT).asked
    assert answered_per_s(asked) == 98 / (9.9 + 2.0)
    assert answered_per_s([Asked(sent=1.0, trouble=TIMED_OUT)]) == 0.0


def test_headrace_is_judged_by_its_growth_and_its_errors_but_not_for_an_honest_429() -> None:
    sides = [
        Side("Headrace", 50, [block("Headrace", 50, 0.010)]),
        Side("Headrace", 1_000, [block("Headrace", 1_000, 0.015, COME_BACK, COME_BACK)]),
        Side("synchronous", 1_000, [block("synchronous", 1_000, 10.0, TIMED_OUT)]),
    ]
    *rows, growth, errors = measures(sides)
    assert [row.raw["errors"] for row in rows] == [0, 0, 1]
    assert growth.estimate.value == 1.5
    assert growth.met
    assert errors.estimate.value == 0
    assert errors.met
    worse = [*sides[:1], Side("Headrace", 1_000, [block("Headrace", 1_000, 0.030, "500")])]
    assert [row.met for row in measures(worse)[-2:]] == [False, False]
