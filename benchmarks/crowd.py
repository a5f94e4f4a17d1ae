"""A crowd: users who ask when they like, whether or not anybody has been answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

PAUSE_S = 10.0
"""Between two questions of one user, on average."""


@dataclass(slots=True)
class Asked:
    """One question: when it was sent, how long it took until its POST was answered, and when its user had the answer.

    `first` is when the first text was there, if that came before the answer. `trouble` says why there was none. Times
    are in seconds since 1970.
    """

    sent: float
    posted_s: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    trouble: str = ""


class Desk(Protocol):
    """Where to ask."""

    async def ask(self, asked: Asked) -> None:
        """Ask, wait for the answer, and fill in what became of it. Never raises for what a server does."""
        ...

    async def idle(self) -> None:
        """Wait until there is nothing left to do, not even for users who have gone."""
        ...


async def crowd(desk: Desk, users: int, seconds: float, rng: Random) -> list[Asked]:
    """What became of every question that so many users asked in so many seconds; returns when the last is over."""
    began, asked = time.time(), list[Asked]()
    async with asyncio.TaskGroup() as group:
        for moment in _moments(users, seconds, rng):
            await asyncio.sleep(began + moment - time.time())
            asked.append(Asked(sent=time.time()))
            group.create_task(desk.ask(asked[-1]))
    return asked


def answered_per_s(asked: Sequence[Asked]) -> float:
    """Answers a second, from the first question to the last answer."""
    ends = [one.ended for one in asked if not one.trouble]
    return len(ends) / (max(ends) - min(one.sent for one in asked)) if ends else 0.0


def _moments(users: int, seconds: float, rng: Random) -> list[float]:
    """When questions come that nothing holds together, in seconds from the beginning."""
    return sorted(rng.uniform(0.0, seconds) for _ in range(max(1, round(users * seconds / PAUSE_S))))
