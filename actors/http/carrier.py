"""The carrier: what a request has begun to store is carried through, whether or not its client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Carrier:
    """Holds what is under way; `finish` when the application ends."""

    def __init__(self) -> None:
        self._carried: set[asyncio.Task[Any]] = set()

    async def carry(self, storing: Coroutine[Any, Any, T]) -> T:
        """What it returns; and if the client goes away meanwhile, it goes on all the same."""
        task = asyncio.create_task(storing)
        self._carried.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def finish(self) -> None:
        """Wait for everything that is under way."""
        if self._carried:
            await asyncio.wait(self._carried)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._carried.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, because nobody may be there to raise it to
