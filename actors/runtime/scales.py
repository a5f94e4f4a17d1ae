"""Scales: how much each share of a lane weighs, as far as a worker knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from actors.contracts.limits import LIMITS, Limits, weights
from actors.journal.connection import Link, Unanswered
from actors.journal.shelf import Shelf

LOOK_EVERY_S = 2.0


class Scales:
    """Looks every few seconds. What is not known weighs as much as anybody."""

    def __init__(self) -> None:
        self._weights: Mapping[int, float] = {}

    def weight(self, share: int) -> float:
        return self._weights.get(share, 1.0)

    @contextlib.asynccontextmanager
    async def following(self, link: Link) -> AsyncIterator[None]:
        """While this is entered, what is set is known a little later."""
        looking = asyncio.create_task(self._keep_looking(Shelf(link, LIMITS, Limits)))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _keep_looking(self, shelf: Shelf[Limits]) -> None:
        while True:
            with contextlib.suppress(Unanswered):
                self._weights = weights(entry.value for entry in await shelf.all() if entry.value)
            await asyncio.sleep(LOOK_EVERY_S)
