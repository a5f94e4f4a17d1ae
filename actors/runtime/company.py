"""Company: how many jobs run beside a job that may be what kills workers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.contracts.errors import HeadraceError


class Disbanded(HeadraceError):
    """The worker is stopping, and whoever still waited for a place does not get one."""


class Company:
    """The places of one worker. A job that nothing is known against takes one of `size`.

    A job whose worker was lost once runs where at most a quarter of the places are taken, its own included; one whose
    worker was lost twice runs alone. So what kills workers dies by itself, and those that were beside it live. Places
    are given in the order in which they were asked for.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._seated: list[int] = []
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._disbanded = False

    @property
    def most(self) -> int:
        """How many jobs may be here at once, given who is here or waits: a worker pulls no more than that."""
        return min((*self._seated, *(limit for limit, _ in self._waiting)), default=self._size)

    @asynccontextmanager
    async def place(self, crashes: int) -> AsyncIterator[None]:
        """Wait for a place for a job whose worker was lost so often, and keep it. Raises Disbanded."""
        limit = self._limit(crashes)
        await self._enter(limit)
        try:
            yield
        finally:
            self._seated.remove(limit)
            self._let_in()

    def disband(self) -> None:
        """Nobody who waits gets a place any more; those who have one keep it."""
        self._disbanded = True
        while self._waiting:
            _, turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Disbanded("the worker is stopping"))

    def _limit(self, crashes: int) -> int:
        if crashes <= 0:
            return self._size
        return max(1, self._size // 4) if crashes == 1 else 1

    async def _enter(self, limit: int) -> None:
        if self._disbanded:
            raise Disbanded("the worker is stopping")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((limit, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._seated.remove(limit)  # it became ours in the same moment
            self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting:
            limit, turn = self._waiting[0]
            if not turn.done():
                if len(self._seated) >= min((limit, *self._seated)):
                    return
                self._seated.append(limit)
                turn.set_result(None)
            self._waiting.popleft()
