"""Relief: when the overflow of a stage takes jobs, because others do not come to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.journal.connection import ApiError, Unanswered
from actors.journal.flows import Flows
from actors.journal.journal import Journal
from actors.runtime.waits import Waits

LOOK_EVERY_S = 0.25
"""How often it is looked at how long jobs wait, in seconds."""


class ReliefTurn:
    """Takes jobs only while the first that waits has waited for longer than `after` seconds."""

    def __init__(self, journal: Journal, stage: str, after: float) -> None:
        self._link = journal.signals
        self._flows = Flows(journal.signals, stage)
        self._waits = Waits(journal.reader)
        self._after = after
        self._is_needed = False

    @property
    def holds_back(self) -> str:
        return "" if self._is_needed else f"overflow: it works when a job has waited for {self._after:g} s"

    async def watch(self, wake: Callable[[], None]) -> None:
        await self._flows.open()
        while True:
            try:
                self._is_needed = await self._waits.longest(await self._flows.look()) > self._after
            except (Unanswered, ApiError):
                self._is_needed = False
                await self._link.wait_until_up()
            if self._is_needed:
                wake()
            await asyncio.sleep(LOOK_EVERY_S)
