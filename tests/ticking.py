"""A clock for tests, which looks more often than the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from actors.clock import Clock
from actors.runtime.settings import Settings

EVERY_S = 0.05


@asynccontextmanager
async def ticking(settings: Settings) -> AsyncIterator[Clock]:
    """The clock, as it runs beside everything else."""
    clock = Clock(settings, every=EVERY_S)
    running = asyncio.create_task(clock.run())
    try:
        yield clock
    finally:
        running.cancel()
        await asyncio.wait({running})
        if not running.cancelled() and (error := running.exception()):
            raise error
